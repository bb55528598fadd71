"""The campaign finds what is wrong: a process left, a traceback, another result, a hang, damage."""

from __future__ import annotations

import gc
import itertools
import json
import os
import random
import signal
import sys
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.campaign import broken_disk, commands, disk, endurance, fuzz, kills, rows
from experiments.campaign.__main__ import SIZES, work
from experiments.campaign.broken_disk import BrokenDisk
from experiments.campaign.commands import Kill, draw_kill, run_python
from experiments.campaign.formats import Format, formats, texts
from experiments.campaign.subjects import Subject
from experiments.records.readme import RESULTS
from wage_neuro.errors import DataError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

WHEN_READY = 7.5
SILENT: Callable[[str], None] = lambda line: None  # noqa: E731


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder to run in; a kill planned WHEN_READY waits until the command has made a file `ready` there."""
    folder, wait_until = tmp_path / "run", commands.wait_until

    def wait(true: Callable[[], bool], seconds: float) -> None:
        if seconds == WHEN_READY:
            wait_until(lambda: true() or (folder / "ready").exists(), 60)
        else:
            wait_until(true, seconds)

    monkeypatch.setattr(commands, "wait_until", wait)
    monkeypatch.setattr(commands, "GRACE_S", 0.5)
    folder.mkdir()
    return folder


# --- one command -------------------------------------------------------------------------------------


def faults(code: str, place: Path, kill: Kill | None = None, codes: tuple[int, ...] = (0,)) -> list[str]:
    return run_python(["-c", code], place, kill).faults(codes)


def test_a_good_command_has_no_fault(place):
    assert faults("print('done')", place) == []
    assert faults("import sys; sys.exit('wage-neuro: no')", place, codes=(1,)) == []


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("raise KeyError('here')", "traceback (KeyError: 'here')"),
        ("import sys; sys.exit(3)", "exit code 3 ()"),
        ("import sys; sys.stderr.write('a\\nb\\nc\\n')", "3 lines of errors (c)"),
        ("import subprocess; subprocess.Popen(['sleep', '60'])", "1 processes left"),
    ],
)
def test_a_bad_end_is_told(code, fault, place):
    assert fault in faults(code, place)


def test_a_command_without_end(place, monkeypatch):
    monkeypatch.setattr(commands, "LIMIT_S", 1.0)
    assert faults("import time; time.sleep(60)", place) == ["still there after 1 s"]


def test_a_name_left_in_shared_memory(place):
    code = (
        "import time; from multiprocessing import shared_memory, resource_tracker\n"
        "m = shared_memory.SharedMemory(create=True, size=64)\n"
        "resource_tracker.unregister(m._name, 'shared_memory'); print(m._name, flush=True)\n"
        "open('ready', 'w'); time.sleep(60)"
    )
    blow = Kill(signal.SIGKILL, "all", WHEN_READY)
    ended = run_python(["-c", code], place, blow)
    Path("/dev/shm", ended.out.strip().lstrip("/")).unlink()
    assert ended.faults(blow.codes) == ["1 names left in shared memory"]


@pytest.mark.parametrize(
    ("how", "to", "code"),
    [
        (signal.SIGKILL, "the main process", -9),
        (signal.SIGTERM, "the main process", -15),
        (signal.SIGINT, "all", -2),
        (signal.SIGKILL, "a child", 0),
    ],
)
def test_a_kill_reaches_whom_it_is_meant_for(how, to, code, place):
    """A child's death is seen by its parent alone; `sleep` goes on until its session is ended."""
    program = (
        "import signal, subprocess; signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
        "child = subprocess.Popen(['sleep', '60']); open('ready', 'w'); child.wait()"
    )
    ended = run_python(["-c", program], place, Kill(how, to, WHEN_READY))
    assert ended.code == code
    assert ended.processes == (to == "the main process")


MONITOR = """
import os, sys, time
from pathlib import Path
from experiments.campaign import commands, fuzz
from experiments.campaign.formats import Format, texts

place = Path.cwd()

def sleep(text="a"):
    if text == "a" and os.getpid() != campaign:
        (place / "pid").write_text(str(os.getpid()))
        (place / "pid").rename(place / "ready")
        time.sleep(60)

campaign = os.getpid()
fuzz._held = lambda *_: []
fuzz.draw_text = lambda *_: "a"
SLEEP = "import os, time; open('pid', 'w').write(str(os.getpid())); os.rename('pid', 'ready'); time.sleep(60)"
"""


