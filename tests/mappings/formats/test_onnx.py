"""ONNX: equal in onnxruntime, in ONNX's own evaluator and in QONNX's executor; refused when changed."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from experiments import datasets
from wage_neuro import Network, NumpyEngine, Rules, initial_state, predict
from wage_neuro.checkpoint import Checkpoint
from wage_neuro.errors import CheckpointError, WageError

onnx = pytest.importorskip("onnx", reason="the extra `onnx` is not installed")
from mappings.formats import onnx as onnx_graph  # noqa: E402
from mappings.formats.inference import Inference, channels_first_shape  # noqa: E402

INTEGER_FORMS = ("integer", "qlinear")
SAME_POOL = Network.parse("4C4-MP3S2P-F-8FC-3FC", (8, 9, 1))
SMALL = Network.parse("3C3-MP2-F-6FC-4FC", (6, 6, 1))


def fresh(network: Network) -> Inference:
    return Inference.of(Checkpoint(network, Rules(), initial_state(network)))


def codes_of(network: Network, x: np.ndarray) -> np.ndarray:
    return x.transpose(0, 3, 1, 2) if x.ndim == 4 else x


def in_onnxruntime(model, codes: np.ndarray) -> np.ndarray:
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"codes": codes})[0]


def in_reference(model, codes: np.ndarray) -> np.ndarray:
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(model).run(None, {"codes": codes})[0]


RUNTIMES = {"onnxruntime": in_onnxruntime, "reference": in_reference}


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("form", INTEGER_FORMS)
def test_logits_are_equal(form, runtime, network, trained, images_of):
    check_equal(form, RUNTIMES[runtime], network, trained(network), images_of(network))


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("form", INTEGER_FORMS)
def test_incomplete_windows_are_kept(form, runtime, trained, images_of):
    check_equal(form, RUNTIMES[runtime], SAME_POOL, trained(SAME_POOL), images_of(SAME_POOL))


def check_equal(form, run, network, saved, images):
    model = onnx_graph.to_onnx(Inference.of(saved), form)
    onnx.checker.check_model(model, full_check=True)
    x = network.encode(images)
    found = run(model, codes_of(network, x))
    assert found.dtype == np.int32
    assert np.array_equal(found, predict(network, saved.state, x))


@pytest.mark.slow
@pytest.mark.parametrize("form", INTEGER_FORMS)
@pytest.mark.parametrize("text", ["512FC", "lenet"])
def test_ten_thousand_digits(text, form):
    """MNIST's test images in onnxruntime, after a few batches of training."""
    data = datasets.load("mnist")
    network = Network.parse(text, data.input_shape, data.classes)
    with NumpyEngine(network, Rules()) as engine:
        engine.train(data.train_images[:1280], data.train_labels[:1280], 3)
        state = engine.state
    x = network.encode(data.test_images)
    assert len(x) == 10_000
    found = in_onnxruntime(
        onnx_graph.to_onnx(Inference.of(Checkpoint(network, Rules(), state)), form), codes_of(network, x)
    )
    assert np.array_equal(found, predict(network, state, x))


@pytest.mark.parametrize("form", INTEGER_FORMS)
def test_every_tie_goes_to_even(form):
    """All products of one weight and a sum of codes, over every tie and past saturation on both ends."""
    network = Network.parse("1FC-1FC", (6,), bits="2588")
    V = (np.ones((6, 1), np.int8), np.ones((1, 1), np.int8))
    inference = Inference(network, V)
    totals = np.arange(-6 * 15, 6 * 15 + 1)
    codes = np.array([spread(int(t)) for t in totals], np.int8)
    assert np.array_equal(codes.sum(axis=1), totals)
    wanted = [[min(max(round(int(t) / 2 ** network.layers[0].z_shift), 0), 15)] for t in totals]
    for run in RUNTIMES.values():
        assert run(onnx_graph.to_onnx(inference, form), codes).tolist() == wanted


def spread(total: int) -> list[int]:
    """Six codes of abs <= 15 with this sum."""
    codes = []
    for _ in range(6):
        codes.append(max(-15, min(15, total)))
        total -= codes[-1]
    return codes


