"""Network <-> ONNX, for inference; exact, in three forms of standard operators.

`integer`   MatMulInteger and ConvInteger sum int8 products in int32; Mul by 2**-z_shift, Round (halves to
            even), Clip and Cast make the next codes.
`qlinear`   QLinearMatMul and QLinearConv, the fused int8 kernels of edge runtimes, with scale 2**z_shift and
            no zero points, then Clip at 0; the last layer sums in int32.
`qonnx`     float MatMul and Conv between QONNX's Quant nodes, for FINN and hls4ml, with their datatypes as
            annotations; every value in it is a whole number.

Each takes the input codes of `Network.encode`, images as (n, channels, height, width), and answers with the
products Z of the last layer, `logits`. ONNX's Round goes to even as WAGE's does; max-pooling commutes with
what never falls, so it comes after rounding. The model's metadata hold `wage_neuro`, a JSON text that names
the network, and `wage_neuro_form`.

Source: ONNX operators, opset 13; QONNX: Pappalardo et al., arXiv:2206.07527.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mappings.formats.inference import (
    Inference,
    channels_first,
    channels_first_shape,
    channels_last,
    flattens,
    reading,
    symmetric_padding,
)
from wage_neuro.errors import BitWidthError, CheckpointError, NetworkError
from wage_neuro.files import written_whole
from wage_neuro.kinds import Kind
from wage_neuro.layers import Layer
from wage_neuro.network import Network
from wage_neuro.specs import Conv, Dense, assert_never, max_pool
from wage_neuro.support import Support

OPSET, IR_VERSION = 13, 8
QONNX = "qonnx.custom_op.general"
TAKES = Support(who="ONNX", kinds=frozenset({Kind.DENSE, Kind.CONV, Kind.MAX_POOL, Kind.PADDED_POOL}))
K_A_MAX = 8  # codes are int8
K_W_MAX = 7  # some processors add two products of 8 bits in 16 bits, of which one factor may come as 0..255
EXACT = 2**24  # whole numbers that float32 holds


class _Graph:
    """Nodes and constants of a graph in the making."""

    def __init__(self, inference: Inference) -> None:
        self.network = inference.network
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self.datatypes: dict[str, str] = {}

    def add(self, kind: str, name: str, *inputs: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def constant(self, name: str, value: object) -> str:
        self.constants[name] = np.asarray(value)
        return name

    def pooled(self, layer: Layer, source: str) -> str:
        pool = max_pool(layer.pool)
        if not pool:
            return source
        top, bottom, left, right = layer.pool_padding
        size, step = [pool.size] * 2, [pool.step] * 2
        pads = [top, left, bottom, right]
        return self.add("MaxPool", f"P{layer.index}", source, kernel_shape=size, strides=step, pads=pads)


def to_onnx(inference: Inference, form: str = "integer") -> onnx.ModelProto:
    """Build the ONNX model of a network.

    Parameters
    ----------
    form : 'integer', 'qlinear' or 'qonnx'

    Raises
    ------
    BitWidthError
        If its activations or weights are wider than the form's codes.
    NetworkError
        If a sum could pass what the form holds exactly.

    >>> from wage_neuro import Network, initial_state
    >>> from wage_neuro.checkpoint import Checkpoint
    >>> from wage_neuro.rules import Rules
    >>> net = Network.parse("4FC-3FC", (5,))
    >>> model = to_onnx(Inference.of(Checkpoint(net, Rules(), initial_state(net))))
    >>> [node.op_type for node in model.graph.node]
    ['MatMulInteger', 'Cast', 'Mul', 'Round', 'Clip', 'Cast', 'MatMulInteger']
    """
    network = inference.network
    _check(network, form)
    graph, build = _Graph(inference), FORMS[form]
    a = "codes"
    for layer, V in zip(network.layers, inference.V, strict=True):
        if flattens(network, layer):
            a = graph.add("Flatten", f"flat{layer.index}", a, axis=1)
        W = np.ascontiguousarray(channels_first(network, layer, V))
        a = build(graph, layer, W.T if W.ndim == 2 else W, a)
    return _model(graph, inference, form)


def _model(graph: _Graph, inference: Inference, form: str) -> onnx.ModelProto:
    network = inference.network
    x_type, z_type = _io_types(form)
    shape = ["n", *channels_first_shape(network.input_shape)]
    made = helper.make_graph(
        graph.nodes,
        "wage_neuro",
        [helper.make_tensor_value_info("codes", x_type, shape)],
        [helper.make_tensor_value_info("logits", z_type, ["n", network.classes])],
        [
            numpy_helper.from_array(np.ascontiguousarray(value), name)
            for name, value in graph.constants.items()
        ],
    )
    for tensor, datatype in graph.datatypes.items():
        note = made.quantization_annotation.add(tensor_name=tensor)
        note.quant_parameter_tensor_names.add(key="finn_datatype", value=datatype)
    opsets = [helper.make_opsetid("", OPSET)] + ([helper.make_opsetid(QONNX, 1)] if form == "qonnx" else [])
    model = helper.make_model(made, opset_imports=opsets, producer_name="wage-neuro", ir_version=IR_VERSION)
    helper.set_model_props(model, {"wage_neuro": inference.header(), "wage_neuro_form": form})
    return model


def _io_types(form: str) -> tuple[int, int]:
    if form == "qonnx":
        return TensorProto.FLOAT, TensorProto.FLOAT
    return TensorProto.INT8, TensorProto.INT32


def _window(layer: Layer) -> dict[str, list[int]]:
    assert layer.window
    return {"pads": list(symmetric_padding(layer)) * 2, "strides": [layer.window[1]] * 2}


def _integer_sum(graph: _Graph, layer: Layer, W: np.ndarray, a: str) -> str:
    V = graph.constant(f"V{layer.index}", W.astype(np.int8))
    name = "logits" if layer.is_last else f"Z{layer.index}"
    match layer.spec:
        case Dense():
            return graph.add("MatMulInteger", name, a, V)
        case Conv():
            return graph.add("ConvInteger", name, a, V, **_window(layer))
        case _:
            assert_never(layer.spec)


def _integer(graph: _Graph, layer: Layer, W: np.ndarray, a: str) -> str:
    i, Z = layer.index, _integer_sum(graph, layer, W, a)
    if layer.is_last:
        return Z
    scale = graph.constant(f"scale{i}", np.float32(2.0**-layer.z_shift))
    low = graph.constant("low", np.float32(0))
    high = graph.constant("high", np.float32(layer.bits.activation_max))
    scaled = graph.add("Mul", f"M{i}", graph.add("Cast", f"F{i}", Z, to=TensorProto.FLOAT), scale)
    clipped = graph.add("Clip", f"C{i}", graph.add("Round", f"R{i}", scaled), low, high)
    return graph.add("Cast", f"A{i}", graph.pooled(layer, clipped), to=TensorProto.INT8)


def _qlinear(graph: _Graph, layer: Layer, W: np.ndarray, a: str) -> str:
    if layer.is_last:
        return _integer_sum(graph, layer, W, a)
    i = layer.index
    one, zero = graph.constant("one", np.float32(1)), graph.constant("zero", np.int8(0))
    V, scale = (
        graph.constant(f"V{i}", W.astype(np.int8)),
        graph.constant(f"scale{i}", np.float32(2.0**layer.z_shift)),
    )
    factors = (a, one, zero, V, one, zero, scale, zero)
    match layer.spec:
        case Dense():
            q = graph.add("QLinearMatMul", f"Q{i}", *factors)
        case Conv():
            q = graph.add("QLinearConv", f"Q{i}", *factors, **_window(layer))
        case _:
            assert_never(layer.spec)
    high = graph.constant("high", np.int8(layer.bits.activation_max))
    return graph.pooled(layer, graph.add("Clip", f"A{i}", q, zero, high))


def _qonnx(graph: _Graph, layer: Layer, W: np.ndarray, a: str) -> str:
    i, bits = layer.index, layer.bits
    one, zero = graph.constant("one", np.float32(1)), graph.constant("zero", np.float32(0))
    quant = partial(graph.add, "Quant", domain=QONNX, rounding_mode="ROUND")
    if i == 0:
        width = graph.constant("bits_in", np.float32(bits.k_A))
        a = quant("quantized_codes", a, one, zero, width, signed=1, narrow=1)
        graph.datatypes["codes"] = f"INT{bits.k_A}"
    width = graph.constant("bits_W", np.float32(bits.k_W))
    V = graph.constant(f"V{i}", W.astype(np.float32))
    graph.datatypes[V] = "TERNARY" if bits.k_W == 2 else f"INT{bits.k_W}"
    V = quant(f"W{i}", V, one, zero, width, signed=1, narrow=1)
    name = "logits" if layer.is_last else f"Z{i}"
    match layer.spec:
        case Dense():
            Z = graph.add("MatMul", name, a, V)
        case Conv():
            Z = graph.add("Conv", name, a, V, kernel_shape=list(W.shape[2:]), **_window(layer))
        case _:
            assert_never(layer.spec)
    if layer.is_last:
        return Z
    scale = graph.constant(f"scale{i}", np.float32(2.0**layer.z_shift))
    unscale = graph.constant(f"unscale{i}", np.float32(2.0**-layer.z_shift))
    width = graph.constant("bits_A", np.float32(bits.k_A - 1))
    q = quant(f"Q{i}", graph.add("Relu", f"U{i}", Z), scale, zero, width, signed=0, narrow=0)
    A = graph.pooled(layer, graph.add("Mul", f"A{i}", q, unscale))
    graph.datatypes[A] = f"UINT{bits.k_A - 1}"
    return A


FORMS = {"integer": _integer, "qlinear": _qlinear, "qonnx": _qonnx}
"""What adds a layer to a graph: (graph, layer, channels-first weights, input's name) -> output's name."""


def _check(network: Network, form: str) -> None:
    TAKES.check(network)
    for name, most in (("k_A", K_A_MAX), ("k_W", K_W_MAX)):
        bits = getattr(network.bits, name)
        if bits > most:
            raise BitWidthError(f"{name}={bits}: ONNX sums products of int8; want {most} at most")
    for layer in network.layers:
        if layer.z_bound >= EXACT:
            raise NetworkError(
                f"layer {layer.index} {layer}: a sum may reach {layer.z_bound}, past the {EXACT - 1} that"
                f" float32 holds exactly in ONNX's {form} form"
            )


def from_onnx(model: onnx.ModelProto) -> Inference:
    """Read the network out of a model that `to_onnx` built.

    Raises
    ------
    CheckpointError, NetworkError
        If it is another model: not of wage-neuro, newer, or changed in any node since.
    """
    header, form = _metadata(model)
    found = {tensor.name: tensor for tensor in model.graph.initializer}

    def weights_of(network: Network) -> Iterator[np.ndarray]:
        for layer in network.layers:
            W = numpy_helper.to_array(found[f"V{layer.index}"])
            wanted = channels_first(network, layer, np.zeros(layer.weight_shape)).shape
            W = W.T if W.ndim == 2 else W
            if W.shape != wanted:
                raise NetworkError(f"weights of layer {layer.index} {layer}: shape {W.shape}; want {wanted}")
            yield channels_last(network, layer, W)

    inference = Inference.from_header(header, weights_of)
    _check_same(model, to_onnx(inference, form), inference.network)
    return inference


def _metadata(model: onnx.ModelProto) -> tuple[str, str]:
    """Header and form of a model that `to_onnx` built."""
    about = {entry.key: entry.value for entry in model.metadata_props}
    if "wage_neuro" not in about:
        raise CheckpointError("an ONNX model that wage-neuro did not write: no metadata 'wage_neuro'")
    form = about.get("wage_neuro_form", "")
    if form not in FORMS:
        raise CheckpointError(f"ONNX form {form!r}: want {', '.join(FORMS)}")
    return about["wage_neuro"], form


def _check_same(model: onnx.ModelProto, wanted: onnx.ModelProto, network: Network) -> None:
    if list(model.opset_import) != list(wanted.opset_import):
        raise CheckpointError(f"operator sets of the model are not those of {network}")
    for ours, theirs in zip(wanted.graph.node, model.graph.node, strict=False):
        if ours != theirs:
            raise CheckpointError(f"node {theirs.name}: not the {ours.op_type} {ours.name} of {network}")
    for ours, theirs in zip(wanted.graph.initializer, model.graph.initializer, strict=False):
        if ours != theirs:
            raise CheckpointError(f"constant {theirs.name}: not the {ours.name} of {network}")
    if model.graph != wanted.graph:
        raise CheckpointError(f"nodes, inputs or outputs of the graph are not those of {network}")


def form_of(path: Path) -> str:
    """Form of an ONNX file; CheckpointError if it is missing, damaged or not of wage-neuro."""
    with reading(path, "ONNX file"):
        return _metadata(onnx.load_model_from_string(path.read_bytes()))[1]


def write(path: Path, inference: Inference, form: str = "integer") -> None:
    """Write an ONNX file; an existing file is replaced at the end, in one step."""
    content = to_onnx(inference, form).SerializeToString(deterministic=True)
    with written_whole(path) as file:
        file.write(content)


def read(path: Path) -> Inference:
    """Read an ONNX file; CheckpointError if it is missing, damaged, newer or not of wage-neuro."""
    with reading(path, "ONNX file"):
        return from_onnx(onnx.load_model_from_string(path.read_bytes()))
