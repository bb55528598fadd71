"""The scripts of `experiments/examples`, each run as a user would, in a folder of its own."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from experiments import examples
from experiments.continual.methods import METHODS

SHOWN = {
    "few_shots": r"digits 0-4: 9\d\.\d %.*\ndigits 5-9.* 5 images each: [5-9]\d\.\d %\n",
    "fit_with_callbacks": r"best\.npz: error 0\.[01]\d\d on what was held out",
    "freeze_and_count": r"updates a sample.*: 0\.0, [1-9][\d.]*, [\d.]+\n.* [4-9]\d\.\d % after",
    "in_avalanche": r"all digits, two classes after the others: [6-9]\d\.\d %",
    "read_a_run": r"1 +10FC .*\n(.*\n)+.*weights\.png: every visible weight",
    "run_elsewhere": r"every logit equal: True",
    "transfer": r"features of 0-4: [5-9]\d\.\d %(.*\n)+random features: [5-9]\d\.\d %",
    "your_own_chip": r"256FC.*: 4 cores, of 1 chip(.*\n)+.*4096FC.*: 35 cores, of 3 chip",
    "your_own_data_in_lava": r": (9\d|100) % of new images, learned inside Lava",
    "your_own_engine": r"equal to the oracle's: True\nlayer 0 8C3: engine 'abacus' has no convolution",
    "your_own_method": r"naive: [12]\d\.\d %\nhard-replay: [6-9]\d\.\d %",
}
"""What each prints, at least."""
NEEDS = {"in_avalanche": "avalanche", "your_own_data_in_lava": "lava"}


def test_every_script_is_run():
    folder = Path(examples.__file__).parent
    assert {path.stem for path in folder.glob("*.py")} == {*SHOWN, "__init__"}


@pytest.mark.parametrize("name", SHOWN)
def test_example(name, tmp_path, monkeypatch, capsys):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(METHODS, "own", dict(METHODS.own))  # a script may add one
    script = import_module(f"experiments.examples.{name}")
    script.main()
    out = capsys.readouterr().out
    assert re.search(SHOWN[name], out), out
    assert len(Path(script.__file__).read_text().splitlines()) <= 70
    assert name != "your_own_method" or len(Path(script.__file__).read_text().splitlines()) < 60
