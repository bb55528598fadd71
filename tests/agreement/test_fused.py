"""Fused kernels = numpy engine, every stored weight, exponent and logit.

On a CUDA device where there is one; elsewhere Triton's interpreter runs the same kernels on the processor.
"""

# ruff: noqa: E402 - the interpreter is chosen before the kernels are imported
from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="the extra wage-neuro[torch]")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # read when the kernels are imported
pytest.importorskip("triton", reason="PyTorch for CUDA brings it")

from experiments.benchmarks.agreement import MODES
from experiments.benchmarks.gpu import BYTES
from mappings.engines.torch import engine as accelerator
from mappings.engines.torch import fused
from mappings.engines.torch import triton_kernels as kernels
from mappings.engines.torch.engine import TorchEngine, TorchOptions
from wage_neuro import Conv, Dense, Flatten, MaxPool, Network, NumpyEngine, Rules, softmax
from wage_neuro.bits import Bits
from wage_neuro.fixed_point import log2_round
from wage_neuro.loss import output_error, quiet_new
from wage_neuro.random_bits import UPDATE, bits16
from wage_neuro.rules import LOSSES, MARGIN_UNITS
from wage_neuro.train import Held

FUSED = [
    (name, mode) for name in BYTES for mode in MODES if not fused.TAKES.refusal(BYTES[name], MODES[mode])
]


@pytest.fixture(autouse=True)
def _here(monkeypatch):
    monkeypatch.setattr(accelerator, "FUSED_DEVICES", {DEVICE})


def build(network, rules, **options):
    """A torch engine that must have taken the fused kernels."""
    assert fused.misfit(network, rules) is None
    engine = TorchEngine(network, rules, options=TorchOptions(device=DEVICE), **options)
    assert isinstance(engine._fused, fused.FusedNetwork)
    return engine


@pytest.mark.parametrize(("name", "mode"), FUSED)
def test_fused_equals_numpy(name, mode, assert_agree):
    few = MODES[mode].batch == 1
    assert assert_agree(build, BYTES[name], MODES[mode], n=8 if few else 16, watched=mode == "paper") > 0


@pytest.mark.parametrize("bits", ["2222", "2378", "28C8", "4665", "8888", "3-8-16-7", "2889", "8-8-8-15"])
def test_other_widths(bits, assert_agree):
    network = replace(BYTES["32C3-MP2-64C3-MP2-32FC"], bits=Bits.parse(bits))
    assert assert_agree(build, network, Rules(batch=8, stored_range="paper"), n=8, watched=False) > 0


def test_errors_of_two_planes_through_normalised_layers(assert_agree):
    network = replace(BYTES["32C3N-32C2N-MP2-32FCN"], bits=Bits.parse("28CC"))
    assert fused._is_wide(network.layers[0])
    assert assert_agree(build, network, MODES["sharp softmax, momentum"], n=16, watched=False) > 0


def test_a_window_of_errors_below_softmax(assert_agree):
    rules = replace(MODES["sharp softmax, momentum"], gamma=4)
    assert assert_agree(build, BYTES["64FC-32FC"], rules, n=32, watched=False) > 0


@settings(max_examples=4, deadline=None)
@given(data=st.data())
def test_any_small_network(data, assert_agree):
    pick = lambda *values: data.draw(st.sampled_from(values))  # noqa: E731
    specs, side = [Conv(32, pick(1, 3, 5), pick(1, 2), pick("SAME", "VALID"))], pick(8, 9)
    if data.draw(st.booleans()):
        specs.append(Conv(32, pick(2, 3), 1, pick("SAME", "VALID")))
    network = Network((*specs, Flatten(), Dense(32), Dense(pick(1, 10))), (side, side, pick(1, 3)))
    if data.draw(st.booleans()) and not any(n % 2 for n in network.layers[len(specs) - 1].z_shape[:2]):
        network = replace(
            network, specs=(*specs, MaxPool(2), *network.specs[len(specs) :]), signed_input=True
        )
    rules = Rules(
        batch=pick(1, 5, 8), shift=pick("batch", "held"), hold=pick(1, 9), update=pick("wide", "ternary")
    )
    etas = pick(-16, -3, 0, 12), 3
    assert_agree(
        build, network, rules, n=rules.batch * 2, seed=pick(0, 2**64 - 1), log2_etas=etas, watched=False
    )


