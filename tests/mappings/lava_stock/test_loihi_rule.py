"""Where learning in lava-nc's stock LearningDense equals ours bit for bit, and where it cannot.

Every statement is made on the real engine: a Lava that changes one of them fails here.
"""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

pytest.importorskip("lava", reason="lava-nc is not installed")

from lava.magma.core.learning.constants import GradedSpikeCfg
from lava.magma.core.learning.learning_rule import Loihi3FLearningRule
from lava.proc.dense.process import LearningDense
from lava.proc.io.source import RingBuffer

from mappings.engines.lava.graph import Graph
from mappings.lava_stock.loihi_rule import (
    NO_DECAY,
    STEPS_A_SAMPLE,
    LoihiRule,
    dw_string,
    dw_string_to_even,
    learn,
    learning_rule,
)
from wage_neuro import Bits, Dense, Flatten, Network, Rules, layers
from wage_neuro.errors import DataError, EngineError, SettingError
from wage_neuro.fixed_point import round_shift_half_even

DT = "x0*x1*y1*2^-7"
RULES = Rules(batch=1, update="wide", stored_range="paper")


def rule(dt=DT, seed=1, tau=NO_DECAY, **settings):
    made = Loihi3FLearningRule(dt=dt, x1_tau=tau, rng_seed=seed, **settings)
    made.y1_tau = tau
    return made


def play(learning_rule, pre, y1, tags=0, bap=None, names=("tag_1",)):
    """Let the stock engine alone run: (n_in, steps) payloads, (n_out, steps) y1; Vars after each step."""
    pre, y1 = np.atleast_2d(pre), np.atleast_2d(y1)
    shape = (len(y1), len(pre))
    synapses = LearningDense(
        weights=np.zeros(shape, int),
        tag_1=np.broadcast_to(tags, shape).astype(int),
        learning_rule=learning_rule,
        num_message_bits=8,
        graded_spike_cfg=GradedSpikeCfg.OVERWRITE,
    )
    inputs = {"s_in": pre, "s_in_y1": y1} | ({} if bap is None else {"s_in_bap": np.atleast_2d(bap)})
    for port, data in inputs.items():
        RingBuffer(data=data).s_out.connect(getattr(synapses, port))
    seen = {name: [] for name in names}
    with contextlib.closing(Graph(synapses)) as graph:
        for _ in range(pre.shape[1]):
            graph.run(1)
            for name in names:
                seen[name].append(getattr(synapses, name).get().astype(int))
    return [np.array(seen[name]) for name in names]


def oracle(network, images, labels, S, log2_eta):
    """Our own functions, sample by sample, with the exponents held where the rule has them."""
    layer, peaks = network.layers[0], []
    error_exponent = network.bits.k_A - 1 + layer.z_shift
    gradient_exponent = network.bits.k_A - 1 + network.bits.k_E - 1
    for step, x in enumerate(network.encode(images)):
        Z, kept = layers.forward(layer, layers.visible_weights(layer, S), x[None])
        D = layers.output_error(layer, Z, labels[step : step + 1], RULES)
        E = layers.error_codes(layer, kept, D, error_exponent)
        G, _ = layers.backward(layer, layers.visible_weights(layer, S), kept, E, (kept.a_in, E))
        S = layers.update(layer, S, G, layers.Move(gradient_exponent, log2_eta, 0, step), RULES)
        peaks.append(int(np.abs(S).max()))
    return S, max(peaks)


def plain_engine(network, images, labels, S, log2_eta):
    """What the learning engine computes, in plain numpy: nothing here is ours."""
    layer, bits = network.layers[0], network.bits
    t, draw = S.astype(int).T, np.random.default_rng(2)
    draw.random(1)
    up = log2_eta - (bits.k_A - 1) - (bits.k_E - 1) + 10
    for a, label in zip(network.encode(images).astype(int), labels, strict=True):
        w = 32 * np.sign(t - 32) + 32 * np.sign(t + 32)
        D = -((w @ (2 * a)) >> 7)
        D[label] += layer.target
        y1 = np.clip(np.rint(D * 2.0 ** (bits.k_E - 1) / layer.target), -bits.error_max, bits.error_max)
        accumulated = (t << 7) + (((y1.astype(int)[:, None] * a) >> 3) << up)
        whole, rest = np.divmod(np.clip(accumulated, -(2**15) - 1, 2**15 - 1), 128)
        one_for_all = draw.random(1)
        draw.random(1)  # the epoch in which the weights follow
        t = whole + (128 * one_for_all < rest)
    return t.T


