"""Normalisation in integers: against fractions, its laws, a state that goes on, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wage_neuro import Conv, Dense, Flatten, Network, NumpyEngine, Rules, initial_state, layers, normal
from wage_neuro.checkpoint import Checkpoint, load, save
from wage_neuro.control import Control
from wage_neuro.errors import CheckpointError, NetworkError, SettingError
from wage_neuro.layers import Kept
from wage_neuro.train import Batch, predict, train_step

NET = Network.parse("3C3N-MP2-F-6FCN-4FC", (6, 6, 2))
RULES = Rules(batch=8)


def batches(n: int, seed: int = 5) -> list[Batch]:
    rng = np.random.default_rng(seed)
    return [
        Batch(rng.integers(0, 128, (8, 6, 6, 2)).astype(np.int8), rng.integers(0, 4, 8)) for _ in range(n)
    ]


@given(st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=20), st.integers(0, 20))
def test_round_shift(plain, values, shift):
    assert normal.round_shift(np.array(values), shift).tolist() == [plain.rne(x, shift) for x in values]
    many = np.full(len(values), shift)
    assert normal.round_shift(np.array(values), many).tolist() == [plain.rne(x, shift) for x in values]


@given(st.integers(-(2**40), 2**40), st.integers(1, 2**20))
def test_divide(a, b):
    assert normal.divide(np.array([a]), b).tolist() == [floor(Fraction(a, b) + Fraction(1, 2))]


@pytest.mark.parametrize("layer", [NET.layers[0], NET.layers[1]], ids=str)
def test_forward_is_a_centre_and_a_shift_of_each_channel(plain, layer):
    """Against Python ints from the products on; pooling alone is the layer's own."""
    rng = np.random.default_rng(2)
    V = rng.integers(-1, 2, (layer.fan_in, layer.weight_shape[-1])).astype(layer.z_dtype)
    a = rng.integers(0, 128, (8, *layer.in_shape)).astype(np.int8)
    norm = normal.at_start(layer)
    assert norm is not None
    norm[0] = rng.integers(-(300 << 8), 300 << 8, norm.shape[1])
    norm[2] = rng.integers(0, layer.a_shift + 2, norm.shape[1])
    out, kept = layers.forward(layer, V, a, norm)
    Z = layers.pooled(layer, layers.products(layer, V, a), layers.no_winner(layer, len(a)))
    for channel in range(norm.shape[1]):
        centre, shift = plain.rne(int(norm[0, channel]), 8), int(norm[2, channel])
        pairs = zip(Z[..., channel].flat, out[..., channel].flat, kept.u[..., channel].flat, strict=True)
        for z, code, u in pairs:
            U = int(z) - centre
            assert u == plain.clip(plain.rne(U, shift), -127, 127)
            assert code == max(0, u)
        U = Z[..., channel] - centre
        assert np.array_equal(kept.active[..., channel], U > 0)
        assert np.array_equal(kept.saturated[..., channel], 127 << shift < U)
    assert (kept.u < 0).any()
    assert kept.saturated.any()


@pytest.mark.parametrize("shape", [(40, 3), (5, 4, 3, 3)])
def test_projection_against_fractions(plain, shape):
    rng = np.random.default_rng(4)
    D, u = rng.integers(-5000, 5000, shape), rng.integers(-127, 128, shape).astype(np.int8)
    u[..., 2] = 0  # a silent channel has a mean alone
    active, saturated = rng.random(shape) < 0.6, rng.random(shape) < 0.1
    norm = np.array([[0, 0, 0], [1, 1, 1], [3, 5, 3]], np.int64)
    found = normal.project(norm, Kept(u, active, saturated, None, u), D.astype(np.float32))
    passed = np.where(active & ~saturated, D, 0).reshape(-1, 3)
    top, n = int(np.abs(passed).max()), len(passed)
    for channel in range(3):
        d, c = passed[:, channel].tolist(), u.reshape(-1, 3)[:, channel].tolist()
        square = max(1, sum(x * x for x in c))
        mean = floor(Fraction(sum(d) << 8, n) + Fraction(1, 2))
        slope = floor(Fraction(sum(x * y for x, y in zip(d, c, strict=True)) << 8, square) + Fraction(1, 2))
        down = 8 + int(norm[2, channel]) - 3
        want = [
            plain.clip(plain.rne((x << 8) - mean - slope * y, down), -top, top)
            for x, y in zip(d, c, strict=True)
        ]
        assert found.reshape(-1, 3)[:, channel].tolist() == want


