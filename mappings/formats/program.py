"""Network, Rules and State <-> the on-chip learning program, one JSON file.

The program says what a chip's compiler has to know: neurons and synapses of every layer, each rule as a
whole-number expression, the exponents, when each message arrives, the random bits, the seed, and the stored
weights (left out where they are the ones that the seed draws). `program.schema.json` explains every
field. Reading it back gives the same network, which learns on to the same bits.

Expressions are Python's, on whole numbers, with `sgn`, `min`, `max`, `abs`, and

    clip(x, low, high)
    rne(x, s)      x / 2**s rounded half to even; times 2**-s where s < 0
    shr(x, s)      floor(x / 2**s); times 2**-s where s < 0
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import asdict
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np

from mappings.formats.inference import FORMAT, check_format, describe, network_of, reading
from wage_neuro import random_bits
from wage_neuro.bits import code_dtype
from wage_neuro.checkpoint import Checkpoint
from wage_neuro.errors import CheckpointError
from wage_neuro.files import written_whole
from wage_neuro.kinds import Kind
from wage_neuro.layers import Layer
from wage_neuro.network import Network
from wage_neuro.random_bits import check_seed
from wage_neuro.rules import GAMMAS, MARGIN_UNITS, NEUTRAL, VALUES, Rules
from wage_neuro.schedule import Schedule
from wage_neuro.specs import Conv, Dense, assert_never, max_pool
from wage_neuro.support import Support
from wage_neuro.train import Held, State, initial_state

KIND = "wage-neuro learning program"
TAKES = Support(
    who="a learning program",
    kinds=frozenset({Kind.DENSE, Kind.CONV, Kind.MAX_POOL}),
    rules={**VALUES, **NEUTRAL, "gamma": GAMMAS, "generator": ("philox4x64",)},
)


@cache
def schema() -> dict[str, Any]:
    """Return the JSON schema of the program."""
    return json.loads(files("mappings.formats").joinpath("program.schema.json").read_text())


def to_program(saved: Checkpoint) -> dict[str, Any]:
    """Return the program, in JSON's types, of a network as it stands in its training.

    Raises
    ------
    NetworkError
        If its last layer is unquantized.
    SettingError
        If its rules need what the expressions have no words for.
    """
    network, rules, state = saved.network, saved.rules, saved.state
    TAKES.check(network, rules)
    fresh = initial_state(network, state.seed)
    drawn = all(np.array_equal(S, T) for S, T in zip(state.S, fresh.S, strict=True))
    program = {
        "kind": KIND,
        "format": FORMAT,
        **describe(network),
        "widths": asdict(network.bits),
        "input_codes": network.input_codes.tolist(),
        "rules": asdict(rules),
        "seed": state.seed,
        "step": state.step,
        "random_bits": {
            "generator": "numpy.random.Philox(key=[seed, purpose], counter=[0, step, layer, 0])",
            "purposes": {
                "initial": random_bits.INIT,
                "update": random_bits.UPDATE,
                "pre": random_bits.PRE,
                "post": random_bits.POST,
                "feedback": random_bits.FEEDBACK,
            },
        },
        "schedule": _schedule(network, rules),
        "layers": [_layer(network, layer, rules, state, drawn) for layer in network.layers],
        "output": _output(network.layers[-1], rules),
        "run": saved.extra,
    }
    return {**program, "sha256": _sha256(program)}


def _sha256(program: dict[str, Any]) -> str:
    """Checksum of all the rest of a program."""
    rest = {key: value for key, value in program.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _layer(network: Network, layer: Layer, rules: Rules, state: State, drawn: bool) -> dict[str, Any]:
    i = layer.index
    return {
        "spec": str(layer),
        "neurons": _neurons(layer),
        "synapses": _synapses(layer, rules),
        "feedback": rules.feedback if _has_feedback(layer, rules) else None,
        "exponents": {"error": asdict(state.error_held[i]), "gradient": asdict(state.gradient_held[i])},
        "expressions": _expressions(layer, rules),
        "loihi": _loihi(network, layer, rules),
        "stored": None if drawn else _encode(layer, state.S[i]),
    }


def _has_feedback(layer: Layer, rules: Rules) -> bool:
    return not layer.is_last if rules.feedback == "direct" else layer.index > 0


def _neurons(layer: Layer) -> dict[str, Any]:
    pool = max_pool(layer.pool)
    return {
        "shape": list(layer.z_shape),
        "count": int(np.prod(layer.z_shape)),
        "pool": {"size": pool.size, "stride": pool.step} if pool else None,
        "sends_shape": list(layer.out_shape),
        "sends": "z" if layer.is_last else "a",
        "z_bits": layer.z_bound.bit_length() + 1,
        "z_shift": layer.z_shift,
    }


def _synapses(layer: Layer, rules: Rules) -> dict[str, Any]:
    bits, spec = layer.bits, layer.spec
    common = {
        "shape": list(layer.weight_shape),
        "count": layer.n_weights,
        "uses_a_sample": layer.n_weights * layer.positions,
        "weight_max": bits.weight_max,
        "stored_max": bits.stored_max(rules.stored_range),
        "backward_bits": layer.d_bound.bit_length() + 1,
    }
    match spec:
        case Dense():
            return {"kind": "dense", **common}
        case Conv(kernel=kernel, stride=stride):
            place = {"kernel": kernel, "stride": stride, "padding": list(layer.padding)}
            return {"kind": "conv", **place, **common}
        case _:
            assert_never(spec)


# --- the rules, as expressions -----------------------------------------------------------------------


def _expressions(layer: Layer, rules: Rules) -> dict[str, str]:
    """What each value is, in the names that the schema explains."""
    bits = layer.bits
    stored, weight = bits.stored_max(rules.stored_range), bits.weight_max
    unit = bits.k_E - 1 + rules.log2_gamma(layer.is_last)
    error = f"clip(rne(d, m_e - {unit}), {-bits.error_max}, {bits.error_max})"
    found = {
        "s": _initial(layer),
        "w": f"clip(rne(s, {bits.k_G - bits.k_W}), {-weight}, {weight})",
        "e": error,
    }
    if not layer.is_last:
        ceiling = bits.activation_max << layer.z_shift
        found["a"] = f"clip(rne(z, {layer.z_shift}), 0, {bits.activation_max})"
        found["d"] = f"d * (z <= {ceiling})"
        found["e"] = f"{error} * (z > 0)"
    if rules.update == "coincidence":
        found["pre"] = f"sgn(a_in) * (r < abs(a_in) * 2**{17 - bits.k_A})"
        found["post"] = f"sgn(e) * (r < abs(e) * 2**({17 - bits.k_E} + log2_eta))"
        found["ds"] = "clip(g, -1, 1)"
    else:
        step_max = 1 if rules.update == "ternary" else 2 * stored
        found["ds"] = f"sgn(g) * min({step_max}, (shr(abs(g), m_g - log2_eta - 16) + r) >> 16)"
    return {**found, "s_next": f"clip(s - ds, {-stored}, {stored})"}


def _initial(layer: Layer) -> str:
    """Stored weight that a 32-bit random word r draws."""
    bits = layer.bits
    k = min(bits.k_W, bits.k_G)
    top = (1 << (k - 1)) - 1
    limit = max((3 / layer.fan_in) ** 0.5, 1.5 * 2.0 ** (1 - bits.k_W))
    uniform = "((r + 0.5) * 2.0**-31 - 1.0)"
    return f"clip(rne({uniform} * {limit!r} * {2 ** (k - 1)}, 0), {-top}, {top}) * {2 ** (bits.k_G - k)}"


def _loihi(network: Network, layer: Layer, rules: Rules) -> dict[str, str] | None:
    """The update as sums of products of Loihi's learning engine, where it can be said so.

    The tag t holds s, the weight w holds the visible weight times its step in s. [t > h] is
    (sgn(t - h) + sgn(t - h)**2) / 2.
    """
    bits = layer.bits
    fits = bits.k_W == 2 < bits.k_G <= 9 and max(bits.k_A, bits.k_E) <= 8  # tag 9 bits, traces 7 and a sign
    signed = network.signed_input and not layer.index  # a trace of the input has no sign
    if not fits or signed or layer.window or rules.update == "wide":
        return None
    if rules.samples_an_update != 1:
        return None
    half = 1 << (bits.k_G - 3)  # half a visible step, in units of s; times two it is the step
    up, down = f"sgn(t-{half})", f"sgn(t+{half})"
    dw = f"u0*{half}*{up} + u0*{half}*{up}*{up} + u0*{half}*{down} - u0*{half}*{down}*{down} - u0*w"
    dt = "-x0*y1" if rules.update == "coincidence" else "-2^n*x0*x1*y1"
    return {"dt": dt, "dw": dw}


def _output(layer: Layer, rules: Rules) -> dict[str, Any]:
    one_sided = rules.loss == "one-sided"
    lead = rules.margin * layer.target
    return {
        "target": layer.target,
        "right": f"min(z - {layer.target}, 0)" if one_sided else f"z - {layer.target}",
        "other": "max(z, 0)" if one_sided else "z",
        "skip": f"{MARGIN_UNITS} * lead >= {lead}" if rules.margin else None,
    }


def _schedule(network: Network, rules: Rules) -> dict[str, Any]:
    L = len(network.layers)
    micro_steps = 1 if rules.shift == "batch" else rules.batch
    schedule = Schedule(L, micro_steps, rules.feedback == "direct")
    return {
        "samples_a_batch": rules.batch,
        "samples_a_step": rules.batch // schedule.micro_steps,
        "steps_a_batch": schedule.steps(learning=True),
        "forward_arrives": list(range(L)),
        "answer_arrives": L,
        "error_arrives": [schedule.error_delay(i) for i in range(L)],
        "update": "as its error arrives" if rules.pipelined else "at the last step of the batch",
        "samples_an_update": rules.samples_an_update,
    }


# --- back --------------------------------------------------------------------------------------------


def from_program(program: dict[str, Any]) -> Checkpoint:
    """Build what a program describes.

    Raises
    ------
    CheckpointError
        If it is newer, not as the schema wants it, or says anything that its network and rules do not.
    """
    if not isinstance(program, dict) or program.get("kind") != KIND:
        raise CheckpointError(f"not a {KIND}")
    check_format(program.get("format"))
    fault = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema()).iter_errors(program))
    if fault is not None:
        raise CheckpointError(f"{fault.json_path}: {fault.message[:200]}")
    network, rules = network_of(program), Rules(**program["rules"])
    fresh, rows = initial_state(network, check_seed(program["seed"])), program["layers"]
    if len(rows) != len(network.layers):
        raise CheckpointError(f"{len(rows)} layers: {network} has {len(network.layers)}")
    S = tuple(
        drawn if row["stored"] is None else _decode(layer, row["stored"], rules)
        for layer, drawn, row in zip(network.layers, fresh.S, rows, strict=True)
    )
    error_held, gradient_held = (
        tuple(Held(**row["exponents"][name]) for row in rows) for name in ("error", "gradient")
    )
    state = State.of(
        S, seed=fresh.seed, step=program["step"], error_held=error_held, gradient_held=gradient_held
    )
    saved = Checkpoint(network, rules, state, program["run"])
    # what contradicts the rest is named; what does not, as a weight, is told by the checksum
    written = program["sha256"]
    wanted = {**json.loads(json.dumps(to_program(saved))), "sha256": written}
    _check_same(program, wanted, "$")
    if _sha256(program) != written:
        raise CheckpointError("changed since it was written: its sha256 is another")
    return saved


def _encode(layer: Layer, S: np.ndarray) -> str:
    return base64.b64encode(S.astype(_dtype(layer)).tobytes()).decode()


def _decode(layer: Layer, text: str, rules: Rules) -> np.ndarray:
    where, bound = f"stored weights of layer {layer.index} {layer}", layer.bits.stored_max(rules.stored_range)
    S = np.frombuffer(base64.b64decode(text, validate=True), _dtype(layer))
    if S.size != layer.n_weights:
        raise CheckpointError(f"{where}: {S.size} of {layer.n_weights}")
    wrong = np.flatnonzero(np.abs(S.astype(np.int32)) > bound)
    if len(wrong):
        raise CheckpointError(f"{where}: {S[wrong[0]]} at {wrong[0]}; want -{bound}..{bound}")
    return S.astype(code_dtype(layer.bits.k_G)).reshape(layer.weight_shape)


def _dtype(layer: Layer) -> np.dtype:
    return np.dtype(code_dtype(layer.bits.k_G)).newbyteorder("<")


def _check_same(given: Any, wanted: Any, path: str) -> None:
    """Refuse a program of which any part was changed without the rest."""
    if isinstance(wanted, dict) and isinstance(given, dict) and given.keys() == wanted.keys():
        for key in wanted:
            _check_same(given[key], wanted[key], f"{path}.{key}")
    elif isinstance(wanted, list) and isinstance(given, list) and len(given) == len(wanted):
        for i, (one, other) in enumerate(zip(given, wanted, strict=True)):
            _check_same(one, other, f"{path}[{i}]")
    elif given != wanted:
        raise CheckpointError(f"{path}: {str(given)[:60]!r}; its network and rules want {str(wanted)[:60]!r}")


def write(path: Path, saved: Checkpoint) -> None:
    """Write a program; an existing file is replaced at the end, in one step."""
    text = json.dumps(to_program(saved), indent=1) + "\n"
    with written_whole(path) as file:
        file.write(text.encode())


def read(path: Path) -> Checkpoint:
    """Read a program; CheckpointError if the file is missing, damaged, newer or says what it cannot mean."""
    with reading(path, KIND):
        return from_program(json.loads(path.read_bytes()))
