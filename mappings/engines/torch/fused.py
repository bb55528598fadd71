"""A network in bytes on a CUDA device: fused kernels, a batch as one graph of launches.

For the paper's own rules and widths, errors of up to 15 bits, and normalised layers. What does not fit
(`misfit` says why) is left to the plain tensor operations of `mappings.engines.torch.passes`, to the same
bits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import triton
from torch import Tensor

from mappings.engines.torch import triton_kernels as kernels
from wage_neuro import normal, random_bits, softmax
from wage_neuro.bits import code_dtype, max_code
from wage_neuro.control import LayerControl
from wage_neuro.feedback import feedback_weights
from wage_neuro.kinds import Kind
from wage_neuro.layers import Layer
from wage_neuro.loss import log2_one
from wage_neuro.network import Network
from wage_neuro.rules import MARGIN_UNITS, VALUES, Rules
from wage_neuro.specs import max_pool
from wage_neuro.state import Held, LayerState, State, as_ruled
from wage_neuro.support import Support
from wage_neuro.update import MOMENTUM_BITS

DOT = 32  # a product of bytes on tensor cores takes no fewer channels
ROWS = 128  # positions are rounded up to whole parts of a gradient product
PREDICT_AT_ONCE = 1000
FILLED, PROGRAMS = 128, 256  # programs that fill a device; of a gradient product, where it can be cut
DEPTH, LONG_DEPTH, STAGES = 128, 256, 3  # of a product: bytes a step, of few programs; steps in flight
SUMMED = 32  # windows whose errors a program sums at a time
OUTPUT_ROWS = 16  # samples of whose errors at the output a program takes care
BYTE_MAX, INT32_MAX = 127, 2**31 - 1
ERROR_MAX = 2**14 - 1  # of an error in two planes of bytes, see `triton_kernels`
UNKNOWN = -1

TAKES = Support(
    who="the set of fused kernels",
    kinds=frozenset({Kind.DENSE, Kind.CONV, Kind.MAX_POOL, Kind.NORMALISED}),
    rules={
        **{name: VALUES[name] for name in ("shift", "stored_range", "loss", "margin", "gamma", "sharpness")},
        **{name: VALUES[name] for name in ("new_shift", "recalled", "momentum")},
        "update": ("wide", "ternary"),
        "feedback": ("transposed", "random"),
    },
)


def misfit(network: Network, rules: Rules) -> str | None:
    """Why the fused kernels cannot hold this network and these rules; None if they can."""
    if refusal := TAKES.refusal(network, rules):
        return refusal
    for layer in network.layers:
        bits, n_out = layer.bits, layer.weight_shape[-1]
        if max(bits.weight_max, bits.activation_max) > BYTE_MAX:
            return f"layer {layer}: codes past {BYTE_MAX}"
        if layer.spread_error_max > ERROR_MAX:
            return f"layer {layer}: errors past {ERROR_MAX}"
        gradient = layer.g_bound(rules.batch)
        if _is_wide(layer):  # of one plane, whose codes reach 128
            gradient = gradient // layer.spread_error_max * (BYTE_MAX + 1)
        sums = max(3 * layer.z_bound + layer.target, layer.d_bound, gradient)
        if max(sums, layer.z_bound * 4 + 3) > INT32_MAX:
            return f"layer {layer}: sums past 32 bits"
        if not layer.is_last and n_out % DOT:
            return f"layer {layer}: {n_out} outputs, no multiple of {DOT}"
        pool = max_pool(layer.pool)
        if pool and not (pool.size == pool.step == 2 and _is_even(layer.z_shape)):
            return f"layer {layer}: another pooling than 2x2"
        if layer.index and layer.window and layer.window[1] != 1:
            return f"layer {layer}: a stride"
    return None


def _is_wide(layer: Layer) -> bool:
    """Whether its errors take two planes."""
    return layer.spread_error_max > BYTE_MAX


def _upper(x: Tensor) -> int:
    """How far the upper of (planes, ...) stands behind the lower one; 0 if there is one alone."""
    return x[0].numel() if len(x) > 1 else 0


def _is_even(shape: tuple[int, ...]) -> bool:
    return not any(n % 2 for n in shape[:2])


def _up(n: int, unit: int) -> int:
    return -(-n // unit) * unit


def _largest(n: int, most: int) -> int:
    """Largest power of two up to `most` that divides n."""
    return min(n & -n, most)


def _tile(positions: int, outputs: int, inputs: int) -> tuple[int, int, int, tuple[int, int]]:
    """Positions, outputs, inputs a step of a program of a product; the grid of programs, to fill a device."""
    bm, bn, depth = ROWS, _largest(outputs, 128), DEPTH
    while triton.cdiv(positions, bm) * (outputs // bn) < FILLED and bn > DOT:
        bn //= 2
        depth = LONG_DEPTH
    return bm, bn, _largest(inputs, depth), (triton.cdiv(positions, bm), outputs // bn)


@dataclass(frozen=True)
class _Image:
    """A bordered image buffer: (n, height, width, channels) with `top` and `left` zeros before the inside."""

    height: int
    width: int
    channels: int
    top: int = 0
    left: int = 0

    @property
    def row(self) -> int:
        return self.width * self.channels

    @property
    def image(self) -> int:
        return self.height * self.row

    @property
    def inside(self) -> int:
        return self.top * self.row + self.left * self.channels


class _Shape:
    """A layer as the kernels see it: a dense layer, and the rows of the first one, are 1x1 convolutions."""

    def __init__(self, layer: Layer) -> None:
        self.layer, conv = layer, bool(layer.window)
        self.height, self.width = layer.z_shape[:2] if conv else (1, 1)
        self.n_out = layer.weight_shape[-1]
        self.N = _up(self.n_out, DOT)
        pool = max_pool(layer.pool)
        self.pool = pool.size if pool else 1
        self.fan_in = layer.fan_in
        self.takes_images = conv and layer.index > 0
        if self.takes_images:
            assert layer.window
            h, w, self.C = layer.in_shape
            top, bottom, left, right = layer.padding
            self.kernel = layer.window[0]
            self.source = _Image(h + top + bottom, w + left + right, self.C, top, left)
            self.back = _Image(
                h + self.kernel - 1,
                w + self.kernel - 1,
                self.N,
                self.kernel - 1 - top,
                self.kernel - 1 - left,
            )
        else:
            self.kernel, self.C = 1, _up(self.fan_in, DOT)
            self.source = _Image(self.height, self.width, self.C)
            self.back = _Image(self.height, self.width, self.N)
        self.K = self.kernel**2 * self.C

    def positions(self, n: int) -> int:
        return n * self.height * self.width

    @cached_property
    def windows(self) -> int:
        return self.height * self.width // self.pool**2


class _Buffers:
    """What a layer keeps of n samples: codes with their border, gates; of a learning batch the errors too."""

    def __init__(self, shape: _Shape, n: int, learns: bool, device: torch.device) -> None:
        def zeros(*size: int, dtype: torch.dtype = torch.int8) -> Tensor:
            return torch.zeros(size, dtype=dtype, device=device)

        self.shape, P, windows = shape, shape.positions(n), n * shape.windows
        self.a = zeros(n, shape.source.image)
        self.gate = zeros(windows, shape.N, dtype=torch.uint8)
        self.Z = zeros(n, shape.N, dtype=torch.int32) if shape.layer.is_last else None
        self.u: Tensor | None = None  # of a normalised layer, codes before ReLU
        if not learns:
            return
        if shape.layer.normalised:
            self.u = zeros(windows, shape.N)
        self.P_row, planes = _up(P, ROWS), 1 + _is_wide(shape.layer)
        self.D = zeros(windows, shape.N, dtype=torch.int32)
        self.e = zeros(planes, n, shape.back.image)
        self.e_t = zeros(planes, shape.N, self.P_row)
        self.a_t = zeros(shape.K, self.P_row)
        self.G = zeros(planes, shape.K, shape.N, dtype=torch.int32)
        if shape.layer.is_last:
            self.gate.fill_(kernels.ACTIVE)


class _Exponent:
    """The peak of a batch, the exponent that is held, and the shift they give, on the device."""

    def __init__(self, held: Held, device: torch.device, wide: bool = False) -> None:
        exponent = UNKNOWN if held.exponent is None else held.exponent
        self.held = torch.tensor([exponent, held.below], device=device)
        self.peak = torch.zeros(1, dtype=torch.int64 if wide else torch.int32, device=device)
        self.shift = torch.zeros(3, dtype=torch.int32, device=device)

    def take(self, subtract: int, samples: int, hold: int, rules: Rules, of_all: bool = True) -> Tensor:
        """Turn the peak into (shift, known, whether there is one), and start a new one."""
        is_held = rules.shift == "held"
        kernels.exponent[1,](self.peak, self.held, self.shift, subtract, samples, hold, is_held, of_all)
        return self.shift

    def read(self) -> Held:
        exponent, below = self.held.tolist()
        return Held(None if exponent == UNKNOWN else exponent, below)


class _Normal:
    """The statistics of a normalised layer, and the projection of its errors."""

    def __init__(self, layer: Layer, norm: np.ndarray, device: torch.device) -> None:
        self.layer, self.N = layer, layer.weight_shape[-1]
        self.norm = torch.tensor(norm, device=device)
        self.sums = torch.zeros(5, self.N, dtype=torch.int64, device=device)
        self.plan = torch.zeros(4, self.N, dtype=torch.int64, device=device)
        self.peak = torch.zeros(1, dtype=torch.int32, device=device)  # of the error that was let through

    def project(self, D: Tensor, u: Tensor, peak: Tensor) -> None:
        """Project the errors of a batch in place; their peak goes to `peak`."""
        windows, bn = len(D), _largest(self.N, 64)
        blocks, columns = triton.cdiv(windows, SUMMED), self.N // bn
        steps = _largest(blocks, 1 << (max(1, blocks * columns // PROGRAMS).bit_length() - 1))
        self.sums.zero_()
        kernels.channel_sums[blocks // steps, columns](
            D, u, self.sums, windows, self.N, steps, BW=SUMMED, BN=bn, num_warps=8
        )
        kernels.plan_projection[1,](
            self.sums, self.norm, self.peak, self.plan, windows, self.N, triton.next_power_of_2(self.N),
            num_warps=8,
        )  # fmt: skip
        kernels.project[triton.cdiv(windows, 64), self.N // bn](
            D, u, self.plan, peak, windows, self.N, BW=64, BN=bn, num_warps=4
        )

    def follow(self, windows: int, shift: Tensor) -> None:
        """Statistics after the batch whose errors were projected, if its gradient moves anything."""
        layer, bn = self.layer, _largest(self.N, 128)
        kernels.follow[self.N // bn,](
            self.norm, self.sums, shift, windows, normal.centre_max(layer), normal.shift_max(layer),
            normal.level(layer) << normal.FRACTION, self.N, bn,
        )  # fmt: skip


class _FusedLayer:
    """One layer with its weights on the device.

    S, V : stored and visible weights, (n_weights,); M : their momentum, or None
    W : V as the forward product reads it, (N, K)
    W_back : what errors go back through, (inputs, kernel**2 * N), or None
    """

    def __init__(self, layer: Layer, classes: int, rules: Rules, state: State, device: torch.device) -> None:
        self.layer, self.rules, self.shape = layer, rules, _Shape(layer)
        shape, bits = self.shape, layer.bits
        self.bound = bits.stored_max(rules.stored_range)
        self.S = torch.tensor(state.S[layer.index].reshape(-1), device=device)
        M = state.layers[layer.index].momentum
        self.M = None if M is None else torch.tensor(M.reshape(-1), device=device)
        V = (self.S.double() * 2.0 ** (bits.k_W - bits.k_G)).round_()
        self.V = V.clamp_(-bits.weight_max, bits.weight_max).to(torch.int8)
        self.W = torch.zeros(shape.N, shape.K, dtype=torch.int8, device=device)
        inputs = shape.C if layer.index else 0
        self.W_back = torch.zeros(inputs, shape.kernel**2 * shape.N, dtype=torch.int8, device=device)
        B = feedback_weights(layer, classes, rules, state.seed)
        if B is not None:
            self._lay_out(torch.tensor(B, dtype=torch.int8, device=device), None, self.W_back)
        self.spread()
        self.error = _Exponent(state.error_held[layer.index], device)
        self.gradient = _Exponent(state.gradient_held[layer.index], device, _is_wide(layer))
        norm = state.norm[layer.index]
        self.normal = None if norm is None else _Normal(layer, norm, device)

    @property
    def peak(self) -> Tensor:
        """Where the peak of the error goes that arrives here."""
        return self.normal.peak if self.normal else self.error.peak

    def spread(self) -> None:
        """Copy V to where products read it."""
        is_back = self.layer.index > 0 and self.rules.feedback == "transposed"
        self._lay_out(self.V, self.W, self.W_back if is_back else None)

    def _lay_out(self, V: Tensor, W: Tensor | None, W_back: Tensor | None) -> None:
        shape, bn = self.shape, _largest(self.shape.N, 128)
        kernels.lay_out[triton.cdiv(shape.fan_in, 128), shape.N // bn](
            V,
            W,
            W_back,
            shape.fan_in,
            shape.n_out,
            shape.kernel,
            shape.C,
            shape.N,
            BK=128,
            BN=bn,
            num_warps=8,
        )

    def forward(self, own: _Buffers, above: _Buffers | None, n: int) -> None:
        shape, P = self.shape, self.shape.positions(n)
        bm, bn, bk, grid = _tile(P, shape.N, shape.C)
        image = _Image(shape.height // shape.pool, shape.width // shape.pool, shape.N)
        out = own.Z
        if above:
            image = above.shape.source if above.shape.takes_images else image
            out = above.a.view(-1)[image.inside :]
        kernels.forward[grid](
            own.a, self.W, out, own.gate, self.normal.norm if self.normal else None, own.u, P,
            shape.kernel, shape.height, shape.width, shape.source.row, shape.source.image,
            shape.C, shape.N, shape.pool, self.layer.is_last, self.layer.z_shift,
            self.layer.bits.activation_max, image.row, image.image,
            BM=bm, BN=bn, BK=bk, num_warps=8, num_stages=STAGES,
        )  # fmt: skip

    def receive(self, own: _Buffers, hold: int, n: int) -> None:
        """E of own.D, by place and by position."""
        shape, bits = self.shape, self.layer.bits
        if self.normal:
            assert own.u is not None
            self.normal.project(own.D, own.u, self.error.peak)
        unit = bits.k_E - 1 + self.rules.log2_gamma(self.layer.is_last)
        shift = self.error.take(unit, n, hold, self.rules)
        windows, bn = n * shape.windows, _largest(shape.N, 64)
        bw = 64 // shape.pool
        kernels.error_codes[triton.cdiv(windows, bw), shape.N // bn](
            own.D, own.gate, shift, own.e.view(-1)[shape.back.inside :], own.e_t, windows,
            shape.height, shape.width, shape.back.row, shape.back.image, shape.N,
            own.P_row, shape.pool, self.layer.index > 0, self.normal is not None, bits.error_max,
            _upper(own.e),
            BW=bw, BN=bn, num_warps=4,
        )  # fmt: skip

    def send_back(self, own: _Buffers, to: _FusedLayer, below: _Buffers, n: int) -> None:
        shape = self.shape
        height, width = self.layer.in_shape[:2] if self.layer.window else (1, 1)
        P = n * height * width
        bm, bn, bk, grid = _tile(P, shape.C, shape.N)
        kernels.send_back[grid](
            own.e, self.W_back, below.gate, below.D, to.peak, P,
            shape.kernel, height, width, shape.back.row, shape.back.image, shape.N, shape.C,
            to.normal is not None, _upper(own.e),
            BM=bm, BN=bn, BK=bk, num_warps=8, num_stages=STAGES,
        )  # fmt: skip

    def learn(self, own: _Buffers, control: LayerControl, n: int, seed: Tensor, step: Tensor) -> None:
        """Gradient and update; nothing for a frozen layer."""
        if control.log2_eta is None:
            return
        self._sum_gradient(own, n)
        shape, bits = self.shape, self.layer.bits
        count = shape.fan_in * shape.N
        upper = _upper(own.G)
        kernels.peak_of[triton.cdiv(count, 4096),](own.G, self.gradient.peak, count, upper, BLOCK=4096)
        decay, blocks = self.rules.momentum, 32
        bits_of_g = MOMENTUM_BITS - 1 - decay if decay else control.log2_eta + 16
        shift = self.gradient.take(bits_of_g, n, control.hold, self.rules, of_all=not decay)
        if self.normal:
            self.normal.follow(len(own.D), shift)
        kernels.update[triton.cdiv(self.S.numel(), blocks * 16),](
            self.S, self.V, self.M, own.G, shift, seed, step, self.layer.index, self.S.numel(),
            MOMENTUM_BITS - 1 - control.log2_eta - 16, shape.n_out, shape.N, upper, random_bits.UPDATE,
            self.bound,
            1 if self.rules.update == "ternary" else 2 * self.bound,
            bits.k_G - bits.k_W, bits.weight_max, decay, max_code(MOMENTUM_BITS),
            BLOCKS=blocks, num_warps=4,
        )  # fmt: skip
        self.spread()

    def _sum_gradient(self, own: _Buffers, n: int) -> None:
        shape, P = self.shape, self.shape.positions(n)
        bc = _largest(shape.C, 64)
        kernels.turn[triton.cdiv(P, 128), shape.C // bc, shape.kernel**2](
            own.a, own.a_t, P, shape.kernel, shape.height, shape.width, shape.source.row, shape.source.image,
            shape.C, shape.pool, own.P_row, BM=128, BC=bc, num_warps=4,
        )  # fmt: skip
        bm, bn = _largest(shape.K, 128), _largest(shape.N, 128)
        tiles, chunks = shape.K // bm * (shape.N // bn), own.P_row // ROWS
        parts = _largest(chunks, 1 << (max(1, PROGRAMS // tiles).bit_length() - 1))
        if parts > 1:
            own.G.zero_()
        kernels.gradient[shape.K // bm, shape.N // bn, parts * len(own.G)](
            own.a_t, own.e_t, own.G, shape.K, shape.N, own.P_row, parts, _upper(own.e_t),
            BM=bm, BN=bn, BK=min(DEPTH, ROWS), num_warps=8, num_stages=STAGES,
        )  # fmt: skip

    @property
    def state(self) -> LayerState:
        S = _array(self.S).astype(code_dtype(self.layer.bits.k_G), copy=True)
        M = None if self.M is None else _array(self.M).reshape(self.layer.weight_shape).copy()
        return LayerState(
            S=S.reshape(self.layer.weight_shape),
            error_held=self.error.read(),
            gradient_held=self.gradient.read(),
            momentum=M,
            norm=None if self.normal is None else _array(self.normal.norm).copy(),
        )


class FusedNetwork:
    """A network that `misfit` finds nothing against, learning on a CUDA device."""

    def __init__(self, network: Network, rules: Rules, state: State, device: torch.device) -> None:
        self.network, self.rules, self.device = network, rules, device
        state = as_ruled(network, state, rules)
        self.layers = [_FusedLayer(layer, network.classes, rules, state, device) for layer in network.layers]
        self.seed_number = state.seed
        signed = state.seed - (state.seed >> 63 << 64)  # the int64 of the same 64 bits
        self.seed, self.step = (torch.tensor([n], device=device) for n in (signed, state.step))
        self.codes = torch.tensor(network.input_codes, device=device)
        self.tables = [torch.tensor(table, device=device) for table in softmax.tables()]
        self.pixels = int(np.prod(network.input_shape))
        self._learning = self._room(rules.batch, True)
        self._answering = self._room(PREDICT_AT_ONCE, False)
        self.x = torch.zeros(rules.batch, self.pixels, dtype=torch.uint8, device=device)
        self.labels = torch.zeros(rules.batch, dtype=torch.int64, device=device)
        self._side = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._graphs: dict[tuple[LayerControl, ...], torch.cuda.CUDAGraph | None] = {}

    def _room(self, n: int, learns: bool) -> list[_Buffers]:
        return [_Buffers(layer.shape, n, learns, self.device) for layer in self.layers]

    @property
    def state(self) -> State:
        layers = tuple(layer.state for layer in self.layers)
        return State(layers=layers, seed=self.seed_number, step=int(self.step))

    def _upload(self, images: np.ndarray) -> Tensor:
        return torch.tensor(images.reshape(len(images), self.pixels), device=self.device)

    @torch.inference_mode()
    def train(self, images: np.ndarray, labels: np.ndarray, controls: tuple[LayerControl, ...]) -> np.ndarray:
        """Learn batches of (n, ...) uint8 images; return the (n, classes) int64 logits before each."""
        x, y = self._upload(images), torch.tensor(labels.astype(np.int64), device=self.device)
        logits = torch.empty(len(x), self.network.classes, dtype=torch.int64, device=self.device)
        batch = self.rules.batch
        for i in range(0, len(x), batch):
            self.x.copy_(x[i : i + batch])
            self.labels.copy_(y[i : i + batch])
            self._replay(controls)
            Z = self._learning[-1].Z
            assert Z is not None
            logits[i : i + batch] = Z[:, : self.network.classes]
        return _array(logits)

    def _replay(self, controls: tuple[LayerControl, ...]) -> None:
        """One batch: the first under its controls launch by launch, all later ones as one graph."""
        if self.device.type != "cuda" or controls not in self._graphs:
            self._graphs[controls] = None
            self._batch(controls)
            return
        graph = self._graphs[controls]
        if graph is None:
            graph = self._graphs[controls] = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self._batch(controls)
        graph.replay()

    def _batch(self, controls: tuple[LayerControl, ...]) -> None:
        room, n = self._learning, self.rules.batch
        self._forward(self.x, room, n)
        self._err(room[-1], n)
        for layer, control in zip(reversed(self.layers), reversed(controls), strict=True):
            i = layer.layer.index
            layer.receive(room[i], control.hold, n)
            if i:
                layer.send_back(room[i], self.layers[i - 1], room[i - 1], n)
            with self._beside():
                layer.learn(room[i], control, n, self.seed, self.step)
        if self._side:
            torch.cuda.current_stream().wait_stream(self._side)
        self.step += 1

    @contextlib.contextmanager
    def _beside(self) -> Iterator[None]:
        """What follows has all that was begun so far behind it, and what is begun later beside it."""
        if self._side:
            self._side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._side):  # nothing changes where there is none
            yield

    def _err(self, last: _Buffers, n: int) -> None:
        """Error at the output."""
        rules, layer, classes = self.rules, self.network.layers[-1], self.network.classes
        one = softmax.ONE if rules.loss == "softmax" else layer.target
        kernels.output_error[triton.cdiv(n, OUTPUT_ROWS),](
            last.Z, self.labels, self.step, *self.tables, last.D, self.layers[-1].error.peak, n, classes,
            last.shape.N, rules.loss, one, log2_one(layer, rules), rules.margin * layer.target, MARGIN_UNITS,
            rules.new_shift, rules.new_samples, rules.new_period,
            BM=OUTPUT_ROWS, BC=triton.next_power_of_2(classes),
        )  # fmt: skip

    def _forward(self, x: Tensor, room: list[_Buffers], n: int) -> None:
        self._encode(x, room[0], n)
        for layer, own, above in zip(self.layers, room, [*room[1:], None], strict=True):
            layer.forward(own, above, n)

    def _encode(self, x: Tensor, room: _Buffers, n: int) -> None:
        """Codes of the first layer's windows."""
        first, shape = self.network.layers[0], self.layers[0].shape
        height, width, channels = first.in_shape if first.window else (1, 1, self.pixels)
        kernel, stride = first.window or (1, 1)
        P = shape.positions(n)
        kernels.first_rows[triton.cdiv(P, 64), triton.cdiv(shape.C, 32)](
            x, self.codes, room.a, P, kernel, stride, first.padding[0], first.padding[2],
            height, width, channels, shape.height, shape.width, first.fan_in, shape.C, BM=64, BK=32,
        )  # fmt: skip

    @torch.inference_mode()
    def predict(self, images: np.ndarray) -> np.ndarray:
        """(n, classes) int64 logits of (n, ...) uint8 images."""
        x, Z = self._upload(images), self._answering[-1].Z
        logits = torch.empty(len(x), self.network.classes, dtype=torch.int64, device=self.device)
        assert Z is not None
        for i in range(0, len(x), PREDICT_AT_ONCE):
            part = x[i : i + PREDICT_AT_ONCE]
            self._forward(part, self._answering, len(part))
            logits[i : i + PREDICT_AT_ONCE] = Z[: len(part), : self.network.classes]
        return _array(logits)


def _array(x: Tensor) -> np.ndarray:
    found: np.ndarray = x.cpu().numpy()
    return found
