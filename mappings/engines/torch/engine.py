"""The accelerator engine: the numpy engine's bits in PyTorch tensors, on a CUDA device or the processor.

It needs PyTorch: pip install "wage-neuro[torch]". It is made for large batches: a batch takes some hundreds
of tensor operations whatever its size. Weights and exponents stay on the device from call to call, images go
there once a call, and no operation waits for the value of another.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mappings.engines.torch import kernels
from wage_neuro import activity, layers, random_bits, softmax
from wage_neuro.activity import Activity, Watch
from wage_neuro.bits import code_dtype, max_code
from wage_neuro.control import Control, LayerControl, control_of
from wage_neuro.engine import Engine
from wage_neuro.errors import EngineError, SettingError
from wage_neuro.feedback import feedback_weights
from wage_neuro.fixed_point import carrier
from wage_neuro.kinds import Kind
from wage_neuro.layers import Layer
from wage_neuro.loss import log2_one
from wage_neuro.network import Network
from wage_neuro.rules import MARGIN_UNITS, VALUES, Rules
from wage_neuro.specs import AvgPool, MaxPool, assert_never
from wage_neuro.state import as_ruled
from wage_neuro.support import Support
from wage_neuro.train import PREDICT_PART, Held, LayerState, State, initial_state
from wage_neuro.update import MOMENTUM_BITS

if TYPE_CHECKING:
    from mappings.engines.torch.fused import FusedNetwork

FUSED_DEVICES = {"cuda"}
PART_BYTES = {"cpu": 2 << 20, "cuda": 1 << 30}
"""Patches and their products a part of the batch: what stays in a processor's cache, or fills a device."""


