"""NIR: a small interpreter that shares no code runs the graph in whole numbers, to the same logits."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import nir
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mappings.formats import nir as mapping
from mappings.formats.inference import Inference
from wage_neuro import Conv, Dense, Flatten, MaxPool, Network, Rules, initial_state, predict
from wage_neuro.checkpoint import Checkpoint
from wage_neuro.errors import CheckpointError, NetworkError


def windows(x: np.ndarray, size: tuple[int, int], stride: tuple[int, int]) -> np.ndarray:
    """(n, c, h, w) -> (n, c, h_out, w_out, size, size)."""
    every = np.lib.stride_tricks.sliding_window_view(x, size, axis=(2, 3))
    return every[:, :, :: int(stride[0]), :: int(stride[1])]


def run(graph: nir.NIRGraph, x: np.ndarray) -> np.ndarray:
    """Run a NIR graph on (n, *input) whole numbers, by NIR's definitions; what comes to a node is summed."""
    senders: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for source, target in graph.edges:
        senders[target].append(source)
    readers = {name: sum(name in s for s in senders.values()) for name in graph.nodes}
    done: dict[str, np.ndarray] = {}

    def value(name: str) -> np.ndarray:
        if name in done:
            return done[name]
        node = graph.nodes[name]
        if isinstance(node, nir.Input):
            result = x
        else:
            first, *others = senders[name]
            total = value(first)
            if others:
                total = total.astype(np.float32)
            for sender in others:
                total += value(sender)
            result = apply(node, total)
        if readers[name] > 1:
            done[name] = result
        return result

    (output,) = graph.outputs
    return value(output)


def apply(node: nir.NIRNode, x: np.ndarray) -> np.ndarray:
    if isinstance(node, nir.Linear):
        return whole(x @ node.weight.T)
    if isinstance(node, nir.Conv2d):
        assert tuple(node.dilation) == (1, 1)
        assert node.groups == 1
        assert not node.bias.any()
        (top, left), (n_out, _, *kernel) = node.padding, node.weight.shape
        rows = windows(np.pad(x, ((0, 0), (0, 0), (top, top), (left, left))), tuple(kernel), node.stride)
        n, _, h, w = rows.shape[:4]
        rows = rows.transpose(0, 2, 3, 1, 4, 5).reshape(n * h * w, -1)
        z = rows @ node.weight.reshape(n_out, -1).T
        return whole(z.reshape(n, h, w, n_out).transpose(0, 3, 1, 2))
    if isinstance(node, nir.Threshold):
        return x > node.threshold
    if isinstance(node, nir.SumPool2d):
        assert not np.any(node.padding)
        places = windows(x, tuple(int(k) for k in node.kernel_size), node.stride)
        total = np.zeros(places.shape[:4], np.int16)
        for i, j in np.ndindex(places.shape[4:]):
            total += places[..., i, j]
        return total
    if isinstance(node, nir.Flatten):
        assert (node.start_dim, node.end_dim) == (0, -1)  # of one sample
        return x.reshape(len(x), -1)
    assert isinstance(node, nir.Output), type(node)
    return x


def whole(z: np.ndarray) -> np.ndarray:
    assert (z == np.rint(z)).all()
    assert np.abs(z).max(initial=0) < 2**24
    return z


def answers(graph: nir.NIRGraph, images: np.ndarray) -> np.ndarray:
    codes = graph.metadata["input_codes"][images]
    if len(graph.input_type["input"]) == 3:
        codes = codes.transpose(0, 3, 1, 2)
    return run(graph, codes)


def fresh(network: Network, seed: int = 0) -> Checkpoint:
    return Checkpoint(network, Rules(), initial_state(network, seed))


def test_the_graph_gives_the_logits(network, trained, images_of, tmp_path):
    saved, images = trained(network), images_of(network)
    mapping.write(tmp_path / "net.nir", Inference.of(saved))
    logits = predict(network, saved.state, network.encode(images))
    assert np.array_equal(answers(nir.read(tmp_path / "net.nir"), images), logits)
    back = mapping.read(tmp_path / "net.nir").checkpoint()
    assert np.array_equal(predict(back.network, back.state, network.encode(images)), logits)
    assert len(np.unique(logits, axis=0)) > 1


