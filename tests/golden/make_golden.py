"""Golden vectors of WAGE's integer arithmetic, from plain Python integers and fractions alone.

    python tests/golden/make_golden.py            write the files beside this script, identically each time
    python tests/golden/make_golden.py --check    compare only; exit 1 and name the files that differ

README.md beside this file says what each one holds.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SEED = 20180213
MASK64 = 2**64 - 1

Case = dict[str, Any]


class Draw:
    """SplitMix64: a few lines, so the same numbers on every version of Python."""

    def __init__(self, seed: int) -> None:
        self.state = seed

    def below(self, n: int) -> int:
        """One integer of 0 .. n - 1 (n far below 2**64, so the bias does not matter)."""
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK64
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK64
        return (z ^ (z >> 31)) % n

    def within(self, bound: int) -> int:
        """One integer of -bound .. bound."""
        return self.below(2 * bound + 1) - bound

    def pick(self, values: list[int]) -> int:
        return values[self.below(len(values))]


# ---- The arithmetic, from its definitions


def half_even(x: Fraction) -> int:
    """Nearest integer, halves to even, from the definition."""
    low = x.numerator // x.denominator
    twice = 2 * (x - low)
    return low if twice < 1 or (twice == 1 and low % 2 == 0) else low + 1


def power(n: int) -> Fraction:
    return Fraction(2) ** n


def clip(x: int, low: int, high: int) -> int:
    return low if x < low else high if x > high else x


def top(k: int) -> int:
    """Largest k-bit code."""
    return int(2 ** (k - 1)) - 1


def sign(x: int) -> int:
    return (x > 0) - (x < 0)


def shift_exponent(largest: int) -> int | None:
    """m = round(log2 v): the m with 2**(m - 1/2) < v < 2**(m + 1/2), by comparing squares; None for v = 0."""
    if largest == 0:
        return None
    m = 0
    while largest**2 > 2 ** (2 * m + 1):
        m += 1
    return m


def exponent_of(values: list[int]) -> int | None:
    return shift_exponent(max(abs(v) for v in values))


def visible(S: list[int], k_W: int, k_G: int) -> list[int]:
    return [clip(half_even(s / power(k_G - k_W)), -top(k_W), top(k_W)) for s in S]


def activation(Z: int, shift: int, k_A: int) -> int:
    return clip(half_even(Z / power(shift)), 0, top(k_A))


def saturated(Z: int, shift: int, k_A: int) -> bool:
    return Z - top(k_A) * power(shift) > 0


def error_codes(D: list[int], k_E: int) -> tuple[int | None, list[int]]:
    m = exponent_of(D)
    if m is None:
        return None, [0] * len(D)
    return m, [clip(half_even(d * power(k_E - 1 - m)), -top(k_E), top(k_E)) for d in D]


def bound_of(k_W: int, k_G: int, stored_range: str) -> int:
    """2**(k_G - 1) * (1 - sigma) with the sigma of k_W for the authors (when k_G >= k_W), else of k_G."""
    k = k_W if stored_range == "authors" and k_G >= k_W else k_G
    return int(2 ** (k_G - 1) * (1 - power(1 - k)))


def update(
    S: list[int], G: list[int], r: list[int], log2_eta: int, bound: int, width: str
) -> tuple[int | None, list[int], list[int]]:
    """Exponent, dS and new S of one weight tensor."""
    m = exponent_of(G)
    if m is None:
        return None, [0] * len(S), list(S)
    steps = []
    for g, random in zip(G, r, strict=True):
        scaled = abs(g) * power(16 + log2_eta - m)
        count = (scaled.numerator // scaled.denominator + random) // 2**16
        steps.append(sign(g) * (min(count, 1) if width == "ternary" else count))
    return m, steps, [clip(s - d, -bound, bound) for s, d in zip(S, steps, strict=True)]


def alpha_shift(n_in: int, k_W: int) -> int:
    """s = max(0, round(log2(q))), q = L_min / sqrt(3 / n_in): the first s >= 0 with q**2 < 2**(2s + 1)."""
    L_min = Fraction(3, 2) * power(1 - k_W)
    square = L_min**2 * n_in / 3
    s = 0
    while square >= 2 ** (2 * s + 1):  # never equal: 3 * n_in is not a power of two
        s += 1
    return s


def philox_block(key: tuple[int, int], counter: int) -> list[int]:
    """Four words of Philox4x64-10 (Salmon, Moraes, Dror, Shaw, SC 2011) at a 256-bit counter."""
    c0, c1, c2, c3 = ((counter >> shift) & MASK64 for shift in (0, 64, 128, 192))
    k0, k1 = key
    for _ in range(10):
        left, right = c0 * 0xD2E7470EE14C6C93, c2 * 0xCA5A826395121157
        c0, c1, c2, c3 = (right >> 64) ^ c1 ^ k0, right & MASK64, (left >> 64) ^ c3 ^ k1, left & MASK64
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & MASK64, (k1 + 0xBB67AE8584CAA73B) & MASK64
    return [c0, c1, c2, c3]


def philox_words(key: tuple[int, int], counter: tuple[int, int, int, int], count: int) -> list[int]:
    """The first words as NumPy hands them out: the counter goes up before each block."""
    value = sum(word << (64 * i) for i, word in enumerate(counter))
    words: list[int] = []
    while len(words) < count:
        value = (value + 1) % 2**256
        words += philox_block(key, value)
    return words[:count]


# ---- A network as lists of taps: layer after layer, which weight joins which input to which output


class Layer:
    """One layer as triples (output, weight, input) of flat row-major positions, and pool windows."""

    def __init__(self, spec: Case, shape: tuple[int, ...]) -> None:
        self.taps: list[tuple[int, int, int]] = []
        if spec["kind"] == "dense":
            n_in, out = 1, spec["out"]
            for extent in shape:
                n_in *= extent
            self.weight_shape: tuple[int, ...] = (n_in, out)
            self.taps = [(o, i * out + o, i) for i in range(n_in) for o in range(out)]
            self.n_in, self.outputs, self.windows = n_in, out, [[o] for o in range(out)]
            self.shape: tuple[int, ...] = (out,)
            return
        (height, width, channels), k, stride, out = shape, spec["kernel"], spec["stride"], spec["out"]
        (rows, y0), (columns, x0) = (self.extent(n, k, stride, spec["padding"]) for n in (height, width))
        self.weight_shape, self.n_in = (k, k, channels, out), k * k * channels
        self.outputs = rows * columns * out
        for y, x, i, j in product(range(rows), range(columns), range(k), range(k)):
            v, u = y * stride + i - y0, x * stride + j - x0
            if 0 <= v < height and 0 <= u < width:
                for c, o in product(range(channels), range(out)):
                    w = ((i * k + j) * channels + c) * out + o
                    self.taps.append(((y * columns + x) * out + o, w, (v * width + u) * channels + c))
        size, step = spec["pool"] or 1, spec["pool_stride"] or spec["pool"] or 1
        tall, wide = (rows - size) // step + 1, (columns - size) // step + 1
        self.windows = [
            [((y * step + i) * columns + x * step + j) * out + o for i in range(size) for j in range(size)]
            for y in range(tall)
            for x in range(wide)
            for o in range(out)
        ]
        self.shape = (tall, wide, out)

    @staticmethod
    def extent(n: int, kernel: int, stride: int, padding: str) -> tuple[int, int]:
        """Output size and padding before, as TensorFlow has them."""
        if padding == "VALID":
            return (n - kernel) // stride + 1, 0
        out = (n + stride - 1) // stride
        return out, max((out - 1) * stride + kernel - n, 0) // 2

    @property
    def weights(self) -> int:
        count = 1
        for extent in self.weight_shape:
            count *= extent
        return count


def plan(specs: list[Case], shape: tuple[int, ...]) -> list[Layer]:
    layers = []
    for spec in specs:
        layers.append(Layer(spec, shape))
        shape = layers[-1].shape
    return layers


def forward(layers: list[Layer], V: list[list[int]], x: list[int], shifts: list[int], k_A: int) -> list[Case]:
    """For one sample and each layer: input A, pooled Z, and which output each pooled value came from."""
    found, A = [], x
    for layer, v, shift in zip(layers, V, shifts, strict=True):
        full = [0] * layer.outputs
        for o, w, i in layer.taps:
            full[o] += v[w] * A[i]
        chosen = [max(window, key=full.__getitem__) for window in layer.windows]  # the first of equals
        Z = [full[o] for o in chosen]
        found.append({"A": A, "Z": Z, "chosen": chosen})
        A = [activation(z, shift, k_A) for z in Z]
    return found


def keep(values: list[list[int]], where: list[list[bool]]) -> list[list[int]]:
    """Zero the values of each sample where the mask says no."""
    pairs = zip(values, where, strict=True)
    return [[v if yes else 0 for v, yes in zip(sample, mask, strict=True)] for sample, mask in pairs]


def backward(
    layer: Layer, V: list[int], A: list[int], chosen: list[int], E: list[int]
) -> tuple[list[int], list[int]]:
    """One sample's share of the gradient, and the error it sends below."""
    full, G, below = [0] * layer.outputs, [0] * layer.weights, [0] * len(A)
    for e, o in zip(E, chosen, strict=True):
        full[o] += e
    for o, w, i in layer.taps:
        G[w] += A[i] * full[o]
        below[i] += V[w] * full[o]
    return G, below