def find_device(name: str | None = None) -> torch.device:
    """Return the device called 'cpu', 'cuda' or 'cuda:N'; without a name CUDA where there is one.

    Raises
    ------
    SettingError
        If it is none of these.
    EngineError
        If PyTorch finds no such accelerator here.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind not in PART_BYTES or (kind == "cpu" and ":" in name) or (":" in name and not number.isdecimal()):
        raise SettingError(f"device {name!r}: want cpu, cuda or cuda:N")
    if kind == "cuda" and not (torch.cuda.is_available() and int(number or 0) < torch.cuda.device_count()):
        raise EngineError(f"device {name!r}: PyTorch {torch.__version__} finds no such accelerator here")
    return torch.device(name)


def find_fused(network: Network, rules: Rules, device: torch.device) -> type[FusedNetwork] | None:
    """The fused kernels, on a CUDA device that has Triton, for a network and rules that they can hold."""
    if device.type not in FUSED_DEVICES or not find_spec("triton"):
        return None
    from mappings.engines.torch.fused import FusedNetwork, misfit

    return None if misfit(network, rules) else FusedNetwork


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
        counter = start + low * (
            step & 0xFFFFFFFF
        )  # worked on the device: numbers sent there would be waited for
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
                    if all(np.array_equal(_array(self.on_device(*at)), self._wanted(*at)) for at in places):
                        return
        raise EngineError(f"device {str(self.device)!r}: its random bits are not numpy's")


_Pair = tuple[Tensor, Tensor]


@dataclass
class _Kept:
    """What a layer keeps of a forward pass, as `wage_neuro.layers.Kept`."""

    a_in: Tensor
    active: Tensor | None = None
    unsaturated: Tensor | None = None
    winner: Tensor | None = None

    def to_numpy(self) -> layers.Kept:
        return layers.Kept(_array(self.a_in), winner=None if self.winner is None else _array(self.winner))


class _Exponent:
    """A peak-hold exponent on the device, as `wage_neuro.train.Held`; or a fixed one, which holds nothing."""

    def __init__(self, held: Held, rules: Rules, device: torch.device, fixed: int | None) -> None:
        self.is_held, self.fixed = rules.shift == "held", fixed
        exponent = kernels.NONE if held.exponent is None else held.exponent
        self.exponent, self.below = (torch.tensor(value, device=device) for value in (exponent, held.below))

    def scale(self, peak: Tensor, shift: int, samples: int, hold: int) -> Tensor:
        """2**shift / Shift for this batch, 0 while nothing is known; then learn from its peak."""
        if self.fixed is not None:
            return torch.tensor(2.0 ** (shift - self.fixed), dtype=torch.float64)
        if not self.is_held:  # for a peak of 0 any will do: all is 0
            return kernels.power_of_two(shift - kernels.log2_round(peak))
        scale = torch.where(self.exponent == kernels.NONE, 0.0, kernels.power_of_two(shift - self.exponent))
        self.exponent, self.below = kernels.held_after(self.exponent, self.below, peak, samples, hold)
        return scale

    def read(self) -> Held:
        exponent = int(self.exponent)
        return Held(None if exponent == kernels.NONE else exponent, int(self.below))


class _Layer:
    """One layer with its weights on a device.

    S : stored weights, V : visible ones, both (fan_in, n_out); B : fixed feedback weights, or None
    """

    def __init__(
        self,
        layer: Layer,
        classes: int,
        rules: Rules,
        state: State,
        device: torch.device,
        bits: RandomBits,
        in_bytes: bool,
    ) -> None:
        self.layer, self.rules, self.random = layer, rules, bits
        self.types = kernels.types_of(layer, in_bytes)
        self.bound = layer.bits.stored_max(rules.stored_range)
        S = state.S[layer.index]
        if (highest := int(np.abs(S.astype(np.int32)).max())) > self.bound:
            raise SettingError(
                f"stored weights of layer {layer.index} reach {highest}:"
                f" stored_range={rules.stored_range!r} ends at {self.bound}"
            )
        self.S = torch.tensor(S.reshape(layer.fan_in, -1), dtype=torch.float32, device=device)
        self.V = self._visible()
        M = state.layers[layer.index].momentum
        self.M = None
        if M is not None:
            self.M = torch.tensor(M.reshape(layer.fan_in, -1), dtype=torch.float32, device=device)
        B = feedback_weights(layer, classes, rules, state.seed)
        self.B = None if B is None else torch.tensor(B, device=device)
        fixed: tuple[int | None, int | None] = (None, None)
        if not layer.quantized:
            fixed = layer.error_exponent, layer.gradient_exponent(rules.samples_an_update)
        self.error = _Exponent(state.error_held[layer.index], rules, device, fixed[0])
        self.gradient = _Exponent(state.gradient_held[layer.index], rules, device, fixed[1])
        self.part = PREDICT_PART
        if layer.positions > 1:
            place = layer.fan_in * self.types.codes.itemsize + layer.weight_shape[-1] * 4
            self.part = max(1, PART_BYTES[device.type] // (layer.positions * place))

    def _visible(self) -> Tensor:
        bits = self.layer.bits
        V = (self.S * 2.0 ** (bits.k_W - bits.k_G)).round_().clamp_(-bits.weight_max, bits.weight_max)
        return V.to(self.types.z)

    # --- forward ---

    def forward(self, a_in: Tensor) -> tuple[Tensor, _Kept]:
        """One layer forward, as `wage_neuro.layers.forward`: activation codes, Z of the last int64."""
        a_in = a_in.view(-1, *self.layer.in_shape)
        if self.layer.is_last:
            return self._product(a_in).long(), _Kept(a_in)
        parts = [self._activations(a) for a in a_in.split(self.part)]
        out, active, unsaturated, *winner = (torch.cat(each) for each in zip(*parts, strict=True))
        return out, _Kept(a_in, active, unsaturated, *winner)

    def _product(self, a: Tensor) -> Tensor:
        a = a.to(self.types.z)
        return kernels.product(kernels.rows_of(self.layer, a), self.V).view(-1, *self.layer.z_shape)

    def _activations(self, a: Tensor) -> tuple[Tensor, ...]:
        layer, top, Z = self.layer, self.layer.bits.activation_max, self._product(a)
        winner: list[Tensor] = []
        match layer.pool:
            case None:
                pass
            case MaxPool():
                Z, *winner = kernels.max_pool(layer, Z)
            case AvgPool():
                Z = kernels.sum_pool(layer, Z)
            case _:
                assert_never(layer.pool)
        active, unsaturated = Z > 0, torch.le(Z, top << layer.a_shift)
        A = Z.to(kernels.TYPES[layer.z_dtype]).mul_(2.0**-layer.a_shift)
        A.round_().clamp_(0, top)  # halves to even
        return A.to(self.types.codes), active, unsaturated, *winner

    # --- backward ---

    def receive(self, message: Tensor, kept: _Kept, hold: int) -> Tensor:
        """Q_E and both masks: the codes E of the error message that arrives."""
        layer, top = self.layer, self.layer.bits.error_max
        if self.rules.feedback == "direct" and not layer.is_last:
            assert self.B is not None
            message = message.to(self.B.dtype) @ self.B
        D = message.view(-1, *layer.out_shape)
        if kept.unsaturated is not None:
            D = D.mul_(kept.unsaturated)
        shift = layer.bits.k_E - 1 + self.rules.log2_gamma
        scale = self.error.scale(kernels.peak(D), shift, len(D), hold)
        E = (D * scale).round_().clamp_(-top, top).to(self.types.codes)
        return E if kept.active is None else E.mul_(kept.active)

    def factors(self, kept: _Kept, E: Tensor, log2_eta: int | None, step: int) -> _Pair | None:
        """What meets at the weights: A and E, or spikes drawn from them; None if they are frozen."""
        if log2_eta is None:
            return None
        if self.rules.update != "coincidence":
            return kept.a_in, E

        def draw(codes: Tensor, log2_probability: int, purpose: int) -> Tensor:
            r = self.random(purpose, self.layer.index, step, codes.numel()).view(codes.shape)
            return codes.sign() * (r < codes.abs() * 2.0 ** (16 + log2_probability))

        bits = self.layer.bits
        pre = draw(kept.a_in, 1 - bits.k_A, random_bits.PRE)
        return pre, draw(E, log2_eta + 1 - bits.k_E, random_bits.POST)

    def backward(self, kept: _Kept, E: Tensor, factors: _Pair | None) -> tuple[Tensor | None, Tensor | None]:
        """Gradient of the weights, and the sums for the layer below; None where there are none."""
        layer, rules = self.layer, self.rules
        W_back = None
        if layer.index and rules.feedback != "direct":
            W_back = (self.V if self.B is None else self.B).to(self.types.d)
        G: Tensor | None = None
        D = []
        for i in range(0, len(E), self.part):
            part = slice(i, i + self.part)
            E_z = self._places(E, kept, part)
            if W_back is not None:
                back = kernels.send_back(layer, E_z.to(self.types.d), W_back)
                D.append(back.to(kernels.TYPES[layer.d_dtype]))
            if factors:
                pre, post = factors
                a = kernels.rows_of(layer, pre[part].to(self.types.g))
                e = E_z if post is E else self._places(post, kept, part)
                e = e.reshape(-1, layer.weight_shape[-1]).to(self.types.g)
                sums = kernels.gradient_product(a, e, self.types.rows)
                G = sums if G is None else G.double() + sums
        if G is not None:
            G = G.to(kernels.TYPES[carrier(layer.g_bound(rules.samples_an_update))])
        return G, torch.cat(D) if D else None

    def _places(self, E: Tensor, kept: _Kept, part: slice) -> Tensor:
        """Errors (n, *z_shape) at each place of Z, of some samples."""
        match self.layer.pool:
            case None:
                return E[part].view(-1, *self.layer.z_shape)
            case MaxPool():
                assert kept.winner is not None
                return kernels.unpool(self.layer, E[part], kept.winner[part])
            case AvgPool():
                return kernels.spread(self.layer, E[part])
            case _:
                assert_never(self.layer.pool)

    # --- update ---

    def update(self, G: Tensor, samples: int, log2_eta: int, hold: int, step: int) -> None:
        """Q_G and the clipped step, as `wage_neuro.layers.update`."""
        if self.rules.update == "coincidence":
            dS = G.clamp(-1, 1)
        else:
            step_max = 1 if self.rules.update == "ternary" else 2 * self.bound
            peak = kernels.peak(G)
            if self.M is None:
                scale = self.gradient.scale(peak, log2_eta + 16, samples, hold)
            else:
                scale = self.gradient.scale(peak, MOMENTUM_BITS - 1 - self.rules.momentum, samples, hold)
                moves = (peak > 0) & (scale > 0)
                G = self.M = torch.where(moves, self._momentum_after(G, scale), self.M)
                scale = moves * 2.0 ** (log2_eta + 17 - MOMENTUM_BITS)
            quotient = (G * scale).abs_().floor_().mul_(2.0**-16).clamp_(max=step_max)
            quotient = quotient.to(kernels.TYPES[carrier((step_max + 1) << 16)])
            r = self.random(random_bits.UPDATE, self.layer.index, step, G.numel()).view(G.shape)
            dS = quotient.add_(r.to(quotient.dtype).mul_(2.0**-16)).floor_().copysign_(G)
        self.S = (self.S - dS).float().clamp_(-self.bound, self.bound)
        self.V = self._visible()

    def _momentum_after(self, G: Tensor, scale: Tensor) -> Tensor:
        """As `wage_neuro.layers.momentum_after`, of codes G * scale."""
        assert self.M is not None
        top = max_code(MOMENTUM_BITS)
        code = (G * scale).round_().clamp_(-top, top).float()
        return (self.M - (self.M * 2.0**-self.rules.momentum).round_() + code).clamp_(-top, top)

    def kept(self) -> np.ndarray | None:
        """Momentum as a `State` has it."""
        return None if self.M is None else _array(self.M).astype(np.int16).reshape(self.layer.weight_shape)

    def stored(self) -> np.ndarray:
        """S as a `State` has it."""
        codes = _array(self.S).astype(code_dtype(self.layer.bits.k_G))
        return codes.reshape(self.layer.weight_shape)


class TorchEngine(Engine):
    """An engine of tensor operations; see `wage_neuro.engine.Engine`.

    Parameters
    ----------
    state : State, optional
        Where to go on from; otherwise the initial state of `seed`.
    device : 'cpu', 'cuda' or 'cuda:N', optional
        Where to work; CUDA where there is one if not given.

    Raises
    ------
    SettingError
        If a gradient of this batch may leave 53 bits, or a stored weight is outside the rules' range.
    SettingError
        For rules that it has not; see `supports`.
    EngineError
        If the device is absent.

    >>> net = Network.parse("2FC", (3,))
    >>> with TorchEngine(net, Rules(batch=4), device="cpu") as engine:
    ...     logits = engine.train(np.full((8, 3), 200, np.uint8), np.array([0, 1] * 4), log2_eta=0)
    >>> logits.shape, engine.state.step
    ((8, 2), 2)
    """

    name = "torch"
    supports = Support(
        who="engine 'torch'",
        kinds=frozenset(Kind) - {Kind.NORMALISED},
        rules={**VALUES, "pipelined": (False,), "metaplasticity": (0,), "consolidation": (0,)},
        abilities=frozenset({"counts activity"}),
        options={"device": "cpu, cuda or cuda:N"},
    )

    def __init__(
        self,
        network: Network,
        rules: Rules | None = None,
        seed: int = 0,
        state: State | None = None,
        device: str | None = None,
    ) -> None:
        super().__init__(network, rules)
        self.device = find_device(device)
        self._largest = max(map(_largest_factor, network.layers))
        kernels.prove_products(self.device, self._largest)
        state = state or initial_state(network, seed)
        self._seed = state.seed
        self._in_bytes = kernels.int8_is_exact(self.device)
        self._softmax = tuple(torch.tensor(table, device=self.device) for table in softmax.tables())
        self._codes = torch.tensor(network.input_codes, device=self.device)
        self._watch = Watch(len(network.layers), 0)
        self._hold(state)

    def _hold(self, state: State) -> None:
        """Take a state to the device: into fused kernels where they can hold it, which count no activity."""
        state = as_ruled(self.network, state, self.rules)
        self._step, self._layers = state.step, []
        fused = None if self._watch.every else find_fused(self.network, self.rules, self.device)
        self._fused: FusedNetwork | None = None
        if fused:
            self._fused = fused(self.network, self.rules, state, self.device, self._output_error)
            return
        bits = RandomBits(state.seed, self.device, self.rules.generator)
        self._layers = [
            _Layer(layer, self.network.classes, self.rules, state, self.device, bits, self._in_bytes)
            for layer in self.network.layers
        ]
        self._codes = self._codes.to(self._layers[0].types.codes)

    # --- what a user calls ---

    @torch.inference_mode()
    def learn(self, images: np.ndarray, labels: np.ndarray, control: int | Control) -> np.ndarray:
        controls = control_of(control).of_layers(len(self.network.layers), self.rules)
        x, y = self._upload(images), torch.tensor(labels.astype(np.int64), device=self.device)
        if self._fused:
            return _array(self._fused.train(x, y, controls))
        logits = torch.empty(len(x), self.network.classes, dtype=torch.int64, device=self.device)
        with kernels.exact_products(self.device, self._largest):
            for i in range(0, len(x), self.rules.batch):
                part = slice(i, i + self.rules.batch)
                logits[part] = self._batch(self._encode(x[part]), y[part], controls)
        return _array(logits)

    @torch.inference_mode()
    def predict(self, images: np.ndarray) -> np.ndarray:
        self.network.check_images(images)
        x = self._upload(images)
        if self._fused:
            return _array(self._fused.predict(x))
        logits = torch.empty(len(x), self.network.classes, dtype=torch.int64, device=self.device)
        with kernels.exact_products(self.device, self._largest):
            for i in range(0, len(x), PREDICT_PART):
                part = slice(i, i + PREDICT_PART)
                logits[part], _ = self._forward(self._encode(x[part]), bool(self._watch.every))
        return _array(logits)

    @torch.inference_mode()
    def watch(self, every: int) -> None:
        moves = bool(every) != bool(self._watch.every)
        state = self.state if moves else None
        self._watch = Watch(len(self.network.layers), every)
        if state:
            self._hold(state)

    def activity(self) -> Activity:
        return self._watch.take()

    @property
    def state(self) -> State:
        if self._fused:
            return self._fused.state
        found = [
            LayerState(
                S=each.stored(),
                error_held=each.error.read(),
                gradient_held=each.gradient.read(),
                momentum=each.kept(),
            )
            for each in self._layers
        ]
        return State(layers=tuple(found), seed=self._seed, step=self._step)

    # --- the order of the work ---

    def _upload(self, images: np.ndarray) -> Tensor:
        return torch.tensor(images.reshape(len(images), *self.network.input_shape), device=self.device)

    def _encode(self, images: Tensor) -> Tensor:
        return self._codes[images.int()]

    def _forward(self, a: Tensor, watched: bool) -> tuple[Tensor, list[_Kept]]:
        kept = []
        for layer in self._layers:
            a, keep = layer.forward(a)
            kept.append(keep)
            if watched:
                counts = self._watch.counts[layer.layer.index]
                activity.count_forward(counts, layer.layer, _array(layer.V), _array(keep.a_in), _array(a))
        self._watch.samples += len(a) if watched else 0
        return a, kept

    def _batch(self, x: Tensor, labels: Tensor, controls: tuple[LayerControl, ...]) -> Tensor:
        """Learn one batch; return the logits it had before."""
        Z, kept = self._forward(x, self._watch.wants(self._step))
        message: Tensor | None = self._output_error(Z, labels, self._step)
        for layer in reversed(self._layers):
            assert message is not None
            i = layer.layer.index
            message = self._learn(layer, message, kept[i], controls[i])
        self._step += 1
        return Z

    def _learn(self, layer: _Layer, message: Tensor, kept: _Kept, control: LayerControl) -> Tensor | None:
        """Let a layer learn from the error message that arrives; return the one that goes on."""
        log2_eta, hold, before = control.log2_eta, control.hold, (layer.S, layer.V)
        E = layer.receive(message, kept, hold)
        factors = layer.factors(kept, E, log2_eta, self._step)
        G, D = layer.backward(kept, E, factors)
        if G is not None and log2_eta is not None:
            layer.update(G, len(E), log2_eta, hold, self._step)
        if self._watch.wants(self._step):
            self._count(layer, message, kept, E, factors, D is not None, before)
        if self.rules.feedback == "direct":
            return E if layer.layer.is_last else message
        return D

    def _count(
        self,
        layer: _Layer,
        message: Tensor,
        kept: _Kept,
        E: Tensor,
        factors: _Pair | None,
        sends: bool,
        before: _Pair,
    ) -> None:
        spec, counts, seen = layer.layer, self._watch.counts[layer.layer.index], kept.to_numpy()
        if self.rules.feedback == "direct" and layer.B is not None:
            activity.count_direct_feedback(counts, _array(layer.B), _array(message))
        pair = (_array(factors[0]), _array(factors[1])) if factors else None
        activity.count_error(counts, spec, seen, _array(E), pair)
        if sends:
            W_back = before[1] if layer.B is None else layer.B
            activity.count_feedback(counts, spec, _array(W_back), seen, _array(E))
        activity.count_updates(counts, _array(before[0]), _array(layer.S))

    def _output_error(self, Z: Tensor, labels: Tensor, step: int | Tensor) -> Tensor:
        """Error at the output, as `wage_neuro.layers.output_error`, int64."""
        last, rules, right = self.network.layers[-1], self.rules, labels[:, None]
        target = last.target
        if rules.loss == "softmax":
            D = kernels.probabilities(Z, log2_one(last, rules), self._softmax)
            D = D.scatter_add(1, right, torch.full_like(right, -softmax.ONE))
        else:
            D = Z.scatter_add(1, right, torch.full_like(right, -target))
        if rules.loss == "one-sided":
            D = D.clamp(min=0).scatter(1, right, D.gather(1, right).clamp(max=0))
        if rules.margin:
            others = Z.scatter(1, right, torch.iinfo(Z.dtype).min).amax(1) if Z.shape[1] > 1 else 0
            lead = Z.gather(1, right)[:, 0] - others
            D = D.masked_fill((lead * MARGIN_UNITS >= rules.margin * target)[:, None], 0)
        if rules.new_shift:
            number = step * len(Z) + torch.arange(len(Z), device=Z.device)
            calm = D.sign() * (D.abs() >> rules.new_shift)
            D = torch.where((number % rules.new_period < rules.new_samples)[:, None], calm, D)
        return D


def _largest_factor(layer: Layer) -> int:
    """Largest factor of a layer's products in float32; 1 when it has none."""
    if np.float32 not in (layer.z_dtype, layer.d_dtype, layer.gradient_rows[1]):
        return 1
    return max(layer.bits.weight_max, layer.bits.activation_max, layer.spread_error_max)


def _array(x: Tensor) -> np.ndarray:
    return x.cpu().numpy()
