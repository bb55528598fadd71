"""WAGE in Python ints: from the definitions, one value at a time, sharing no code with wage_neuro.

Arrays are numpy arrays of Python ints (dtype object), which neither round nor overflow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import product
from types import SimpleNamespace

import numpy as np


def ints(x) -> np.ndarray:
    """The same values as Python ints; a value that is not whole is an error."""
    whole = np.asarray(x).astype(np.int64)
    assert np.array_equal(whole, x)
    return whole.astype(object)


def each(function: Callable, *arrays: np.ndarray) -> np.ndarray:
    return np.vectorize(function, otypes=[object])(*arrays)


def rne(x: int, shift: int) -> int:
    """x / 2**shift, halves to even."""
    if shift <= 0:
        return x << -shift
    quotient, rest, half = x >> shift, x % (1 << shift), 1 << (shift - 1)
    return quotient + (rest > half or (rest == half and quotient % 2 == 1))


def clip(x: int, low: int, high: int) -> int:
    return low if x < low else high if x > high else x


def top(k: int) -> int:
    return 2 ** (k - 1) - 1


def exponent(largest: int) -> int | None:
    """m with 2**(m - 1/2) < largest < 2**(m + 1/2), by comparing squares; None for 0."""
    if largest == 0:
        return None
    m = 0
    while largest**2 > 2 ** (2 * m + 1):
        m += 1
    return m


def alpha_shift(n_in: int, k_W: int) -> int:
    """round(log2(1.5 * 2**(1 - k_W) / sqrt(3 / n_in))), at least 0, by comparing squares."""
    s = 0
    while 3 * n_in > 4**k_W * 2 ** (2 * s + 1):
        s += 1
    return s


def visible(S: int, k_W: int, k_G: int) -> int:
    return clip(rne(S, k_G - k_W), -top(k_W), top(k_W))


def activation(Z: int, shift: int, k_A: int) -> int:
    return clip(rne(Z, shift), 0, top(k_A))


def error_code(D: int, m: int | None, k_E: int) -> int:
    return 0 if m is None else clip(rne(D, m - (k_E - 1)), -top(k_E), top(k_E))


def stored_bound(k_W: int, k_G: int, stored_range: str) -> int:
    return top(k_W) * 2 ** (k_G - k_W) if stored_range == "authors" and k_G >= k_W else top(k_G)


def held(before: tuple, largest: int, samples: int, hold: int) -> tuple:
    """(exponent, samples below it) after a batch: up at once, down by one after `hold` samples below."""
    (m, below), reached = before, exponent(largest)
    if reached is None:
        return before
    if m is None or reached >= m:
        return reached, 0
    return (m - 1, 0) if below + samples >= hold else (m, below + samples)


def feedback_weight(r: int) -> int:
    """-1, 0, 1 for the lower, middle and upper third of 16 random bits."""
    return r * 3 // 2**16 - 1


def output_error(Z: list[int], label: int, target: int, loss: str = "sse", margin: int = 0) -> list[int]:
    """Error at the output for one sample; a lead of `margin` eighths of the target leaves none."""
    D = [z - target * (o == label) for o, z in enumerate(Z)]
    if loss == "softmax":
        D = [p - 2**15 * (o == label) for o, p in enumerate(softmax(Z, target))]
    if loss == "one-sided":
        D = [min(d, 0) if o == label else max(d, 0) for o, d in enumerate(D)]
    lead = Z[label] - max([z for o, z in enumerate(Z) if o != label], default=0)
    return [0] * len(Z) if margin and 8 * lead >= margin * target else D


def exp_table(step: Fraction, entries: int) -> list[int]:
    """round(2**30 exp(-i step)), by the power series of exp(-step) and its powers, to 120 bits."""
    terms, k = [Fraction(1)], 0
    while abs(terms[-1]) > Fraction(1, 2**130):
        k += 1
        terms.append(-terms[-1] * step / k)
    factor, value, found = round(sum(terms) * 2**120), 2**120, []
    for _ in range(entries):
        found.append((value + 2**89) >> 90)
        value = value * factor >> 120
    return found


COARSE, FINE = exp_table(Fraction(1, 64), 2048), exp_table(Fraction(1, 2**16), 1024)


def softmax(Z: list[int], one: int) -> list[int]:
    """Probabilities in units of 2**-15 of the logits Z / one; a distance to the largest has 16 bits."""
    steps = [min((2 * 2**16 * (max(Z) - z) + one) // (2 * one), 2**21 - 1) for z in Z]
    e = [COARSE[x // 1024] * FINE[x % 1024] // 2**30 for x in steps]
    return [(2 * 2**15 * each + sum(e)) // (2 * sum(e)) for each in e]


def updated(S: int, G: int, r: int, m: int, log2_eta: int, bound: int, ternary: bool) -> int:
    """New S of one weight: clip(S - sgn(G) * ((floor(eta * abs(G) * 2**16 / 2**m) + r) >> 16))."""
    shift = 16 + log2_eta - m
    dS = ((abs(G) << shift if shift >= 0 else abs(G) >> -shift) + r) >> 16
    dS = min(dS, 1) if ternary else dS
    return clip(S - dS if G > 0 else S + dS, -bound, bound)


def damped(
    S: int, G: int, r: int, m: int, log2_eta: int, largest: int, bound: int, bits: int, least: int, half: int
) -> int:
    """New S of a weight that is held on to: the chance of a step is 2**-h times what it would be.

    largest : longest step; bits : of h whatever the step's sign; least : bits of a weight of size `half` or
    more on its way towards 0, in proportion fewer for a smaller one, rounded down
    """
    whole = min(abs(G) * Fraction(2) ** (16 + log2_eta - m) // 1, largest * 2**16)
    h = bits + (min(least, least * abs(S) // half) if S * G > 0 else 0)
    dS = (whole // 2**h + r) // 2**16
    return clip(S - dS if G > 0 else S + dS, -bound, bound)


def spike(code: int, r: int, log2_probability: int) -> int:
    """Sign of a code with probability abs(code) * 2**log2_probability, by 16 random bits; else 0."""
    return ((code > 0) - (code < 0)) * (r < abs(code) * Fraction(2) ** (16 + log2_probability))


# --- convolution and pooling ------------------------------------------------------------------------


def taps(n: int, kernel: int, stride: int, padding: str) -> list[list[tuple[int, int]]]:
    """For each output of one axis: (place in the kernel, place in the input), the zeros left out."""
    if padding == "VALID":
        outputs, before = (n - kernel) // stride + 1, 0
    else:
        outputs = (n + stride - 1) // stride
        before = max(0, (outputs - 1) * stride + kernel - n) // 2
    return [
        [(i, y * stride + i - before) for i in range(kernel) if 0 <= y * stride + i - before < n]
        for y in range(outputs)
    ]


def each_tap(a: np.ndarray, W: np.ndarray, stride: int, padding: str):
    rows, columns = (taps(n, W.shape[0], stride, padding) for n in a.shape[1:3])
    for (y, row), (x, column) in product(enumerate(rows), enumerate(columns)):
        for (i, v), (j, u) in product(row, column):
            yield y, x, i, j, v, u


def convolve(a: np.ndarray, W: np.ndarray, stride: int, padding: str) -> np.ndarray:
    rows, columns = (len(taps(n, W.shape[0], stride, padding)) for n in a.shape[1:3])
    Z = np.zeros((len(a), rows, columns, W.shape[3]), object)
    for y, x, i, j, v, u in each_tap(a, W, stride, padding):
        Z[:, y, x] += a[:, v, u] @ W[i, j]
    return Z


def convolve_back(
    a: np.ndarray, W: np.ndarray, E: np.ndarray, stride: int, padding: str
) -> tuple[np.ndarray, np.ndarray]:
    G, D = np.zeros(W.shape, object), np.zeros(a.shape, object)
    for y, x, i, j, v, u in each_tap(a, W, stride, padding):
        G[i, j] += a[:, v, u].T @ E[:, y, x]
        D[:, v, u] += E[:, y, x] @ W[i, j].T
    return G, D


def pool(Z: np.ndarray, size: int, step: int, padding: str = "VALID") -> tuple[np.ndarray, dict]:
    """Maxima, and for each the place it came from: the first of equals."""
    n, h, w, c = Z.shape
    rows, columns = (taps(k, size, step, padding) for k in (h, w))
    best = np.zeros((n, len(rows), len(columns), c), object)
    chosen = {}
    for s, y, x, o in np.ndindex(best.shape):
        window = [(s, v, u, o) for _, v in rows[y] for _, u in columns[x]]
        chosen[s, y, x, o] = max(window, key=Z.__getitem__)
        best[s, y, x, o] = Z[chosen[s, y, x, o]]
    return best, chosen


def average(Z: np.ndarray, size: int) -> tuple[np.ndarray, dict]:
    """Sums of whole windows side by side, and for each the places that it came from."""
    n, h, w, c = Z.shape
    total, chosen = np.zeros((n, h // size, w // size, c), object), {}
    for s, y, x, o in np.ndindex(total.shape):
        window = [(s, y * size + i, x * size + j, o) for i in range(size) for j in range(size)]
        total[s, y, x, o] = sum(Z[place] for place in window)
        chosen[s, y, x, o] = window
    return total, chosen


def unpool(E: np.ndarray, chosen: dict, shape: tuple[int, ...]) -> np.ndarray:
    out = np.zeros(shape, object)
    for place, sources in chosen.items():
        for source in sources if isinstance(sources, list) else [sources]:
            out[source] += E[place]
    return out


# --- one training step ------------------------------------------------------------------------------


def pairs(specs) -> list[tuple]:
    """(Dense or Conv, the pool after it or None)."""
    found: list[tuple] = []
    for spec in specs:
        if hasattr(spec, "size"):
            found[-1] = (found[-1][0], spec)
        elif hasattr(spec, "units") or hasattr(spec, "kernel"):
            found.append((spec, None))
    return found


def widths(spec, bits) -> tuple[int, int, int]:
    """k_W, k_G, k_E of a layer: 16 of each where it is unquantized."""
    return (bits.k_W, bits.k_G, bits.k_E) if getattr(spec, "quantized", True) else (16, 16, 16)


def step(specs, bits, S, x, labels, log2_eta, random, rules, exponents=None, S_back=None, B=None, trace=None):
    """One training step; `exponents` (errors, gradients) are the held ones, else those of the batch.

    log2_eta : of each layer; None leaves its weights as they are
    random : of each layer, 16 bits a weight; with coincidence updates (16 bits an input, 16 bits an output).
    S_back : the weights that the error meets and changes, where others than S went forward.
    B : fixed feedback weights of each layer, where rules.feedback asks for them
    trace : a list that gets what every layer saw, for `activity`

    Returns new S of each layer, logits, and the peaks (errors, gradients) of each layer.
    """
    k_A = bits.k_A
    n, a, kept, new = len(x), ints(x), [], []
    S_back = S if S_back is None else S_back
    for (spec, pooling), stored, later in zip(pairs(specs), S, S_back, strict=True):
        k_W, k_G, _ = widths(spec, bits)
        (W, W_back), chosen = (
            (each(lambda s, k_W=k_W, k_G=k_G: visible(s, k_W, k_G), ints(w)) for w in (stored, later)),
            None,
        )
        a = a if hasattr(spec, "kernel") else a.reshape(n, -1)
        full = convolve(a, W, spec.stride, spec.padding) if hasattr(spec, "kernel") else a @ W
        Z = full
        shift = k_W - 1 + alpha_shift(int(np.prod(W.shape[:-1])), k_W)
        if hasattr(pooling, "stride"):
            Z, chosen = pool(full, pooling.size, pooling.stride or pooling.size, pooling.padding)
        elif pooling:  # the mean of size**2 sums, rounded with the scale
            Z, chosen = average(full, pooling.size)
            shift += 2 * (pooling.size.bit_length() - 1)
        out = each(lambda z, shift=shift: activation(z, shift, k_A), Z)
        kept.append((a, out, W, W_back, Z, chosen, full.shape, shift))
        a = out
    logits = Z
    target = 2 ** (k_A - 1 + shift)
    rows = zip(logits.tolist(), labels.tolist(), strict=True)
    D = np.array([output_error(z, label, target, rules.loss, rules.margin) for z, label in rows], object)
    peaks_E, peaks_G, last_E = [], [], None
    for i, (spec, _) in reversed(list(enumerate(pairs(specs)))):
        a, out, W_forward, W, Z, chosen, full_shape, shift = kept[i]
        hidden, (k_W, k_G, k_E) = i < len(kept) - 1, widths(spec, bits)
        plain_sgd = not getattr(spec, "quantized", True)
        if hidden and rules.feedback == "direct":
            D = last_E @ B[i]
        D = D.reshape(Z.shape)
        if hidden:
            D[top(k_A) * 2**shift < Z] = 0
        peaks_E.insert(0, 0 if plain_sgd else max(map(abs, D.flat)))
        m = exponents[0][i] if exponents else exponent(peaks_E[0])
        m = 15 if plain_sgd else m
        whole = plain_sgd or (rules.loss == "softmax" and not hidden)
        m = m if m is None or whole else m - rules.gamma.bit_length() + 1
        E = each(lambda d, m=m, k_E=k_E: error_code(d, m, k_E), D)
        if hidden:
            E[Z <= 0] = 0
        else:
            last_E = E
        pre, post, eta = a, E, log2_eta[i]
        coincidence = rules.update == "coincidence" and eta is not None
        if coincidence:
            pre_bits, post_bits = (ints(r).reshape(c.shape) for r, c in zip(random[i], (a, E), strict=True))
            pre = each(lambda c, r: spike(c, r, 1 - k_A), a, pre_bits)
            post = each(lambda c, r, k=eta + 1 - k_E: spike(c, r, k), E, post_bits)
        codes = E
        if chosen:
            E, post = unpool(E, chosen, full_shape), unpool(post, chosen, full_shape)
        if trace is not None:
            leaves = out if hidden else logits
            seen = {"a": a, "out": leaves, "codes": codes, "E": E, "pre": pre, "post": post, "eta": eta}
            trace.insert(0, SimpleNamespace(**seen, W=W_forward))
        if rules.feedback == "random" and i:
            W = ints(B[i]).reshape(W.shape)
        if trace is not None:
            trace[0].W_back = B[i] if hidden and rules.feedback == "direct" else W
        if hasattr(spec, "kernel"):
            G, _ = convolve_back(pre, W, post, spec.stride, spec.padding)
            _, D = convolve_back(a, W, E, spec.stride, spec.padding)
        else:
            G, D = pre.T @ post, E @ W.T
        peaks_G.insert(0, 0 if plain_sgd else max(map(abs, G.flat)))
        m = exponents[1][i] if exponents else exponent(peaks_G[0])
        if plain_sgd:  # eta / 4 of the mean: G has 15 bits more than the weights' own 15, and those of k_A
            m = k_A - 1 + exponent(n) + 2
        bound, stored = stored_bound(k_W, k_G, rules.stored_range), ints(S_back[i])
        G = G.reshape(stored.shape)
        if coincidence:
            stored = each(lambda s, g, bound=bound: clip(s - clip(g, -1, 1), -bound, bound), stored, G)
        elif m is not None and eta is not None:

            def move(s, g, r, m=m, eta=eta, bound=bound):
                return updated(s, g, r, m, eta, bound, rules.update == "ternary")

            stored = each(move, stored, G, ints(random[i]).reshape(stored.shape))
        new.insert(0, stored)
    return new, logits, (peaks_E, peaks_G)


# --- activity ---------------------------------------------------------------------------------------


def synapses(spec, in_shape: tuple[int, ...], z_shape: tuple[int, ...]) -> Iterator[tuple]:
    """Places of the input, the product and the weight of every synapse, as often as one sample uses it."""
    if not hasattr(spec, "kernel"):
        for source, place in product(np.ndindex(in_shape), np.ndindex(z_shape)):
            yield source, place, source + place
        return
    rows, columns = (taps(n, spec.kernel, spec.stride, spec.padding) for n in in_shape[:2])
    for (y, row), (x, column) in product(enumerate(rows), enumerate(columns)):
        for (i, v), (j, u), c, o in product(row, column, range(in_shape[2]), range(z_shape[2])):
            yield (v, u, c), (y, x, o), (i, j, c, o)


def activity(specs, trace, before, after, rules) -> list[dict[str, int]]:
    """What each layer did in one step, counted one synapse after the other."""
    counts = []
    for i, ((spec, _), t) in enumerate(zip(pairs(specs), trace, strict=True)):
        found = {
            "inputs": sum(a != 0 for a in t.a.flat),
            "spikes": sum(a != 0 for a in t.out.flat),
            "synaptic_operations": 0,
            "synapses_reached": 0,
            "errors": sum(e != 0 for e in t.codes.flat),
            "error_operations": 0,
            "error_synapses_reached": 0,
            "learning_operations": 0,
            "updates": sum(s != r for s, r in zip(ints(before[i]).flat, ints(after[i]).flat, strict=True)),
        }
        places = list(synapses(spec, t.a.shape[1:], t.E.shape[1:]))
        for a, E, pre, post in zip(t.a, t.E, t.pre, t.post, strict=True):
            for source, place, weight in places:
                found["synapses_reached"] += a[source] != 0
                found["synaptic_operations"] += a[source] != 0 and t.W[weight] != 0
                if i and rules.feedback != "direct":
                    found["error_synapses_reached"] += E[place] != 0
                    found["error_operations"] += E[place] != 0 and t.W_back[weight] != 0
                found["learning_operations"] += pre[source] != 0 and post[place] != 0 and t.eta is not None
        if rules.feedback == "direct" and i < len(trace) - 1:
            rows = [
                (e != 0, b) for E in trace[-1].codes for e, row in zip(E, t.W_back, strict=True) for b in row
            ]
            found["error_synapses_reached"] = sum(spike for spike, _ in rows)
            found["error_operations"] = sum(spike and b != 0 for spike, b in rows)
        counts.append(found)
    return counts
