"""Tables and pictures from the records of experiments, and records that are none."""

from __future__ import annotations

import json

import pytest

from experiments.commands import paper as findings_command
from experiments.commands.presets import EXPERIMENTS
from experiments.records.findings import PUBLISHED, arranged, draw, markdown, read
from experiments.records.readme import RESULTS
from wage_neuro.errors import DataError


def record_of(experiment, setting, seed=0, errors=(0.5, 0.2, 0.25), scale="epochs=3"):
    return {
        "experiment": experiment,
        "setting": setting,
        "scale": scale,
        "network": "8C3-MP2-F-10FC",
        "measured_on": "test",
        "config": {"data": "cifar-10", "seed": seed},
        "curve": [{"error": error} for error in errors],
        "accuracy_last": 1 - errors[-1],
        "accuracy_best": 1 - min(errors),
    }


@pytest.fixture
def folder(tmp_path):
    """Three settings of a sweep, one with two seeds, in the wrong order."""
    place = tmp_path / "records"
    place.mkdir()
    for setting, seed, last in (
        ("k_G=12", 0, 0.3),
        ("k_G=2", 0, 0.9),
        ("k_G=8", 1, 0.27),
        ("k_G=8", 0, 0.25),
    ):
        record = record_of("gradient-bits", setting, seed, (0.5, 0.2, last))
        (place / f"{setting}-s{seed}.json").write_text(json.dumps(record))
    return place


def test_a_table(folder):
    (found,) = arranged(read(folder)[0])
    assert found.title == "gradient-bits, cifar-10, test error, epochs=3"
    assert found.rows == [
        ("k_G=2", 1, "90.00", "20.00", "54.22"),
        ("k_G=8", 2, "26.00 ± 1.41", "20.00 ± 0.00", "6.78"),
        ("k_G=12", 1, "30.00", "20.00", "6.57"),
    ]
    assert "| k_G=8 | 2 | 26.00 ± 1.41 | 20.00 ± 0.00 | 6.78 |" in markdown(folder)


def test_scales_stand_apart():
    records = [record_of("patterns", "2888", scale=scale) for scale in ("", "epochs=3", "epochs=1,width=1/4")]
    found = arranged([*records, record_of("mnist-lenet", "2888")])
    assert [each.file_name for each in found] == [
        "mnist-lenet-epochs=3.png",
        "patterns-paper.png",
        "patterns-epochs=3.png",
        "patterns-epochs=1,width=1-4.png",
    ]
    assert found[1].title == "patterns, cifar-10, test error, the paper's size"


def test_of_a_seed_the_last_record_counts():
    (found,) = arranged(record_of("patterns", "2888", errors=(error,)) for error in (0.5, 0.4))
    assert found.rows[0][1:3] == (1, "40.00")


def test_published_numbers_are_named_for_whose_they_are(tmp_path):
    for experiment, setting in (("nitro-d", "mnist-mlp"), ("patterns", "2888")):
        (tmp_path / f"{experiment}.json").write_text(json.dumps(record_of(experiment, setting)))
    text = markdown(tmp_path)
    assert "| best epoch | NITRO-D's, full size |\n|---|---|---|---|---|\n| mnist-mlp | 1 |" in text
    assert "| 25.00 | 20.00 | 2.64 |" in text
    assert "| best epoch | the paper's, full size |\n|---|---|---|---|---|\n| 2888 |" in text


def test_published_numbers_are_of_settings_that_there_are():
    for experiment, errors in PUBLISHED.items():
        assert set(errors) <= set(EXPERIMENTS[experiment])
    for name in ("gradient-bits", "past-gradient-bits"):
        assert len(PUBLISHED[name]) == len(EXPERIMENTS[name])


def spoil(name, value=None):
    record = record_of("patterns", "2888")
    if value is None:
        del record[name]
    else:
        record[name] = value
    return json.dumps(record)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "skipped, damaged record of an experiment"),
        ("[]", r"an experiment: \[\]: want an object"),
        ("\x00", "skipped, damaged record of an experiment"),
        (spoil("experiment"), "an experiment: experiment: is missing"),
        (spoil("curve"), "an experiment: curve: is missing"),
        (spoil("curve", []), "skipped, its curve has no epochs"),
        (spoil("curve", [{"accuracy": 1}]), r"curve\[0\]\.error: is missing"),
        (spoil("accuracy_last", "0.9"), r"accuracy_last='0\.9': want a number"),
        (spoil("config", {"data": "mnist"}), r"config\.seed: is missing"),
        (spoil("setting", 7), "setting=7: want a text"),
    ],
)
def test_what_is_no_record_is_skipped_and_the_others_are_read(text, message, folder):
    (folder / "bad.json").write_text(text)
    records, warnings = read(folder)
    assert len(records) == 4
    (warning,) = warnings
    assert warning.startswith(f"{folder / 'bad.json'}: ")
    with pytest.raises(DataError, match=message):
        markdown(folder)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"none: no such folder$"):
        read(tmp_path / "none")


@pytest.mark.parametrize(
    "experiment", ["gradient-bits", "errors-bits", "past-errors-bits", "error-window", "patterns", "nitro-d"]
)
@pytest.mark.parametrize("seeds", [1, 3])
def test_pictures(experiment, seeds, tmp_path):
    settings = list(EXPERIMENTS[experiment])
    (found,) = arranged(
        record_of(experiment, setting, seed, (0.6, 0.4, 0.2 + 0.01 * seed))
        for setting in settings
        for seed in range(seeds)
    )
    draw(tmp_path / "picture.png", found)
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "picture.png").stat().st_size > 20_000


def test_the_command(folder, wage_neuro, tmp_path, monkeypatch):
    monkeypatch.setattr(findings_command, "RESULTS", tmp_path / "none")
    assert wage_neuro("results").out == "no records yet: `wage-neuro experiment` makes them\n"
    (folder / "bad.json").write_text("{")
    ended = wage_neuro("results", "--run", folder, "--output", "pictures")
    assert ended.code == 0, ended.err
    assert f"warning: {folder / 'bad.json'}: skipped" in ended.out
    assert "26.00 ± 1.41" in ended.out
    assert (tmp_path / "pictures" / "gradient-bits-epochs=3.png").exists()
    assert wage_neuro("results", "--run", "nowhere").err == "wage-neuro: nowhere: no such folder\n"


def test_the_committed_records_are_all_read():
    kept = RESULTS / "experiments"
    assert not kept.exists() or read(kept)[1] == []