def train_step(case: Case, S: list[list[int]], number: int) -> Case:
    """All integers of one step; activations and errors are one list a sample."""
    k_W, k_A, k_G, k_E = (case["bits"][name] for name in ("k_W", "k_A", "k_G", "k_E"))
    x, labels, log2_eta, r = (case[name][number] for name in ("x", "labels", "log2_eta", "random"))
    layers = plan(case["layers"], tuple(case["input_shape"]))
    shifts = [k_W - 1 + s for s in case["alpha_shift"]]
    V = [visible(s, k_W, k_G) for s in S]
    samples = [forward(layers, V, sample, shifts, k_A) for sample in x]
    A, Z, chosen = (
        [[found[at][name] for found in samples] for at in range(len(layers))] for name in ("A", "Z", "chosen")
    )
    one = 2 ** (k_A - 1 + shifts[-1])
    pairs = zip(Z[-1], labels, strict=True)
    D = [[z - one * (o == label) for o, z in enumerate(logits)] for logits, label in pairs]

    none: list[list[int]] = []
    m_E: list[int | None] = [None for _ in layers]
    quantized, E = [none for _ in layers], [none for _ in layers]
    G: list[list[int]] = [[] for _ in layers]
    for at in reversed(range(len(layers))):
        last = at == len(layers) - 1
        if not last:
            D = keep(D, [[not saturated(z, shifts[at], k_A) for z in sample] for sample in Z[at]])
        m_E[at], flat = error_codes([d for sample in D for d in sample], k_E)
        size = len(D[0])
        quantized[at] = [flat[i : i + size] for i in range(0, len(flat), size)]
        E[at] = quantized[at] if last else keep(quantized[at], [[z > 0 for z in sample] for sample in Z[at]])
        shares = [backward(layers[at], V[at], *ace) for ace in zip(A[at], chosen[at], E[at], strict=True)]
        G[at] = [sum(column) for column in zip(*(share for share, _ in shares), strict=True)]
        D = [below for _, below in shares]

    moved = [update(*sgr, log2_eta, case["bound"], case["update"]) for sgr in zip(S, G, r, strict=True)]
    m_G, dS, new = (list(part) for part in zip(*moved, strict=True))
    return {
        "V": V,
        "A": A,
        "Z": Z,
        "m_E": m_E,
        "E_quantized": quantized,
        "E": E,
        "G": G,
        "m_G": m_G,
        "dS": dS,
        "S": new,
    }


