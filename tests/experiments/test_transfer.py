"""Transfer studies: what is drawn, where learners begin, going on after a stop, what is refused."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from experiments import datasets
from experiments.records.readme import transfer_table
from experiments.runs.training import Config as Training
from experiments.runs.training import Run
from experiments.transfer import pictures, study
from experiments.transfer.study import Config, Source, Study, draw_examples
from wage_neuro import checkpoint
from wage_neuro.errors import CheckpointError, DataError, SettingError
from wage_neuro.rules import Rules

SMALL = Config(data="digits:5-9", examples="1, 3, all", seeds=2, passes=3, samples=200, eta="4, 1@50%")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Runs on digits 0 to 4: a dense net and a convolutional one."""
    folder = tmp_path_factory.mktemp("trained")
    for network in ("16FC", "4C3-MP2-12FC"):
        rules = Rules(batch=32, stored_range="paper")
        run = Run.start(Training(data="digits:0-4", network=network, epochs=4, rules=rules), folder / network)
        (folder / network).mkdir()
        with run.engine("numpy") as engine:
            run.fit(engine)
    return folder


def test_classes_are_numbered_anew():
    whole, part = datasets.load("digits"), datasets.load("digits:3-6")
    mine = (whole.train_labels >= 3) & (whole.train_labels <= 6)
    assert np.array_equal(part.train_images, whole.train_images[mine])
    assert np.array_equal(part.train_labels, whole.train_labels[mine] - 3)
    assert (part.classes, set(part.test_labels.tolist()), part.name) == (4, {0, 1, 2, 3}, "digits:3-6")
    for text, message in (
        ("digits:6-10", "has classes 0-9"),
        ("digits:6-5", "classes 6-5"),
        ("cats:1-2", "want digits"),
    ):
        with pytest.raises(DataError, match=message):
            datasets.load(text)


def test_examples_are_nested_and_as_many_of_each_class():
    labels = datasets.load("digits").train_labels
    drawn = [draw_examples(labels, shot, seed=4) for shot in ("1", "5", "25", "all")]
    for few, more in pairwise(drawn):
        assert set(few.tolist()) < set(more.tolist())
    for shot, chosen in zip((1, 5, 25), drawn, strict=False):
        assert np.bincount(labels[chosen]).tolist() == [shot] * 10
    assert sorted(drawn[-1].tolist()) == list(range(len(labels)))
    assert set(draw_examples(labels, "5", seed=5).tolist()) != set(drawn[1].tolist())


@pytest.mark.parametrize(("network", "head"), [("16FC", 1), ("4C3-MP2-12FC", 1), ("4C3-MP2-12FC", 2)])
def test_where_learners_begin_and_what_stays(trained, network, head, tmp_path, monkeypatch):
    source = Source.read(trained / network)
    built = source.with_outputs(5)
    starts = {learner: source.state(built, learner, 7) for learner in study.LEARNERS}
    for learner in ("pretrained", "frozen"):
        assert all(np.array_equal(a, b) for a, b in zip(starts[learner].S[:-1], source.S[:-1], strict=True))
    assert not np.array_equal(starts["scratch"].S[0], source.S[0])
    assert len({start.S[-1].tobytes() for start in starts.values()}) == 1
    ended = []

    class Watched:
        def __init__(self, engine):
            self.engine = engine

        def __enter__(self):
            return self.engine

        def __exit__(self, *_):
            ended.append(self.engine.state)

    make = study.make_engine
    monkeypatch.setattr(study, "make_engine", lambda *words: Watched(make(*words)))
    config = replace(SMALL, seed=7, seeds=1, examples="3", head=head)
    assert Study.start(trained / network, config, tmp_path / "s", "numpy").run("numpy")
    changed = [
        [not np.array_equal(a, b) for a, b in zip(state.S, starts[learner].S, strict=True)]
        for state, learner in zip(ended, study.LEARNERS, strict=True)
    ]
    frozen = [False] * (len(built.layers) - head) + [True] * head
    assert changed == [[True] * len(frozen), frozen, [True] * len(frozen)]
    assert [state.step for state in ended] == [45] * 3


def test_images_of_another_form_are_shown_as_the_network_knows_them(trained, tmp_path):
    rng = np.random.default_rng(3)
    images, labels = rng.integers(0, 256, (40, 16, 12, 1), np.uint8), np.arange(40) % 4
    np.savez(tmp_path / "tall.npz", images=images, labels=labels)
    source, config = Source.read(trained / "16FC"), Config(data=str(tmp_path / "tall.npz"))
    shown, given = source.shown(config, None), datasets.load(config.data)
    assert shown.name.endswith("tall, shown as 8 x 8 x 1, unsigned")
    for mine, whole in ((shown.train_images, given.train_images), (shown.test_images, given.test_images)):
        for image, large in zip(mine, whole, strict=True):
            blocks = [large[2 * y : 2 * y + 2, 2 * x : 2 * x + 2] for y in range(8) for x in range(6)]
            means = [int(block.sum() / 4 + 0.5) for block in blocks]
            assert image[:, 1:7].ravel().tolist() == means
            assert not image[:, [0, 7]].any()
    assert source.shown(Config(data="digits:5-9"), None).name == "digits:5-9"


