"""The compiled engine: the numpy engine's bits at the speed of machine code, above all for batch = 1.

It needs numba: pip install "wage-neuro[compiled]". The first run compiles for some seconds.
"""

from __future__ import annotations

import itertools

import numpy as np

from mappings import compiled_kernels as kernels
from wage_neuro import activity, random_bits
from wage_neuro.activity import Activity, Watch
from wage_neuro.bits import code_dtype
from wage_neuro.control import Control, LayerControl, control_of
from wage_neuro.engine import Engine, check_former, check_training_input, prove_gradients
from wage_neuro.errors import SettingError
from wage_neuro.feedback import feedback_weights
from wage_neuro.layers import UNKNOWN, Kept, Layer
from wage_neuro.network import Network
from wage_neuro.rules import LINEAR, Rules
from wage_neuro.schedule import Schedule
from wage_neuro.specs import Conv
from wage_neuro.train import Held, State, consolidated, importance_of, initial_state

PART = 64  # samples that are encoded, and answered, together


class _Samples:
    """Room of one layer for n samples in flight: what passes it, and what it keeps until the error comes.

    a : input codes; Z : products; out, gate, winner : see `kernels.activate`; D, E : error and its codes
    """

    def __init__(self, layer: Layer, n: int) -> None:
        bits, image, pooled = layer.bits, _as_image(layer.z_shape), _as_image(layer.out_shape)
        self.Z = np.empty((n, *image), _integer(layer.z_bound))
        self.out = np.empty((n, *pooled), code_dtype(bits.k_A))
        self.gate = np.full((n, *pooled), kernels.ACTIVE, np.uint8)
        self.winner = np.zeros((n, *pooled), np.uint8)
        self.D = np.empty((n, *pooled), np.int64)
        self.E = np.empty((n, *pooled), code_dtype(bits.k_E))
        self.a = np.empty((n, *layer.in_shape), code_dtype(bits.k_A))
        self.pre, self.post = np.empty_like(self.a), np.empty_like(self.E)


