"""The passes of a layer in PyTorch tensors, on a CUDA device or the processor: `wage_neuro.passes`.

Weights and codes stay on the device; peaks come back, as the learner makes exponents of them. Products,
pooling, quantization, momentum and the update are here. What is rare, or small, is numpy's: the error at the
output, spikes, projections of normalised layers, steps that are damped.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mappings.engines.torch import kernels
from wage_neuro import normal, random_bits
from wage_neuro.bits import max_code
from wage_neuro.errors import EngineError
from wage_neuro.fixed_point import carrier
from wage_neuro.layers import Kept, Layer, Move
from wage_neuro.network import Network
from wage_neuro.passes import Passes
from wage_neuro.rules import Rules
from wage_neuro.specs import AvgPool, MaxPool, assert_never
from wage_neuro.train import PREDICT_PART
from wage_neuro.update import MOMENTUM_BITS

PART_BYTES = {"cpu": 2 << 20, "cuda": 1 << 30}
"""Patches and their products a part of the batch: what stays in a processor's cache, or fills a device."""


class RandomBits:
    """16-bit random numbers of one run, as float32 on its device; see `wage_neuro.random_bits`.

    A processor has numpy draw them. A device draws its own, by one compiled operation if that gives numpy's
    bits: where integers overflow, compilers have been wrong.
    """

    def __init__(self, seed: int, device: torch.device, generator: str = "philox4x64") -> None:
        self.seed, self.device, self.generator = seed, device, generator
        self._words: dict[tuple[int, int], kernels.PhiloxWords] = {}  # by purpose and layer
        self._blocks: dict[int, Tensor] = {}  # by count
        self._draw: Callable[[Tensor, Tensor, Tensor], Tensor] = self._plain()
        if device.type != "cpu":
            self.choose()

    def _plain(self) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        return kernels.philox16 if self.generator == "philox4x64" else kernels.philox16_4x32

    def __call__(self, purpose: int, layer: int, step: int, count: int) -> Tensor:
        if self.device.type != "cpu":
            return self.on_device(purpose, layer, step, count)
        return torch.from_numpy(self._wanted(purpose, layer, step, count).astype(np.float32))

    def _wanted(self, *place: int) -> np.ndarray:
        purpose, layer, step, count = place
        return random_bits.bits16((self.seed, purpose, layer, step), 0, count, self.generator)

    def on_device(self, purpose: int, layer: int, step: int, count: int) -> Tensor:
        """Draw by tensor operations."""
        if (purpose, layer) not in self._words:
            place = self.seed, purpose, layer
            self._words[purpose, layer] = kernels.philox_words(self.generator, place, self.device)
        words = self._words[purpose, layer]
        if count not in self._blocks:
            blocks = max(2, -(-count // words.block))  # compiled code would be made anew for 1
            self._blocks[count] = words.first + torch.arange(blocks, device=self.device)
        start, low, high = words.counter
        # worked on the device: numbers sent there would be waited for
        counter = start + low * (step & 0xFFFFFFFF)
        if step >> 32:
            counter = counter + high * (step >> 32)
        return self._draw(words.constants, counter, self._blocks[count])[:count]

    @torch.inference_mode()
    def choose(self) -> None:
        """Draw by compiled code from now on, or else by plain operations, once the bits are numpy's.

        Raises
        ------
        EngineError
            If they never are.
        """
        places = [(random_bits.UPDATE, 3, 2**40 + 1, count) for count in (1, 100, 70_001)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's compiler warns of PyTorch's own code
            makers: tuple[Callable[[Any], Any], ...] = (
                partial(torch.compile, dynamic=True),
                lambda draw: draw,
            )
            for make in makers:
                with contextlib.suppress(RuntimeError):  # no compiler here
                    self._draw = make(self._plain())
                    if all(np.array_equal(self.on_device(*at).cpu(), self._wanted(*at)) for at in places):
                        return
        raise EngineError(f"device {str(self.device)!r}: its random bits are not numpy's")


class TorchPasses(Passes):
    """Passes on a device.

    Raises
    ------
    EngineError
        If its products of small integers, or its random bits, are not exact.
    """

    def __init__(self, network: Network, rules: Rules, seed: int, device: torch.device) -> None:
        self.device, self.largest = device, max(map(_largest_factor, network.layers))
        kernels.prove_products(device, self.largest)
        self.in_bytes = kernels.int8_is_exact(device)
        self.random = RandomBits(seed, device, rules.generator)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Let PyTorch multiply as fast as is exact, and keep nothing for derivatives."""
        with torch.inference_mode(), kernels.exact_products(self.device, self.largest):
            yield

    def own(self, x: np.ndarray) -> Tensor:
        return torch.tensor(x, device=self.device)

    def host(self, x: Tensor) -> np.ndarray:
        found: np.ndarray = x.cpu().numpy()
        return found

    def _types(self, layer: Layer) -> kernels.Types:
        return kernels.types_of(layer, self.in_bytes)

    def _part(self, layer: Layer) -> int:
        """Samples a part of a convolution."""
        if layer.positions == 1:
            return PREDICT_PART
        place = layer.fan_in * self._types(layer).z.itemsize + layer.weight_shape[-1] * 4
        return max(1, PART_BYTES[self.device.type] // (layer.positions * place))

    # --- forward ---

    def visible_weights(self, layer: Layer, S: Tensor) -> Tensor:
        bits = layer.bits
        V = S.view(layer.fan_in, -1).float().mul_(2.0 ** (bits.k_W - bits.k_G)).round_()
        return V.clamp_(-bits.weight_max, bits.weight_max).to(self._types(layer).z)

    def forward(
        self, layer: Layer, V: Tensor, a_in: Tensor, norm: np.ndarray | None = None
    ) -> tuple[Tensor, Kept]:
        if layer.is_last:
            return self._product(layer, V, a_in).long(), Kept(a_in)
        parts = [self._activations(layer, V, a, norm) for a in a_in.split(self._part(layer))]
        out, *kept = (_joined(each) for each in zip(*parts, strict=True))
        return out, Kept(a_in, *kept)

    def _product(self, layer: Layer, V: Tensor, a: Tensor) -> Tensor:
        return kernels.product(kernels.rows_of(layer, a.to(V.dtype)), V).view(-1, *layer.z_shape)

    def _activations(
        self, layer: Layer, V: Tensor, a: Tensor, norm: np.ndarray | None
    ) -> tuple[Tensor | None, ...]:
        """Codes; and whether Z > 0, whether it is past the codes, the winner and the codes before ReLU."""
        top, Z, winner, u = layer.bits.activation_max, self._product(layer, V, a), None, None
        match layer.pool:
            case None:
                pass
            case MaxPool():
                Z, winner = kernels.max_pool(layer, Z)
            case AvgPool():
                Z = kernels.sum_pool(layer, Z)
            case _:
                assert_never(layer.pool)
        if norm is None:
            active, saturated = Z > 0, torch.gt(Z, top << layer.a_shift)
            A = Z.to(kernels.TYPES[layer.z_dtype]).mul_(2.0**-layer.a_shift)
            return A.round_().clamp_(0, top).to(_codes(layer.bits.k_A)), active, saturated, winner, u
        centre, share = normal.round_shift(norm[0], normal.FRACTION), np.ldexp(1.0, -norm[2])
        U = Z.to(kernels.TYPES[layer.z_dtype]) - self.own(centre.astype(layer.z_dtype))
        U *= self.own(share.astype(layer.z_dtype))
        active, saturated = U > 0, top < U
        u = U.round_().clamp_(-top, top).to(_codes(layer.bits.k_A))  # halves to even
        return u.clamp(min=0), active, saturated, winner, u

    # --- backward ---

    def arriving_error(self, layer: Layer, message: Tensor, B: Tensor | None, rules: Rules) -> Tensor:
        if rules.feedback == "direct" and B is not None:
            message = message.to(B.dtype) @ B
        return message.reshape(len(message), *layer.out_shape)

    def mask_saturated(self, kept: Kept, D: Tensor) -> int:
        if kept.saturated is not None:
            D.mul_(~kept.saturated)  # three times as fast as masked_fill_
        return self.peak(D)

    def peak(self, x: Tensor) -> int:
        if not x.numel():
            return 0
        low, high = torch.aminmax(x)
        return max(int(high), -int(low))

    def error_codes(self, layer: Layer, kept: Kept, D: Tensor, exponent: int | None) -> Tensor:
        bits = layer.bits
        if exponent is None:
            return torch.zeros(D.shape, dtype=_codes(bits.k_E), device=D.device)
        scaled = (D if D.is_floating_point() else D.double()) * 2.0 ** (bits.k_E - 1 - exponent)
        E = scaled.round_().clamp_(-bits.error_max, bits.error_max).to(_codes(bits.k_E))
        return E if kept.active is None or kept.u is not None else E.mul_(kept.active)

    def backward(
        self,
        layer: Layer,
        W_back: Tensor | None,
        kept: Kept,
        E: Tensor,
        factors: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor | None, Tensor | None]:
        types, size = self._types(layer), self._part(layer)
        W_d = W_back.to(types.d) if layer.index and W_back is not None else None
        G: Tensor | None = None
        D = []
        for i in range(0, len(E), size):
            part = slice(i, i + size)
            E_z = _places(layer, E[part].to(types.e), kept, part)
            if W_d is not None:
                back = kernels.send_back(layer, E_z.to(types.d), W_d)
                D.append(back.to(kernels.TYPES[layer.d_dtype]))
            if factors:
                pre, post = factors
                a = kernels.rows_of(layer, pre[part].to(types.g))
                e = E_z if post is E else _places(layer, post[part].to(types.e), kept, part)
                e = e.reshape(-1, layer.weight_shape[-1]).to(types.g)
                sums = kernels.gradient_product(a, e, types.rows)
                G = sums if G is None else G.double() + sums
        if G is not None:
            G = G.to(kernels.TYPES[carrier(layer.g_bound(len(E)))])
        return G, _joined(D) if D else None

    # --- update ---

    def momentum_after(
        self, layer: Layer, M: Tensor, G: Tensor, exponent: int, rules: Rules
    ) -> tuple[Tensor, Tensor]:
        top, m = max_code(MOMENTUM_BITS), M.float().view(G.shape)
        code = (G * 2.0 ** (MOMENTUM_BITS - 1 - rules.momentum - exponent)).round_().clamp_(-top, top).float()
        after = (m - (m * 2.0**-rules.momentum).round_() + code).clamp_(-top, top)
        return after.to(M.dtype).view(M.shape), after

    def update(self, layer: Layer, S: Tensor, G: Tensor, how: Move, rules: Rules) -> Tensor:
        if how.importance is not None or rules.metaplasticity:
            return super().update(layer, S, G, how, rules)
        bound = layer.bits.stored_max(rules.stored_range)
        if rules.update == "coincidence":
            dS = G.clamp(-1, 1)
        elif how.exponent is None:
            return S
        else:
            step_max = 2 * bound if rules.update == "wide" else 1
            quotient = (G * 2.0 ** (how.log2_eta + 16 - how.exponent)).abs_().floor_().mul_(2.0**-16)
            quotient = quotient.clamp_(max=step_max).to(kernels.TYPES[carrier((step_max + 1) << 16)])
            r = self.random(random_bits.UPDATE, layer.index, how.step, G.numel()).view(G.shape)
            dS = quotient.add_(r.to(quotient.dtype).mul_(2.0**-16)).floor_().copysign_(G)
        new = S.view(G.shape).to(dS.dtype).sub_(dS).clamp_(-bound, bound)
        return new.to(S.dtype).view(S.shape)


def _joined(parts: Sequence[Any]) -> Any:
    """One tensor of those of the parts of a batch; None of nothing."""
    return parts[0] if len(parts) == 1 or parts[0] is None else torch.cat(tuple(parts))


def _places(layer: Layer, E: Tensor, kept: Kept, part: slice) -> Tensor:
    """Errors (n, *z_shape) at each place of Z, of the part of the samples that E is of."""
    match layer.pool:
        case None:
            return E.view(-1, *layer.z_shape)
        case MaxPool():
            assert kept.winner is not None
            return kernels.unpool(layer, E, kept.winner[part])
        case AvgPool():
            return kernels.spread(layer, E)
        case _:
            assert_never(layer.pool)


def _codes(bits: int) -> torch.dtype:
    return torch.int8 if bits <= 8 else torch.int16


def _largest_factor(layer: Layer) -> int:
    """Largest factor of a layer's products in float32; 1 when it has none."""
    if np.float32 not in (layer.z_dtype, layer.d_dtype, layer.gradient_rows[1]):
        return 1
    return max(layer.bits.weight_max, layer.bits.activation_max, layer.spread_error_max)
