"""The few hot operations, behind one small interface: products, patches, pooling, the weight update.

Everything here works on integers carried exactly in float32 or float64 (`fixed_point.carrier`), so that
BLAS does the products. Compiled integer kernels can take this module's place: nothing above it
knows how a product is made. All sums are of integers, so neither the cut into parts nor the number of
threads can change a bit.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from wage_neuro.errors import SettingError

try:  # With it, each of our threads gets a single-threaded BLAS; without it the results are the same.
    from threadpoolctl import ThreadpoolController
except ImportError:
    ThreadpoolController = None

THREADS_VARIABLE, THREADS_MAX = "WAGE_NEURO_THREADS", 1024
SMALL_WORK = 1 << 19  # values; fewer are done before a second thread has woken up
UPDATE_PART = 1 << 18  # weights a part of an update; smaller parts make the threads wait for each other


# --- threads -----------------------------------------------------------------------------------------


class _Workers:
    """The thread pool of this operating-system process, made at first use (threads do not survive a fork)."""

    def __init__(self) -> None:
        self.pid = 0
        self.count: int | None = None
        self.pool: ThreadPoolExecutor | None = None
        self.blas: ThreadpoolController | None = None

    def ready(self) -> ThreadPoolExecutor:
        if self.pid != os.getpid() or self.pool is None:
            self.pid = os.getpid()
            self.pool = ThreadPoolExecutor(thread_count(), thread_name_prefix="wage-kernels")
            self.blas = ThreadpoolController() if ThreadpoolController else None
        return self.pool

    def single_threaded_blas(self) -> AbstractContextManager[object]:
        return self.blas.limit(limits=1, user_api="blas") if self.blas else nullcontext()


_WORKERS = _Workers()
_LOCAL = threading.local()


def thread_count() -> int:
    """Threads of the kernels in this process: as set, or named by `WAGE_NEURO_THREADS`, or a core each.

    Raises
    ------
    SettingError
        If the variable is no whole number in 1..1024.
    """
    if _WORKERS.count is None:
        named = os.environ.get(THREADS_VARIABLE)
        if named:
            set_threads(int(named) if named.isdecimal() else named, THREADS_VARIABLE)
        else:
            set_threads(
                len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            )
    assert _WORKERS.count
    return _WORKERS.count


def set_threads(count: object, name: str = "threads") -> None:
    """Let the kernels of this process use `count` threads; the bits do not depend on it.

    Raises
    ------
    SettingError
        If it is no whole number in 1..1024.
    """
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= THREADS_MAX:
        raise SettingError(f"{name}={count}: want a whole number in 1..{THREADS_MAX}")
    if _WORKERS.pool is not None and _WORKERS.pid == os.getpid():
        _WORKERS.pool.shutdown()
    _WORKERS.pool, _WORKERS.count = None, count


def each_part(work: Callable[[slice], object], n: int, size: int) -> None:
    """Call work(slice) for consecutive parts of at most `size` out of n, on all threads and this one."""
    slices = [slice(i, min(i + size, n)) for i in range(0, n, size)]
    threads = min(thread_count(), len(slices))
    parts = iter(slices)

    def drain() -> None:
        for part in parts:  # the next part goes to whichever thread is free
            work(part)

    if threads == 1:
        drain()
        return
    pool = _WORKERS.ready()
    with _WORKERS.single_threaded_blas():
        helpers = [pool.submit(drain) for _ in range(threads - 1)]
        try:
            drain()
        finally:
            for helper in helpers:
                helper.result()


def share(n: int, work: int = SMALL_WORK) -> int:
    """Part size that gives each thread one part of n; all of n when the work is not worth a second thread."""
    return max(1, n if work < SMALL_WORK else -(-n // thread_count()))


def scratch(name: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Return this thread's reusable array of that name; its content is undefined."""
    key = (name, dtype)
    held: dict[tuple[str, type], np.ndarray] = _LOCAL.__dict__.setdefault("held", {})
    size = int(np.prod(shape))
    if key not in held or held[key].size < size:
        held[key] = np.empty(size, dtype)
    return held[key][:size].reshape(shape)


# --- products ----------------------------------------------------------------------------------------


def product(a: np.ndarray, b: np.ndarray, name: str) -> np.ndarray:
    """Matrix product of two carriers of one type, into this thread's scratch array `name`."""
    return np.matmul(a, b, out=scratch(name, (a.shape[0], b.shape[1]), b.dtype.type))


def as_carrier(codes: np.ndarray, dtype: type, name: str) -> np.ndarray:
    """Copy integer codes into this thread's scratch array of a float type."""
    out = scratch(name, codes.shape, dtype)
    out[...] = codes
    return out


