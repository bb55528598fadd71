"""The compiled engine: the numpy engine's bits at the speed of machine code, above all for batch = 1.

It needs numba: pip install "wage-neuro[compiled]". The first run compiles for some seconds, see
`compiled_kernels`.
"""

from __future__ import annotations

from itertools import pairwise
from types import TracebackType

import numpy as np

from mappings import compiled_kernels as kernels
from wage_neuro import random_bits
from wage_neuro.bits import code_dtype
from wage_neuro.engine import check_training_input, prove_gradients
from wage_neuro.errors import SettingError
from wage_neuro.layers import Layer
from wage_neuro.network import Network
from wage_neuro.rules import Rules
from wage_neuro.specs import Conv
from wage_neuro.train import Held, State, initial_state

PART = 64  # samples that are encoded, and answered, together


class _Samples:
    """Room of one layer for n samples in flight: what goes through, and what is kept until the error comes.

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
    of a convolution.
    """

    def __init__(self, layer: Layer, rules: Rules, state: State) -> None:
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
        self.flat_G = np.zeros(self.S.size, _integer(layer.g_bound(rules.samples_an_update)))
        self.G = self.flat_G[: layer.n_weights].reshape(-1, n_out)
        self.touched = np.zeros(layer.fan_in, bool)
        self.error_held = _held_array(state.error_held[layer.index])
        self.gradient_held = _held_array(state.gradient_held[layer.index])
        self.hold = rules.hold if rules.shift == "held" else 0
        self.seed = np.uint64(state.seed)
        self.W_back = self.V
        if self.is_conv:
            self._prepare_conv()

    def _prepare_conv(self) -> None:
        layer, spec = self.layer, self.layer.spec
        assert isinstance(spec, Conv)
        (h, w, c), (top, bottom, left, right) = layer.in_shape, layer.padding
        border = (h + top + bottom, w + left + right, c)
        self.kernel = spec.kernel
        self.corner = (spec.stride, top, left)
        self.pool = (layer.pool.size, layer.pool.step) if layer.pool else (1, 1)
        self.padded_a = np.zeros(border, code_dtype(self.bits.k_A))
        self.padded_D = np.empty(border, _integer(layer.d_bound))
        back = (spec.channels, spec.kernel, spec.kernel * c)
        self.G_back = np.zeros(back, self.flat_G.dtype)
        self.W_back = np.empty(back, self.V.dtype)
        self._turn_weights()

    def _turn_weights(self) -> None:
        self.W_back.reshape(self.V.shape[1], -1)[...] = self.V.T

    def forward(self, x: _Samples) -> None:
        """Z from x.a, and x.out from Z unless this is the last layer."""
        layer = self.layer
        if self.is_conv:
            kernels.conv_product(x.a, self.V, x.Z, self.kernel, *self.corner)
        else:
            kernels.dense_product(x.a, self.V, x.Z.reshape(len(x.Z), -1))
        if not layer.is_last:
            size, step = self.pool if self.is_conv else (1, 1)
            kernels.activate(
                x.Z, size, step, layer.z_shift, self.bits.activation_max, x.out, x.gate, x.winner
            )

    def learn(self, x: _Samples, D_below: np.ndarray | None, log2_eta: int, step: int) -> bool:
        """Let the error x.D pass to the layer below, and learn from it; False where all of it is lost."""
        E = x.E
        if not kernels.error_codes(
            x.D.reshape(-1),
            x.gate.reshape(-1),
            self.error_held,
            len(E),
            self.hold,
            self.bits.k_E,
            E.reshape(-1),
        ):
            return False
        if D_below is not None:
            self._send_back(x, D_below)
        pre, post = x.a, E
        if self.rules.update == "coincidence":
            pre, post = self._spikes(x, log2_eta, step)
        self._gradient(x, pre, post)
        kernels.update(
            self.S,
            self.flat_V,
            self.flat_G,
            self.touched,
            self.V.shape[1],
            self.gradient_held,
            len(E),
            self.hold,
            self.rules.update == "coincidence",
            log2_eta,
            self.step_max,
            self.bound,
            self.bits.k_G,
            self.bits.k_W,
            self.seed,
            self.layer.index,
            step,
        )
        if self.is_conv:
            self._turn_weights()
        return True

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


