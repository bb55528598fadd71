"""Cost: operations against loops that count them one by one; energy and time from the chip's table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mappings.chips.chip import Chip
from mappings.chips.cost import PUBLISHED, Activity, Cost, count_activity, published_of
from mappings.chips.placement import Use, place
from wage_neuro import Conv, Dense, Flatten, MaxPool, Network, NumpyEngine, Rules
from wage_neuro.train import Batch, train_step, visible_weights

CHIP = Chip.load("loihi1")
ONCHIP = Rules(batch=1, shift="held", update="ternary")
NETWORK = Network((Conv(4, 3), MaxPool(2), Conv(3, 3, 2), Flatten(), Dense(12), Dense(5)), (8, 8, 2))
DENSE = Network((Dense(20), Dense(5)), (30,))


def trained(network, sparse_images, rules=ONCHIP):
    images, labels = sparse_images(64, network.input_shape, 5)
    engine = NumpyEngine(network, rules, seed=1)
    engine.train(images, labels, 2)
    return engine.state, images[:8], labels[:8]


def connections(layer) -> np.ndarray:
    """(in, z) number of synapses between places, by plain loops."""
    if not isinstance(layer.spec, Conv):
        return np.ones((layer.in_shape[0], layer.z_shape[0]))
    table = np.zeros((*layer.in_shape, *layer.z_shape))
    for y, x in np.ndindex(*layer.z_shape[:2]):
        for i, j in np.ndindex(layer.spec.kernel, layer.spec.kernel):
            row = y * layer.spec.stride - layer.padding[0] + i
            column = x * layer.spec.stride - layer.padding[2] + j
            if 0 <= row < layer.in_shape[0] and 0 <= column < layer.in_shape[1]:
                table[row, column, :, y, x, :] += 1
    return table.reshape(int(np.prod(layer.in_shape)), -1)


def counted(network, state, images, labels, rules, log2_eta):
    return count_activity(NumpyEngine(network, rules, state=state), images, labels, log2_eta)


def test_activity_is_what_the_oracle_does(sparse_images):
    """Against the layers' own values, taken apart sample by sample."""
    state, images, labels = trained(DENSE, sparse_images)
    activity = counted(DENSE, state, images, None, ONCHIP, 2)
    V = visible_weights(DENSE, state)
    x = DENSE.encode(images)
    A = np.clip(np.rint(x @ V[0] / 2.0 ** DENSE.layers[0].z_shift), 0, 127)
    assert activity[0].inputs == (x != 0).sum() / 8
    assert activity[0].outputs == activity[1].inputs == (A != 0).sum() / 8
    assert activity[1].outputs == (A @ V[1] != 0).sum() / 8
    activity = counted(DENSE, state, images, labels, ONCHIP, 2)
    changed = np.zeros(2)
    for i in range(8):
        before = state
        state, _ = train_step(DENSE, state, Batch(x[i : i + 1], labels[i : i + 1]), 2, ONCHIP)
        changed += [(a != b).sum() for a, b in zip(state.S, before.S, strict=True)]
    assert [a.changed for a in activity] == (changed / 8).tolist()
    assert changed.sum() > 0


def test_pairs_and_passed_synapses_one_by_one(sparse_images):
    state, images, labels = trained(NETWORK, sparse_images)
    for sample in range(2):
        part = slice(sample, sample + 1)
        V = visible_weights(NETWORK, state)
        activity = counted(NETWORK, state, images[part], labels[part], ONCHIP, 2)
        a = (NETWORK.encode(images[part]) != 0).ravel()
        first = NETWORK.layers[0]
        assert activity[0].reached == a @ connections(first).sum(axis=1)
        state, _ = train_step(NETWORK, state, Batch(NETWORK.encode(images[part]), labels[part]), 2, ONCHIP)
    # without pooling and with every value nonzero, all pairs meet
    layer = NETWORK.layers[1]
    assert activity[1].pairs <= connections(layer).sum()
    assert activity[1].error_effective <= activity[1].error_reached <= connections(layer).sum()
    dense = activity[2]
    assert dense.pairs == dense.inputs * dense.errors
    assert dense.error_reached == dense.errors * 12  # of the layer below: 2 x 2 x 3 places
    assert 0 < dense.error_effective <= dense.errors * (V[2] != 0).sum(axis=0).max()
    assert activity[0].error_reached == activity[0].error_effective == 0


