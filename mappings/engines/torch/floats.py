"""WAGE in real numbers by autograd, quantized where a pattern says so: what the integers are compared with.

It needs PyTorch: pip install "wage-neuro[torch]". With nothing left unquantized it gives the numpy engine's
bits, which a test holds; so a pattern differs from the integers by what it does not quantize, and by nothing
else. Straight-through estimators stand where the integers have Q_W and Q_A; Q_E is met on the way back.

Source: arXiv:1802.04680, sections 3 and 4. It does not print how a float gradient is scaled: here it keeps
Q_G's scaling, so that a step is as long as one of 8 bits before it is rounded. A CUDA device may convolve in
TF32: codes are exact in it, real numbers keep 11 of their 24 bits, their sums all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mappings.engines.torch.engine import find_device
from mappings.engines.torch.kernels import TF32_EXACT
from mappings.pattern import Pattern
from wage_neuro import random_bits
from wage_neuro.activity import Activity, Watch
from wage_neuro.bits import max_code, sigma
from wage_neuro.control import Control
from wage_neuro.engine import check_training_input
from wage_neuro.errors import SettingError
from wage_neuro.layers import Layer, initial_weights
from wage_neuro.network import Network
from wage_neuro.rules import Rules
from wage_neuro.specs import Conv, Dense, assert_never, max_pool
from wage_neuro.train import PREDICT_PART, Batch

MOMENTUM, WEIGHT_DECAY = 0.9, 1e-4  # of vanilla, as the paper's
FLOAT_STEP = sigma(8)
_SQRT_HALF = 0.5**0.5  # the next float64 above the true root: none lies between, so < decides exactly
_FLOAT64_BIAS, _FLOAT64_FRACTION = 1023, 52


@dataclass(frozen=True)
class FloatState:
    """Everything that training changes.

    Attributes
    ----------
    arrays : by name, float32
        W0, W1 .. weights, of the shape of S; of vanilla also gain, offset, mean and variance of each batch
        normalisation, and the momentum of what is trained.
    seed, step : as of `wage_neuro.train.State`
    """

    arrays: dict[str, np.ndarray]
    seed: int
    step: int = 0


def initial_float_state(network: Network, pattern: Pattern, seed: int) -> FloatState:
    """The integer run's initial weights, as real numbers: the same random bits."""
    arrays = {}
    for layer in network.layers:
        S = initial_weights(layer, seed)
        arrays[f"W{layer.index}"] = (S * sigma(layer.bits.k_G)).astype(np.float32)
        if pattern.is_vanilla and not layer.is_last:
            ones = np.ones(layer.weight_shape[-1], np.float32)
            for name, value in (("gain", ones), ("offset", 0 * ones), ("mean", 0 * ones), ("variance", ones)):
                arrays[f"{name}{layer.index}"] = value
    if pattern.is_vanilla:
        arrays.update({f"momentum {name}": np.zeros_like(arrays[name]) for name in _trained(arrays)})
    return FloatState(arrays, seed)


def _trained(names: dict[str, Any]) -> list[str]:
    return [name for name in names if name.startswith(("W", "gain", "offset"))]


class _Quantized(torch.autograd.Function):
    """Q: round to k bits, halves to even, and clip; the gradient passes straight through."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, k: int) -> Tensor:
        return (torch.round(x / sigma(k)) * sigma(k)).clamp(-1 + sigma(k), 1 - sigma(k))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class _QuantizedError(torch.autograd.Function):
    """Nothing on the way up; Q_E on the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, k_E: int, gamma: int) -> Tensor:
        ctx.k_E, ctx.gamma = k_E, gamma
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        unit, top = sigma(ctx.k_E), 1 - sigma(ctx.k_E)
        scaled = gradient * (_one_over_shift(gradient) * ctx.gamma)
        return (torch.round(scaled / unit) * unit).clamp(-top, top).to(gradient.dtype), None, None


def _one_over_shift(x: Tensor) -> Tensor:
    """1 / Shift(max abs x); any number for zeros."""
    return power_of_two(-log2_round(peak(x)))


@dataclass(frozen=True, kw_only=True)
class FloatOptions:
    """Where it works, and in what numbers."""

    device: str | None = None
    dtype: torch.dtype = torch.float32


