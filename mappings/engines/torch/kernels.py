"""The accelerator engine's tensor operations: integers carried in float tensors, random bits in int64.

Why a product of floats is exact here, on every device: its terms are integers, and the sum of their
magnitudes stays below 2**24 in float32, 2**53 in float64 (`wage_neuro.layers` proves it from the widths
alone). So every partial sum is an exact float, whatever the order, the blocking or the fusing of the
additions. TF32 shortens factors to 11 bits and adds in float32: it is let in where no factor needs more.
That holds for plain products. Convolutions by Winograd's or Fourier's transform, which cuDNN may choose, sum
other numbers than these; so a convolution is a product of patches, and cuDNN is never asked.

On a processor, factors of 8 bits are multiplied as int8 into int32: exact below 2**31, and several times as
fast as float32.

Source: arXiv:1802.04680, equations 2 to 12; Philox of Salmon et al., SC 2011.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from wage_neuro.errors import EngineError
from wage_neuro.layers import Layer
from wage_neuro.specs import Conv, Dense, assert_never

TYPES = {np.float32: torch.float32, np.float64: torch.float64}
"""Carriers of `wage_neuro.fixed_point`, as tensors have them."""

TF32_EXACT = 2**11
"""Integers up to here are exact in the 11 bits that TF32 keeps of a factor; its sums are float32."""

_M = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_W = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
_M32 = (0xD2511F53, 0xCD9E8D57)
_W32 = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_LOW = 0xFFFFFFFF


# --- products ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def exact_products(device: torch.device, largest: int) -> Iterator[None]:
    """Let PyTorch multiply in TF32 only where factors up to `largest` are exact in it, and in no less."""
    before = torch.get_float32_matmul_precision()
    fast = device.type == "cuda" and largest <= TF32_EXACT
    torch.set_float32_matmul_precision("high" if fast else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def prove_products(device: torch.device, largest: int) -> None:
    """Raise EngineError unless the device's float32 products are exact up to the bound they are used to."""
    size = min(largest, TF32_EXACT)
    depth = min(2**24 // size**2, 2**12)
    a, b = (
        torch.from_numpy(np.random.default_rng(0).integers(-size, size, shape, endpoint=True))
        for shape in ((64, depth), (depth, 32))
    )
    a[0] = b[:, 0] = size  # the largest sum there can be
    with exact_products(device, size):
        product = (a.to(device, torch.float32) @ b.to(device, torch.float32)).cpu()
    if not torch.equal(product.long(), a @ b):
        raise EngineError(f"device {str(device)!r}: its float32 products of small integers are not exact")


def int8_is_exact(device: torch.device) -> bool:
    """Whether int8 products have exact int32 sums: processors without VNNI may saturate pairs at 16 bits."""
    if device.type != "cpu":
        return False
    a = torch.full((64, 512), 127, dtype=torch.int8)
    return all(
        bool((product(x, y).abs() == x.shape[1] * 127**2).all()) for x, y in ((a, a.T), (a, -a.T), (a.T, -a))
    )


class Types(NamedTuple):
    """What a layer's integers are carried in.

    e : errors at places of Z, where several may add up; z, d, g : the factors of products, errors sent back
    and gradients; rows : of one exact gradient product
    """

    e: torch.dtype
    z: torch.dtype
    d: torch.dtype
    g: torch.dtype
    rows: int


def types_of(layer: Layer, in_bytes: bool) -> Types:
    """Bytes throughout, if they are wanted and all factors are int8 and all sums int32; or else floats."""
    bits = layer.bits
    largest = max(bits.weight_max, bits.activation_max, layer.spread_error_max)
    if in_bytes and largest <= 127 and max(layer.z_bound, layer.d_bound) < 2**31:
        rows = (2**31 - 1) // (bits.activation_max * layer.spread_error_max)
        return Types(torch.int8, torch.int8, torch.int8, torch.int8, rows)
    rows, g = layer.gradient_rows
    return Types(torch.float32, TYPES[layer.z_dtype], TYPES[layer.d_dtype], TYPES[g], rows)


def product(a: Tensor, b: Tensor) -> Tensor:
    """Matrix product of floats, or of int8 into int32."""
    if a.dtype != torch.int8:
        return a @ b
    if 1 in (*a.shape, *b.shape):  # PyTorch misreads the stride of such an axis
        return a.int() @ b.int()
    return torch._int_mm(a, b)


def gradient_product(a: Tensor, e: Tensor, rows: int) -> Tensor:
    """a.T @ e summed exactly: at most `rows` rows a product, products added in float64."""
    if a.dtype == torch.int8:
        sums = [product(a[i : i + rows].T, e[i : i + rows]) for i in range(0, len(a), rows)]
        return sums[0] if len(sums) == 1 else torch.stack(sums).sum(0, dtype=torch.float64)
    if len(a) <= rows:
        return a.T @ e
    whole = len(a) // rows * rows
    parts = a[:whole].view(-1, rows, a.shape[1]).transpose(1, 2) @ e[:whole].view(-1, rows, e.shape[1])
    total = parts.sum(0, dtype=torch.float64)
    return total + a[whole:].T @ e[whole:] if whole < len(a) else total


# --- convolution as products of patches --------------------------------------------------------------


def rows_of(layer: Layer, a: Tensor) -> Tensor:
    """What meets the weights, (n * positions, fan_in): the codes, or patches of them."""
    match layer.spec:
        case Dense():
            return a
        case Conv(kernel=kernel, stride=stride):
            return _windows(a, layer.padding, kernel, stride)
        case _:
            assert_never(layer.spec)


def _windows(a: Tensor, padding: tuple[int, int, int, int], kernel: int, stride: int) -> Tensor:
    top, bottom, left, right = padding
    padded = functional.pad(a, (0, 0, left, right, top, bottom))
    windows = padded.unfold(1, kernel, stride).unfold(2, kernel, stride)
    return windows.permute(0, 1, 2, 4, 5, 3).reshape(-1, kernel * kernel * a.shape[-1])


def send_back(layer: Layer, E_z: Tensor, W_back: Tensor) -> Tensor:
    """Errors (n, *z_shape) through the (fan_in, n_out) weights they came up by: (n, *in_shape) sums."""
    if layer.positions == 1 and len(layer.in_shape) == 1:
        return product(E_z, W_back.T)
    assert layer.window
    kernel, stride = layer.window
    if E_z.dtype == torch.int8 and stride == 1:
        # a convolution of the errors with turned kernels: its patches are bytes, those of the sums are not
        n_out = layer.weight_shape[-1]
        top, bottom, left, right = (kernel - 1 - pad for pad in layer.padding)
        turned = (
            W_back.view(kernel * kernel, -1, n_out).flip(0).transpose(1, 2).reshape(-1, layer.in_shape[2])
        )
        rows = _windows(E_z, (top, bottom, left, right), kernel, 1)
        return product(rows, turned).view(-1, *layer.in_shape)
    return fold_patches(layer, product(E_z.view(-1, layer.weight_shape[-1]), W_back.T))


def fold_patches(layer: Layer, rows: Tensor) -> Tensor:
    """Sum patch rows back onto the (n, *in_shape) images they were taken from: the transpose of `rows_of`."""
    assert layer.window
    kernel, stride = layer.window
    (h, w, c), (ho, wo, _) = layer.in_shape, layer.z_shape
    top, bottom, left, right = layer.padding
    cells = rows.view(-1, ho, wo, kernel, kernel, c)
    out = rows.new_zeros(len(cells), h + top + bottom, w + left + right, c)
    for i in range(kernel):
        for j in range(kernel):
            out[:, i : i + stride * ho : stride, j : j + stride * wo : stride] += cells[:, :, :, i, j]
    return out[:, top : top + h, left : left + w]


# --- pooling -----------------------------------------------------------------------------------------


def sum_pool(layer: Layer, Z: Tensor) -> Tensor:
    """Sums of the windows of (n, *z_shape)."""
    views = _pool_views(Z.to(TYPES[layer.z_dtype]), layer)
    total = next(views).clone()
    for view in views:
        total += view
    return total


def spread(layer: Layer, E: Tensor) -> Tensor:
    """Send each error to every place of its window: (n, *z_shape)."""
    out = E.new_zeros(len(E), *layer.z_shape)
    for view in _pool_views(out, layer):
        view.copy_(E)
    return out


def _pool_views(x: Tensor, layer: Layer) -> Iterator[Tensor]:
    assert layer.pool
    size, step, (ho, wo) = layer.pool.size, layer.pool.step, layer.out_shape[:2]
    for i in range(size):
        for j in range(size):
            yield x[:, i : i + step * (ho - 1) + 1 : step, j : j + step * (wo - 1) + 1 : step]


def max_pool(layer: Layer, Z: Tensor) -> tuple[Tensor, Tensor]:
    """Maxima of the windows of (n, *z_shape), and the row-major place of each one's first maximum (uint8).

    A sum and its place make one integer, the sum above, the place below and counted down: of equal sums the
    first has the largest.
    """
    assert layer.pool
    places = layer.pool.size**2
    bits = (places - 1).bit_length()
    dtype = torch.int32 if layer.z_bound << bits < 2**31 else torch.int64
    # a padded place that ties with the least sum has no error to lose: ReLU takes it
    padded = _padded(Z, layer, -layer.z_bound)
    views = _pool_views(padded.to(dtype) << bits, layer)
    best = next(views) + (places - 1)
    for place, view in enumerate(views, start=1):
        torch.maximum(best, view + (places - 1 - place), out=best)
    winner = places - 1 - (best & ((1 << bits) - 1))
    return best.bitwise_right_shift_(bits), winner.to(torch.uint8)


def unpool(layer: Layer, E: Tensor, winner: Tensor) -> Tensor:
    """Send each error back to the place that won its window: (n, *z_shape)."""
    (h, w, _), (top, _, left, _) = layer.z_shape, layer.pool_padding
    out = _padded(E.new_zeros(len(E), *layer.z_shape), layer, 0)
    for place, view in enumerate(_pool_views(out, layer)):
        view += E * (winner == place)
    return out[:, top : top + h, left : left + w]


def _padded(x: Tensor, layer: Layer, value: int) -> Tensor:
    """(n, *z_shape) with the places beside it that pooling pads."""
    top, bottom, left, right = layer.pool_padding
    return functional.pad(x, (0, 0, left, right, top, bottom), value=value) if any(layer.pool_padding) else x


# --- random bits -------------------------------------------------------------------------------------


def _signed(word: int) -> int:
    """The int64 of the same 64 bits: tensors have no uint64 arithmetic."""
    return (word & 0xFFFFFFFFFFFFFFFF) - ((word & 1 << 63) << 1)


def _logical_shift(x: Tensor, shift: int) -> Tensor:
    return (x >> shift) & ((1 << 64 - shift) - 1)


def _high_word(x: Tensor, m: Tensor) -> Tensor:
    """Upper 64 bits of the unsigned product of int64 tensors, by halves of 32 bits."""
    x0, x1, m0, m1 = x & _LOW, _logical_shift(x, 32), m & _LOW, _logical_shift(m, 32)
    cross, other = x1 * m0, x0 * m1
    carry = _logical_shift(x0 * m0, 32) + (cross & _LOW) + (other & _LOW)
    return x1 * m1 + _logical_shift(cross, 32) + _logical_shift(other, 32) + _logical_shift(carry, 32)


def philox16(constants: Tensor, counter: Tensor, first: Tensor) -> Tensor:
    """Draw 16-bit numbers by Philox4x64-10, 16 a block.

    Parameters
    ----------
    constants : (1 + rounds, 2, 1) int64, of `philox_constants`
    counter : (3,) int64, the upper words of the counter: step, layer, 0
    first : (blocks,) int64, the lowest word of each block's counter

    Returns
    -------
    (blocks * 16,) float32 whole numbers 0 .. 2**16 - 1, as `wage_neuro.random_bits.bits16` draws them.
    """
    multipliers, *keys = constants
    # words 0 and 2 of the counter, which are multiplied; and words 1 and 3
    x = torch.stack((first, counter[1].expand_as(first)))
    y = counter[0::2, None].expand_as(x)
    for key in keys:
        high, low = _high_word(x, multipliers), x * multipliers
        x, y = high.flip(0) ^ y ^ key, low.flip(0)
    return _sixteens(x, y, 64)


def philox16_4x32(constants: Tensor, counter: Tensor, first: Tensor) -> Tensor:
    """Draw 16-bit numbers by Philox4x32-10, 8 a block; as `philox16`, with words of 32 bits."""
    multipliers, *keys = constants
    x = torch.stack((first, counter[1].expand_as(first)))
    y = counter[0::2, None].expand_as(x)
    for key in keys:
        products = x * multipliers
        x, y = _logical_shift(products, 32).flip(0) ^ y ^ key, (products & _LOW).flip(0)
    return _sixteens(x, y, 32)


def _sixteens(x: Tensor, y: Tensor, bits: int) -> Tensor:
    """(n,) float32 16-bit numbers of the words of blocks, words 0 and 2, 1 and 3."""
    words = torch.stack((x[0], y[0], x[1], y[1]), 1)
    shifts = torch.arange(0, bits, 16, device=x.device)
    return ((words[..., None] >> shifts) & 0xFFFF).float().reshape(-1)


class PhiloxWords(NamedTuple):
    """How a generator names a stream, as int64 tensors.

    Attributes
    ----------
    constants : (1 + rounds, 2, 1) multipliers, then the key of each round
    counter : (3, 3): the upper words of the counter at step 0, and what a step of 1 and of 2**32 adds to them
    block, first : 16-bit numbers a block; the lowest word of the first block's counter
    """

    constants: Tensor
    counter: Tensor
    block: int
    first: int


def philox_words(generator: str, place: tuple[int, int, int], device: torch.device) -> PhiloxWords:
    """Return the words of a seed, purpose and layer, as `wage_neuro.random_bits` has them."""
    seed, purpose, layer = place
    if generator == "philox4x64":  # numpy's generator counts up before it draws
        rows, counter = [_M, *_keys((seed, purpose), _W)], [[0, layer, 0], [1, 0, 0], [1 << 32, 0, 0]]
        constants, block, first = [[_signed(word) for word in row] for row in rows], 16, 1
    else:
        counter = [[0, 0, purpose << 16 | layer], [1, 0, 0], [0, 1, 0]]
        rows = [_M32, *_keys((seed, seed >> 32), _W32)]
        constants, block, first = [[word & _LOW for word in row] for row in rows], 8, 0
    return PhiloxWords(
        torch.tensor(constants, device=device)[..., None], torch.tensor(counter, device=device), block, first
    )


def _keys(key: tuple[int, int], step: tuple[int, int]) -> list[tuple[int, int]]:
    """The key of each round, raised by a constant each time."""
    return [(key[0] + i * step[0], key[1] + i * step[1]) for i in range(_ROUNDS)]