class CompiledEngine:
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
    ...     logits = engine.train(np.full((8, 3), 200, np.uint8), np.array([0, 1] * 4), log2_eta=0)
    >>> logits.shape, engine.state.step
    ((8, 2), 2)
    """

    name = "compiled"

    def __init__(
        self, network: Network, rules: Rules | None = None, seed: int = 0, state: State | None = None
    ) -> None:
        self.network = network
        self.rules = rules or Rules()
        prove_gradients(network, self.rules)
        state = state or initial_state(network, seed)
        self._seed, self._step = state.seed, state.step
        self._layers = [_CompiledLayer(layer, self.rules, state) for layer in network.layers]
        # a pipeline holds samples in flight, one a slot; a batch is learned before the next enters
        slots = 2 * len(network.layers) + 1 if self.rules.pipelined else 1
        self._slots = [self._room(self.rules.samples_an_update) for _ in range(slots)]

    def _room(self, n: int) -> list[_Samples]:
        """Room for n samples in every layer; what one sends is what the next one reads."""
        room = [_Samples(layer, n) for layer in self.network.layers]
        for below, above in pairwise(room):
            above.a = below.out.reshape(above.a.shape)
        return room

    # --- what a user calls ---

    def train(self, images: np.ndarray, labels: np.ndarray, log2_eta: int) -> np.ndarray:
        check_training_input(self.network, self.rules, images, labels, log2_eta)
        labels = labels.astype(np.int64)
        logits = np.empty((len(images), self.network.classes), np.int64)
        batch, learn = self.rules.batch, self._pipeline if self.rules.pipelined else self._batch
        together = max(1, PART // batch) * batch
        for first in range(0, len(images), together):
            x = self._encode(images[first : first + together])
            for i in range(0, len(x), batch):
                part = slice(first + i, first + i + batch)
                learn(x[i : i + batch], labels[part], logits[part], int(log2_eta))
        return logits

    def predict(self, images: np.ndarray) -> np.ndarray:
        self.network.check_images(images)
        logits = np.empty((len(images), self.network.classes), np.int64)
        room = None
        for first in range(0, len(images), PART):
            x = self._encode(images[first : first + PART])
            if room is None or len(x) != len(room[0].a):
                room = self._room(len(x))
            self._through(room, x)
            logits[first : first + PART] = room[-1].Z.reshape(len(x), -1)
        return logits

    @property
    def state(self) -> State:
        return State(
            tuple(
                run.S[: run.layer.n_weights].reshape(run.layer.weight_shape).copy() for run in self._layers
            ),
            tuple(_held(run.error_held) for run in self._layers),
            tuple(_held(run.gradient_held) for run in self._layers),
            self._seed,
            self._step,
        )

    def close(self) -> None:
        pass

    def __enter__(self) -> CompiledEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- the order of the work ---

    def _encode(self, images: np.ndarray) -> np.ndarray:
        return self.network.encode(images).reshape(len(images), *self.network.layers[0].in_shape)

    def _through(self, room: list[_Samples], x: np.ndarray) -> None:
        room[0].a = x
        for layer, samples in zip(self._layers, room, strict=True):
            layer.forward(samples)

    def _batch(self, x: np.ndarray, labels: np.ndarray, logits: np.ndarray, log2_eta: int) -> None:
        """Learn one batch; fill in the logits it had before."""
        room = self._slots[0]
        self._through(room, x)
        if self._read_out(room, labels, logits):
            for layer in reversed(self._layers):
                i = layer.layer.index
                if not layer.learn(room[i], room[i - 1].D if i else None, log2_eta, self._step):
                    break
        self._step += 1

    def _pipeline(self, x: np.ndarray, labels: np.ndarray, logits: np.ndarray, log2_eta: int) -> None:
        """Learn a batch as `wage_neuro.pipeline`: sample j is at layer i at step j + i and at j + 2 L - i."""
        L, n, slots = len(self._layers), len(x), len(self._slots)
        has_error = [False] * slots
        for t in range(n + 2 * L):
            for i, layer in enumerate(self._layers):
                entering, returning = t - i, t - 2 * L + i
                if 0 <= entering < n:
                    room = self._slots[entering % slots]
                    if i == 0:
                        room[0].a = x[entering : entering + 1]
                    layer.forward(room[i])
                if 0 <= returning < n and has_error[returning % slots]:
                    room = self._slots[returning % slots]
                    has_error[returning % slots] = layer.learn(
                        room[i], room[i - 1].D if i else None, log2_eta, self._step + returning
                    )
            j = t - L
            if 0 <= j < n:
                has_error[j % slots] = self._read_out(
                    self._slots[j % slots], labels[j : j + 1], logits[j : j + 1]
                )
        self._step += n

    def _read_out(self, room: list[_Samples], labels: np.ndarray, logits: np.ndarray) -> bool:
        """Fill in the logits and the error at the output; return whether there is one."""
        top, rules = room[-1], self.rules
        logits[...] = top.Z.reshape(logits.shape)
        return kernels.output_error(
            logits,
            labels,
            self.network.layers[-1].target,
            rules.loss == "one-sided",
            rules.margin,
            top.D.reshape(logits.shape),
        )