@pytest.mark.parametrize(
    "start",
    [
        "commands.run_python(['-c', SLEEP], place)",
        "fuzz.feed(Format('mine', texts('a'), sleep, is_text=True), 2, 0, place / 'f', print)",
    ],
)
def test_a_killed_campaign_leaves_none_of_its_processes(start, place):
    blow = Kill(signal.SIGKILL, "the main process", WHEN_READY)
    assert run_python(["-c", MONITOR + start], place, blow).processes == 0
    child = int((place / "ready").read_text())
    commands.wait_until(lambda: not is_alive(child), 5)
    assert not is_alive(child)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_seed_draws_the_same_kill():
    drawn = [draw_kill(random.Random(seed), 5.0) for seed in range(200)]
    assert drawn == [draw_kill(random.Random(seed), 5.0) for seed in range(200)]
    assert {(kill.signal, kill.to) for kill in drawn} == set(commands.WAYS)
    assert all(0 <= kill.after <= 5 for kill in drawn)


# --- kills and disk errors ---------------------------------------------------------------------------

SCRIPT = """
import os, sys, time
from experiments.runs.run_folder import write_text
from pathlib import Path
from wage_neuro.files import sweep

def main():
    sweep(Path())
    done = int(Path("state").read_text()) if os.path.exists("state") else 0
    for step in range(done, 5):
        time.sleep(0.02)
        write_text(Path("state"), str(step + 1))
    {end}
"""


@pytest.fixture
def counting(monkeypatch, tmp_path) -> Callable[[str], Subject]:
    """A subject that counts to five in a file and goes on where it stands, and then does `end`."""

    def make(end: str = "pass") -> Subject:
        source = SCRIPT.format(end=end) + "\ntry:\n    main()\nexcept OSError as e:\n    sys.exit(f'{e}')\n"
        monkeypatch.setattr(
            kills, "run", lambda words, folder, kill=None: run_python(["-c", source], folder, kill)
        )
        return Subject("counting", "count", lambda folder: {"state": (folder / "state").read_text()})

    return make


def test_a_command_that_goes_on_survives_every_kill(counting, tmp_path, monkeypatch):
    monkeypatch.setattr(commands, "WAYS", commands.WAYS[:-1])  # Python itself answers a SIGINT in many lines
    found = kills.kill(counting(), 4, 0, tmp_path / "a", SILENT)
    assert (found.tried, found.wrong, found.faults) == (4, 0, ())
    assert sum(found.outcomes.values()) == 4


def test_another_result_is_found(counting, tmp_path):
    """What it ends with depends on how often it began."""
    subject = counting(
        "write_text(Path('state'), str(7 if os.path.exists('again') else 5)); open('again', 'w')"
    )
    assert kills.finish(subject, subject.prepare(tmp_path / "a"), {"state": "5"}) == []
    found = kills.finish(subject, tmp_path / "a", {"state": "5"})
    assert found == ["state differ from those of the run that nothing stopped"]


def test_what_is_left_is_found(counting, tmp_path):
    subject = counting("open('.state.tmp', 'w')")
    found = kills.finish(subject, subject.prepare(tmp_path / "a"), {"state": "5"})
    assert found == ["temporary files left: .state.tmp"]
    subject = counting("os.remove('state')")
    found = kills.finish(subject, tmp_path / "a", {"state": "5"})
    assert found[0].startswith("result cannot be read (FileNotFoundError")


def test_what_fails_unharmed_is_not_tried(counting, tmp_path):
    found = kills.kill(counting("sys.exit('no')"), 4, 0, tmp_path / "a", SILENT)
    assert (found.tried, found.wrong, found.faults) == (0, 1, ("unkilled: exit code 1 (no)",))


def test_a_disk_fails_at_the_operation_that_was_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    broken = BrokenDisk(at=3, once=True, error=28, counter=tmp_path / "count")
    with broken.open("a", "w") as file:  # 1 opens
        file.write("text")
        file.flush()  # 2 writes
        file.write("more")
        with pytest.raises(OSError, match="No space left"):
            file.flush()  # 3
        file.flush()
    assert Path("a").read_text() == "textmore"
    assert broken.count == 4
    broken.open("/dev/null", "w").close()
    broken.open("a").close()
    assert broken.count == 4  # not ours, or not changed
    full = BrokenDisk(at=1, once=False, error=28, counter=tmp_path / "other")
    for call in (lambda: full.open("b", "wb"), lambda: full.os_open("b", os.O_CREAT), lambda: full.ask("b")):
        with pytest.raises(OSError, match="No space left"):
            call()


