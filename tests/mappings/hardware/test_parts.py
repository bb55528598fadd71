"""Each part of the core against the arithmetic of the structural model's, over whole small domains."""

from __future__ import annotations

import collections
import importlib
import itertools

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="the extra wage-neuro[rtl]")

from amaranth.hdl import Module
from amaranth.lib.wiring import Component, In, Out

from mappings.hardware.rtl import tracker
from mappings.hardware.rtl.axons import Axons, token_layout
from mappings.hardware.rtl.loss import OutputError
from mappings.hardware.rtl.neurons import Activation, ErrorCode, ErrorNeurons
from mappings.hardware.rtl.random_bits import PHILOX, RandomBits, depth
from mappings.hardware.rtl.shape import PIPES, pipes, shapes
from mappings.hardware.rtl.synapses import Synapses
from processes.host import Host
from processes.widths import ERROR_TRACKER, FORWARD, GRADIENT_TRACKER, NEURONS, TRANSPOSED, Limit
from wage_neuro import Dense, Network, layers, neurocore, random_bits
from wage_neuro.errors import SettingError
from wage_neuro.layers import Kept
from wage_neuro.schedule import Schedule


def shape_of(network, rules, index=0, lanes=16):
    return shapes(network, rules, lanes)[index]


# --- random bits ---


every_generator = pytest.mark.parametrize("generator", PHILOX)


