"""wage_neuro against the golden vectors, which tests/golden/make_golden.py made from plain ints."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from wage_neuro import Bits, Conv, Dense, Flatten, MaxPool, Network, Rules, layers, random_bits
from wage_neuro.bits import code_dtype
from wage_neuro.fixed_point import CARRIERS, peak, round_shift_half_even
from wage_neuro.kernels import numpy_kernels as kernels
from wage_neuro.layers import Kept
from wage_neuro.train import Batch, Held, State, exponent_of, train_step

FOLDER = Path(__file__).resolve().parents[1] / "golden"
GOLDEN = {path.stem: json.loads(path.read_text())["cases"] for path in sorted(FOLDER.glob("*.json"))}


def same(found, expected) -> None:
    found = found.tolist() if isinstance(found, np.ndarray) else found
    assert found == expected


def exponent(largest: int) -> int | None:
    return exponent_of(Held(), largest, Rules())


def drawn(random):
    """Stand-in for random_bits.bits16 that hands out the case's own random bits, a list a layer."""

    def bits16(stream, first, count, *_):
        return np.array(random[stream[2]][first : first + count], np.uint16)

    return patch.object(random_bits, "bits16", bits16)


def check_round_shift(case):
    x, s = np.array(case["x"], np.int64), case["s"]
    same(round_shift_half_even(x, s), case["result"])
    same(round_shift_half_even(x.astype(np.float64), s), case["result"])
    out = np.empty(len(x), np.int64)
    kernels.quantize_into(out, x.astype(np.float64), s, -(2**52), 2**52)
    same(out, case["result"])


def check_shift_exponent(case):
    same([exponent(v) for v in case["largest"]], case["m"])


def check_error(case):
    layer = Network((Dense(len(case["D"])),), (1,), Bits(k_E=case["k_E"])).layers[0]
    kept, D = Kept(np.zeros((1, 1), np.int8)), np.array([case["D"]], np.int64)
    m = exponent(layers.mask_saturated(kept, D))
    same(m, case["m"])
    same(layers.error_codes(layer, kept, D, m)[0], case["E"])
    same(layers.error_codes(layer, kept, D.astype(np.float64), m)[0], case["E"])


def check_activation(case):
    Z, shift, k_A = np.array(case["Z"], np.float64), case["shift"], case["k_A"]
    out = np.empty(len(Z), code_dtype(k_A))
    kernels.quantize_into(out, Z.copy(), shift, 0, Bits(k_A=k_A).activation_max)
    same(out, case["A"])
    if shift < 1:  # k_W - 1 is the least shift that a layer can have
        return
    # one input of 1: the weights themselves are Z
    layer = Network((Dense(len(Z)), Dense(2)), (1,), Bits(k_W=shift + 1, k_A=k_A)).layers[0]
    assert layer.z_shift == shift
    held = np.abs(Z) <= dict(CARRIERS)[layer.z_dtype]
    V = (Z * held).astype(layer.z_dtype)[None]
    A, kept = layers.forward(layer, V, np.ones((1, 1), np.int8))
    for found, name in ((A, "A"), (kept.saturated, "saturated"), (kept.active, "active")):
        same(found[0][held], [v for v, yes in zip(case[name], held, strict=True) if yes])


def check_update(case):
    S, G = case["S"], np.array([case["G"]], np.float64)
    layer = Network((Dense(len(S)),), (1,), Bits(k_W=case["k_W"], k_G=case["k_G"])).layers[0]
    rules = Rules(update=case["update"], stored_range=case["stored_range"])
    same(layer.bits.stored_max(rules.stored_range), case["bound"])
    m = exponent(peak(G))
    same(m, case["m"])
    stored = np.array([S], code_dtype(case["k_G"]))
    with drawn([case["r"]]):
        new = layers.update(layer, stored, G, layers.Move(m, case["log2_eta"], 0, 0), rules)
    same(new[0], case["S_new"])
    same(
        [max(-case["bound"], min(case["bound"], s - d)) for s, d in zip(S, case["dS"], strict=True)],
        new[0].tolist(),
    )


def check_alpha(case):
    nets = [Network((Dense(1),), (n,), Bits(k_W=case["k_W"])) for n in case["n_in"]]
    same([net.layers[0].scale_shift for net in nets], case["s"])


def check_input(case):
    for name in ("unsigned", "signed"):
        net = Network((Dense(2),), (256,), Bits(k_A=case["k_A"]), signed_input=name == "signed")
        same(net.input_codes, case[name])
        same(net.encode(np.arange(256, dtype=np.uint8)[None])[0], case[name])


def check_philox(case):
    (seed, purpose), (block, step, layer, high) = case["key"], case["counter"]
    generator = np.random.Philox(
        key=np.array(case["key"], np.uint64), counter=np.array(case["counter"], np.uint64)
    )
    same(generator.random_raw(12), case["words"])
    if high == 0:
        same(random_bits.words((seed, purpose, layer, step), 4 * block, 12), case["words"])


def golden_network(case) -> Network:
    specs = []
    for layer in case["layers"]:
        if layer["kind"] == "conv":
            specs.append(Conv(layer["out"], layer["kernel"], layer["stride"], layer["padding"]))
            specs += [MaxPool(layer["pool"], layer["pool_stride"])] if layer["pool"] else []
        else:
            specs += [Flatten()] if specs and not isinstance(specs[-1], Dense) else []
            specs.append(Dense(layer["out"]))
    return Network(tuple(specs), tuple(case["input_shape"]), Bits(**case["bits"]))


