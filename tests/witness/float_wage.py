"""WAGE with real numbers: equations 2 to 12 of arXiv:1802.04680 in float64, sharing no code with the project.

Weights live in [-1, 1], activations in [0, 1), errors and gradients are plain real numbers. There are no
integer codes inside; `to_codes` multiplies by 2**(k - 1) at the border, where a test compares.

Why float64 is exact here: every quantity is a dyadic rational, an integer times a power of two. Visible
weights are multiples of sigma(k_W), activations of sigma(k_A), errors of sigma(k_E), so each product is a
multiple of the product of two steps, and a sum of n of them is, in that unit, an integer below
n * 2**(k - 1 + k' - 1). A network or a batch for which that bound passes 2**53 is refused, so no sum ever
rounds, whatever order BLAS takes. Scaling by alpha, Shift, sigma or eta moves the exponent alone. Rounding
happens only where the paper says so: in `Q`, `Q_E`, `Q_G`, and in `shift`, whose log2 is settled with exact
fractions.

Where the paper leaves a choice, this follows the authors' code: product -> pool -> ReLU -> Q_A; the last
layer has neither ReLU nor Q_A; an error is masked by the clip of Q_A, then quantized, then masked by ReLU.
The SSE is summed over the batch, not averaged. All layers' errors come from the weights before the update.

1 / alpha is kept in every derivative: z = (W_q / alpha) a, so dz/dW_q = a / alpha and dz/da = W_q / alpha. It
could be left out: Shift(2**j x) = 2**j Shift(x), so a constant power of two vanishes in Q_E and in Q_G.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.float64]
Index = NDArray[np.intp]
EXACT = 2**53  # float64 counts every integer up to here
RANDOM_BITS = 16  # width of the random number in stochastic rounding


# ---- The paper's functions


def sigma(k: int) -> float:
    """Step of a k-bit number (eq. 2).

    >>> sigma(2), sigma(8)
    (0.5, 0.0078125)
    """
    return 2.0 ** (1 - k)


def Q(x: Real, k: int) -> Real:
    """Round to the grid of sigma(k), halves to even, and clip inside (-1, 1) (eq. 5).

    >>> Q(np.array([0.25, 0.26, 0.75, -0.8, 9.0]), 2).tolist()
    [0.0, 0.5, 0.5, -0.5, 0.5]
    """
    step = sigma(k)
    rounded: Real = step * np.rint(x / step)
    return np.clip(rounded, -1 + step, 1 - step)


def shift(x: float) -> float:
    """Nearest power of two on the log scale, 2**round(log2 x) (eq. 6), for x > 0.

    >>> shift(1.4), shift(1.42), shift(0.75), shift(1448.0), shift(1449.0)
    (1.0, 2.0, 1.0, 1024.0, 2048.0)
    """
    if not (x > 0 and math.isfinite(x)):
        raise ValueError(f"shift({x}): want a positive finite number")
    fraction, exponent = math.frexp(x)  # x = fraction * 2**exponent, 1/2 <= fraction < 1
    # sqrt(1/2) is irrational: no tie. The square is exact; log2 in float64 could err near the boundary.
    below = 2 * Fraction(fraction) ** 2 < 1
    return math.ldexp(1.0, exponent - 1 if below else exponent)


def Q_E(x: Real, k_E: int, gamma: int = 1) -> Real:
    """Scale by Shift of the whole tensor's largest magnitude, round, clip (eq. 11). All zeros stay zeros.

    gamma lowers the upper boundary: what is above the largest / gamma is cut off (section 4.3).

    >>> (128 * Q_E(np.array([1000.0, -292.0, 3.0]), 8)).tolist()
    [125.0, -36.0, 0.0]
    >>> (128 * Q_E(np.array([1000.0, -292.0, 3.0]), 8, gamma=4)).tolist()
    [127.0, -127.0, 2.0]
    """
    largest = float(np.max(np.abs(x), initial=0.0))
    return Q(x / (shift(largest) / gamma), k_E) if largest > 0 else np.zeros_like(x)


def Q_G(g: Real, k_G: int, eta: float, random: NDArray[Any], update: str) -> Real:
    """Weight update of a gradient: normalise, round stochastically (eq. 12).

    The stochastic rounding is a chip's: the magnitude cut to 16 fractional bits, a 16-bit random number
    added, the fraction dropped. `update` "ternary" keeps at most one step, "wide" all of them.

    >>> Q_G(np.array([1.0, -0.5, 0.0]), 8, 1.0, np.array([0, 2**15, 2**16 - 1]), "wide").tolist()
    [0.0078125, -0.0078125, 0.0]
    """
    largest = float(np.max(np.abs(g), initial=0.0))
    if largest == 0:
        return np.zeros_like(g)
    g_s = eta * g / shift(largest)
    unit = 2.0**RANDOM_BITS
    steps: Real = np.floor(np.floor(np.abs(g_s) * unit) / unit + random / unit)
    if update == "ternary":
        steps = np.minimum(steps, 1.0)
    dW: Real = sigma(k_G) * np.sign(g_s) * steps
    return dW


def scale(n_in: int, k_W: int) -> float:
    """Layer scale alpha (eq. 8) with the authors' limit sqrt(3 / n_in): a power of two, at least 1.

    >>> [scale(n, 2) for n in (27, 1152, 4608, 8192)]
    [2.0, 16.0, 32.0, 32.0]
    """
    L_min = 1.5 * sigma(k_W)
    # 3 * n_in is never a power of two, so no tie; float64 is far from the boundary for any real n_in.
    return max(1.0, 2.0 ** round(math.log2(L_min / math.sqrt(3 / n_in))))


def to_codes(x: Real, k: int) -> NDArray[np.int64]:
    """Integer codes of numbers on the grid of sigma(k): x * 2**(k - 1). Raises ValueError off the grid.

    >>> to_codes(np.array([0.5, -0.0078125]), 8).tolist()
    [64, -1]
    """
    codes = np.asarray(x, dtype=np.float64) * 2.0 ** (k - 1)
    if not np.array_equal(codes, np.rint(codes)):
        raise ValueError(f"values off the grid of sigma({k})")
    return codes.astype(np.int64)


# ---- Convolution and pooling, NHWC


def same_or_valid(size: int, kernel: int, stride: int, padding: str) -> tuple[int, int, int]:
    """Output size, padding before, padding after, along one axis, as TensorFlow defines "SAME" and "VALID".

    >>> same_or_valid(28, 5, 1, "SAME"), same_or_valid(6, 3, 2, "SAME"), same_or_valid(6, 3, 2, "VALID")
    ((28, 2, 2), (3, 0, 1), (2, 0, 0))
    """
    if padding == "VALID":
        return (size - kernel) // stride + 1, 0, 0
    if padding != "SAME":
        raise ValueError(f"padding={padding!r}: want 'SAME' or 'VALID'")
    out = -(-size // stride)
    total = max((out - 1) * stride + kernel - size, 0)
    return out, total // 2, total - total // 2


@dataclass(frozen=True)
class Window:
    """Geometry of one convolution: where the kernel's tap (i, j) meets the padded input."""

    kernel: int
    stride: int
    rows: tuple[int, int, int]
    columns: tuple[int, int, int]

    def pad(self, a: Real) -> Real:
        return np.pad(a, ((0, 0), self.rows[1:], self.columns[1:], (0, 0)))

    def tap(self, i: int, j: int) -> tuple[slice, slice, slice]:
        return (slice(None), _every(i, self.rows[0], self.stride), _every(j, self.columns[0], self.stride))

    def product(self, a: Real, w: Real) -> Real:
        """Sum over i, j, c of a[n, y*stride + i, x*stride + j, c] * w[i, j, c, o], not flipped."""
        padded = self.pad(a)
        z = np.zeros((a.shape[0], self.rows[0], self.columns[0], w.shape[3]))
        for i in range(self.kernel):
            for j in range(self.kernel):
                z += padded[self.tap(i, j)] @ w[i, j]
        return z

    def gradient(self, a: Real, e: Real) -> Real:
        """Derivative of sum(e * z) by w: summed over samples and positions."""
        padded = self.pad(a)
        g = np.zeros((self.kernel, self.kernel, a.shape[3], e.shape[3]))
        for i in range(self.kernel):
            for j in range(self.kernel):
                g[i, j] = np.tensordot(padded[self.tap(i, j)], e, axes=([0, 1, 2], [0, 1, 2]))
        return g

    def error_below(self, e: Real, w: Real, shape: tuple[int, ...]) -> Real:
        """Derivative of sum(e * z) by a: what lands on the padding is dropped."""
        n, height, width, channels = shape
        (_, top, bottom), (_, left, right) = self.rows, self.columns
        padded = np.zeros((n, top + height + bottom, left + width + right, channels))
        for i in range(self.kernel):
            for j in range(self.kernel):
                padded[self.tap(i, j)] += e @ w[i, j].T
        return padded[:, top : top + height, left : left + width, :]


