"""`mpiexec -n N wage-neuro train`: one process's bits, and one line for whatever goes wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from experiments.runs import ranks, run_folder
from experiments.runs.training import Config, Run
from mappings.cluster.cost import traffic_of
from wage_neuro import Rules
from wage_neuro.errors import SettingError
from wage_neuro.team import ALONE, Team

ROOT = Path(ranks.__file__).resolve().parents[2]
MPIEXEC = Path(sys.executable).with_name("mpiexec")
has_mpi = find_spec("mpi4py") is not None and MPIEXEC.exists()
needs_mpi = pytest.mark.skipif(not has_mpi, reason='no mpi4py with an mpiexec: pip install "wage-neuro[mpi]"')
needs_torch = pytest.mark.skipif(
    find_spec("torch") is None, reason='no PyTorch: pip install "wage-neuro[torch]"'
)
WORDS = ("train", "--data", "digits", "--network", "8C3-MP2-24FC", "--batch", "50", "--augment", "crop1",
         "--momentum", "3")  # fmt: skip
RULES = Rules(batch=50, momentum=3)


def wage_neuro(*words, python=(sys.executable,)):
    return [*python, "-m", "experiments.entry", *map(str, words)]


def mpiexec(n, *words, **more):
    return [str(MPIEXEC), "-n", str(n), *wage_neuro(*words, **more)]


def torchrun(n, *words, entry=("-m", "experiments.entry")):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n)]
    # without -- it takes --run for its own --run-path
    return [*command, *entry[:-1], "--", entry[-1], *map(str, words)]


def said(stderr):
    """What is told of an error, without what torchrun adds about processes that failed."""
    return [line for line in stderr.splitlines() if "wage-neuro: " in line]


def environ(**more):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PMI", "OMPI", "COV", "TORCHELASTIC"))}
    return {**clean, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}


def run(command, cwd, **more):
    return subprocess.run(
        command, cwd=cwd, env=environ(**more), capture_output=True, text=True, timeout=120, check=False
    )


def rows_of(folder):
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in found]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Three epochs in this process, counted."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    config = Config(data="digits", network="8C3-MP2-24FC", epochs=3, augment="crop1", rules=RULES)
    training = Run.start(config, folder)
    with training.engine("numpy") as engine:
        training.fit(engine, watch=4)
    return folder


def assert_same_run(one, other):
    a, b = (run_folder.load(folder) for folder in (one, other))
    assert a.state == b.state
    assert all(M.any() for M in a.state.momentum)
    assert rows_of(one) == rows_of(other)


@needs_mpi
@pytest.mark.parametrize("engine", ["numpy", "compiled", pytest.param("torch", marks=needs_torch)])
def test_ranks_have_the_bits_of_one_process(alone, engine, tmp_path):
    """Two ranks begin, three go on: 50 samples in slices of 17, 17 and 16; every count is the same, too."""
    words = ("--engine", engine, "--watch", "4", "--output", "record.json")
    first = run(mpiexec(2, *WORDS, *words, "--epochs", "2", "--run", "out"), tmp_path)
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.count("run folder out") == 1
    again = run(mpiexec(3, "train", "--resume", "out", "--epochs", "3", *words), tmp_path)
    assert (again.returncode, again.stderr) == (0, "")
    assert_same_run(alone, tmp_path / "out")
    record = json.loads((tmp_path / "record.json").read_text())
    sent, network = record["team"], run_folder.load(alone).network
    assert (sent["ranks"], sent["updates"]) == (3, 28)
    assert sent["learning"] == sent["sums"] + sent["steps"] + sent["maxima"]
    assert sent["float32"] == 28 * (2 * 2 * 4 * network.n_weights // 3)
    shown = f"3 ranks: each sent {sent['learning'] / 28:,.0f} bytes an update; gradients of float32,"
    assert shown in again.stdout


@needs_mpi
@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 4, 5, 8])
@pytest.mark.parametrize("engine", ["numpy", "compiled"])
def test_more_ranks(alone, engine, n, tmp_path):
    words = ("--engine", engine, "--epochs", "3", "--run", "out", "--watch", "4")
    done = run(mpiexec(n, *WORDS, *words), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert_same_run(alone, tmp_path / "out")


@needs_mpi
@pytest.mark.parametrize(
    ("words", "line"),
    [
        ((*WORDS, "--batch", "2"), "--batch 2: 3 ranks share the samples of each update, 2; want as many"
         " ranks or fewer"),
        (("data",), "mpiexec -n 3 with data: want one process; `train` alone shares its work"),
    ],
)  # fmt: skip
def test_what_all_refuse_is_said_once(words, line, tmp_path):
    done = run(mpiexec(3, *words), tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"wage-neuro: {line}\n"


@needs_mpi
@pytest.mark.parametrize(
    ("other", "line"),
    [
        (("--seed", "1"), "rank 1: settings sha256 "),
        (("--data", "mnist", "--data-dir", "nowhere"), "rank 1: --data-dir nowhere: no such folder"),
        (("--engine", "lava"), "rank 1: --engine 'lava' on 2 ranks: want one that shares batches"),
    ],
)
def test_ranks_that_differ(other, line, tmp_path):
    both = [
        *mpiexec(1, *WORDS, "--engine", "numpy"),
        ":",
        "-n",
        "1",
        *wage_neuro(*WORDS, "--engine", "numpy"),
    ]
    done = run([*both, *other], tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"wage-neuro: {line}")
    assert done.stderr.count("\n") == 1
    assert not [path for path in (tmp_path / "runs").rglob("*") if path.name == run_folder.CHECKPOINT]


@needs_mpi
@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("import os; os.chdir('other')", r'rank 1: data "?[0-9a-f ]*.*: want .*, as rank 0 has'),
        ("import wage_neuro; wage_neuro.__version__ = '0.0.1'", 'rank 1: version "0.0.1": want "'),
    ],
)
def test_ranks_of_other_data_or_another_version(change, line, tmp_path):
    """The file has the same name for both, and one grey level is another."""
    (tmp_path / "other").mkdir()
    images = some_images(400)
    np.savez(tmp_path / "small.npz", **images)
    images["train_images"][200, 3, 3] ^= 1
    np.savez(tmp_path / "other" / "small.npz", **images)
    words = ["train", "--data", "small.npz", "--network", "8FC", "--batch", "20", "--engine", "numpy"]
    other = [sys.executable, "-c", f"{change}\nfrom experiments import cli\ncli.main()", *words]
    done = run([*mpiexec(1, *words), ":", "-n", "1", *other], tmp_path)
    assert done.returncode == 1
    assert re.match(f"wage-neuro: {line}", done.stderr), done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.rglob(run_folder.CHECKPOINT))


@needs_mpi
def test_a_rank_that_dies_ends_all(tmp_path):
    """Killed, it can say nothing: MPI's launcher does; and a checkpoint is there to go on from."""
    main = subprocess.Popen(
        mpiexec(2, *WORDS, "--epochs", "2000", "--run", "out", "--engine", "numpy"),
        cwd=tmp_path,
        env=environ(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert wait_until(lambda: (tmp_path / "out" / run_folder.CHECKPOINT).exists(), 60)
        victims = [pid for pid in ranks_of(main.pid) if b"PMI_RANK=1\0" in environ_of(pid)]
        assert len(victims) == 1
        began = time.monotonic()
        os.kill(victims[0], signal.SIGKILL)
        main.communicate(timeout=30)
        assert time.monotonic() - began < 15
        assert main.returncode != 0
        assert not ranks_of(main.pid)
    finally:
        main.kill()
    run_folder.load(tmp_path / "out")


@needs_mpi
def test_a_rank_that_fails_says_so_and_ends_all(tmp_path):
    """Its file is cut short while all learn."""
    np.savez(tmp_path / "small.npz", **some_images(400))
    shutil.copy(tmp_path / "small.npz", tmp_path / "other.npz")
    code = (
        "import sys; from experiments import cli; from experiments.runs.training import Run\n"
        "from wage_neuro.errors import DataError\n"
        "def fail(run, *_): raise DataError('images: cut short')\n"
        "if '--fail' in sys.argv: sys.argv.remove('--fail'); Run._place_after = fail\n"
        "cli.main()"
    )
    words = ["train", "--data", "small.npz", "--network", "8FC", "--batch", "20", "--engine", "numpy"]
    one = [sys.executable, "-c", code, *words]
    done = run([str(MPIEXEC), "-n", "1", *one, ":", "-n", "1", *one, "--fail"], tmp_path)
    assert done.returncode != 0
    assert done.stderr == "wage-neuro: rank 1: images: cut short\n"


@needs_mpi
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="no /proc")
@pytest.mark.parametrize("end", ["wire.abort(3)", "wire.rank and os.kill(os.getpid(), 9)", ""])
def test_ranks_leave_no_shared_memory(end, tmp_path):
    """Also where they are ended. What MPI has mapped is told before its names are taken away."""
    code = (
        "import os, re; from pathlib import Path; import numpy as np; from mpi4py import MPI\n"
        "found = re.findall(r'/dev/shm/\\S+$', Path('/proc/self/maps').read_text(), re.M)\n"
        "Path(f'rank{MPI.COMM_WORLD.rank}').write_text('\\n'.join(found))\n"
        "from mappings.cluster.mpi import MpiWire; wire = MpiWire()\n"
        "total = wire.total(np.full(1 << 20, wire.rank + 1, np.int32))\n"
        "assert (total == 6).all()\n"
        f"{end}\nMPI.COMM_WORLD.Barrier()\n"
    )
    done = run([str(MPIEXEC), "-n", "3", sys.executable, "-c", code], tmp_path)
    assert (done.returncode == 0) == (not end), done.stderr
    told = [(tmp_path / f"rank{rank}").read_text().split() for rank in range(3)]
    assert all(told)
    assert not [path for paths in told for path in paths if Path(path).exists()]


@needs_mpi
@pytest.mark.parametrize("way", ["SIGINT", "SIGTERM"])
def test_stopped_by_a_signal_they_go_on_alone(way, alone, tmp_path):
    """All stop after the same batch, with a checkpoint; one process goes on to the same bits."""
    main = subprocess.Popen(
        mpiexec(2, *WORDS, "--epochs", "2000", "--run", "out", "--engine", "numpy"),
        cwd=tmp_path,
        env=environ(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert wait_until(lambda: (tmp_path / "out" / run_folder.CHECKPOINT).exists(), 60)
        for pid in ranks_of(main.pid)[:1]:  # one of them is enough
            os.kill(pid, getattr(signal, way))
        out, err = main.communicate(timeout=60)
    finally:
        main.kill()
    assert "stopped in epoch" in out, (out, err)
    assert "go on with: wage-neuro train --resume out" in out
    saved = run_folder.load(tmp_path / "out")
    assert saved.state.step > 0
    config = Config(data="digits", network="8C3-MP2-24FC", epochs=3, augment="crop1", rules=RULES)
    again = Run.start(config, tmp_path / "again")
    with again.engine("numpy") as engine:
        again.config = Config(**{**vars(config), "epochs": 2000})
        again.stop_wanted = False
        again.fit(engine, lambda seen: stop_at(again, saved.state.step))
        if engine.state.step == saved.state.step:
            assert saved.state == engine.state


def stop_at(training, step):
    done = training.progress.epoch * training.batches + training.progress.batch
    training.stop_wanted = done >= step


def some_images(n):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, 6, 6, 1)).astype(np.uint8)
    labels = rng.integers(0, 3, n)
    return {"train_images": images, "train_labels": labels, "test_images": images, "test_labels": labels}


def wait_until(happens, seconds):
    end = time.monotonic() + seconds
    while not happens() and time.monotonic() < end:
        time.sleep(0.1)
    return happens()


def ranks_of(main):
    """Processes that an mpiexec has started, and that run."""
    children, found = {}, []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                _, _, rest = (entry / "stat").read_text().rpartition(") ")
            except OSError:
                continue
            if rest.split()[0] != "Z":
                children.setdefault(int(rest.split()[1]), []).append(int(entry.name))
    for proxy in children.get(main, []):
        found += children.get(proxy, [])
    return sorted(found)


def environ_of(pid):
    return Path(f"/proc/{pid}/environ").read_bytes()


# --- by torchrun -------------------------------------------------------------------------------------


@needs_torch
@pytest.mark.parametrize("engine", ["torch", "numpy"])
def test_torchrun_has_the_bits_of_one_process(alone, engine, tmp_path):
    """Two ranks begin, three go on, in slices of 17, 17 and 16; what is sent is what MPI's ranks send."""
    words = ("--engine", engine, "--watch", "4", "--output", "record.json")
    first = run(torchrun(2, *WORDS, *words, "--epochs", "2", "--run", "out"), tmp_path)
    assert (first.returncode, said(first.stderr)) == (0, [])
    assert first.stdout.count("run folder out") == 1
    again = run(torchrun(3, "train", "--resume", "out", "--epochs", "3", *words), tmp_path)
    assert (again.returncode, said(again.stderr)) == (0, [])
    assert_same_run(alone, tmp_path / "out")
    sent = json.loads((tmp_path / "record.json").read_text())["team"]
    saved = run_folder.load(alone)
    wanted = traffic_of(saved.network, saved.rules, 3)
    assert (sent["ranks"], sent["updates"]) == (3, 28)
    assert (sent["sums"], sent["steps"]) == (28 * wanted.sums, 28 * wanted.steps)


@needs_torch
@pytest.mark.parametrize(
    ("words", "line"),
    [
        ((*WORDS, "--batch", "2"), "--batch 2: 3 ranks share the samples of each update, 2; want as many"
         " ranks or fewer"),
        (("data",), "torchrun of 3 with data: want one process; `train` alone shares its work"),
    ],
)  # fmt: skip
def test_what_all_of_torchrun_refuse_is_said_once(words, line, tmp_path):
    done = run(torchrun(3, *words), tmp_path)
    assert done.returncode == 1
    assert said(done.stderr) == [f"wage-neuro: {line}"]


OTHERWISE = """
import os, sys
from experiments import cli
from experiments.runs.training import Run
from wage_neuro.errors import DataError
how, *words = sys.argv[1:]
sys.argv[1:] = words
def fail(run, *_): raise DataError("images: cut short") if how == "fail" else os.kill(os.getpid(), 9)
if os.environ["RANK"] == "1":
    if how == "seed": sys.argv += ["--seed", "1"]
    else: Run._place_after = fail
cli.main()
"""


@needs_torch
@pytest.mark.parametrize(
    ("how", "line"),
    [
        ("seed", "wage-neuro: rank 1: settings sha256 "),
        ("fail", "wage-neuro: rank 1: images: cut short"),
        ("die", "wage-neuro: another rank is gone: "),
    ],
)
def test_a_rank_of_torchrun_that_ends_ends_all_in_one_line(how, line, tmp_path):
    (tmp_path / "otherwise.py").write_text(OTHERWISE)
    began = time.monotonic()
    done = run(torchrun(2, how, *WORDS, "--engine", "torch", entry=["otherwise.py"]), tmp_path)
    assert done.returncode == 1
    assert [told[: len(line)] for told in said(done.stderr)] == [line]
    assert time.monotonic() - began < 60


# --- without an MPI ----------------------------------------------------------------------------------


def test_alone_nothing_is_joined(monkeypatch):
    monkeypatch.delenv("PMI_SIZE", raising=False)
    assert ranks.join() is ALONE
    ranks.check_alike(ALONE, {"never": lambda: 1 / 0})
    ranks.end_all(lambda told, who: 1 / 0, "nothing")


def test_launchers():
    assert ranks.launched({"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "8"}) == (3, 8)
    assert ranks.launched({"PMI_RANK": "x", "PMI_SIZE": "2"}) == (0, 1)
    assert ranks.launched({"PMI_RANK": "1"}) == (0, 1)
    of_torch = {"RANK": "2", "WORLD_SIZE": "3"}  # the words of others too
    assert ranks.launched(of_torch) == (0, 1)
    assert ranks.launched({**of_torch, "TORCHELASTIC_RUN_ID": "x"}) == (2, 3)


def test_without_mpi4py_one_line(monkeypatch, tmp_path):
    """Of the ranks that mpiexec started the first one says it; the others end without a word."""
    (tmp_path / "mpi4py.py").write_text("raise ImportError('No module named \\'mpi4py\\'')")
    for rank, line in (("0", "wage-neuro: mpiexec -n 2: No module named 'mpi4py'; it needs pip install"
                        ' "wage-neuro[mpi]"\n'), ("1", "")):  # fmt: skip
        path = f"{tmp_path}{os.pathsep}{ROOT}"
        done = run(wage_neuro(*WORDS), tmp_path, PMI_RANK=rank, PMI_SIZE="2", PYTHONPATH=path)
        assert (done.returncode, done.stderr) == (1, line)


@needs_mpi
def test_another_launcher(monkeypatch):
    code = "from experiments.runs.ranks import join\ntry: join()\nexcept Exception as e: print(e)"
    done = run([sys.executable, "-c", code], ROOT, OMPI_COMM_WORLD_RANK="0", OMPI_COMM_WORLD_SIZE="2")
    wanted = "mpiexec -n 2: mpi4py sees 1 rank; want the mpiexec of its own MPI, "
    assert done.stdout.startswith(wanted), done


class Two(Team):
    """A team of two in which this is one, and the other says what it is told to say."""

    def __init__(self, rank, other) -> None:
        self.rank, self.size, self.other = rank, 2, other

    def objects(self, own):
        if own is None:  # they meet, and end
            return [None, None]
        other = {**own, **self.other} if self.other is not None else None
        return [own, other] if self.rank == 0 else [other, own]


@pytest.fixture
def fresh(monkeypatch):
    monkeypatch.setattr(ranks, "_alike", [])
    monkeypatch.setattr(ranks, "_joined", [])


@pytest.mark.usefixtures("fresh")
def test_facts_are_compared():
    facts = {"data": lambda: "x", "settings": lambda: {"long": "y" * 40}}
    ranks.check_alike(Two(0, {}), facts)
    with pytest.raises(SettingError) as error:
        ranks.check_alike(Two(0, {"version": '"9.9"'}), facts)
    assert str(error.value).startswith('rank 1: version "9.9": want "')
    with pytest.raises(SettingError, match=r"^rank 1: data \"z\": want \"x\", as rank 0 has$"):
        ranks.check_alike(Two(0, {"data": '"z"'}), facts)
    with pytest.raises(SystemExit):  # rank 0 tells it
        ranks.check_alike(Two(1, {"data": '"z"'}), facts)
    with pytest.raises(SystemExit):  # the other one has an error
        ranks.check_alike(Two(0, None), facts)


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(
    ("rank", "other", "told"), [(0, None, ["no"]), (1, None, []), (1, {}, ["rank 1: no"])]
)
def test_an_error_is_told_by_the_first_that_has_it(rank, other, told, monkeypatch):
    monkeypatch.setenv("PMI_RANK", str(rank))
    monkeypatch.setenv("PMI_SIZE", "2")

    class Meeting(Two):
        def objects(self, own):
            return [own, other] if rank == 0 else [other, own]

    ranks._joined.append(Meeting(rank, other))
    said: list[str] = []
    with pytest.raises(SystemExit):
        ranks.end_all(lambda told, who: said.append(who + told), "no")
    assert said == told


@pytest.mark.skipif(find_spec("lava") is None, reason="no lava-nc")
def test_another_engine(tmp_path):
    training = Run.start(
        Config(data="digits", network="8FC", rules=Rules(batch=50)), tmp_path / "run", team=Two(0, {})
    )
    with pytest.raises(SettingError, match=r"^engine 'lava' on .*: want one that shares batches"):
        training.engine("lava")
