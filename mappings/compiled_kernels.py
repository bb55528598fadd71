# mypy: ignore-errors
"""The compiled engine's integer arithmetic, written from the equations and sharing no code with `wage_neuro`.

Every function is plain loops over integers: no float anywhere, and work only where something is not zero.
numba compiles each at its first call for the widths in use and keeps the machine code beside this file, or in
the user's cache folder where this one is read-only: some ten seconds once, none in later runs.

Shapes: n samples; codes `a` and `E` in their code's integer type; sums in int32 or int64, as the caller
has proven. Weights are flat, row-major in weight_shape, and filled up to whole Philox blocks of 16.

Source: arXiv:1802.04680, equations 2 to 12; Philox4x64-10 of Salmon et al., SC 2011.
"""

from __future__ import annotations

import numpy as np
from numba import njit

NONE = -1
"""A held exponent that is not known yet."""

SILENT, ACTIVE, SATURATED = range(3)
"""What a neuron's gate lets back: nothing; the error; nothing, and the error does not count for Shift."""

BLOCK = 16
"""Random 16-bit numbers a Philox block."""

CHUNK = 32 * BLOCK
"""Weights that are updated together."""

_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_UPDATE = 1  # purpose of the random bits, as wage_neuro.random_bits
_SQRT_HALF = np.uint64(0xB504F333F9DE6484)  # floor(2**63.5)
_M0 = np.uint64(0xD2E7470E), np.uint64(0xE14C6C93)
_M1 = np.uint64(0xCA5A8263), np.uint64(0x95121157)
_W0, _W1 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)

_inline = njit(inline="always")


def _compiled(function):
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:  # no folder that can be written to: compiled in every run
        return njit(nogil=True)(function)


# --- integers ----------------------------------------------------------------------------------------


@_inline
def _wide_product(x, high, low):
    """Upper and lower word of the product of x and the 64-bit constant of these halves: the lanes of a vector
    unit have no wider product than 32 x 32 bits."""
    x_low, x_high = x & _LOW, x >> _HALF
    bottom, middle = x_low * low, x_high * low
    middle += bottom >> _HALF
    other = x_low * high + (middle & _LOW)
    return x_high * high + (middle >> _HALF) + (other >> _HALF), (other << _HALF) | (bottom & _LOW)


