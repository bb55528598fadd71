"""The compiled kernels: the library, loaded without any Python ABI, and a network at work in it.

`WAGE_NEURO_ISA` forces one of its instruction sets, where a machine has several. Threads are those of
`numpy_kernels.set_threads`; the bits depend on neither.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from wage_neuro import activity, layers, normal, random_bits, softmax
from wage_neuro.activity import Watch
from wage_neuro.bits import code_dtype
from wage_neuro.control import LayerControl
from wage_neuro.errors import EngineError, SettingError
from wage_neuro.feedback import backward_weights, feedback_weights
from wage_neuro.kernels import build
from wage_neuro.kernels.numpy_kernels import thread_count
from wage_neuro.layers import Kept, Layer
from wage_neuro.learner import LayerLearner, Moving, Site, learn_together, send_gradient
from wage_neuro.network import Network
from wage_neuro.rules import LOSSES, Rules
from wage_neuro.specs import AvgPool, Conv, Dense, MaxPool, max_pool
from wage_neuro.state import Held, LayerState, State, as_ruled
from wage_neuro.team import ALONE, Team

VARIABLE = "WAGE_NEURO_ISA"
FORWARD, ARRIVES, ERROR, UPDATED, FOREIGN_FORWARD, FOREIGN_LEARN, PEAK, SUMS, TOGETHER = range(9)  # Event
CODES_IN, ERRORS, CODES_E, WINNERS, LOGITS, PRE, POST = range(7)  # What
NONE, FROZEN = -1, -1000000
FEEDBACKS = ("transposed", "random", "direct")
GENERATORS = ("philox4x64", "philox4x32")
SUMS_OF_64_BITS = "events, sums of 64 bits"
_UNLIMITED = 2**62

_i64, _u64, _pointer = ctypes.c_int64, ctypes.c_uint64, ctypes.c_void_p
_HOOK = ctypes.CFUNCTYPE(_i64, _i64, _i64, _i64, _i64, _i64)


@cache
def _fields(struct: str) -> list[str]:
    """Names of the whole numbers in a struct of api.h, in order."""
    found = re.search(rf"struct {struct} \{{\s*i64 ([^;]+);", (build.SOURCE / "api.h").read_text())
    assert found
    return re.findall(r"\w+", found[1])


def _numbers(struct: str, values: dict[str, int]) -> np.ndarray:
    assert set(values) == set(_fields(struct)), set(values) ^ set(_fields(struct))
    return np.array([values[name] for name in _fields(struct)], np.int64)


class _Call(ctypes.Structure):
    _fields_ = (
        ("images", _pointer),
        ("labels", _pointer),
        ("former", _pointer),
        ("n", _i64),
        ("log2_eta", _pointer),
        ("hold", _pointer),
        ("step", _u64),
        ("logits", _pointer),
        ("watch", _i64),
    )


_C: dict[str, Any] = {
    "i": _i64,
    "u": _u64,
    "p": _pointer,
    "s": ctypes.c_char_p,
    "c": ctypes.POINTER(_Call),
    "h": _HOOK,
}


def _function(takes: str, returns: str = "") -> Any:
    """A function of the library, each argument a letter of _C."""
    return ctypes.CFUNCTYPE(_C.get(returns), *(_C[letter] for letter in takes))


class _Api(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("vector_bytes", _i64),
        ("create", _function("ippuippph", "p")),
        ("destroy", _function("p")),
        ("path", _function("pi", "s")),
        ("set_weights", _function("pipppp")),
        ("get_weights", _function("pipppp")),
        ("set_norm", _function("pip")),
        ("get_norm", _function("pip")),
        ("set_feedback", _function("pip")),
        ("set_held", _function("pip")),
        ("get_held", _function("pip")),
        ("get", _function("piiiip")),
        ("set", _function("piiiip")),
        ("forward", _function("piiipp")),
        ("error", _function("piiuiipp", "i")),
        ("update", _function("piiu")),
        ("set_update", _function("piii")),
        ("train", _function("pc")),
        ("move", _function("piiipiup")),
        ("take", _function("piiipi")),
        ("predict", _function("ppipi")),
        ("pack", _function("piiip")),
        ("add_up", _function("piiip")),
        ("peak", _function("i", "i")),
        ("log2_round", _function("u", "i")),
        ("philox", _function("uuuuiuip")),
    )


# --- the library -------------------------------------------------------------------------------------


def load(path: Path) -> ctypes.CDLL:
    """Load a library and see that it is made from this source.

    Raises
    ------
    EngineError
        If there is none, or it cannot be loaded, or it was made from another source.
    """
    again = "`python -m wage_neuro.kernels.build` makes it"
    if not path.exists():
        raise EngineError(
            f"compiled kernels: {path.name} is not there; {again}, engine 'numpy' has the same bits"
        )
    found = build.version_of(path)
    if found is None:  # to load it could end this process
        raise EngineError(f"compiled kernels: {path.name} is broken; {again} anew")
    if found != build.version():
        raise EngineError(
            f"compiled kernels: {path.name} is of version {found}: want {build.version()}; {again} anew"
        )
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise EngineError(f"compiled kernels: {error}; {again} anew") from None
    library.wage_set.restype = ctypes.POINTER(_Api)
    library.wage_set.argtypes = library.wage_machine_has.argtypes = (_i64,)
    library.wage_machine_has.restype = _i64
    return library


@cache
def _sets() -> dict[str, tuple[_Api, bool]]:
    library, found = load(build.LIBRARY), {}
    i = 0
    while api := library.wage_set(i):
        found[api.contents.name.decode()] = api.contents, bool(library.wage_machine_has(i))
        i += 1
    return found


def instruction_sets() -> tuple[str, ...]:
    """Those of the library that this machine has, best first."""
    return tuple(name for name, (_, here) in _sets().items() if here)


def instruction_set() -> str:
    """The one in use: the best one of this machine, or the one that `WAGE_NEURO_ISA` names.

    Raises
    ------
    EngineError
        If there is no library.
    SettingError
        If there is no such instruction set, or this machine has it not.
    """
    here, wanted = instruction_sets(), os.environ.get(VARIABLE)
    if not wanted:
        return here[0]
    if wanted not in _sets():
        raise SettingError(f"{VARIABLE}={wanted}: want {', '.join(_sets())}")
    if wanted not in here:
        raise SettingError(f"{VARIABLE}={wanted}: this machine has {', '.join(here)} only")
    return wanted


def is_here() -> bool:
    """Whether a library lies where it belongs; see `load` for whether it is of use."""
    return build.LIBRARY.exists()


def peak(rounds: int) -> int:
    """Make products of bytes as fast as one core can; return how many they were."""
    return int(_sets()[instruction_set()][0].peak(rounds))


def pack(values: np.ndarray, width: int) -> np.ndarray:
    """(n * width,) uint8 of (n,) int32 or int64, each in `width` bytes, the lowest first."""
    values, packed = np.ascontiguousarray(values), np.empty(len(values) * width, np.uint8)
    assert values.dtype in (np.int32, np.int64), values.dtype
    api = _sets()[instruction_set()][0]
    api.pack(values.ctypes.data, values.dtype.itemsize, len(values), width, packed.ctypes.data)
    return packed


def add_up(packed: np.ndarray, ranks: int, width: int) -> np.ndarray:
    """(n,) int64 sums over the ranks of (ranks * n * width,) uint8 of `pack`."""
    sums = np.empty(len(packed) // (ranks * width), np.int64)
    _sets()[instruction_set()][0].add_up(packed.ctypes.data, ranks, len(sums), width, sums.ctypes.data)
    return sums


def log2_round(x: int) -> int:
    """As `fixed_point.log2_round`, x < 2**63."""
    return int(_sets()[instruction_set()][0].log2_round(x))


def philox(stream: random_bits.Stream, first_block: int, groups: int, generator: str) -> np.ndarray:
    """(128 * groups,) uint16 from number 16 * `first_block` on; as `random_bits.bits16`."""
    words = np.empty(32 * groups, np.uint64)
    api = _sets()[instruction_set()][0]
    api.philox(*stream, GENERATORS.index(generator), first_block, groups, words.ctypes.data)
    return words.view(np.uint16)


# --- one layer ---------------------------------------------------------------------------------------


class LoneLayer:
    """A layer at work by itself in the library, between neighbours that the caller plays.

    Parameters
    ----------
    slots : calls whose samples are kept at once
    error_bound : largest error that may arrive
    other : values in the place of those that its Spec of api.h would have
    """

    def __init__(self, site: Site, slots: int, signed_in: bool, error_bound: int, **other: int) -> None:
        layer, _, rules, seed = site
        self.layer, self.rules = layer, rules
        own = _spec(site, None, False)
        own = _changed(own, signed_in=signed_in, arriving_bound=error_bound, **other)
        specs = [own] if layer.is_last else [own, _neighbour(own, layer.out_shape, (1,))]
        self._at = int(layer.index > 0)
        if self._at:
            specs.insert(0, _changed(_neighbour(own, (1,), layer.in_shape), arriving_bound=layer.d_bound))
        tables = [np.ascontiguousarray(t, np.int64) for t in softmax.tables()]
        packed, ruled = np.concatenate(specs), _rules(rules, slots=slots)
        arrays: list[np.ndarray] = [np.zeros(256, np.int16), *tables]
        self._kept, self._hook, self._net = [packed, ruled, *arrays], _HOOK(lambda *_: 0), None
        self._api = _sets()[instruction_set()][0]
        pointers = [array.ctypes.data for array in arrays]
        self._net = self._api.create(
            len(specs), packed.ctypes.data, ruled.ctypes.data, seed, thread_count(), *pointers, self._hook
        )
        if not self._net:
            raise EngineError(f"compiled kernels: no memory for layer {layer.index} {layer}")
        B = feedback_weights(*site) if rules.feedback == "random" else None
        if B is not None:
            B = np.ascontiguousarray(B, np.int8)
            self._api.set_feedback(self._net, self._at, B.ctypes.data)

    def __del__(self) -> None:
        if getattr(self, "_net", None):
            self._api.destroy(self._net)
            self._net = None

    @property
    def path(self) -> str:
        """How its products are made."""
        return str(self._api.path(self._net, self._at).decode())

    def put(self, learned: LayerState) -> None:
        """Go on from another state."""
        _check_range(self.layer, learned.S, self.rules)
        _put_weights(self._api, self._net, self._at, learned)
        self.hold(learned.error_held, learned.gradient_held)

    def hold(self, error_held: Held, gradient_held: Held) -> None:
        """Go on from other exponents."""
        four = np.array([*_pair(error_held), *_pair(gradient_held)], np.int64)
        self._api.set_held(self._net, self._at, four.ctypes.data)

    def get(self) -> LayerState:
        """What it has learned, copied."""
        return _get_learned(self._api, self._net, self._at, self.layer, self.rules)

    def follow(self, rules: Rules) -> None:
        """Go on with another update form."""
        self.rules = rules
        self._api.set_update(self._net, self._at, rules.update == "coincidence", _step_max(self.layer, rules))

    def forward(self, slot: int, a_in: np.ndarray) -> np.ndarray:
        """(n, *out_shape) codes, int16, or products of the last layer, int64, of (n, *in_shape) codes."""
        a_in = np.ascontiguousarray(a_in, np.int16)
        dtype = np.int64 if self.layer.is_last else np.int16
        out = np.empty((len(a_in), *self.layer.out_shape), dtype)
        self._api.forward(self._net, self._at, slot, len(a_in), a_in.ctypes.data, out.ctypes.data)
        return out

    def error(
        self, slot: int, D: np.ndarray, control: LayerControl, step: int, sends: bool
    ) -> tuple[bool, np.ndarray | None]:
        """Meet an error; return whether any of it is left, and the (n, *in_shape) one that goes on."""
        D = np.ascontiguousarray(D, np.int32)
        sent = np.zeros((len(D), *self.layer.in_shape), np.int32) if sends else None
        eta = FROZEN if control.log2_eta is None else control.log2_eta
        some = self._api.error(self._net, self._at, slot, step, eta, control.hold, D.ctypes.data, _data(sent))
        return bool(some), sent

    def update(self, slot: int, step: int) -> None:
        """Let the weights learn from the error that a slot has met."""
        self._api.update(self._net, self._at, slot, step)

    def load(self, slot: int, a_in: np.ndarray) -> None:
        """Put input codes into a slot, as `forward`, but compute nothing."""
        codes = np.ascontiguousarray(a_in, np.int64)
        self._api.set(self._net, self._at, slot, CODES_IN, len(codes), codes.ctypes.data)

    def look(self, slot: int, what: int, shape: tuple[int, ...]) -> np.ndarray:
        """An array of the samples in a slot, in the order that numpy has."""
        out = np.empty(shape, np.int64)
        self._api.get(self._net, self._at, slot, what, shape[0], out.ctypes.data)
        return out


def computes(layer: Layer) -> bool:
    """Whether the library knows layers of this kind."""
    match layer.spec, layer.pool:
        case Dense() | Conv(), None | MaxPool():
            return True
        case Dense() | Conv(), AvgPool():
            return False
        case _:
            raise AssertionError(f"layer {layer}: a kind that nobody has thought of here")


def _changed(spec: np.ndarray, **values: int) -> np.ndarray:
    spec = spec.copy()
    for name, value in values.items():
        spec[_fields("Spec").index(name)] = value
    return spec


def _neighbour(own: np.ndarray, in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> np.ndarray:
    """Spec of a foreign layer that takes and gives these shapes, with hardly a weight."""
    (in_h, in_w, in_c), (out_h, out_w, n_out) = ((1, 1, *shape)[-3:] for shape in (in_shape, out_shape))
    shapes = {"in_h": in_h, "in_w": in_w, "in_c": in_c, "out_h": out_h, "out_w": out_w, "n_out": n_out}
    plain = dict.fromkeys(("kernel", "stride", "z_h", "z_w", "foreign"), 1)
    none = dict.fromkeys(
        ("conv", "is_last", "top", "left", "pool_size", "pool_step", "signed_in", "normalised"), 0
    )
    return _changed(own, **shapes, **plain, **none)


# --- a network ---------------------------------------------------------------------------------------


def _spec(site: Site, above: Layer | None, foreign: bool, team: Team = ALONE) -> np.ndarray:
    layer, classes, rules, _ = site
    bits, samples = layer.bits, rules.samples_an_update
    own = samples if team.size == 1 else team.most_rows(rules.batch)
    conv, pool = bool(layer.window), None if foreign else max_pool(layer.pool)
    kernel, stride = layer.window or (1, 1)
    h, w, c = layer.in_shape if conv else (1, 1, layer.fan_in)
    z_h, z_w, n_out = layer.z_shape if conv else (1, 1, layer.weight_shape[-1])
    out_h, out_w = layer.out_shape[:2] if conv else (1, 1)
    if above is None:
        arriving = _UNLIMITED
    elif rules.feedback == "direct":
        arriving = classes * max(bits.error_max, (1 << 15) - 1)
    else:
        arriving = above.d_bound
    stored_max = bits.stored_max(rules.stored_range)
    return _numbers(
        "Spec",
        {
            "index": layer.index,
            "is_last": layer.is_last,
            "conv": conv,
            "in_h": h,
            "in_w": w,
            "in_c": c,
            "kernel": kernel,
            "stride": stride,
            "top": layer.padding[0],
            "left": layer.padding[2],
            "z_h": z_h,
            "z_w": z_w,
            "n_out": n_out,
            "pool_size": pool.size if pool else 0,
            "pool_step": pool.step if pool else 0,
            "pool_top": layer.pool_padding[0],
            "pool_left": layer.pool_padding[2],
            "out_h": out_h,
            "out_w": out_w,
            "z_shift": layer.z_shift,
            "k_W": bits.k_W,
            "k_A": bits.k_A,
            "k_G": bits.k_G,
            "k_E": bits.k_E,
            "signed_in": 0,
            "log2_target": layer.log2_target,
            "stored_max": stored_max,
            "step_max": _step_max(layer, rules),
            "spread_max": layer.spread_error_max,
            "z_bound": layer.z_bound,
            "d_bound": layer.d_bound,
            "arriving_bound": arriving,
            "g_bound": layer.g_bound(own),
            "error_exponent": NONE if layer.quantized else layer.error_exponent,
            "log2_gamma": rules.log2_gamma(layer.is_last),
            "gradient_exponent": NONE if layer.quantized else layer.gradient_exponent(samples),
            "normalised": layer.normalised and not foreign,
            "shift_max": normal.shift_max(layer),
            "foreign": foreign,
        },
    )


def _step_max(layer: Layer, rules: Rules) -> int:
    """Largest step of a stored weight."""
    return 2 * layer.bits.stored_max(rules.stored_range) if rules.update == "wide" else 1


def _rules(rules: Rules, team: Team = ALONE, slots: int = 0) -> np.ndarray:
    rows = team.rows(rules.batch)
    return _numbers(
        "RuleSpec",
        {
            "samples": rows.stop - rows.start,
            "total": rules.samples_an_update,
            "first": rows.start,
            "team": team.size > 1,
            "held": rules.shift == "held",
            "coincidence": rules.update == "coincidence",
            "loss": LOSSES.index(rules.loss),
            "margin": rules.margin,
            "pipelined": rules.pipelined,
            "feedback": FEEDBACKS.index(rules.feedback),
            "new_shift": rules.new_shift,
            "recalled": rules.recalled,
            "metaplasticity": rules.metaplasticity,
            "consolidation": rules.consolidation,
            "sharpness": rules.sharpness,
            "momentum": rules.momentum,
            "generator": GENERATORS.index(rules.generator),
            "slots": slots,
        },
    )


class NativeNet:
    """A network with its weights inside the library; layers that it does not know are left to numpy.

    Parameters
    ----------
    state : where to go on from; it is copied
    numpy_layers : indices of layers that numpy shall compute beside those of unknown kinds

    Raises
    ------
    EngineError
        If there is no library.
    SettingError
        If a stored weight is outside the rules' range.
    """

    def __init__(
        self,
        network: Network,
        rules: Rules,
        state: State,
        numpy_layers: frozenset[int] = frozenset(),
        team: Team = ALONE,
    ) -> None:
        self.network, self.rules, self.seed, self.step = network, rules, state.seed, state.step
        self.team, self._sent = team, list[tuple[Moving, Any]]()
        rows = team.rows(rules.batch)
        self._batch = rows.stop - rows.start
        self._samples = self._batch if team.size > 1 else rules.samples_an_update
        self.isa = instruction_set()
        self._api, self._net, self._hook = _sets()[self.isa][0], None, _HOOK(self._called)
        self._failure: BaseException | None = None
        self._watch = Watch(len(network.layers), 0)
        self._controls: tuple[LayerControl, ...] = ()
        foreign = numpy_layers | {layer.index for layer in network.layers if not computes(layer)}
        self._create(foreign, state)
        slow = {i for i, path in enumerate(self.paths) if path == SUMS_OF_64_BITS}
        if rules.samples_an_update > 1 and slow:  # BLAS has the faster products
            self.close()
            self._create(foreign | slow, state)

    def _create(self, foreign: frozenset[int] | set[int], state: State) -> None:
        network, rules = self.network, self.rules
        above = (*network.layers[1:], None)
        sites = [Site(layer, network.classes, rules, self.seed) for layer in network.layers]
        specs = [
            _spec(site, upper, site.layer.index in foreign, self.team)
            for site, upper in zip(sites, above, strict=True)
        ]
        specs[0][_fields("Spec").index("signed_in")] = bool((network.input_codes < 0).any())
        tables = [np.ascontiguousarray(t, np.int64) for t in softmax.tables()]
        codes, packed, ruled = (
            network.input_codes.astype(np.int16),
            np.concatenate(specs),
            _rules(rules, self.team),
        )
        self._kept = [packed, ruled, codes, *tables]
        self._net = self._api.create(
            len(specs),
            packed.ctypes.data,
            ruled.ctypes.data,
            self.seed,
            thread_count(),
            codes.ctypes.data,
            tables[0].ctypes.data,
            tables[1].ctypes.data,
            self._hook,
        )
        if not self._net:
            raise EngineError(f"engine 'compiled': no memory for {network} with batch={rules.batch}")
        self._foreign: dict[int, LayerLearner] = {}
        self._in_flight: dict[tuple[int, int], Kept] = {}  # of those, by layer and slot
        state = as_ruled(network, state, rules)
        for i, layer in enumerate(network.layers):
            _check_range(layer, state.S[i], rules)
            if i in foreign:
                self._foreign[i] = LayerLearner(sites[i], state.layers[i], self.team)
                continue
            _put_weights(self._api, self._net, i, state.layers[i])
            four = np.array([*_pair(state.error_held[i]), *_pair(state.gradient_held[i])], np.int64)
            self._api.set_held(self._net, i, four.ctypes.data)
            B = feedback_weights(layer, network.classes, rules, self.seed)
            if B is not None:
                B = np.ascontiguousarray(B, np.int8)
                self._api.set_feedback(self._net, i, B.ctypes.data)

    def close(self) -> None:
        """Free what the library holds."""
        if self._net:
            self._api.destroy(self._net)
            self._net = None

    def __del__(self) -> None:
        if getattr(self, "_net", None):
            self.close()

    @property
    def paths(self) -> tuple[str, ...]:
        """How each layer's products are made."""
        return tuple(self._api.path(self._net, i).decode() for i in range(len(self.network.layers)))

    @property
    def state(self) -> State:
        """Everything that training has changed so far, copied."""
        found = []
        for i, layer in enumerate(self.network.layers):
            found.append(self._foreign[i].learned() if i in self._foreign else self._learned(layer))
        return State(layers=tuple(found), seed=self.seed, step=self.step)

    def _learned(self, layer: Layer) -> LayerState:
        learned = _get_learned(self._api, self._net, layer.index, layer, self.rules)
        return replace(learned, S=learned.S.astype(code_dtype(layer.bits.k_G)))

    def set_importance(self, importance: tuple[np.ndarray, ...]) -> None:
        """Put another importance in the place of each layer's."""
        for layer, held in zip(self.network.layers, importance, strict=True):
            if layer.index in self._foreign:
                own = self._foreign[layer.index]
                own.go_on_from(replace(own.state, importance=held))
            else:
                learned = replace(self._learned(layer), importance=held)
                _put_weights(self._api, self._net, layer.index, learned)

    # --- work ---

    def train(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        former: np.ndarray | None,
        controls: tuple[LayerControl, ...],
        watch: Watch,
    ) -> np.ndarray:
        """Learn whole batches; arguments are checked. Returns the (n, classes) int64 logits."""
        n, images = len(images), np.ascontiguousarray(images)
        labels = np.ascontiguousarray(labels, np.int64)
        logits = np.empty((n, self.network.classes), np.int64)
        former = None if former is None else np.ascontiguousarray(former)
        etas = np.array([FROZEN if c.log2_eta is None else c.log2_eta for c in controls], np.int64)
        holds = np.array([c.hold for c in controls], np.int64)
        self._watch, self._controls = watch, controls
        call = _Call(
            images.ctypes.data,
            labels.ctypes.data,
            _data(former),
            n,
            etas.ctypes.data,
            holds.ctypes.data,
            self.step,
            logits.ctypes.data,
            watch.every,
        )
        self._api.train(self._net, ctypes.byref(call))
        self._raise_failure()
        self.step += n if self.rules.pipelined else n // self._batch
        return logits

    def predict(self, images: np.ndarray, watch: Watch) -> np.ndarray:
        """(n, classes) int64 logits; the images are checked."""
        images = np.ascontiguousarray(images)
        logits = np.empty((len(images), self.network.classes), np.int64)
        self._watch = watch
        counts = bool(watch.every)
        self._api.predict(self._net, images.ctypes.data, len(images), logits.ctypes.data, counts)
        self._raise_failure()
        return logits

    def get(self, i: int, slot: int, what: int, shape: tuple[int, ...]) -> np.ndarray:
        """An array of layer i's samples in a slot, in the order that numpy has."""
        out = np.empty(shape, np.int64)
        self._api.get(self._net, i, slot, what, shape[0], out.ctypes.data)
        return out

    def put(self, i: int, slot: int, what: int, values: np.ndarray) -> None:
        """Put an array in the place of what `get` returns."""
        values = np.ascontiguousarray(values, np.int64)
        self._api.set(self._net, i, slot, what, len(values), values.ctypes.data)

    # --- what the library calls ---

    def _called(self, event: int, i: int, slot: int, step: int, detail: int) -> int:
        if self._failure:
            return 0
        try:
            return int(_EVENTS[event](self, self.network.layers[i], slot, step, detail))
        except BaseException as error:  # ctypes would only print it
            self._failure = error
            return 0

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure:
            raise failure

    def _codes_in(self, layer: Layer, slot: int, n: int, what: int = CODES_IN) -> np.ndarray:
        return self.get(layer.index, slot, what, (n, *layer.in_shape))

    def _kept_of(self, layer: Layer, slot: int) -> Kept:
        n = self._samples
        winner = self.get(layer.index, slot, WINNERS, (n, *layer.out_shape)) if max_pool(layer.pool) else None
        return Kept(self._codes_in(layer, slot, n), winner=winner)

    def _forward_done(self, layer: Layer, slot: int, step: int, n: int) -> bool:
        i = layer.index
        what, at = (LOGITS, i) if layer.is_last else (CODES_IN, i + 1)
        out = self.get(at, slot, what, (n, *layer.out_shape))
        codes = self._codes_in(layer, slot, n)
        activity.count_forward(self._watch.counts[i], layer, self._visible(layer), codes, out)
        self._watch.samples += n if i == 0 else 0
        return True

    def _error_arrives(self, layer: Layer, slot: int, step: int, detail: int) -> bool:
        if layer.index in self._foreign:  # counts what it receives by itself
            return True
        B = feedback_weights(layer, self.network.classes, self.rules, self.seed)
        assert B is not None
        activity.count_direct_feedback(self._watch.counts[layer.index], B, self._last_codes(slot))
        return True

    def _visible(self, layer: Layer) -> np.ndarray:
        if layer.index in self._foreign:
            return self._foreign[layer.index].visible()
        return layers.visible_weights(layer, self._learned(layer).S)

    def _last_codes(self, slot: int) -> np.ndarray:
        last = self.network.layers[-1]
        return self.get(last.index, slot, CODES_E, (self._samples, *last.out_shape))

    def _error_received(self, layer: Layer, slot: int, step: int, learns: int) -> bool:
        i, n = layer.index, self._samples
        counts, kept = self._watch.counts[i], self._kept_of(layer, slot)
        E = self.get(i, slot, CODES_E, (n, *layer.out_shape))
        factors = None
        if learns and self.rules.update == "coincidence":
            factors = self._codes_in(layer, slot, n, PRE), self.get(i, slot, POST, E.shape)
        elif learns:
            factors = kept.a_in, E
        activity.count_error(counts, layer, kept, E, factors)
        B = feedback_weights(layer, self.network.classes, self.rules, self.seed)
        W_back = backward_weights(self._visible(layer), B, self.rules)
        if i and W_back is not None:
            activity.count_feedback(counts, layer, W_back, kept, E)
        self._before = self._learned(layer).S
        return True

    def _updated(self, layer: Layer, slot: int, step: int, detail: int) -> bool:
        activity.count_updates(self._watch.counts[layer.index], self._before, self._learned(layer).S)
        return True

    def _numpy_forward(self, layer: Layer, slot: int, step: int, n: int) -> bool:
        i = layer.index
        codes = self._codes_in(layer, slot, n).astype(code_dtype(layer.bits.k_A))
        out, self._in_flight[i, slot] = self._foreign[i].forward(codes)
        if layer.is_last:
            self.put(i, slot, LOGITS, out)
        else:
            self.put(i + 1, slot, CODES_IN, out)
        return True

    def _numpy_learn(self, layer: Layer, slot: int, step: int, counted: int) -> bool:
        i, n = layer.index, self._samples
        hidden = self.rules.feedback == "direct" and not layer.is_last
        message = self._last_codes(slot) if hidden else self.get(i, slot, ERRORS, (n, *layer.out_shape))
        counts = self._watch.counts[i] if counted else None
        own, control = self._foreign[i], self._controls[i]
        sent = own.error(message, self._in_flight[i, slot], control, step, counts)
        if self.team.size > 1:
            self._sent.append((own, own.send(control)))
        else:
            own.update(n, control, step, counts)
        E = own.E
        assert E is not None
        if layer.is_last:
            self.put(i, slot, CODES_E, E)
        if sent is not None and self.rules.feedback != "direct":
            self.put(i - 1, slot, ERRORS, sent)
        return bool(E.any()) or self.team.size > 1

    # --- in a team ---

    def _peak(self, layer: Layer, slot: int, step: int, own: int) -> int:
        return int(self.team.most([own])[0])

    def _sums(self, layer: Layer, each: int, step: int, address: int) -> bool:
        kind = ctypes.c_int32 if each == 4 else _i64
        sums = np.ctypeslib.as_array((kind * layer.n_weights).from_address(address))
        sent = send_gradient(layer, sums, self.rules, self.team)
        self._sent.append((_MovingNative(layer, self), sent))
        return True

    def _learn_together(self, _: Layer, slot: int, step: int, detail: int) -> bool:
        sent, self._sent = self._sent, []
        counts = self._watch.counts if self._watch.wants(step) else None
        learn_together(sent, self.rules, self.team, step, counts)
        return True