@pytest.mark.parametrize("weight_bits", [2, 7])
def test_products_do_not_saturate(weight_bits):
    """The largest codes against the largest weights, where kernels that add pairs in 16 bits would."""
    network = Network.parse("3FC-2FC", (64,), bits=f"{weight_bits}888")
    top = network.bits.weight_max
    V = (np.tile([top, -top, top], (64, 1)), np.full((3, 2), -top))
    saved = Inference(network, V).checkpoint()
    codes = np.array([[127] * 64, [-127] * 64, [127, -127] * 32, [127] * 63 + [1]], np.int8)
    for form in INTEGER_FORMS:
        for run in RUNTIMES.values():
            found = run(onnx_graph.to_onnx(Inference.of(saved), form), codes)
            assert np.array_equal(found, predict(network, saved.state, codes))


def test_qonnx_executor_is_equal(network, trained, images_of):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the executor's own imports
        pytest.importorskip("qonnx")
        from qonnx.core.modelwrapper import ModelWrapper
        from qonnx.core.onnx_exec import execute_onnx
        from qonnx.transformation.infer_shapes import InferShapes

        saved = trained(network)
        x = network.encode(images_of(network, n=8))
        model = onnx_graph.to_onnx(Inference.of(saved), "qonnx")
        wrapper = ModelWrapper(model)
        assert wrapper.get_tensor_datatype("V0").name == ("TERNARY" if network.bits.k_W == 2 else "INT3")
        wrapper.set_tensor_shape("codes", [8, *channels_first_shape(network.input_shape)])
        wrapper.set_tensor_shape("logits", [8, network.classes])
        found = execute_onnx(
            wrapper.transform(InferShapes()), {"codes": codes_of(network, x).astype(np.float32)}
        )
    assert np.array_equal(found["logits"], predict(network, saved.state, x))


def test_qonnx_in_the_reference_evaluator(network, trained, images_of):
    """Quant by QONNX's definition, in numpy: y = s * clip(round(x / s)), no zero point."""
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun

    class Quant(OpRun):
        op_domain = onnx_graph.QONNX

        def _run(self, x, scale, zero, bits, signed=None, narrow=None, rounding_mode=None):
            assert (zero, rounding_mode) == (0, "ROUND")
            low = -(2 ** (bits - 1)) + narrow if signed else 0
            high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1 - narrow
            return ((np.clip(np.rint(x / scale), low, high) * scale).astype(np.float32),)

    saved, x = trained(network), network.encode(images_of(network))
    model = onnx_graph.to_onnx(Inference.of(saved), "qonnx")
    evaluator = ReferenceEvaluator(model, new_ops=[Quant])
    found = evaluator.run(None, {"codes": codes_of(network, x).astype(np.float32)})[0]
    assert np.array_equal(found, predict(network, saved.state, x))


@pytest.mark.parametrize("form", onnx_graph.FORMS)
def test_round_trip(form, network, inference, images_of, trained, tmp_path):
    onnx_graph.write(tmp_path / "net", inference, form)
    assert onnx_graph.form_of(tmp_path / "net") == form
    back = onnx_graph.read(tmp_path / "net").checkpoint()
    x = network.encode(images_of(network))
    assert np.array_equal(predict(back.network, back.state, x), predict(network, trained(network).state, x))
    assert back.extra == {"config": {"data": "digits"}}


def test_the_same_network_gives_the_same_bytes(inference, tmp_path):
    for name in ("a", "b"):
        onnx_graph.write(tmp_path / name, inference)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def metadata(model, **changes: object) -> None:
    about = {entry.key: entry.value for entry in model.metadata_props}
    header = {**json.loads(about["wage_neuro"]), **changes}
    onnx.helper.set_model_props(model, {**about, "wage_neuro": json.dumps(header)})


def constant(model, name: str, change) -> None:
    for tensor in model.graph.initializer:
        if tensor.name == name:
            value = onnx.numpy_helper.to_array(tensor).copy()
            tensor.CopyFrom(onnx.numpy_helper.from_array(change(value), name))


def turned(V: np.ndarray) -> np.ndarray:
    V[tuple(np.argwhere(V)[0])] *= -1
    return V


def set_at(value: float):
    def change(V: np.ndarray) -> np.ndarray:
        V[0, 0] = value
        return V

    return change


