"""The page of a view: files, a socket for commands and frames, downloads; of this machine, with a token.

Every view is asked in one thread of its own. Whoever has the page open gets the newest frame as fast as he
takes it; a closed page takes nothing with it.
"""

from __future__ import annotations

import asyncio
import errno
import hmac
import json
import logging
import signal
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import WSCloseCode, WSMsgType, web
from aiohttp.http_exceptions import HttpProcessingError

from experiments.live.commands import command_of
from experiments.live.session import UPDATES, Session, View
from experiments.records import style
from wage_neuro.errors import SettingError, WageError

HOST = "127.0.0.1"
PORTS = 50
"""Ports that are tried, from the one that is asked for."""
PAGES = 16
"""Pages that may be open at a time."""
MESSAGE_BYTES = 1 << 18
PAGE = Path(__file__).parent / "page"
FILES = {"": "index.html", **{path.name: path.name for path in PAGE.iterdir() if path.is_file()}}
PROJECT = "project.css"
"""Style sheet of all pages of the project."""
COLOURS = {"values": style.value_colours(64), "errors": style.error_colours(128)}
KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
T = TypeVar("T")
LOG = logging.getLogger("wage-neuro live")
LOG.addFilter(lambda record: not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError)))
"""Says what failed here, and not what others send that is no HTTP."""


def listening(port: int) -> socket.socket:
    """Listen on a port of this machine alone, or on the next one that is free; 0 takes any.

    Raises
    ------
    SettingError
        If none of the next ones is free.
    """
    for number in range(port, min(port + PORTS, 65536)):
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((HOST, number))
            made.listen()
        except OSError as error:
            made.close()
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
        else:
            return made
    raise SettingError(f"port={port}: neither it nor one of the {PORTS - 1} after it is free")