def test_the_disk_of_workers_fails_too(tmp_path, monkeypatch):
    """The second operation fails, whichever process asks for it; `spawn` gives a worker this name."""
    monkeypatch.setenv(broken_disk.SETTING, f"2 ENOSPC {tmp_path / 'count'}")
    code = (
        "import runpy; runpy.run_module('experiments.campaign.broken_disk', run_name='__mp_main__')\n"
        "open('a', 'w')"
    )
    place = tmp_path / "run"
    place.mkdir()
    assert run_python(["-c", code], place).faults((0,)) == []
    assert "No space left on device" in run_python(["-c", code], place).err
    assert (tmp_path / "count").read_text() == "2"


def test_errors_of_a_disk_are_injected_into_a_real_command(tmp_path):
    words = f"curves {commands.ROOT / RESULTS / 'mnist-lenet-s0.json'} --output drawn.png"
    subject = Subject("curves", words, lambda folder: {"picture": (folder / "drawn.png").read_bytes()})
    found = disk.fail(subject, 1, 0, tmp_path / "a", SILENT)
    assert (found.tried, found.wrong, found.faults) == (1, 0, ())
    assert found.outcomes == {"refused in one line": 1}


# --- fuzz --------------------------------------------------------------------------------------------


def reader(text: str) -> str:
    """Refuse what does not begin with a; fail in every other way."""
    if "b" in text:
        raise KeyError("b")
    if "c" in text:
        os._exit(7)
    if "d" in text:
        time.sleep(60)
    if "e" in text:
        bytearray(64 << 30)
    if not text.startswith("a"):
        raise DataError("no")
    return text


@pytest.mark.parametrize(
    ("letter", "fault"),
    [
        ("b", "KeyError: 'b'"),
        ("c", "the process ended (7)"),
        ("d", "no end within 3 s"),
        ("e", "MemoryError: "),
    ],
)
def test_every_kind_of_fault_is_found(letter, fault, tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz, "LIMIT_S", 3.0 if letter == "d" else 60.0)
    monkeypatch.setattr(fuzz, "draw_text", lambda whole, rng: rng.choice(["a", "a", "x", letter]))
    found = fuzz.feed(Format("mine", texts("a"), reader, is_text=True), 12, 0, tmp_path / "f", SILENT)
    drawn = [random.Random(f"0 mine {i}").choice(["a", "a", "x", letter]) for i in range(12)]
    assert found.faults == tuple(f"seed 0, index {i}: {fault}" for i, it in enumerate(drawn) if it == letter)
    assert found.wrong == drawn.count(letter) > 0
    assert found.outcomes == {"refused": drawn.count("x"), "taken": drawn.count("a")}


def test_damage_that_is_taken_is_found(tmp_path):
    blind = Format("blind", texts("whole and sealed"), lambda path: path.read_bytes(), holds=lambda it: it)
    found = fuzz.feed(blind, 20, 0, tmp_path / "f", SILENT)
    assert found.wrong > 10
    assert found.faults[0].endswith("taken, though its content is no whole example's")


def test_an_example_that_is_refused_is_an_error_of_ours(tmp_path):
    with pytest.raises(DataError, match="no"):
        fuzz.feed(Format("mine", texts("x"), reader, is_text=True), 3, 0, tmp_path / "f", SILENT)


def test_inputs_are_drawn_by_seed_and_index():
    whole = [json.dumps({"a": [1, 2], "b": "text"}).encode(), bytes(range(64))]
    drawn = [[fuzz.draw(whole, random.Random(f"{seed} {i}")) for i in range(50)] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) > 40


@pytest.mark.parametrize("name", formats())
def test_every_format_takes_its_own_examples(name, tmp_path):
    form = formats()[name]
    whole = form.examples(tmp_path)
    assert whole
    held = fuzz._held(form, whole, tmp_path)
    assert len(held) == (len(whole) if form.holds else 0)


# --- endurance, the record ---------------------------------------------------------------------------


def test_what_a_cycle_keeps_is_found(tmp_path, monkeypatch):
    assert endurance.wear("numpy, held", 40, tmp_path / "a", SILENT).faults == ()
    before, after = {"KiB": 0, "descriptors": 3, "threads": 1, "children": 0}, {}
    after = {"KiB": 3000, "descriptors": 4, "threads": 1, "children": 0}

    def pretend(words, folder):
        Path(words[-1]).write_text(json.dumps([before, after]))
        return commands.Ended(0, "", "", 1.0, 0, 0)

    monkeypatch.setattr(endurance, "run_python", pretend)
    found = endurance.wear("numpy, held", 12, tmp_path / "b", SILENT)
    assert found.faults == (
        "a cycle keeps 1,000 KiB",
        "4 descriptors after 12 cycles, 3 after three quarters of them",
    )