def test_a_study_goes_on_where_it_was_stopped(trained, tmp_path):
    whole = Study.start(trained / "16FC", SMALL, tmp_path / "whole", "numpy")
    assert whole.run("numpy")
    part = Study.start(trained / "16FC", SMALL, tmp_path / "part", "numpy")
    for _ in range(3):
        seen = []

        def report(cell, samples, part=part, seen=seen):
            seen.append(cell)
            part.stop_wanted = len(set(seen)) > 2

        finished = part.run("numpy", report)
        part = Study.resume(tmp_path / "part")
    assert not finished
    assert part.run("numpy")
    assert part.rows[1:] == whole.rows[1:]
    assert len(whole.rows) == 1 + 2 * 3 * 3
    assert [row["samples"] for row in whole.rows[1:10:3]] == [15, 45, 717]


class DiedError(Exception):
    """As if the process had been killed."""


@pytest.mark.parametrize(
    ("how", "learner"), [("stopped", "pretrained"), ("killed", "frozen"), ("killed", "scratch")]
)
def test_a_cell_goes_on_in_its_middle(trained, how, learner, tmp_path, monkeypatch):
    config = replace(SMALL, seeds=1, examples="all", samples=1500)  # two passes of 717, each of two parts
    begun = Study.start(trained / "16FC", config, tmp_path / "s", "numpy")
    cell = study.Cell("all", learner, 0)
    wanted = begun.learn("numpy", lambda cell, seen: None, cell)
    assert not (tmp_path / "s" / "cells").exists()
    if how == "killed":
        monkeypatch.setattr(study, "SAVE_EVERY_S", 0)

    def end(_, seen):
        if seen == 717 + 500:
            if how == "killed":
                raise DiedError
            begun.stop_wanted = True

    with pytest.raises(DiedError) if how == "killed" else nullcontext():
        assert begun.learn("numpy", end, cell) is None
    there = Study.resume(tmp_path / "s")
    seen = []
    assert there.learn("numpy", lambda _, samples: seen.append(samples), cell) == wanted
    # killed: its last part is lost
    assert seen == ([1217, 1434] if how == "killed" else [1434])


def test_what_is_kept_of_cells(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "SAVE_EVERY_S", 0)
    config = replace(SMALL, seeds=1, examples="all", samples=1)
    begun = Study.start(trained / "16FC", config, tmp_path / "s", "numpy")
    assert begun.run("numpy")
    assert list((tmp_path / "s" / "cells").iterdir()) == []
    (tmp_path / "s" / "record.jsonl").unlink()
    (tmp_path / "s" / "checkpoint.npz").unlink()
    with pytest.raises(SettingError, match="holds a study already; --resume"):
        Study.start(trained / "16FC", config, tmp_path / "s", "numpy")
    cell, other = study.Cell("all", "frozen", 0), study.Cell("all", "scratch", 0)
    saved = checkpoint.load(trained / "16FC" / "checkpoint.npz")
    path = begun.folder / cell.checkpoint
    for spoil, line in (
        (lambda: checkpoint.save(path, saved), "cell: is missing"),
        (lambda: begun._keep(cell, saved, 5), r"it is of .*'frozen'.*; want .*'frozen'"),
        (lambda: (begun._keep(other, saved, 5), (begun.folder / other.checkpoint).rename(path)), "scratch"),
    ):
        spoil()
        with pytest.raises(
            CheckpointError, match=rf"frozen-all-s0\.npz: damaged cell of a transfer study.*{line}"
        ):
            begun.learn("numpy", lambda cell, seen: None, cell)


def test_trained_features_are_worth_more_than_drawn_ones(trained, tmp_path):
    config = replace(SMALL, data="digits:0-4", examples="5", passes=40, samples=1000, eta="8, 2@50%")
    rows = Study.start(trained / "16FC", config, tmp_path / "s", "numpy")
    rows.run("numpy")
    found = {name: np.mean(study.accuracies(rows.rows, name, "5")) for name in study.LEARNERS}
    assert found["frozen"] > 80
    assert found["frozen"] > found["scratch"]