@every_generator
@pytest.mark.parametrize("multipliers", PIPES)
def test_random_bits_are_the_oracles(multipliers, generator, cycles):
    """Also across the carry of the counter, and out of order."""
    name = {"seed": 2**63 + 5, "step": 2**40 + 77, "layer": 3, "purpose": random_bits.UPDATE}
    blocks = [3, 4, 4, 2**28 - 1, 0, 1, 100, 7]
    gap = 20 // multipliers + 2
    inputs = [{**name, "request": i % gap == 0, "block": blocks[i // gap]} for i in range(gap * len(blocks))]
    wait = 12 * 10
    inputs += [name] * wait
    taking = [{**name, "grant": 1, "take": 1}] * len(blocks) + [name]
    core = RandomBits(multipliers, generator)
    found = cycles(core, inputs + taking, ["bits", "available", "ready"], after=0)
    assert all(found["ready"][i * gap] for i in range(len(blocks)))
    assert found["available"][len(inputs) : len(inputs) + len(blocks)] == [1] * len(blocks)
    assert found["available"][-1] == 0
    for block, bits in zip(blocks, found["bits"][len(inputs) + 1 :], strict=True):
        stream = 2**63 + 5, random_bits.UPDATE, 3, 2**40 + 77
        expected = random_bits.bits16(stream, 16 * block, 16, generator)
        assert bits.to_bytes(32, "little") == expected.tobytes()


@every_generator
@pytest.mark.parametrize("multipliers", PIPES)
def test_random_bits_hold_back_when_nobody_takes_them(multipliers, generator, cycles):
    found = cycles(RandomBits(multipliers, generator), [{"request": 1, "block": 5}] * 450, ["ready"], after=0)
    assert sum(found["ready"]) == depth(multipliers, generator)
    assert found["ready"][-200:] == [0] * 200


def test_multipliers_that_are_no_divisor():
    with pytest.raises(SettingError, match=r"^multipliers=3: want 1, 2, 4, 5, 10$"):
        pipes(3)


# --- exponent tracker ---


def test_thresholds_are_the_structural_models():
    for worst in (*range(1, 3000), 2**20, 2**23 - 1):
        assert tracker.thresholds(worst) == neurocore.thresholds(worst).tolist()


@pytest.mark.parametrize("hold", [1, 2, 5])
def test_tracker_over_every_peak(hold, cycles):
    """Every peak up to the worst case, up and down, and all-zero samples between."""
    worst = 200
    rng = np.random.default_rng(hold)
    peaks = [0, 0, *range(worst + 1), 0, *rng.integers(0, 60, 150).tolist(), worst, *[1] * (9 * hold), 0, 40]
    inputs = [{"hold": hold, "peak": peak, "step": part == 0} for peak in peaks for part in range(3)]
    found = cycles(tracker.ExponentTracker(worst), inputs, ["exponent", "below"])
    held, bank = (neurocore.UNKNOWN, 0), neurocore.thresholds(worst)
    for i, peak in enumerate(peaks):
        held = neurocore.tracker_step(*held, neurocore.exponent_reached(bank, np.array([peak])), hold)
        assert (found["exponent"][3 * i + 2 + 1], found["below"][3 * i + 2 + 1]) == held, f"peak {i}: {peak}"


def test_tracker_at_both_ends_of_its_width_and_loaded(cycles, strict):
    """The worst case of a declared width, and the longest hold."""
    shape = shape_of(Network((Dense(512), Dense(10)), (784,)), strict(), 1)
    worst = shape.limits[ERROR_TRACKER]["x_in"].worst
    longest = 2**31 - 1
    load = {"load": 1, "given_exponent": 9, "given_below": longest - 2}
    rows = [
        {"step": 1, "peak": worst},
        {},
        {},
        load,
        {},
        {"step": 1, "peak": 1},
        {},
        {},
        {"step": 1, "peak": 1},
    ]
    inputs = [{"hold": longest, **row} for row in rows] + [{"hold": longest}] * 4
    found = cycles(tracker.ExponentTracker(worst), inputs, ["exponent", "below"])
    top = neurocore.exponent_reached(neurocore.thresholds(worst), np.array([worst]))
    assert (found["exponent"][3], found["exponent"][4], found["below"][4]) == (top, 9, longest - 2)
    assert (found["exponent"][8], found["below"][8]) == (9, longest - 1)
    assert (found["exponent"][-1], found["below"][-1]) == (8, 0)


# --- neurons ---


@pytest.mark.parametrize(("n_in", "bits"), [(4, "2888"), (30, "2488"), (200, "2388"), (3, "2988")])
def test_activation_of_every_sum(n_in, bits, cycles, strict):
    """From one end of the declared width to the other."""
    network = Network((Dense(1), Dense(2)), (n_in,), bits)
    shape = shape_of(network, strict())
    worst = shape.limits[NEURONS]["z_in"].worst
    z = np.arange(-worst, worst + 1)
    inputs = [{"z_valid": 1, "z_last": 1, "z": value} for value in z]
    found = cycles(Activation(shape), inputs, ["a", "active", "saturated"])
    expected, kept = neurocore.activate(network.layers[0], z[:, None])
    assert found["a"][1 : len(z) + 1] == expected[:, 0].tolist()
    assert found["active"][1 : len(z) + 1] == kept.active[:, 0].tolist()
    assert found["saturated"][1 : len(z) + 1] == kept.saturated[:, 0].tolist()


@pytest.mark.parametrize(("above", "bits"), [(2, "2888"), (5, "2884"), (3, "2482")])
def test_error_code_of_every_sum_at_every_exponent(above, bits, cycles, strict):
    network = Network((Dense(2), Dense(above)), (3,), bits)
    shape = shape_of(network, strict())
    worst = shape.limits[NEURONS]["e_in"].worst
    d = np.arange(-worst, worst + 1)
    top = neurocore.exponent_reached(neurocore.thresholds(worst), np.array([worst]))
    for exponent in range(-1, top + 1):
        inputs = [{"d": value, "exponent": exponent} for value in d] + [{"exponent": exponent}] * 4
        found = cycles(ErrorCode(shape), inputs, ["e", "magnitude"])
        known = None if exponent < 0 else exponent
        expected = layers.error_codes(network.layers[0], Kept(d), d[:, None].astype(float), known)[:, 0]
        assert found["e"][ErrorCode.CYCLES :][: len(d)] == expected.tolist(), f"exponent {exponent}"
        assert found["magnitude"][1:][: len(d)] == np.abs(d).tolist()


def test_error_code_at_the_ends_of_a_wide_sum(cycles, strict):
    network = Network((Dense(512), Dense(10)), (784,))
    shape = shape_of(network, strict(), 1)
    worst = shape.limits[NEURONS]["e_in"].worst
    ends = [*range(-worst, -worst + 40), *range(worst - 40, worst + 1), *range(-300, 300)]
    for exponent in (0, 7, 8, 15, 16):
        inputs = [{"d": value, "exponent": exponent} for value in ends] + [{"exponent": exponent}] * 4
        found = cycles(ErrorCode(shape), inputs, ["e"])
        d = np.array(ends, np.float64)[:, None]
        expected = layers.error_codes(network.layers[1], Kept(d), d, exponent)[:, 0]
        assert found["e"][ErrorCode.CYCLES :][: len(ends)] == expected.tolist()


@pytest.mark.parametrize("lanes", [1, 4])
def test_error_neurons_mask_track_and_keep(lanes, cycles, strict):
    """All four masks, with sums from end to end; the words that the synapses read."""
    network = Network((Dense(8), Dense(5)), (3,))
    shape, layer = shape_of(network, strict(), lanes=lanes), network.layers[0]
    worst = shape.limits[NEURONS]["e_in"].worst
    active, saturated = np.array([0, 1, 0, 1, 1, 1, 0, 1]), np.array([0, 0, 1, 1, 0, 0, 0, 0])
    for d in ([-worst, 7, worst, -worst, 30, -31, 90, 0], [0] * 8, [1, 0, 0, 0, 0, 0, 0, 0]):
        masks = [
            {"mask_write": 1, "mask_index": i, "active": active[i], "saturated": saturated[i]}
            for i in range(8)
        ]
        # with a gap between two of them
        sums = [{"d_valid": 1, "d": value, "exponent": 5} for value in d]
        sums.insert(3, {"exponent": 5, "d": 99})
        settle = [{"exponent": 5}] * 6
        words = [{"word": i, "any_word": i} for i in range(shape.words_a_row)] + [{}]
        inputs = [{"clear": 1}, *masks, *sums, *settle, *words]
        names = ["done", "d_peak", "e_peak", "codes", "any"]
        found = cycles(ErrorNeurons(shape), inputs, names, after=0)
        D = np.array([d], np.float64)
        kept = Kept(D, active[None] > 0, saturated[None] > 0)
        peak = layers.mask_saturated(kept, D)
        E = layers.error_codes(layer, kept, D, 5)[0].astype(int)
        assert sum(found["done"]) == 1
        assert (found["d_peak"][-1], found["e_peak"][-1]) == (peak, np.abs(E).max())
        first = len(inputs) - len(words)
        for i, codes in enumerate(E.reshape(-1, lanes)):
            word = sum((int(code) & 255) << 8 * lane for lane, code in enumerate(codes))
            assert found["codes"][first + 1 + i] == word
            assert found["any"][first + i] == int(codes.any())


# --- axons ---


@pytest.mark.parametrize(
    ("units", "lanes", "index"), [(32, 16, 0), (32, 16, 1), (16, 4, 0), (8, 8, 1), (3, 1, 0)]
)
def test_a_walk_visits_each_word_and_draws_only_where_something_can_move(units, lanes, index, cycles, strict):
    """Words of an even number within their row have an error; the first and the last row have a spike."""
    network = Network((Dense(5), Dense(units)) if index else (Dense(units), Dense(2)), (5,))
    shape = shape_of(network, strict(), index, lanes)
    layout, B = token_layout(shape), shape.words_a_row

    class Walked(Component):
        def __init__(self):
            self.axons = Axons(shape)
            inputs = (
                "spike_valid",
                "spike_index",
                "spike",
                "start_forward",
                "start_learning",
                "updates",
                "ready",
            )
            super().__init__(
                {name: In(self.axons.signature.members[name].shape) for name in inputs}
                | {
                    "token": Out(layout.size),
                    "valid": Out(1),
                    "request": Out(1),
                    "block": Out(32),
                    "a_peak": Out(7),
                }
            )
            self.inputs = inputs

        def elaborate(self, platform):
            m = Module()
            m.submodules.axons = axons = self.axons
            m.d.comb += [getattr(axons, name).eq(getattr(self, name)) for name in self.inputs]
            m.d.comb += [
                axons.any.eq(~axons.any_word[0]),
                axons.token_take.eq(axons.token_valid),
                self.token.eq(axons.token),
                self.valid.eq(axons.token_valid),
                self.request.eq(axons.request),
                self.block.eq(axons.block),
                self.a_peak.eq(axons.a_peak),
            ]
            return m

    on = {"ready": 1, "updates": 1}
    spikes = [{**on, "spike_valid": 1, "spike_index": i, "spike": a} for i, a in ((0, 7), (4, -9))]
    walks = [
        {**on, "start_forward": 1},
        *[on] * (3 * B + 6),
        {**on, "start_learning": 1},
        *[on] * (6 * B + 9),
    ]
    found = cycles(Walked(), spikes + walks, ["token", "valid", "request", "block", "a_peak"])
    assert found["a_peak"][-1] == 9
    fields = [
        {
            name: layout.from_bits(token)[name]
            for name in ("address", "word", "a", "first", "last", "end", "draws")
        }
        for token, valid in zip(found["token"], found["valid"], strict=True)
        if valid
    ]
    rows = range(5) if index else (0, 4)
    spike = {0: 7, 4: -9}
    forward = [
        {
            "address": i * B + w,
            "word": w,
            "a": spike[i],
            "first": i == 0,
            "last": i == 4,
            "end": (i, w) == (4, B - 1),
            "draws": 0,
        }
        for w in range(B)
        for i in (0, 4)
    ]
    learning = [
        {
            "address": i * B + w,
            "word": w,
            "a": spike.get(i, 0),
            "first": w == 0,
            "last": w == B - 1,
            "end": (i, w) == (4, B - 1),
            "draws": i in spike and w % 2 == 0,
        }
        for i in rows
        for w in range(B)
    ]
    assert fields == forward + learning
    wanted = [t["address"] * shape.lanes // 16 for t in learning if t["draws"]]
    blocks = [block for block, request in zip(found["block"], found["request"], strict=True) if request]
    assert blocks == [block for block, _ in itertools.groupby(wanted)]


# --- loss ---


@pytest.mark.parametrize("classes", [1, 2, 3])
@pytest.mark.parametrize(("loss", "margin"), [("sse", 0), ("one-sided", 0), ("one-sided", 3), ("sse", 8)])
def test_output_error_of_every_order_of_logits(classes, loss, margin, cycles, strict):
    """One part sees sample after sample, so that nothing of one is left for the next."""
    network = Network((Dense(classes),), (6,))
    rules = strict(loss=loss, margin=margin)
    shape, layer = shape_of(network, rules), network.layers[0]
    worst, lead = layer.z_bound, margin * layer.target // 8
    values = sorted({-worst, -1, 0, 1, lead - 1, lead, layer.target, layer.target + 1, worst})
    samples = list(itertools.product(itertools.product(values, repeat=classes), range(classes)))
    rng = np.random.default_rng(classes)
    samples = [samples[i] for i in rng.permutation(len(samples))[:250]]
    inputs = []
    for logits, label in samples:
        common = {"label": label, "sent_label": label}
        inputs += [{**common, "z_valid": 1, "z": z, "z_last": i == classes - 1} for i, z in enumerate(logits)]
        inputs += [common] * 3 + [{**common, "start": 1}] + [common] * (classes + 3)
    found = cycles(OutputError(shape), inputs, ["d_valid", "d"])
    got = [d for d, valid in zip(found["d"], found["d_valid"], strict=True) if valid]
    Z, labels = np.array([z for z, _ in samples]), np.array([label for _, label in samples])
    expected = layers.output_error(layer, Z.astype(np.int64), labels, rules)
    assert np.array_equal(np.array(got).reshape(-1, classes), expected)


# --- synapses ---


def token(shape, **fields):
    """A word's visit as the number that the token's bits make."""
    return token_layout(shape).const({name: int(value) for name, value in fields.items()}).as_value().value


def pack(values, bits):
    return sum((int(v) & (1 << bits) - 1) << bits * i for i, v in enumerate(values))


def load(shape, S):
    rows = S.reshape(-1, shape.lanes)
    return [
        {"host": 1, "host_write": 1, "host_address": i, "host_data": pack(row, shape.s_bits)}
        for i, row in enumerate(rows)
    ]


@pytest.mark.parametrize("bits", ["2888", "2848", "2828"])
def test_sums_forward_and_back_are_the_structural_parts(bits, cycles, strict):
    """Every stored weight meets spikes of both signs and both ends, forward and transposed, in one memory."""
    network = Network((Dense(3), Dense(8)), (5,), bits, signed_input=True)
    shape, layer = shape_of(network, strict(stored_range="paper"), 1, lanes=4), network.layers[1]
    rng = np.random.default_rng(0)
    top = (1 << (network.bits.k_G - 1)) - 1
    for S in (rng.integers(-top, top + 1, (3, 8)), np.full((3, 8), top), np.full((3, 8), -top)):
        V = layers.visible_weights(layer, S.astype(np.int8))
        a, e = np.array([127, -127, 3]), np.array([127, -127, 0, 1, -1, 64, -65, 127])
        forward = [
            {
                "forward": 1,
                "token_valid": 1,
                "token": token(
                    shape, address=2 * i + w, a=a[i], first=i == 0, last=i == 2, end=w == 1 and i == 2
                ),
            }
            for w in range(2)
            for i in range(3)
        ]
        # held until the sums of the word before have left
        forward[5:5] = [forward[5]]
        wait = [{"forward": 1}] * 12
        codes = [pack(word, 8) for word in e.reshape(2, 4)]
        back = [
            {"token_valid": 1, "token": token(shape, address=2 * i + w, word=w, first=w == 0, last=w == 1)}
            for i in range(3)
            for w in range(2)
        ]
        for i, row in enumerate(back):
            row["codes"] = codes[(i % 2)]
        # the codes of a word are there two cycles after its token was taken
        shifted = [{**row, "codes": back[i - 2]["codes"] if i > 1 else 0} for i, row in enumerate(back)]
        shifted += [{"codes": codes[0]}, {"codes": codes[1]}, *[{}] * 6]
        found = cycles(
            Synapses(shape),
            load(shape, S) + forward + wait + shifted,
            ["z_valid", "z", "z_last", "d_valid", "d", "end", "token_take"],
        )
        z = [v for v, valid in zip(found["z"], found["z_valid"], strict=True) if valid]
        assert z == neurocore.sums(layer, V, a[None])[0].tolist()
        assert [last for last, valid in zip(found["z_last"], found["z_valid"], strict=True) if valid] == [
            0
        ] * 7 + [1]
        d = [v for v, valid in zip(found["d"], found["d_valid"], strict=True) if valid]
        assert d == neurocore.error_sums(layer, V, e[None])[0].tolist()


def read_back(shape, found, first):
    """Stored weights from the host's way to the memory, as many rows as words from a cycle on."""
    words = found["host_read"][first + 2 : first + 2 + shape.words]
    flat = [
        (word >> shape.s_bits * i) & (1 << shape.s_bits) - 1 for word in words for i in range(shape.lanes)
    ]
    return np.array([v - (v >> shape.s_bits - 1 << shape.s_bits) for v in flat]).reshape(
        shape.layer.weight_shape
    )


def visits(shape, cases, common):
    """A token a cycle; its codes come two cycles later, its random bits five."""
    rows = [dict(common) for _ in range(len(cases) + 8)]
    for i, case in enumerate(cases):
        rows[i] |= {
            "token_valid": 1,
            "available": 1,
            "token": token(shape, address=i, draws=1, fresh=1, **case["token"]),
        }
        rows[i + 2]["codes"] = pack(case["e"], shape.e_bits)
        rows[i + 5]["bits"] = pack(case["r"], 16)
    return rows


@pytest.mark.parametrize(
    ("exponent", "log2_eta"),
    [(7, 0), (14, 3), (13, -2), (14, -16), (0, -16), (0, 16), (3, 4), (14, -3), (14, -4)],
)
def test_update_where_the_random_bits_just_suffice_and_just_do_not(exponent, log2_eta, cycles, strict):
    """Every stored weight; products of both signs, from 1 to the largest."""
    network = Network((Dense(8),), (60,), signed_input=True)
    shape = shape_of(network, strict())
    rng = np.random.default_rng(1)
    S = np.resize(np.arange(-64, 65), (60, 8))
    a = np.r_[1, -1, 127, -127, 2, -64, rng.integers(-127, 0, 27), rng.integers(1, 128, 27)]
    e = rng.integers(-127, 128, (60, 8))
    e[:, :2] = [1, -127]
    e[::7, 4] = 0
    G = a[:, None] * e
    q = np.minimum(np.floor(np.abs(G) * 2.0 ** (16 + log2_eta - exponent)), 1 << 16).astype(int)
    r = np.clip((1 << 16) - q - (np.arange(8) % 2), 0, 65535)
    cases = [
        {"token": {"a": a[i], "word": 0}, "e": e[i], "r": np.r_[r[i], np.zeros(8, int)]} for i in range(60)
    ]
    common = {"exponent": exponent, "log2_eta": log2_eta}
    before = load(shape, S) + [common] * 2
    reads = [{"host": 1, "host_address": i} for i in range(shape.words)] + [{}] * 3
    walk = visits(shape, cases, common)
    found = cycles(Synapses(shape), before + walk + reads, ["host_read", "take", "grant"], after=0)
    expected = np.clip(S - np.sign(G) * (q + r >> 16), -64, 64)
    assert np.array_equal(read_back(shape, found, len(before) + len(walk)), expected)
    assert sum(found["take"]) == sum(found["grant"]) == 60


@pytest.mark.parametrize(
    ("bits", "log2_eta"), [("2888", 0), ("2888", 3), ("2888", 16), ("2888", -12), ("2-6-8-12", -16)]
)
def test_coincidence_where_the_random_bits_just_suffice_and_just_do_not(bits, log2_eta, cycles, strict):
    network = Network((Dense(8),), (16,), bits, signed_input=True)
    shape = shape_of(network, strict(update="coincidence"))
    k_A, k_E = network.bits.k_A, network.bits.k_E
    rng = np.random.default_rng(2)
    S = rng.integers(-64, 65, (16, 8))
    top = network.bits.error_max
    e = np.array([1, -1, top, -top, 0, 0, top // 2, -3])
    threshold = np.minimum(np.ceil(np.abs(e) * 2.0 ** (17 + log2_eta - k_E)), 1 << 16).astype(int)
    inside = np.array([1, 1, 0, 1, 1, 0, 0, 1])  # a random number just below the threshold, or at it
    r = np.clip(threshold - inside, 0, 65535)
    post = np.sign(e) * (r < threshold)
    a = np.where(rng.random(16) < 0.5, -1, 1) * rng.integers(1, 1 << k_A - 1, 16)
    own = (np.abs(a) << 17 - k_A) - (np.arange(16) % 2)
    pre = np.sign(a) * (own < np.abs(a) << 17 - k_A)
    common = {"log2_eta": log2_eta}
    draw = visits(
        shape, [{"token": {"end": 1}, "e": e, "r": np.r_[r, np.zeros(8, int)]}], {**common, "draw": 1}
    )
    learn = visits(
        shape,
        [
            {"token": {"a": a[i], "lane": i}, "e": e, "r": np.where(np.arange(16) == i, own, 9)}
            for i in range(16)
        ],
        common,
    )
    before = load(shape, S) + [common] * 2 + draw + [common] * 2 + learn
    reads = [{"host": 1, "host_address": i} for i in range(shape.words)] + [{}] * 3
    found = cycles(Synapses(shape), before + reads, ["host_read"], after=0)
    assert np.array_equal(read_back(shape, found, len(before)), np.clip(S - np.outer(pre, post), -64, 64))


# --- the Processes of the structural model and the same messages, up to the ends of every declared width ---


class Wire:
    """Messages in the order in which a model takes or sends them."""

    def __init__(self, messages=()):
        self.messages = [np.array(message) for message in messages]

    def recv(self):
        return self.messages.pop(0)

    def send(self, message):
        self.messages.append(np.array(message))


@pytest.fixture
def ends(monkeypatch):
    """Largest magnitude that each declared width has met: {(process, var): magnitude}."""
    met = collections.defaultdict(int)
    fit = Limit.fit

    def noting(self, x):
        met[self.process, self.var] = max(met[self.process, self.var], int(np.abs(x).max()))
        return fit(self, x)

    monkeypatch.setattr(Limit, "fit", noting)
    return met


def lava_model(part, shape, samples, options, inputs, limits=None, **vars):
    """The model that Lava runs for a Process of the structural layer, and what it sent: {port: messages}."""
    pytest.importorskip("lava", reason="the extra wage-neuro[lava]")
    name = {"readout": "ReadOut"}.get(part, part.title().replace("_", ""))
    process_class = getattr(importlib.import_module(f"processes.{part}.process"), name)
    model_class = getattr(importlib.import_module(f"processes.{part}.models"), f"Py{name}ModelFixed")
    common = {"layer": shape.layer, "rules": shape.rules, "schedule": Schedule(shape.depth, samples)}
    if part != "readout":
        from processes.part import InLayer

        of_all = {"seed": 0, "signed_in": False, "kernels": "numpy", "limits": limits}
        common = {"told": InLayer(**common, **{name: options.pop(name, of_all[name]) for name in of_all})}
    process = process_class(**common, **options)
    model = model_class(process.proc_params)
    for var in process.vars:
        setattr(model, var.name, np.broadcast_to(vars.get(var.name, var.init), var.shape).copy())
    for port in (*process.in_ports, *process.out_ports):
        setattr(model, port.name, Wire(inputs.get(port.name, ())))
    for _ in range(model.schedule.steps(learning=True)):
        model.run_spk()
        if hasattr(model, "run_lrn") and model.lrn_guard():
            model.run_lrn()
    return model, {port.name: getattr(model, port.name).messages for port in process.out_ports}


def assert_every_end_was_met(ends, shape, part):
    limits = shape.limits[part].values()
    assert {limit.var: ends[limit.process, limit.var] for limit in limits} == {
        limit.var: limit.worst for limit in limits
    }


@pytest.mark.parametrize("part", [ERROR_TRACKER, GRADIENT_TRACKER])
def test_tracker_is_the_process(part, cycles, strict, ends):
    shape = shape_of(Network((Dense(512), Dense(10)), (784,)), strict(hold=5))
    worst = shape.limits[part]["x_in"].worst
    peaks = [0, 1, worst, 0, *[worst // 3] * 12, *[1] * 40, worst - 1, worst]
    model, sent = lava_model(
        "exponent_tracker",
        shape,
        len(peaks),
        {"part": part, "shape": (1, 2), "held": np.array([-1, 0])},
        {"x_in": [[[0, peak * (-1) ** i]] for i, peak in enumerate(peaks)]},
        limits=shape.limits[part],
    )
    inputs = [{"hold": 5, "peak": peak, "step": turn == 0} for peak in peaks for turn in range(3)]
    found = cycles(tracker.ExponentTracker(worst), inputs, ["exponent", "below"])
    assert found["exponent"][: len(inputs) : 3] == [int(m[0]) for m in sent["m_out"]]
    assert (found["exponent"][-1], found["below"][-1]) == tuple(model.held.tolist())
    assert_every_end_was_met(ends, shape, part)


def test_neurons_are_the_process(cycles, strict, ends):
    """Four samples on their way at once; sums, error sums and exponents from one end to the other."""
    network = Network((Dense(16), Dense(32), Dense(10)), (20,))
    shape = shape_of(network, strict(), 1)
    limits, n = shape.limits[NEURONS], shape.n_out
    rng = np.random.default_rng(4)
    sweep = [np.linspace(-limits[var].worst, limits[var].worst, 4 * n).round() for var in ("z_in", "e_in")]
    Z, D = (rng.permutation(values.astype(int)).reshape(4, 1, n) for values in sweep)
    exponents = [-1, 0, 5, limits["e_in"].worst.bit_length()]
    _, sent = lava_model(
        "neurons",
        shape,
        4,
        {"step": 0},
        {"z_in": Z, "e_in": D, "m_in": [[m] for m in exponents]},
        limits=limits,
    )
    for i, m in enumerate(exponents):
        up = [{"z_valid": 1, "z": z, "z_last": j == n - 1} for j, z in enumerate(Z[i, 0])]
        going = cycles(Activation(shape), up, ["a", "active", "saturated"], after=1)
        assert going["a"][1:] == sent["a_out"][i][0].tolist()
        masks = [
            {"mask_write": 1, "mask_index": j, "active": active, "saturated": saturated}
            for j, (active, saturated) in enumerate(
                zip(going["active"][1:], going["saturated"][1:], strict=True)
            )
        ]
        down = [{"d_valid": 1, "d": d, "exponent": m} for d in D[i, 0]] + [{"exponent": m}] * 6
        words = [{"word": w} for w in range(shape.words_a_row)] + [{}]
        found = cycles(ErrorNeurons(shape), masks + down + words, ["d_peak", "codes"], after=0)
        codes = [
            word >> 8 * lane & 255
            for word in found["codes"][-shape.words_a_row :]
            for lane in range(shape.lanes)
        ]
        E = sent["e_pos_out"][i][0].astype(int) - sent["e_neg_out"][i][0]
        assert codes == (E & 255).tolist()
        assert found["d_peak"][-1] == np.abs(sent["x_out"][i]).max()
    assert_every_end_was_met(ends, shape, NEURONS)


def test_synapses_are_both_processes(cycles, strict, ends):
    """One memory against the forward and the transposed copy: sums, then updates of rising exponents."""
    network = Network((Dense(6), Dense(8), Dense(3)), (5,))
    shape = shape_of(network, strict(), 1, lanes=8)
    rng, seed, step, eta = np.random.default_rng(5), 9, 40, 2
    S = rng.integers(-64, 65, (6, 8)).astype(np.int16)
    A = np.array([[127] * 6, [-127, 127, 0, 1, 5, 90], [0] * 6, [127, -127, *rng.integers(0, 128, 4)]])
    A[3, :2] = 127
    E = rng.integers(-127, 128, (4, 8))
    E[0], E[1, :4] = [127, -127, 127, 127, -127, 127, 127, 127], 0
    S[0], S[:, 0], S[:, 1] = 64 * np.sign(E[0]), 64, -64
    exponents = [-1, 14, 13, 12]
    common = {"S": S, "step": step, "seed": seed, "signed_in": True}
    inputs = {"a_in": A[:, None], "y_in": E[:, None], "m_in": [[m] for m in exponents]}
    forward, sent = lava_model(
        "forward_synapses", shape, 4, dict(common), inputs, shape.limits[FORWARD], log2_eta=[eta]
    )
    errors = {"e_pos_in": np.maximum(E, 0)[:, None], "e_neg_in": np.maximum(-E, 0)[:, None]}
    transposed, back = lava_model(
        "transposed_synapses",
        shape,
        4,
        dict(common),
        inputs | errors,
        shape.limits[TRANSPOSED],
        log2_eta=[eta],
    )
    assert np.array_equal(transposed.S.T, forward.S)
    assert (forward.S != S).any()
    up, down = [], []
    for i, (a, e, m) in enumerate(zip(A, E, exponents, strict=True)):
        rows = [{"a": a[j], "address": j, "first": j == 0, "last": j == 5, "end": j == 5} for j in range(6)]
        up.append([{"forward": 1, "token_valid": 1, "token": token(shape, **row)} for row in rows])
        r = random_bits.bits16((seed, random_bits.UPDATE, 1, step + i), 0, 48).reshape(6, 8)
        cases = [
            {
                "token": {"a": a[j], "lane": 8 * j % 16, "first": 1, "last": 1},
                "e": e,
                "r": np.roll(np.r_[r[j], np.zeros(8, int)], 8 * j % 16),
            }
            for j in range(6)
        ]
        walk = visits(shape, cases, {"log2_eta": eta, "exponent": m})
        if m < 0:  # nothing is updated while the exponent is unknown
            for j, case in enumerate(cases):
                walk[j]["token"] = token(shape, address=j, **case["token"])
        down.append(walk)
    order, schedule = [], Schedule(shape.depth, 4)
    for t in range(schedule.steps(learning=True)):
        i, j = schedule.forward(1, t), schedule.error(1, t)
        order += [*up[i], *[{"forward": 1}] * 14] if i is not None else []
        order += [*[{"log2_eta": eta, "exponent": exponents[j]}] * 2, *down[j]] if j is not None else []
    reads = [{"host": 1, "host_address": i} for i in range(shape.words)] + [{}] * 3
    before = load(shape, S)
    found = cycles(
        Synapses(shape), before + order + reads, ["z_valid", "z", "d_valid", "d", "host_read"], after=0
    )
    z = [v for v, valid in zip(found["z"], found["z_valid"], strict=True) if valid]
    d = [v for v, valid in zip(found["d"], found["d_valid"], strict=True) if valid]
    assert z == np.concatenate(sent["z_out"]).reshape(-1).tolist()
    assert d == np.concatenate(back["e_out"]).reshape(-1).tolist()
    assert np.array_equal(read_back(shape, found, len(before) + len(order)), forward.S)
    assert [int(g[0]) for g in sent["g_out"]] == [
        int(np.abs(a).max() * np.abs(e).max()) for a, e in zip(A, E, strict=True)
    ]
    assert_every_end_was_met(ends, shape, FORWARD)
    assert_every_end_was_met(ends, shape, TRANSPOSED)


@pytest.mark.parametrize(("loss", "margin"), [("sse", 0), ("one-sided", 3)])
def test_output_error_is_the_read_outs(loss, margin, cycles, strict):
    network = Network((Dense(3),), (6,))
    shape = shape_of(network, strict(loss=loss, margin=margin))
    worst, rng = shape.layer.z_bound, np.random.default_rng(6)
    Z = np.r_[[[worst, -worst, 0], [-worst, worst, worst]], rng.integers(-worst, worst + 1, (30, 3))]
    labels = np.r_[0, 0, rng.integers(0, 3, 30)]
    logits = np.zeros((1, 32, 3), np.int64)
    _, sent = lava_model(
        "readout",
        shape,
        32,
        {"lanes": 1, "host": Host(logits=logits, windows=[])},
        {"z_in": Z[:, None], "y_in": labels[:, None]},
    )
    inputs = []
    for z, label in zip(Z, labels, strict=True):
        common = {"label": label, "sent_label": label}
        inputs += [{**common, "z_valid": 1, "z": v, "z_last": i == 2} for i, v in enumerate(z)]
        inputs += [common] * 3 + [{**common, "start": 1}] + [common] * 6
    found = cycles(OutputError(shape), inputs, ["d_valid", "d"])
    got = [d for d, valid in zip(found["d"], found["d_valid"], strict=True) if valid]
    assert np.array_equal(np.reshape(got, (-1, 3)), np.concatenate(sent["e_out"]))
    assert np.array_equal(logits[0], Z)