def gradient_product(a: np.ndarray, e: np.ndarray, rows: int) -> np.ndarray:
    """a.T @ e summed exactly: at most `rows` rows a product, products added in float64."""
    if len(a) == 1:
        return a.T * e
    if len(a) <= rows:
        return a.T @ e
    total = np.zeros((a.shape[1], e.shape[1]), np.float64)
    for i in range(0, len(a), rows):
        total += a[i : i + rows].T @ e[i : i + rows]
    return total


# --- convolution as products of patches --------------------------------------------------------------


def pad_images(a: np.ndarray, padding: tuple[int, ...], dtype: type, name: str) -> np.ndarray:
    """Copy (n, h, w, c) images into a zero-bordered carrier; padding = top, bottom, left, right."""
    n, h, w, c = a.shape
    top, bottom, left, right = padding
    out = scratch(name, (n, h + top + bottom, w + left + right, c), dtype)
    if any(padding):
        out[:, :top] = 0
        out[:, top + h :] = 0
        out[:, :, :left] = 0
        out[:, :, left + w :] = 0
    out[:, top : top + h, left : left + w] = a
    return out


def patches(padded: np.ndarray, kernel: int, stride: int, out_hw: tuple[int, ...], name: str) -> np.ndarray:
    """Unroll (n, h, w, c) images into (n * h_out * w_out, kernel * kernel * c) rows."""
    n, _, _, c = padded.shape
    h, w = out_hw
    s0, s1, s2, s3 = padded.strides
    shape = (n, h, w, kernel, kernel, c)
    windows = np.lib.stride_tricks.as_strided(
        padded, shape, (s0, s1 * stride, s2 * stride, s1, s2, s3), writeable=False
    )
    out = scratch(name, shape, padded.dtype.type)
    out[...] = windows
    return out.reshape(n * h * w, kernel * kernel * c)


def fold_patches(
    rows: np.ndarray,
    image_shape: tuple[int, ...],
    padding: tuple[int, ...],
    window: tuple[int, int],
    out_hw: tuple[int, ...],
) -> np.ndarray:
    """Sum patch rows back onto the (n, h, w, c) images they were taken from: the transpose of `patches`.

    window : side of the kernel, and stride
    """
    (kernel, stride), (n, h, w, c) = window, image_shape
    top, bottom, left, right = padding
    ho, wo = out_hw
    cells = rows.reshape(n, ho, wo, kernel, kernel, c)
    out = scratch("fold", (n, h + top + bottom, w + left + right, c), rows.dtype.type)
    out[...] = 0
    for i in range(kernel):
        for j in range(kernel):
            out[:, i : i + stride * ho : stride, j : j + stride * wo : stride] += cells[:, :, :, i, j]
    return out[:, top : top + h, left : left + w]


# --- pooling -----------------------------------------------------------------------------------------


def _pool_views(x: np.ndarray, size: int, stride: int, out_hw: tuple[int, ...]) -> Iterator[np.ndarray]:
    ho, wo = out_hw
    for i in range(size):
        for j in range(size):
            yield x[:, i : i + stride * (ho - 1) + 1 : stride, j : j + stride * (wo - 1) + 1 : stride]


def max_pool(
    z: np.ndarray, size: int, stride: int, out_hw: tuple[int, ...], winner: np.ndarray
) -> np.ndarray:
    """Maximum over size x size windows; `winner` (uint8) gets the row-major place of the first maximum."""
    views = _pool_views(z, size, stride, out_hw)
    first = next(views)
    best = scratch("pool", first.shape, z.dtype.type)
    best[...] = first
    winner[...] = 0
    larger = scratch("larger", best.shape, bool)
    for place, view in enumerate(views, start=1):
        np.greater(view, best, out=larger)
        np.maximum(best, view, out=best)
        # places grow, so the largest place marked so far is the last that beat all before it
        np.maximum(winner, larger * np.uint8(place), out=winner)
    return best


def unpool(
    e: np.ndarray, winner: np.ndarray, window: tuple[int, int], z_shape: tuple[int, ...], dtype: type
) -> np.ndarray:
    """Send each error back to the place that won its window, (size, stride); (n, *z_shape) carrier."""
    size, stride = window
    out = scratch("unpool", (len(e), *z_shape), dtype)
    exact_tiling = size == stride and z_shape[0] == e.shape[1] * size and z_shape[1] == e.shape[2] * size
    if not exact_tiling:
        out[...] = 0
    for place, view in enumerate(_pool_views(out, size, stride, (e.shape[1], e.shape[2]))):
        if exact_tiling:
            np.multiply(e, winner == place, out=view, dtype=dtype)
        else:
            view += e * (winner == place)
    return out


