"""Network -> one C99 file and one header, for a microcontroller: no float, no allocation, no library.

Inference reads its weights, two bits each, from flash; they lie as in `packed.py`. With `learn` the
file holds the stored weights too and learns one sample at a time as the numpy engine does with batch = 1: the
same logits, stored weights, held exponents and random bits. All buffers are fixed; their bytes stand in the
header and are checked when it is compiled. The texts are `c/net.c` and `c/net.h`, where `@name@` is filled
in and what stands between `/*@learn*/` and `/*learn@*/` is kept or left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from mappings.formats.inference import Inference
from mappings.formats.packed import pack
from wage_neuro import random_bits
from wage_neuro.checkpoint import Checkpoint
from wage_neuro.errors import BitWidthError, NetworkError, SettingError
from wage_neuro.files import written_whole
from wage_neuro.kinds import Kind
from wage_neuro.layers import Layer
from wage_neuro.network import Network
from wage_neuro.rules import GAMMAS, MARGIN_UNITS, NEUTRAL, VALUES
from wage_neuro.specs import Conv, Dense, assert_never, max_pool
from wage_neuro.support import Support
from wage_neuro.train import Held

CODE_BITS = 8  # codes and stored weights are int8_t
INT32 = 2**31
TAKES = Support(who="C source", kinds=frozenset({Kind.DENSE, Kind.CONV, Kind.MAX_POOL, Kind.PADDED_POOL}))
LEARNS = Support(
    who="C source that learns",
    kinds=frozenset({Kind.DENSE}),
    rules={
        **VALUES,
        "generator": ("philox4x64",),
        **NEUTRAL,
        "gamma": GAMMAS,
        "pipelined": (False,),
        "update": ("ternary",),
        "feedback": ("transposed",),
    },
    one_by_one=True,
)
"""What the C takes, and what that which learns has of the rules."""
_LAYER_BYTES = 20 * 4  # struct layer


@dataclass(frozen=True)
class Source:
    """C of a network: the texts of the file and of its header, and the bytes that they take.

    Attributes
    ----------
    constant_bytes : tables in flash, code not counted; of a network that learns the initial state too
    ram_bytes : buffers, and the state of a network that learns; the stack is not counted
    """

    code: str
    header: str
    constant_bytes: int
    ram_bytes: int


def to_c(saved: Checkpoint, prefix: str = "net", learn: bool = False) -> Source:
    """Return C source of a network as it stands in its training.

    Parameters
    ----------
    prefix : what the names in C begin with; the header is `prefix`.h
    learn : whether it goes on learning

    Raises
    ------
    BitWidthError, NetworkError, SettingError
        If the C has no words for its widths, layers or rules, or a sum could pass 32 bits.
    """
    if not re.fullmatch("[a-z][a-z0-9_]*", prefix):
        raise SettingError(f"name {prefix!r}: want a C name, of a-z, 0-9 and _, such as net.c")
    inference = Inference.of(saved)
    _check(saved, learn)
    kept, dropped = ("learn", "inference") if learn else ("inference", "learn")
    facts = _facts(saved, inference, prefix, learn) | (_learning_facts(saved) if learn else {})

    def text(name: str) -> str:
        template = files("mappings.formats").joinpath(f"c_files/{name}").read_text()
        template = re.sub(rf"/\*@{dropped}\*/.*?/\*{dropped}@\*/", "", template, flags=re.DOTALL)
        template = re.sub(rf"/\*@{kept}\*/|/\*{kept}@\*/", "", template)
        return re.sub(r"@(\w+)@", lambda m: str(facts[m[1]]), template)

    return Source(text("net.c"), text("net.h"), facts["constant_bytes"], facts["ram_bytes"])


def _check(saved: Checkpoint, learn: bool) -> None:
    network, bits = saved.network, saved.network.bits
    if learn:
        LEARNS.check(network, saved.rules)
    else:
        TAKES.check(network)
    if bits.k_W != 2:
        raise BitWidthError(f"k_W={bits.k_W}: C source packs two bits a weight, so want k_W=2")
    for name in ("k_A", "k_G", "k_E") if learn else ("k_A",):
        width = getattr(bits, name)
        if width > CODE_BITS:
            raise BitWidthError(f"{name}={width}: C source keeps codes in 8 bits; want {CODE_BITS} at most")
    if learn and bits.k_G == 2:
        raise BitWidthError("k_G=2: C source that learns stores more bits than it shows; want 3 at least")
    for layer in network.layers:
        most = layer.z_bound + layer.target if learn and layer.is_last else layer.z_bound
        most = max(most, layer.d_bound) if learn else most
        if most >= INT32:
            raise NetworkError(f"layer {layer.index} {layer}: a sum may reach {most}, past 32 bits")


def _facts(saved: Checkpoint, inference: Inference, prefix: str, learn: bool) -> dict[str, Any]:
    network = saved.network
    layers, packed = network.layers, [pack(V) for V in inference.V]
    sizes = [layer.n_weights for layer in layers] if learn else [len(part) for part in packed]
    outs = _places(network, learn)
    width = max(layer.weight_shape[-1] for layer in layers)
    buffer = max([1, *(start + _size(layer) for layer, start in zip(layers[:-1], outs, strict=False))])
    rows = [
        _row(layer, sum(sizes[:i]), outs[i - 1] if i else 0, outs[i] if i < len(outs) else 0)
        for i, layer in enumerate(layers)
    ]
    state = _rounded(8 + 16 * len(layers) + network.n_weights, 8) if learn else 0
    weights = state if learn else sum(sizes)
    ram = _rounded(8 * width + buffer + (5 * width + buffer if learn else 0), 4) + state
    digest = json.loads(inference.header())["sha256"]
    return {
        "about": f"{network}, bits {network.bits}, of wage-neuro; sha256 of its visible weights and header:\n"
        f" * {digest}",
        "prefix": prefix,
        "PREFIX": prefix.upper(),
        "inputs": int(np.prod(network.input_shape)),
        "classes": network.classes,
        "layers": len(layers),
        "weights": network.n_weights,
        "width": width,
        "buffer": buffer,
        "activation_max": network.bits.activation_max,
        "table": ",\n".join(rows),
        "input_codes": _numbers(network.input_codes),
        "weight_bytes": _numbers(b"".join(packed)),
        "constant_bytes": _LAYER_BYTES * len(layers) + 256 + weights,
        "ram_bytes": ram,
        "and_state": f" + sizeof {prefix}_state" if learn else "",
    }


def _learning_facts(saved: Checkpoint) -> dict[str, Any]:
    network, rules, state = saved.network, saved.rules, saved.state
    bits = network.bits
    return {
        "error_max": bits.error_max,
        "k_E": bits.k_E,
        "stored_max": int(bits.stored_max(rules.stored_range)),
        "half_weight": 1 << (bits.k_G - bits.k_W - 1),
        "held": int(rules.shift == "held"),
        "hold": rules.hold,
        "one_sided": int(rules.loss == "one-sided"),
        "margin": rules.margin,
        "margin_units": MARGIN_UNITS,
        "log2_gamma": rules.log2_gamma(is_last=False),  # has no softmax
        "target": network.layers[-1].target,
        "step": state.step,
        "seed": state.seed,
        "update": random_bits.UPDATE,
        "error_held": _held(state.error_held),
        "gradient_held": _held(state.gradient_held),
        "stored": _numbers(np.concatenate([S.reshape(-1) for S in state.S])),
    }


def _places(network: Network, learn: bool) -> list[int]:
    """Where each hidden layer's activations start: side by side if they are kept, else two take turns."""
    sizes = [_size(layer) for layer in network.layers[:-1]]
    if learn:
        return [sum(sizes[:i]) for i in range(len(sizes))]
    return [max(sizes[::2]) if i % 2 else 0 for i in range(len(sizes))]