DAMAGE = {
    "newer": (lambda m: metadata(m, format=3), "format 3; this version reads 2$"),
    "a turned weight": (lambda m: constant(m, "V1", turned), "changed since it was written: its sha256"),
    "another data set": (lambda m: metadata(m, data="other"), "changed since it was written"),
    "weight 2": (lambda m: constant(m, "V1", set_at(2)), r"of layer 1 6FC: 2 at \(0, 0\); want whole"),
    "float weight": (
        lambda m: constant(m, "V1", lambda V: V + np.float32(0.25)),
        r"weights of layer 1 6FC: -?[01]?.[27]5 at \(0, 0\); want whole numbers in -1..1$",
    ),
    "another shape": (
        lambda m: constant(m, "V1", lambda V: V[:5]),
        r"weights of layer 1 6FC: shape \(6, 5\); want \(6, 27\)$",
    ),
    "another scale": (
        lambda m: constant(m, "scale1", lambda s: s * 2),
        "constant scale1: not the scale1 of 3C3-MP2-F-6FC-4FC$",
    ),
    "another node": (
        lambda m: setattr(m.graph.node[3], "op_type", "Floor"),
        "node R0: not the Round R0 of 3C3-MP2-F-6FC-4FC$",
    ),
    "a node less": (lambda m: m.graph.node.pop(), "nodes, inputs or outputs of the graph are not those"),
    "another operator set": (
        lambda m: setattr(m.opset_import[0], "version", 14),
        "operator sets of the model are not those of",
    ),
    "no weights": (lambda m: m.graph.initializer.pop(0), "not a whole ONNX file"),
    "another form": (
        lambda m: setattr(m.metadata_props[1], "value", "octonary"),
        "ONNX form 'octonary': want integer, qlinear, qonnx$",
    ),
    "not of wage-neuro": (lambda m: m.metadata_props.pop(0), "an ONNX model that wage-neuro did not write"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_refused(kind, trained, tmp_path, assert_refused):
    damage, message = DAMAGE[kind]
    model = onnx_graph.to_onnx(Inference.of(trained(SMALL)))
    damage(model)
    (tmp_path / "net").write_bytes(model.SerializeToString())
    assert_refused(onnx_graph.read, tmp_path / "net", message)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:-300]), "not a whole ONNX file"),
        (lambda p: p.write_text("onnx?"), "not a whole ONNX file"),
        (Path.unlink, "no such file$"),
    ],
)
def test_damaged_bytes_are_refused(damage, message, trained, tmp_path, assert_refused):
    onnx_graph.write(tmp_path / "net", Inference.of(trained(SMALL)))
    damage(tmp_path / "net")
    assert_refused(onnx_graph.read, tmp_path / "net", message)


@pytest.mark.parametrize("form", onnx_graph.FORMS)
@pytest.mark.parametrize(
    ("shape", "bits", "message"),
    [
        ((5,), "2988", "^k_A=9: ONNX sums products of int8; want 8 at most$"),
        ((5,), "8888", "^k_W=8: ONNX sums products of int8; want 7 at most$"),
        ((2097,), "7888", "^layer 0 4FC: a sum may reach 16778097, past the 16777215 that float32"),
    ],
)
def test_networks_that_onnx_cannot_hold(form, shape, bits, message, tmp_path, leaves_alone):
    inference = fresh(Network.parse("4FC-3FC", shape, bits=bits))
    write = lambda path: onnx_graph.write(path, inference, form)  # noqa: E731
    leaves_alone(write, tmp_path / "folder", WageError, message)


def test_the_widest_sum_is_held():
    assert onnx_graph.to_onnx(fresh(Network.parse("4FC-3FC", (2096,), bits="7888")))


def test_the_comparison_sees_every_node():
    """`_check_same` on a model with one more node, which no pairwise comparison would reach."""
    model = onnx_graph.to_onnx(fresh(SMALL))
    model.graph.node.append(onnx.helper.make_node("Identity", ["logits"], ["other"]))
    with pytest.raises(CheckpointError, match="nodes, inputs or outputs of the graph are not those of"):
        onnx_graph.from_onnx(model)