class Server:
    """Shows a view to whoever has the token.

    Parameters
    ----------
    view : belongs to the server's thread from now on; it is closed at the end
    socket : listening
    """

    def __init__(self, view: View, socket: socket.socket, token: str) -> None:
        self.view, self.socket, self.token = view, socket, token
        self.port: int = socket.getsockname()[1]
        self.hosts = {f"{name}:{self.port}" for name in (HOST, "localhost")}
        self.pages: set[web.WebSocketResponse] = set()
        self._one = ThreadPoolExecutor(1, "view")
        self._frame, self._version = "", 0

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self.port}/{self.token}/"

    async def serve(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until Ctrl-C or SIGTERM; `ready` is called once the page can be opened."""
        self._loop = loop = asyncio.get_running_loop()
        self._changed, self._wake, self._stop = asyncio.Condition(), asyncio.Event(), asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            with suppress(ValueError, RuntimeError):  # in a thread that hears no signals
                loop.add_signal_handler(number, self._stop.set)
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/{token}/socket", self._socket)
        app.router.add_get(r"/{token}/{learner:\d}/{to}", self._download)
        app.router.add_get("/{token}/{name:[a-z.]*}", self._file)
        runner = web.AppRunner(app, access_log=None, logger=LOG, shutdown_timeout=1.0)
        await runner.setup()
        await web.SockSite(runner, self.socket).start()
        driving = asyncio.ensure_future(self._drive())
        stopped = asyncio.ensure_future(self._stop.wait())
        ready()
        try:
            await asyncio.wait({driving, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if driving.done():
                driving.result()
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):  # a second one ends it at once
                with suppress(RuntimeError):
                    loop.remove_signal_handler(number)
            for task in (driving, stopped):
                task.cancel()
            for page in tuple(self.pages):
                await page.close(code=WSCloseCode.GOING_AWAY, message=b"ended")
            await runner.cleanup()
            self._one.shutdown()

    def stop(self) -> None:
        """End `serve`, from any thread."""
        self._loop.call_soon_threadsafe(self._stop.set)

    # --- the view, in its thread ---

    async def _ask(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._one, work, *arguments)

    async def _drive(self) -> None:
        """Let the view go on, a frame after another."""
        loop, last = asyncio.get_running_loop(), 0.0
        while True:
            wait = last + self.view.period - loop.time()
            if not self.view.active:
                self._wake.clear()
                await self._wake.wait()
            elif wait > 0:
                await asyncio.sleep(min(wait, 1 / UPDATES))  # the period may be changed meanwhile
            else:
                last = loop.time() + max(wait, -self.view.period)
                try:
                    await self._ask(self.view.advance)
                except WageError as error:  # of an engine that has ended
                    await self._ask(self.view.pause)
                    await asyncio.gather(*(self._say(page, str(error)) for page in self.pages))
                await self._publish()

    async def _publish(self) -> None:
        """Make the newest frame, if somebody looks."""
        if self.pages:
            self._frame = await self._ask(lambda: json.dumps({"frame": self.view.frame()}))
            self._version += 1
            async with self._changed:
                self._changed.notify_all()

    # --- what is asked ---

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Answer pages of this machine that know the token alone."""
        try:
            response = self._refusal(request) or await handler(request)
        except web.HTTPException as error:
            response = web.Response(status=error.status, text=error.reason)
        if not response.prepared:
            response.headers.update(HEADERS)
        return response

    def _refusal(self, request: web.Request) -> web.Response | None:
        origin = request.headers.get("Origin")
        if request.headers.get("Host", "").lower() not in self.hosts:
            return web.Response(status=403, text="another host")
        if origin is not None and origin.lower().removeprefix("http://") not in self.hosts:
            return web.Response(status=403, text="another origin")
        token = request.path.split("/")[1]
        if not hmac.compare_digest(token.encode(errors="replace"), self.token.encode()):
            return web.Response(
                status=403, text="wrong token: want the address that `wage-neuro live` printed"
            )
        return None

    async def _file(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name not in (*FILES, PROJECT):
            raise web.HTTPNotFound
        path = PAGE / FILES.get(name, name)
        text = style.CSS if name == PROJECT else path.read_text(encoding="utf-8")
        return web.Response(text=text, content_type=KINDS[path.suffix])

    async def _download(self, request: web.Request) -> web.StreamResponse:
        learner, to = int(request.match_info["learner"]), request.match_info["to"]
        if not isinstance(self.view, Session) or learner >= len(self.view.learners):
            raise web.HTTPNotFound
        try:
            body = await self._ask(self.view.exported, learner, to)
        except WageError as error:
            return web.Response(status=400, text=str(error))
        name = f"{self.view.learners[learner].replace(' ', '-')}.{'npz' if to == 'checkpoint' else to}"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return web.Response(body=body, content_type="application/octet-stream", headers=headers)

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        if len(self.pages) >= PAGES:
            return web.Response(status=503, text=f"{PAGES} pages are open; want one closed first")
        page = web.WebSocketResponse(max_msg_size=MESSAGE_BYTES, heartbeat=30)
        await page.prepare(request)
        self.pages.add(page)
        try:
            about = await self._ask(self.view.about)
            await page.send_str(json.dumps({"about": about, "colours": COLOURS}))
            await self._publish()
            sending = asyncio.ensure_future(self._send(page))
            try:
                async for message in page:
                    await self._told(page, message.data if message.type is WSMsgType.TEXT else None)
            finally:
                sending.cancel()
        except (ConnectionError, RuntimeError):  # it has gone
            pass
        finally:
            self.pages.discard(page)
        return page

    async def _send(self, page: web.WebSocketResponse) -> None:
        """Send a page the newest frame, again and again."""
        sent = 0
        with suppress(ConnectionError, RuntimeError):
            while True:
                async with self._changed:
                    while self._version == sent:
                        await self._changed.wait()
                sent = self._version
                await page.send_str(self._frame)

    async def _told(self, page: web.WebSocketResponse, text: str | None) -> None:
        """Carry out what a page asks for, or say in one line why not."""
        try:
            command = command_of(_read(text))
            await self._ask(self.view.do, command)
        except WageError as error:
            await self._say(page, str(error))
            return
        self._wake.set()
        await self._publish()

    async def _say(self, page: web.WebSocketResponse, error: str) -> None:
        with suppress(ConnectionError, RuntimeError):
            await page.send_str(json.dumps({"error": error}))


def _read(text: str | None) -> Any:
    try:
        return json.loads(text or "")
    except (ValueError, RecursionError):
        raise SettingError(f"{repr(text)[:60]}: want JSON") from None