def test_even_images(assert_same_state):
    """Ties in every pooling window; among them black images, whose products are all 0."""
    network, rules = BYTES["32C3-MP2-64C3-MP2-32FC"], Rules(batch=4)
    images = np.repeat(np.arange(16, dtype=np.uint8) // 4 * 85, 8 * 8 * 3).reshape(16, 8, 8, 3)
    one, other = NumpyEngine(network, rules), build(network, rules)
    for engine in (one, other):
        engine.train(images, np.arange(16) % 5, 3)
    assert_same_state(one.state, other.state)


def test_more_answers_than_fit_at_once(assert_same_state, assert_same_arrays, monkeypatch):
    monkeypatch.setattr(fused, "PREDICT_AT_ONCE", 7)
    network, rules = BYTES["64FC-32FC"], Rules(batch=4)
    one, other = NumpyEngine(network, rules), build(network, rules)
    images = np.arange(17 * 30, dtype=np.uint8).reshape(17, 30)
    for engine in (one, other):
        engine.train(images[:16], np.arange(16) % 5, 3)
    assert_same_arrays(one.predict(images), other.predict(images), "logits")
    assert_same_state(one.state, other.state)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_error_at_the_output_is_numpys(data):
    """Of every loss that the fused kernels take; `former` is none of it."""
    pick = lambda *values: data.draw(st.sampled_from(values))  # noqa: E731
    kind, classes = pick(*LOSSES), pick(1, 2, 5)
    sharpness = pick(0, 4) if kind == "softmax" else 0
    new = {"new_shift": pick(1, 3), "recalled": pick(1, 2)} if pick(False, True) else {}
    rules = Rules(batch=6, loss=kind, margin=pick(0, 3, 8), sharpness=sharpness, **new)
    network, step = Network((Dense(classes),), (40,)), pick(0, 1, 7)
    (layer,) = network.layers
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    bound = pick(layer.z_bound, layer.z_bound // 9, 1)
    Z, labels = rng.integers(-bound, bound + 1, (6, classes)), rng.integers(0, classes, 6)
    Z[0] = 0
    Z[0, labels[0]] = rules.margin * layer.target // MARGIN_UNITS  # a lead that is just enough
    net = build(network, rules)._fused
    last = net._learning[-1]
    last.Z[:, :classes] = torch.tensor(Z)
    net.labels.copy_(torch.tensor(labels))
    net.step.fill_(step)
    net._err(last, 6)
    wanted = quiet_new(output_error(layer, Z, labels, rules), 6 * step, rules)
    assert last.D[:, :classes].tolist() == wanted.tolist()
    assert not last.D[:, classes:].any()
    assert net.layers[0].error.peak.item() == np.abs(wanted).max()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(-(2**30), 2**30) | st.integers(-999, 999), min_size=1, max_size=9),
    st.integers(0, 28),
)
def test_probabilities_are_numpys(row, log2_one):
    tensor, n = partial(torch.tensor, device=DEVICE), len(row)
    Z, D = tensor([row], dtype=torch.int32), torch.zeros(1, n, dtype=torch.int32, device=DEVICE)
    labels, step, peak = tensor([0]), tensor([0]), tensor([0], dtype=torch.int32)
    kernels.output_error[1,](
        Z, labels, step, *map(tensor, softmax.tables()), D, peak, 1, n, n,
        "softmax", softmax.ONE, log2_one, 0, MARGIN_UNITS, 0, 1, 2, BM=1, BC=16,
    )  # fmt: skip
    wanted = softmax.probabilities(np.array([row]), log2_one)
    wanted[0, 0] -= softmax.ONE
    assert D.tolist() == wanted.tolist()