def pooled_products(layer, V, a_in):
    """Z of a hidden layer, which `forward` does not give away: of a last layer in its place, pooled here."""
    if not layer.pool:
        return layers.forward(replace(layer, is_last=True), V, a_in)[0]
    bare = replace(layer, is_last=True, pool=None, out_shape=layer.z_shape)
    Z = layers.forward(bare, V, a_in)[0].astype(np.float64)
    winner = np.empty((len(Z), *layer.out_shape), np.uint8)
    return kernels.max_pool(Z, layer.pool.size, layer.pool.step, layer.out_shape[:2], winner).copy()


def check_trace(case):
    net, samples = golden_network(case), len(case["labels"][0])
    rules = Rules(batch=samples, update=case["update"], stored_range=case["stored_range"])
    same([layer.scale_shift for layer in net.layers], case["alpha_shift"])
    same([list(layer.weight_shape) for layer in net.layers], case["weight_shapes"])
    same(net.bits.stored_max(rules.stored_range), case["bound"])
    dtype = code_dtype(net.bits.k_G)
    S = tuple(np.array(s, dtype).reshape(y.weight_shape) for s, y in zip(case["S"], net.layers, strict=True))
    state = State.of(S, seed=0)

    def flat(x):
        return np.asarray(x).reshape(samples, -1)

    for number, expected in enumerate(case["steps"]):
        x = np.array(case["x"][number], code_dtype(net.bits.k_A)).reshape(samples, *net.input_shape)
        labels, log2_eta = np.array(case["labels"][number]), case["log2_eta"][number]
        with drawn(case["random"][number]):
            new, logits = train_step(net, state, Batch(x, labels), log2_eta, rules)
        same(logits, expected["Z"][-1])
        same([s.ravel().tolist() for s in new.S], expected["S"])
        moved = zip(state.S, expected["dS"], new.S, strict=True)
        for s, dS, after in moved:
            same(np.clip(s.ravel().astype(int) - dS, -case["bound"], case["bound"]), after.ravel().tolist())

        V = [layers.visible_weights(layer, s) for layer, s in zip(net.layers, state.S, strict=True)]
        same([v.ravel().tolist() for v in V], expected["V"])
        a, kept = x, []
        for i, layer in enumerate(net.layers):
            a = a.reshape(samples, *layer.in_shape)
            same(flat(a), expected["A"][i])
            same(flat(pooled_products(layer, V[i], a)), expected["Z"][i])
            a, keep = layers.forward(layer, V[i], a)
            kept.append(keep)
        D = layers.output_error(net.layers[-1], a, labels, rules)
        for layer in reversed(net.layers):
            i = layer.index
            D = D.reshape(samples, *layer.out_shape)
            m = exponent(layers.mask_saturated(kept[i], D))
            same(m, expected["m_E"][i])
            same(flat(layers.error_codes(layer, Kept(kept[i].a_in), D, m)), expected["E_quantized"][i])
            E = layers.error_codes(layer, kept[i], D, m)
            same(flat(E), expected["E"][i])
            G, D = layers.backward(layer, V[i], kept[i], E, (kept[i].a_in, E))
            same(G.ravel(), expected["G"][i])
            same(exponent(peak(G)), expected["m_G"][i])
        state = new


CHECKS = {
    "round_shift": check_round_shift,
    "shift_exponent": check_shift_exponent,
    "error": check_error,
    "activation": check_activation,
    "update": check_update,
    "alpha": check_alpha,
    "input": check_input,
    "philox": check_philox,
    "trace_dense": check_trace,
    "trace_conv": check_trace,
}
RESULTS = {
    "round_shift": ["result"],
    "shift_exponent": ["m"],
    "error": ["m", "E"],
    "activation": ["A", "saturated", "active"],
    "update": ["bound", "m", "dS", "S_new"],
    "alpha": ["s"],
    "input": ["unsigned", "signed"],
    "philox": ["words"],
}
TRACE = ["alpha_shift", "weight_shapes", "bound"]
STEP = ["V", "A", "Z", "m_E", "E_quantized", "E", "G", "m_G", "dS", "S"]


def test_every_golden_file_is_used():
    assert set(GOLDEN) == set(CHECKS)
    assert all(GOLDEN.values())


@pytest.mark.parametrize(
    ("name", "number"), [(name, i) for name, cases in GOLDEN.items() for i in range(len(cases))]
)
def test_golden(name, number):
    CHECKS[name](GOLDEN[name][number])


def damage(values, last: bool):
    """Change the first or the last number inside."""
    if isinstance(values, list):
        place = -1 if last else 0
        values[place] = damage(values[place], last)
        return values
    return not values if isinstance(values, bool) else 1 if values is None else values + 1


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize(
    ("name", "key"),
    [(name, key) for name, keys in RESULTS.items() for key in keys]
    + [(name, key) for name in ("trace_dense", "trace_conv") for key in TRACE + STEP],
)
def test_a_wrong_value_is_found(name, key, last):
    # A case whose first and last weight end inside the range, where every wrong dS shows.
    whole = [
        c for c in GOLDEN[name] if name != "update" or all(abs(c["S_new"][i]) < c["bound"] for i in (0, -1))
    ]
    case = copy.deepcopy(whole[4 % len(whole)] if name == "activation" else whole[0])
    if key in case:
        case[key] = damage(case[key], last)
    else:
        step = case["steps"][-1 if last else 0]
        step[key] = damage(step[key], last)
    with pytest.raises(AssertionError):
        CHECKS[name](case)
