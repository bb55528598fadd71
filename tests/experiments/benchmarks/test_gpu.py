"""The script for a GPU, tried on the processor."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

pytest.importorskip("torch", reason="the extra wage-neuro[torch]")

from experiments.benchmarks import gpu
from experiments.benchmarks.gpu import main
from experiments.commands.presets import EXPERIMENTS
from experiments.runs.training import Config
from wage_neuro import Network, Rules


@pytest.fixture(autouse=True)
def _small(monkeypatch, tmp_path):
    network = Network.parse("8FC", (8, 8, 1), classes=10)
    monkeypatch.setattr(gpu, "RECORDED", ())
    monkeypatch.setattr(gpu, "BYTES", {"small": network})
    monkeypatch.setattr(gpu, "FULL", {"full": gpu.Full(network, gpu.PAPER)})
    config = Config(data="digits", network="8FC", epochs=3, rules=Rules(batch=32))
    monkeypatch.setitem(EXPERIMENTS, "tried", {"2888": config, "other": replace(config, eta="1")})
    monkeypatch.chdir(tmp_path)


GIVEN = ["--device", "cpu", "--experiment", "tried", "--output", "gpu.json"]


def test_agreement_and_speed_are_written_together(tmp_path, capsys):
    assert main([*GIVEN, "--parts", "agreement,speed", "--seeds", "2"]) == 0
    record = json.loads((tmp_path / "gpu.json").read_text())
    cells = {(cell["network"], cell["mode"]): cell for cell in record["agreement"]["rows"]}
    assert cells["full", "paper, batch 128"]["steps"] == gpu.FULL_STEPS
    assert cells["small", "held"]["seeds"] == 2
    assert all(cell["difference"] is None and cell["changed"] > 0 for cell in cells.values())
    assert "small, softmax: equal" in capsys.readouterr().out
    (row,) = record["speed"]["rows"]
    assert (row["network"], row["batch"]) == ("full", 128)
    assert row["images_per_s"] > 0


def test_a_difference_is_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gpu, "first_difference", lambda engines, batches: "step 1, layer 0, logits")
    assert main([*GIVEN, "--parts", "agreement"]) == 1
    assert "small, held: seed 0, step 1, layer 0, logits" in capsys.readouterr().out
    assert json.loads((tmp_path / "gpu.json").read_text())["agreement"]["rows"][0]["difference"]


def test_epochs_go_on_where_the_time_ended(tmp_path, capsys):
    """To the record that `wage-neuro experiment` writes."""
    record = tmp_path / "runs/gpu/2888-s0/record.json"
    main([*GIVEN, "--parts", "train", "--minutes", "0"])
    assert not record.exists()
    main([*GIVEN, "--parts", "train"])
    found = json.loads(record.read_text())
    assert (found["experiment"], found["setting"], len(found["curve"])) == ("tried", "2888", 3)
    assert json.loads((tmp_path / "gpu.json").read_text())["train"]["rows"] == found["curve"]
    assert "epoch 3 of 3, " in capsys.readouterr().out


def test_bad_input(capsys):
    with pytest.raises(SystemExit):
        main([*GIVEN, "--parts", "agreement,sped"])
    assert "--parts agreement,sped: want agreement, speed, train" in capsys.readouterr().err
    assert main(["--device", "gpu", "--parts", "speed", "--output", "gpu.json"]) == 1
    assert capsys.readouterr().err == "error: device 'gpu': want cpu, cuda or cuda:N\n"
