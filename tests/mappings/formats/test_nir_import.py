"""NIR graphs of others: what WAGE can say gives the graph's own answers, the rest is refused by its node."""

from __future__ import annotations

import nir
import numpy as np
import pytest

from mappings.formats import nir as mapping
from mappings.formats.nir_import import from_others
from wage_neuro import predict
from wage_neuro.errors import CheckpointError, NetworkError


def ternary(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(-1, 2, shape).astype(np.float32)


def conv(W: np.ndarray, size: tuple[int, int], padding: int = 0, stride: int = 1) -> nir.Conv2d:
    return nir.Conv2d(size, W, stride, (padding, padding), 1, 1, np.zeros(len(W), np.float32))


def answers(graph: nir.NIRGraph, x: np.ndarray) -> np.ndarray:
    """Run a chain on (n, *shape) numbers, by NIR's definitions; an IF for one step from rest."""
    for node in graph.nodes.values():
        if isinstance(node, (nir.Linear, nir.Affine)):
            x = x @ node.weight.T
        elif isinstance(node, nir.Conv2d):
            (p, _), s, k = node.padding, int(np.ravel(node.stride)[0]), node.weight.shape[2]
            padded = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
            places = np.lib.stride_tricks.sliding_window_view(padded, (k, k), axis=(2, 3))[:, :, ::s, ::s]
            x = np.einsum("nchwij,ocij->nohw", places, node.weight)
        elif isinstance(node, nir.Threshold):
            x = (x > node.threshold).astype(float)
        elif isinstance(node, nir.IF):
            x = (node.r * x > node.v_threshold).astype(float)
        elif isinstance(node, nir.SumPool2d):
            k, s = int(node.kernel_size[0]), int(node.stride[0])
            x = np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(2, 3))[:, :, ::s, ::s].sum((4, 5))
        elif isinstance(node, nir.Flatten):
            x = x.reshape(len(x), -1)
    return x


def dense(scale: float = 1.0, theta: float = 1.5) -> nir.NIRGraph:
    """64-9-4; a layer of 64 inputs and ternary weights spikes past 4 or a power near it, which is found."""
    rng = np.random.default_rng(0)
    return nir.NIRGraph.from_list(
        nir.Linear(scale * ternary(rng, 9, 64)),
        nir.IF(np.ones(9), np.full(9, scale * theta)),
        nir.Affine(ternary(rng, 4, 9), np.zeros(4)),
    )


def image() -> nir.NIRGraph:
    rng = np.random.default_rng(1)
    return nir.NIRGraph.from_list(
        conv(ternary(rng, 3, 2, 3, 3), (8, 8), padding=1),
        nir.Threshold(np.full((3, 8, 8), 2.5)),
        nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        nir.Threshold(np.full((3, 4, 4), 0.5)),
        nir.Flatten({"input": np.array([3, 4, 4])}, 0, -1),
        nir.Linear(ternary(rng, 4, 48)),
    )


def check(graph: nir.NIRGraph, tmp_path) -> str:
    nir.write(tmp_path / "theirs.nir", graph)
    saved = mapping.read(tmp_path / "theirs.nir").checkpoint()
    network = saved.network
    x = np.random.default_rng(2).integers(0, 2, (50, *network.input_shape)).astype(np.int8)
    theirs = answers(graph, np.moveaxis(x, -1, 1).astype(float) if x.ndim == 4 else x.astype(float))
    last = np.abs(graph.nodes[list(graph.nodes)[-2]].weight)
    scale = last[last > 0].min()
    assert np.array_equal(predict(network, saved.state, x), np.rint(theirs / scale))
    assert len(np.unique(theirs, axis=0)) > 4
    return f"{network} {network.bits}"


def test_a_dense_graph(tmp_path):
    assert check(dense(theta=4.2), tmp_path) == "9FC-4FC 2288"
    assert check(dense(scale=0.25, theta=4.9), tmp_path) == "9FC-4FC 2288"
    assert check(dense(theta=8), tmp_path) == "9FC-4FC 5288"  # a power of two higher, where k_W makes it so


def test_an_image_graph(tmp_path):
    assert check(image(), tmp_path) == "3C3-MP2-F-4FC 2288"


def test_one_layer_keeps_eight_bits(tmp_path):
    rng = np.random.default_rng(0)
    graph = nir.NIRGraph.from_list(nir.Linear(0.5 * rng.integers(-3, 4, (4, 20))))
    assert check(graph, tmp_path) == "4FC 3888"


def changed(node: str, **fields) -> nir.NIRGraph:
    graph = dense(theta=4.2)
    for name, value in fields.items():
        setattr(graph.nodes[node], name, value)
    return graph


def test_what_wage_cannot_say():
    names = list(dense().nodes)
    first, spikes, last = names[1:4]
    with_weight = dense(theta=4.2).nodes[first].weight.copy()
    with_weight[0, 0] = 0.3217
    ring = dense(theta=4.2)
    ring.edges.append((last, first))
    linear = nir.Linear(np.eye(3))
    for graph, message in (
        (
            dense(theta=6),
            f"node {first!r}: a threshold of 6; 9FC of k_W=2 spikes past 4: want 4 or more, below 5",
        ),
        (
            changed(first, weight=with_weight),
            f"node {first!r}: weight -1 beside 0.3217; want whole multiples",
        ),
        (changed(last, bias=np.ones(4)), f"node {last!r}: a bias; WAGE has none"),
        (changed(spikes, r=np.full(9, 2.0)), f"node {spikes!r}: r=2; want 1"),
        (ring, f"node {first!r}: hears 2, is heard by 1; want a chain"),
        (nir.NIRGraph.from_list(linear, nir.Linear(np.eye(3))), "follows weights; want a Threshold or IF"),
        (nir.NIRGraph.from_list(linear, nir.Threshold(np.ones(3))), "the last layer answers with sums"),
        (nir.NIRGraph.from_list(linear, nir.LI(*[np.ones(3)] * 3)), ": a LI; WAGE has none there"),
    ):
        with pytest.raises(NetworkError) as error:
            from_others(graph)
        assert message in str(error.value)


def test_the_file_of_others_may_not_say_more_than_it_holds(tmp_path):
    import h5py

    nir.write(tmp_path / "big.nir", dense(theta=4.2))
    with h5py.File(tmp_path / "big.nir", "a") as file:
        file.create_dataset("node/nodes/extra", (1 << 32,), "f4", chunks=(1024,))
    with pytest.raises(CheckpointError, match=r"big\.nir: damaged: its arrays would take 16(\.0)? GiB"):
        mapping.read(tmp_path / "big.nir")
