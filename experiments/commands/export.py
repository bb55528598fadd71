"""The commands `export`, `import` and `round-trip`: a trained network leaves the house and comes back."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from experiments.commands.command_line import busy, console, show_table
from experiments.commands.options import Found, Written, command_of
from experiments.runs import run_folder
from experiments.runs.training import load_for
from mappings.formats.registry import FORMATS, kind_of
from wage_neuro import checkpoint
from wage_neuro.checkpoint import Checkpoint
from wage_neuro.errors import (
    BitWidthError,
    EngineError,
    NetworkError,
    SettingError,
    WageError,
)
from wage_neuro.train import predict

ROUND = tuple(name for name in FORMATS if FORMATS.find(name).read)
"""Formats that are read back."""


def reader_of(path: Path) -> tuple[str, Callable[[Path], Checkpoint]]:
    """Return the format that a file is of, and what reads it."""
    name = kind_of(path)
    read = FORMATS.find(name).read
    assert read, f"{name}: tells a file as its own, and reads none"
    return name, read


def load_run(run: Path) -> Checkpoint:
    """Load the checkpoint of a run's folder, or a checkpoint file."""
    return run_folder.load(run)


# --- the round trip ----------------------------------------------------------------------------------


def round_trip(saved: Checkpoint, images: np.ndarray) -> list[dict[str, Any]]:
    """Write and read a network in every format; compare what it answers to (n, ...) uint8 images.

    Returns a row a format: bytes, times smaller than the weights in float32, and how many of the classes and
    logits differ; or why the format refuses this network.
    """
    x = saved.network.encode(images)
    logits = predict(saved.network, saved.state, x)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ROUND:
            path = Path(folder) / name
            try:
                FORMATS.find(name).write(path, saved)
            except (BitWidthError, EngineError, NetworkError) as error:
                rows.append({"format": name, "refused": str(error)})
                continue
            back = reader_of(path)[1](path)
            answers = predict(back.network, back.state, x)
            rows.append(
                {
                    "format": name,
                    "bytes": path.stat().st_size,
                    "float32_ratio": round(_smaller(path, saved), 2),
                    "classes_that_differ": int((answers.argmax(axis=1) != logits.argmax(axis=1)).sum()),
                    "logits_that_differ": int((answers != logits).sum()),
                }
            )
    return rows


