"""The arithmetic of WAGE in Brian2's own language, on integers, and which neuron meets which weight."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from wage_neuro.bits import Bits
from wage_neuro.layers import Layer
from wage_neuro.rules import MARGIN_UNITS
from wage_neuro.specs import AvgPool, Conv, Dense, MaxPool, Pool, assert_never


def _round_half_even(name: str, x: str, unit: str) -> str:
    """Code that sets `name` to x / unit, halves to even; on integers."""
    return f"""
{name}_floor = ({x}) // ({unit})
{name}_rest = 2 * (({x}) - {name}_floor * ({unit}))
{name} = {name}_floor + int({name}_rest > ({unit})) + int({name}_rest == ({unit})) * ({name}_floor % 2)
"""


def _saturate(x: str, low: str, high: str) -> str:
    """Expression for x kept within low .. high."""
    inside = f"{x} * int({x} >= {low}) * int({x} <= {high})"
    return f"({inside} + ({low}) * int({x} < {low}) + ({high}) * int({x} > {high}))"


def _sign(x: str) -> str:
    return f"(int({x} > 0) - int({x} < 0))"


def magnitude(x: str) -> str:
    return f"({x} * {_sign(x)})"  # Brian2's abs is no integer in Cython


ENTER = f"""
light = grey + signed_input * (grey - 255)
{_round_half_even("a", "light * a_scale", "255")}
A = {_saturate("a", "-a_max", "a_max")}
"""
"""Q_A of the grey levels; 255 is odd, so no half occurs."""
ACTIVATE = f"""
{_round_half_even("a", "z", "z_unit")}
A = {_saturate("a", "0", "a_max")}
active = int(z > 0)
open = int(z <= a_max * z_unit)
"""
"""ReLU and Q_A; a neuron that saturates is not open to errors."""
READ_OUT = """
right = int(i % classes == label)
deviation = z - target * right
one_sided = right * deviation * int(deviation < 0) + (1 - right) * deviation * int(deviation > 0)
D = learning * short * {loss}
"""
ERROR = f"""
divisor = unit + int(unit == 0)
{_round_half_even("code", "D * e_scale", "divisor")}
E = active * int(unit > 0) * {_saturate("code", "-e_max", "e_max")}
"""
"""Q_E, then ReLU's mask; with no exponent known yet nothing is sent."""
INPUT_SPIKE = f"""
scale_A = {magnitude("A")} * 65536
spike_A = {_sign("A")} * int(random_A * a_scale < scale_A)
"""
ERROR_SPIKE = f"""
scale_E = {magnitude("E")} * eta_up * 65536
spike_E = {_sign("E")} * int(random_E * e_scale * eta_down < scale_E)
"""
"""A code's sign, as often as its size: 16 random bits are below the code, in units of 2**-16."""
FORWARD = "Z_post += V * A_pre"
WON = " * int(winner_pre == index)"
UNPOOL = f"E_post += E_pre{WON}"
UNPOOL_SPIKE = f"spike_E_post += spike_E_pre{WON}"
BACK = "D_post += V * E_pre * open_post"
BACK_FIXED = "D_post += B * E_pre * open_post"
FIXED = "random * 3 // 65536 - 1"
"""A fixed feedback weight: -1, 0, 1, a third each of 16 random bits."""
GRADIENT = "G += A_post * E_pre"
COINCIDENCE = "G += spike_A_post * spike_E_pre"
STOCHASTIC = f"""
known = int(unit > 0)
quotient = {magnitude("G")} * eta_up * 65536 // ((unit + 1 - known) * eta_down)
size = known * ((quotient + random) // 65536)
"""
"""eta G / Shift(G), stochastically rounded: random bits are added and dropped."""
UPDATE = f"""
s = S - {_sign("G")} * (size * int(size <= step_max) + step_max * int(size > step_max))
S = {_saturate("s", "-s_max", "s_max")}
G = 0
changed = 1
"""
VISIBLE = f"""
{_round_half_even("v", "S * v_up", "v_down")}
V = {_saturate("v", "-v_max", "v_max")}
changed = 0
"""
"""Q_W."""
SHIFT_OF_BATCH = """
unit = peak
exponent = reached - 1
"""
SHIFT_HELD = """
seen = int(reached > 0) * listening
up = seen * int(reached - 1 >= exponent)
under = seen * (1 - up)
waited = (below + under * samples) * (1 - up)
down = under * int(waited >= hold)
next_unit = up * peak + (1 - up) * (unit // (1 + down))
next_exponent = up * (reached - 1) + (1 - up) * (exponent - down)
unit = next_unit
exponent = next_exponent
below = waited * (1 - down)
"""
"""Up at once, down by one after `hold` samples that did not reach it; zeros change nothing.

A frozen layer does not listen to its gradient."""


def pool_code(pool: Pool | None, places: int) -> str:
    """Code for what a neuron makes of the sums z0, z1, ... of its window."""
    match pool:
        case None | MaxPool():
            return _maximum(places)
        case AvgPool():  # the mean's unit is in z_unit
            return f"z = {' + '.join(f'z{p}' for p in range(places))}\n"
        case _:
            assert_never(pool)