@_compiled
def philox(seed, purpose, layer, step, first, words):
    """Write the words of the blocks from `first` on: key (seed, purpose), counter (block, step, layer, 0).

    words : (4 * blocks,) uint64, CHUNK // BLOCK blocks at most; they are drawn side by side, round by round.
    """
    blocks = words.size // 4
    c0, c1, c2, c3 = np.empty((4, CHUNK // BLOCK), np.uint64)
    k0, k1 = np.uint64(seed), np.uint64(purpose)
    for b in range(blocks):
        # numpy's generator counts up before it draws
        c0[b], c1[b], c2[b], c3[b] = first + b + 1, step, layer, 0
    for _ in range(10):
        for b in range(blocks):
            high0, low0 = _wide_product(c0[b], _M0[0], _M0[1])
            high1, low1 = _wide_product(c2[b], _M1[0], _M1[1])
            c0[b], c1[b], c2[b], c3[b] = high1 ^ c1[b] ^ k0, low1, high0 ^ c3[b] ^ k1, low0
        k0 += _W0
        k1 += _W1
    for b in range(blocks):
        words[4 * b], words[4 * b + 1], words[4 * b + 2], words[4 * b + 3] = c0[b], c1[b], c2[b], c3[b]


@_compiled
def log2_round(x):
    """round(log2 x) of a whole x >= 1."""
    floor = 0
    while x >> (floor + 1):
        floor += 1
    # sqrt(2) * 2**floor is irrational: no tie
    return floor + (np.uint64(x) << np.uint64(63 - floor) > _SQRT_HALF)


@_inline
def _round_shift(x, shift):
    """x / 2**shift, halves to even; a negative shift multiplies."""
    if shift <= 0:
        return x << -shift
    return (x + (1 << (shift - 1)) - 1 + ((x >> shift) & 1)) >> shift


@_compiled
def _exponent(peak, held, samples, hold):
    """m of Shift: of the batch's own peak (hold = 0), or the one held before it, which then follows the peak.

    held : (2,) exponent and the samples since it was last reached
    """
    if hold == 0:
        return log2_round(peak) if peak else NONE
    before = held[0]
    if peak:
        reached = log2_round(peak)
        held[1] += samples
        if reached >= before:
            held[0], held[1] = reached, 0
        elif held[1] >= hold:
            held[0], held[1] = before - 1, 0
    return before


@_compiled
def quantize(S, shift, top, V):
    """Q_W: V <- the visible weights of S, both flat."""
    for p in range(S.size):
        V[p] = max(-top, min(top, _round_shift(np.int64(S[p]), shift)))


# --- forward -----------------------------------------------------------------------------------------


@_compiled
def dense_product(a, V, Z):
    """Z <- a V; a (n, n_in), V (n_in, n_out), Z (n, n_out)."""
    for s in range(a.shape[0]):
        z = Z[s]
        z[:] = 0
        for i in range(a.shape[1]):
            x = a[s, i]
            if x:
                row = V[i]
                for j in range(row.size):
                    z[j] += x * row[j]


@_compiled
def conv_product(a, V, Z, kernel, stride, top, left):
    """Z <- a * V; a (n, h, w, c), V (kernel**2 * c, n_out), Z (n, h_out, w_out, n_out)."""
    n, h, w, channels = a.shape
    Z[:] = 0
    for s in range(n):
        for y in range(h):
            for x in range(w):
                for c in range(channels):
                    code = a[s, y, x, c]
                    if code:
                        for ky in range(kernel):
                            y_out, y_rest = divmod(y + top - ky, stride)
                            if y_rest or not 0 <= y_out < Z.shape[1]:
                                continue
                            for kx in range(kernel):
                                x_out, x_rest = divmod(x + left - kx, stride)
                                if x_rest or not 0 <= x_out < Z.shape[2]:
                                    continue
                                z, row = Z[s, y_out, x_out], V[(ky * kernel + kx) * channels + c]
                                for j in range(row.size):
                                    z[j] += code * row[j]


@_compiled
def activate(Z, size, step, shift, top, out, gate, winner):
    """Max-pooling, ReLU and Q_A; a dense layer is an image of one pixel under windows of one pixel.

    Z (n, h, w, c); out, gate, winner (n, h_out, w_out, c), winner the row-major place of the first maximum.
    """
    n, height, width, channels = out.shape
    ceiling = top << shift
    for s in range(n):
        for y in range(height):
            for x in range(width):
                for c in range(channels):
                    best, place = Z[s, y * step, x * step, c], 0
                    for i in range(size):
                        for j in range(size):
                            z = Z[s, y * step + i, x * step + j, c]
                            if z > best:
                                best, place = z, i * size + j
                    winner[s, y, x, c] = place
                    gate[s, y, x, c] = SILENT if best <= 0 else SATURATED if best > ceiling else ACTIVE
                    out[s, y, x, c] = max(0, min(top, _round_shift(np.int64(best), shift)))


# --- errors ------------------------------------------------------------------------------------------


@_compiled
def output_error(Z, labels, target, one_sided, margin, D):
    """D <- Z - target, or its one-sided form; zeros for a sample with its margin (eighths of the target).

    Z, D (n, classes).
    """
    for s in range(len(labels)):
        right = labels[s]
        second = -target  # of one class: nothing to lead
        first_other = True
        for j in range(Z.shape[1]):
            if j != right and (first_other or Z[s, j] > second):
                second, first_other = Z[s, j], False
        lead = Z[s, right] - (0 if first_other else second)
        safe = margin > 0 and lead * 8 >= margin * target
        for j in range(Z.shape[1]):
            d = Z[s, j] - (target if j == right else 0)
            if safe or (one_sided and (d > 0) == (j == right)):
                d = 0
            D[s, j] = d


@_compiled
def calm_new(D, first, new_samples, shift):
    """Shift the errors of new samples right; see `wage_neuro.rules.Rules.new_shift`.

    D (n, classes) of samples number first, ... Returns whether any error is left.
    """
    left = False
    for s in range(len(D)):
        bits = shift if (first + s) % (2 * new_samples) < new_samples else 0
        for j in range(D.shape[1]):
            d = D[s, j]
            D[s, j] = d >> bits if d > 0 else -(-d >> bits)
            left |= D[s, j] != 0
    return left


@_compiled
def error_codes(D, gate, held, samples, hold, k_E, log2_gamma, E):
    """Q_E and the masks of clip and ReLU; D, gate, E flat. Returns whether any code is not zero.

    Errors above 2**-log2_gamma of the exponent's saturate.
    """
    peak = 0
    for p in range(D.size):
        if gate[p] == SATURATED:
            D[p] = 0
        peak = max(peak, abs(D[p]))
    exponent = _exponent(peak, held, samples, hold)
    if exponent == NONE or peak == 0:
        return False
    shift, top, any_code = exponent - log2_gamma - (k_E - 1), (1 << (k_E - 1)) - 1, False
    # of a shift to the left more than this saturates
    limit = top if shift < 0 else peak
    for p in range(D.size):
        code = 0
        if gate[p] != SILENT:
            d = max(-limit, min(limit, D[p]))
            code = max(-top, min(top, _round_shift(d, shift)))
        E[p] = code
        any_code |= code != 0
    return any_code


@_compiled
def spikes(codes, shift, seed, purpose, layer, step, out):
    """out <- sgn(code) with probability min(1, abs(code) * 2**shift / 2**16), rounded up; all flat."""
    words = np.empty(CHUNK // 4, np.uint64)
    r = words.view(np.uint16)
    for first in range(0, codes.size, CHUNK):
        part = codes[first : first + CHUNK]
        if part.any():
            philox(seed, purpose, layer, step, first // BLOCK, words)
        for k in range(part.size):
            size = abs(np.int64(part[k]))
            spike = r[k] < (size << shift if shift >= 0 else -(-size >> -shift))
            out[first + k] = np.sign(part[k]) * spike


@_compiled
def dense_error(V, E, D):
    """D <- E V^T; V (n_in, n_out), E (n, n_out), D (n, n_in)."""
    for s in range(E.shape[0]):
        e = E[s]
        for i in range(V.shape[0]):
            row, total = V[i], 0
            for j in range(e.size):
                total += row[j] * e[j]
            D[s, i] = total


@_compiled
def conv_error(W, E, winner, size, step, stride, top, left, padded, D):
    """D <- E W^T, each error sent from the place that won its window.

    W (n_out, kernel, kernel * c), E and winner (n, h_pool, w_pool, n_out), D (n, h, w, c); padded: room for
    one image of D with its border.
    """
    n, height, width, channels = E.shape
    flat = padded.reshape(padded.shape[0], -1)
    for s in range(n):
        padded[:] = 0
        for y in range(height):
            for x in range(width):
                for o in range(channels):
                    e = E[s, y, x, o]
                    if e:
                        y_in = (y * step + winner[s, y, x, o] // size) * stride
                        x_in = (x * step + winner[s, y, x, o] % size) * stride * D.shape[3]
                        for ky in range(W.shape[1]):
                            d, row = flat[y_in + ky, x_in : x_in + W.shape[2]], W[o, ky]
                            for t in range(row.size):
                                d[t] += e * row[t]
        D[s] = padded[top : top + D.shape[1], left : left + D.shape[2]]


# --- gradients and the update ------------------------------------------------------------------------


@_compiled
def dense_gradient(a, E, G, touched):
    """G += a^T E; a (n, n_in), E (n, n_out), G (n_in, n_out); touched (n_in,): rows that are not zero."""
    for s in range(a.shape[0]):
        e = E[s]
        if not e.any():
            continue
        for i in range(a.shape[1]):
            x = a[s, i]
            if x:
                touched[i] = True
                row = G[i]
                for j in range(e.size):
                    row[j] += x * e[j]


@_compiled
def conv_gradient(a, E, winner, size, step, stride, top, left, padded, G_back, G, touched):
    """G += the gradient of a convolution; arrays as in `conv_error`.

    a (n, h, w, c), G (fan_in, n_out), touched (fan_in,); padded: room for one image of a, its border zero;
    G_back (n_out, kernel, kernel * c): zeros, and zeros again afterwards.
    """
    n, height, width, channels = E.shape
    flat = padded.reshape(padded.shape[0], -1)
    run = G_back.shape[2]
    for s in range(n):
        padded[top : top + a.shape[1], left : left + a.shape[2]] = a[s]
        for y in range(height):
            for x in range(width):
                for o in range(channels):
                    e = E[s, y, x, o]
                    if e:
                        y_in = (y * step + winner[s, y, x, o] // size) * stride
                        x_in = (x * step + winner[s, y, x, o] % size) * stride * a.shape[3]
                        for ky in range(G_back.shape[1]):
                            g, row = G_back[o, ky], flat[y_in + ky, x_in : x_in + run]
                            for t in range(run):
                                g[t] += e * row[t]
    for ky in range(G_back.shape[1]):
        for t in range(run):
            for o in range(channels):
                g = G_back[o, ky, t]
                if g:
                    G[ky * run + t, o] += g
                    touched[ky * run + t] = True
                    G_back[o, ky, t] = 0


@_compiled
def _quotients(g, limit, left, right, q_max, q):
    """q <- floor(abs(g) * 2**(left - right)), q_max at most; returns the bits that any of them has."""
    bits = np.uint32(0)
    for k in range(g.size):
        q[k] = min(q_max, min(limit, abs(g[k])) << left >> right)
        bits |= q[k]
    return bits


@_compiled
def _damp(s, g, q, metaplasticity, size_shift, importance):
    """Shift each quotient right by its importance, and, of a step towards 0, by the size of the weight.

    importance : (0,) where there is none; returns the bits that any quotient still has
    """
    for k in range(importance.size):
        q[k] >>= np.uint32(importance[k])
    if metaplasticity:
        for k in range(g.size):
            if (s[k] > 0 and g[k] > 0) or (s[k] < 0 and g[k] < 0):
                h = min(metaplasticity, metaplasticity * abs(np.int64(s[k])) >> size_shift)
                q[k] >>= np.uint32(h)
    bits = np.uint32(0)
    for k in range(g.size):
        bits |= q[k]
    return bits


@_compiled
def _move(s, v, g, q, r, bound, v_shift, v_max):
    """Step S by q, rounded with the random bits r, against the sign of g; then see what V it gives."""
    for k in range(g.size):
        dS = np.int64(q[k] + r[k]) >> 16
        new = max(-bound, min(bound, s[k] - (dS if g[k] > 0 else -dS)))
        s[k] = new
        v[k] = max(-v_max, min(v_max, _round_shift(new, v_shift)))


@_compiled
def _count(q, r, steps):
    """One more step wherever `_move` takes one; counts end at their largest."""
    for k in range(steps.size):
        moved = np.uint32(q[k] + r[k]) >= np.uint32(1 << 16)
        steps[k] += np.uint16(moved & (steps[k] < np.uint16(0xFFFF)))


@_compiled
def update(
    S,
    V,
    G,
    touched,
    n_out,
    held,
    samples,
    hold,
    coincidence,
    log2_eta,
    step_max,
    bound,
    k_G,
    k_W,
    metaplasticity,
    importance,
    counted,
    seed,
    layer,
    time,
):
    """Q_G, the clipped step and Q_W, wherever G is not zero; G and touched are zeros afterwards.

    S, V, G : flat, whole blocks; importance, counted : likewise, its bits and the steps taken, or both (0,);
    touched (fan_in,); seed, layer, time : name the random bits
    """
    peak = 0
    for i in range(touched.size):
        if touched[i]:
            row = G[i * n_out : (i + 1) * n_out]
            for j in range(n_out):
                peak = max(peak, abs(row[j]))
    shift = -16  # a coincidence moves a whole step
    if not coincidence:
        exponent = _exponent(peak, held, samples, hold)
        shift = exponent - log2_eta - 16 if exponent != NONE else 63
    v_shift, v_max = k_G - k_W, (1 << (k_W - 1)) - 1
    q_max = step_max << 16
    right, left = min(max(shift, 0), 31), 0
    while left < -shift and q_max >> left:
        left += 1
    limit = (q_max >> left) + 1 if left else peak  # more is cut to the largest step all the same
    words = np.empty(CHUNK // 4, np.uint64)
    r = words.view(np.uint16)
    q = np.empty(CHUNK, np.uint32)
    for first in range(0, S.size, CHUNK):
        size = min(CHUNK, S.size - first)
        rows = touched[first // n_out : (first + size - 1) // n_out + 1]
        if not rows.any():
            continue
        g, s, v = G[first : first + size], S[first : first + size], V[first : first + size]
        steps = _quotients(g, limit, left, right, q_max, q)
        if steps and (metaplasticity or importance.size):
            steps = _damp(s, g, q, metaplasticity, k_G - 2, importance[first : first + size])
        if steps & 0xFFFF:  # whole steps need no random bits
            philox(seed, _UPDATE, layer, time, first // BLOCK, words[: size // 4])
        if steps:
            _count(q, r, counted[first : first + size])
            _move(s, v, g, q, r, bound, v_shift, v_max)
        g[:] = 0
    touched[:] = False
