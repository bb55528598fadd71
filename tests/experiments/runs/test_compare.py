"""compare: equal engines pass, a wrong one is found, with the place named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from experiments.runs import compare
from experiments.runs.compare import first_difference, next_batches
from experiments.runs.training import Run
from wage_neuro import Network, NumpyEngine, Rules
from wage_neuro.errors import SettingError
from wage_neuro.train import Held

NETWORK = Network.parse("6FC-3FC", (8,))
HELD = Rules(batch=8, shift="held", hold=8)


class WrongEngine(NumpyEngine):
    """Wrong at one place after `step` steps."""

    name = "wrong"

    def __init__(self, *args, step=2, wrong="S", **kwargs):
        super().__init__(*args, **kwargs)
        self.left, self.wrong = step, wrong

    def learn(self, images, labels, log2_eta):
        logits = super().learn(images, labels, log2_eta)
        self.left -= 1
        if self.left == 0:
            if self.wrong == "logits":
                logits[5, 1] += 1
            elif self.wrong == "S":
                S = [array.copy() for array in self.state.S]
                S[0][7, 4] ^= 1
                S[0][7, 5] ^= 1
                self._learner.go_on_from(self.state.having(S=tuple(S)))
            else:
                held = (Held(3, 1), *getattr(self.state, self.wrong)[1:])
                self._learner.go_on_from(self.state.having(**{self.wrong: held}))
        return logits


def batches(sparse_images, n=4):
    images, labels = sparse_images(8 * n, (8,), 3)
    return ((images[i : i + 8], labels[i : i + 8], 2) for i in range(0, 8 * n, 8))


def test_equal_engines(sparse_images):
    engines = {"one": NumpyEngine(NETWORK, HELD), "other": NumpyEngine(NETWORK, HELD)}
    assert first_difference(engines, batches(sparse_images)) is None
    assert engines["one"].state.step == engines["other"].state.step == 4


@pytest.mark.parametrize(
    ("wrong", "step", "layer", "what", "index"),
    [
        ("logits", 1, 1, "logits", (5, 1)),
        ("S", 2, 0, "stored weight", (7, 4)),
        ("error_held", 3, 0, "error exponent", ()),
        ("gradient_held", 4, 0, "gradient exponent", ()),
    ],
)
def test_a_wrong_engine_is_found_and_its_place_named(wrong, step, layer, what, index, sparse_images):
    engines = {
        "numpy": NumpyEngine(NETWORK, HELD),
        "right": NumpyEngine(NETWORK, HELD),
        "wrong": WrongEngine(NETWORK, HELD, step=step, wrong=wrong),
    }
    found = first_difference(engines, batches(sparse_images))
    assert found is not None
    assert (found.engine, found.reference) == ("wrong", "numpy")
    assert (found.step, found.layer, found.what, found.index) == (step, layer, what, index)
    assert found.expected != found.got
    if wrong == "S":
        assert found.got == found.expected ^ 1
        assert str(found) == (
            f"step 2, layer 0, stored weight (7, 4): numpy {found.expected}, wrong {found.got}"
        )


@pytest.mark.parametrize("augment", ["none", "crop1", "window7-flip"])
def test_the_batches_are_those_that_the_run_learns_next(augment, helpers, tmp_path, assert_same_state):
    """From the middle of an epoch through the next ones, each with its eta, augmented as the run does it."""
    config = helpers.small(augment=augment)
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole = helpers.fit(Run.start(config, tmp_path / "whole"))
    helpers.fit(Run.start(config, tmp_path / "parts"), stop=(0, 32))
    run = Run.resume(tmp_path / "parts")
    assert 0 < run.progress.batch < run.batches
    with run.engine("numpy") as engine:
        for images, labels, log2_eta in next_batches(run, 3 * run.batches - run.progress.batch):
            engine.train(images, labels, log2_eta)
        assert_same_state(engine.state, whole.saved.state)


@pytest.fixture
def folder(helpers, tmp_path):
    path = tmp_path / "run"
    path.mkdir()
    helpers.fit(Run.start(replace(helpers.small(), network="8FC", epochs=1), path))
    return path


def test_the_command(folder, wage_neuro):
    pytest.importorskip("brian2", reason="brian2 is an optional extra")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    ended = wage_neuro("compare", folder, "--engines", "numpy,brian2", "--steps", 2)
    assert (ended.code, ended.last) == (
        0,
        "numpy, brian2: no difference in logits, weights or exponents after 2 steps",
    )
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_the_command_ends_with_1_on_a_difference(folder, wage_neuro, monkeypatch):
    def make(name, network, rules, state):
        return (WrongEngine if name == "lava" else NumpyEngine)(network, rules, state=state)

    monkeypatch.setattr(compare, "make_engine", make)
    ended = wage_neuro("compare", folder, "--engines", "numpy,lava")
    assert ended.code == 1
    assert ended.last.startswith("first difference: step 2, layer 0, stored weight (7, 4): numpy ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--engines", "numpy"), "--engines 'numpy': want two or more, each once"),
        (("--engines", "numpy,numpy"), "--engines 'numpy,numpy': want two or more, each once"),
        (("--engines", "numpy,nest"), "engine 'nest': want numpy, compiled, torch, lava, brian2 or rtl"),
        (("--engines", "numpy,lava", "--steps", 0), "--steps 0: want a whole number >= 1"),
    ],
)
def test_wrong_options(folder, wage_neuro, options, message):
    ended = wage_neuro("compare", folder, *options)
    assert (ended.code, ended.err.strip()) == (1, f"wage-neuro: {message}")


def test_fewer_than_two_engines_in_code(helpers, tmp_path):
    (tmp_path / "run").mkdir()
    run = Run.start(helpers.small(), tmp_path / "run")
    with pytest.raises(SettingError, match="two or more"):
        compare.compare(run, ["lava"], 1)