def test_command_stops_resumes_and_makes_the_table(wage_neuro, trained, tmp_path, monkeypatch):
    used = []
    words = ("--data", "digits:5-9", "--examples", "1,all", "--seeds", 2, "--passes", 1, "--engine", "numpy")
    ended = wage_neuro("transfer", trained / "16FC", *words, "--run", "t", "--record", "transfer/one.jsonl")
    assert "cannot write there" in ended.err
    (tmp_path / "transfer").mkdir()
    ended = wage_neuro("transfer", trained / "16FC", *words, "--run", "t", "--record", "transfer/one.jsonl")
    assert (ended.code, ended.err) == (0, "")
    assert "digits:0-4 to digits:5-9" in ended.out
    assert (tmp_path / "t" / "transfer.png").read_bytes().startswith(b"\x89PNG")
    record = (tmp_path / "t" / "record.jsonl").read_text()
    assert (tmp_path / "transfer" / "one.jsonl").read_text() == record
    lines = record.splitlines(keepends=True)
    (tmp_path / "t" / "record.jsonl").write_text("".join(lines[:-2]))
    monkeypatch.setattr(
        Study,
        "run",
        lambda self, engine, *more, run=Study.run: used.append(engine) or run(self, engine, *more),
    )
    again = wage_neuro("transfer", "--resume", "t")
    assert used == ["numpy"]  # as it was begun
    assert (again.code, (tmp_path / "t" / "record.jsonl").read_text()) == (0, record)
    rows = study.read(tmp_path / "t" / "record.jsonl")
    table = transfer_table(tmp_path).splitlines()
    assert table[0] == "| from, to | network | start | 1 | all |"
    for learner, line in zip(study.LEARNERS, table[2:], strict=True):
        values = study.accuracies(rows, learner, "all")
        assert line.endswith(f"| {np.mean(values):.1f} ± {np.std(values, ddof=1):.1f} |")
    pictures.draw(tmp_path / "x.png", rows)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "no trained network: want the folder of a run, such as wage-neuro transfer"),
        (("RUN",), "no data: want --data NAME"),
        (("nowhere", "--data", "digits"), "nowhere: no such checkpoint"),
        (("RUN", "--data", "digits:8-12"), "classes 8-12: digits has classes 0-9"),
        (("RUN", "--data", "digits", "--examples", "0"), "examples '0': want numbers of 1 or more, or all"),
        (("RUN", "--data", "digits", "--examples", "5, 900"), "examples 900: a class has 1"),
        (("RUN", "--data", "digits", "--seeds", 0), "--seeds 0: want 1 or more"),
        (("RUN", "--data", "digits", "--head", 3), "--head 3: want 1..2, its layers"),
        (("RUN", "--data", "digits", "--eta", "8, 2@7"), "want a whole percentage"),
        (("RUN", "--data", "digits", "--margin", "2"), "--margin 2: want a share"),
        (
            ("RUN", "--data", "wide.npz"),
            "images of 9 x 8 x 1, unsigned: cannot be shown as 8 x 8 x 1, unsigned",
        ),
        (("--resume", "nowhere"), "nowhere/record.jsonl: no transfer study to read"),
        (("RUN", "--resume", "nowhere"), "RUN with --resume: a resumed run keeps its settings"),
    ],
)
def test_bad_words_end_with_one_line(wage_neuro, trained, tmp_path, words, message):
    np.savez(tmp_path / "wide.npz", images=np.full((40, 9, 8, 1), 255, np.uint8), labels=np.arange(40) % 4)
    words = [trained / "16FC" if word == "RUN" else word for word in words]
    ended = wage_neuro("transfer", *words)
    assert (ended.code, len(ended.err.splitlines())) == (1, 1)
    assert message in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["wide.npz"]


def test_studies_that_cannot_go_on(trained, tmp_path):
    folder = tmp_path / "s"
    Study.start(trained / "16FC", SMALL, folder, "numpy")
    with pytest.raises(SettingError, match="holds a study already; --resume"):
        Study.start(trained / "16FC", SMALL, folder, "numpy")
    text = (folder / "record.jsonl").read_text()
    for damage, message in (
        (text[:50], "damaged"),
        ("", "damaged"),
        ("7\n", "damaged"),
        (text.replace('"passes"', '"passages"'), r"line 1\.config\.passages=3: want eta, "),
        (text.replace('"data_sha256": "', '"data_sha256": "0'), "has changed since"),
    ):
        (folder / "record.jsonl").write_text(damage)
        with pytest.raises(CheckpointError, match=message):
            Study.resume(folder)
    (folder / "record.jsonl").write_text(text)
    assert len(Study.resume(folder).left) == 18
    assert checkpoint.load(folder / "checkpoint.npz").network.classes == 5
