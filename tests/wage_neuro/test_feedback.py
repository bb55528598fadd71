"""Feedback paths: the fixed weights, every step equal to Python ints, and the widths that errors need."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from wage_neuro import Conv, Dense, Flatten, MaxPool, Network, Rules, feedback, initial_state, random_bits
from wage_neuro.feedback import arriving_error, feedback_weights, leaving_error
from wage_neuro.layers import backward, forward, visible_weights
from wage_neuro.train import Batch, train_step

NETS = {
    "one layer": Network((Dense(3),), (7,)),
    "dense": Network((Dense(6), Dense(5), Dense(3)), (7,), "3-8-10-8"),
    "conv": Network(
        (Conv(3, 3, 2), Conv(4, 2, 1, "VALID"), MaxPool(2, 1), Flatten(), Dense(8), Dense(3)), (8, 7, 2)
    ),
    "pooling": Network(
        (Conv(3, 3), MaxPool(3, 2), Conv(4, 2), MaxPool(2), Flatten(), Dense(3)),
        (8, 9, 1),
        "2-9-9-10",
        signed_input=True,
    ),
}
BITS = ["2888", "2222", "4-6-12-10", "2-8-16-16"]
FIXED = ["random", "direct"]


def with_weights(net, rules):
    """Layers that have fixed feedback weights."""
    return [
        layer for layer in net.layers if (layer.index if rules.feedback == "random" else not layer.is_last)
    ]


# --- the weights -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FIXED)
@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_who_has_feedback_weights(net, name):
    rules = Rules(feedback=name)
    for layer in net.layers:
        B = feedback_weights(layer, net.classes, rules, 3)
        if layer not in with_weights(net, rules):
            assert B is None
        else:
            inputs, outputs = layer.weight_shape[:-1], layer.out_shape
            shape = (np.prod(inputs), layer.weight_shape[-1]), (net.classes, np.prod(outputs))
            assert B.shape == shape[name == "direct"]
        assert feedback_weights(layer, net.classes, Rules(), 3) is None


@pytest.mark.parametrize("name", FIXED)
def test_weights_are_named_by_seed_and_layer(name, plain):
    net, rules = NETS["conv"], Rules(feedback=name)
    drawn = []
    for layer in with_weights(net, rules):
        for seed in (0, 9, 2**64 - 1):
            B = feedback_weights(layer, net.classes, rules, seed)
            r = random_bits.bits16((seed, random_bits.FEEDBACK, layer.index, 0), 0, B.size)
            assert B.ravel().tolist() == [plain.feedback_weight(int(bits)) for bits in r]
            drawn.append(B.ravel()[:12].tolist())
    assert len({tuple(values) for values in drawn}) == len(drawn)


@pytest.mark.parametrize("name", FIXED)
def test_weights_never_change(name):
    net, rules = NETS["dense"], Rules(feedback=name)
    for layer in with_weights(net, rules):
        B = feedback_weights(layer, net.classes, rules, 5)
        before = B.copy()
        with pytest.raises(ValueError, match="read-only"):
            B[0, 0] = 0
        state = initial_state(net, 5)
        for _ in range(3):
            state, _ = train_step(
                net, state, Batch(np.full((4, 7), 90, np.int8), np.array([0, 1, 2, 0])), 3, rules
            )
        assert np.array_equal(feedback_weights(layer, net.classes, rules, 5), before)
        feedback._draw.cache_clear()
        assert np.array_equal(feedback_weights(layer, net.classes, rules, 5), before)


def test_a_third_of_each_value(monkeypatch):
    """Of all 16-bit numbers, 65536 = 3 * 21845 + 1; and of those that are drawn."""
    wide = Network((Dense(256), Dense(256)), (1,)).layers[1]
    assert all(0.32 < n / 65536 < 0.35 for n in Counter(draw(wide, 1)).values())
    monkeypatch.setattr(random_bits, "bits16", lambda *name: np.arange(65536, dtype=np.uint16)[: name[-1]])
    assert Counter(draw(wide, 2**63)) == {-1: 21846, 0: 21845, 1: 21845}


def draw(layer, seed):
    return feedback_weights(layer, 256, Rules(feedback="random"), seed).ravel().tolist()


# --- learning ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"batch": 3},
        {"batch": 3, "shift": "held", "hold": 5, "stored_range": "paper"},
        {"batch": 3, "shift": "held", "hold": 2, "update": "ternary", "loss": "one-sided", "margin": 2},
        {"batch": 1, "update": "coincidence", "loss": "one-sided"},
        {"batch": 1, "update": "coincidence", "shift": "held", "hold": 2},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
@pytest.mark.parametrize("name", FIXED)
@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_steps_are_plain(
    net, name, settings, plain_train, random_state, batch_of, assert_same_state, assert_same_arrays
):
    rules = Rules(feedback=name, **settings)
    first = state = random_state(net, rules, 8)
    for step in range(10):
        x, labels = batch_of(net, rules.batch, step)
        expected, logits = plain_train(net, state, x, labels, 2, rules)
        state, found = train_step(net, state, Batch(x, labels), 2, rules)
        assert_same_arrays(found, logits, "logits")
        assert_same_state(state, expected)
    assert not any(np.array_equal(a, b) for a, b in zip(state.S, first.S, strict=True))


@pytest.mark.parametrize("name", FIXED)
def test_the_path_matters(name, sparse_images):
    """Only the last layer, whose error comes from the read-out, learns the same in the first step."""
    net = NETS["dense"]
    images, labels = sparse_images(16, net.input_shape, net.classes)
    one, other = (
        train_step(net, initial_state(net), Batch(net.encode(images), labels), 3, Rules(feedback=path))[0].S
        for path in ("transposed", name)
    )
    assert [np.array_equal(a, b) for a, b in zip(one, other, strict=True)] == [False, False, True]


# --- worst cases -------------------------------------------------------------------------------------

CARRIERS = {np.dtype(np.float32): 2**24, np.dtype(np.float64): 2**53}


def ones(seed, layer, shape, dtype):
    return np.ones(shape, dtype)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("spec", [Dense(5), Conv(3, 3), Conv(3, 3, 2, "VALID")], ids=str)
@pytest.mark.parametrize("pool", [None, MaxPool(3, 1), MaxPool(3, 2)], ids=str)
def test_worst_random_error(spec, pool, bits, monkeypatch, plain):
    """Every feedback weight 1, every error the largest code: the sums are Python's, and within the bound."""
    if isinstance(spec, Dense):
        net = Network((Dense(7), spec, Dense(2)), (4,), bits)
    else:
        net = Network((Conv(2, 1), spec, *([pool] if pool else []), Flatten(), Dense(2)), (9, 9, 1), bits)
    layer, top = net.layers[1], plain.top(net.bits.k_E)
    monkeypatch.setattr(feedback, "_draw", ones)
    B = feedback_weights(layer, 2, Rules(feedback="random"), 0)
    V = visible_weights(layer, initial_state(net).S[1])
    rng = np.random.default_rng(0)
    _, kept = forward(layer, V, rng.integers(0, net.bits.activation_max + 1, (2, *layer.in_shape)))
    E = np.full((2, *layer.out_shape), top, np.int16)
    _, D = backward(layer, B, kept, E, None)
    assert D.max() <= layer.d_bound <= min(CARRIERS[D.dtype], 2**31 - 1)  # what Lava's messages hold

    a, W = plain.ints(kept.a_in), plain.ints(np.ones(layer.weight_shape))
    E = plain.ints(E)
    if isinstance(spec, Dense):
        expected = E @ W.T
    else:
        if pool:
            Z = plain.convolve(a, plain.ints(V).reshape(W.shape), spec.stride, spec.padding)
            _, chosen = plain.pool(Z, pool.size, pool.step)
            E = plain.unpool(E, chosen, Z.shape)
        _, expected = plain.convolve_back(a, W, E, spec.stride, spec.padding)
    assert np.array_equal(D, expected)