def _every(start: int, count: int, stride: int) -> slice:
    return slice(start, start + stride * (count - 1) + 1, stride)


def max_pool(z: Real, size: int, stride: int) -> tuple[Real, Index]:
    """Maxima of VALID windows, and for each window the row-major position of its first maximum."""
    rows, columns = ((extent - size) // stride + 1 for extent in z.shape[1:3])
    places = [(_every(i, rows, stride), _every(j, columns, stride)) for i in range(size) for j in range(size)]
    window = np.stack([z[:, y, x] for y, x in places], axis=-1)
    return window.max(axis=-1), np.argmax(window, axis=-1)  # argmax takes the first of equals


def max_unpool(e: Real, first: Index, size: int, stride: int, shape: tuple[int, ...]) -> Real:
    """Send each window's error to its first maximum; windows that overlap add up."""
    out = np.zeros(shape)
    rows, columns = e.shape[1:3]
    for position in range(size * size):
        i, j = divmod(position, size)
        out[:, _every(i, rows, stride), _every(j, columns, stride)] += np.where(first == position, e, 0.0)
    return out


# ---- The network


@dataclass(frozen=True)
class ConvSpec:
    """Convolution, weight (kernel, kernel, c_in, out); `pool` 0 is none, `pool_stride` 0 the same as `pool`.

    Padding is TensorFlow's; the maxima are taken over VALID windows of the product, before ReLU.
    """

    out: int
    kernel: int
    stride: int = 1
    padding: str = "SAME"
    pool: int = 0
    pool_stride: int = 0


@dataclass(frozen=True)
class DenseSpec:
    """Product with a weight (n_in, out); an image is flattened row-major first: height, width, channel."""

    out: int


@dataclass
class StepRecord:
    """What one training step computed, a list entry per layer, for comparing what happens inside.

    `activations[i]` is the input of layer i (n, *its shape), `pre[i]` its product after pooling;
    `quantized[i]` its error straight after Q_E, `errors[i]` the same after the ReLU mask, both before
    un-pooling;
    `gradients[i]` the sum of a * e / alpha; `updates[i]` the dW before the range clips it.
    """

    activations: list[Real]
    pre: list[Real]
    quantized: list[Real]
    errors: list[Real]
    gradients: list[Real]
    updates: list[Real]


@dataclass(frozen=True)
class _Layer:
    """One spec with its geometry: input without the batch, weight, output before and after the pool."""

    spec: Any
    shape_in: tuple[int, ...]
    weight_shape: tuple[int, ...]
    before_pool: tuple[int, ...]
    shape_out: tuple[int, ...]
    window: Window | None

    @property
    def pool(self) -> tuple[int, int]:
        size = self.spec.pool if self.window else 0
        return size, (self.spec.pool_stride or size) if size else 0


def _plan(spec: Any, shape: tuple[int, ...]) -> _Layer:
    # Told apart by the field only a convolution has, so that any object with the same fields will do.
    if not hasattr(spec, "kernel"):
        n_in = math.prod(shape)
        return _Layer(spec, (n_in,), (n_in, spec.out), (spec.out,), (spec.out,), None)
    if len(shape) != 3:
        raise ValueError(f"a convolution needs an image (height, width, channels), not shape {shape}")
    height, width, channels = shape
    rows = same_or_valid(height, spec.kernel, spec.stride, spec.padding)
    columns = same_or_valid(width, spec.kernel, spec.stride, spec.padding)
    out = (rows[0], columns[0], spec.out)
    before_pool = out
    if spec.pool:
        stride = spec.pool_stride or spec.pool
        out = ((rows[0] - spec.pool) // stride + 1, (columns[0] - spec.pool) // stride + 1, spec.out)
    if min(*before_pool, *out) < 1:
        raise ValueError(f"{spec} leaves nothing of shape {shape}")
    window = Window(spec.kernel, spec.stride, rows, columns)
    return _Layer(spec, shape, (spec.kernel, spec.kernel, channels, spec.out), before_pool, out, window)


class FloatWage:
    """A network trained by WAGE in real numbers.

    Parameters
    ----------
    specs : sequence of ConvSpec, DenseSpec
        The last one is dense: the classes.
    input_shape : (height, width, channels) or (n,)
        One sample, without the batch.
    weights : list of arrays
        Stored weights, one a spec, real numbers on the grid of sigma(k_G) inside +-(1 - sigma(k_G)).
    k_W, k_A, k_G, k_E : int
        Bits.
    stored_range : "authors" | "paper"
        Bound of the stored weight after an update: 1 - sigma(k_W) (where k_G >= k_W), or 1 - sigma(k_G).
    update : "wide" | "ternary"
        Whether an update may be more than one step of sigma(k_G).
    gamma : power of two
        Errors above their largest / gamma are cut off.

    Raises
    ------
    ValueError
        For shapes that do not fit, numbers off their grid, an unknown choice, or sums past 2**53 units.
    """

    def __init__(
        self,
        specs: Sequence[Any],
        input_shape: Sequence[int],
        weights: Sequence[NDArray[Any]],
        k_W: int = 2,
        k_A: int = 8,
        k_G: int = 8,
        k_E: int = 8,
        stored_range: str = "authors",
        update: str = "wide",
        gamma: int = 1,
    ) -> None:
        if stored_range not in ("authors", "paper"):
            raise ValueError(f"stored_range={stored_range!r}: want 'authors' or 'paper'")
        if update not in ("wide", "ternary"):
            raise ValueError(f"update={update!r}: want 'wide' or 'ternary'")
        self.k_W, self.k_A, self.k_G, self.k_E, self.update = k_W, k_A, k_G, k_E, update
        self.gamma = gamma
        self.bound = 1 - sigma(k_W if stored_range == "authors" and k_G >= k_W else k_G)
        self._layers: list[_Layer] = []
        shape = tuple(input_shape)
        for spec in specs:
            self._layers.append(_plan(spec, shape))
            shape = self._layers[-1].shape_out
        if not self._layers or self._layers[-1].window:
            raise ValueError("the last layer must be dense")
        if len(weights) != len(self._layers):
            raise ValueError(f"{len(weights)} weights for {len(self._layers)} layers")
        self.weights: list[Real] = [np.array(w, dtype=np.float64) for w in weights]
        for i, (w, layer) in enumerate(zip(self.weights, self._layers, strict=True)):
            if w.shape != layer.weight_shape:
                raise ValueError(f"weight {i}: shape {w.shape}, want {layer.weight_shape}")
            to_codes(w, k_G)
            if np.max(np.abs(w)) > 1 - sigma(k_G):
                raise ValueError(f"weight {i}: beyond 1 - sigma({k_G})")
        self.alphas: list[float] = [scale(math.prod(layer.weight_shape[:-1]), k_W) for layer in self._layers]
        self.last: StepRecord | None = None

    def visible(self) -> list[Real]:
        """W_q of every layer: what forward and backward see, alpha not yet divided out (eq. 10)."""
        return [Q(w, self.k_W) for w in self.weights]

    def codes(self) -> list[NDArray[np.int64]]:
        """Stored weights as integer codes, in units of sigma(k_G)."""
        return [to_codes(w, self.k_G) for w in self.weights]

    def forward(self, x_real: NDArray[Any]) -> Real:
        """Logits (n, classes), real and not quantized, of inputs on the grid of sigma(k_A)."""
        return self._forward(x_real)[1][-1]

    def loss(self, x_real: NDArray[Any], labels: NDArray[Any]) -> float:
        """Sum of squared errors, halved, summed over the batch."""
        return float(0.5 * np.sum(self._output_error(self.forward(x_real), labels) ** 2))

    def step(
        self, x_real: NDArray[Any], labels: NDArray[Any], eta: float, random: Sequence[NDArray[Any]]
    ) -> None:
        """Train on one batch.

        `labels` are class numbers (n,), `eta` a power of two, `random` an array of integers 0 .. 2**16 - 1
        for each weight, of its shape. `self.last` then holds what was computed on the way.
        """
        if eta <= 0 or math.frexp(eta)[0] != 0.5:
            raise ValueError(f"eta={eta}: want a power of two")
        bits = [np.asarray(r).astype(np.float64) for r in random]
        if [r.shape for r in bits] != [w.shape for w in self.weights]:
            raise ValueError("random: want one array a weight, of its shape")
        if any(np.any((r < 0) | (r >= 2**RANDOM_BITS) | (r != np.floor(r))) for r in bits):
            raise ValueError("random: want integers 0 .. 65535")

        activations, pre, firsts = self._forward(x_real)
        last = len(self._layers) - 1
        gradients: list[Real] = [np.empty(0)] * (last + 1)
        quantized, errors = list(gradients), list(gradients)

        arriving = self._output_error(pre[last], labels)
        for i in range(last, -1, -1):
            layer, z = self._layers[i], pre[i]
            if i < last:
                # The clip of Q_A passes nothing where ReLU's output left the range; Shift sees what remains.
                arriving = np.where(np.maximum(z, 0.0) > 1 - sigma(self.k_A), 0.0, arriving)
            quantized[i] = Q_E(arriving, self.k_E, self.gamma)
            errors[i] = quantized[i] if i == last else np.where(z > 0, quantized[i], 0.0)
            e = errors[i]
            if firsts[i] is not None:
                e = max_unpool(e, firsts[i], *layer.pool, (len(e), *layer.before_pool))
            gradients[i] = self._gradient(layer, activations[i], e) / self.alphas[i]
            if i > 0:
                W = Q(self.weights[i], self.k_W) / self.alphas[i]
                arriving = self._error_below(layer, W, e).reshape(pre[i - 1].shape)

        updates = [Q_G(g, self.k_G, eta, r, self.update) for g, r in zip(gradients, bits, strict=True)]
        moved = zip(self.weights, updates, strict=True)
        self.weights = [np.clip(w - dW, -self.bound, self.bound) for w, dW in moved]
        self.last = StepRecord(activations, pre, quantized, errors, gradients, updates)

    def _forward(self, x_real: NDArray[Any]) -> tuple[list[Real], list[Real], list[Any]]:
        """Input of each layer, its product after pooling, and where the maxima were (None without a pool)."""
        a: Real = np.asarray(x_real, dtype=np.float64)
        wanted = self._layers[0].shape_in
        if a.ndim < 2 or len(a) == 0 or math.prod(a.shape[1:]) != math.prod(wanted):
            raise ValueError(f"x: shape {a.shape}, want (n, {', '.join(map(str, wanted))}) or flat, n > 0")
        if np.any(np.abs(to_codes(a, self.k_A)) >= 2 ** (self.k_A - 1)):
            raise ValueError(f"x: beyond 1 - sigma({self.k_A})")
        activations, pre, firsts = [], [], []
        for i, layer in enumerate(self._layers):
            a = a.reshape(-1, *layer.shape_in)
            W = Q(self.weights[i], self.k_W) / self.alphas[i]
            self._check_exact(layer, len(a))
            z = a @ W if layer.window is None else layer.window.product(a, W)
            first = None
            if layer.pool[0]:
                z, first = max_pool(z, *layer.pool)
            activations.append(a)
            pre.append(z)
            firsts.append(first)
            a = Q(np.maximum(z, 0.0), self.k_A)  # not used after the last layer: logits are not quantized
        return activations, pre, firsts

    def _output_error(self, logits: Real, labels: NDArray[Any]) -> Real:
        """e = out - onehot, the derivative of the SSE."""
        labels = np.asarray(labels)
        n, classes = logits.shape
        if labels.shape != (n,) or np.any((labels < 0) | (labels >= classes)):
            raise ValueError(f"labels: want {n} class numbers below {classes}")
        onehot = np.zeros((n, classes))
        onehot[np.arange(n), labels] = 1.0
        return logits - onehot

    @staticmethod
    def _gradient(layer: _Layer, a: Real, e: Real) -> Real:
        return a.T @ e if layer.window is None else layer.window.gradient(a, e)

    @staticmethod
    def _error_below(layer: _Layer, W: Real, e: Real) -> Real:
        return e @ W.T if layer.window is None else layer.window.error_below(e, W, (len(e), *layer.shape_in))

    def _check_exact(self, layer: _Layer, n: int) -> None:
        """Refuse what could pass 2**53 units: then float64 would round and witness nothing."""
        fan_in = math.prod(layer.weight_shape[:-1])
        fan_out = math.prod(layer.weight_shape) // layer.weight_shape[-2]
        positions = n * math.prod(layer.before_pool[:-1])
        overlap = layer.pool[0] ** 2 or 1  # windows that may add their errors at one place
        k_W, k_A, k_E = self.k_W - 1, self.k_A - 1, self.k_E - 1
        worst = max(
            (fan_in + 2 * scale(fan_in, self.k_W)) * 2 ** (k_W + k_A),
            fan_out * overlap * 2 ** (k_W + k_E),
            positions * overlap * 2 ** (k_A + k_E),
        )
        if worst >= EXACT:
            raise ValueError(f"sums up to {worst} units: float64 is exact below 2**53")
