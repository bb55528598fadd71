"""A run's folder: checkpoint.npz, metrics.jsonl, curve.png, record.json."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from experiments.figure import save
from wage_neuro import __version__
from wage_neuro.errors import SettingError
from wage_neuro.files import written_whole

CHECKPOINT = "checkpoint.npz"


def prepare(folder: Path, new: bool) -> None:
    """Make sure that a run can write into its folder, before it starts.

    Raises
    ------
    SettingError
        If it cannot, or if a new run's folder already holds one.
    """
    try:
        if new and (folder / CHECKPOINT).exists():
            raise SettingError(
                f"run folder {folder}: it holds a run already; --resume {folder} goes on with it"
            )
        folder.mkdir(parents=True, exist_ok=True)
        _try_to_write(folder)
    except OSError as error:
        raise SettingError(f"run folder {folder}: cannot write there ({error.strerror})") from None


def check_writable(path: Path) -> None:
    """Raise SettingError unless a file can be written at `path`, before hours are spent on its content."""
    try:
        if path.is_dir():
            raise SettingError(f"{path}: is a folder; want a file")
        _try_to_write(path.parent)
    except OSError as error:
        raise SettingError(f"{path}: cannot write there ({error.strerror})") from None


def _try_to_write(folder: Path) -> None:
    with written_whole(folder / ".writable") as file:
        file.write(b"")
    (folder / ".writable").unlink()


def free(folder: Path) -> Path:
    """Return the folder, or the first of FOLDER-2, FOLDER-3 ... that does not exist yet."""
    candidate, number = folder, 1
    while candidate.exists():
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    return candidate


def write_text(path: Path, text: str) -> None:
    """Write a text file whole."""
    with written_whole(path) as file:
        file.write(text.encode())


def write_metrics(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write metrics.jsonl, a row an epoch."""
    write_text(folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


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
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    epochs = [row["epoch"] + 1 for row in rows]
    for key, label, colour in (("train_error", "training", "#8a8f98"), ("error", held_out, "#0b6bcb")):
        values = [100 * row[key] for row in rows]
        name = f"{label} error, last {values[-1]:.2f} %"
        axes.plot(epochs, values, "o-", color=colour, markersize=3.5, linewidth=1.6, label=name)
    axes.set(xlabel="epoch", ylabel="error (%)", title=title)
    if all(row["error"] > 0 and row["train_error"] > 0 for row in rows):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.set_ylim(0, None)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(True, alpha=0.25)
    axes.legend(frameon=False)
    save(path, figure)


def draw_activity(path: Path, title: str, rows: Sequence[dict[str, Any]], layers: Sequence[str]) -> None:
    """Draw spikes, error spikes and updates a sample of each layer against epochs."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    rows = [row for row in rows if "activity" in row]
    epochs = [row["epoch"] + 1 for row in rows]
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    figure.suptitle(title)
    panels = {"spikes": "activation spikes", "errors": "error spikes", "updates": "weights changed"}
    for axes, (field, label) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        for i, layer in enumerate(layers):
            values = [row["activity"][field][i] for row in rows]
            name = f"{i} {layer}: {values[-1]:,.4g}"
            axes.plot(epochs, values, "o-", markersize=3, linewidth=1.5, label=name)
        axes.set_title(f"{label}, a sample", fontsize=10)
        axes.set_xlabel("epoch")
        axes.set_yscale("symlog", linthresh=1)
        axes.set_ylim(0, None)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(True, alpha=0.25)
        axes.legend(frameon=False, fontsize=8, title="layer: last", title_fontsize=8)
    save(path, figure)