def train(case: Case) -> list[Case]:
    """The steps of a whole run, each with the stored weights after it."""
    steps: list[Case] = []
    for number in range(len(case["x"])):
        steps.append(train_step(case, steps[-1]["S"] if steps else case["S"], number))
    return steps


# ---- The files


def round_shift_cases(draw: Draw) -> Iterator[Case]:
    for s in range(-4, 9):
        half = 2 ** (s - 1) if s > 0 else 1
        x = list(range(-8, 9)) if s <= 2 else []
        x += [odd * half + near for odd in range(-5, 6) for near in (-1, 0, 1)]
        x += [draw.within(2**31 - 1) for _ in range(6)]
        yield {"s": s, "x": x, "result": [half_even(v / power(s)) for v in x]}
    for s in (16, 24, 31, 40):
        x = [k * 2 ** (s - 1) + near for k in range(-4, 5) for near in (-1, 0, 1)]
        x += [draw.within(2**45) for _ in range(8)]
        yield {"s": s, "x": x, "result": [half_even(v / power(s)) for v in x]}


def shift_exponent_cases(draw: Draw) -> Iterator[Case]:
    values = list(range(21))
    for n in range(4, 41):
        # The largest integer below sqrt(2) * 2**n, found by bisection on squares.
        low, high = 2**n, 2 ** (n + 1)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if middle**2 < 2 ** (2 * n + 1) else (low, middle)
        values += [2**n - 1, 2**n, 2**n + 1, low - 1, low, high, high + 1]
    values += [draw.below(2 ** (8 + i % 33)) for i in range(60)]
    yield {"largest": values, "m": [shift_exponent(v) for v in values]}