def takers(saved: Checkpoint, names: Iterable[str]) -> list[str]:
    """Those of the formats that write this network here."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            with suppress(BitWidthError, EngineError, NetworkError):
                FORMATS.find(name).write(Path(folder) / name, saved)
                found.append(name)
    return found


def _smaller(path: Path, saved: Checkpoint) -> float:
    return 4 * saved.network.n_weights / path.stat().st_size


# --- the commands ------------------------------------------------------------------------------------

RunArgument = Annotated[Path, typer.Argument(help="Folder of a run, or a checkpoint file.")]


def export_(
    run: RunArgument,
    to: Annotated[
        str,
        typer.Option(
            help="`nir`, `nir-if` (for snntorch, norse, sinabs), `netx` (lava-dl), `packed` (two bits a"
            " weight), `onnx`, `onnx-qlinear` or `qonnx`, to answer with;"
            " `program` (JSON), to go on learning with; `c`, C99 for a microcontroller."
        ),
    ],
    output: Annotated[Path, typer.Option(help="The file; of `c` such as net.c, net.h comes beside it.")],
    learn: Annotated[bool, typer.Option(help="C that goes on learning on the chip.")] = False,
    ram: Annotated[int | None, typer.Option(help="Bytes of RAM that the microcontroller has.")] = None,
    flash: Annotated[int | None, typer.Option(help="Bytes of flash that it has.")] = None,
) -> None:
    """Write a trained network for other tools: NIR, ONNX, netx, packed weights, learning program."""
    if to not in FORMATS:
        raise FORMATS.unknown(to, "--to")
    if to == "c":
        write_c(output, load_run(run), learn, ram, flash)
        return
    for name, value in (("learn", learn), ("ram", ram), ("flash", flash)):
        if value not in (False, None):
            raise SettingError(f"--{name} with --to {to}: want --to c")
    form, saved = FORMATS.find(to), load_run(run)
    run_folder.check_writable(output)
    with busy(f"writing {output}"):
        try:
            form.write(output, saved)
        except (BitWidthError, NetworkError) as error:
            can = ", ".join(takers(saved, ROUND))
            raise type(error)(f"{error}; formats that say it: {can}" if can else str(error)) from None
    console.print(
        f"{saved.network}, {saved.network.n_weights:,} weights, written to {output}\n"
        f"{output.stat().st_size:,} bytes; in float32 the weights take {4 * saved.network.n_weights:,},"
        f" {_smaller(output, saved):.1f} x as much"
    )


def import_(
    file: Annotated[Path, typer.Argument(help="A file of `wage-neuro export`, of any format.")],
    output: Annotated[Path, typer.Option(help="The checkpoint, such as `imported.npz`; must be new.")],
) -> None:
    """Make a checkpoint of an exported file, for `evaluate`; of a program also for `train --resume`."""
    with busy(f"reading {file}"):
        kind, read = reader_of(file)
        saved = read(file)
    if output.exists():
        raise SettingError(f"{output}: is there already")
    run_folder.check_writable(output)
    checkpoint.save(output, saved)
    console.print(
        f"{saved.network}, {saved.network.n_weights:,} weights, read from {file} ({kind}),"
        f" written to {output}"
    )


def round_trip_(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, or checkpoint files.")],
    found: Found,
    written: Written,
) -> None:
    """Export to every format, import again, and compare the answers to all test images."""
    results = []
    for run in runs:
        saved = load_run(run)
        data = saved.extra.get("config", {}).get("data", "digits")
        with busy(f"writing and reading {run} in every format"):
            images = np.asarray(load_for(saved, data, found.data_dir).test_images)
            rows = round_trip(saved, images)
        results.append(
            {
                "network": str(saved.network),
                "bits": str(saved.network.bits),
                "config": saved.extra.get("config"),
                "data": data,
                "images": len(images),
                "formats": rows,
            }
        )
        show_table(_table(results[-1]))
    if written.output:
        run_folder.write_json(written.output, {"round_trips": results, "versions": run_folder.versions()})
    differ = sum(row.get("logits_that_differ", 0) for result in results for row in result["formats"])
    if differ:
        raise WageError(f"{differ} logits differ after a round trip")


def write_c(output: Path, saved: Checkpoint, learn: bool, ram: int | None, flash: int | None) -> None:
    """Write C source and say what it takes."""
    from mappings.formats import c as c_source

    run_folder.check_writable(output)
    source = c_source.write(output, saved, learn, ram, flash)
    console.print(
        f"{saved.network}, {saved.network.n_weights:,} weights, written to {output} and"
        f" {output.with_suffix('.h').name}\n{source.constant_bytes:,} bytes of flash beside the code,"
        f" {source.ram_bytes:,} bytes of RAM beside the stack"
    )


def _table(result: dict[str, Any]) -> Table:
    table = Table(
        "format",
        "bytes",
        "float32 weights take",
        "classes that differ",
        "logits that differ",
        title=f"{result['network']} on {result['images']:,} test images of {result['data']}",
    )
    reasons: list[str] = []
    for row in result["formats"]:
        if "refused" in row:
            table.add_row(row["format"], "refused")
            reasons.append(f"{row['format']}: {row['refused']}")
        else:
            table.add_row(
                row["format"], f"{row['bytes']:,}", f"{row['float32_ratio']} x as much",
                str(row["classes_that_differ"]), str(row["logits_that_differ"]),
            )  # fmt: skip
    table.caption = "\n".join(reasons)
    return table


EXPORT, IMPORT, ROUND_TRIP = (command_of(each) for each in (export_, import_, round_trip_))