def test_effective_operations_skip_weights_of_0(sparse_images):
    """As NeuroBench counts them: by masks, over samples, of a trained net with one layer of hidden units."""
    state, images, _ = trained(DENSE, sparse_images)
    V, x = visible_weights(DENSE, state), DENSE.encode(images)
    activity = counted(DENSE, state, images, None, ONCHIP, 2)
    operations = Cost(place(DENSE, CHIP, Use()), activity).operations()
    A = np.clip(np.rint(x @ V[0] / 2.0 ** DENSE.layers[0].z_shift), 0, 127)
    met = [(a != 0).astype(int) @ (v != 0).astype(int) for a, v in zip((x, A), V, strict=True)]
    assert operations.effective == sum(m.sum() for m in met) / 8
    assert operations.reached == ((x != 0).sum() * 20 + (A != 0).sum() * 5) / 8 > operations.effective
    assert operations.dense == 30 * 20 + 20 * 5
    assert operations.synaptic == operations.effective  # nothing learns, so no weight of 0 is stored


def test_zero_weights_that_learn_are_read(sparse_images):
    """Forward weights and a transposed copy are kept whole; fixed random feedback is not."""
    state, images, labels = trained(DENSE, sparse_images)
    for feedback in ("transposed", "random", "direct"):
        rules = replace(ONCHIP, feedback=feedback)
        activity = counted(DENSE, state, images, labels, rules, 2)
        cost = Cost(place(DENSE, CHIP, Use(True, rules)), activity)
        links = dict(
            zip(((k.role, k.source) for k in cost.placement.links), cost.placement.geometries, strict=True)
        )
        (back,) = (pair for pair in links.items() if pair[0][0] == "feedback")
        link = back[1].link
        fixed = feedback != "transposed"
        assert cost.effective(link, back[1]) < cost.reached(link, back[1])
        expected = (cost.effective if fixed else cost.reached)(link, back[1])
        assert cost.synaptic(link, back[1]) == expected
        own = activity[0 if feedback == "direct" else 1]
        assert (own.error_effective, own.error_reached) == (
            cost.effective(link, back[1]),
            cost.reached(link, back[1]),
        )
        forward = next(g for g in cost.placement.geometries if g.link.role == "forward")
        assert cost.synaptic(forward.link, forward) == activity[0].reached > activity[0].effective


def test_a_batch_is_one_update(sparse_images):
    rules = Rules(batch=8, shift="batch", update="wide")
    state, images, labels = trained(NETWORK, sparse_images, rules)
    activity = counted(NETWORK, state, images, labels, rules, 2)
    new, _ = train_step(NETWORK, state, Batch(NETWORK.encode(images), labels), 2, rules)
    assert [a.changed for a in activity] == [(a != b).sum() / 8 for a, b in zip(new.S, state.S, strict=True)]


def test_coincidence_counts_spikes(sparse_images):
    rules = replace(ONCHIP, update="coincidence")
    state, images, labels = trained(DENSE, sparse_images, rules)
    pairs = np.zeros(2)
    for i in range(8):
        part = slice(i, i + 1)
        by_spikes, by_values = (
            counted(DENSE, state, images[part], labels[part], r, 0)[0] for r in (rules, ONCHIP)
        )
        assert by_spikes.errors == by_values.errors
        pairs += by_spikes.pairs, by_values.pairs
    assert 0 < pairs[0] < pairs[1]


@pytest.mark.parametrize("network", [DENSE, NETWORK])
@pytest.mark.parametrize("training", [False, True])
def test_formula_and_count_agree(network, training, sparse_images):
    """The same for dense layers; where borders of images have fewer synapses, near."""
    state, images, labels = trained(network, sparse_images)
    use = Use(training, ONCHIP)
    activity = counted(network, state, images, labels if training else None, ONCHIP, 2)
    cost = Cost(place(network, CHIP, use), activity)
    ours, formula = cost.operations(), cost.operations(counted=False)
    none = {"synaptic": 0, "effective": 0, "reached": 0}
    assert replace(ours, **none) == replace(formula, **none)
    assert ours.reached == pytest.approx(formula.reached, rel=1e-12 if network is DENSE else 0.25)
    assert formula.effective == formula.reached > ours.effective
    assert (ours.learning > 0) == training