@settings(max_examples=40, deadline=None)
@given(
    st.none() | st.integers(0, 40),
    st.integers(0, 50),
    st.integers(0, 2**31 - 1) | st.integers(0, 9) | st.integers(2**31, 2**45),
    st.integers(1, 60),
    st.booleans(),
)
def test_exponents(exponent, below, peak, hold, is_held):
    held = Held(exponent, below if exponent is not None else 0)
    on_device = fused._Exponent(held, torch.device(DEVICE), wide=peak >= 2**31)
    on_device.peak.fill_(peak)
    rules = Rules(shift="held" if is_held else "batch")
    shift, known, moves = on_device.take(7, 16, hold, rules).tolist()
    assert moves == (peak > 0)
    wanted = held.exponent if is_held else (log2_round(peak) if peak else None)
    assert known == (wanted is not None)
    assert wanted is None or shift == wanted - 7
    assert on_device.read() == (held.after(peak, 16, hold) if is_held else held)
    assert on_device.peak.item() == 0


def test_log2_on_either_side_of_every_half():
    for n in range(46):
        half = int(2**0.5 * 2**n)
        for x in (2**n, half, half + 1):
            on_device = fused._Exponent(Held(), torch.device(DEVICE), wide=n > 29)
            on_device.peak.fill_(x)
            assert on_device.take(0, 1, 1, Rules()).tolist() == [log2_round(x), 1, 1]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**64 - 1), st.integers(0, 40), st.integers(0, 2**40), st.integers(1, 100))
def test_random_bits_are_numpys(seed, layer, step, count):
    """Half a step each: the random bits alone decide whether a weight moves."""
    tensor, signed = partial(torch.tensor, device=DEVICE), seed - (seed >> 63 << 64)
    S, V = torch.zeros(2, count, dtype=torch.int8, device=DEVICE)
    G = torch.full((count, 1), -1, dtype=torch.int32, device=DEVICE)
    kernels.update[1,](
        S, V, None, G, tensor([-15, 1], dtype=torch.int32), tensor([signed]), tensor([step]), layer, count, 0,
        1, 1, 0, UPDATE, 64, 128, 6, 1, 0, 1, BLOCKS=8,
    )  # fmt: skip
    drawn = bits16((seed, UPDATE, layer, step), 0, count)
    assert S.tolist() == (drawn >= 2**15).astype(int).tolist()


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.integers(-(2**37), 2**37) | st.integers(-999, 999), min_size=1, max_size=9),
    st.integers(0, 24),
    st.integers(0, 2**40),
)
def test_gradients_of_two_planes_are_whole_numbers(gradient, shift, step):
    tensor, n = partial(torch.tensor, device=DEVICE), len(gradient)
    G = tensor([[g & 127 for g in gradient], [g >> 7 for g in gradient]], dtype=torch.int32)
    peak = tensor([0])
    kernels.peak_of[1,](G, peak, n, n, BLOCK=16)
    assert peak.item() == max(map(abs, gradient))
    S, V = torch.zeros(2, n, dtype=torch.int8, device=DEVICE)
    kernels.update[1,](
        S, V, None, G, tensor([shift, 1], dtype=torch.int32), tensor([5]), tensor([step]), 1, n, 0,
        1, 1, n, UPDATE, 64, 128, 6, 1, 0, 1, BLOCKS=8,
    )  # fmt: skip
    drawn = bits16((5, UPDATE, 1, step), 0, n).tolist()
    steps = [min(128 << 16, abs(g) >> shift) + r >> 16 for g, r in zip(gradient, drawn, strict=True)]
    assert S.tolist() == [
        min(by, 64) if g < 0 else -min(by, 64) for g, by in zip(gradient, steps, strict=True)
    ]


