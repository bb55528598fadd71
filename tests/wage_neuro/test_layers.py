"""The arithmetic of a layer against Python ints: whole domains where small, naive loops elsewhere."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import product
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wage_neuro import AvgPool, Bits, Conv, Dense, Flatten, MaxPool, Network, Rules, layers, random_bits
from wage_neuro.bits import code_dtype
from wage_neuro.errors import NetworkError, SettingError
from wage_neuro.fixed_point import CARRIERS, log2_round, peak
from wage_neuro.kernels import numpy_kernels as kernels
from wage_neuro.layers import Kept
from wage_neuro.rules import margin_of


def last_layer(n_in, n_out, **bits):
    return Network((Dense(n_out),), (n_in,), Bits(**bits)).layers[0]


def hidden_layer(n_in, n_out, **bits):
    return Network((Dense(n_out), Dense(2)), (n_in,), Bits(**bits)).layers[0]


def codes(shape, k, seed, low=None):
    top = (1 << (k - 1)) - 1
    draws = np.random.default_rng(seed).integers(-top if low is None else low, top + 1, shape)
    return draws.astype(code_dtype(k))


# --- weights -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("k_G", range(2, 17))
def test_visible_weights(k_G, plain):
    whole = np.arange(-plain.top(k_G), plain.top(k_G) + 1)
    for k_W in range(2, 17):
        S = whole
        if k_G > 8:  # each halfway point that is not farther apart than 64, its neighbours, and some others
            points = np.arange(-plain.top(k_G) - 1, plain.top(k_G) + 1, max(1 << max(0, k_G - k_W - 1), 64))
            S = np.unique(
                np.concatenate([points - 1, points, points + 1, whole[:3], whole[-3:], whole[::97]])
            )
            S = S[abs(S) <= plain.top(k_G)]
        layer = last_layer(1, len(S), k_W=k_W, k_G=k_G)
        V = layers.visible_weights(layer, S.astype(code_dtype(k_G))[None])
        assert V.dtype == layer.z_dtype
        assert V[0].tolist() == [plain.visible(s, k_W, k_G) for s in S.tolist()]


@pytest.mark.parametrize("k_W", [2, 3, 8, 16])
@pytest.mark.parametrize("k_G", [2, 6, 8, 16])
@pytest.mark.parametrize("n_in", [1, 3, 4, 100])
def test_initial_weights_are_the_nearest_codes(k_W, k_G, n_in):
    """abs(u) L against half codes, in squares, so that no root is rounded: L**2 = max(3 / n, L_min**2)."""
    layer = last_layer(n_in, 60, k_W=k_W, k_G=k_G)
    S = layers.initial_weights(layer, seed=9)
    assert (S.shape, S.dtype) == ((n_in, 60), code_dtype(k_G))
    k = min(k_W, k_G)
    top, unit = 2 ** (k - 1) - 1, 2 ** (k_G - k)
    raw = random_bits.words((9, random_bits.INIT, 0, 0), 0, layer.n_weights)
    # L_min = 1.5 * 2**(1 - k_W)
    L_squared, per = (3, n_in) if 3 * 4**k_W > 9 * n_in else (9, 4**k_W)
    for s, word in zip(S.ravel().tolist(), raw.tolist(), strict=True):
        u = 2 * (word >> 32) + 1 - 2**32  # u / 2**32 is the uniform draw
        code, rest = divmod(s, unit)
        assert rest == 0
        assert s * u >= 0
        twice = u**2 * L_squared * 4**k  # (2 code)**2 * per * 4**32
        assert twice <= (2 * abs(code) + 1) ** 2 * per * 4**32 or abs(code) == top
        assert twice >= max(0, 2 * abs(code) - 1) ** 2 * per * 4**32


def test_initial_weights_differ_by_seed_and_layer():
    net = Network((Dense(30), Dense(30)), (30,))
    first = layers.initial_weights(net.layers[0], 0)
    assert np.array_equal(first, layers.initial_weights(net.layers[0], 0))
    assert not np.array_equal(first, layers.initial_weights(net.layers[1], 0))
    assert not np.array_equal(first, layers.initial_weights(net.layers[0], 1))
    shares = [(first == s).mean() for s in (-64, 0, 64)]  # ternary: a third each
    assert sum(shares) == 1
    assert max(abs(share - 1 / 3) for share in shares) < 0.1


# --- forward -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("k_W", "k_A"), [(2, 2), (2, 8), (3, 4), (4, 8), (8, 3), (9, 2), (2, 11)])
def test_activation_of_every_product(k_W, k_A, plain):
    """One input of 1, so the weights are the products: past saturation on both ends."""
    end = min(1 << 14, 3 * plain.top(k_A) << (k_W - 1))
    Z = np.arange(-end, end + 1)
    layer = hidden_layer(1, len(Z), k_W=k_W, k_A=k_A)
    assert layer.z_shift == k_W - 1
    A, kept = layers.forward(layer, Z.astype(layer.z_dtype)[None], np.ones((1, 1), np.int8))
    assert A.dtype == code_dtype(k_A)
    assert A[0].tolist() == [plain.activation(z, k_W - 1, k_A) for z in Z.tolist()]
    assert kept.active[0].tolist() == [z > 0 for z in Z.tolist()]
    assert kept.saturated[0].tolist() == [z > plain.top(k_A) << (k_W - 1) for z in Z.tolist()]


@pytest.mark.parametrize("fan_in", [66_052, 66_053])
def test_largest_products_at_the_end_of_float32(fan_in):
    """2 * fan_in * 127 is 2**24 - 8 or just above: float32, then float64."""
    net = Network((Dense(3),), (fan_in,))
    assert net.layers[0].z_dtype is (np.float32 if fan_in == 66_052 else np.float64)
    S = np.full((fan_in, 3), 64, np.int8)
    S[:, 1], S[0, 2] = -64, -64
    V = layers.visible_weights(net.layers[0], S)
    Z, _ = layers.forward(net.layers[0], V, np.full((2, fan_in), 127, np.int8))
    assert Z.tolist() == [[fan_in * 127, -fan_in * 127, (fan_in - 2) * 127]] * 2


@pytest.mark.parametrize(("n_in", "n_out", "batch"), [(1, 1, 1), (5, 4, 3), (30, 17, 9)])
@pytest.mark.parametrize("bits", ["2888", "16-16-16-16", "2-16-8-16", "4-3-8-12"])
def test_dense_is_the_plain_product(n_in, n_out, batch, bits, plain):
    net = Network((Dense(n_in), Dense(n_out), Dense(2)), (n_in,), bits)
    layer, k = net.layers[1], net.bits
    S, a = codes((n_in, n_out), k.k_G, 1), codes((batch, n_in), k.k_A, 2)
    E = codes((batch, n_out), k.k_E, 3)
    V = layers.visible_weights(layer, S)
    W = plain.each(lambda s: plain.visible(s, k.k_W, k.k_G), plain.ints(S))
    A, kept = layers.forward(layer, V, a)
    Z, shift = plain.ints(a) @ W, k.k_W - 1 + plain.alpha_shift(n_in, k.k_W)
    assert np.array_equal(A, plain.each(lambda z: plain.activation(z, shift, k.k_A), Z))
    G, D = layers.backward(layer, V, kept, E, (kept.a_in, E))
    assert np.array_equal(plain.ints(G), plain.ints(a).T @ plain.ints(E))
    assert np.array_equal(plain.ints(D), plain.ints(E) @ W.T)


POOLS = [None, MaxPool(2), MaxPool(3, 2), MaxPool(2, 1), MaxPool(1, 2), AvgPool(2), AvgPool(4)]


def conv_layer(conv, pool, bits="2888", shape=(7, 6, 2)):
    """The middle of three layers, so that it sends an error back."""
    specs = (Conv(shape[2], 1), conv, *([pool] if pool else []), Flatten(), Dense(2))
    return Network(specs, shape, bits).layers[1]


def conv_run(layer, batch=2):
    """Codes for a layer, and all that it makes of them: A, G, D."""
    k = layer.bits
    S, a = codes(layer.weight_shape, k.k_G, 1), codes((batch, *layer.in_shape), k.k_A, 2)
    E = codes((batch, *layer.out_shape), k.k_E, 3)
    V = layers.visible_weights(layer, S)
    A, kept = layers.forward(layer, V, a)
    G, D = layers.backward(layer, V, kept, E, (kept.a_in, E))
    return SimpleNamespace(S=S, a=a, E=E, A=A, kept=kept, G=G.copy(), D=D.copy())


def assert_conv_is_plain(layer, plain, batch=2):
    k, spec, run = layer.bits, layer.spec, conv_run(layer, batch)
    W, a, E = (
        plain.each(lambda s: plain.visible(s, k.k_W, k.k_G), plain.ints(run.S)),
        plain.ints(run.a),
        plain.ints(run.E),
    )
    full = plain.convolve(a, W, spec.stride, spec.padding)
    assert full.shape[1:] == layer.z_shape
    Z = full
    shift = k.k_W - 1 + plain.alpha_shift(int(np.prod(W.shape[:-1])), k.k_W)
    if isinstance(layer.pool, MaxPool):
        Z, chosen = plain.pool(full, layer.pool.size, layer.pool.step)
        E = plain.unpool(E, chosen, full.shape)
    elif layer.pool:
        Z, chosen = plain.average(full, layer.pool.size)
        E, shift = plain.unpool(E, chosen, full.shape), shift + {2: 2, 4: 4}[layer.pool.size]
    assert np.array_equal(run.A, plain.each(lambda z: plain.activation(z, shift, k.k_A), Z))
    assert np.array_equal(run.kept.active, Z > 0)
    assert np.array_equal(run.kept.saturated, plain.top(k.k_A) << shift < Z)
    G, D = plain.convolve_back(a, W, E, spec.stride, spec.padding)
    assert np.array_equal(plain.ints(run.G), G.reshape(run.G.shape))
    assert np.array_equal(plain.ints(run.D), D)


@pytest.mark.parametrize("pool", POOLS, ids=lambda pool: str(pool or "no pool"))
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
def test_convolution_is_the_naive_loop(kernel, stride, padding, pool, plain):
    conv = Conv(3, kernel, stride, padding)
    height = (pool.size if pool else 2) * stride + (kernel if padding == "VALID" else 0)  # room for a window
    assert_conv_is_plain(conv_layer(conv, pool, shape=(max(7, height), max(6, height), 2)), plain)


@pytest.mark.parametrize("bits", ["16-16-16-16", "2-16-8-16", "3-12-9-10", "2222"])
@pytest.mark.parametrize(
    "pool", [None, MaxPool(3, 2), MaxPool(3, 1), AvgPool(2)], ids=lambda pool: str(pool or "no pool")
)
def test_convolution_of_other_widths_is_the_naive_loop(bits, pool, plain):
    assert_conv_is_plain(conv_layer(Conv(3, 3), pool, bits, (6, 5, 3)), plain, batch=3)


def test_results_depend_on_no_cut(monkeypatch, set_threads):
    def everything():
        runs = [conv_run(conv_layer(Conv(4, 3), pool), batch=7) for pool in POOLS]
        E = [run.E for run in runs]
        big = last_layer(600, 500)  # more weights than a part of an update
        S, G = codes(big.weight_shape, 8, 4), codes((600, 500), 16, 5).astype(np.float32)
        new = layers.update(big, S, G, layers.Move(15, 3, 1, 2), Rules())
        return [
            *E,
            new,
            layers.visible_weights(big, S),
            *(x for r in runs for x in (r.A, r.G, r.D, r.kept.winner)),
        ]

    set_threads(1)
    expected = everything()
    for threads, part_bytes, small in product(
        (1, 2, 3), (1, 5000, layers._PART_BYTES), (0, kernels.SMALL_WORK)
    ):
        set_threads(threads)
        monkeypatch.setattr(layers, "_PART_BYTES", part_bytes)
        monkeypatch.setattr(kernels, "SMALL_WORK", small)
        for one, other in zip(everything(), expected, strict=True):
            assert np.array_equal(one, other)


# --- backward ----------------------------------------------------------------------------------------


def test_every_pair_of_8_bit_codes():
    """256 inputs and 256 outputs of one sample: each weight's gradient is one product a * e."""
    every = np.arange(-127, 128, dtype=np.int8)
    layer = last_layer(255, 255)
    G, _ = layers.backward(
        layer, np.zeros((255, 255), np.float32), Kept(every[None]), every[None], (every[None], every[None])
    )
    assert G.tolist() == [[a * e for e in range(-127, 128)] for a in range(-127, 128)]