def test_a_projected_error_has_hardly_a_part_along_1_and_the_codes():
    rng = np.random.default_rng(4)
    u = rng.integers(-127, 128, (5000, 1)).astype(np.int8)
    u[::2] = -u[1::2]  # a mean of 0, as centres keep it
    D = 3000 + 20 * u.astype(np.int64) + rng.integers(-900, 900, u.shape)
    norm, everywhere = np.array([[0], [1], [3]]), np.ones(u.shape, bool)
    left = normal.project(norm, Kept(u, everywhere, ~everywhere, None, u), D)
    assert abs(left.mean()) < 1
    assert abs((left * u).sum() / (u.astype(int) ** 2).sum()) < 0.01
    assert left.std() > 400


def test_statistics_follow_a_channel_and_its_codes_fill_a_quarter():
    """Products of a normal channel: the centre reaches their mean, the shift their scale; and it stays."""
    layer, rng = NET.layers[1], np.random.default_rng(1)
    norm = normal.at_start(layer)
    assert norm is not None
    assert norm[2].tolist() == [layer.a_shift] * 6
    seen = []
    for _ in range(300):
        Z = (rng.normal(300, 900, (512, 6))).astype(np.float32)
        u = np.clip(np.rint(normal.codes(layer, norm, Z)), -127, 127)
        norm = normal.follow(layer, norm, u.astype(np.int8))
        assert normal.can_be(layer, norm)
        seen.append(norm[2].tolist())
    assert np.abs(norm[0] / 256 - 300).max() < 60
    # a mean magnitude of 718 in codes of 2**shift: nearest to 32 where the shift is 4 or 5, and one cap
    assert (
        all(19 <= size / 256 <= 54 for size in norm[1]) or norm[2].tolist() == [normal.shift_max(layer)] * 6
    )
    assert seen[-100:] == [seen[-1]] * 100


@pytest.mark.parametrize(
    ("size", "spread", "shift", "after"),
    [  # codes of this mean magnitude; 32 codes are aimed at, 19 and 54 are the borders, which belong to it
        (19, 4864, 2, (4864, 2)),
        (19, 4863, 2, (2 * 4863, 1)),
        (19, 4863, 1, (2 * 4863, 0)),
        (19, 4863, 0, (4863, 0)),
        (54, 13824, 2, (13824, 2)),
        (54, 13825, 2, (6912, 3)),
        (54, 13825, 99, (13825, 99)),  # the largest
    ],
)
def test_a_shift_moves_past_its_borders(size, spread, shift, after):
    layer = NET.layers[1]
    shift, last = (min(each, normal.shift_max(layer)) for each in (shift, after[1]))
    norm = np.array([[0] * 6, [spread] * 6, [shift] * 6])
    u = np.full((10, 6), size)
    u[::2] *= -1
    found = normal.follow(layer, norm, u.astype(np.int8))
    assert found.tolist() == [[0] * 6, [after[0]] * 6, [last] * 6]


@pytest.mark.parametrize("bits", ["2888", "88C8", "2488"])
def test_at_the_largest_shift_the_largest_sum_is_within_the_level(bits):
    for layer in replace(NET, bits=bits).layers[:2]:
        level, shift = normal.level(layer), normal.shift_max(layer)
        assert layer.pooled_bound / 2**shift < level <= layer.pooled_bound / 2 ** (shift - 1)


