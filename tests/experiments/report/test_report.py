"""`wage-neuro report`: one page that stands alone, its numbers those of the run."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from experiments import datasets
from experiments.report import page, training
from experiments.report.confusion import Confusion
from experiments.runs import run_folder
from experiments.runs.training import Run, predict_all
from wage_neuro import NumpyEngine
from wage_neuro.checkpoint import load

SECTIONS = [
    "Learning", "Answers", "Weights over time", "Activity", "One image up, its error down",
    "On the chip Loihi 2", "What a sample costs", "Settings",
]  # fmt: skip


@pytest.fixture(scope="module")
def answers(trained):
    """Labels and answers of the run, computed here."""
    saved, data = load(trained / run_folder.CHECKPOINT), datasets.load("digits")
    engine = NumpyEngine(saved.network, saved.rules, state=saved.state)
    return data.test_labels, predict_all(engine, data.test_images).argmax(axis=1)


def test_a_training_run(trained, answers, shown):
    assert shown.headings == SECTIONS
    assert len(shown.text.encode()) < page.MOST_BYTES
    labels, found = answers
    buttons = {b["data-cell"]: b for b in shown.of("button") if "data-cell" in b}
    cells = {f"{a},{b}" for a, b in zip(labels.tolist(), found.tolist(), strict=True)}
    assert set(buttons) == cells
    for cell in cells:
        label, answer = map(int, cell.split(","))
        count = int(((labels == label) & (found == answer)).sum())
        assert f"{count:,} images of {label} taken for {answer}" == buttons[cell]["aria-label"]
    right = int((labels == found).sum())
    assert f"{right} of {len(labels)} test images are answered rightly" in shown.said
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert f"test accuracy {100 * rows[-1]['accuracy']:.2f} %".capitalize() in shown.said
    assert (
        f"training {100 * rows[-1]['train_error']:.2f} %, test {100 * rows[-1]['error']:.2f} %" in shown.said
    )
    assert "wage-neuro train --the <command> & more" in shown.said  # as text, not as a tag
    assert "sha-256 of the data" in shown.said


def test_the_images_behind_a_cell_are_its_images(answers, shown):
    text = shown.text
    known = json.loads(re.search(r'\}\)\((\{"cells".*\})\);</script>', text)[1])
    labels, found = answers
    images = datasets.load("digits").test_images
    with Image.open(io.BytesIO(base64.b64decode(known["sheet"].partition(",")[2]))) as sheet:
        pixels = np.asarray(sheet)
    place = 0
    for cell, numbers in known["cells"].items():
        label, answer = map(int, cell.split(","))
        for number in numbers:
            assert (labels[number], found[number]) == (label, answer)
            row, column = divmod(place, known["columns"])
            tile = pixels[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            assert np.array_equal(tile, images[number, ..., 0])
            place += 1
    assert place > 50


def test_it_stands_alone_and_says_what_it_shows(shown):
    assert shown.loaded == []
    policy = next(m["content"] for m in shown.of("meta") if m.get("http-equiv"))
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert shown.of("html")[0]["lang"] == "en"
    assert all(image["alt"] for image in shown.of("img"))
    assert all(d["aria-label"] for d in shown.of("div") if d.get("role") == "img")
    labels = {label["for"] for label in shown.of("label")}
    assert {s["id"] for s in shown.of("select")} <= labels
    links = {a["href"][1:] for a in shown.of("a")}
    assert links == {h["id"] for h in shown.of("h2")}
    ids = [attributes["id"] for _, attributes in shown.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_every_energy_has_its_grade(trained, page_of):
    said = page_of(trained, "--chip", "loihi1").said
    assert "On the chip Loihi 1" in said
    assert said.count("S: Davies et al.") >= 5
    assert "Grades of evidence: S seen in public source" in said
    assert "it does not fit" in said  # a batch learns
    assert "a maximum over the batch" in said


def test_a_run_without_counts_of_before_has_its_first_and_last_weights(trained, page_of, tmp_path):
    folder = tmp_path / "old"
    shutil.copytree(trained, folder)
    (folder / "weights.jsonl").unlink()
    (folder / "record.json").unlink()
    shown = page_of(folder)
    assert "after each of 2 epochs" in shown.said
    assert "Command, one that makes the same run wage-neuro train" in shown.said


def test_a_run_whose_data_are_not_here(helpers, page_of, wage_neuro, tmp_path):
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "mine.npz", images=rng.integers(0, 256, (90, 8, 8), np.uint8), labels=np.arange(90) % 3
    )
    config = replace(helpers.small(), data=str(tmp_path / "mine.npz"), epochs=1, train_images=None)
    helpers.fit(Run.start(config, tmp_path / "run"))
    assert "Answers" in page_of(tmp_path / "run").headings
    (tmp_path / "mine.npz").unlink()
    shown = page_of(tmp_path / "run")
    assert "The images are not here" in shown.said
    assert [h for h in SECTIONS if h not in shown.headings] == [SECTIONS[4], SECTIONS[5], SECTIONS[6]]
    np.savez(
        tmp_path / "mine.npz", images=rng.integers(0, 256, (90, 8, 8), np.uint8), labels=np.arange(90) % 3
    )
    assert "other data than it has learned from" in page_of(tmp_path / "run").said


def test_a_run_with_no_epoch_yet(helpers, page_of, tmp_path):
    helpers.fit(Run.start(helpers.small(), tmp_path / "run"), stop=(0, 32))
    shown = page_of(tmp_path / "run")
    assert "No epoch is finished yet" in shown.said
    assert "0 of 3 epochs" in shown.said


LEARNER = ("continual", "split-digits", "--network", "16FC", "--probes", 3, "--engine", "numpy", "--run", "r")


def test_a_continual_run(page_of, wage_neuro, tmp_path):
    assert wage_neuro(*LEARNER, "--seeds", 2, "--method", "replay", "--memory", 20).code == 0
    shown = page_of(tmp_path / "r")
    head = [
        "What stays",
        "Accuracy so far",
        "Measures",
        "On the chip Loihi 2",
        "What a sample costs",
        "Settings",
    ]
    assert shown.headings == head
    rows = [json.loads(line) for line in (tmp_path / "r" / "record.jsonl").read_text().splitlines()]
    known = json.loads(re.search(r'\}\)\((\{"R".*\})\);</script>', shown.text)[1])
    R = np.array([r["accuracy"] for r in rows if r["kind"] == "accuracy" and r["trained"] is not None])
    R = 100 * R.reshape(2, 5, 5)
    assert np.allclose(known["R"], [R.mean(axis=0), *R], atol=0.051)
    assert known["tasks"] == ["0 1", "2 3", "4 5", "6 7", "8 9"]
    for run in (row for row in rows if row["kind"] == "run"):
        assert f"{run['ACC']:.2f}" in shown.said
    assert "wage-neuro continual split-digits" in shown.said
    assert shown.loaded == []


def test_a_long_run_shows_what_was_measured_and_no_more(page_of, wage_neuro, tmp_path, monkeypatch):
    words = (
        "permuted-digits",
        "--scenario",
        "domain",
        "--tasks",
        12,
        "--task-images",
        20,
        "--test-images",
        10,
    )
    words = ("continual", *words, *LEARNER[2:], "--method", "naive", "--measured", 2)
    assert wage_neuro(*words).code == 0
    shown = page_of(tmp_path / "r")
    assert not re.search(r"\bnan\b", shown.said, re.IGNORECASE)
    known = json.loads(re.search(r'\}\)\((\{"R".*\})\);</script>', shown.text)[1], parse_constant=pytest.fail)
    places = {
        (i, j) for i, row in enumerate(known["R"][0]) for j, value in enumerate(row) if value is not None
    }
    assert places == {(i, j) for i in range(12) for j in range(12) if i == 11 or i - 1 <= j <= i}
    rows = [json.loads(line) for line in (tmp_path / "r" / "record.jsonl").read_text().splitlines()]
    last = [row["accuracy"] for row in rows if row.get("trained") == 11]
    assert known["R"][0][-1] == pytest.approx([100 * accuracy for accuracy in last], abs=0.051)
    monkeypatch.setattr("experiments.report.stream.MOST_DRAWN", 11)
    shown = page_of(tmp_path / "r")
    assert shown.headings[0] == "What stays"
    assert 'id="matrix"' not in shown.text
    assert f"Accuracy on each of 12 tasks at the end; on the last one {100 * last[-1]:.1f} %." in shown.said


def test_several_runs_are_compared(helpers, page_of, tmp_path):
    for eta in ("8", "2"):
        run = helpers.fit(Run.start(helpers.small(epochs=2, eta=eta), tmp_path / "runs" / f"eta-{eta}"))
        run.write_record(run.folder / "record.json", "numpy", "")
    unfinished = tmp_path / "runs" / "zero"
    helpers.fit(Run.start(helpers.small(), unfinished), stop=(0, 32))
    shown = page_of(tmp_path / "runs")
    accuracy = {
        name: json.loads((tmp_path / "runs" / name / "record.json").read_text())["accuracy_last"]
        for name in ("eta-8", "eta-2")
    }
    first, second = sorted(accuracy, key=lambda name: -accuracy[name])
    assert shown.said.index(f"{first} eta=") < shown.said.index(f"{second} eta=")
    assert f"{100 * accuracy[first]:.2f} %" in shown.said
    assert "left out: " in shown.said
    assert "no epoch is finished yet" in shown.said
    cells = [row for row in re.findall(r"<tr>.*?</tr>", shown.text) if "eta-8" in row]
    assert "batch" not in cells[0]  # which does not differ
    assert shown.headings == ["Side by side", "Learning curves", "What all have in common", "Versions"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("none",), "none: no such checkpoint"),
        (("empty",), "empty: no run in it; want the folder of one"),
        (("file",), "file: a file; want the folder that it is in"),
        (("digits",), "digits: no such checkpoint; it is a data set"),
        (("study",), "study: a continual run that has not ended"),
        (("broken",), "broken/checkpoint.npz: "),
        (("record",), "record/record.jsonl: damaged record of continual runs"),
        (("empty", "--chip", "loihi3"), "--chip 'loihi3': want loihi1, loihi2"),
        (("run", "--output", "no/such/page.html"), "no/such/page.html: cannot write there"),
        (("run", "--engine", "numpi"), "--engine 'numpi': want"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(words, message, trained, wage_neuro, tmp_path):
    for name in ("empty", "study", "broken", "record"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").write_text("hello")
    (tmp_path / "study" / "study.json").write_text("{}")
    (tmp_path / "broken" / "checkpoint.npz").write_text("hello")
    (tmp_path / "record" / "record.jsonl").write_text("hello\n")
    shutil.copytree(trained, tmp_path / "run")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    ended = wage_neuro("report", *words)
    assert ended.code == 1
    assert message in ended.err
    assert ended.err.count("\n") == 1
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_counts_of_another_network_are_refused(trained, wage_neuro, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / "weights.jsonl").write_text('{"epoch": 0, "stored": [[1]], "visible": [[1]]}\n')
    ended = wage_neuro("report", "run", "--engine", "numpy")
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert "weights.jsonl: damaged counts of a run's weights" in ended.err
    assert not (tmp_path / "run" / "report.html").exists()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"engine": [1], "command": {"a": 1}, "versions": ["<b>"]}', '{"versions": {"<b>": 1}}'],
)
def test_a_damaged_record_leaves_the_rest(text, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / "record.json").write_text(text)
    run = training.Subjected.read(tmp_path / "run", None, "numpy")
    assert "2 of 2 epochs" in training._lead(run)
    html = "".join(part for part in training._settings(run) if isinstance(part, str))
    assert "<b>" not in html
    assert "sha-256 of the data" in html


def test_without_bokeh_it_says_so(trained, wage_neuro, monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "bokeh", None)
    ended = wage_neuro("report", trained, "--output", "page.html")
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert "pip install 'wage-neuro[report]'" in ended.err
    assert not list(tmp_path.iterdir())


def test_names_cannot_end_a_script():
    assert "</script" not in page.script("raster.js", {"name": "</script><b>"})
    assert "<b>" not in page.table(["<b>"], [["<b>", "<i>"][:1]])
    assert "<b>" not in page.words("<b>") + page.facts({"<b>": "<b>"}, "<b>") + page.picture(b"", '"<b>')


def test_many_classes_are_a_list_of_mistakes():
    images = np.zeros((120, 4, 4, 3), np.uint8)
    labels = np.arange(120) % 40
    data = replace(
        datasets.load("digits"), train_images=images, test_images=images, train_labels=labels,
        test_labels=labels, classes=40, names=None,
    )  # fmt: skip
    answers = labels.copy()
    answers[[3, 43, 5]] = 7
    confusion = Confusion(data, answers, "test")
    html = "".join(part for part in confusion.parts() if isinstance(part, str))
    assert "The 2 most frequent mistakes" in html
    assert html.index('data-cell="3,7"') < html.index('data-cell="5,7"')
    assert set(confusion.kept()) == {"3,7", "5,7"}
    assert confusion.script()


def test_a_network_that_is_always_right_can_be_shown():
    data = datasets.load("digits")
    confusion = Confusion(data, data.test_labels.copy(), "test")
    assert "360 of 360" in str(confusion.parts()[0])
    assert confusion.script()
    assert len(confusion.examples(10)) == 10


def test_images_are_left_out_until_the_sheet_is_small_enough():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4000, 32, 32, 3), np.uint8)
    labels = np.arange(4000) % 10
    data = replace(
        datasets.load("digits"),
        train_images=images,
        test_images=images,
        train_labels=labels,
        test_labels=labels,
    )
    confusion = Confusion(data, rng.integers(0, 10, 4000), "test")
    kept = [i for cell in confusion.kept().values() for i in cell]
    assert len(confusion._sheet(kept)) <= 1_200_000
    assert len(set(kept)) == len(kept) >= 100