def _maximum(places: int) -> str:
    """Code for the maximum z of z0, z1, ... and the place of the first one that has it."""
    lines = ["z_0 = z0", "winner_0 = 0 * z0"]
    for p in range(1, places):
        lines += [
            f"larger_{p} = int(z{p} > z_{p - 1})",
            f"z_{p} = z_{p - 1} + larger_{p} * (z{p} - z_{p - 1})",
            f"winner_{p} = winner_{p - 1} + larger_{p} * ({p} - winner_{p - 1})",
        ]
    return "\n".join([*lines, f"z = z_{places - 1}", f"winner = winner_{places - 1}\n"])


def synapses_of(layer: Layer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Synapses of one sample: input neuron, product neuron, weight; each (synapses,) int."""
    match layer.spec:
        case Dense():
            return _dense_synapses(layer)
        case Conv(stride=stride):
            return _conv_synapses(layer, stride)
        case _:
            assert_never(layer.spec)


def _dense_synapses(layer: Layer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n_in, n_out = layer.weight_shape
    weight = np.arange(n_in * n_out)
    return weight // n_out, weight % n_out, weight


def _conv_synapses(layer: Layer, stride: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    kernel, _, c_in, c_out = layer.weight_shape
    (height, width, _), (top, _, left, _) = layer.in_shape, layer.padding
    shape = (*layer.z_shape[:2], kernel, kernel, c_in, c_out)
    y, x, ky, kx, ci, co = (index.ravel() for index in np.indices(shape))
    row, column = y * stride + ky - top, x * stride + kx - left
    pre, post = (row * width + column) * c_in + ci, (y * shape[1] + x) * c_out + co
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    weight = ((ky * kernel + kx) * c_in + ci) * c_out + co
    return pre[inside], post[inside], weight[inside]


def activation_constants(bits: Bits) -> dict[str, int]:
    return {"a_scale": 2 ** (bits.k_A - 1), "a_max": 2 ** (bits.k_A - 1) - 1}


def visible_constants(bits: Bits) -> dict[str, int]:
    up, down = max(0, bits.k_W - bits.k_G), max(0, bits.k_G - bits.k_W)
    return {"v_max": 2 ** (bits.k_W - 1) - 1, "v_up": 2**up, "v_down": 2**down}


def windows_of(layer: Layer) -> np.ndarray:
    """(places, outputs) product neuron at each row-major place of an output's pooling window."""
    if layer.pool is None:
        return np.arange(math.prod(layer.z_shape))[None]
    size, step = layer.pool.size, layer.pool.step
    i, j, y, x, c = np.indices((size, size, *layer.out_shape))
    z = ((y * step + i) * layer.z_shape[1] + x * step + j) * layer.z_shape[2] + c
    return z.reshape(size * size, -1)


def model_of(own: Sequence[str], linked: Sequence[str] = (), shared: Sequence[str] = ()) -> str:
    flags = {"": own, " (linked)": linked, " (shared)": shared}
    return "\n".join(f"{name} : integer{flag}" for flag, names in flags.items() for name in names)


def z_unit_of(layer: Layer) -> int:
    """A step of activation in units of z: alpha, from the paper's formula, by a visible weight's step.

    The z of a mean is a sum of as many products.
    """
    smallest = 1.5 * 2.0 ** (1 - layer.bits.k_W)
    alpha = 2 ** max(0, round(math.log2(smallest / math.sqrt(3 / layer.fan_in))))
    unit: int = 2 ** (layer.bits.k_W - 1) * alpha
    match layer.pool:
        case None | MaxPool():
            return unit
        case AvgPool(size):
            return unit * size**2
        case _:
            assert_never(layer.pool)


def target_of(layer: Layer) -> int:
    """The code of 1.0 at the output, in units of Z."""
    return 2 ** (layer.bits.k_A - 1) * z_unit_of(layer)


def stored_max(layer: Layer, stored_range: str) -> int:
    """Largest stored weight: of k_G bits, or the largest visible weight in these units."""
    bits, whole = layer.bits, 2 ** (layer.bits.k_G - 1) - 1
    if stored_range == "paper" or bits.k_G < bits.k_W:
        return whole
    return min(whole, (2 ** (bits.k_W - 1) - 1) * 2 ** (bits.k_G - bits.k_W))


def margin_code(classes: int) -> str:
    """Code for `short`: whether the right output lacks its lead over any other."""
    right = " + ".join(f"z{c} * int(label == {c})" for c in range(classes))
    rivals = [f"int(label != {c}) * int({MARGIN_UNITS} * (lead - z{c}) < margin)" for c in range(classes)]
    if classes == 1:
        rivals = [f"int({MARGIN_UNITS} * lead < margin)"]
    return f"lead = {right}\nclose = {' + '.join(rivals)}\nshort = int(close > 0)"