def error_cases(draw: Draw) -> Iterator[Case]:
    def case(D: list[int], k_E: int) -> Case:
        m, E = error_codes(D, k_E)
        return {"k_E": k_E, "D": D, "m": m, "E": E}

    for k_E in (2, 3, 4, 8, 12, 16):
        yield case([0, 0, 0], k_E)
        yield case([1], k_E)
        yield case([-3, 0, 2], k_E)
        for size in (10, 20, 31, 40):
            yield case([draw.within(2**size) for _ in range(10)], k_E)
    # Halves (D a multiple of half a step), and both sides of saturation: the largest above and below Shift.
    for k_E, m in ((2, 12), (4, 12), (8, 12), (8, 20)):
        half = 2 ** (m - k_E)
        yield case([odd * half * s for odd in (1, 3, 5, 7) for s in (1, -1)] + [2**m, -(2**m)], k_E)
        yield case(
            [2**m - 1, half - 2**m, half + 1, half - 1, -half - 1] + [2**m - j * half for j in (2, 3)], k_E
        )
        yield case([-(2**m) - 2 ** (m - 2), 2**m - 2 * half, half], k_E)


def activation_cases(draw: Draw) -> Iterator[Case]:
    for k_A, shift in product((2, 4, 8, 16), (0, 1, 2, 5, 11)):
        edge, half = top(k_A) * 2**shift, 2**shift // 2
        Z = [-edge, -half - 1, -1, 0, 1, half - 1, half, half + 1, 3 * half, 5 * half, edge - half, edge - 1]
        Z += [edge, edge + 1, edge + half, edge + 2 * half + 1, 4 * edge, -(2**31) + 1, 2**31 - 1]
        Z += [draw.within(2 * edge) for _ in range(8)]
        yield {
            "k_A": k_A,
            "shift": shift,
            "Z": Z,
            "A": [activation(z, shift, k_A) for z in Z],
            "saturated": [saturated(z, shift, k_A) for z in Z],
            "active": [z > 0 for z in Z],
        }