class FloatEngine:
    """Trains a network by a pattern; see `wage_neuro.engine.Engine`, whose interface it has.

    Parameters
    ----------
    network : Network
        Its shapes, and the code of the input; its bits are `pattern.bits`.
    dtype : float32, or float64, in which patterns without f are exact for any network
    device : 'cpu', 'cuda' or 'cuda:N', optional

    Raises
    ------
    SettingError
        If the rules are not the paper's but for batch, stored range and gamma.
    EngineError
        If the device is absent.

    >>> pattern = Pattern.parse("28ff")
    >>> net = Network.parse("2FC", (3,), bits=pattern.bits)
    >>> state, options = initial_float_state(net, pattern, 0), FloatOptions(device="cpu")
    >>> with FloatEngine(net, pattern, Rules(batch=4), state, options) as engine:
    ...     logits = engine.train(np.full((8, 3), 200, np.uint8), np.array([0, 1] * 4), log2_eta=0)
    >>> logits.shape, engine.state.step
    ((8, 2), 2)
    """

    name = "torch"

    def __init__(
        self,
        network: Network,
        pattern: Pattern,
        rules: Rules,
        state: FloatState,
        options: FloatOptions | None = None,
    ) -> None:
        options = options or FloatOptions()
        if replace(rules, batch=1, stored_range="authors", gamma=1) != Rules(batch=1):
            raise SettingError(
                "a pattern with f, or vanilla: want the paper's rules (shift, update, loss, ...)"
            )
        self.network, self.pattern, self.rules = network, pattern, rules
        self.device, self.dtype = find_device(options.device), options.dtype
        dtype = self.dtype
        self._tensors = {n: torch.tensor(a, dtype=dtype, device=self.device) for n, a in state.arrays.items()}
        self._seed, self._step = state.seed, state.step
        codes = network.input_codes * sigma(network.bits.k_A)
        self._codes = torch.tensor(codes, dtype=dtype, device=self.device)

    # --- what a user calls ---

    def train(self, images: np.ndarray, labels: np.ndarray, log2_eta: int | Control) -> np.ndarray:
        """Learn whole batches; answers in whole units of the target, of vanilla the probabilities."""
        if not isinstance(log2_eta, int):
            raise SettingError("a pattern with f, or vanilla: want one step size for all layers")
        check_training_input(self.network, self.rules, Batch(images, labels), log2_eta)
        right = torch.tensor(labels.astype(np.int64), device=self.device)
        answers = np.empty((len(images), self.network.classes), np.int64)
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=takes_tf32(self.pattern)):
            for i in range(0, len(images), self.rules.batch):
                part = slice(i, i + self.rules.batch)
                learn = self._learn_vanilla if self.pattern.is_vanilla else self._learn
                answers[part] = learn(self._encode(images[part]), right[part], 2.0**log2_eta)
                self._step += 1
        return answers

    @torch.no_grad()
    def predict(self, images: np.ndarray) -> np.ndarray:
        self.network.check_images(images)
        answers = np.empty((len(images), self.network.classes), np.int64)
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=takes_tf32(self.pattern)):
            for i in range(0, len(images), PREDICT_PART):
                part = slice(i, i + PREDICT_PART)
                z = self._forward(self._encode(images[part]), self._tensors, learning=False)
                answers[part] = self._answers(z)
        return answers

    @property
    def state(self) -> FloatState:
        arrays = {name: x.cpu().numpy().astype(np.float32) for name, x in self._tensors.items()}
        return FloatState(arrays, self._seed, self._step)

    def watch(self, every: int) -> None:
        if every:
            raise SettingError(f"watch every={every}: real numbers are no spikes")

    def activity(self) -> Activity:
        return Watch(len(self.network.layers), 0).take()

    def close(self) -> None:
        pass

    def __enter__(self) -> FloatEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- forward ---

    def _encode(self, images: np.ndarray) -> Tensor:
        x = torch.tensor(images.reshape(len(images), *self.network.input_shape), device=self.device)
        return self._codes[x.int()]

    def _answers(self, z: Tensor) -> np.ndarray:
        z = torch.softmax(z, 1) if self.pattern.is_vanilla else z
        return torch.round(z.detach().double() * self.network.layers[-1].target).long().cpu().numpy()

    def _forward(self, a: Tensor, tensors: dict[str, Tensor], learning: bool) -> Tensor:
        """Real logits (n, classes) of (n, *input_shape) input, by weights and the rest in `tensors`."""
        for layer in self.network.layers:
            W, z = tensors[f"W{layer.index}"], a
            if self.pattern.k_W:
                W = _Quantized.apply(W, self.pattern.k_W)
            z = _product(layer, z, W * 2.0**-layer.scale_shift)
            if layer.is_last:
                return self._error_gate(z)
            if self.pattern.is_vanilla:
                z = self._normalised(layer, z, tensors, learning)
            if pool := max_pool(layer.pool):
                top, bottom, left, right = layer.pool_padding
                z = functional.pad(z, (left, right, top, bottom), value=-math.inf)
                z = functional.max_pool2d(z, pool.size, pool.step)
            a = self._error_gate(functional.relu(z))
            if self.pattern.k_A:
                a = _Quantized.apply(a.clamp(max=1 - sigma(self.pattern.k_A)), self.pattern.k_A)
            a = a.permute(0, 2, 3, 1) if a.ndim == 4 else a
        raise AssertionError("a network has a last layer")

    def _error_gate(self, x: Tensor) -> Tensor:
        k_E = self.pattern.k_E
        return _QuantizedError.apply(x, k_E, self.rules.gamma) if k_E else x

    def _normalised(self, layer: Layer, z: Tensor, tensors: dict[str, Tensor], learning: bool) -> Tensor:
        gain, offset, mean, variance = (
            tensors[f"{name}{layer.index}"] for name in ("gain", "offset", "mean", "variance")
        )
        return functional.batch_norm(z, mean, variance, gain, offset, training=learning)

    # --- learning ---

    def _leaves(self) -> dict[str, Tensor]:
        return {
            name: x.detach().requires_grad_() if name in _trained(self._tensors) else x
            for name, x in self._tensors.items()
        }

    def _learn(self, x: Tensor, right: Tensor, eta: float) -> np.ndarray:
        leaves = self._leaves()
        z = self._forward(x, leaves, learning=True)
        D = z.detach() - functional.one_hot(right, self.network.classes)  # of the sum of squared errors
        gradients = torch.autograd.grad(z, list(leaves.values()), D)
        for layer, W, g in zip(self.network.layers, leaves.values(), gradients, strict=True):
            k_G = layer.bits.k_G
            bound = layer.bits.stored_max(self.rules.stored_range) * sigma(k_G)
            step = self._step_of(layer, g * (_one_over_shift(g) * eta))
            self._tensors[f"W{layer.index}"] = (W.detach() - step.to(self.dtype)).clamp(-bound, bound)
        return self._answers(z)

    def _step_of(self, layer: Layer, g: Tensor) -> Tensor:
        """Q_G of a scaled gradient: stochastic rounding by the integer run's random bits, or none."""
        k_G = self.pattern.k_G
        if not k_G:
            return FLOAT_STEP * g
        stream = self._seed, random_bits.UPDATE, layer.index, self._step
        r = random_bits.bits16(stream, 0, layer.n_weights, self.rules.generator).reshape(layer.weight_shape)
        noise = torch.tensor(r.astype(np.float64), device=self.device)
        steps = torch.floor((torch.floor(g.double().abs() * 2.0**16) + noise) * 2.0**-16)
        return sigma(k_G) * torch.sign(g) * steps

    def _learn_vanilla(self, x: Tensor, right: Tensor, eta: float) -> np.ndarray:
        leaves, names = self._leaves(), _trained(self._tensors)
        z = self._forward(x, leaves, learning=True)
        loss = functional.cross_entropy(z, right)
        gradients = torch.autograd.grad(loss, [leaves[name] for name in names])
        with torch.no_grad():
            for name, g in zip(names, gradients, strict=True):
                speed = MOMENTUM * self._tensors[f"momentum {name}"] + g + WEIGHT_DECAY * leaves[name]
                self._tensors[f"momentum {name}"] = speed
                self._tensors[name] = leaves[name].detach() - eta * speed
        return self._answers(z)