def test_one_weight():
    layer = last_layer(1, 1)
    for a, e in product((-127, -1, 0, 1, 127), (-127, -2, 0, 2, 127)):
        kept = Kept(np.full((3, 1), a, np.int8))
        G, D = layers.backward(
            layer,
            np.ones((1, 1), np.float32),
            kept,
            np.full((3, 1), e, np.int8),
            (kept.a_in, np.full((3, 1), e, np.int8)),
        )
        assert G.tolist() == [[3 * a * e]]
        assert D is None


@pytest.mark.parametrize("bits", ["2888", "2-8-8-10", "2-10-8-10", "2-16-8-16"])
def test_gradients_of_largest_codes_past_the_rows_of_one_product(bits):
    """Rows of products end where float32 does (2**24); one row more must still be exact."""
    layer = last_layer(2, 3, **vars(Bits.parse(bits)))
    rows, dtype = layer.gradient_rows
    term = layer.bits.activation_max * layer.bits.error_max
    assert rows * term <= dict(CARRIERS)[dtype]
    for n in {64, 65, 1040, 1041, 2081, min(rows, 5000) + 1}:
        a = np.full((n, 2), layer.bits.activation_max, code_dtype(layer.bits.k_A))
        e = np.full((n, 3), layer.bits.error_max, code_dtype(layer.bits.k_E))
        e[:, 1] *= -1
        G, _ = layers.backward(layer, np.ones((2, 3), layer.z_dtype), Kept(a), e, (a, e))
        assert G.tolist() == [[n * term, -n * term, n * term]] * 2


