"""A structural run beside a behavioural one: equal where it is, and seen where it is not."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from experiments.runs.training import Config, Run
from experiments.studies import structural
from wage_neuro import Rules

RULES = Rules(batch=50, shift="held", update="ternary", loss="one-sided", margin=3, pipelined=True)


def test_equal_and_not(tmp_path, monkeypatch, capsys):
    pytest.importorskip("lava", reason="lava-nc is not installed")
    config = Config(data="digits", network="8FC", epochs=1, eta="8", rules=RULES, train_images=100)
    for name, engine, options, of in (
        ("parts", "lava", {"model": "structural"}, config),
        ("whole", "compiled", {}, config),
        ("other", "compiled", {}, replace(config, seed=1)),
    ):
        (tmp_path / name).mkdir()
        run = Run.start(of, tmp_path / name)
        with run.engine(engine, **options) as made:
            run.fit(made)
        (tmp_path / name / "record.json").write_text(json.dumps(run.record(engine, "command")))
    for other, code in (("whole", 0), ("other", 1)):
        words = ["structural", str(tmp_path / "parts"), str(tmp_path / other)]
        monkeypatch.setattr("sys.argv", [*words, "--output", str(tmp_path / "found.json")])
        assert structural.main() == code
        assert json.loads((tmp_path / "found.json").read_text())["equal"] == (code == 0)
        assert f"equal: {code == 0}" in capsys.readouterr().out