def takes_tf32(pattern: Pattern) -> bool:
    """Whether convolutions in TF32 lose nothing of codes; a pattern of integers alone takes float32.

    >>> [takes_tf32(Pattern.parse(text)) for text in ("28ff", "vanilla", "28fE", "2888")]
    [True, True, False, False]
    """
    widths = pattern.k_W, pattern.k_A, pattern.k_E
    return pattern.is_float and all(k is None or max_code(k) <= TF32_EXACT for k in widths)


def peak(x: Tensor) -> Tensor:
    """Largest magnitude in x, float64."""
    low, high = torch.aminmax(x)
    return torch.maximum(high, -low).double()


def log2_round(x: Tensor) -> Tensor:
    """round(log2 x) of whole x in 1 .. 2**53, exactly; -1 for 0."""
    fraction, exponent = torch.frexp(x)
    return exponent.long() - (fraction < _SQRT_HALF).long()


def power_of_two(exponent: Tensor) -> Tensor:
    """2.0**exponent in float64 by its bits: no device promises that its pow is exact."""
    return ((exponent + _FLOAT64_BIAS) << _FLOAT64_FRACTION).view(torch.float64)


def _product(layer: Layer, a: Tensor, W: Tensor) -> Tensor:
    """Product of (n, *in_shape) activations, or what reshapes to it: (n, units) or (n, channels, h, w)."""
    a = a.reshape(len(a), *layer.in_shape)
    match layer.spec:
        case Dense():
            return a @ W
        case Conv(stride=stride):
            top, bottom, left, right = layer.padding
            padded = functional.pad(a.permute(0, 3, 1, 2), (left, right, top, bottom))
            return functional.conv2d(padded, W.permute(3, 2, 0, 1), stride=stride)
        case _:
            assert_never(layer.spec)