def test_gradients_of_largest_codes_in_a_convolution():
    layer = Network((Conv(2, 1), MaxPool(2, 1), Flatten(), Dense(2)), (40, 40, 1)).layers[0]
    a = np.full((3, 40, 40, 1), 127, np.int8)
    V = np.ones((1, 2), np.float32)
    _, kept = layers.forward(layer, V, a)
    G, _ = layers.backward(
        layer,
        V,
        kept,
        np.full((3, 39, 39, 2), 127, np.int8),
        (kept.a_in, np.full((3, 39, 39, 2), 127, np.int8)),
    )
    assert G.tolist() == [[3 * 39 * 39 * 127 * 127] * 2]


@pytest.mark.parametrize("n_out", [132_104, 132_105])
def test_largest_errors_at_the_end_of_float32(n_out):
    """n_out * 127 is 2**24 - 8 or just above."""
    layer = Network((Dense(2), Dense(n_out)), (1,)).layers[1]
    assert layer.d_dtype is (np.float32 if n_out == 132_104 else np.float64)
    V = layers.visible_weights(layer, np.full((2, n_out), 64, np.int8))
    E = np.full((1, n_out), 127, np.int8)
    E[0, 0] = 126  # the sum is odd or even as it is
    _, D = layers.backward(layer, V, Kept(np.zeros((1, 2), np.int8)), E, None)
    assert D.tolist() == [[n_out * 127 - 1] * 2]