def _size(layer: Layer) -> int:
    return int(np.prod(layer.out_shape))


def _row(layer: Layer, weights: int, a_in: int, out: int) -> str:
    """A `struct layer`; a dense layer is a convolution of kernel 1 over one place."""
    places: tuple[int, ...]
    match layer.spec:
        case Dense(units):
            places = (1, 1, layer.fan_in, 1, 1, 0, 0, 1, 1, units, 1, 1, 0, 0, 1, 1)
        case Conv(kernel=kernel, stride=stride):
            pool = max_pool(layer.pool)
            places = (
                *layer.in_shape,
                kernel,
                stride,
                *layer.padding[::2],
                *layer.z_shape,
                *((pool.size, pool.step) if pool else (1, 1)),
                *layer.pool_padding[::2],
                *layer.out_shape[:2],
            )
        case _:
            assert_never(layer.spec)
    return "    {" + ", ".join(map(str, (*places, layer.z_shift, weights, a_in, out))) + "}"


def _held(held: Iterable[Held]) -> str:
    return ", ".join(f"{{{-1 if h.exponent is None else h.exponent}, {h.below}}}" for h in held)


def _numbers(values: Iterable[int], a_line: int = 24) -> str:
    texts = [str(int(value)) for value in values]
    return ",\n".join("    " + ", ".join(texts[i : i + a_line]) for i in range(0, len(texts), a_line))


def _rounded(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def write(
    path: Path, saved: Checkpoint, learn: bool = False, ram: int | None = None, flash: int | None = None
) -> Source:
    """Write `path`, which ends in .c, and the header beside it, if they fit into the bytes that are there.

    Raises
    ------
    SettingError
        If the name is no C name, or the network needs more than `ram` or `flash` bytes.
    """
    if path.suffix != ".c":
        raise SettingError(f"{path}: want a name that ends in .c")
    source = to_c(saved, path.stem, learn)
    for name, there, needed in (("ram", ram, source.ram_bytes), ("flash", flash, source.constant_bytes)):
        if there is not None and needed > there:
            least = "its code more" if name == "flash" else "a stack"
            raise SettingError(f"{name}={there}: {saved.network} needs {needed:,} bytes, and {least}")
    with written_whole(path.with_suffix(".h")) as file:
        file.write(source.header.encode())
    with written_whole(path) as file:
        file.write(source.code.encode())
    return source
