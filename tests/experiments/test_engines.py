"""Engines by name."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from experiments import engines
from experiments.engines import NAMES, make_engine
from wage_neuro import Network, Rules, initial_state
from wage_neuro.errors import EngineError, NetworkError, SettingError

NETWORK = Network.parse("6FC-3FC", (8,))
RULES = Rules(batch=8)
ONE = Rules(batch=1, shift="held", update="ternary")
RULES_OF = {"rtl": ONE}
"""Of engines that have not the others'."""
STATE = initial_state(NETWORK, seed=5)


@pytest.fixture
def need(need_kernels):
    def check(name):
        if name == "rtl":
            pytest.importorskip("amaranth", reason="the extra wage-neuro[rtl]")
        if name == "lava":
            pytest.importorskip("lava", reason="lava-nc is not installed")
        if name == "compiled":
            need_kernels()
        if name == "brian2":
            pytest.importorskip("brian2", reason="the extra wage-neuro[brian2]")
        if name == "torch":
            pytest.importorskip("torch", reason="the extra wage-neuro[torch]")

    return check


@pytest.mark.parametrize("name", NAMES)
def test_a_name_gives_its_engine(name, need):
    need(name)
    rules = RULES_OF.get(name, RULES)
    with make_engine(name, NETWORK, rules, STATE) as engine:
        assert (engine.name, engine.network, engine.rules) == (name, NETWORK, rules)
        assert engine.state.seed == 5
        assert engine.state.step == 0


@pytest.mark.parametrize("name", NAMES[1:])
def test_all_go_on_from_the_same_state_to_the_same_state(name, assert_same_state, sparse_images, need):
    need(name)
    rules = RULES_OF.get(name, RULES)
    images, labels = sparse_images(24 if rules.batch > 1 else 8, (8,), 3)
    with make_engine("numpy", NETWORK, rules, STATE) as engine:
        engine.train(images, labels, 2)
        middle = engine.state
    ends = []
    for each in ("numpy", name):
        with make_engine(each, NETWORK, rules, middle) as engine:
            engine.train(images, labels, 0)
            ends.append((engine.state, engine.predict(images)))
    assert_same_state(ends[0][0], ends[1][0])
    assert ends[0][0].step == 2 * len(images) // rules.batch
    assert np.array_equal(ends[0][1], ends[1][1])


def test_brian2_has_no_softmax(need):
    need("brian2")
    message = "^loss='softmax': engine 'brian2' has 'sse' or 'one-sided' only$"
    with pytest.raises(SettingError, match=message):
        make_engine("brian2", NETWORK, Rules(batch=8, loss="softmax"), STATE)


@pytest.mark.parametrize("name", ["brian2", "lava"])
def test_engines_without_an_unquantized_layer_say_so(name, need):
    need(name)
    network = Network.parse("6FC-3FCU", (8,))
    with pytest.raises(NetworkError, match=f"^layer 1 3FCU: engine '{name}' has no unquantized layer$"):
        make_engine(name, network, Rules(batch=8, loss="softmax"), initial_state(network))


def test_the_structural_model_has_no_softmax(need):
    need("lava")
    rules = Rules(batch=1, shift="held", update="ternary", loss="softmax")
    message = "^loss='softmax': the structural model has 'sse' or 'one-sided' only$"
    with pytest.raises(SettingError, match=message):
        make_engine("lava", NETWORK, rules, STATE, model="structural")


@pytest.mark.parametrize("name", ["", "Lava", "brian", "numpy "])
def test_an_unknown_name(name):
    with pytest.raises(
        SettingError,
        match=f"^engine '{name}': want numpy, compiled, torch, lava, brian2 or rtl(; did you mean .*)?$",
    ):
        make_engine(name, NETWORK, RULES, STATE)


@pytest.mark.parametrize("name", ["numpy", "compiled", "torch"])
def test_lanes_belong_to_lava(name, need):
    need(name)
    with pytest.raises(SettingError, match=r"^lanes=8: engine .* has no such option"):
        make_engine(name, NETWORK, RULES, STATE, lanes=8)


def test_models_belong_to_lava():
    with pytest.raises(
        SettingError, match=r"^model=structural: engine 'numpy' has no such option; it has team$"
    ):
        make_engine("numpy", NETWORK, RULES, STATE, model="structural")


@pytest.mark.parametrize("name", ["numpy", "compiled", "lava"])
def test_a_device_belongs_to_torch(name, need):
    need(name)
    with pytest.raises(SettingError, match=r"^device=cuda: engine .* has no such option"):
        make_engine(name, NETWORK, RULES, STATE, device="cuda")


def test_without_lava_the_error_says_what_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "mappings.engines.lava.engine", None)
    with pytest.raises(EngineError, match=r"^engine 'lava': .*; it needs lava-nc 0\.10\.0 \('make demo'"):
        make_engine("lava", NETWORK, RULES, STATE)
    make_engine("numpy", NETWORK, RULES, STATE).close()


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [
        ("torch", "mappings.engines.torch.engine", "PyTorch"),
        ("brian2", "mappings.engines.brian2.engine", "Brian2"),
        ("rtl", "mappings.hardware.rtl.engine", "Amaranth"),
    ],
)
def test_without_an_extra_the_error_says_what_it_needs(name, module, package, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    wanted = rf"^engine '{name}': .*; it needs {package}: pip install \"wage-neuro\[{name}\]\"$"
    with pytest.raises(EngineError, match=wanted):
        make_engine(name, NETWORK, RULES, STATE)
    make_engine("numpy", NETWORK, RULES, STATE).close()


def test_the_fastest_engine_is_one_that_can_be_used(monkeypatch, tmp_path):
    monkeypatch.setattr(engines.build, "LIBRARY", tmp_path / "library.so")
    assert engines.fastest() == "numpy"
    (tmp_path / "library.so").write_bytes(b"of another day")
    assert engines.fastest() == "numpy"