def test_largest_errors_where_pooling_windows_overlap():
    """One place wins all nine windows, so it sends back 9 * 127 a channel: past float32 in all."""
    n_out = 20_001
    layer = conv_layer(Conv(n_out, 1), MaxPool(3, 1), shape=(5, 5, 1))
    a = np.zeros((1, 5, 5, 1), np.int8)
    a[0, 2, 2] = 127
    V = layers.visible_weights(layer, np.full(layer.weight_shape, 64, np.int8))
    _, kept = layers.forward(layer, V, a)
    G, D = layers.backward(
        layer,
        V,
        kept,
        np.full((1, 3, 3, n_out), 127, np.int8),
        (kept.a_in, np.full((1, 3, 3, n_out), 127, np.int8)),
    )
    assert D[0, 2, 2].tolist() == [n_out * 9 * 127]
    assert np.count_nonzero(D) == 1
    assert np.unique(G).tolist() == [127 * 9 * 127]


# --- errors ------------------------------------------------------------------------------------------

VALUES = st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=30)
WIDTH = st.integers(2, 16)


def Q_E(values, k_E, active=None):
    layer = last_layer(1, len(values), k_E=k_E)
    D = np.array([values], np.int64)
    kept = Kept(np.zeros((1, 1), np.int8), active)
    top = layers.mask_saturated(kept, D)
    return layers.error_codes(layer, kept, D, log2_round(top) if top else None)[0].tolist()


@given(VALUES, WIDTH)
def test_error_codes(plain, values, k_E):
    E = Q_E(values, k_E)
    m = plain.exponent(max(map(abs, values)))
    assert [plain.error_code(d, m, k_E) for d in values] == E
    assert max(map(abs, E)) <= plain.top(k_E)
    assert Q_E([-d for d in values], k_E) == [-e for e in E]
    again = Q_E(E, k_E)
    # the largest code, 2**(k_E - 1) / sqrt(2) at least, may round to just below: once more, and it stays
    assert Q_E(again, k_E) == again
    assert again == E or plain.exponent(max(map(abs, E))) == k_E - 2
    assert Q_E([8 * d for d in values], k_E) == E  # Shift takes the scale away


@pytest.mark.parametrize("k_E", range(2, 17))
def test_zero_errors_stay_zero(k_E):
    assert Q_E([0, 0, 0], k_E) == [0, 0, 0]
    layer = last_layer(1, 3, k_E=k_E)
    for dtype in (np.int64, np.float32, np.float64):
        for exponent in (None, 0, 7, 40):
            E = layers.error_codes(layer, Kept(np.zeros((1, 1), np.int8)), np.zeros((1, 3), dtype), exponent)
            assert E.dtype == code_dtype(k_E)
            assert not E.any()


@given(st.lists(st.integers(-(2**24), 2**24), min_size=1), WIDTH, st.integers(0, 30))
def test_error_codes_under_a_held_exponent(plain, values, k_E, m):
    """The exponent is not that of these values: they saturate, or they vanish."""
    layer = last_layer(1, len(values), k_E=k_E)
    for dtype in (np.int64, np.float32, np.float64):
        E = layers.error_codes(layer, Kept(np.zeros((1, 1), np.int8)), np.array([values], dtype), m)
        assert E[0].tolist() == [plain.error_code(d, m, k_E) for d in values]


def test_masks():
    """Clip's mask comes before Shift and ReLU's after it, as in the authors' code."""
    layer = hidden_layer(1, 4)
    kept = Kept(
        np.zeros((1, 1), np.int8),
        active=np.array([[1, 0, 1, 1]], bool),
        saturated=np.array([[0, 0, 1, 0]], bool),
    )
    D = np.array([[64.0, 128.0, 4096.0, -128.0]], np.float32)
    assert layers.mask_saturated(kept, D) == 128  # of the value that ReLU hides, too
    assert D.tolist() == [[64, 128, 0, -128]]
    assert layers.error_codes(layer, kept, D, 7).tolist() == [[64, 0, 0, -127]]