_EVENTS: dict[int, Callable[..., int]] = {
    FORWARD: NativeNet._forward_done,
    ARRIVES: NativeNet._error_arrives,
    ERROR: NativeNet._error_received,
    UPDATED: NativeNet._updated,
    FOREIGN_FORWARD: NativeNet._numpy_forward,
    FOREIGN_LEARN: NativeNet._numpy_learn,
    PEAK: NativeNet._peak,
    SUMS: NativeNet._sums,
    TOGETHER: NativeNet._learn_together,
}


@dataclass
class _MovingNative:
    """`learner.Moving` in the library."""

    layer: Layer
    net: NativeNet

    def move(self, part: slice, G: np.ndarray, peak: int, step: int, counts: np.ndarray | None) -> np.ndarray:
        net, i, codes = self.net, self.layer.index, np.empty(len(G), np.int16)
        G = np.ascontiguousarray(G, np.int64)
        before = None if counts is None else net._learned(self.layer).S
        net._api.move(net._net, i, part.start, len(G), G.ctypes.data, peak, step, codes.ctypes.data)
        if counts is not None and before is not None:
            activity.count_updates(counts, before, net._learned(self.layer).S)
        return codes

    def take(self, codes: np.ndarray) -> None:
        net, own = self.net, self.net.team.part(self.layer.n_weights)
        size, i = own.stop - own.start, self.layer.index
        net._api.take(net._net, i, own.start, size, codes.ctypes.data, codes.dtype.itemsize)