SIDES = st.integers(4, 9)
CONVS = st.builds(
    Conv, st.integers(1, 3), st.integers(1, 5), st.integers(1, 3), st.sampled_from(["SAME", "VALID"])
)
POOLS = st.one_of(st.none(), st.builds(MaxPool, st.integers(1, 3), st.sampled_from([None, 1, 2])))


@settings(deadline=None, derandomize=True, database=None, max_examples=60)
@given(
    SIDES, SIDES, st.integers(1, 2), st.lists(st.tuples(CONVS, POOLS), max_size=2), st.booleans(), st.data()
)
def test_any_network(height, width, channels, blocks, signed, data):
    specs = [spec for block in blocks for spec in block if spec]
    bits = data.draw(st.sampled_from(["2488", "3388", "2288"]))
    try:
        network = Network((*specs, Flatten(), Dense(3)), (height, width, channels), bits, signed)
    except NetworkError:
        assume(False)
    saved = fresh(network, seed=height)
    images = np.random.default_rng(width).integers(0, 256, (6, *network.input_shape)).astype(np.uint8)
    graph = mapping.to_nir(Inference.of(saved))
    assert np.array_equal(answers(graph, images), predict(network, saved.state, network.encode(images)))


@pytest.mark.parametrize("bits", ["2888", "2388", "4688"])
def test_thresholds_count_the_levels(bits, plain_quantizer):
    layer = Network.parse("4FC-2FC", (300,), bits=bits).layers[0]
    theta = mapping.thresholds(layer)
    for z in range(-40, (layer.bits.activation_max + 3) << layer.z_shift):
        assert (z > theta).sum() == plain_quantizer(z, layer.z_shift, layer.bits.activation_max)


@pytest.fixture
def plain_quantizer():
    from fractions import Fraction

    def quantize(z: int, shift: int, top: int) -> int:
        return min(max(round(Fraction(z, 1 << shift)), 0), top)  # Python rounds half to even

    return quantize


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("preset", ["mlp", "lenet"])
def test_all_mnist_test_images(preset, tmp_path):
    """The round trip and the graph itself, on 10,000 images, to the last logit."""
    from experiments import datasets
    from wage_neuro import NumpyEngine

    data = datasets.load("mnist")
    network = Network.parse(preset, (28, 28, 1), classes=10)
    with NumpyEngine(network, Rules(batch=128)) as engine:
        engine.train(data.train_images[:12800], data.train_labels[:12800], 3)
        saved = Checkpoint(network, Rules(), engine.state)
        logits = engine.predict(data.test_images)
    assert (logits.argmax(axis=1) == data.test_labels).mean() > 0.85
    mapping.write(tmp_path / "net.nir", Inference.of(saved))
    back = mapping.read(tmp_path / "net.nir").checkpoint()
    assert np.array_equal(predict(network, back.state, network.encode(data.test_images)), logits)
    graph = nir.read(tmp_path / "net.nir")
    for i in range(0, 10_000, 250):
        part = slice(i, i + 250)
        assert np.array_equal(answers(graph, data.test_images[part]), logits[part])


# --- what is refused ---------------------------------------------------------------------------------


@pytest.fixture
def file(trained, tmp_path) -> Path:
    network = Network.parse("3C3-MP2-F-4FC", (6, 6, 1), bits="2388")
    mapping.write(tmp_path / "net.nir", Inference.of(trained(network)))
    return tmp_path / "net.nir"


def change(path: Path, name: str, value: object) -> None:
    with h5py.File(path, "r+") as f:
        del f[name]
        f.create_dataset(name, data=value)


def header(path: Path, **changes: object) -> None:
    name = "node/metadata/wage_neuro"
    with h5py.File(path, "r") as f:
        text = json.loads(f[name][()])
    change(path, name, json.dumps({**text, **changes}))