@pytest.mark.parametrize("loss", ["sse", "one-sided", "softmax"])
@pytest.mark.parametrize("margin", [0, 1, 4, 8])
@pytest.mark.parametrize("classes", [1, 2, 3])
def test_output_error(loss, margin, classes, plain):
    layer = last_layer(4, classes)
    target = layer.target
    assert target == 128 << (1 + plain.alpha_shift(4, 2))
    levels = (-target, -1, 0, 1, target // 8 - 1, target // 8, target // 2, target - 1, target, 2 * target)
    Z = np.array(list(product(levels, repeat=classes)), np.int64)
    for label in range(classes):
        before = Z.copy()
        D = layers.output_error(layer, Z, np.full(len(Z), label), Rules(loss=loss, margin=margin))
        assert D.tolist() == [plain.output_error(z, label, target, loss, margin) for z in Z.tolist()]
        assert np.array_equal(Z, before)


@pytest.mark.parametrize(
    ("batch", "first", "recalled"),
    [(1, 0, 1), (1, 7, 1), (6, 0, 1), (6, 18, 1), (1, 3, 3), (1, 5, 3), (8, 8, 3), (6, 6, 2), (16, 0, 7)],
)
def test_errors_of_new_samples_are_shifted(batch, first, recalled):
    layer = last_layer(4, 2)
    Z = np.random.default_rng(0).integers(-4000, 4000, (12, 2))
    labels = np.zeros(12, int)
    D, calm = (
        layers.quiet_new(layers.output_error(layer, Z, labels, rules), first, rules)
        for rules in (Rules(batch=batch), Rules(batch=batch, new_shift=2, recalled=recalled))
    )
    fresh = 1 if batch == 1 else batch // (1 + recalled)
    for i, (whole, shifted) in enumerate(zip(D.tolist(), calm.tolist(), strict=True)):
        new = (first + i) // fresh % (1 + recalled) == 0
        assert shifted == [int(d / 4) if new else d for d in whole]  # towards 0


def test_an_output_that_is_spared_gets_no_error():
    layer, Z = last_layer(4, 3), np.array([[900, -200, 400]] * 3)
    former = np.array([[layers.UNKNOWN, 100, layers.SPARED], [layers.SPARED] * 3, [layers.UNKNOWN] * 3])
    for rules in (Rules(), Rules(loss="one-sided"), Rules(new_shift=1)):
        plain = layers.output_error(layer, Z, np.zeros(3, int), rules)
        D = layers.output_error(layer, Z, np.zeros(3, int), rules, former)
        assert D[0, 0] == plain[0, 0]
        assert D[0, 1] != plain[0, 1]
        assert D[0, 2] == 0 != plain[0, 2]
        assert not D[1].any()
        assert np.array_equal(D[2], plain[2])


def test_a_margin_of_several_lines_is_refused_in_one():
    with pytest.raises(SettingError, match=r"^margin='\\n3/F': want a share"):
        margin_of("\n3/F")


def test_without_a_word_the_rules_are_the_papers():
    wanted = Rules(batch=128, shift="batch", update="wide", loss="sse", feedback="transposed", gamma=1)
    assert Rules() == wanted


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ({"new_shift": 8}, "new_shift=8: want bits, 0..7"),
        ({"new_shift": True}, "new_shift=True: want bits, 0..7"),
        ({"consolidation": 16}, "consolidation=16: want bits, 0..15"),
        ({"recalled": 0}, "recalled=0: want 1..7"),
        ({"recalled": 8}, "recalled=8: want 1..7"),
        ({"new_shift": 1, "batch": 5}, "batch=5 with new_shift=1: want a multiple of 2"),
        (
            {"new_shift": 1, "batch": 6, "recalled": 3},
            "batch=6 with new_shift=1: want a multiple of 4",
        ),
    ],
)
def test_a_wrong_shift_of_new_samples(rules, text):
    with pytest.raises(SettingError, match=f"^{re.escape(text)}$"):
        Rules(**rules)


@pytest.mark.parametrize("margin", [0, 3])
def test_former_logits_add_their_own_error(margin, plain):
    layer = last_layer(4, 3)
    rng = np.random.default_rng(0)
    Z, former = rng.integers(-4000, 4000, (2, 200, 3))
    former[::3], former[1::3, 1] = layers.UNKNOWN, layers.UNKNOWN
    labels, rules = rng.integers(0, 3, 200), Rules(loss="one-sided", margin=margin)
    D = layers.output_error(layer, Z, labels, rules, former)
    expected = [
        [
            d + (0 if f == layers.UNKNOWN else z - f)
            for d, z, f in zip(
                plain.output_error(row, label, layer.target, "one-sided", margin), row, old, strict=True
            )
        ]
        for row, label, old in zip(Z.tolist(), labels.tolist(), former.tolist(), strict=True)
    ]
    assert D.tolist() == expected
    nothing_known = np.full_like(Z, layers.UNKNOWN)
    alone = layers.output_error(layer, Z, labels, rules)
    assert np.array_equal(layers.output_error(layer, Z, labels, rules, nothing_known), alone)


# --- update ------------------------------------------------------------------------------------------


