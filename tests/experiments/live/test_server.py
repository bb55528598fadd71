"""The server shows one view to whoever has the token, keeps nonsense out, and ends clean."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

aiohttp = pytest.importorskip("aiohttp", reason="aiohttp is an optional extra")

from experiments.live import commands as told  # noqa: E402
from experiments.live import server as served  # noqa: E402
from experiments.live.server import PAGE, Server, listening  # noqa: E402
from experiments.live.watched import Watched  # noqa: E402
from wage_neuro.errors import EngineError, SettingError  # noqa: E402

try:
    import lava  # noqa: F401
except ImportError:
    ENGINES = ["numpy"]
else:
    ENGINES = ["numpy", "lava"]

ROOT = PAGE.parents[2]
TOKEN = "a-token"
RANDOM = 20_000  # bytes that nonsense is cut from


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Servers in threads, stopped at the end; one that failed fails the test."""
    running = []

    def start(view, port: int = 0) -> Server:
        server = Server(view, listening(port), TOKEN)
        ready, failures = threading.Event(), []

        def work() -> None:
            try:
                asyncio.run(server.serve(ready.set))
            except BaseException as error:
                failures.append(error)
                ready.set()

        thread = threading.Thread(target=work)
        thread.start()
        ready.wait()
        running.append((server, thread, failures))
        return server

    yield start
    for server, thread, failures in running:
        server.stop()
        thread.join(timeout=20)
        assert not failures
        assert not thread.is_alive()


def ask(server: Server, path: str = f"/{TOKEN}/", **headers: str) -> tuple[int, dict[str, str], bytes]:
    async def get() -> tuple[int, dict[str, str], bytes]:
        address = f"http://127.0.0.1:{server.port}{path}"
        async with aiohttp.ClientSession() as client, client.get(address, headers=headers) as answer:
            return answer.status, dict(answer.headers), await answer.read()

    return asyncio.run(get())


class Page:
    """A page as a script has it: what it is told, and what it tells."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def receive(self, what: str) -> object:
        while True:
            message = json.loads((await self.socket.receive(timeout=20)).data)
            if what in message:
                return message[what]

    async def until(self, wanted: Callable[[dict], bool]) -> dict:
        while not wanted(frame := await self.receive("frame")):
            pass
        return frame

    async def tell(self, what: str, **values: object) -> None:
        await self.socket.send_str(json.dumps({"do": what, **values}))


def with_pages(server: Server, work, pages: int = 1):
    """Run `work(page ...)` with so many pages open."""

    async def run():
        address = f"ws://127.0.0.1:{server.port}/{TOKEN}/socket"
        async with aiohttp.ClientSession() as client:
            opened = [Page(await client.ws_connect(address, max_msg_size=0)) for _ in range(pages)]
            found = await work(*opened)
            for page in opened:
                await page.socket.close()
            return found

    return asyncio.run(run())


# --- who is answered ---------------------------------------------------------------------------------


def test_gives_the_page_and_its_files(serve, open_session):
    server = serve(open_session())
    assert server.address == f"http://127.0.0.1:{server.port}/{TOKEN}/"
    for name in ("", "app.js", "pad.js", "pictures.js", "live.css", "project.css"):
        status, headers, body = ask(server, f"/{TOKEN}/{name}")
        assert (status, headers["Cache-Control"]) == (200, "no-store")
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert len(body) > 500
    assert ask(server, f"/{TOKEN}/nothing.js")[0] == 404
    assert ask(server, f"/{TOKEN}/../server.py")[0] in (403, 404)


def test_the_page_names_no_other_host():
    for path in PAGE.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|//[a-z]+\.[a-z]", text), path.name


def test_others_are_refused(serve, open_session):
    server = serve(open_session())
    refused = {
        "another host": ask(server, Host="evil.example"),
        "another host, a port like ours": ask(server, Host=f"evil.example:{server.port}"),
        "another origin": ask(server, Origin="http://evil.example"),
        "a file's origin": ask(server, Origin="null"),
        "wrong token": ask(server, "/b-token/"),
        "no token": ask(server, "/"),
        "wrong token, socket": ask(server, "/b-token/socket"),
        "wrong token, checkpoint": ask(server, "/b-token/0/checkpoint"),
        "no text": ask(server, "/%ff%00/"),
    }
    assert {what: answer[0] for what, answer in refused.items()} == dict.fromkeys(refused, 403)
    assert ask(server, Origin=f"http://localhost:{server.port}", Host=f"localhost:{server.port}")[0] == 200
    assert ask(server, f"/{TOKEN}/socket")[0] == 400  # no upgrade


def test_a_socket_of_another_origin_is_refused(serve, open_session):
    server = serve(open_session())

    async def connect() -> int:
        address = f"ws://127.0.0.1:{server.port}/{TOKEN}/socket"
        async with aiohttp.ClientSession() as client:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await client.ws_connect(address, origin="http://evil.example")
            return refused.value.status

    assert asyncio.run(connect()) == 403


def test_a_port_in_use_gives_the_next():
    with listening(0) as taken:
        port = taken.getsockname()[1]
        with listening(port) as other:
            assert port < other.getsockname()[1] < port + served.PORTS
            assert other.getsockname()[0] == "127.0.0.1"
    with (
        listening(65535),
        pytest.raises(SettingError, match=r"^port=65535: neither it nor one of the 49"),
    ):
        listening(65535)


# --- pages -------------------------------------------------------------------------------------------


def test_a_failed_engine_is_said_and_the_page_stays(serve, open_session, monkeypatch):
    session = open_session()
    server = serve(session)

    def fail(*_: object) -> None:
        raise EngineError("a child was killed")

    monkeypatch.setattr(session.pair[1].engine, "train", fail)

    async def train(page: Page) -> tuple[object, dict]:
        await page.tell("train", on=True)
        error = await page.receive("error")
        await page.until(lambda frame: not frame["training"])
        await page.tell("restart")
        await page.tell("train", on=True)
        return error, await page.until(lambda frame: frame["samples"] > 9)

    assert with_pages(server, train)[0] == "a child was killed"


@pytest.mark.skipif("lava" not in ENGINES, reason="lava-nc is not installed")
def test_a_killed_process_of_lava_is_said_and_the_page_stays(serve, open_session):
    before = children_of(os.getpid())  # of other tests
    session = open_session("lava")
    server = serve(session)

    async def train(page: Page) -> str:
        await page.tell("train", on=True)
        await page.until(lambda frame: frame["samples"] > 3)
        os.kill(min(children_of(os.getpid()) - before), signal.SIGKILL)
        error = await page.receive("error")
        await page.tell("restart")
        await page.tell("train", on=True)
        await page.until(lambda frame: frame["samples"] > 0)
        return error

    assert "was killed (SIGKILL)" in with_pages(server, train)


def test_two_pages_see_the_same_and_a_closed_one_stops_nothing(serve, open_session):
    session = open_session()
    server = serve(session)

    async def together(one: Page, other: Page) -> None:
        about = await one.receive("about")
        assert about == await other.receive("about")
        assert about["learners"] == ["without memory", "with memory"]
        await one.tell("freeze", layer=1, on=True)
        assert (await other.until(lambda frame: frame["frozen"][1]))["frozen"] == [False, True]
        await other.tell("train", on=True)
        await one.until(lambda frame: frame["samples"] > 3)

    with_pages(server, together, pages=2)
    seen = session.samples
    frame = with_pages(server, lambda page: page.until(lambda frame: frame["samples"] > seen + 5))
    assert frame["training"]


def test_twenty_updates_a_second(serve, open_session):
    """Of the server's own time: other work on the machine may stretch it."""
    server = serve(open_session(network="64FC"))

    async def count(page: Page) -> float:
        await page.tell("train", on=True)
        await page.until(lambda frame: frame["training"])
        loop = asyncio.get_running_loop()
        began = loop.time()
        for _ in range(20):
            await page.receive("frame")
        return 20 / (loop.time() - began)

    assert 8 < with_pages(server, count) < 24


