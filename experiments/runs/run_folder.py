"""A run's folder: checkpoint.npz, metrics.jsonl, curve.png, record.json."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from experiments import datasets
from experiments.records.figure import epochs_axis, logarithmic, picture
from experiments.records.style import OTHERS, OURS
from experiments.runs.forms import Extra
from wage_neuro import __version__, checkpoint, trained
from wage_neuro.checkpoint import Checkpoint
from wage_neuro.errors import CheckpointError, SettingError
from wage_neuro.files import lock, sweep, written_whole
from wage_neuro.trained import CHECKPOINT as CHECKPOINT
from wage_neuro.typed import checked, reading

LOCK = ".lock"


class Lock:
    """One writer a folder: a context that others are kept out of, entered again by who is in it.

    The folder is made if need be, and rid of what killed writes left in it. The lock ends with its process,
    however that ends; its file names it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._entered, self._descriptor = folder, 0, -1

    def __enter__(self) -> Lock:
        """Take it.

        Raises
        ------
        SettingError
            If another run is in the folder, or it cannot be written.
        """
        if not self._entered:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._take(self.folder / LOCK)
                sweep(self.folder)
            except OSError as error:
                raise _unwritable(self.folder, error) from None
        self._entered += 1
        return self

    def _take(self, path: Path) -> None:
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            if not lock(descriptor):
                owner = (
                    " ".join(os.read(descriptor, 300).decode(errors="replace").split()) or "another process"
                )
                os.close(descriptor)
                raise SettingError(
                    f"run folder {self.folder}: in use by {owner}; wait, or take another folder"
                )
            # its owner may have removed it in between
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    break
            os.close(descriptor)
        command = textwrap.shorten(shlex.join(sys.argv), 200, placeholder=" ...")
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {platform.node()} ({command})\n".encode()[:300])
        self._descriptor = descriptor

    def __exit__(self, *_: object) -> None:
        self._entered -= 1
        if not self._entered:
            with suppress(FileNotFoundError):
                (self.folder / LOCK).unlink()
            os.close(self._descriptor)


def _unwritable(folder: Path, error: OSError) -> SettingError:
    return SettingError(f"run folder {folder}: cannot write there ({error.strerror})")


def refuse_held(file: Path, what: str = "run") -> None:
    """Raise SettingError where something new would begin in a folder that `file` says is taken."""
    if file.exists():
        folder = file.parent
        raise SettingError(
            f"run folder {folder}: it holds a {what} already; --resume {folder} goes on with it"
        )


def prepare(folder: Path, new: bool) -> None:
    """Make sure that a run can write into its folder, before it starts; remove what killed writes left there.

    Raises
    ------
    SettingError
        If it cannot, or if a new run's folder already holds one.
    """
    try:
        if new:
            refuse_held(folder / CHECKPOINT)
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        _try_to_write(folder)
    except OSError as error:
        raise _unwritable(folder, error) from None


def check_writable(path: Path) -> None:
    """Raise SettingError unless a file can be written at `path`, before hours are spent on its content."""
    try:
        if path.is_dir():
            raise SettingError(f"{path}: is a folder; want a file")
        sweep(path.parent, path.name)
        _try_to_write(path.parent)
    except OSError as error:
        raise SettingError(f"{path}: cannot write there ({error.strerror})") from None


def checkpoint_of(run: Path, resume: bool = False) -> Path:
    """The checkpoint of a run's folder, or, but to resume from, the file that `run` is itself.

    Raises
    ------
    CheckpointError
        If there is none; the line says what is there in its place.
    """
    if run.is_file() and resume:
        raise CheckpointError(f"{run}: a file; want the folder that it is in, {shlex.quote(str(run.parent))}")
    if not run.exists() and datasets.is_name(str(run)):
        raise CheckpointError(f"{run}: no such checkpoint; it is a data set, want the folder of a run")
    return trained.checkpoint_of(run)


def load(run: Path) -> Checkpoint:
    """Load the checkpoint of a run's folder, or a checkpoint file.

    Raises
    ------
    CheckpointError
        If there is none, it is damaged, or what it says of its run cannot be.
    """
    path = checkpoint_of(run)
    try:
        saved = checkpoint.load(path)
    except CheckpointError as error:
        if run.suffix == CHECKPOINT[-4:] or run != path:
            raise
        raise CheckpointError(f"{error}; want the folder of a run, or its {CHECKPOINT}") from None
    with reading(path, "checkpoint"):
        checked(Extra, saved.extra)
    return saved