def sum_pool(z: np.ndarray, size: int, out_hw: tuple[int, ...]) -> np.ndarray:
    """Sums of the size x size windows that lie side by side, in scratch memory."""
    views = _pool_views(z, size, size, out_hw)
    first = next(views)
    total = scratch("pool", first.shape, z.dtype.type)
    total[...] = first
    for view in views:
        np.add(total, view, out=total)
    return total


def spread(e: np.ndarray, size: int, z_shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Send each error to every place of its window, (n, *z_shape) in scratch memory."""
    out = scratch("unpool", (len(e), *z_shape), dtype)
    out[...] = 0
    for view in _pool_views(out, size, size, (e.shape[1], e.shape[2])):
        view[...] = e
    return out


# --- rounding and the update -------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _constant(value: float, dtype: np.dtype) -> np.ndarray:
    return np.full(UPDATE_PART, value, dtype)


def saturate(x: np.ndarray, low: int, high: int) -> None:
    """Clip a contiguous carrier in place; against arrays, as numpy is slow against scalars."""
    flat = x.reshape(-1)
    size = min(flat.size, UPDATE_PART)
    lows, highs = _constant(low, x.dtype)[:size], _constant(high, x.dtype)[:size]
    for i in range(0, flat.size, size):
        part = flat[i : i + size]
        np.maximum(part, lows[: part.size], out=part)
        np.minimum(part, highs[: part.size], out=part)


def quantize_into(out: np.ndarray, x: np.ndarray, shift: int, low: int, high: int) -> None:
    """out <- saturate(round_half_even(x / 2**shift), low, high); x, a contiguous carrier, is overwritten."""
    np.multiply(x, 2.0**-shift, out=x)
    np.rint(x, out=x)
    saturate(x, low, high)
    np.copyto(out, x, casting="unsafe")


def ternary_into(out: np.ndarray, S: np.ndarray, half: int) -> None:
    """out <- sign of S where abs(S) > half, 0 elsewhere: round half to even for ternary weights."""
    np.subtract((half < S).view(np.int8), (-half > S).view(np.int8), out=out, casting="unsafe")


class Step(NamedTuple):
    """How `stochastic_update` makes steps of gradients.

    Attributes
    ----------
    shift : a step is G * 2**-(shift + 16)
    bound, step_max : largest magnitude of a stored weight, and of a step
    dtype : float type that holds step_max * 2**16 exactly
    damping : bits by which each quotient, cut to step_max, is shifted right before r is added
    steps : unsigned counts, one higher where dS is not 0; they end at their type's largest
    """

    shift: int
    bound: int
    step_max: int
    dtype: type
    damping: np.ndarray | None = None
    steps: np.ndarray | None = None


def stochastic_update(
    out: np.ndarray,
    S: np.ndarray,
    G: np.ndarray,
    r: np.ndarray,
    step: Step,
) -> None:
    """out <- saturate(S - dS), dS = sgn(G) * ((floor(abs(G) * 2**-shift) + r) >> 16), abs(dS) <= step_max.

    It is worked with the sign on, in units of 2**16: truncation toward zero is floor of the magnitude.
    A larger quotient is cut to step_max first, which leaves dS there
    whatever r is.
    """
    shift, bound, step_max, dtype, damping, steps = step
    t = scratch("quotient", G.shape, dtype)
    if shift > 0:  # bits below 2**-16 are dropped before r is added
        np.multiply(G, 2.0**-shift, out=t, casting="unsafe")
        np.trunc(t, out=t)
        np.multiply(t, 2.0**-16, out=t)
    else:
        np.multiply(G, 2.0 ** (-shift - 16), out=t, casting="unsafe")
    saturate(t, -step_max, step_max)
    if damping is not None:
        np.ldexp(t, 16 - damping, out=t)
        np.trunc(t, out=t)
        np.multiply(t, 2.0**-16, out=t)
    u = scratch("uniform", G.shape, dtype)
    np.multiply(r, 2.0**-16, out=u, dtype=dtype)
    np.add(t, np.copysign(u, t, out=u), out=t)
    dS = scratch("dS", G.shape, np.int16 if bound + step_max < 2**15 else np.int32)
    np.copyto(dS, t, casting="unsafe")
    if steps is not None:
        np.add(steps, (dS != 0) & (steps < np.iinfo(steps.dtype).max), out=steps)
    np.subtract(S, dS, out=dS, casting="unsafe")
    np.clip(dS, -bound, bound, out=dS)
    np.copyto(out, dS, casting="unsafe")