def test_an_error_is_said_to_who_made_it(serve, open_session):
    server = serve(open_session())

    async def nonsense(one: Page, other: Page) -> tuple[object, int]:
        await one.tell("freeze", layer=9, on=True)
        error = await one.receive("error")
        await other.tell("eta", log2=0)
        heard = [json.loads((await other.socket.receive()).data) for _ in range(2)]
        return error, sum("error" in message for message in heard)

    assert with_pages(server, nonsense, pages=2) == ("layer=9: want 0..1", 0)


def test_downloads(serve, open_session, tmp_path):
    session = open_session()
    server = serve(session)
    status, headers, body = ask(server, f"/{TOKEN}/1/checkpoint")
    assert (status, headers["Content-Disposition"]) == (200, 'attachment; filename="with-memory.npz"')
    (tmp_path / "got.npz").write_bytes(body)
    with np.load(tmp_path / "got.npz") as arrays:
        assert np.array_equal(arrays["S0"], session.states[1].S[0])
    assert ask(server, f"/{TOKEN}/0/pickle")[0] == 400
    assert ask(server, f"/{TOKEN}/2/checkpoint")[0] == 404


def test_no_more_pages_than_there_is_room_for(serve, open_session, monkeypatch):
    monkeypatch.setattr(served, "PAGES", 1)
    server = serve(open_session())

    async def second(page: Page) -> int:
        async with aiohttp.ClientSession() as client:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await client.ws_connect(f"ws://127.0.0.1:{server.port}/{TOKEN}/socket")
            return refused.value.status

    assert with_pages(server, second) == 503


# --- nonsense ----------------------------------------------------------------------------------------


def nonsense(rng: np.random.Generator) -> str:
    """A message that is none: cut, mixed or made of random signs."""
    whole = json.dumps({"do": str(rng.choice(list(served_commands()))), "label": int(rng.integers(-5, 20))})
    match rng.integers(5):
        case 0:
            return whole[: rng.integers(len(whole))]
        case 1:
            return "".join(map(chr, rng.integers(32, 0xD7FF, rng.integers(60))))
        case 2:
            return "[" * int(rng.integers(1, 3000))
        case 3:
            return json.dumps({"do": "draw", "strokes": rng.integers(-9, 9, (2, 3)).tolist()})
        case _:
            return json.dumps({"do": "learn", "label": 10**6, "more": whole})


