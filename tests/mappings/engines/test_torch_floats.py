"""Real numbers by autograd: the numpy engine's bits where nothing is left unquantized, and what f changes."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra wage-neuro[torch]")

import torch

from mappings.engines.torch import floats as float_torch
from mappings.engines.torch.floats import (
    MOMENTUM,
    WEIGHT_DECAY,
    FloatEngine,
    FloatOptions,
    initial_float_state,
)
from mappings.pattern import Pattern
from wage_neuro import Control, Conv, Dense, Flatten, MaxPool, Network, NumpyEngine, Rules, initial_state
from wage_neuro.bits import sigma
from wage_neuro.errors import SettingError

DENSE = ((Dense(24), Dense(5)), (30,))
POOLED = ((Conv(4, 3), MaxPool(2), Conv(6, 3), MaxPool(3, 2), Flatten(), Dense(8), Dense(5)), (12, 12, 1))
STRIDED = ((Conv(4, 3, 2, "VALID"), Conv(3, 2), Flatten(), Dense(5)), (9, 8, 1))
CASES = {
    "dense": (*DENSE, "2888", Rules(batch=16)),
    "dense, 28C8, the paper's range": (*DENSE, "28C8", Rules(batch=16, stored_range="paper")),
    "dense, 4-12-14-12": (*DENSE, "4CEC", Rules(batch=16)),
    "pooled": (*POOLED, "2888", Rules(batch=16)),
    "pooled, gamma": (*POOLED, "2886", Rules(batch=16, gamma=4)),
    "strided": (*STRIDED, "288C", Rules(batch=16)),
}


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def engine_of(specs, shape, text, rules=None, seed=3, dtype=torch.float32, signed=False):
    pattern = Pattern.parse(text)
    network = Network(specs, shape, pattern.bits, signed)
    begin = initial_float_state(network, pattern, seed)
    return FloatEngine(
        network, pattern, rules or Rules(batch=16), begin, FloatOptions(device="cpu", dtype=dtype)
    )


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_nothing_left_unquantized_is_the_numpy_engine(case, signed, sparse_images, assert_same_arrays):
    specs, shape, text, rules = CASES[case]
    other = engine_of(specs, shape, text, rules, dtype=torch.float64, signed=signed)
    one = NumpyEngine(other.network, rules, seed=3)
    images, labels = sparse_images(160, shape, 5)
    for log2_eta in (3, 0):
        answers = [engine.train(images, labels, log2_eta) for engine in (one, other)]
        assert_same_arrays(*answers, "logits in training")
    assert_same_arrays(one.predict(images[:21]), other.predict(images[:21]), "logits")
    begin, moved = initial_state(other.network, 3), 0
    for i, S in enumerate(one.state.S):
        codes = other.state.arrays[f"W{i}"] * 2.0 ** (other.network.bits.k_G - 1)
        assert_same_arrays(S.astype(np.float32), codes, f"stored weights of layer {i}")
        moved += int((begin.S[i] != S).sum())
    assert moved > 0


def test_it_begins_with_the_integers_weights(assert_same_arrays):
    network = Network(*POOLED)
    for text in ("28ff", "28f8"):
        W = engine_of(*POOLED, text).state.arrays
        for i, S in enumerate(initial_state(network, 3).S):
            assert_same_arrays(W[f"W{i}"], (S * sigma(8)).astype(np.float32), f"{text}, layer {i}")


def test_a_float_gradient_is_the_integers_step_before_it_is_rounded(sparse_images):
    """One step of 28f8: within a step of Q_G everywhere, and its rounding is what differs."""
    images, labels = sparse_images(16, (30,), 5)
    rounded, real = engine_of(*DENSE, "2888"), engine_of(*DENSE, "28f8")
    for engine in (rounded, real):
        engine.train(images, labels, 1)
    for name in ("W0", "W1"):
        difference = np.abs(rounded.state.arrays[name] - real.state.arrays[name])
        assert 0 < difference.max() < sigma(8)


def test_errors_of_28ff_are_those_of_autograd(sparse_images):
    """The gradient of the last layer, worked by hand: a^T (z - onehot), scaled by Shift."""
    images, labels = sparse_images(16, (30,), 5)
    engine = engine_of((Dense(5),), (30,), "28ff")
    W = engine.state.arrays["W0"].astype(np.float64)
    a = engine.network.encode(images) * sigma(8)
    scale = 2.0 ** -engine.network.layers[0].scale_shift
    g = a.T @ (a @ W * scale - np.eye(5)[labels]) * scale
    shift = 2.0 ** np.round(np.log2(np.abs(g).max()))
    engine.train(images, labels, 0)
    wanted = np.clip(W - sigma(8) * g / shift, -0.5, 0.5)
    np.testing.assert_allclose(engine.state.arrays["W0"], wanted, atol=1e-6)


def test_vanilla_is_torchs_own_optimizer(sparse_images):
    """Two batches of a BN net, against torch.nn and torch.optim.SGD."""
    images, labels = sparse_images(32, (30,), 5)
    engine = engine_of(*DENSE, "vanilla")
    begin = engine.state.arrays
    first, norm, last = torch.nn.Linear(30, 24, bias=False), torch.nn.BatchNorm1d(24), torch.nn.Linear(24, 5)
    net = torch.nn.Sequential(first, norm, torch.nn.ReLU(), torch.nn.Linear(24, 5, bias=False))
    last = net[3]
    with torch.no_grad():
        first.weight.copy_(torch.tensor(begin["W0"].T))
        last.weight.copy_(torch.tensor(begin["W1"].T))
    sgd = torch.optim.SGD(net.parameters(), 0.25, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    x = torch.tensor(engine.network.encode(images) * sigma(16), dtype=torch.float32)
    for part in (slice(16), slice(16, 32)):
        sgd.zero_grad()
        torch.nn.functional.cross_entropy(net(x[part]), torch.tensor(labels[part])).backward()
        sgd.step()
    engine.train(images, labels, -2)
    found = engine.state.arrays
    for name, wanted in (
        ("W0", first.weight.T),
        ("W1", last.weight.T),
        ("gain0", norm.weight),
        ("offset0", norm.bias),
        ("mean0", norm.running_mean),
        ("variance0", norm.running_var),
    ):
        np.testing.assert_allclose(found[name], wanted.detach().numpy(), atol=1e-6, err_msg=name)
    answers = torch.softmax(net.eval()(x), 1).argmax(1).numpy()
    assert (engine.predict(images).argmax(1) == answers).all()


@pytest.mark.parametrize("text", ["28ff", "288f", "vanilla"])
def test_goes_on_from_a_state(text, sparse_images, assert_same_arrays):
    images, labels = sparse_images(64, (30,), 5)
    whole, first = engine_of(*DENSE, text), engine_of(*DENSE, text)
    whole.train(images, labels, 0)
    first.train(images[:32], labels[:32], 0)
    again = FloatEngine(first.network, first.pattern, first.rules, first.state, FloatOptions(device="cpu"))
    again.train(images[32:], labels[32:], 0)
    for name, array in whole.state.arrays.items():
        assert_same_arrays(array, again.state.arrays[name], name)
    assert whole.state.step == again.state.step == 4


def test_what_it_refuses(sparse_images):
    with pytest.raises(SettingError, match=r"^a pattern with f, or vanilla: want the paper's rules"):
        engine_of(*DENSE, "28ff", Rules(batch=16, update="ternary"))
    engine = engine_of(*DENSE, "28ff")
    with pytest.raises(SettingError, match=r"^a pattern with f, or vanilla: want one step size"):
        engine.train(*sparse_images(16, (30,), 5), Control(log2_eta=(0, None), hold=(1, 1)))
    with pytest.raises(SettingError, match=r"^watch every=5: real numbers are no spikes$"):
        engine.watch(5)


@pytest.mark.parametrize("text", ["2888", "28f8", "28ff", "vanilla"])
def test_on_a_device_no_tensor_lies_elsewhere(text, monkeypatch, one_device):
    monkeypatch.setattr(float_torch, "find_device", lambda name: torch.device("meta"))
    monkeypatch.setattr(FloatEngine, "_answers", lambda engine, z: z.device.type == "meta")  # has no values
    engine = engine_of(*POOLED, text, Rules(batch=4))
    with one_device:
        images, labels = np.zeros((8, *engine.network.input_shape), np.uint8), np.zeros(8, np.int64)
        assert engine.train(images, labels, 0).all()
        assert engine.predict(images).all()
    assert {x.device.type for x in engine._tensors.values()} == {"meta"}