def update_all(layer, S, G, r, m, log2_eta, rules, importance=None):
    """Every S with every G and every r, in one layer: (fan_in, n_out) = (G, S x r)."""
    s, rr = np.repeat(S, len(r)), np.tile(r, len(S))
    stored = np.tile(s, (len(G), 1)).astype(code_dtype(layer.bits.k_G))
    gradient = np.repeat(np.array(G)[:, None], len(s), 1).astype(layer.gradient_rows[1])
    with patch.object(
        random_bits, "bits16", lambda *a: np.tile(rr, len(G)).astype(np.uint16)[a[1] : a[1] + a[2]]
    ):
        before = stored.copy()
        new = layers.update(layer, stored, gradient, layers.Move(m, log2_eta, 0, 0, importance), rules)
        assert np.array_equal(stored, before)
    return s.tolist(), rr.tolist(), new


GRADIENTS = [0, 1, -1, 2, -3, 89, -91, 127, -128, 181, 1000, -1023, 4095, -4097, 16129]


@pytest.mark.parametrize("log2_eta", [-16, -3, 0, 3, 16])
@pytest.mark.parametrize("update", ["wide", "ternary"])
@pytest.mark.parametrize("stored_range", ["authors", "paper"])
@pytest.mark.parametrize("k_G", [2, 5, 8])
def test_update_of_every_stored_weight(k_G, stored_range, update, log2_eta, plain):
    rules = Rules(update=update, stored_range=stored_range)
    bound, r = plain.stored_bound(2, k_G, stored_range), [0, 1, 32768, 65535]
    S = np.arange(-bound, bound + 1)
    layer = last_layer(len(GRADIENTS), len(S) * len(r), k_G=k_G)
    m = log2_round(max(map(abs, GRADIENTS)))
    s, rr, new = update_all(layer, S, GRADIENTS, r, m, log2_eta, rules)
    assert new.dtype == code_dtype(k_G)
    for g, row in zip(GRADIENTS, new.tolist(), strict=True):
        pairs = zip(s, rr, strict=True)
        assert row == [plain.updated(w, g, x, m, log2_eta, bound, update == "ternary") for w, x in pairs]
        assert update == "wide" or max(abs(a - b) for a, b in zip(row, s, strict=True)) <= 1


@pytest.mark.parametrize("update", ["wide", "ternary"])
@pytest.mark.parametrize("k_G", range(9, 17))
@pytest.mark.parametrize("k_W", [2, 16])
def test_update_at_the_ends_of_wide_weights(k_W, k_G, update, plain):
    rules = Rules(update=update, stored_range="paper")
    bound, r = plain.top(k_G), [0, 1, 40000, 65535]
    S = np.array([-bound, 1 - bound, -1, 0, 1, bound - 1, bound])
    layer = last_layer(len(GRADIENTS), len(S) * len(r), k_W=k_W, k_G=k_G)
    for log2_eta, m in ((0, 14), (3, 14), (16, 14), (16, 0), (-16, 40)):
        s, rr, new = update_all(layer, S, GRADIENTS, r, m, log2_eta, rules)
        for g, row in zip(GRADIENTS, new.tolist(), strict=True):
            pairs = zip(s, rr, strict=True)
            assert row == [plain.updated(w, g, x, m, log2_eta, bound, update == "ternary") for w, x in pairs]


@given(
    st.lists(st.integers(-(2**45), 2**45), min_size=1, max_size=20),
    st.integers(-16, 16),
    st.integers(0, 2**30),
)
def test_update_of_large_gradients(plain, values, log2_eta, seed):
    layer = last_layer(len(values), 2, k_G=12)
    S, G = (
        codes((len(values), 2), 12, 1, low=-1024).clip(-1024, 1024),
        np.array([values, values[::-1]], np.float64).T,
    )
    m = log2_round(max(1, peak(G)))
    r = random_bits.bits16((seed, random_bits.UPDATE, 0, 5), 0, S.size)
    for update in ("wide", "ternary"):
        new = layers.update(layer, S, G, layers.Move(m, log2_eta, seed, 5), Rules(update=update))
        of = zip(S.ravel().tolist(), plain.ints(G).ravel().tolist(), r.tolist(), strict=True)
        assert new.ravel().tolist() == [plain.updated(*w, m, log2_eta, 1024, update == "ternary") for w in of]


def test_bits_that_are_dropped_before_the_random_ones_are_added(plain):
    """2**24 - 1 just misses one unit of 2**-16 and must not be rounded up to it, in float32 either."""
    G, S, r = [2**24 - 1, 1 - 2**24, 2**24], np.arange(-3, 4), [0, 65534, 65535]
    layer = last_layer(len(G), len(S) * len(r))
    assert layer.gradient_rows[1] is np.float32
    s, rr, new = update_all(layer, S, G, r, 24, -16, Rules())
    for g, row in zip(G, new.tolist(), strict=True):
        assert row == [plain.updated(w, g, x, 24, -16, 64, False) for w, x in zip(s, rr, strict=True)]
    assert not np.array_equal(new[2], new[0])