def served_commands() -> tuple[str, ...]:
    return ("train", "draw", "teach", "save", "eta", "nothing")


def test_ten_thousand_requests_of_nonsense(serve, open_session, caplog, capfd, assert_same_state):
    session = open_session()
    session.learn(*session._next(40))
    server = serve(session)
    before, frame = session.states, session.frame()
    rng = np.random.default_rng(0)

    async def shout(page: Page) -> None:
        for _ in range(90):
            for _ in range(100):
                await page.socket.send_str(nonsense(rng))
            answers = 0
            while answers < 100:
                message = json.loads((await page.socket.receive(timeout=20)).data)
                assert "frame" not in message or message["frame"] == frame
                answers += "error" in message
        await page.socket.send_bytes(b"\xff\x00")
        await page.receive("error")

    with_pages(server, shout)
    noise = rng.integers(0, 256, RANDOM).astype(np.uint8).tobytes()
    heads = (
        b"",
        b"GET ",
        f"GET /{TOKEN}/ HTTP/1.1\r\n".encode(),
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    )
    for i in range(1000):
        cut = noise[int(rng.integers(RANDOM - 400)) :][: int(rng.integers(400))]
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(heads[i % 4] + cut + b"\r\n\r\n")
    assert ask(server)[0] == 200
    for one, other in zip(before, session.states, strict=True):
        assert_same_state(one, other, "after nonsense")
    assert session.frame() == frame
    said = caplog.text + "".join(capfd.readouterr())
    assert "Traceback" not in said


# --- the command -------------------------------------------------------------------------------------


def start(folder: Path, *more: str) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-u", "-m", "experiments.entry", "live", "--network", "8FC", *more]
    child = subprocess.Popen(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    said = ""
    for line in child.stdout or ():
        said += line
        if found := re.search(r"http://127.0.0.1:\d+/\S+/", line):
            return child, found[0]
    raise AssertionError(said)


def children_of(parent: int) -> set[int]:
    """Processes that a process has started, and those that these have."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in listed.splitlines()]
    found = {parent}
    while more := {child for child, above in pairs if above in found} - found:
        found |= more
    return found - {parent}


@pytest.mark.parametrize(("engine", "number"), [*zip(ENGINES, (signal.SIGINT, signal.SIGTERM), strict=False)])
def test_ends_clean(engine, number, tmp_path):
    """In good order and with what was learned in a folder; of Lava's Processes none is left."""
    child, address = start(tmp_path, "--engine", engine)
    try:
        port, token = re.findall(r":(\d+)/(\S+)/", address)[0]

        async def train() -> None:
            async with aiohttp.ClientSession() as client:
                page = Page(await client.ws_connect(f"ws://127.0.0.1:{port}/{token}/socket", max_msg_size=0))
                await page.tell("train", on=True)
                await page.until(lambda frame: frame["samples"] > 2)

        asyncio.run(train())
        below = children_of(child.pid)
        assert bool(below) == (engine == "lava")
        child.send_signal(number)
        said, _ = child.communicate(timeout=30)
    finally:
        child.kill()
    assert child.returncode == 0
    assert "both networks are in runs/live-digits" in said
    assert "Traceback" not in said
    assert (tmp_path / "runs/live-digits/with-memory/checkpoint.npz").exists()
    assert not {process for process in below if Path(f"/proc/{process}").exists()}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("nowhere", "nowhere: no such checkpoint"),
        ("--watch", "--watch without a run: want its folder, such as `wage-neuro live runs/mine --watch`"),
        ("--port 0", "port=0: want 1..65535"),
        ("--memory 0", "memory=0: want 1 or more"),
        ("--network 8XC", "network '8XC': "),
        ("--engine lava --model half", "model='half': want behavioural or structural"),
    ],
)
def test_refuses_in_a_line(words, text, wage_neuro, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = wage_neuro("live", *shlex.split(words))
    assert ended.code == 1
    assert text.removeprefix("--").split(": ")[0].split("=")[0].split()[0] in ended.err
    assert len(ended.err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_watched_run_is_shown(serve, helpers, tmp_path):
    from experiments.runs.training import Run

    helpers.fit(Run.start(helpers.small(epochs=1), tmp_path / "run"))
    server = serve(Watched(tmp_path / "run"))

    async def look(page: Page) -> tuple[object, dict]:
        about = await page.receive("about")
        await page.tell("draw", strokes=[[[0.1, 0.1], [0.9, 0.9]]])
        return about, await page.until(lambda frame: frame["look"]["source"] == "drawing")

    about, frame = with_pages(server, look)
    assert (about["kind"], frame["epochs"]) == ("watched", [1, 1])
    assert isinstance(told.Save(), told.Save)
    assert ask(server, f"/{TOKEN}/0/checkpoint")[0] == 404
