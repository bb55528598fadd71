"""Which way leads to which machine: a table made from what was run there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.records.names import table
from experiments.studies import emulators, neurobench, ports


def machines_table(folder: Path) -> str:
    """Format, what runs it, whether it gives our answers, whether it learns there, and its size."""
    heads = "way | ran in | network, data | its answers, beside ours | learns there | size"
    rows = [*_libraries(folder), *_files(folder), *_boards(folder), *_chips(folder), *_harness(folder)]
    return table(heads, rows)


Cells = tuple[str, str, str, str, str, str]


def _libraries(folder: Path) -> Iterator[Cells]:
    for row in ports.read(folder / ports.RESULT.name):
        differ = f"logits of {row.logits_differ:,} of {row.images:,} images differ"
        yield row.to, row.runs_in, f"{row.network}, {row.data}", differ, "no", f"{row.bytes:,} bytes"


def _files(folder: Path) -> Iterator[Cells]:
    """Formats that are read back by ourselves alone, in the record of the round trip."""
    elsewhere = {row.to for row in ports.read(folder / ports.RESULT.name)}
    first = json.loads((folder / "round-trip.json").read_text())["round_trips"][0]
    for row in first["formats"]:
        if row["format"] not in elsewhere and "refused" not in row:
            differ = (
                f"{row['logits_that_differ']:,} logits of {first['images']:,} images differ, read back here"
            )
            learns = "goes on to the same bits" if row["format"] == "program" else "no"
            network = f"{first['network']}, {first['data']}"
            yield row["format"], "wage-neuro import", network, differ, learns, f"{row['bytes']:,} bytes"


def _boards(folder: Path) -> Iterator[Cells]:
    for row in json.loads((folder / "microcontroller.json").read_text())["rows"]:
        network = f"{'-'.join(map(str, row['units']))}, {row['data']}"
        same = "logits, stored weights and exponents equal"
        size = f"{row['flash_bytes']:,} bytes of flash, {row['ram_bytes']:,} of RAM"
        yield "c", f"{row['cpu']} in qemu", network, same, "yes", size


def _chips(folder: Path) -> Iterator[Cells]:
    record: dict[str, Any] = json.loads((folder / emulators.RESULT.name).read_text())
    found = record["loihi1"]
    differ = f"logits of {found['logits_differ']:,} of {found['images']:,} images differ"
    size = f"{found['compartments']:,} compartments"
    network = f"{found['network']}, {found['data']}"
    yield "weights and thresholds set by hand", f"{found['runs_in']}, Loihi 1", network, differ, "no", size
    for row in record["sana_fe"]:
        differ = (
            f"samples replayed: messages or hops of {row['samples_whose_messages_or_hops_differ']:,} of"
            f" {row['images']:,} differ from the placement's"
        )
        where = f"{row['runs_in']}, {row['chip']}"
        network = f"{row['network']}, {row['data']}"
        yield "SANA-FE's files", where, network, differ, "no", f"{row['cores']:,} cores"


def _harness(folder: Path) -> Iterator[Cells]:
    for row in neurobench.read(folder / neurobench.RESULT.name):
        counted = f"{row.effective:,.0f} effective operations a sample; our engine counts {row.counted:,.0f}"
        size = f"{row.bytes_2_bits:,} bytes of weights"
        yield "a NeuroBench model", row.by, f"{row.network}, {row.data}", counted, "no", size