def test_the_largest_shift_is_above_that_of_the_start():
    layer = Network.parse("1FCN-2FC", (1,), bits="2288").layers[0]
    assert layer.pooled_bound == normal.level(layer) == 1
    assert normal.shift_max(layer) == layer.a_shift + 1 == 2


def test_the_largest_statistics():
    layer = NET.layers[1]
    norm = np.array([[normal.centre_max(layer)] * 6, [127 << 9] * 6, [normal.shift_max(layer)] * 6])
    assert normal.can_be(layer, norm)
    for row in range(3):
        past = norm.copy()
        past[row, 3] += 1
        assert not normal.can_be(layer, past)


def test_a_state_goes_on_to_the_same_bits_and_answers_by_its_statistics(stopped_and_whole):
    _, state = stopped_and_whole(NET, RULES, batches(8))
    x = batches(1)[0].x
    other = state.having(
        norm=[
            None if n is None else normal.at_start(layer)
            for layer, n in zip(NET.layers, state.norm, strict=True)
        ]
    )
    assert other != state
    assert not np.array_equal(predict(NET, state, x), predict(NET, other, x))


def test_without_a_gradient_statistics_stay():
    state, _ = train_step(NET, initial_state(NET), batches(1)[0], 3, RULES)
    black = Batch(np.zeros((8, 6, 6, 2), np.int8), np.arange(8) % 4)
    after, _ = train_step(NET, state, black, 3, RULES)
    assert np.array_equal(after.norm[0], state.norm[0])
    frozen, _ = train_step(NET, state, batches(1)[0], Control(log2_eta=(None, 3, 3)), RULES)
    assert np.array_equal(frozen.norm[0], state.norm[0])
    assert not np.array_equal(frozen.norm[1], state.norm[1])


def test_text_of_a_network():
    text = "8C3S2VN-MP2-F-16FCN-4FC"
    net = Network.parse(text, (20, 20, 1))
    assert str(net) == text
    assert net.specs[0] == Conv(8, 3, 2, "VALID", normalised=True)
    assert [layer.normalised for layer in net.layers] == [True, True, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm0": None}, r"norm of layer 0: want int64 \(3, 3\), statistics that can be"),
        ({"norm0": np.zeros((3, 3), np.int32)}, "norm of layer 0"),
        ({"norm1": np.full((3, 6), -1)}, "norm of layer 1"),
        ({"norm1": np.full((3, 6), 99)}, "norm of layer 1"),
        (
            {"norm2": np.zeros((3, 4), np.int64)},
            "an array 'norm2': want weights, importance, momentum and norm",
        ),
    ],
)
def test_statistics_that_cannot_be_are_refused(tmp_path, change, message):
    path = tmp_path / "a.npz"
    save(path, Checkpoint(NET, RULES, initial_state(NET)))
    with np.load(path) as file:
        arrays = {**file, **change}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(CheckpointError, match=message):
        load(path)


def test_what_is_refused():
    with pytest.raises(NetworkError, match=r"^layer 0 4FCN: only hidden layers may be normalised$"):
        Network((Dense(4, normalised=True),), (3,))
    with pytest.raises(SettingError, match=r"^batch=1: a normalised layer \(3C3N\) learns from batches$"):
        NumpyEngine(NET, Rules(batch=1))
    with pytest.raises(SettingError, match=r"^pipelined: a normalised layer \(3C3N\) learns from batches$"):
        NumpyEngine(NET, Rules(shift="held", pipelined=True))
    wide = replace(Network((Conv(2, 3, normalised=True), Flatten(), Dense(4)), (64, 64, 1)), bits="2-16-8-16")
    with pytest.raises(
        SettingError, match=r"^batch=65536: sums of errors of layer 0 2C3N, normalised, may reach"
    ):
        normal.prove(wide.layers[0], 65536, 2**30)
    with pytest.raises(AssertionError, match="statistics of a normalised layer alone"):
        layers.forward(NET.layers[0], np.zeros((18, 3)), np.zeros((1, 6, 6, 2)))
