"""Feed every reader what nobody wrote; `python -m experiments.campaign.fuzz FORMAT SEED INDEX` shows one.

An input is drawn from the whole examples of a format by its seed and index alone. It may be refused with one
of our errors, or taken. Any other exception, an end of the process, more than LIMIT_S or LIMIT_BYTES is
wrong; so is a file that is taken and holds what no whole example does, where its format is sealed.
"""

from __future__ import annotations

import contextlib
import gc
import json
import mmap
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from experiments.campaign.commands import end_with_campaign
from experiments.campaign.formats import Format, formats, json_of
from experiments.campaign.kills import Say
from experiments.campaign.rows import Row, row
from wage_neuro.errors import WageError

LIMIT_S = 20.0  # for one input, which takes milliseconds
LIMIT_BYTES = 4 << 30  # of address space beyond what the process has
PLACE = struct.Struct("3q")  # what parent and child share: index, refused, taken
ODD: tuple[Any, ...] = (
    0,
    1,
    -1,
    2**31,
    2**63,
    10**30,
    1e308,
    float("nan"),
    True,
    None,
    "",
    "x",
    [],
    {},
    [[]],
    "٣",
    "\ud800",
)
TOKENS = (
    "-",
    ",",
    "@",
    "/",
    "=",
    "0",
    "9" * 30,
    "1e999999999",
    "-1",
    "٣",
    "²",
    "\0",
    " ",
    "FC",
    "C",
    "MP",
    "S",
    "V",
    "f",
)


# --- drawing an input --------------------------------------------------------------------------------


def draw(whole: list[bytes], rng: random.Random) -> bytes:
    """One input, made from whole examples."""
    content = rng.choice(whole)
    tree = json_of(content) if rng.random() < 0.5 else None
    if isinstance(tree, (dict, list)):
        return json.dumps(_twisted(tree, rng)).encode()
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        content = rng.choice(CHANGES)(content, rng, whole)
    return content


def draw_text(whole: list[bytes], rng: random.Random) -> str:
    """One text: tokens put in, parts left out, repeated, or of another example."""
    text = rng.choice(whole).decode()
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        i, j = sorted((rng.randint(0, len(text)), rng.randint(0, len(text))))
        other = rng.choice(
            (rng.choice(TOKENS), text[i:j], "", rng.choice(whole).decode(), chr(rng.randint(0, 0x2FF)))
        )
        text = text[:i] + other + text[rng.choice((i, j)) :]
    return text[:500]


def _flip(content: bytes, rng: random.Random, whole: list[bytes]) -> bytes:
    changed = bytearray(content)
    if changed:
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _overwrite(content: bytes, rng: random.Random, whole: list[bytes]) -> bytes:
    new = rng.choice(
        (b"\0", b"\xff", rng.randbytes(4), struct.pack("<q", rng.choice((0, -1, 2**62))))
    ) * rng.choice((1, 1, 8))
    i = rng.randint(0, len(content))
    return content[:i] + new + content[i + len(new) :]


def _cut(content: bytes, rng: random.Random, whole: list[bytes]) -> bytes:
    i, j = sorted((rng.randint(0, len(content)), rng.randint(0, len(content))))
    return rng.choice((content[:i], content[:i] + content[j:], content[i:]))


def _repeat(content: bytes, rng: random.Random, whole: list[bytes]) -> bytes:
    i, j = sorted((rng.randint(0, len(content)), rng.randint(0, len(content))))
    return content[:j] + content[i:]


def _splice(content: bytes, rng: random.Random, whole: list[bytes]) -> bytes:
    other = rng.choice(whole)
    return content[: rng.randint(0, len(content))] + other[rng.randint(0, len(other)) :]


CHANGES = (_flip, _flip, _overwrite, _cut, _repeat, _splice)