def _try_to_write(folder: Path) -> None:
    with tempfile.TemporaryFile(dir=folder) as file:  # without a name, where the system can
        file.write(b"0")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Make the folder, or the first of FOLDER-2, FOLDER-3 ... that is not there; nobody else gets the same.

    It is removed again if the block leaves nothing in it.

    Raises
    ------
    SettingError
        If it cannot be made.
    """
    made, number = folder, 1
    above = None if folder.parent.exists() else folder.parent
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                made.mkdir()
                break
            except FileExistsError:
                number += 1
                made = folder.with_name(f"{folder.name}-{number}")
    except OSError as error:
        raise _unwritable(made, error) from None
    try:
        yield made
    finally:
        with suppress(OSError):  # it is not empty
            made.rmdir()
            if above:
                above.rmdir()


def write_text(path: Path, text: str) -> None:
    """Write a text file whole."""
    with written_whole(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def this_command() -> str:
    """The command that is running, as a record names it."""
    return "wage-neuro " + shlex.join(sys.argv[1:])


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write a JSON value a line, whole."""
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def versions() -> dict[str, str]:
    """Versions that a record names: this code, Python, the libraries that compute, the processor."""
    found = {
        "wage-neuro": __version__,
        "python": platform.python_version(),
        "commit": _commit(),
        "machine": _processor(),
    }
    for package in ("numpy", "lava-nc"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "absent"
    torch = sys.modules.get("torch")
    if torch:
        found["torch"] = torch.__version__
        if torch.cuda.is_available():
            found["accelerator"] = torch.cuda.get_device_name()
    return found


def _commit() -> str:
    """Name the commit, with -dirty where code differs from it: records and texts may.

    Where there is no git, as in a container, WAGE_NEURO_COMMIT names it.
    """
    try:
        name = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("diff", "--name-only", "HEAD", "--", ":/*.py", ":/*.toml", ":/*.txt")
    except (OSError, subprocess.SubprocessError):
        return os.environ.get("WAGE_NEURO_COMMIT", "unknown")
    return f"{name}-dirty" if changed else name


def _git(*words: str) -> str:
    here = Path(__file__).resolve().parent
    done = subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        models = []
    name = models[0] if models else platform.processor() or platform.machine()
    return f"{name}, {len(models) or '?'} cores"


def draw_curve(path: Path, title: str, rows: Sequence[dict[str, Any]], held_out: str) -> None:
    """Draw the learning curve: training and held-out error against epochs."""
    epochs, drawn = [row["epoch"] + 1 for row in rows], []
    with picture(path, 7, 4.2) as figure:
        axes = figure.subplots()
        for key, label, colour in (("train_error", "training", OTHERS), ("error", held_out, OURS)):
            values = [100 * row[key] for row in rows]
            name = f"{label} error, last {values[-1]:.2f} %"
            axes.plot(epochs, values, color=colour, markevery=max(1, len(rows) // 25), label=name)
            drawn += values
        axes.set(ylabel="error (%)", title=title)
        epochs_axis(axes, epochs)
        if min(drawn) > 0:
            logarithmic(axes.yaxis, drawn)
        else:
            axes.set_ylim(0, None)
        axes.legend()


def draw_activity(path: Path, title: str, rows: Sequence[dict[str, Any]], layers: Sequence[str]) -> None:
    """Draw spikes, error spikes and updates a sample of each layer against epochs."""
    rows = [row for row in rows if "activity" in row]
    epochs = [row["epoch"] + 1 for row in rows]
    panels = {"spikes": "activation spikes", "errors": "error spikes", "updates": "weights changed"}
    with picture(path, 10, 3.8) as figure:
        figure.suptitle(title)
        for axes, (field, label) in zip(figure.subplots(1, 3), panels.items(), strict=True):
            drawn = []
            for i, layer in enumerate(layers):
                values = [row["activity"][field][i] for row in rows]
                name = f"{i} {layer}: {values[-1]:,.4g}"
                axes.plot(epochs, values, markevery=max(1, len(rows) // 15), label=name)
                drawn += values
            axes.set_title(f"{label}, a sample", fontsize=10)
            epochs_axis(axes, epochs)
            if min(drawn) > 0:
                logarithmic(axes.yaxis, drawn)
            else:
                axes.set_yscale("symlog", linthresh=1)
                axes.set_ylim(0, 1.3 * max(drawn) or 1)
                axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
            axes.legend(fontsize=8, title="layer: last", title_fontsize=8)
