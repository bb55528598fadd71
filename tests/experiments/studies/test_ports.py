"""Exported networks in libraries, harnesses and simulators of others; what is not installed is skipped."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from experiments.studies import emulators, neurobench, pes, ports
from mappings.chips.chip import Chip
from mappings.chips.placement import Use, place
from mappings.formats import sana_fe
from wage_neuro import Conv, Dense, Flatten, Network, Rules, initial_state, predict
from wage_neuro.checkpoint import Checkpoint
from wage_neuro.errors import EngineError, NetworkError

SMALL = replace(Chip.load("loihi2"), **emulators.SMALL)
DENSE = Network((Dense(32), Dense(10)), (64,))
needs = {name: pytest.mark.skipif(find_spec(name) is None, reason=name) for name in ("neurobench", "sanafe")}


def saved_of(network: Network) -> Checkpoint:
    return Checkpoint(network, Rules(), initial_state(network, 3))


def images_of(network: Network, n: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (n, *network.input_shape)).astype(np.uint8)


# --- libraries ---------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "network",
    [
        Network((Dense(9), Dense(4)), (20,)),
        Network((Conv(3, 3, 2), Flatten(), Dense(7), Dense(4)), (7, 6, 2)),
    ],
    ids=["dense", "convolution"],
)
@pytest.mark.parametrize("name", ports.LIBRARIES)
def test_a_library_gives_the_logits(name, network, tmp_path):
    if find_spec(name.split("-")[0]) is None:
        pytest.skip(f"{name} is not installed")
    row = ports.compare(saved_of(network), name, images_of(network, 130), "none", tmp_path)
    assert (row.logits_differ, row.classes_differ, row.images) == (0, 0, 130)
    assert row.runs_in.startswith(f"{name} ")
    assert row.bytes > network.n_weights / 4


def test_a_difference_is_counted(tmp_path, monkeypatch):
    """The comparator: one logit of one image is another, and one class."""
    network = Network((Dense(9), Dense(4)), (20,))
    saved, images = saved_of(network), images_of(network, 130)
    wrong = predict(network, saved.state, network.encode(images))
    wrong[7, wrong[7].argmin()] += 1
    wrong[120] = -wrong[120]
    answers = iter((wrong[:100], wrong[100:]))
    liar = ports.Library("packed", "numpy", lambda path: lambda x: next(answers))
    monkeypatch.setitem(ports.LIBRARIES, "liar", liar)
    row = ports.compare(saved, "liar", images, "none", tmp_path)
    assert (row.logits_differ, row.classes_differ) == (2, 1)


def test_what_is_not_installed_is_said(tmp_path, monkeypatch):
    def load(path: Path) -> ports.Answer:
        raise ModuleNotFoundError(name="nothere")

    monkeypatch.setitem(ports.LIBRARIES, "gone", ports.Library("packed", "numpy", load))
    with pytest.raises(EngineError, match=r"^gone: nothere is not installed$"):
        ports.compare(saved_of(DENSE), "gone", images_of(DENSE, 3), "none", tmp_path)


def test_a_row_takes_the_place_of_an_older_version(tmp_path):
    old = ports.Row(
        to="onnx", runs_in="a 1.0", network="9FC", data="d", images=3, logits_differ=1,
        classes_differ=0, bytes=5, commit="c",
    )  # fmt: skip
    path = tmp_path / "ports.json"
    ports.write(path, [old, replace(old, runs_in="b 1.0")])
    ports.write(path, [replace(old, runs_in="a 2.0", logits_differ=0)])
    assert [(row.runs_in, row.logits_differ) for row in ports.read(path)] == [("a 2.0", 0), ("b 1.0", 1)]


# --- NeuroBench --------------------------------------------------------------------------------------


@needs["neurobench"]
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("network", [DENSE, Network.parse("3C3-MP2-F-9FC-4FC", (8, 8, 1))], ids=str)
def test_neurobench_counts_what_the_engine_counts(network):
    from mappings.formats import neurobench as model
    from mappings.formats.inference import Inference

    saved, images = saved_of(network), images_of(network, 40)
    labels = np.zeros(40, int)
    row = neurobench.measure(saved, images, labels, "none")
    assert row.effective == pytest.approx(row.counted)
    assert row.dense >= row.effective > 0
    logits = predict(network, saved.state, network.encode(images))
    found = model.module_of(Inference.of(saved))(model.codes_of(network, images)).detach().numpy()
    assert np.array_equal(found, logits)
    assert row.accuracy == pytest.approx((logits.argmax(axis=1) == 0).mean())
    assert (row.bytes_8_bits, row.bytes_2_bits) == (network.n_weights, -(-network.n_weights // 4))


# --- simulators of chips -----------------------------------------------------------------------------


def test_sana_fe_files_say_the_placement():
    network = Network((Dense(3), Dense(2)), (4,))
    placement = place(network, replace(SMALL, core_neurons=2), Use())
    V = [np.ones((4, 3), int), -np.ones((3, 2), int)]
    values = [np.array([5, 0, 0, 1]), np.array([0, 7, 7])]
    text = sana_fe.network(placement, V, values)
    assert "    - p0 -> p1: [type: dense, weight: [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]]" in text
    assert text.count("spikes: [1, 0, 0]") == 2
    assert text.count("bias: 1.0e+06") == 2
    assert [line for line in text.splitlines() if "lif" in line] == [
        '  - p1.0..1: [core: 0.0, soma: "lif"]',
        '  - p1.2..2: [core: 0.1, soma: "lif"]',
        '  - p2.0..1: [core: 2.0, soma: "lif"]',
    ]
    # two inputs to two pieces; a neuron of each piece to the last, in the next tile
    assert sana_fe.messages_and_hops(placement, values) == (2 * 2 + 2, 2, 0)


def test_what_sana_fe_cannot_say():
    for network, use, message in (
        (Network((Conv(2, 3), Flatten(), Dense(2)), (4, 4, 1)), Use(), r"layer 0 2C3: SANA-FE's files"),
        (DENSE, Use(True, Rules(batch=1, shift="held", update="ternary")), "SANA-FE's neurons do not learn"),
        (Network((Dense(2000),), (9,)), Use(), r"^16 chips: want a placement on 1"),
        (Network((Dense(1),), (5000,)), Use(), r"^inputs in slices"),
    ):
        with pytest.raises(NetworkError, match=message):
            sana_fe.check(place(network, SMALL, use))


@needs["sanafe"]
def test_sana_fe_counts_the_messages_and_hops_of_our_placement():
    saved = saved_of(DENSE)
    found = emulators.in_sana_fe(DENSE, saved.state, images_of(DENSE, 3), SMALL, Path(sys.executable))
    assert found["samples_whose_messages_or_hops_differ"] == 0
    assert found["messages"] == pytest.approx(found["map_messages"])
    assert found["hops"] == pytest.approx(found["map_hops"], rel=0.1)  # map takes the mean of a population
    assert found["synapses_reached"] == pytest.approx(found["map_synapses_reached"])
    assert "fired" in found["differs_after_reset"]  # an input's spikes do not begin anew


LOIHI = Path(".venv-loihi/bin/python")


@pytest.mark.skipif(not LOIHI.exists(), reason="no .venv-loihi with nengo-loihi")
def test_loihi_1_gives_the_logits():
    found = emulators.loihi1(DENSE, saved_of(DENSE).state, images_of(DENSE, 5), LOIHI)
    assert (found["logits_differ"], found["whole"]) == (0, True)


def two_classes(n: int) -> pes.Split:
    """Codes of 3 bits: half of the values are large for one class, half for the other."""
    labels = np.arange(n) % 2
    codes = np.repeat(np.stack([6 * labels, 6 - 6 * labels], axis=1), 10, axis=1) + np.arange(20) % 2
    return pes.Split((codes, labels), (codes[: n // 2], labels[: n // 2]))


QUICK = pes.Config(
    epochs=9,
    validation=10,
    choosing_seeds=(9,),
    seeds=(0, 1),
    magnitudes=(20,),
    our_settings=((1, "one-sided"),),
)


@pytest.mark.skipif(not LOIHI.exists(), reason="no .venv-loihi with nengo-loihi")
def test_pes_learns_in_loihi_1():
    record = pes.run(LOIHI, two_classes(40), 4, QUICK)
    assert [side["test"] for side in record["sides"]] == [[100, 100]] * 3
    assert record["emulator"]["whole"]
    assert 0 < record["emulator"]["largest_weight"] <= 127


def test_a_delta_rule_is_chosen_on_validation_and_then_tested():
    asked = []

    def learner(setting, seed, samples, held_out):
        asked.append((setting, seed, len(samples[1]), len(held_out)))
        return np.full(len(held_out), setting)

    data = two_classes(40)
    data = replace(data, test=(data.test[0], np.ones(20, int)))
    config = replace(QUICK, choosing_seeds=(9, 10))
    side = pes.compare(pes.Side("both", 2, "none", ["0", "1"]), (1, 0), learner, data, config)
    assert (side.validation, side.chosen, side.test) == ([50, 50], "1", [100, 100])
    assert asked == [(s, seed, 270, 10) for s in (1, 0) for seed in (9, 10)] + [
        (1, s, 360, 20) for s in (0, 1)
    ]


def test_our_delta_rule_learns_from_codes_and_from_spikes():
    data = two_classes(40)
    learn = pes.in_ours(4)
    for x in (data.train[0], 7 * pes.spikes_of(data.train[0], 3)):
        assert np.array_equal(
            learn((1, "one-sided"), 0, (np.tile(x, (9, 1)), np.tile(data.train[1], 9)), x), data.train[1]
        )


def test_a_simulator_that_is_not_there():
    with pytest.raises(
        EngineError, match=r"loihi1_emulator\.py: ModuleNotFoundError: No module named 'nengo_loihi'"
    ):
        emulators.loihi1(DENSE, saved_of(DENSE).state, images_of(DENSE, 1), Path(sys.executable))
    deep = Network((Dense(3), Dense(3), Dense(3)), (4,))
    with pytest.raises(NetworkError, match=r"3 layers; want 2$"):
        emulators.loihi1(deep, initial_state(deep), images_of(deep, 1), Path(sys.executable))
    with pytest.raises(
        EngineError, match=r"loihi1_pes\.py: ModuleNotFoundError: No module named 'nengo_loihi'"
    ):
        pes.run(Path(sys.executable), two_classes(40), 4, QUICK)
    with pytest.raises(NetworkError, match=r"^layer 0 2C3: want dense layers alone$"):
        emulators.flat(saved_of(Network((Conv(2, 3), Flatten(), Dense(2)), (4, 4, 1))))


def test_the_records_are_whole():
    """Nothing that differs is in them, and the tables can be made."""
    folder = Path("experiments/results")
    for row in ports.read(folder / "ports.json"):
        assert row.logits_differ == 0
    assert neurobench.read(folder / "neurobench.json")
    record = json.loads((folder / "emulators.json").read_text())
    assert record["loihi1"]["logits_differ"] == 0
    assert all(row["samples_whose_messages_or_hops_differ"] == 0 for row in record["sana_fe"])