@pytest.mark.parametrize("bits", BITS)
def test_random_errors_at_the_edge_of_float32(bits, monkeypatch, plain):
    """As many outputs as float32 still adds up, and one more."""
    top = plain.top(Network((Dense(1),), (1,), bits).bits.k_E)
    weight = plain.top(Network((Dense(1),), (1,), bits).bits.k_W)
    most = min(2**24 // (top * weight), 200_000)
    monkeypatch.setattr(feedback, "_draw", ones)
    for n_out in (most, most + 1):
        layer = Network((Dense(1), Dense(n_out)), (1,), bits).layers[1]
        B = feedback_weights(layer, n_out, Rules(feedback="random"), 0)
        for codes in (np.full(n_out, top), np.r_[np.full(n_out - 1, top), top - 1]):
            _, D = backward(layer, B, kept_of(layer), codes[None].astype(np.int16), None)
            assert int(D[0, 0]) == int(codes.sum())


def kept_of(layer):
    V = np.zeros((layer.fan_in, layer.weight_shape[-1]), layer.z_dtype)
    return forward(layer, V, np.zeros((1, *layer.in_shape), np.int8))[1]


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("shape", [(2, 2, 1), (3, 3, 2)])
def test_worst_direct_error(shape, bits, monkeypatch, plain):
    """As many classes as float32 still adds up, and one more; a message holds the codes alone."""
    top = plain.top(Network((Dense(1),), (1,), bits).bits.k_E)
    most = min(2**24 // top, 200_000)
    monkeypatch.setattr(feedback, "_draw", ones)
    rules = Rules(feedback="direct")
    for classes in (most, most + 1):
        net = Network((Conv(1, 2), Flatten(), Dense(classes)), shape, bits)
        hidden, last = net.layers
        for codes in (np.full(classes, top), np.r_[np.full(classes - 1, top), top - 1]):
            message = leaving_error(last, codes[None].astype(np.int16), None, rules)
            assert abs(message).max() == top < 2**15
            D = arriving_error(hidden, message, feedback_weights(hidden, classes, rules, 0), rules)
            assert D.shape == (1, *hidden.out_shape)
            assert {int(d) for d in D.flat} == {int(codes.sum())}
            assert int(codes.sum()) < 2**31
