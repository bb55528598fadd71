"""What a method costs a new sample on a chip, from the counts of records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from experiments.continual import hardware, records
from experiments.continual.hardware import Learned, pareto
from mappings.chips.chip import Chip, ChipError
from mappings.chips.cost import Activity, Cost
from mappings.chips.placement import Use, place
from wage_neuro import Network, Rules
from wage_neuro.errors import DataError

FOLDER = Path("experiments/results")
LOIHI2 = Chip.load("loihi2")


@pytest.fixture(scope="module")
def replay():
    return records.read(FOLDER / "continual" / "split-mnist-class-replay-2000.jsonl")


def one_run(record, **changes):
    return replace(record, runs=[{**record.runs[0], **changes}])


def test_a_new_sample_costs_all_that_is_learned_with_it(replay):
    """The cost by hand: the placement of the net, the counts of the record, two learned samples a new one."""
    run = replay.runs[0]
    network = Network.parse("F-400FC-400FC-10FC", (28, 28, 1))
    rules = Rules(batch=1, shift="held", update="ternary", loss="one-sided", margin=3, new_shift=2)
    counts = run["activity"]
    names = ("inputs", "spikes", "errors", "learning_operations", "updates")
    layers = [
        Activity(
            *(counts[name][i] for name in names),
            reached=counts["synapses_reached"][i],
            error_reached=counts["error_synapses_reached"][i],
        )
        for i in range(3)
    ]
    wanted = Cost(place(network, LOIHI2, Use(True, rules)), layers)
    found = Learned.of(one_run(replay), LOIHI2)
    assert found.mJ == pytest.approx(2 * wanted.to_json()["energy_mJ"]["total"])
    assert found.dynamic_mJ == pytest.approx(2 * wanted.to_json()["energy_mJ"]["dynamic"])
    assert found.ms == pytest.approx(2e-6 * wanted.time())
    assert (found.accuracy, found.memory_bytes, found.limits) == (run["ACC"], run["memory_bytes"], ())


def test_a_cost_is_the_mean_of_its_seeds(replay):
    each = [Learned.of(replace(replay, runs=[run]), LOIHI2) for run in replay.runs]
    whole = Learned.of(replay, LOIHI2)
    assert len({one.mJ for one in each}) == len(each) > 1
    assert whole.mJ == pytest.approx(sum(one.mJ for one in each) / len(each))
    assert whole.accuracy == pytest.approx(sum(one.accuracy for one in each) / len(each))


def test_what_cannot_be_costed(replay):
    config = {**replay.runs[0]["config"], "stream": "split-mine.npz"}
    for changes in ({"config": config},):
        with pytest.raises(DataError, match=r"^split-mine\.npz, class-incremental, replay.*: want counts of"):
            Learned.of(one_run(replay, **changes), LOIHI2)
    without = {name: value for name, value in replay.runs[0].items() if name != "activity"}
    with pytest.raises(DataError, match="want counts of activity"):
        Learned.of(replace(replay, runs=[without]), LOIHI2)


def test_energies_that_are_unknown_cost_nothing_that_could_be_told(replay):
    message = r"^chip 'LFE5U-25F': its energies are unknown, so none can be told of a method$"
    with pytest.raises(ChipError, match=message):
        Learned.of(replay, Chip.load("ecp5-25k"))


def test_prototypes_are_a_population_of_their_own():
    record = records.read(FOLDER / "continual" / "split-mnist-class-prototypes-2000.jsonl")
    found = Learned.of(record, LOIHI2)
    assert any("bits of state" in limit for limit in found.limits)


def test_the_front(replay):
    first = Learned.of(one_run(replay), LOIHI2)
    points = [
        replace(first, mJ=mJ, accuracy=acc)
        for mJ, acc in ((2, 90), (1, 80), (3, 85), (3, 95), (4, 95), (2, 70))
    ]
    assert [(p.mJ, p.accuracy) for p in pareto(points)] == [(1, 80), (2, 90), (3, 95)]
    joint = one_run(
        replay, config={**replay.runs[0]["config"], "method": "joint", "memory": 0, "new_shift": 0}
    )
    assert pareto([replace(first, record=joint, mJ=0.5), points[0]]) == [points[0]]


def test_the_published_mark_is_in_the_table_and_in_the_picture(tmp_path):
    table = hardware.learning_cost_table(FOLDER)
    assert table.splitlines()[-5 if "†" in table else -3].startswith("|  | CLP-SNN")
    rows = [line for line in table.splitlines() if line.startswith("| split-mnist, class | replay 2,000")]
    assert len(rows) >= 2
    hardware.draw(tmp_path / "cost.png", hardware.of_stream(FOLDER))
    assert (tmp_path / "cost.png").stat().st_size > 10_000


def test_sums_are_synapses_that_learn():
    """880 features and 10 classes, of each a neuron; no chip's synapse has their 32 bits."""
    record = records.read(FOLDER / "continual" / "split-mnist-discriminant-880.jsonl")
    run = record.runs[0]
    network, rules = Network.parse(run["network"], (28, 28, 1)), Rules(batch=1, shift="held")
    layers = [
        Activity(**{name: run["activity"][field][i] for name, field in hardware.FIELDS.items()})
        for i in range(2)
    ]
    assert layers[1].pairs == layers[1].changed > layers[1].inputs ** 2 / 2
    wanted = Cost(place(network, LOIHI2, Use(True, rules, 1, 880 + 10)), layers)
    found = Learned.of(one_run(record), LOIHI2)
    assert found.mJ == pytest.approx(wanted.to_json()["energy_mJ"]["total"])
    assert found.ms == pytest.approx(1e-6 * wanted.time())
    (limit,) = found.limits
    assert limit.startswith("discriminant: sum in a synapse 32 > 8 bits; a processor beside the cores")
