"""The scripts of `experiments/examples/lava`, each run as a user would."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

pytest.importorskip("lava", reason="lava-nc is not installed")

from experiments.examples import lava as examples

SHOWN = {
    "two_layers": r"last quarter: [67]\d\.\d %\nevery stored weight equal to the numpy engine's: True",
    "last_layer": r"learned: [6-9]\d\.\d % of 4311 images\n.*LIF spikes: [89]\d\.\d %,\n.*: [3-9]\d\.\d %",
    "event_stream": r"after 1435 samples: [34]\d\.\d %.*\n.*\nafter 4311 samples: [678]\d\.\d %",
}
"""What each prints, at least."""


def test_every_script_is_run():
    assert {path.stem for path in Path(examples.__file__).parent.glob("*.py")} == {*SHOWN, "__init__"}


@pytest.mark.parametrize("name", SHOWN)
def test_example(name, capsys):
    script = import_module(f"experiments.examples.lava.{name}")
    script.main()
    out = capsys.readouterr().out
    assert re.search(SHOWN[name], out), out
    assert len(Path(script.__file__).read_text().splitlines()) < 100
    assert "LavaEngine" not in Path(script.__file__).read_text()