def test_operations_by_hand():
    """Inference of 30-20-5 with 10 inputs and 4 hidden values that are not zero."""
    placement = place(DENSE, CHIP, Use())
    cost = Cost(placement, [Activity(10, 4), Activity(4, 5)])
    o = cost.operations()
    assert placement.cores == 1
    assert o.messages == 10 + 4 + 5  # inputs, hidden, answers
    assert o.synaptic == 10 * 20 + 4 * 5
    assert (o.active, o.inactive, o.steps) == (25, 25 * 2, 3)
    assert (o.hops_x, o.hops_y, o.between_chips, o.learning) == (0, 0, 0, 0)
    energy = cost.energy()
    assert energy["synaptic operations"] == 220 * 23.6
    assert energy["active neurons"] == 25 * 81
    assert energy["inactive neurons"] == 50 * 52
    assert energy["messages"] == 19 * 1.7
    assert energy["static"] == pytest.approx(104.4 * cost.time())
    step = 465 + 25 * 5.3 + 2.1
    busy = 220 * 3.5 + (20 + 5) * (8.4 - 5.3)
    assert cost.time() == pytest.approx(3 * step + busy)


def test_learning_by_hand():
    """Every pair is an update, and once more in the transposed copy, which the first layer has not."""
    activity = [Activity(10, 4, 3, 30, 2), Activity(4, 5, 2, 8, 1)]
    learning = {
        feedback: Cost(
            place(DENSE, CHIP, Use(True, replace(ONCHIP, feedback=feedback))), activity
        ).operations()
        for feedback in ("transposed", "random", "direct")
    }
    assert learning["transposed"].learning == 30 + 8 + 8
    assert learning["random"].learning == learning["direct"].learning == 30 + 8
    o = learning["random"]
    passed = (10 * 20 + 4 * 5) + 2 * 20  # forward, feedback
    one_to_one = 4 + 5 + 3 + 2  # mask, loss, third factors
    trackers, label = 3 + 2, 1
    assert o.synaptic == pytest.approx(passed + one_to_one + trackers + label)
    assert o.messages == pytest.approx(10 + 4 + 2 + one_to_one + trackers + label + 5)


def test_hops_go_along_rows_then_columns():
    """Cores one to a tile, on a mesh of 2 x 2: a snake, so core 2 is below core 1."""
    chip = replace(CHIP, cores=4, mesh_columns=2, mesh_rows=2, tile_cores=1, core_neurons=10, axons_in=100)
    placement = place(DENSE, chip, Use())  # 20 neurons in two cores, 5 in the third
    assert placement.core.tolist() == [0, 1, 2]
    assert [a.tolist() for a in placement.xy(np.arange(4))] == [[0, 1, 1, 0], [0, 0, 1, 1]]
    o = Cost(placement, [Activity(30, 20), Activity(20, 5)]).operations()
    # to core 1: 30 inputs; from cores 0 and 1 to 2: 10 each; 5 answers back to the host
    assert o.hops_x == 30 + 10 + 5
    assert o.hops_y == 10 + 10 + 5
    two = Cost(place(DENSE, replace(chip, cores=2), Use()), [Activity(30, 20), Activity(20, 5)])
    assert two.placement.chips == 2
    assert two.operations().between_chips == 20 + 5


def test_published_numbers_are_those_of_the_paper():
    assert PUBLISHED["training"] == {"energy_mJ": 0.59, "time_ms": 1.5}
    assert PUBLISHED["inference"] == {"energy_mJ": 0.0025, "time_ms": 0.17}


def test_published_numbers_stand_beside_the_same_layers_only():
    one, other = (Network.parse("F-400FC-10FC", shape) for shape in ((20, 20, 1), (28, 28, 1)))
    assert published_of(one) is PUBLISHED
    assert published_of(other) is None
    assert published_of(Network.parse("20C1-F-400FC-10FC", (20, 20, 1))) is None
