"""Whatever stands in a run folder, a record or a study is read, or refused in one line."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.commands import chip_map
from experiments.continual import command as continual
from experiments.continual import pictures, records, study
from experiments.continual.study import Config as StreamConfig
from experiments.records import findings
from experiments.records.curves import draw, read_record
from experiments.runs import run_folder
from experiments.runs.training import Config, Run
from experiments.studies import communication
from experiments.transfer import study as transfer
from wage_neuro import Rules
from wage_neuro.errors import CheckpointError, DataError, WageError

HUGE = 10**30
VALUES = [
    None,
    True,
    -1,
    1.5,
    HUGE,
    1e300,
    float("nan"),
    "",
    "8FC",
    [],
    [[1]],
    {},
    {"a": None},
    [None],
    "\ud800",
]


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """Every place in a value of JSON; of lists the first two and the last one."""
    yield path
    if isinstance(value, dict):
        for key, held in value.items():
            yield from places(held, (*path, key))
    elif isinstance(value, list):
        for i in sorted({0, 1, len(value) - 1} & set(range(len(value)))):
            yield from places(value[i], (*path, i))


def changed(whole: Any) -> Iterator[tuple[str, Any]]:
    """The value with each of its places changed to each of VALUES, and without it."""
    for path in places(whole):
        for value in (*VALUES, KeyError):
            new = copy.deepcopy(whole)
            if not path:
                if value is not KeyError:
                    yield f"all = {value!r}", value
                continue
            held = new
            for key in path[:-1]:
                held = held[key]
            if value is KeyError:
                del held[path[-1]]
            else:
                held[path[-1]] = value
            yield f"{path} = {value!r}"[:200], new


def faults(
    whole: Any, write: Callable[[Any], None], use: Callable[[], object], every: int = 1
) -> tuple[int, list]:
    """How many of the changed values were refused, and those that did not end in one line of ours."""
    refused, wrong = 0, []
    for name, value in list(changed(whole))[::every]:
        write(value)
        try:
            use()
        except WageError as error:
            refused += 1
            if "\n" in str(error) or len(str(error)) > 1500:
                wrong.append((name, str(error)))
        except Exception as error:
            wrong.append((name, repr(error)))
    return refused, wrong


def header_of(file: Path) -> tuple[dict, Callable[[Any], None]]:
    """The header of a checkpoint, and a function that writes another one in its place."""
    with np.load(file) as saved:
        arrays = dict(saved)

    def write(header: Any) -> None:
        np.savez(file, **{**arrays, "header": np.frombuffer(json.dumps(header).encode(), np.uint8)})

    return json.loads(bytes(arrays["header"])), write


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A finished run of two epochs, watched, with its record."""
    folder = tmp_path_factory.mktemp("trained")
    config = Config(
        data="digits", network="6FC", epochs=2, train_images=64, rules=Rules(batch=32, shift="held")
    )
    run = Run.start(config, folder)
    with run.engine("numpy") as engine:
        run.fit(engine, watch=1)
    run.write_record(folder / "record.json", "numpy", "wage-neuro train")
    return folder


@pytest.fixture(scope="module")
def streamed(tmp_path_factory) -> Path:
    """A study of one finished continual run, with its record."""
    folder = tmp_path_factory.mktemp("streamed")
    config = StreamConfig(
        stream="split-digits", tasks=2, memory=10, network="6FC", probes=1, task_images=20, test_images=4
    )
    run = study.Run.start(config, folder / "seed-0")
    with run.engine("numpy") as engine:
        run.fit(engine)
    continual.Study(folder, config, [0]).write()
    run_folder.write_rows(folder / "record.jsonl", run.record("numpy"))
    return folder


def test_checkpoints_of_training(trained, tmp_path):
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    header, write = header_of(tmp_path / "checkpoint.npz")

    def use() -> None:
        Run.resume(tmp_path).record("numpy", "")

    def draws() -> None:
        Run.resume(tmp_path)._write_metrics()

    refused, wrong = faults(header, write, use, every=11)
    assert not wrong
    assert refused > 65
    assert not faults(header, write, draws, every=197)[1]


