"""Binary spikes: the planes are the codes' own bits, and the logits those of the integer network."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("brian2", reason="brian2 is an optional extra")

from mappings.binary_spikes.engine import BitSerial
from mappings.binary_spikes.planes import planes_of
from wage_neuro import Conv, Dense, Flatten, MaxPool, Network, NumpyEngine, Rules, layers
from wage_neuro.train import visible_weights

NETWORKS = {
    "dense": Network((Dense(24), Dense(5)), (30,)),
    "one layer, 2 bits": Network((Dense(5),), (30,), "2222"),
    "signed input": Network((Dense(12), Dense(5)), (30,), signed_input=True),
    "conv, signed input": Network(
        (Conv(4, 3), MaxPool(3, 2), Flatten(), Dense(8), Dense(5)), (9, 9, 2), "3-6-9-8", signed_input=True
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_same_logits_and_spikes_as_the_integer_network(name, sparse_images, assert_same_arrays):
    network = NETWORKS[name]
    images, labels = sparse_images(40, network.input_shape, 5)
    oracle = NumpyEngine(network, Rules(batch=8))
    oracle.train(images, labels, 3)
    serial = BitSerial(network, oracle.state, slots=4)
    for part in (slice(0, 6), slice(6, 9)):  # with empty slots, and once more
        logits, spikes = serial.answer(images[part])
        assert_same_arrays(oracle.predict(images[part]), logits, "logits")
    V, a = visible_weights(network, oracle.state), network.encode(images[part])
    for layer, train in zip(network.layers, spikes, strict=True):
        codes = a.reshape(len(a), -1).astype(int)
        planes = train.shape[1]
        expected = [(codes % 2**planes) >> planes - 1 - p & 1 for p in range(planes)]
        assert_same_arrays(np.stack(expected, axis=1).astype(bool), train, f"spikes into layer {layer.index}")
        a, _ = layers.forward(layer, V[layer.index], a.reshape(len(a), *layer.in_shape))
    assert any(train.any() for train in spikes)


def test_one_step_a_bit():
    assert planes_of(NETWORKS["dense"]) == (7, 7)
    assert planes_of(NETWORKS["signed input"]) == (8, 7)
    assert BitSerial(NETWORKS["signed input"], NumpyEngine(NETWORKS["signed input"]).state).starts == (
        0,
        8,
        15,
    )


def test_a_lost_spike_is_noticed(sparse_images):
    network = NETWORKS["dense"]
    images, _ = sparse_images(4, (30,), 5)
    oracle = NumpyEngine(network, Rules(batch=8))
    serial = BitSerial(network, oracle.state, slots=4)
    serial.senders[0].resetter["spike"].active = False  # no reset: the same neurons spike again and again
    serial.stepper.objects = [o for o in serial.stepper.objects if o.active]
    assert not np.array_equal(serial.answer(images)[0], oracle.predict(images))


@pytest.mark.parametrize("name", ["dense", "conv, signed input"])
def test_lava_sends_the_same_spikes(name, sparse_images, assert_same_arrays):
    pytest.importorskip("lava", reason="lava-nc is not installed")
    from mappings.binary_spikes.lava_graph import answer

    network = NETWORKS[name]
    images, labels = sparse_images(40, network.input_shape, 5)
    oracle = NumpyEngine(network, Rules(batch=8))
    oracle.train(images, labels, 3)
    logits, trains = answer(network, oracle.state, images[:3])
    assert_same_arrays(oracle.predict(images[:3]), logits, "logits")
    expected = BitSerial(network, oracle.state, slots=3).answer(images[:3])[1]
    assert len(expected) == len(trains) == len(network.layers)
    for band, (one, other) in enumerate(zip(expected, trains, strict=True)):
        assert_same_arrays(one, other, f"spikes of band {band}")