def _put_weights(api: _Api, net: Any, i: int, learned: LayerState) -> None:
    """Put weights and what is kept of each into layer i of a network in the library."""
    arrays = [np.asarray(learned.S, np.int16), *_two(learned.importance), learned.momentum]
    copies = [None if array is None else array.copy() for array in arrays]
    api.set_weights(net, i, *map(_data, copies))
    if learned.norm is not None:
        norm = np.ascontiguousarray(learned.norm, np.int64)
        api.set_norm(net, i, norm.ctypes.data)


def _get_learned(api: _Api, net: Any, i: int, layer: Layer, rules: Rules) -> LayerState:
    """What layer i has learned, copied; S is int16."""
    S, four = np.empty(layer.weight_shape, np.int16), np.empty(4, np.int64)
    held, M = layers.no_importance(layer, rules), layers.at_rest(layer, rules)
    api.get_weights(net, i, *map(_data, (S, *_two(held), M)))
    api.get_held(net, i, four.ctypes.data)
    error, gradient = _held(four[:2]), _held(four[2:])
    norm = np.empty((3, layer.weight_shape[-1]), np.int64) if layer.normalised else None
    if norm is not None:
        api.get_norm(net, i, norm.ctypes.data)
    return LayerState(S=S, error_held=error, gradient_held=gradient, importance=held, momentum=M, norm=norm)


def _two(importance: np.ndarray | None) -> tuple[np.ndarray | None, np.ndarray | None]:
    return (None, None) if importance is None else (importance[0], importance[1])


def _check_range(layer: Layer, S: np.ndarray, rules: Rules) -> None:
    bound, reached = layer.bits.stored_max(rules.stored_range), int(np.abs(S.astype(np.int32)).max(initial=0))
    if reached > bound:
        raise SettingError(
            f"stored weights of layer {layer.index} reach {reached}:"
            f" stored_range={rules.stored_range!r} ends at {bound}"
        )


def _data(array: np.ndarray | None) -> int | None:
    return None if array is None else array.ctypes.data


def _pair(held: Held) -> tuple[int, int]:
    return NONE if held.exponent is None else held.exponent, held.below


def _held(pair: np.ndarray) -> Held:
    exponent, below = pair.tolist()
    return Held(None if exponent == NONE else exponent, below)
