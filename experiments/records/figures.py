"""The committed pictures, drawn from the committed records. `make readme` draws; a test holds them equal."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks import scaling
from experiments.commands import raster
from experiments.commands.chip_map import Report
from experiments.continual import hardware, pictures, records
from experiments.continual.table import floats
from experiments.records import curves, findings
from experiments.records.figure import SHOWN, shown_in
from experiments.records.readme import RESULTS, pages, with_tables
from experiments.runs import run_folder
from experiments.studies import communication
from experiments.transfer import pictures as transfer_pictures
from experiments.transfer.study import read as read_transfer
from wage_neuro.files import written_whole

Draw = Callable[[Path], None]

LEVEL = 96.3, "backpropagation on Loihi"
CONTINUAL = {
    "split-mnist-class-replay-2000": (
        "split-mnist-class-prototypes-2000",
        "split-mnist-class-naive",
        "split-mnist-class-joint",
    ),
    "permuted-mnist-6000-consolidation": ("permuted-mnist-6000-metaplastic", "permuted-mnist-6000-naive"),
}
"""Continual records that have a picture, with those drawn beside them."""
ALMOST = 25
"""Difference of two grey levels of 0..255 that an edge may have where another machine drew it."""


def figures(folder: Path = RESULTS) -> dict[str, Draw]:
    """How to draw each picture of a folder of records, by its place in there."""
    found: dict[str, Draw] = {}
    if onchip := sorted(folder.glob("onchip/mnist-*.json")):
        found["mnist-onchip.png"] = lambda path: curves.draw(path, [*map(_read, onchip)], *LEVEL)
    if (lenet := folder / "mnist-lenet-lava.json").exists():
        found["mnist-lenet-lava.png"] = partial(_draw_lenet, lenet)
    if (sent := folder / "mnist-lenet-communication.json").exists():
        found["mnist-lenet-communication.png"] = lambda path: communication.draw(path, _read(sent))
    if (measured := folder / "scaling.json").exists():
        found["scaling.png"] = lambda path: scaling.draw(path, _read(measured))
    for name, beside in CONTINUAL.items():
        paths = [folder / "continual" / f"{each}.jsonl" for each in (name, *beside)]
        if paths[0].exists():
            found[f"continual/{name}.png"] = partial(_draw_continual, paths)
    if sizes := sorted((folder / "continual").glob("split-mnist-*.jsonl")):
        found["continual/split-mnist-bytes.png"] = partial(_draw_bytes, folder, sizes)
    if (folder / "continual" / f"{next(iter(CONTINUAL))}.jsonl").exists():
        found["continual/learning-cost.png"] = lambda path: hardware.draw(path, hardware.of_stream(folder))
    for path in sorted(folder.glob("transfer/*.jsonl")):
        found[f"transfer/{path.stem}.png"] = partial(_draw_transfer, path)
    if (kept := folder / "experiments").is_dir():
        for each in findings.arranged(findings.read(kept)[0]):
            found[f"experiments/{each.file_name}"] = partial(findings.draw, found=each)
    for path in sorted(folder.glob("raster/*.json")):
        found[f"raster/{path.stem}.png"] = partial(_draw_raster, path)
    for path in sorted(folder.glob("chip/*/*.json")):
        if _read(path)["cost"]:
            found[str(path.relative_to(folder).with_suffix(".png"))] = partial(_draw_map, path)
    return found


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def _draw_lenet(record: Path, path: Path) -> None:
    of, title = _read(record), "LeNet learns MNIST inside Lava: ternary weights, 8-bit codes, all integers"
    run_folder.draw_curve(path, title, of["curve"], of["measured_on"])


def _draw_continual(paths: list[Path], path: Path) -> None:
    of, *beside = map(records.read, paths)
    pictures.draw(path, of, beside)


def _draw_bytes(folder: Path, paths: list[Path], path: Path) -> None:
    """SplitMNIST, class-incremental, each record that replays, or keeps sums, on test images."""
    read = [records.read(each) for each in paths]
    found = [each for each in read if each.runs[0]["config"]["method"] in pictures.BY_BYTES]
    if found:
        pictures.draw_bytes(
            path, [each for each in found if each.runs[0]["measured_on"] == "test"], floats(folder)
        )


def _draw_transfer(record: Path, path: Path) -> None:
    transfer_pictures.draw(path, read_transfer(record))


def _draw_raster(values: Path, path: Path) -> None:
    kept = _read(values)
    raster.draw(path, raster.Activity.from_json(kept), kept["title"])


def _draw_map(report: Path, path: Path) -> None:
    Report.from_json(_read(report)).draw(path)


def stale(drawn: Path, folder: Path = RESULTS) -> dict[str, Path | None]:
    """Draw all pictures into the folder `drawn`; return those that are not what is kept.

    Each with where it was drawn, or None where a picture is kept that no record makes.
    """
    for name, draw in figures(folder).items():
        path = drawn / name
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(path)
    wanted, kept = pictures_in(drawn), pictures_in(folder)
    found: dict[str, Path | None] = dict.fromkeys(sorted(kept - wanted))
    for name in sorted(wanted):
        if name not in kept or not same_picture(drawn / name, folder / name):
            found[name] = drawn / name
    return found


def pictures_in(folder: Path) -> set[str]:
    """Names of the pictures in a folder and those in it."""
    return {str(path.relative_to(folder)) for form in ("png", "svg") for path in folder.rglob(f"*.{form}")}


def same_picture(one: Path, other: Path) -> bool:
    """Whether two files show the same.

    That is texts and data; of PNG files all points too, but for the last bits of their edges, where the same
    matplotlib drew both.
    """
    from PIL import Image

    if one.suffix == ".svg":
        return shown_in(one) == shown_in(other)
    with Image.open(one) as a, Image.open(other) as b:
        if a.info.get(SHOWN) != b.info.get(SHOWN):
            return False
        if a.info.get("Software") != b.info.get("Software"):
            return True
        return a.size == b.size and bool(np.abs(np.asarray(a, int) - np.asarray(b, int)).max() <= ALMOST)


def main() -> None:
    """Rewrite the READMEs' tables, and every picture that is not what its records say."""
    for page, text in with_tables(pages()).items():
        run_folder.write_text(page, text)
    with tempfile.TemporaryDirectory() as drawn:
        for name, path in stale(Path(drawn)).items():
            if path is None:
                print(f"{name}: no record makes it")
                continue
            with written_whole(RESULTS / name) as file:
                file.write(path.read_bytes())
            print(f"{name}: drawn anew")


if __name__ == "__main__":
    main()
