"""The accelerator engine's fused kernels, in Triton: a WAGE layer forward and backward in bytes.

A convolution reads its zero-bordered input in place: no patches are written. Products are of int8 into int32,
on tensor cores where the device has them; every sum is of integers that fit, so neither tiling nor the order
of atomic additions can change a bit.

Positions of a layer's Z are numbered window by window: a position of a pooled layer is 4 * window + place,
so the four sums that compete stand side by side in a tile. Only sums over positions ever see that order.

Error codes of 9 to 15 bits are two planes of bytes, e = (upper << 7) + lower, and so is a gradient of two
planes of 32 bits. UPPER says how far the upper plane stands behind the lower one; 0: there is none.

With TRITON_INTERPRET=1 the same code runs on a processor, slowly: the tests compare it with numpy there.

Source: arXiv:1802.04680, equations 2 to 12; Philox4x64-10 of Salmon et al., SC 2011.
"""

# Triton has types and constants of its own, given by position.
from __future__ import annotations

import triton
import triton.language as tl

from wage_neuro import normal, softmax

SILENT, ACTIVE, SATURATED = 0, 1, 2
"""A gate: Z <= 0, Z within the codes, Z past the largest code. Two bits above it name the winner."""

LOWER_BITS, LOWER_MASK = tl.constexpr(7), tl.constexpr(127)
FRACTION = tl.constexpr(normal.FRACTION)
FOLLOW = tl.constexpr(normal.FOLLOW)
LOGIT_BITS, FINE_BITS = tl.constexpr(softmax.LOGIT_BITS), tl.constexpr(softmax.FINE_BITS)
EXP_BITS, PROBABILITY_BITS = tl.constexpr(softmax.EXP_BITS), tl.constexpr(softmax.PROBABILITY_BITS)
RANGE = tl.constexpr(softmax.RANGE)
MOST_X = tl.constexpr((softmax.RANGE << softmax.LOGIT_BITS) - 1)
FINE_MASK = tl.constexpr((1 << softmax.FINE_BITS) - 1)
SUM_D, SUM_DU, SUM_UU, SUM_U, SUM_SIZE = map(tl.constexpr, range(5))
"""Rows of what is summed over each channel of a normalised layer: errors D and codes u."""
MEAN, SLOPE, BY, TOP_D = map(tl.constexpr, range(4))
"""Rows of a projection, see `plan_projection`."""
CENTRE, SPREAD, SCALE = map(tl.constexpr, range(3))
"""Rows of the statistics of a normalised layer, see `wage_neuro.normal`."""