def _twisted(value: Any, rng: random.Random) -> Any:
    """JSON with one value, somewhere, replaced, left out or said twice."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        changed = dict(value)
        if rng.random() < 0.1:
            del changed[key]
        else:
            changed[key] = _twisted(value[key], rng)
        return changed
    if isinstance(value, list) and value and rng.random() < 0.9:
        i = rng.randrange(len(value))
        return [*value[:i], *[_twisted(value[i], rng)] * rng.choice((0, 1, 1, 1, 2)), *value[i + 1 :]]
    return rng.choice(ODD)


# --- reading it --------------------------------------------------------------------------------------


def outcome(form: Format, whole: list[bytes], held: list[Any], path: Path, seed: int, index: int) -> str:
    """Read one input: 'refused', 'taken', or what is wrong."""
    rng = random.Random(f"{seed} {form.name} {index}")
    given: Any = path
    if form.is_text:
        given = draw_text(whole, rng)
    else:
        path.write_bytes(draw(whole, rng))
    try:
        found = form.read(given)
    except WageError as error:
        return "refused" if "\n" not in str(error) else "an error of several lines"
    except BaseException as error:  # MemoryError, SystemExit and RecursionError too
        return f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
    if form.holds and form.holds(found) not in held:
        return "taken, though its content is no whole example's"
    return "taken"


def feed(form: Format, inputs: int, seed: int, folder: Path, say: Say) -> Row:
    """Feed a format so many inputs, in children that a fault may take with it."""
    folder.mkdir(parents=True)
    whole = form.examples(folder)
    held = _held(form, whole, folder)
    place, log = mmap.mmap(-1, PLACE.size), folder / "faults"
    faults, first = list[str](), 0
    while first < inputs:
        log.unlink(missing_ok=True)
        pid = os.fork()
        if pid == 0:
            _child(form, whole, held, seed, range(first, inputs), place, log, folder)
        end = _wait(pid, place)
        lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        reached, refused, taken = PLACE.unpack(place[:])
        faults += [f"seed {seed}, index {index}: {what}" for index, what in lines]
        first = reached + 1
        if end:
            faults.append(f"seed {seed}, index {reached}: {end}")
    for fault in faults[:5]:
        say(f"{form.name}: {fault}")
    return row("fuzz", form.name, inputs, faults, Counter(refused=refused, taken=taken))


def _wait(pid: int, place: mmap.mmap) -> str:
    """Wait for a child; what ended it before its time, if anything did."""
    seen, since = place[:], time.monotonic()
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return (
                "" if code == 0 else f"the process ended ({signal.Signals(-code).name if code < 0 else code})"
            )
        if place[:] != seen:
            seen, since = place[:], time.monotonic()
        elif time.monotonic() - since > LIMIT_S:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return f"no end within {LIMIT_S:.0f} s"
        time.sleep(0.05)


def _child(
    form: Format,
    whole: list[bytes],
    held: list[Any],
    seed: int,
    indices: range,
    place: mmap.mmap,
    log: Path,
    folder: Path,
) -> None:
    code = 1
    try:
        end_with_campaign()
        warnings.simplefilter("ignore")
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + LIMIT_BYTES, used + LIMIT_BYTES))
        path = folder / f"input{form.suffix}"
        _, refused, taken = PLACE.unpack(place[:])
        counts = Counter(refused=refused, taken=taken)
        with log.open("w") as file, contextlib.redirect_stdout(None), contextlib.redirect_stderr(None):
            for index in indices:
                place[:] = PLACE.pack(index, counts["refused"], counts["taken"])
                what = outcome(form, whole, held, path, seed, index)
                counts[what] += 1
                if what not in ("refused", "taken"):
                    file.write(json.dumps([index, what]) + "\n")
                    file.flush()
                if index % 1000 == 0:
                    gc.collect()
        place[:] = PLACE.pack(indices[-1], counts["refused"], counts["taken"])
        code = 0
    finally:
        os._exit(code)


def _held(form: Format, whole: list[bytes], folder: Path) -> list[Any]:
    """What the whole examples hold; each of them must be taken."""
    held = []
    for content in whole:
        given: Any = content.decode() if form.is_text else folder / f"whole{form.suffix}"
        if not form.is_text:
            given.write_bytes(content)
        found = form.read(given)
        held += [form.holds(found)] if form.holds else []
    return held


def main() -> None:
    """Show one input and what becomes of it."""
    form, seed, index = formats()[sys.argv[1]], int(sys.argv[2]), int(sys.argv[3])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = form.examples(folder)
        rng = random.Random(f"{seed} {form.name} {index}")
        given: Any = folder / f"input{form.suffix}"
        if form.is_text:
            given = draw_text(whole, rng)
            print(repr(given))
        else:
            given.write_bytes(draw(whole, rng))
            kept = Path(f"fuzz-{index}{form.suffix}")
            kept.write_bytes(given.read_bytes())
            print(f"written to {kept}")
        print("taken:", form.read(given))


if __name__ == "__main__":
    main()