# --- equal -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "log2_eta"), [("2884", 4), ("2895", 5)])
def test_tags_equal_our_stored_weights_where_nothing_is_rounded(bits, log2_eta, assert_same_arrays):
    """Activations 0 and 64 at a unit of 64: every step is whole, so no random bit is used on either side."""
    network, rng = Network((Dense(5),), (20,), bits), np.random.default_rng(0)
    images = ((rng.random((60, 20)) < 0.4) * 128).astype(np.uint8)
    labels = rng.integers(0, 5, 60)
    S = layers.initial_weights(network.layers[0], seed=3)
    expected, peak = oracle(network, images, labels, S, log2_eta)
    assert 1 << (network.bits.k_G - 2) < peak < network.bits.stored_max("paper"), "learns, does not saturate"
    learned = learn(network, (images, labels), log2_eta, seed=3, to_even=True)
    assert_same_arrays(learned.tags, expected.astype(np.int16), "tags")
    V = layers.visible_weights(network.layers[0], expected)
    assert_same_arrays(learned.weights, 64 * V.astype(np.int16), "weights")
    Z, _ = layers.forward(network.layers[0], V, network.encode(images))
    assert_same_arrays(learned.predict(images), Z, "logits")


@pytest.mark.parametrize("dw", [dw_string, dw_string_to_even])
def test_every_tag_shows_its_ternary_weight_but_half_at_the_threshold(dw):
    t = np.arange(-256, 256)
    made = Loihi3FLearningRule(dw=dw(32), rng_seed=1)
    (weights,) = play(made, np.zeros((512, 1), int), 0, tags=t, names=("weights",))
    expected = 64 * np.clip(round_shift_half_even(t, 6), -1, 1)
    if dw is dw_string:
        assert expected[np.abs(t) == 32].tolist() == [0, 0]
        expected[np.abs(t) == 32] = [-32, 32]
    assert weights[0, 0].tolist() == expected.tolist()


def test_tags_learn_when_the_error_arrives_and_weights_follow_an_epoch_later():
    network = Network((Dense(1),), (1,), "2884")
    images, labels = np.full((2, 1), 128, np.uint8), np.zeros(2, int)
    built = LoihiRule.build(network, images, labels, np.array([[30]], np.int16), learning_rule(network, 4))
    seen = []
    with contextlib.closing(Graph(built.synapses)) as graph:
        for _ in range(2 * STEPS_A_SAMPLE):
            graph.run(1)
            seen.append([getattr(built.synapses, name).get().item() for name in ("y1", "tag_1", "weights")])
    # spikes in steps 1 and 5; the second sample is answered with the new weight, so its error is smaller
    assert [step[0] for step in seen] == [0, 7, 0, 0, 0, 6, 0, 0]
    assert [step[1] for step in seen] == [30, 37, 37, 37, 37, 43, 43, 43]
    assert [step[2] for step in seen] == [0, 0, 0, 64, 64, 64, 64, 64]


def test_the_engine_learns_as_its_plain_model_says(assert_same_arrays, sparse_images):
    """With rounding: the whole run is predicted from one random number an epoch."""
    network = Network((Dense(5),), (20,), "2884")
    images, labels = sparse_images(60, (20,), 5)
    S = layers.initial_weights(network.layers[0], seed=0)
    expected = plain_engine(network, images, labels, S, log2_eta=1)
    assert np.count_nonzero(expected != S) > 50
    assert_same_arrays(learn(network, (images, labels), 1).tags, expected.astype(np.int16), "tags")


# --- cannot: the synapse's rounding ------------------------------------------------------------------


def test_one_random_number_rounds_all_synapses_and_its_seed_is_fixed():
    steps = 40
    pre, y1 = np.full((6, steps), 2 * 64), np.full((1, steps), 8)  # half a tag a step
    (tags,) = play(rule(seed=1), pre, y1)
    (other,) = play(rule(seed=999), pre, y1)
    assert np.all(tags == tags[:, :, :1]), "each synapse has bits of its own now"
    assert np.array_equal(tags, other), "rng_seed reaches the synapses now"
    draw = np.random.default_rng(2).random(steps + 1)[1:]
    assert np.diff(tags[:, 0, 0], prepend=0).tolist() == (draw < 0.5).astype(int).tolist()


def test_products_are_floored_to_eighths_before_they_are_rounded():
    pre, y1 = np.full((1, 1), 2 * 7), np.array([[1], [-1], [2], [-2]])
    (tags,) = play(rule(dt="x0*x1*y1*2^0"), pre, y1)
    assert tags[0, :, 0].tolist() == [0, -1, 1, -2]  # 7/8, -7/8, 14/8, -14/8 to minus infinity
    G = np.array([[7.0, -7.0, 14.0, -14.0]])
    layer = Network((Dense(4),), (1,)).layers[0]
    ours = layers.update(layer, np.zeros((1, 4), np.int8), G, layers.Move(9, 9, 0, 0), RULES)
    assert np.array_equal(np.abs(ours), np.abs(G)), "ours keeps the sign out of the rounding"