@pytest.mark.parametrize(
    ("text", "rules", "why"),
    [
        ("16C3-32FC", Rules(), "layer 16C3: 16 outputs, no multiple of 32"),
        ("32C3-MP3-32FC", Rules(), "layer 32C3-MP3: another pooling than 2x2"),
        ("32C3-32C3S2-32FC", Rules(), "layer 32C3S2: a stride"),
        (
            "32FC",
            Rules(feedback="direct"),
            "feedback='direct': the set of fused kernels has 'transposed' or 'random' only",
        ),
        (
            "32FC",
            Rules(batch=1, update="coincidence"),
            "update='coincidence': the set of fused kernels has 'wide' or 'ternary' only",
        ),
        ("32C3-32FC", Rules(batch=100_000), "layer 32C3: sums past 32 bits"),
    ],
)
def test_what_does_not_fit_is_left_to_plain_operations(text, rules, why):
    network = Network.parse(text, (12, 12, 1), classes=10)
    assert fused.misfit(network, rules) == why
    assert TorchEngine(network, rules, options=TorchOptions(device=DEVICE))._fused is None


@pytest.mark.parametrize(
    ("bits", "why"),
    [("2-9-8-8", "codes past 127"), ("9-8-9-8", "codes past 127"), ("2-8-8-16", "errors past 16383")],
)
def test_wide_codes_do_not_fit(bits, why):
    network = Network.parse("32FC", (12, 12, 1), classes=10, bits=bits)
    assert fused.misfit(network, Rules()) == f"layer 32FC: {why}"


COMPILED = """
import json, sys
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from mappings.engines.torch import triton_kernels

name, types, values = json.load(sys.stdin)
kernel = getattr(triton_kernels, name)
names = kernel.arg_names
assert names == [each for each in names if each in types or each in values]
signature = {each: types.get(each, "constexpr") for each in names}
constants = {(names.index(each),): value for each, value in values.items()}
aligned = {(names.index(each),): [["tt.divisibility", 16]] for each in types}
source = ASTSource(kernel, signature, constants, aligned)
compiled = compile(source, target=GPUTarget("cuda", 90, 32), options=dict(num_warps=8, num_stages=3))
print(compiled.asm["ptx"])
"""
BYTE, CODE, INT, LONG, NUMBER = "*i8", "*u8", "*i32", "*i64", "i32"
IMAGES = {"HEIGHT": 16, "WIDTH": 16, "ROW": 18 * 128, "IMAGE": 18 * 18 * 128}
TILE = {"KERNEL": 3, "C": 128, "N": 256, "BM": 128, "BN": 128, "BK": 128}
CHANNELS = {"N": 128, "BN": 64}
COMPILES = {
    "forward": (
        {"a": BYTE, "w": BYTE, "out": BYTE, "gate": CODE, "norm": LONG, "u": BYTE, "P": NUMBER},
        {
            **IMAGES,
            **TILE,
            "POOL": 2,
            "LAST": False,
            "SHIFT": 5,
            "TOP": 127,
            "OUT_ROW": 2560,
            "OUT_IMAGE": 25600,
        },
    ),
    "send_back": (
        {"e": BYTE, "w": BYTE, "gate": CODE, "D": INT, "peak": INT, "P": NUMBER},
        {**IMAGES, **TILE, "NORMALISED": True, "UPPER": 0},
    ),
    "gradient": (
        {"a_t": BYTE, "e_t": BYTE, "G": INT},
        {"M": 1152, "N": 256, "P_ROW": 8192, "PARTS": 4, "UPPER": 0, "BM": 128, "BN": 128, "BK": 128},
    ),
    "error_codes": (
        {"D": INT, "gate": CODE, "shift": INT, "e": BYTE, "e_t": BYTE, "WINDOWS": NUMBER},
        {
            **IMAGES,
            **CHANNELS,
            "P_ROW": 8192,
            "POOL": 2,
            "SENDS": True,
            "MASKED": False,
            "TOP": 127,
            "UPPER": 0,
            "BW": 32,
        },
    ),
    "channel_sums": (
        {"D": INT, "u": BYTE, "sums": LONG, "WINDOWS": NUMBER},
        {**CHANNELS, "STEPS": 8, "BW": 32},
    ),
    "plan_projection": (
        {"sums": LONG, "norm": LONG, "peak": INT, "plan": LONG, "WINDOWS": NUMBER},
        {"N": 96, "BLOCK": 128},
    ),
    "project": (
        {"D": INT, "u": BYTE, "plan": LONG, "peak": INT, "WINDOWS": NUMBER},
        {**CHANNELS, "BW": 64},
    ),
    "follow": (
        {"norm": LONG, "sums": LONG, "shift": INT, "WINDOWS": NUMBER}
        | {"CENTRE_MAX": "i64", "SCALE_MAX": NUMBER, "UNIT": NUMBER},
        CHANNELS,
    ),
    "lay_out": (
        {"V": BYTE, "W": BYTE, "W_back": BYTE, "FAN_IN": NUMBER},
        {"N_OUT": 256, "KERNEL": 3, "C": 128, "N": 256, "BK": 128, "BN": 128},
    ),
    "peak_of": ({"x": INT, "peak": INT, "COUNT": NUMBER}, {"UPPER": 0, "BLOCK": 4096}),
    "output_error": (
        {"Z": INT, "labels": LONG, "step": LONG, "coarse": LONG, "fine": LONG, "D": INT, "peak": INT}
        | {"ROWS": NUMBER},
        {"CLASSES": 10, "N": 32, "LOSS": "softmax", "ONE": 1 << 15, "LOG2_ONE": 18, "MARGIN": 3, "UNITS": 8}
        | {"NEW_SHIFT": 1, "NEW": 4, "PERIOD": 8, "BM": 16, "BC": 16},
    ),
    "update": (
        {"S": BYTE, "V": BYTE, "M": "*i16", "G": INT, "shift": INT, "seed": LONG, "step": LONG}
        | dict.fromkeys(("LAYER", "COUNT", "M_SHIFT"), NUMBER),
        {
            "N_OUT": 1,
            "G_ROW": 1,
            "UPPER": 0,
            "PURPOSE": 0,
            "BOUND": 1,
            "STEP_MAX": 2,
            "V_MAX": 1,
            "M_MAX": 32767,
        }
        | {"V_SHIFT": 6, "DECAY": 3, "BLOCKS": 8},
    ),
}
"""Kernels as a network has them: types of what is given, and values of what is compiled in."""