@pytest.mark.parametrize("silent", [0, 1, 10, 20, 30, 39, 40])
def test_update_when_inputs_are_silent(silent, plain):
    """Rows of zeros change nothing and take nobody else's random bits."""
    layer = last_layer(40, 3)
    S, G = codes((40, 3), 8, 1).clip(-64, 64), codes((40, 3), 16, 2).astype(np.float32)
    G[np.random.default_rng(0).permutation(40)[:silent]] = 0
    r = random_bits.bits16((7, random_bits.UPDATE, 0, 3), 0, 120)
    new = layers.update(layer, S, G, layers.Move(15, 3, 7, 3), Rules())
    of = zip(S.ravel().tolist(), plain.ints(G).ravel().tolist(), r.tolist(), strict=True)
    assert new.ravel().tolist() == [plain.updated(*w, 15, 3, 64, False) for w in of]
    assert np.array_equal(new, S) == (silent == 40)


def test_no_exponent_or_no_gradient_no_update():
    layer = last_layer(4, 3)
    S = layers.initial_weights(layer, 0)
    for G, exponent in ((np.ones((4, 3), np.float32), None), (np.zeros((4, 3), np.float32), 3)):
        assert np.array_equal(layers.update(layer, S, G, layers.Move(exponent, 16, 0, 0), Rules()), S)


@pytest.mark.parametrize("stored_range", ["authors", "paper"])
@pytest.mark.parametrize("k_G", [2, 8, 16])
def test_update_by_coincidence(k_G, stored_range, plain):
    bound = plain.stored_bound(2, k_G, stored_range)
    S = np.array([[-bound, 1 - bound, 0, bound - 1, bound]], code_dtype(k_G))
    layer = last_layer(1, 5, k_G=k_G)
    rules = Rules(batch=1, update="coincidence", stored_range=stored_range)
    for g in (-9, -1, 0, 1, 9):
        new = layers.update(layer, S, np.full((1, 5), g, np.float32), layers.Move(None, 0, 0, 0), rules)
        assert new.dtype == S.dtype
        assert new[0].tolist() == [plain.clip(s - plain.clip(g, -1, 1), -bound, bound) for s in S[0].tolist()]