def update_cases(draw: Draw) -> Iterator[Case]:
    bits = ((2, 8), (2, 2), (2, 12), (4, 8), (8, 4), (8, 16))
    for (k_W, k_G), stored_range, width in product(bits, ("authors", "paper"), ("wide", "ternary")):
        bound = bound_of(k_W, k_G, stored_range)
        for log2_eta, size in ((0, 12), (3, 20), (-1, 30), (-6, 40), (2, 0)):
            G = [draw.within(2**size) >> draw.below(size // 2 + 1) for _ in range(12)] if size else [0] * 4
            S = [draw.pick([-bound, bound, 1 - bound, 0, draw.within(bound)]) for _ in G]
            r = [draw.pick([0, 1, 2**15, 2**16 - 1, draw.below(2**16), draw.below(2**16)]) for _ in G]
            m, dS, new = update(S, G, r, log2_eta, bound, width)
            yield {
                "k_W": k_W,
                "k_G": k_G,
                "stored_range": stored_range,
                "bound": bound,
                "update": width,
                "log2_eta": log2_eta,
                "S": S,
                "G": G,
                "r": r,
                "m": m,
                "dS": dS,
                "S_new": new,
            }


def alpha_cases(_: Draw) -> Iterator[Case]:
    # Each k_W jumps at n_in = 2 * 4**j / 3: neighbours of those, and sizes of the paper's networks.
    jumps = [n for j in range(1, 9) for n in (2 * 4**j // 3, 2 * 4**j // 3 + 1)]
    sizes = [
        1,
        3,
        4,
        9,
        16,
        25,
        27,
        64,
        100,
        288,
        576,
        784,
        800,
        1024,
        1152,
        1600,
        2304,
        3136,
        4608,
        8192,
        10**6,
    ]
    n_in = sorted({*sizes, *jumps})
    for k_W in range(2, 17):
        yield {"k_W": k_W, "n_in": n_in, "s": [alpha_shift(n, k_W) for n in n_in]}


def input_cases(_: Draw) -> Iterator[Case]:
    for k_A in (2, 4, 8, 16):
        half, most = 2 ** (k_A - 1), top(k_A)
        unsigned = [clip(half_even(Fraction(g * half, 255)), 0, most) for g in range(256)]
        signed = [clip(half_even((Fraction(2 * g, 255) - 1) * half), -most, most) for g in range(256)]
        yield {"k_A": k_A, "unsigned": unsigned, "signed": signed}


def trace_case(
    draw: Draw,
    specs: list[Case],
    shape: tuple[int, ...],
    log2_eta: list[int],
    stored_range: str,
    width: str,
    bits: tuple[int, int, int, int] = (2, 8, 8, 8),
    batch: int = 2,
    signed: bool = False,
) -> Case:
    """A training run in which something happens: stored weights start near the steps of the visible ones."""
    k_W, k_A, k_G, k_E = bits
    layers, bound = plan(specs, shape), bound_of(k_W, k_G, stored_range)
    step = 2 ** (k_G - k_W)
    near = [clip(odd * step // 2 + d, -bound, bound) for odd in (-1, 1, 1) for d in (-1, 0, 1)]
    size, S = 1, [[draw.pick([*near, draw.within(bound)]) for _ in range(layer.weights)] for layer in layers]
    for extent in shape:
        size *= extent
    most = top(k_A)
    levels = [0, 0, most // 4, most // 2, most, most]

    def sample() -> list[int]:
        if signed:
            return [draw.within(most) for _ in range(size)]
        return [draw.pick([*levels, draw.below(most + 1)]) for _ in range(size)]

    case: Case = {
        "layers": specs,
        "input_shape": shape,
        "bits": {"k_W": k_W, "k_A": k_A, "k_G": k_G, "k_E": k_E},
        "stored_range": stored_range,
        "bound": bound,
        "update": width,
        "alpha_shift": [alpha_shift(layer.n_in, k_W) for layer in layers],
        "weight_shapes": [layer.weight_shape for layer in layers],
        "log2_eta": log2_eta,
        "S": S,
        "x": [[sample() for _ in range(batch)] for _ in log2_eta],
        "labels": [[draw.below(specs[-1]["out"]) for _ in range(batch)] for _ in log2_eta],
        "random": [[[draw.below(2**16) for _ in range(layer.weights)] for layer in layers] for _ in log2_eta],
    }
    case["steps"] = train(case)
    return case


def dense(out: int) -> Case:
    return {"kind": "dense", "out": out}


def conv(
    out: int, kernel: int, stride: int = 1, padding: str = "SAME", pool: int = 0, pool_stride: int = 0
) -> Case:
    """`pool` 0 is none; `pool_stride` 0 the same as `pool`."""
    spec: Case = {"kind": "conv", "out": out, "kernel": kernel, "stride": stride, "padding": padding}
    return {**spec, "pool": pool, "pool_stride": pool_stride or pool}


def dense_traces(draw: Draw) -> Iterator[Case]:
    eta = [0, 0, 0, -1, -1]
    net = [dense(3), dense(2)]
    yield trace_case(draw, net, (4,), eta, "authors", "wide")
    yield trace_case(draw, net, (4,), eta, "paper", "ternary")
    yield trace_case(draw, net, (4,), [3, 3, 0, 0, -3], "paper", "wide", signed=True)
    yield trace_case(draw, net, (4,), eta, "authors", "wide", bits=(4, 6, 5, 7))
    # Three weight layers, the first two with alpha above 1.
    yield trace_case(draw, [dense(11), dense(5), dense(3)], (12,), eta, "authors", "ternary", batch=3)
    # Large steps, so that the range clips the stored weights.
    yield trace_case(draw, net, (4,), [3, 3, 3, 3], "authors", "wide")


def conv_traces(draw: Draw) -> Iterator[Case]:
    eta = [0, 0, -1]
    yield trace_case(draw, [conv(2, 3, pool=2), dense(2)], (6, 6, 1), eta, "authors", "wide")
    net = [conv(3, 3, stride=2), conv(2, 2, padding="VALID"), dense(3)]
    yield trace_case(draw, net, (6, 5, 2), eta, "paper", "ternary", signed=True)
    # Windows that overlap, an even kernel (SAME pads more after than before), coarse activations: many ties.
    net = [conv(2, 2, pool=3, pool_stride=2), conv(2, 3, pool=2), dense(2)]
    yield trace_case(draw, net, (8, 9, 1), eta, "authors", "wide", bits=(2, 3, 8, 6))


def philox_cases(_: Draw) -> Iterator[Case]:
    key = (0x0123456789ABCDEF, 0xFEDCBA9876543210)
    for k, c in (
        ((0, 0), (0, 0, 0, 0)),
        ((MASK64, MASK64), (0, 0, 0, 0)),
        ((1, 0), (0, 0, 0, 0)),
        ((0, 1), (0, 0, 0, 0)),
        (key, (1, 2, 3, 4)),
        (key, (0, 0, 0, 2**63)),
        (key, (MASK64 - 1, 0, 7, 9)),  # the counter carries into its second word
        (key, (MASK64 - 1, MASK64, MASK64, MASK64)),  # and all the way round
        ((SEED, 3), (5, 1000, 3, 1)),
    ):
        yield {"key": k, "counter": c, "words": philox_words(k, c, 12)}


FILES: dict[str, tuple[str, Callable[[Draw], Iterator[Case]]]] = {
    "round_shift": ("result = x / 2**s, halves to even", round_shift_cases),
    "shift_exponent": ("m = round(log2(largest)), null for 0", shift_exponent_cases),
    "error": ("E = clip(round_half_even(D * 2**(k_E - 1) / 2**m)), m from the largest abs(D)", error_cases),
    "activation": ("A = clip(round_half_even(Z / 2**shift), 0, 2**(k_A - 1) - 1)", activation_cases),
    "update": (
        "dS = sgn(G) * ((floor(abs(G) * 2**(16 + log2_eta) / 2**m) + r) >> 16), S_new = clip(S - dS)",
        update_cases,
    ),
    "alpha": ("s = max(0, round(log2(1.5 * 2**(1 - k_W) / sqrt(3 / n_in))))", alpha_cases),
    "input": ("codes of grey level 0 .. 255, in order", input_cases),
    "trace_dense": ("training runs of dense nets; flat row-major, A Z E a list a sample", dense_traces),
    "trace_conv": ("training runs with convolutions; flat row-major, A Z E a list a sample", conv_traces),
    "philox": ("12 words of Philox4x64-10 in NumPy's order: the counter goes up first", philox_cases),
}


def text_of(name: str) -> str:
    """The file's whole text: one case a line, a trace's steps one a line."""
    about, cases = FILES[name]
    lines = []
    for case in cases(Draw(SEED)):
        steps = case.pop("steps", None)
        line = json.dumps(case, separators=(",", ":"))
        if steps is not None:
            inner = ",\n".join(json.dumps(step, separators=(",", ":")) for step in steps)
            line = f'{line[:-1]},"steps":[\n{inner}\n]}}'
        lines.append(line)
    body = ",\n".join(lines)
    head = f'"about": {json.dumps(about)},\n"made_by": "tests/golden/make_golden.py",\n"seed": {SEED}'
    return f'{{\n{head},\n"cases": [\n{body}\n]\n}}\n'


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write or check the golden vectors.")
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 when a file differs")
    check = parser.parse_args(arguments).check
    differing = []
    for name in FILES:
        path, text = HERE / f"{name}.json", text_of(name)
        if not check:
            path.write_bytes(text.encode("ascii"))
        elif not path.exists() or path.read_bytes().replace(b"\r\n", b"\n") != text.encode("ascii"):
            differing.append(path.name)
    differing += sorted(path.name for path in HERE.glob("*.json") if path.stem not in FILES) if check else []
    for name in differing:
        print(f"{name} differs from what make_golden.py makes", file=sys.stderr)
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