@triton.jit
def _corner(p, HEIGHT, WIDTH, ROW, COLUMN, IMAGE, POOL: tl.constexpr):
    """Offset of the window of a position in a bordered image buffer, whose strides are given."""
    if POOL == 2:
        window, place = p // 4, p % 4
        across, down = WIDTH // 2, HEIGHT // 2
        x, y = 2 * (window % across) + place % 2, 2 * (window // across % down) + place // 2
        image = window // (across * down)
    else:
        x, y, image = p % WIDTH, p // WIDTH % HEIGHT, p // (WIDTH * HEIGHT)
    return image * IMAGE + y * ROW + x * COLUMN


@triton.jit
def _sums(
    a, w, at, p, n, P, KERNEL: tl.constexpr, ROW: tl.constexpr, C: tl.constexpr,
    UPPER: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """(BM, BN) int32 products of windows that begin at `at` with the rows n of w, (.., KERNEL**2 * C)."""
    k = tl.arange(0, BK)
    acc = tl.zeros((BM, BN), tl.int32)
    K: tl.constexpr = KERNEL * KERNEL * C
    rows = w + n[None, :] * K + k[:, None]
    for plane in tl.static_range(2 if UPPER else 1):
        codes = a + UPPER  # the upper plane first
        if plane or not UPPER:
            acc, codes = acc << LOWER_BITS if UPPER else acc, a
        for i in range(K // BK):
            tap, c = i * BK // C, i * BK % C
            # else bytes are loaded one by one: the compiler does not see it through the divisions
            begin = tl.multiple_of(tap // KERNEL * ROW + tap % KERNEL * C + c, 16)
            x = tl.load(codes + at[:, None] + begin + k[None, :], mask=(p < P)[:, None], other=0)
            acc = tl.dot(x, tl.load(rows + i * BK), acc, out_dtype=tl.int32)
    return acc


@triton.jit
def _half_even(x, SHIFT: tl.constexpr):
    if SHIFT > 0:  # on a device what stands behind a return is compiled all the same
        x = (x + ((1 << (SHIFT - 1)) - 1) + ((x >> SHIFT) & 1)) >> SHIFT
    return x


@triton.jit
def _round_shift(x, s):
    """x / 2**s of integers, halves to even, for any 0 <= s: `wage_neuro.normal.round_shift`."""
    one = (s > 0).to(x.dtype)
    s = s.to(x.dtype)
    return (x + (((one * 0 + 1) << s >> 1) - one) + ((x >> s) & one)) >> s


@triton.jit
def _floor_div(x, y):
    """x / y of integers, y > 0, rounded down."""
    return tl.where(x >= 0, x // y, -((y - 1 - x) // y))


@triton.jit
def _divide(x, y):
    """x / y of integers, y > 0, rounded, halves up: `wage_neuro.normal.divide`."""
    return _floor_div(2 * x + y, 2 * y)


@triton.jit
def forward(
    a, w, out, gate, norm, u, P,
    KERNEL: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, ROW: tl.constexpr, IMAGE: tl.constexpr,
    C: tl.constexpr, N: tl.constexpr, POOL: tl.constexpr, LAST: tl.constexpr, SHIFT: tl.constexpr,
    TOP: tl.constexpr, OUT_ROW: tl.constexpr, OUT_IMAGE: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """Product, pooling, ReLU and Q_A. `out` points at the first code inside the next layer's border.

    norm : (3, N) int64 statistics of a normalised layer, or None
    u : gets its codes before ReLU, if they are kept
    """
    p = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    at = _corner(p, HEIGHT, WIDTH, ROW, C, IMAGE, POOL)
    z = _sums(a, w, at, p, n, P, KERNEL, ROW, C, 0, BM, BN, BK)
    if LAST:
        tl.store(out + p[:, None] * N + n[None, :], z, mask=(p < P)[:, None])
    else:
        winner = 0
        if POOL == 2:
            # sum and place make one integer; of equal sums the first place has the largest
            place = 3 - tl.arange(0, 4)
            best = tl.max(tl.reshape(z, (BM // 4, 4, BN)) * 4 + place[None, :, None], axis=1)
            winner, z = 3 - (best & 3), best >> 2
            p = tl.program_id(0) * (BM // 4) + tl.arange(0, BM // 4)
        if norm is None:
            code = _half_even(z, SHIFT)
            state = (z > 0).to(tl.int32) + (z > (TOP << SHIFT)).to(tl.int32)
        else:
            centre = _round_shift(tl.load(norm + n + CENTRE * N), tl.full((BN,), FRACTION, tl.int64))
            z -= centre.to(tl.int32)[None, :]
            scale = tl.load(norm + n + SCALE * N).to(tl.int32)[None, :]
            code = tl.maximum(_round_shift(z, scale), -TOP)
            state = (z > 0).to(tl.int32) + (((z - 1) >> scale) >= TOP).to(tl.int32)
        to = _corner(p, HEIGHT // POOL, WIDTH // POOL, OUT_ROW, N, OUT_IMAGE, 1)
        inside = (p < P // (POOL * POOL))[:, None]
        code = tl.minimum(code, TOP)
        if u is not None:
            tl.store(u + p[:, None] * N + n[None, :], code.to(tl.int8), mask=inside)
        tl.store(out + to[:, None] + n[None, :], tl.maximum(code, 0).to(tl.int8), mask=inside)
        tl.store(gate + p[:, None] * N + n[None, :], (state + winner * 4).to(tl.uint8), mask=inside)


@triton.jit
def send_back(
    e, w, gate, D, peak, P,
    KERNEL: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, ROW: tl.constexpr, IMAGE: tl.constexpr,
    C: tl.constexpr, N: tl.constexpr, NORMALISED: tl.constexpr, UPPER: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """D of the layer below, 0 where its activation saturated, and the peak that is left.

    Where that layer is NORMALISED, D is 0 where it was silent too: `project` wants both masks.
    """
    p = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    at = _corner(p, HEIGHT, WIDTH, ROW, C, IMAGE, 1)
    d = _sums(e, w, at, p, n, P, KERNEL, ROW, C, UPPER, BM, BN, BK)
    place, inside = p[:, None] * N + n[None, :], (p < P)[:, None]
    state = tl.load(gate + place, mask=inside, other=2) & 3
    d = tl.where(state == 2, 0, d)
    if NORMALISED:
        d = tl.where(state == 0, 0, d)
    tl.store(D + place, d, mask=inside)
    tl.atomic_max(peak, tl.max(tl.max(tl.abs(d), axis=1), axis=0))


@triton.jit
def _probabilities(z, inside, coarse, fine, LOG2_ONE: tl.constexpr):
    """`wage_neuro.softmax.probabilities` of the rows of z, (BM, BC) int64, and its tables."""
    top = tl.max(tl.where(inside, z, -(1 << 62)), axis=1)[:, None]
    distance = tl.minimum(top - z, RANGE << LOG2_ONE)
    DROP: tl.constexpr = LOG2_ONE - LOGIT_BITS
    x = ((distance >> (DROP - 1)) + 1) >> 1 if DROP > 0 else distance << -DROP
    x = tl.where(inside, tl.minimum(x, MOST_X), 0)
    e = (tl.load(coarse + (x >> FINE_BITS)) * tl.load(fine + (x & FINE_MASK))) >> EXP_BITS
    e = tl.where(inside, e, 0)
    total = tl.sum(e, axis=1)[:, None]
    return ((e << (PROBABILITY_BITS + 1)) + total) // (2 * total)


@triton.jit
def output_error(
    Z, labels, step, coarse, fine, D, peak, ROWS, CLASSES: tl.constexpr, N: tl.constexpr,
    LOSS: tl.constexpr, ONE: tl.constexpr, LOG2_ONE: tl.constexpr,
    MARGIN: tl.constexpr, UNITS: tl.constexpr,
    NEW_SHIFT: tl.constexpr, NEW: tl.constexpr, PERIOD: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Error at the output of a network that recalls nothing, and its peak; see `wage_neuro.loss`.

    Z, D : (ROWS, N) int32, of which CLASSES columns count
    ONE : the target, of softmax a probability of 1; MARGIN : in units of 1 / UNITS of the target
    """
    row = tl.program_id(0) * BM + tl.arange(0, BM)
    c = tl.arange(0, BC)[None, :]
    there, inside = (row < ROWS)[:, None], (row < ROWS)[:, None] & (c < CLASSES)
    at = row[:, None] * N + c
    z = tl.load(Z + at, mask=inside, other=0).to(tl.int64)
    right = tl.load(labels + row, mask=row < ROWS, other=0)[:, None] == c
    d = _probabilities(z, inside | ~there, coarse, fine, LOG2_ONE) if LOSS == "softmax" else z
    d -= tl.where(right, ONE, 0)
    if LOSS == "one-sided":
        d = tl.where(right, tl.minimum(d, 0), tl.maximum(d, 0))
    if MARGIN:
        lead = tl.sum(tl.where(right, z, 0), axis=1)
        if CLASSES > 1:
            lead -= tl.max(tl.where(inside & ~right, z, -(1 << 62)), axis=1)
        d = tl.where((lead * UNITS >= MARGIN)[:, None], 0, d)
    if NEW_SHIFT:
        number = tl.load(step) * ROWS + row
        calm = tl.where(d < 0, -(-d >> NEW_SHIFT), d >> NEW_SHIFT)
        d = tl.where((number % PERIOD < NEW)[:, None], calm, d)
    d = tl.where(inside, d, 0).to(tl.int32)
    tl.store(D + at, d, mask=inside)
    tl.atomic_max(peak, tl.max(tl.max(tl.abs(d), axis=1), axis=0))


SQRT_HALF = tl.constexpr(0xB504F333F9DE6484)
"""The root of 1/2, as 64 bits behind the point: no integer meets it."""


@triton.jit
def _log2_round(x):
    """round(log2 x) of an integer x, 1 <= x < 2**53, exactly; see `wage_neuro.fixed_point.log2_round`."""
    floor = (x.to(tl.float64).to(tl.int64, bitcast=True) >> 52) - 1023
    past_half = x.to(tl.uint64) << (63 - floor).to(tl.uint64) > SQRT_HALF
    return floor + past_half.to(tl.int64)


@triton.jit
def exponent(peak, held, shift, SUBTRACT, SAMPLES, HOLD, IS_HELD: tl.constexpr, OF_ALL: tl.constexpr):
    """From the peak of a batch: shift = (shift of the quantization, 1 or 0 where none is known yet,
    1 or 0 where the batch has no peak).

    held = (exponent or -1, samples below it) of a peak-hold exponent, which then learns from the peak.
    Unless it is OF_ALL batches, a shift is known of those alone that have a peak.
    """
    highest = tl.load(peak)
    tl.store(peak, 0)
    now = tl.where(highest > 0, _log2_round(tl.maximum(highest, 1)), -1)
    used = now
    if IS_HELD:
        used = tl.load(held)
        waited = tl.load(held + 1) + SAMPLES
        rises, falls = now >= used, waited >= HOLD
        after = tl.where(rises, now, used - falls.to(tl.int64))
        below = tl.where(rises | falls, 0, waited)
        if highest > 0:
            tl.store(held, after)
            tl.store(held + 1, below)
    tl.store(shift, (used - SUBTRACT).to(tl.int32))
    tl.store(shift + 1, ((used >= 0) & (OF_ALL | (highest > 0))).to(tl.int32))
    tl.store(shift + 2, (highest > 0).to(tl.int32))


@triton.jit
def channel_sums(
    D, u, sums, WINDOWS, N: tl.constexpr, STEPS: tl.constexpr, BW: tl.constexpr, BN: tl.constexpr
):  # fmt: skip
    """Add over the windows, for each of N channels: sums, (5, N) int64, get the rows SUM_D .. SUM_SIZE."""
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    sum_d, sum_du = tl.zeros((BW, BN), tl.int64), tl.zeros((BW, BN), tl.int64)
    sum_uu, sum_u = tl.zeros((BW, BN), tl.int32), tl.zeros((BW, BN), tl.int32)
    sum_size = tl.zeros((BW, BN), tl.int32)
    for i in range(STEPS):
        w = (tl.program_id(0) * STEPS + i) * BW + tl.arange(0, BW)
        at, inside = w[:, None] * N + n[None, :], (w < WINDOWS)[:, None]
        d = tl.load(D + at, mask=inside, other=0).to(tl.int64)
        code = tl.load(u + at, mask=inside, other=0).to(tl.int32)
        sum_d, sum_du = sum_d + d, sum_du + d * code
        sum_uu, sum_u, sum_size = sum_uu + code * code, sum_u + code, sum_size + tl.abs(code)
    tl.atomic_add(sums + n + SUM_D * N, tl.sum(sum_d, axis=0), sem="relaxed")
    tl.atomic_add(sums + n + SUM_DU * N, tl.sum(sum_du, axis=0), sem="relaxed")
    tl.atomic_add(sums + n + SUM_UU * N, tl.sum(sum_uu, axis=0).to(tl.int64), sem="relaxed")
    tl.atomic_add(sums + n + SUM_U * N, tl.sum(sum_u, axis=0).to(tl.int64), sem="relaxed")
    tl.atomic_add(sums + n + SUM_SIZE * N, tl.sum(sum_size, axis=0).to(tl.int64), sem="relaxed")


@triton.jit
def plan_projection(sums, norm, peak, plan, WINDOWS, N: tl.constexpr, BLOCK: tl.constexpr):
    """What each channel's projection is made with: plan, (4, N) int64, gets the rows MEAN, SLOPE, BY, TOP_D.

    peak : of the D that was let through; a new one is started. One program; BLOCK >= N
    """
    n = tl.arange(0, BLOCK)
    inside = n < N
    scale = tl.load(norm + n + SCALE * N, mask=inside, other=63)
    mean = _divide(tl.load(sums + n + SUM_D * N, mask=inside, other=0) << FRACTION, WINDOWS)
    square = tl.maximum(tl.load(sums + n + SUM_UU * N, mask=inside, other=1), 1)
    slope = _divide(tl.load(sums + n + SUM_DU * N, mask=inside, other=0) << FRACTION, square)
    tl.store(plan + n + MEAN * N, mean, mask=inside)
    tl.store(plan + n + SLOPE * N, slope, mask=inside)
    tl.store(plan + n + BY * N, scale - tl.min(scale, axis=0) + FRACTION, mask=inside)
    top = tl.load(peak)
    tl.store(plan + n + TOP_D * N, top.to(tl.int64) + n * 0, mask=inside)
    tl.debug_barrier()  # all have read it
    tl.store(peak, 0)


@triton.jit
def project(D, u, plan, peak, WINDOWS, N: tl.constexpr, BW: tl.constexpr, BN: tl.constexpr):
    """`wage_neuro.normal.project` of D in place, whose masks are applied, and the peak that is left."""
    w = tl.program_id(0) * BW + tl.arange(0, BW)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    at, inside = w[:, None] * N + n[None, :], (w < WINDOWS)[:, None]
    d = tl.load(D + at, mask=inside, other=0).to(tl.int64)
    code = tl.load(u + at, mask=inside, other=0).to(tl.int64)
    mean, slope = tl.load(plan + n + MEAN * N), tl.load(plan + n + SLOPE * N)
    by, top = tl.load(plan + n + BY * N), tl.load(plan + n + TOP_D * N)[None, :]
    left = _round_shift((d << FRACTION) - mean[None, :] - slope[None, :] * code, by[None, :])
    left = tl.minimum(tl.maximum(left, -top), top).to(tl.int32)
    tl.store(D + at, left, mask=inside)
    left = tl.where(inside, left, 0)
    tl.atomic_max(peak, tl.max(tl.max(tl.abs(left), axis=1), axis=0))


@triton.jit
def follow(
    norm, sums, shift, WINDOWS, CENTRE_MAX, SCALE_MAX, UNIT,
    N: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """`wage_neuro.normal.follow` from the sums of a batch, if its gradient has an exponent and a peak."""
    n = tl.program_id(0) * BN + tl.arange(0, BN)
    moves = (tl.load(shift + 1) & tl.load(shift + 2)) != 0
    centre, spread = tl.load(norm + n + CENTRE * N), tl.load(norm + n + SPREAD * N)
    scale = tl.load(norm + n + SCALE * N)
    mean = _divide(tl.load(sums + n + SUM_U * N) << FRACTION, WINDOWS)
    size = _divide(tl.load(sums + n + SUM_SIZE * N) << FRACTION, WINDOWS)
    follow_by = tl.full((BN,), FOLLOW, tl.int64)
    after = centre + _round_shift(mean << scale, follow_by)
    after = tl.minimum(tl.maximum(after, -CENTRE_MAX), CENTRE_MAX)
    wide = spread + _round_shift(size - spread, follow_by)
    up = (16 * wide > 27 * UNIT) & (scale < SCALE_MAX)
    down = (32 * wide < 19 * UNIT) & (scale > 0)
    half = _round_shift(wide, tl.full((BN,), 1, tl.int64))
    wide = tl.where(up, half, tl.where(down, 2 * wide, wide))
    tl.store(norm + n + CENTRE * N, tl.where(moves, after, centre))
    tl.store(norm + n + SPREAD * N, tl.where(moves, wide, spread))
    tl.store(norm + n + SCALE * N, tl.where(moves, scale + up.to(tl.int64) - down.to(tl.int64), scale))


@triton.jit
def _scaled(x, s, TOP: tl.constexpr):
    """x / 2**s of integers x and any s, half to even, cut to TOP, as int32."""
    right, left = tl.minimum(tl.maximum(s, 0), 31), tl.minimum(tl.maximum(-s, 0), 16)
    half = (1 << tl.maximum(right - 1, 0)) - 1
    rounded = (x.to(tl.int64) + half + ((x >> right) & 1)) >> right
    scaled = tl.where(s > 0, rounded, tl.minimum(tl.maximum(x, -TOP), TOP).to(tl.int64) << left)
    return tl.minimum(tl.maximum(scaled, -TOP), TOP).to(tl.int32)


@triton.jit
def error_codes(
    D, gate, shift, e, e_t, WINDOWS,
    HEIGHT: tl.constexpr, WIDTH: tl.constexpr, ROW: tl.constexpr, IMAGE: tl.constexpr, N: tl.constexpr,
    P_ROW: tl.constexpr, POOL: tl.constexpr, SENDS: tl.constexpr, MASKED: tl.constexpr, TOP: tl.constexpr,
    UPPER: tl.constexpr, BW: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Q_E and ReLU's mask, spread over each window: by place in a bordered image, and by (n, position).

    MASKED : the error of a normalised layer, which has been through the mask and errs at any place
    """
    window = tl.program_id(0) * BW + tl.arange(0, BW)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    place, inside = window[:, None] * N + n[None, :], (window < WINDOWS)[:, None]
    d = tl.load(D + place, mask=inside, other=0)
    seen = tl.load(gate + place, mask=inside, other=0)
    s, known = tl.load(shift), tl.load(shift + 1)
    code = tl.where(known != 0, _scaled(d, s, TOP), 0)
    if not MASKED:
        code = tl.where((seen & 3) != 0, code, 0)
    if POOL == 2:
        of = (seen >> 2).to(tl.int32)[:, None, :] == tl.arange(0, 4)[None, :, None]
        spread = tl.reshape(tl.where(of, code[:, None, :], 0), (BW * 4, BN))
        p = tl.program_id(0) * (BW * 4) + tl.arange(0, BW * 4)
    else:
        spread = code
        p = window
    there = (p < WINDOWS * POOL * POOL)[:, None]
    to = _corner(p, HEIGHT, WIDTH, ROW, N, IMAGE, POOL)[:, None] + n[None, :]
    to_t = n[:, None].to(tl.int64) * P_ROW + p[None, :]
    for plane in tl.static_range(2 if UPPER else 1):
        part = spread
        if UPPER:
            part = spread >> LOWER_BITS if plane else spread & LOWER_MASK
        part = part.to(tl.int8)
        if SENDS:
            tl.store(e + plane * UPPER + to, part, mask=there)
        tl.store(e_t + plane * N * P_ROW + to_t, tl.trans(part), mask=tl.trans(there))


@triton.jit
def turn(
    a, a_t, P,
    KERNEL: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, ROW: tl.constexpr, IMAGE: tl.constexpr,
    C: tl.constexpr, POOL: tl.constexpr, P_ROW: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """a_t[tap * C + c, position] = what the weight of that tap and channel meets at that position."""
    p = tl.program_id(0) * BM + tl.arange(0, BM)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    tap = tl.program_id(2)
    at = _corner(p, HEIGHT, WIDTH, ROW, C, IMAGE, POOL) + tap // KERNEL * ROW + tap % KERNEL * C
    x = tl.load(a + at[:, None] + c[None, :], mask=(p < P)[:, None], other=0)
    to = (tap * C + c).to(tl.int64) * P_ROW
    tl.store(a_t + to[:, None] + p[None, :], tl.trans(x), mask=(p < P)[None, :])


@triton.jit
def gradient(
    a_t, e_t, G, M: tl.constexpr, N: tl.constexpr,
    P_ROW: tl.constexpr, PARTS: tl.constexpr, UPPER: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """G += a_t @ e_t.T, (M, N) int32, a share of the positions, and a plane of the errors, a program."""
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    part = tl.program_id(2)
    if UPPER:
        e_t += part // PARTS * UPPER
        G += part // PARTS * (M * N)
        part %= PARTS
    k = part * (P_ROW // PARTS) + tl.arange(0, BK)
    rows = a_t + m[:, None].to(tl.int64) * P_ROW + k[None, :]
    columns = e_t + n[None, :].to(tl.int64) * P_ROW + k[:, None]
    acc = tl.zeros((BM, BN), tl.int32)
    for i in range(P_ROW // PARTS // BK):
        x = tl.load(rows + i * BK, mask=(m < M)[:, None], other=0)
        y = tl.load(columns + i * BK, mask=(n < N)[None, :], other=0)
        acc = tl.dot(x, y, acc, out_dtype=tl.int32)
    to, inside = G + m[:, None] * N + n[None, :], (m < M)[:, None] & (n < N)[None, :]
    if PARTS == 1:
        tl.store(to, acc, mask=inside)
    else:
        tl.atomic_add(to, acc, mask=inside, sem="relaxed")


@triton.jit
def peak_of(x, peak, COUNT, UPPER: tl.constexpr, BLOCK: tl.constexpr):
    """peak = max(peak, abs(x)) over COUNT numbers."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.atomic_max(peak, tl.max(tl.abs(_whole(x + i, i < COUNT, UPPER)), axis=0))


@triton.jit
def _whole(x, inside, UPPER: tl.constexpr):
    """Numbers of one plane, int32, or of two, int64."""
    found = tl.load(x, mask=inside, other=0)
    if UPPER:
        upper = tl.load(x + UPPER, mask=inside, other=0).to(tl.int64)
        return found + (upper << LOWER_BITS)
    else:  # noqa: RET505 - on a device what stands behind a return is compiled all the same
        return found


@triton.jit
def _philox(c0, c1, c2, k0, k1):
    """Four 64-bit words of each block with counter (c0, c1, c2, 0), Philox4x64-10."""
    c3 = tl.zeros_like(c0)
    for _ in tl.static_range(10):
        low0, low2 = c0 * 0xD2E7470EE14C6C93, c2 * 0xCA5A826395121157
        high0 = tl.umulhi(c0, tl.full(c0.shape, 0xD2E7470EE14C6C93, tl.uint64))
        high2 = tl.umulhi(c2, tl.full(c2.shape, 0xCA5A826395121157, tl.uint64))
        c0, c1, c2, c3 = high2 ^ c1 ^ k0, low2, high0 ^ c3 ^ k1, low0
        k0 += 0x9E3779B97F4A7C15
        k1 += 0xBB67AE8584CAA73B
    return c0, c1, c2, c3


@triton.jit
def update(
    S, V, M, G, shift, seed, step, LAYER, COUNT, M_SHIFT,
    N_OUT: tl.constexpr, G_ROW: tl.constexpr, UPPER: tl.constexpr, PURPOSE: tl.constexpr, BOUND: tl.constexpr,
    STEP_MAX: tl.constexpr, V_SHIFT: tl.constexpr, V_MAX: tl.constexpr,
    DECAY: tl.constexpr, M_MAX: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    """Q_G, the clipped step and Q_W of COUNT weights, 16 to a block of random bits.

    S, V : stored and visible weights, (COUNT,); G : (.., G_ROW) gradient whose first N_OUT columns count
    M : momentum, which loses 2**-DECAY of itself and takes the gradient; weights then move by it, shifted by
    M_SHIFT. DECAY 0 has none, and reads no M.
    """
    s, known = tl.load(shift), tl.load(shift + 1)
    block = tl.program_id(0) * BLOCKS + tl.arange(0, BLOCKS)
    first = tl.full((BLOCKS,), 0, tl.uint64)
    c0, c1, c2, c3 = _philox(
        first + block.to(tl.uint64) + 1,  # numpy's generator counts up before it draws
        first + tl.load(step).to(tl.uint64),
        first + LAYER,
        tl.load(seed).to(tl.uint64),
        first + PURPOSE,
    )
    lane = tl.arange(0, 16)[None, :]
    word = tl.where(
        lane < 8,
        tl.where(lane < 4, c0[:, None], c1[:, None]),
        tl.where(lane < 12, c2[:, None], c3[:, None]),
    )
    r = ((word >> (lane % 4 * 16).to(tl.uint64)) & 0xFFFF).to(tl.int64)
    i = block[:, None] * 16 + lane
    inside = (i < COUNT) & (known != 0)
    g = _whole(G + i // N_OUT * G_ROW + i % N_OUT, inside, UPPER)
    stored = tl.load(S + i, mask=inside, other=0).to(tl.int32)
    if DECAY:
        kept = tl.load(M + i, mask=inside, other=0).to(tl.int32)
        g = kept - _half_even(kept, DECAY) + _scaled(g, s, M_MAX)
        g = tl.minimum(tl.maximum(g, -M_MAX), M_MAX)
        tl.store(M + i, g.to(tl.int16), mask=inside)
        s = M_SHIFT
    size = tl.abs(g.to(tl.int64))
    right, left = tl.minimum(tl.maximum(s, 0), 63), tl.minimum(tl.maximum(-s, 0), 31)
    q = tl.minimum(tl.where(s > 0, size >> right, size << left), STEP_MAX << 16)
    dS = ((q + r) >> 16).to(tl.int32)
    stored = tl.minimum(tl.maximum(tl.where(g < 0, stored + dS, stored - dS), -BOUND), BOUND)
    visible = tl.minimum(tl.maximum(_half_even(stored, V_SHIFT), -V_MAX), V_MAX)
    tl.store(S + i, stored.to(S.dtype.element_ty), mask=inside)
    tl.store(V + i, visible.to(tl.int8), mask=inside)


@triton.jit
def lay_out(
    V, W, W_back, FAN_IN, N_OUT: tl.constexpr, KERNEL: tl.constexpr, C: tl.constexpr, N: tl.constexpr,
    BK: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Weights (FAN_IN, N_OUT) as products read them: W, (N, K), is their transpose; W_back, (C, taps * N),
    has the taps turned. Either may be None.
    """
    k = tl.program_id(0) * BK + tl.arange(0, BK)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    inside = (k < FAN_IN)[:, None] & (n < N_OUT)[None, :]
    v = tl.load(V + k[:, None] * N_OUT + n[None, :], mask=inside, other=0)
    if W is not None:
        K: tl.constexpr = KERNEL * KERNEL * C
        tl.store(W + n[:, None] * K + k[None, :], tl.trans(v), mask=tl.trans(inside))
    if W_back is not None:
        TAPS: tl.constexpr = KERNEL * KERNEL
        to = (k % C * TAPS + TAPS - 1 - k // C) * N
        tl.store(W_back + to[:, None] + n[None, :], v, mask=inside)


@triton.jit
def first_rows(
    images, codes, rows, P,
    KERNEL: tl.constexpr, STRIDE: tl.constexpr, TOP: tl.constexpr, LEFT: tl.constexpr,
    IN_HEIGHT: tl.constexpr, IN_WIDTH: tl.constexpr, CHANNELS: tl.constexpr,
    HEIGHT: tl.constexpr, WIDTH: tl.constexpr, K: tl.constexpr, K_ROW: tl.constexpr,
    BM: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """Input codes of the window at each position, (P, K_ROW), zeros behind its K values: the first layer."""
    p = tl.program_id(0) * BM + tl.arange(0, BM)[:, None]
    k = tl.program_id(1) * BK + tl.arange(0, BK)[None, :]
    x = p % WIDTH * STRIDE + k // CHANNELS % KERNEL - LEFT
    y = p // WIDTH % HEIGHT * STRIDE + k // (CHANNELS * KERNEL) - TOP
    image = p // (WIDTH * HEIGHT)
    seen = (p < P) & (k < K) & (x >= 0) & (x < IN_WIDTH) & (y >= 0) & (y < IN_HEIGHT)
    at = ((image * IN_HEIGHT + y) * IN_WIDTH + x) * CHANNELS + k % CHANNELS
    grey = tl.load(images + at, mask=seen, other=0).to(tl.int32)
    code = tl.where(seen, tl.load(codes + grey), 0)
    tl.store(rows + p * K_ROW + k, code, mask=(p < P) & (k < K_ROW))