@pytest.mark.parametrize("metaplasticity", [0, 1, 3, 16])
@pytest.mark.parametrize("update", ["wide", "ternary", "coincidence"])
@pytest.mark.parametrize("k_G", [2, 5, 8, 11])
def test_update_of_weights_that_are_held_on_to(k_G, update, metaplasticity, plain):
    """Every size of a weight and every importance, towards 0 and away from it."""
    rules = Rules(batch=1, update=update, stored_range="paper", metaplasticity=metaplasticity)
    bound, r = plain.top(k_G), [0, 1, 300, 32768, 65535]
    S = np.arange(-bound, bound + 1, max(1, bound // 64))
    layer = last_layer(len(GRADIENTS), len(S) * len(r), k_G=k_G)
    bits = (np.arange(layer.n_weights) % 16).astype(np.uint16).reshape(layer.weight_shape)
    importance = np.stack([bits, 65530 + bits % 6])
    m, log2_eta, gradients, largest = 13, 3, GRADIENTS, 2 * bound if update == "wide" else 1
    if update == "coincidence":
        m, log2_eta, gradients = None, 0, np.sign(GRADIENTS).tolist()
    held = importance.copy()
    s, rr, new = update_all(layer, S, gradients, r, m, log2_eta, rules, held)
    assert np.array_equal(held[0], bits)
    steps = np.zeros(layer.weight_shape, int)
    for j, (g, row) in enumerate(zip(gradients, new.tolist(), strict=True)):
        of = list(zip(s, rr, bits[j].tolist(), strict=True))
        sizes = (m or 0, log2_eta, largest)
        assert row == [
            plain.damped(w, g, x, *sizes, bound, b, metaplasticity, 2 ** (k_G - 2)) for w, x, b in of
        ]
        # a step is counted at the ends of the range, too
        steps[j] = [
            plain.damped(w, g, x, *sizes, 2**20, b, metaplasticity, 2 ** (k_G - 2)) != w for w, x, b in of
        ]
    assert np.array_equal(held[1], np.minimum(importance[1] + steps, 65535))


def test_what_is_not_held_on_to_is_the_plain_update():
    layer = last_layer(40, 30)
    S, G = codes((40, 30), 8, 1).clip(-64, 64), codes((40, 30), 16, 2).astype(np.float32)
    G[::2] = 0
    rules = Rules(batch=1, update="ternary")
    plainly = layers.update(layer, S, G, layers.Move(15, 3, 0, 0), rules)
    assert np.array_equal(
        plainly,
        layers.update(layer, S, G, layers.Move(15, 3, 0, 0, np.zeros((2, *S.shape), np.uint16)), rules),
    )
    kept = layers.update(layer, S, G, layers.Move(15, 3, 0, 0), replace(rules, metaplasticity=16))
    outwards = (np.abs(plainly) > np.abs(S)) | (S == 0)
    assert np.array_equal(kept[outwards], plainly[outwards])
    assert (kept != plainly)[~outwards].any()


@pytest.mark.parametrize("samples", [1, 7, 1000])
def test_importance_of_every_count(samples):
    """One bit less for half as many steps; never less than it was."""
    rules = Rules(consolidation=6)
    steps = np.arange(samples + 1)
    for before in (0, 3, 6):
        held = np.stack([np.full_like(steps, before), steps]).astype(np.uint16)
        new = layers.consolidate(held, samples, rules)
        fewer = [len(f"{samples:b}") - len(f"{n:b}") for n in steps]  # halvings
        of = [max(before, min(6, 6 + before - f)) if n else before for n, f in zip(steps, fewer, strict=True)]
        assert new.tolist() == [of, [0] * len(of)]
        assert new.dtype == np.uint16


@pytest.mark.parametrize("log2_eta", [-16, -3, 0, 3, 16])
def test_learning_spikes_of_every_code(log2_eta, plain):
    every = np.arange(-127, 128, dtype=np.int8)
    layer = last_layer(255, 255)
    for r in (0, 1, 511, 512, 32767, 65024, 65535):
        with patch.object(random_bits, "bits16", lambda *a, r=r: np.full(a[2], r, np.uint16)):
            pre = layers.pre_spikes(layer, every[None], layers.Draw(0, 0))
            post = layers.post_spikes(layer, every[None], log2_eta, layers.Draw(0, 0))
        assert pre[0].tolist() == [plain.spike(a, r, -7) for a in every.tolist()]
        assert post[0].tolist() == [plain.spike(e, r, log2_eta - 7) for e in every.tolist()]


def test_learning_spikes_are_drawn_for_each_neuron():
    layer = last_layer(60, 60)
    codes_64 = np.full((1, 60), 64, np.int8)

    def drawn(seed, step):
        draw = layers.Draw(seed, step)
        return layers.pre_spikes(layer, codes_64, draw), layers.post_spikes(layer, codes_64, 0, draw)

    first = drawn(1, 2)
    for pre_or_post in first:
        assert 15 < pre_or_post.sum() < 45  # half of 60
    assert not np.array_equal(*first)
    for seed, step in ((2, 2), (1, 3)):
        assert not np.array_equal(first, drawn(seed, step))


# --- specs and rules ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        *[
            (lambda v=v: Dense(v), f"Dense units={v!r}: want a whole number >= 1")
            for v in (0, -1, 2.0, True, "4")
        ],
        (lambda: Conv(0, 3), "Conv channels=0: want a whole number >= 1"),
        (lambda: Conv(4, 0), "Conv kernel=0: want a whole number >= 1"),
        (lambda: Conv(4, 3, 0), "Conv stride=0: want a whole number >= 1"),
        (lambda: Conv(4, 3, 1, "same"), "Conv padding='same': want 'SAME' or 'VALID'"),
        (lambda: MaxPool(0), "MaxPool size=0: want a whole number >= 1"),
        (lambda: MaxPool(2, 0), "MaxPool stride=0: want a whole number >= 1"),
        (lambda: MaxPool(16), "MaxPool size=16: want 1..15"),
        (lambda: AvgPool(3), "AvgPool size=3: want 2, 4, 8"),
        (lambda: AvgPool(True), "AvgPool size=True: want a whole number >= 1"),
    ],
)
def test_spec_errors(make, message):
    with pytest.raises(NetworkError, match=f"^{re.escape(message)}$"):
        make()


@pytest.mark.parametrize(
    ("name", "value", "want"),
    [
        *[(name, v, "1 or more") for name in ("batch", "hold") for v in (0, -1, 1.0, True, "1", None)],
        ("shift", "hold", "batch or held"),
        ("update", "", "wide, ternary or coincidence"),
        ("stored_range", None, "authors or paper"),
        ("loss", "ce", "sse, one-sided or softmax"),
        *[("margin", v, "eighths of the target, 0..8") for v in (-1, 9, True, 0.5, "1", 4.0)],
        *[("metaplasticity", v, "bits, 0..16") for v in (-1, 17, True, 1.0)],
        *[("consolidation", v, "bits, 0..15") for v in (-1, 16, None, "2")],
    ],
)
def test_rules_errors(name, value, want):
    with pytest.raises(SettingError, match=f"^{re.escape(f'{name}={value!r}: want {want}')}$"):
        Rules(**{name: value})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"batch": 2, "update": "coincidence"},
            "batch=2 with update='coincidence': spikes meet one sample at a time, so batch=1 or pipelined",
        ),
        ({"pipelined": True}, "shift='batch' with pipelined: want 'held', no sample waits for others"),
    ],
)
def test_rules_that_exclude_each_other(given, message):
    with pytest.raises(SettingError, match=f"^{re.escape(message)}$"):
        Rules(**given)
    assert Rules(batch=1, update="coincidence").batch == 1
    assert Rules(batch=2, update="coincidence", shift="held", pipelined=True).pipelined
