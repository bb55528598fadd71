"""NIR of Conv2d and IF alone: plain loops over NIR's definitions give the logits; what cannot be said."""

from __future__ import annotations

import json

import nir
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mappings.formats import nir as mapping
from mappings.formats import nir_if
from mappings.formats.inference import Inference
from mappings.formats.nir_if import theta, thresholds, to_nir_if, values
from wage_neuro import Conv, Dense, Flatten, Network, Rules, initial_state, predict
from wage_neuro.checkpoint import Checkpoint
from wage_neuro.errors import CheckpointError, NetworkError


def conv(node: nir.Conv2d, x: np.ndarray) -> np.ndarray:
    """(n, c, h, w) -> (n, c_out, h_out, w_out), exactly."""
    (top, left), (_, _, height, width) = node.padding, node.weight.shape
    padded = np.pad(x, ((0, 0), (0, 0), (top, top), (left, left)))
    every = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))
    places = every[:, :, :: int(node.stride[0]), :: int(node.stride[1])]
    Z = np.einsum("nchwij,ocij->nohw", places, node.weight.astype(np.float64))
    return Z + node.bias[:, None, None]


def one_step(graph: nir.NIRGraph, x: np.ndarray, strict: bool, reset: str) -> np.ndarray:
    """One time step from rest; a threshold met or passed, and both resets."""
    for node in list(graph.nodes.values())[1:-1]:
        if isinstance(node, nir.Conv2d):
            x = conv(node, x)
        else:
            assert isinstance(node, nir.IF)
            v = 0 + node.r * x
            spikes = (v > node.v_threshold) if strict else (v >= node.v_threshold)
            left = v - spikes * node.v_threshold if reset == "subtract" else v * ~spikes
            assert (left < node.v_threshold).all()  # it has spiked once at most
            assert (v == v.astype(np.float32)).all()
            x = spikes.astype(np.float64)
    return x


def answers(graph: nir.NIRGraph, images: np.ndarray, strict: bool = True, reset: str = "zero") -> np.ndarray:
    codes = graph.metadata["input_codes"][images]
    shape = graph.nodes["input"].output_type["output"]
    x = codes.transpose(0, 3, 1, 2) if codes.ndim == 4 else codes.reshape(len(codes), *shape)
    return one_step(graph, x.astype(np.float64), strict, reset).reshape(len(images), -1)


def saved_of(network: Network, seed: int = 0) -> Checkpoint:
    return Checkpoint(network, Rules(), initial_state(network, seed))


SIDES, UNITS = st.integers(3, 7), st.integers(1, 6)
CONVS = st.builds(
    Conv, st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), st.sampled_from(["SAME", "VALID"])
)


@st.composite
def networks(draw) -> Network:
    bits = draw(st.sampled_from(["2288", "2388", "3488", "2888"]))
    if draw(st.booleans()):
        return Network((Dense(draw(UNITS)), Dense(draw(UNITS))), (draw(UNITS),), bits)
    shape = (draw(SIDES), draw(SIDES), draw(st.integers(1, 3)))
    return Network((draw(CONVS), Flatten(), Dense(draw(UNITS)), Dense(draw(UNITS))), shape, bits)


@settings(max_examples=40, deadline=None)
@given(networks(), st.integers(0, 9), st.booleans(), st.sampled_from(["subtract", "zero"]))
def test_one_step_gives_the_logits(network, seed, strict, reset):
    """However a library resets, and whether its neurons spike at the threshold or past it."""
    saved = saved_of(network, seed)
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (7, *network.input_shape)).astype(np.uint8)
    found = answers(to_nir_if(Inference.of(saved)), images, strict, reset)
    assert np.array_equal(found, predict(network, saved.state, network.encode(images)))


def test_a_trained_network_goes_out_and_comes_back(network, trained, images_of, tmp_path):
    if any(layer.pool for layer in network.layers):
        with pytest.raises(NetworkError, match=r"^layer \d .*: nir-if has no max-pooling$"):
            to_nir_if(Inference.of(trained(network)))
        return
    saved, images = trained(network), images_of(network)
    nir_if.write(tmp_path / "net.nir", Inference.of(saved))
    logits = predict(network, saved.state, network.encode(images))
    assert np.array_equal(answers(nir.read(tmp_path / "net.nir"), images), logits)
    back = nir_if.read(tmp_path / "net.nir").checkpoint()
    assert np.array_equal(predict(back.network, back.state, network.encode(images)), logits)


def test_ties_are_half_a_unit_away_from_every_value():
    layer = Network((Dense(9), Dense(2)), (20,)).layers[0]
    assert (thresholds(layer) % 1 == 0.5).all()
    assert theta(layer) > layer.z_bound + thresholds(layer).max()
    codes = np.arange(-layer.z_bound, layer.z_bound + 1)
    levels = (codes[:, None] > thresholds(layer)).sum(axis=1)
    wanted = np.clip(np.rint(codes / 2**layer.z_shift), 0, layer.bits.activation_max)
    assert np.array_equal(levels, wanted)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            Network((Dense(2000), Dense(2)), (9,)),
            r"its levels take 1,01\d,\d+,\d+ values .* want 134,217,728",
        ),
        (Network((Dense(2), Dense(2)), (300_000,)), r"layer 0 2FC: a sum may reach 38100000, past what"),
    ],
)
def test_what_it_cannot_say(network, message):
    state = initial_state(network)
    with pytest.raises(NetworkError, match=message):
        to_nir_if(Inference.of(Checkpoint(network, Rules(), state)))


def test_values_counts_the_graph():
    network = Network((Conv(3, 3), Flatten(), Dense(5), Dense(2)), (4, 4, 1), "2388")
    graph = to_nir_if(Inference.of(saved_of(network)))
    held = 0
    for node in graph.nodes.values():
        if isinstance(node, nir.Conv2d):
            held += node.weight.size + node.bias.size
        elif isinstance(node, nir.IF):
            held += 3 * node.r.size
    assert held <= values(network) <= 1.5 * held


def test_a_changed_bias_is_refused(tmp_path):
    graph = to_nir_if(Inference.of(saved_of(Network((Dense(3), Dense(2)), (4,), "2388"))))
    graph.nodes["layer0.levels"].bias[1] += 1
    nir.write(tmp_path / "net.nir", graph)
    with pytest.raises(CheckpointError, match=r"net\.nir: node layer0\.levels: its bias is not that of"):
        mapping.read(tmp_path / "net.nir")
    header = json.loads(graph.metadata["wage_neuro"])
    assert header["network"] == "3FC-2FC"