@cache
def compiled(name, **changes):
    types, values = COMPILES[name]
    given = json.dumps([name, types, {**values, **changes}])
    apart = {**os.environ, "TRITON_INTERPRET": "0"}
    command = [sys.executable, "-c", COMPILED]
    ended = subprocess.run(
        command, env=apart, input=given, capture_output=True, text=True, check=False, timeout=300
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    return ended.stdout


@pytest.mark.parametrize("name", COMPILES)
def test_kernels_compile_for_a_device(name):
    """Here too, where there is none: the interpreter takes what a compiler does not."""
    assert ".target sm_90" in compiled(name)


@pytest.mark.parametrize(("v_shift", "decay"), [(0, 0), (0, 3), (6, 0)])
def test_the_update_compiles_without_what_is_not_wanted(v_shift, decay):
    compiled("update", V_SHIFT=v_shift, DECAY=decay)


PLANES = {name: {"UPPER": 1 << 20} for name, (_, values) in COMPILES.items() if "UPPER" in values}
"""What errors of two planes compile in."""


@pytest.mark.parametrize("name", PLANES)
def test_kernels_of_two_planes_compile(name, monkeypatch):
    types, values = COMPILES[name]
    monkeypatch.setitem(COMPILES, name, ({**types, "peak": LONG} if name == "peak_of" else types, values))
    assert ".target sm_90" in compiled(name, **PLANES[name])


@pytest.mark.parametrize("upper", [0, 1 << 20])
@pytest.mark.parametrize("name", ["forward", "send_back", "gradient"])
def test_products_load_sixteen_bytes_at_a_time(name, upper):
    """Byte by byte they would be as exact, and slow."""
    ptx = compiled(name, **({"UPPER": upper} if name in PLANES else {}))
    assert "cp.async.cg.shared.global" in ptx
    assert "wgmma.mma_async" in ptx
    assert not re.search(r"ld\.global\S*\.b8", ptx)