def _as_image(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (1,) * (3 - len(shape)) + shape


def _integer(bound: int) -> type[np.signedinteger]:
    return np.int32 if bound < 2**31 else np.int64


class _CompiledLayer:
    """One layer with its weights, at work through the kernels.

    `W_back` is what errors go back through: (fan_in, n_out) of a dense layer, (n_out, kernel, kernel * c_in)
    of a convolution. It follows V unless fixed feedback weights B take its place.
    """

    def __init__(self, layer: Layer, network: Network, rules: Rules, state: State) -> None:
        self.layer, self.rules, self.bits = layer, rules, layer.bits
        self.is_conv = isinstance(layer.spec, Conv)
        n_out = layer.weight_shape[-1]
        self.bound = layer.bits.stored_max(rules.stored_range)
        self.S = _whole_blocks(state.S[layer.index], code_dtype(layer.bits.k_G))
        if (np.abs(self.S.astype(np.int32)) > self.bound).any():
            raise SettingError(
                f"stored weights of layer {layer.index} reach {np.abs(self.S.astype(np.int32)).max()}:"
                f" stored_range={rules.stored_range!r} ends at {self.bound}"
            )
        self.flat_V = np.empty(self.S.size, code_dtype(layer.bits.k_W))
        kernels.quantize(self.S, self.bits.k_G - self.bits.k_W, self.bits.weight_max, self.flat_V)
        self.V = self.flat_V[: layer.n_weights].reshape(-1, n_out)
        self.step_max = 1 if rules.update != "wide" else 2 * self.bound
        held = importance_of(network, state, rules)[layer.index]
        bits, steps = np.zeros((2, 0), np.uint16) if held is None else held
        self.importance, self.counted = (_whole_blocks(part, np.uint16) for part in (bits, steps))
        self.flat_G = np.zeros(self.S.size, _integer(layer.g_bound(rules.samples_an_update)))
        self.G = self.flat_G[: layer.n_weights].reshape(-1, n_out)
        self.touched = np.zeros(layer.fan_in, bool)
        self.error_held = _held_array(state.error_held[layer.index])
        self.gradient_held = _held_array(state.gradient_held[layer.index])
        self.seed = np.uint64(state.seed)
        B = feedback_weights(layer, network.classes, rules, state.seed)
        self.B = None if B is None else B.astype(np.int8)
        self.W_back = self.B if rules.feedback == "random" and self.B is not None else self.V
        if self.is_conv:
            self._prepare_conv()

    def _prepare_conv(self) -> None:
        layer, spec = self.layer, self.layer.spec
        assert isinstance(spec, Conv)
        (h, w, c), (top, bottom, left, right) = layer.in_shape, layer.padding
        border = (h + top + bottom, w + left + right, c)
        self.corner = (spec.stride, top, left)
        self.pool = (layer.pool.size, layer.pool.step) if layer.pool else (1, 1)
        self.padded_a = np.zeros(border, code_dtype(self.bits.k_A))
        self.padded_D = np.empty(border, _integer(layer.d_bound))
        back = (spec.channels, spec.kernel, spec.kernel * c)
        self.G_back = np.zeros(back, self.flat_G.dtype)
        W_back, self.W_back = self.W_back, np.empty(back, self.V.dtype)
        self._turn_weights(W_back)

    def _turn_weights(self, W: np.ndarray) -> None:
        self.W_back.reshape(W.shape[1], -1)[...] = W.T

    def of_weights(self, flat: np.ndarray) -> np.ndarray:
        """What the whole blocks hold of each weight, in weight_shape."""
        return flat[: self.layer.n_weights].reshape(self.layer.weight_shape)

    def forward(self, x: _Samples) -> None:
        """Z from x.a, and x.out from Z unless this is the last layer."""
        layer = self.layer
        if isinstance(layer.spec, Conv):
            kernels.conv_product(x.a, self.V, x.Z, layer.spec.kernel, *self.corner)
        else:
            kernels.dense_product(x.a, self.V, x.Z.reshape(len(x.Z), -1))
        if not layer.is_last:
            size, step = self.pool if self.is_conv else (1, 1)
            kernels.activate(
                x.Z, size, step, layer.z_shift, self.bits.activation_max, x.out, x.gate, x.winner
            )

    def receive_direct(self, x: _Samples, message: np.ndarray) -> None:
        """x.D from the error codes of the last layer."""
        kernels.dense_product(message.reshape(len(message), -1), self.B, x.D.reshape(len(x.D), -1))

    def learn(
        self,
        x: _Samples,
        D_below: np.ndarray | None,
        control: LayerControl,
        step: int,
        counts: np.ndarray | None,
    ) -> bool:
        """Let the error x.D pass to the layer below, and learn from it; False where all of it is lost.

        D_below is None where nothing is sent; counts, (fields,), is where to count the activity.
        """
        E, hold = x.E, control.hold if self.rules.shift == "held" else 0
        if not kernels.error_codes(
            x.D.reshape(-1),
            x.gate.reshape(-1),
            self.error_held,
            len(E),
            hold,
            self.bits.k_E,
            self.rules.log2_gamma,
            E.reshape(-1),
        ):
            return False
        if D_below is not None:
            self._send_back(x, D_below)
        factors, log2_eta = None, control.log2_eta
        if log2_eta is not None:
            coincidence = self.rules.update == "coincidence"
            factors = self._spikes(x, log2_eta, step) if coincidence else (x.a, E)
        if counts is not None:
            self._count_error(counts, x, factors, D_below is not None)
        if factors is None or log2_eta is None:
            return True
        S = None if counts is None else self.S.copy()
        self._gradient(x, *factors)
        kernels.update(
            self.S,
            self.flat_V,
            self.flat_G,
            self.touched,
            self.V.shape[1],
            self.gradient_held,
            len(E),
            hold,
            self.rules.update == "coincidence",
            log2_eta,
            self.step_max,
            self.bound,
            self.bits.k_G,
            self.bits.k_W,
            self.rules.metaplasticity,
            self.importance,
            self.counted,
            self.seed,
            self.layer.index,
            step,
        )
        if self.is_conv and self.rules.feedback == "transposed":
            self._turn_weights(self.V)
        if counts is not None and S is not None:
            activity.count_updates(counts, S, self.S)
        return True

    def count_forward(self, counts: np.ndarray, x: _Samples) -> None:
        out = x.Z if self.layer.is_last else x.out
        activity.count_forward(counts, self.layer, x.a.reshape(len(x.a), *self.layer.in_shape), out)

    def _count_error(
        self,
        counts: np.ndarray,
        x: _Samples,
        factors: tuple[np.ndarray, np.ndarray] | None,
        sends: bool,
    ) -> None:
        kept = Kept(x.a, winner=x.winner)
        activity.count_error(counts, self.layer, kept, x.E, factors)
        if sends:
            activity.count_feedback(counts, self.layer, kept, x.E)

    def _send_back(self, x: _Samples, D: np.ndarray) -> None:
        if self.is_conv:
            D = D.reshape(len(D), *self.layer.in_shape)
            kernels.conv_error(self.W_back, x.E, x.winner, *self.pool, *self.corner, self.padded_D, D)
        else:
            kernels.dense_error(self.W_back, x.E.reshape(len(x.E), -1), D.reshape(len(D), -1))

    def _gradient(self, x: _Samples, pre: np.ndarray, post: np.ndarray) -> None:
        if self.is_conv:
            kernels.conv_gradient(
                pre,
                post,
                x.winner,
                *self.pool,
                *self.corner,
                self.padded_a,
                self.G_back,
                self.G,
                self.touched,
            )
        else:
            kernels.dense_gradient(pre, post.reshape(len(post), -1), self.G, self.touched)

    def _spikes(self, x: _Samples, log2_eta: int, step: int) -> tuple[np.ndarray, np.ndarray]:
        bits, index = self.bits, self.layer.index
        for codes, shift, purpose, out in (
            (x.a, 17 - bits.k_A, random_bits.PRE, x.pre),
            (x.E, 17 - bits.k_E + log2_eta, random_bits.POST, x.post),
        ):
            kernels.spikes(codes.reshape(-1), shift, self.seed, purpose, index, step, out.reshape(-1))
        return x.pre, x.post


def _whole_blocks(S: np.ndarray, dtype: type) -> np.ndarray:
    flat: np.ndarray = np.zeros(-(-S.size // kernels.BLOCK) * kernels.BLOCK, dtype)
    flat[: S.size] = S.reshape(-1)
    return flat


def _held_array(held: Held) -> np.ndarray:
    return np.array([kernels.NONE if held.exponent is None else held.exponent, held.below], np.int64)


def _held(array: np.ndarray) -> Held:
    exponent, below = array.tolist()
    return Held(None if exponent == kernels.NONE else exponent, below)


class CompiledEngine(Engine):
    """An engine of compiled integer loops that skip every zero; see `wage_neuro.engine.Engine`.

    Parameters
    ----------
    state : State, optional
        Where to go on from; otherwise the initial state of `seed`.

    Raises
    ------
    SettingError
        If a gradient of this batch may leave 53 bits, or a stored weight is outside the rules' range.

    >>> from wage_neuro.specs import Dense
    >>> net = Network((Dense(2),), (3,))
    >>> with CompiledEngine(net, Rules(batch=4)) as engine:
    ...     logits = engine.train(np.full((8, 3), 200, np.uint8), np.array([0, 1] * 4), control=0)
    >>> logits.shape, engine.state.step
    ((8, 2), 2)
    """

    name = "compiled"

    def __init__(
        self, network: Network, rules: Rules | None = None, seed: int = 0, state: State | None = None
    ) -> None:
        self.network = network
        self.rules = rules or Rules()
        network.require_quantized("engine 'compiled'")
        self.rules.require("engine 'compiled'", loss=LINEAR)
        prove_gradients(network, self.rules)
        state = state or initial_state(network, seed)
        self._seed, self._step = state.seed, state.step
        self._layers = [_CompiledLayer(layer, network, self.rules, state) for layer in network.layers]
        self._direct = self.rules.feedback == "direct"
        self.watch(0)
        # a pipeline holds samples in flight, one a slot; a batch is learned before the next enters
        slots = 2 * len(network.layers) + 1 if self.rules.pipelined else 1
        self._slots = [self._room(self.rules.samples_an_update) for _ in range(slots)]

    def _room(self, n: int) -> list[_Samples]:
        """Room for n samples in every layer; what one sends is what the next one reads."""
        room = [_Samples(layer, n) for layer in self.network.layers]
        for below, above in itertools.pairwise(room):
            above.a = below.out.reshape(above.a.shape)
        return room

    # --- what a user calls ---

    def train(self, images: np.ndarray, labels: np.ndarray, control: int | Control) -> np.ndarray:
        return self._train(images, labels, None, control)

    def train_recalling(
        self, images: np.ndarray, labels: np.ndarray, former: np.ndarray, control: int | Control
    ) -> np.ndarray:
        check_former(self.network, self.rules, former, len(images))
        return self._train(images, labels, former, control)

    def _train(
        self, images: np.ndarray, labels: np.ndarray, former: np.ndarray | None, control: int | Control
    ) -> np.ndarray:
        check_training_input(self.network, self.rules, images, labels, control)
        controls = control_of(control).of_layers(len(self._layers), self.rules)
        labels = labels.astype(np.int64)
        logits = np.empty((len(images), self.network.classes), np.int64)
        batch, learn = self.rules.batch, self._pipeline if self.rules.pipelined else self._batch
        together = max(1, PART // batch) * batch
        for first in range(0, len(images), together):
            x = self._encode(images[first : first + together])
            for i in range(0, len(x), batch):
                part = slice(first + i, first + i + batch)
                stay = None if former is None else former[part]
                learn(x[i : i + batch], labels[part], logits[part], stay, controls)
        return logits

    def predict(self, images: np.ndarray) -> np.ndarray:
        self.network.check_images(images)
        logits = np.empty((len(images), self.network.classes), np.int64)
        room = None
        for first in range(0, len(images), PART):
            x = self._encode(images[first : first + PART])
            if room is None or len(x) != len(room[0].a):
                room = self._room(len(x))
            self._through(room, x, bool(self._watch.every))
            logits[first : first + PART] = room[-1].Z.reshape(len(x), -1)
        return logits

    def watch(self, every: int) -> None:
        self._watch = Watch(len(self._layers), every)

    def activity(self) -> Activity:
        return self._watch.take()

    @property
    def state(self) -> State:
        return State(
            tuple(run.of_weights(run.S).copy() for run in self._layers),
            tuple(_held(run.error_held) for run in self._layers),
            tuple(_held(run.gradient_held) for run in self._layers),
            self._seed,
            self._step,
            tuple(
                np.stack([run.of_weights(run.importance), run.of_weights(run.counted)])
                for run in self._layers
            )
            if self.rules.consolidation
            else None,
        )

    def consolidate(self, updates: int) -> None:
        state = consolidated(self.network, self.state, updates, self.rules)
        for run, held in zip(self._layers, state.importance or (), strict=True):
            run.importance[: run.layer.n_weights] = held[0].reshape(-1)
            run.counted[:] = 0

    # --- the order of the work ---

    def _encode(self, images: np.ndarray) -> np.ndarray:
        return self.network.encode(images).reshape(len(images), *self.network.layers[0].in_shape)

    def _through(self, room: list[_Samples], x: np.ndarray, watched: bool) -> None:
        room[0].a = x
        for layer, samples in zip(self._layers, room, strict=True):
            self._forward(layer, samples, watched)

    def _forward(self, layer: _CompiledLayer, x: _Samples, watched: bool) -> None:
        layer.forward(x)
        if watched:
            layer.count_forward(self._watch.counts[layer.layer.index], x)
            self._watch.samples += len(x.a) if layer.layer.index == 0 else 0

    def _learn(self, i: int, room: list[_Samples], control: LayerControl, step: int) -> bool:
        """Let layer i learn; return whether any error goes on."""
        layer, counts = self._layers[i], self._watch.counts[i] if self._watch.wants(step) else None
        if not self._direct:
            return layer.learn(room[i], room[i - 1].D if i else None, control, step, counts)
        if not layer.layer.is_last:
            layer.receive_direct(room[i], room[-1].E)
            if counts is not None:
                activity.count_direct_feedback(counts, layer.layer, room[-1].E)
        # an error that is lost in one hidden layer is not lost for the others
        return layer.learn(room[i], None, control, step, counts) or not layer.layer.is_last

    def _batch(
        self,
        x: np.ndarray,
        labels: np.ndarray,
        logits: np.ndarray,
        former: np.ndarray | None,
        controls: tuple[LayerControl, ...],
    ) -> None:
        """Learn one batch; fill in the logits it had before."""
        room = self._slots[0]
        self._through(room, x, self._watch.wants(self._step))
        if self._read_out(room, labels, logits, former, self._step * len(x)):
            for i in reversed(range(len(self._layers))):
                if not self._learn(i, room, controls[i], self._step):
                    break
        self._step += 1

    def _pipeline(
        self,
        x: np.ndarray,
        labels: np.ndarray,
        logits: np.ndarray,
        former: np.ndarray | None,
        controls: tuple[LayerControl, ...],
    ) -> None:
        """Send a batch through as `wage_neuro.pipeline` does, each sample in a slot of its own."""
        L, n, slots = len(self._layers), len(x), len(self._slots)
        schedule = Schedule(L, n, self._direct)
        has_error = [False] * slots
        for t in range(schedule.steps(learning=True)):
            for i, layer in enumerate(self._layers):
                j = schedule.forward(i, t)
                if j is not None:
                    room = self._slots[j % slots]
                    if i == 0:
                        room[0].a = x[j : j + 1]
                    self._forward(layer, room[i], self._watch.wants(self._step + j))
                j = schedule.error(i, t)
                if j is not None and has_error[j % slots]:
                    has_error[j % slots] = self._learn(i, self._slots[j % slots], controls[i], self._step + j)
            j = schedule.forward(L, t)
            if j is not None:
                one = slice(j, j + 1)
                stay = None if former is None else former[one]
                has_error[j % slots] = self._read_out(
                    self._slots[j % slots], labels[one], logits[one], stay, self._step + j
                )
        self._step += n

    def _read_out(
        self,
        room: list[_Samples],
        labels: np.ndarray,
        logits: np.ndarray,
        former: np.ndarray | None,
        first: int,
    ) -> bool:
        """Fill in the logits and the error at the output; return whether there is one."""
        top, rules = room[-1], self.rules
        logits[...] = top.Z.reshape(logits.shape)
        D = top.D.reshape(logits.shape)
        kernels.output_error(
            logits,
            labels,
            self.network.layers[-1].target,
            rules.loss == "one-sided",
            rules.margin,
            D,
        )
        if former is not None:
            np.add(D, logits - former, out=D, where=former != UNKNOWN)
        return kernels.calm_new(D, first, rules.new_samples, rules.new_shift)