def test_no_step_is_clipped_and_2_to_the_minus_10_is_the_smallest_scale():
    (tags,) = play(rule(), np.full((1, 1), 254), np.array([[127], [-127]]))
    assert np.all(np.isin(np.abs(tags), (15, 16)))  # 127 * 127 / 1024: update="ternary" would be 1
    for scale in ("2^-8", "9", "2^10"):
        with pytest.raises(ValueError, match=r"[Ee]xponent|[Mm]antissa"):
            Loihi3FLearningRule(dt=f"x0*x1*y1*{scale}")


def test_tags_saturate_at_255_and_minus_256_only():
    (tags,) = play(rule(dt="x0*x1*y1*2^0"), np.full((1, 1), 254), np.array([[127], [-127]]))
    assert tags[0, :, 0].tolist() == [255, -256]  # or -257, one time in 128
    assert Bits().stored_max("authors") == 64
    assert Bits().stored_max("paper") == 127


# --- cannot: traces ----------------------------------------------------------------------------------


def test_a_payload_is_halved_to_7_bits_without_a_sign():
    payload = np.array([0, 1, 2, 3, 5, 254, 255, 256, 512, -3, -100])
    (x1,) = play(rule(), payload[:, None], 0, names=("x1",))
    assert x1[0].tolist() == [0, 0, 1, 2, 2, 127, 127, 127, 0, 127, 127]


def test_a_silent_input_keeps_its_trace_so_x0_must_gate():
    pre, y1 = np.array([[2 * 64, 0, 0]]), np.array([[16, 16, 16]])
    (gated,) = play(rule(dt="x0*x1*y1*2^-7"), pre, y1)
    (free,) = play(rule(dt="u0*x1*y1*2^-7"), pre, y1)
    assert gated[:, 0, 0].tolist() == [1, 1, 1]
    assert free[:, 0, 0].tolist() == [1, 2, 3]


def test_a_post_spike_cuts_a_negative_error_to_0():
    pre, y1 = np.full((1, 1), 2 * 64), np.array([[16], [-16]])
    (silent,) = play(rule(), pre, y1)
    (spiking,) = play(rule(), pre, y1, bap=np.ones((2, 1), int))
    assert silent[0, :, 0].tolist() == [1, -1]
    assert spiking[0, :, 0].tolist() == [1, 0]


def test_traces_decay_with_the_usual_time_constant_and_vanish_with_0():
    # a seed whose decay lies above 1 - 127 / 65535 at the first epoch
    seed = next(s for s in range(100_000) if np.random.default_rng(s).random(3)[2] > 0.9985)
    pre, y1 = np.full((1, 1), 254), np.array([[0]])
    for tau, expected in ((65535, 126), (NO_DECAY, 127), (0, 0)):
        (x1,) = play(rule(tau=tau, seed=seed), pre, y1, names=("x1",))
        assert x1[0].tolist() == [expected], tau
    assert Loihi3FLearningRule(dt=DT).y1_tau == 65535, "a third factor decays by default"


# --- cannot: the language of the rules ---------------------------------------------------------------


@pytest.mark.parametrize("dt", ["x0*x1*max(y1)", "x0*x1*sgn(y1)", "x0*x1*abs(y1)", "x0*x1/y1", "x0*(x1>y1)"])
def test_no_maximum_comparison_division_or_sign_of_a_trace_can_be_written(dt):
    Loihi3FLearningRule(dt="x0*x1*y1")
    with pytest.raises((AttributeError, ValueError), match=r"sgn\(..\)|no attribute 'expr'"):
        Loihi3FLearningRule(dt=dt)


# --- bad input ---------------------------------------------------------------------------------------

IMAGES, LABELS = np.zeros((2, 4), np.uint8), np.zeros(2, int)


@pytest.mark.parametrize(
    ("network", "error", "message"),
    [
        (Network((Dense(3), Dense(2)), (4,)), EngineError, "3FC-2FC: the Loihi rule has one Dense layer"),
        (Network((Dense(2),), (4,), "3884"), EngineError, "k_W=2"),
        (Network((Dense(2),), (4,), "2-16-8-8"), EngineError, "k_A and k_E up to 8"),
        (Network((Dense(2),), (4,), "28A8"), EngineError, "k_G 3 to 9"),
        (Network((Dense(2),), (4,), signed_input=True), EngineError, "has no sign"),
        (Network((Dense(2),), (4,), "2888"), SettingError, r"eta=2\*\*0 .*can do 2\*\*4 .. 2\*\*20;"),
    ],
)
def test_refuses_what_the_engine_cannot_hold(network, error, message):
    with pytest.raises(error, match=message):
        learn(network, (IMAGES, LABELS))


def test_refuses_images_that_do_not_fit():
    with pytest.raises(DataError, match="shape"):
        learn(Network((Flatten(), Dense(2)), (2, 3, 1), "2884"), (IMAGES, LABELS))