def weight(path: Path, value: float) -> None:
    with h5py.File(path, "r+") as f:
        f["node/nodes/layer0/weight"][0, 0, 0, 0] = value


def turn(path: Path) -> None:
    """Give one weight the other sign: as good a network as the one that was written."""
    with h5py.File(path, "r+") as f:
        weights = f["node/nodes/layer1/weight"]
        place = tuple(np.argwhere(weights[...])[0])
        weights[place] = -weights[place]


def without(path: Path, name: str) -> None:
    with h5py.File(path, "r+") as f:
        del f[name]


DAMAGE = {
    "newer": (lambda p: header(p, format=3), "format 3; this version reads 2$"),
    "older": (lambda p: header(p, format=1), "format 1; this version reads 2$"),
    "a turned weight": (turn, "changed since it was written: its sha256 is another$"),
    "another learning width": (lambda p: header(p, bits="22C8"), "changed since it was written"),
    "another data set": (lambda p: header(p, data="other"), "changed since it was written"),
    "no checksum": (lambda p: header(p, sha256=None), "changed since it was written"),
    "another network": (lambda p: header(p, network="4FC"), "input shape|weights|layer"),
    "other widths": (lambda p: header(p, bits="2488"), "changed since it was written"),
    "not of wage-neuro": (
        lambda p: without(p, "node/metadata/wage_neuro"),
        "a NIR graph that wage-neuro did not write",
    ),
    "weight 2": (
        lambda p: weight(p, 2),
        r"weights of layer 0 3C3-MP2: 2.0 at \(0, 0, 0, 0\); want whole numbers in -1..1$",
    ),
    "weight 1/2": (lambda p: weight(p, 0.5), "0.5 at"),
    "weights of another shape": (
        lambda p: change(p, "node/nodes/layer1/weight", np.zeros((4, 26), np.float32)),
        "not a whole NIR file|shape",
    ),
    "another threshold": (
        lambda p: change(p, "node/nodes/layer0.level2/threshold", np.zeros((3, 6, 6), np.float32)),
        "node layer0.level2: its threshold is not that of 3C3-MP2-F-4FC$",
    ),
    "another stride": (
        lambda p: change(p, "node/nodes/layer0.pool1/stride", np.array([1, 1])),
        "not a whole NIR",
    ),
    "no node": (lambda p: without(p, "node/nodes/layer1"), "not a whole NIR file"),
    "truncated": (lambda p: p.write_bytes(p.read_bytes()[:-3000]), "truncated or damaged HDF5 \\("),
    "text": (lambda p: p.write_text("nir?"), "truncated or damaged HDF5 \\("),
    "missing": (lambda p: p.unlink(), "no such file$"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_refused(kind, file, assert_refused):
    damage, message = DAMAGE[kind]
    damage(file)
    assert_refused(mapping.read, file, message)


def test_a_graph_with_one_edge_less_is_refused():
    graph = mapping.to_nir(Inference.of(fresh(Network.parse("4FC-3FC", (5,), bits="2388"))))
    graph.edges.remove(("layer0.level2", "layer1"))
    with pytest.raises(CheckpointError, match=r"^nodes or edges of the graph are not those of 4FC-3FC$"):
        mapping.from_nir(graph)


@pytest.mark.parametrize(
    ("text", "shape", "bits", "message"),
    [
        ("4FC-3FC", (5,), "2988", "^k_A=9: NIR counts an activation's levels one by one; want 8 at most$"),
        ("4FC-3FC", (90,), "E888", "^layer 0 4FC: a sum may reach 93623130, past the 8388608 that NIR"),
    ],
)
def test_networks_that_nir_cannot_hold(text, shape, bits, message, tmp_path, leaves_alone):
    inference = Inference.of(fresh(Network.parse(text, shape, bits=bits)))
    leaves_alone(lambda path: mapping.write(path, inference), tmp_path / "folder", NetworkError, message)