def test_checkpoints_of_training_given_to_other_commands(trained, tmp_path):
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    header, write = header_of(tmp_path / "checkpoint.npz")

    def use() -> None:
        run_folder.load(tmp_path)
        transfer.Source.read(tmp_path)
        chip_map.Subject.of_run(tmp_path, None, None)
        communication.config_of(tmp_path)

    refused, wrong = faults(header, write, use, every=7)
    assert not wrong
    assert refused > 100


def test_checkpoints_of_streams(streamed, tmp_path):
    shutil.copytree(streamed, tmp_path, dirs_exist_ok=True)
    header, write = header_of(tmp_path / "seed-0" / "checkpoint.npz")

    def use() -> None:
        run = study.Run.resume(tmp_path / "seed-0")
        run.record("numpy")
        with run.engine("numpy") as engine:
            run._count(engine)

    refused, wrong = faults(header, write, use, every=7)
    assert not wrong
    assert refused > 100


def test_studies_of_streams(streamed, tmp_path):
    file = tmp_path / continual.STUDY
    whole = json.loads((streamed / continual.STUDY).read_text())
    refused, wrong = faults(
        whole, lambda v: file.write_text(json.dumps(v)), lambda: continual.Study.read(tmp_path)
    )
    assert not wrong
    assert refused > 300


def test_records_of_training(trained, tmp_path):
    file = tmp_path / "record.json"
    whole = json.loads((trained / "record.json").read_text())

    def use() -> None:
        draw(tmp_path / "curves.png", [read_record(file)])

    def read() -> None:
        read_record(file)

    refused, wrong = faults(whole, lambda v: file.write_text(json.dumps(v)), read, every=3)
    assert not wrong
    assert refused > 65
    assert not faults(whole, lambda v: file.write_text(json.dumps(v)), use, every=97)[1]


def test_records_of_streams(streamed, tmp_path):
    file = tmp_path / "x.jsonl"
    rows = [json.loads(line) for line in (streamed / "record.jsonl").read_text().splitlines()]

    def write(value: Any) -> None:
        file.write_text("".join(json.dumps(row) + "\n" for row in value) if isinstance(value, list) else "5")

    refused, wrong = faults(rows, write, lambda: records.read(file), every=3)
    assert not wrong
    assert refused > 50
    assert not faults(
        rows, write, lambda: pictures.draw(tmp_path / "x.png", records.read(file), []), every=97
    )[1]


def test_records_of_transfer(tmp_path):
    file = tmp_path / "record.jsonl"
    head = {
        "kind": "transfer", "config": {"data": "digits", "examples": "1, all", "seed": 0, "seeds": 1},
        "from": "mnist", "network": "F-8FC-10FC", "measured_on": "test", "training_images": 9, "classes": 10,
        "data_sha256": "0",
    }  # fmt: skip
    rows = [head, {"kind": "result", "seed": 0, "examples": "1", "learner": "scratch", "accuracy": 0.5}]

    def write(value: Any) -> None:
        file.write_text("".join(json.dumps(row) + "\n" for row in value) if isinstance(value, list) else "5")

    refused, wrong = faults(rows, write, lambda: transfer.read(file))
    assert not wrong
    assert refused > 100


def test_records_of_experiments_are_skipped(trained, tmp_path):
    file = tmp_path / "record.json"
    record = json.loads((trained / "record.json").read_text())
    whole = {"experiment": "mnist-lenet", "setting": "2888", "scale": "", **record}

    def use() -> None:
        found, warnings = findings.read(tmp_path)
        assert len(found) + len(warnings) == 1
        for one in findings.arranged(found):
            assert one.rows

    assert not faults(whole, lambda v: file.write_text(json.dumps(v)), use, every=2)[1]


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "1" * 5000, "\x00", "\xff", '{"a":' * 50_000, "", "null", "{}"]
)
def test_files_that_are_hardly_json(text, tmp_path):
    for name, use, problem in (
        ("record.json", read_record, DataError),
        ("record.jsonl", records.read, DataError),
        ("record.jsonl", lambda path: transfer.read(path / "record.jsonl"), DataError),
        ("study.json", continual.Study.read, CheckpointError),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(problem, match=rf"^{tmp_path}/{name}: damaged [^\n]*$"):
            use(tmp_path)