def test_garbage_that_waits_for_its_collector_is_not_kept(tmp_path, monkeypatch):
    """Each cycle leaves a circle of a megabyte; the next one must not find it alive."""

    class Circle:
        def __init__(self) -> None:
            self.me, self.room = self, bytes(1 << 20)

    last: list[weakref.ref] = []

    def cycle() -> None:
        assert not last or last.pop()() is None
        last.append(weakref.ref(Circle()))

    monkeypatch.setattr(endurance, "built_and_closed", lambda engine: cycle)
    monkeypatch.setattr(sys, "argv", ["", "mine, built and closed", "6", str(tmp_path / "taken.json")])
    gc.disable()
    try:
        endurance.main()
    finally:
        gc.enable()
    assert len(json.loads((tmp_path / "taken.json").read_text())) == 2


def test_what_an_engine_holds_is_the_least_of_its_last_cycles(tmp_path, monkeypatch):
    """Of 40 cycles: the last two of the first 30, and the last two of all."""
    seen = iter(range(1000, 0, -1))

    def taken() -> dict[str, float]:
        return {"KiB": next(seen), "threads": 1}

    monkeypatch.setattr(endurance, "taken", taken)
    monkeypatch.setattr(endurance, "held", lambda engine: lambda: None)
    monkeypatch.setattr(sys, "argv", ["", "mine, held", "40", str(tmp_path / "taken.json")])
    endurance.main()
    assert [one["KiB"] for one in json.loads((tmp_path / "taken.json").read_text())] == [971, 961]


def test_parts_and_subjects_are_chosen(tmp_path):
    found = list(work(["fuzz"], "bits", SIZES["short"], 0, tmp_path, SILENT))
    assert [(one.part, one.subject, one.tried) for one in found] == [("fuzz", "bits", 2000)]


def test_a_campaign_goes_on_after_its_last_round(tmp_path, monkeypatch):
    """Killed after three rows, resumed, it ends with the rows of one that ran through."""
    size = replace(SIZES["short"], rounds=2, inputs=10)
    monkeypatch.setattr("experiments.campaign.__main__.formats", lambda: dict(list(formats().items())[:2]))

    def rows_of(name: str, done: dict, most: int = 99) -> dict:
        found = dict(done)
        for one in itertools.islice(work(["fuzz"], "", size, 5, tmp_path / name, SILENT, done), most):
            found[one.part, one.subject] = one
        return found

    whole = rows_of("whole", {})
    assert [one.rounds for one in whole.values()] == [2, 2]
    killed = rows_of("killed", {}, 3)
    assert sorted(one.rounds for one in killed.values()) == [1, 2]
    assert rows_of("resumed", killed) == whole
    assert rows_of("again", whole) == whole


def test_rows_add_up():
    a = rows.row("fuzz", "bits", 5, ["x"] * 15, rows.Counter(taken=1))
    b = rows.row("fuzz", "bits", 7, ["y"] * 15, rows.Counter(refused=2, taken=3))
    both = a + b
    assert (both.tried, both.wrong, both.rounds) == (12, 30, 2)
    assert both.faults == ("x",) * 15 + ("y",) * 5
    assert both.outcomes == {"refused": 2, "taken": 4}


def test_the_table_counts_what_the_record_holds(tmp_path):
    made = [
        rows.Row(part="kills", subject="train", tried=1000, wrong=0, outcomes={}),
        rows.Row(part="kills", subject="sweep", tried=20, wrong=1, outcomes={}, faults=("it hangs",)),
        rows.Row(part="fuzz", subject="bits", tried=5, wrong=0, outcomes={}),
    ]
    rows.write(tmp_path / "campaign.json", [replace(one, seed=3, commit="abc") for one in made])
    table = rows.campaign_table(tmp_path).splitlines()
    assert table[2:4] == [
        "| kills | 1,020 | **1** | train 1,000; sweep 20 (**1 wrong**) |",
        "| fuzz | 5 | 0 | bits 5 |",
    ]
    assert table[-1] == "Seed 3; commit abc."
    again = rows.row("kills", "sweep", 40, [], rows.Counter())
    rows.write(tmp_path / "campaign.json", [replace(again, seed=4, commit="def")])
    table = rows.campaign_table(tmp_path).splitlines()
    assert table[2] == "| kills | 1,040 | 0 | train 1,000; sweep 40 |"
    assert table[-1] == "Seed 3, 4; commit abc, def."


def test_a_row_keeps_the_first_faults_and_counts_them_all():
    one = rows.row("fuzz", "bits", 50, [str(i) for i in range(50)], rows.Counter(b=1, a=2))
    assert (one.wrong, one.faults[-1], list(one.outcomes)) == (50, "19", ["a", "b"])
