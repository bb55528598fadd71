"""`wage-neuro map`: what it prints and writes, and what it refuses without leaving anything half-written."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from experiments.commands.chip_map import ONCHIP, Report, as_text, map_checkpoint
from experiments.records.chip_geometry import tile_traffic
from mappings.chips.chip import Chip
from mappings.chips.parts import axons_between_chips
from mappings.chips.placement import HOST, RESOURCES, Use
from wage_neuro import Network
from wage_neuro.checkpoint import Checkpoint
from wage_neuro.train import initial_state

NEW = ("map", "--network", "32FC", "--data", "digits")
KEYS = {
    "format", "network", "mode", "rules", "fits", "limits", "notes", "placement",
    "activity_counted_on", "cost", "published", "chip", "frozen_layers", "prototypes", "memory",
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    from experiments.runs.training import Config, Run

    folder = tmp_path_factory.mktemp("run")
    training = Run.start(
        Config(data="digits", network="32FC", epochs=1, rules=ONCHIP, train_images=200), folder
    )
    with training.engine("numpy") as engine:
        training.fit(engine)
    return folder


def report_of(path: Path) -> dict:
    return json.loads(path.read_text())


@pytest.mark.parametrize("mode", ["inference", "training"])
def test_a_run_is_mapped(run, mode, wage_neuro, tmp_path):
    ended = wage_neuro("map", run, "--mode", mode, "--output", "out")
    assert (ended.code, ended.err) == (0, "")
    report = report_of(tmp_path / "out" / f"map-loihi2-{mode}.json")
    assert set(report) == KEYS
    assert (report["format"], report["fits"], report["limits"]) == (2, True, [])
    assert report["network"]["layers"] == "F-32FC-10FC"
    assert "after 200 updates" in report["activity_counted_on"]
    assert report["placement"]["chips"] == 1
    picture = tmp_path / "out" / f"map-loihi2-{mode}.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert 20_000 < picture.stat().st_size < 150_000
    names = {picture.name, f"map-loihi2-{mode}.svg", f"map-loihi2-{mode}.json"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    # what is printed is what is written
    energy = report["cost"]["energy_mJ"]
    assert f"estimate: {energy['total']:.3g} mJ and {report['cost']['time_ms']:.3g} ms" in ended.out
    assert f"{energy['dynamic']:.3g} mJ of operations, {energy['static']:.3g} mJ that 1 chip" in ended.out
    assert energy["total"] == pytest.approx(energy["dynamic"] + energy["static"])
    assert energy["dynamic"] == pytest.approx(
        sum(v for k, v in energy.items() if k not in ("static", "dynamic", "total"))
    )
    assert report["published"] is None  # nobody measured these layers
    assert "measured" not in ended.out
    assert ended.out.index("estimate") < ended.out.index("axons in")  # totals first
    assert ended.out.startswith(f"reading {run}\n")  # before what takes long
    assert f"{round(report['cost']['operations']['counted']['synaptic']):,}" in ended.out
    assert "proxy" in ended.out
    assert any("proxy" in note for note in report["notes"])
    learns = report["cost"]["operations"]["counted"]["learning"]
    assert (learns > 0) == (mode == "training")


@pytest.mark.parametrize("feedback", ["random", "direct"])
def test_a_run_is_mapped_by_its_own_rules(feedback, wage_neuro, tmp_path):
    """The feedback that it learned with is placed, counted, said and written, and kept in one place."""
    rules = ("--feedback", feedback, "--epochs", 1, "--train-images", 40, "--engine", "numpy")
    words = ("train", "--mode", "onchip", "--network", "20FC-16FC", "--data", "digits", *rules, "--run", "r")
    assert wage_neuro(*words).code == 0
    ended = wage_neuro("map", "r", "--mode", "training")
    assert (ended.code, ended.err) == (0, "")
    report = report_of(tmp_path / "r" / "map-loihi2-training.json")
    assert report["rules"]["feedback"] == feedback
    assert "feedback" not in report
    assert f"on Loihi 2, training, {feedback} feedback" in ended.out
    assert f"ternary updates, {feedback} feedback" in ended.out
    errors = {
        row["layer"]: row["synapses"] for row in report["placement"]["populations"] if row["role"] == "error"
    }
    one_to_one = {0: 20, 1: 16}  # the mask
    fan_in = {"random": (16, 10), "direct": (10, 10)}[feedback]
    assert [errors[i] - one_to_one[i] for i in (0, 1)] == [20 * fan_in[0], 16 * fan_in[1]]
    pairs = sum(layer["pairs"] for layer in report["cost"]["activity"])
    assert report["cost"]["operations"]["counted"]["learning"] == pytest.approx(pairs)  # no copy learns
    # asked for, another one is mapped, under another name
    assert wage_neuro("map", "r", "--mode", "training", "--feedback", "transposed").code == 0
    other = report_of(tmp_path / "r" / "map-loihi2-training-transposed.json")
    assert other["rules"] == {**report["rules"], "feedback": "transposed"}


def test_a_report_is_read_back_and_drawn_the_same(run, wage_neuro, tmp_path):
    assert wage_neuro("map", run, "--mode", "training", "--output", "out").code == 0
    written = tmp_path / "out" / "map-loihi2-training.json"
    report = Report.from_json(report_of(written))
    assert json.loads(json.dumps(report.to_json())) == report_of(written)
    report.draw(tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == written.with_suffix(".png").read_bytes()


def test_the_measured_network_stands_beside_what_was_measured(wage_neuro, tmp_path):
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "small.npz", images=rng.integers(0, 256, (60, 20, 20), np.uint8), labels=np.arange(60) % 10
    )
    for mode, energy, ms in (("training", 0.59, 1.5), ("inference", 0.0025, 0.17)):
        ended = wage_neuro("map", "--network", "400FC", "--data", "small.npz", "--mode", mode)
        assert (ended.code, ended.err) == (0, "")
        assert f"measured, the same layers: {energy} mJ and {ms} ms" in ended.out
        assert report_of(tmp_path / f"map-loihi2-{mode}.json")["published"][mode]["energy_mJ"] == energy


LEARNER = ("continual", "split-digits", "--network", "32FC", "--probes", 0, "--engine", "numpy", "--run", "r")


def test_a_continual_learner_is_mapped_with_its_memory(wage_neuro, tmp_path):
    ended = wage_neuro(*LEARNER, "--method", "features-replay", "--memory", 30, "--cost", "loihi2")
    assert (ended.code, ended.err) == (0, "")
    report = report_of(tmp_path / "r" / "map-loihi2-training.json")
    assert set(report) == KEYS
    assert (report["mode"], report["fits"], report["frozen_layers"]) == ("training", True, 1)
    roles = [(row["layer"], row["role"]) for row in report["placement"]["populations"]]
    assert roles == [(0, "forward"), (1, "forward"), (1, "error")]
    assert (
        "64 train images of split-digits, all its tasks in turn, after 2,874 updates"
        in (report["activity_counted_on"])
    )
    assert [layer["changed"] > 0 for layer in report["cost"]["activity"]] == [False, True]
    memory = report["memory"]
    assert (memory["samples"], memory["bytes"], memory["bytes_read_a_new_sample"]) == (30, 30 * 65, 65)
    assert 30 * 65 / 1437 < memory["bytes_written_a_new_sample"] < 65
    assert memory["where"].startswith("off the neurocores")
    assert "memory: 30 samples of 8 bits a pixel, 1,950 bytes, off the neurocores" in ended.out
    assert any("not published, not counted" in note for note in report["notes"])
    twice = 2 * report["cost"]["energy_mJ"]["total"]
    assert f"a new sample and 1 recalled: {twice:.3g} mJ" in ended.out
    # the command alone says the same
    again = wage_neuro("map", "r", "--output", "again")
    assert report_of(tmp_path / "again" / "map-loihi2-training.json") == report
    assert again.out.splitlines()[:-1] == ended.out.splitlines()[-len(again.out.splitlines()) : -1]
    assert wage_neuro("map", "r", "--mode", "inference").code == 0
    answering = report_of(tmp_path / "r" / "map-loihi2-inference.json")
    assert answering["activity_counted_on"].startswith("64 test images of split-digits")
    assert answering["memory"] == memory


def test_a_continual_learner_without_a_memory(wage_neuro, tmp_path):
    assert wage_neuro(*LEARNER, "--method", "naive").code == 0
    ended = wage_neuro("map", "r")
    assert (ended.code, ended.err) == (0, "")
    report = report_of(tmp_path / "r" / "map-loihi2-training.json")
    assert (report["memory"], report["frozen_layers"]) == (None, 0)
    assert "memory:" not in ended.out
    for words in (("r", "--data", "digits"), (tmp_path / "r" / "seed-0" / "checkpoint.npz",)):
        ended = wage_neuro("map", *words)
        assert ended.err == (
            "wage-neuro: map of a continual run: want its folder, and no --data: it has its own\n"
        )
    ended = wage_neuro(*LEARNER[:-1], "other", "--cost", "loihi9")
    assert (ended.code, (tmp_path / "other").exists()) == (1, False)


def test_prototypes_are_mapped_in_the_last_layers_place(wage_neuro, tmp_path):
    ended = wage_neuro(*LEARNER, "--method", "prototypes", "--memory", 90, "--cost", "loihi2")
    assert (ended.code, ended.err) == (0, "")
    report = report_of(tmp_path / "r" / "map-loihi2-training.json")
    assert set(report) == KEYS
    assert (report["prototypes"], report["frozen_layers"], report["memory"]) == (90, 1, None)
    roles = [(row["layer"], row["role"], row["neurons"]) for row in report["placement"]["populations"]]
    assert roles == [(0, "forward", 32), (1, "prototypes", 90)]
    assert "8 x 8 x 1: 32FC-90 prototypes on Loihi 2, training, 1 layer frozen" in ended.out
    assert any("the host, which names the one that learns" in note for note in report["notes"])
    layer = report["cost"]["activity"][1]
    assert layer["reached"] == pytest.approx(90 * layer["inputs"])  # no place is free any more
    assert report["cost"]["operations"]["counted"]["learning"] == layer["pairs"] > 0
    assert wage_neuro("map", "r", "--mode", "inference").code == 0
    answering = report_of(tmp_path / "r" / "map-loihi2-inference.json")
    assert answering["cost"]["operations"]["counted"]["learning"] == 0


def test_the_report_goes_into_the_run_folder(run, wage_neuro, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(run, folder)
    before = {path.name for path in folder.iterdir()}
    assert wage_neuro("map", folder).code == 0
    assert {path.name for path in folder.iterdir()} - before == {
        "map-loihi2-inference.json",
        "map-loihi2-inference.png",
        "map-loihi2-inference.svg",
    }
    assert wage_neuro("map", folder / "checkpoint.npz", "--output", "other").code == 0
    assert report_of(tmp_path / "other" / "map-loihi2-inference.json") == report_of(
        folder / "map-loihi2-inference.json"
    )


def test_a_network_before_it_is_trained(wage_neuro, tmp_path):
    ended = wage_neuro(*NEW, "--mode", "training", "--feedback", "direct", "--images", 3)
    assert (ended.code, ended.err) == (0, "")
    report = report_of(tmp_path / "map-loihi2-training-direct.json")
    assert report["activity_counted_on"] == "3 train images of digits, never trained"
    assert all(layer["errors"] > 0 for layer in report["cost"]["activity"])
    assert (tmp_path / "map-loihi2-training-direct.png").exists()


@pytest.mark.parametrize("mode", ["inference", "training"])
def test_what_is_unknown_of_a_device_is_said(mode, wage_neuro, tmp_path):
    ended = wage_neuro(*NEW, "--mode", mode, "--chip", "ecp5-25k", "--images", 3)
    assert (ended.code, ended.err) == (0, "")
    assert re.search(r"estimate: [\d.]+ ms an? .*; no energies of LFE5U-25F are known", ended.out)
    assert "unknown" in ended.out
    assert "nan" not in ended.out
    report = report_of(tmp_path / f"map-lfe5u25f-{mode}.json")
    assert report["cost"]["energy_mJ"] is None
    assert report["cost"]["time_ms"] > 0
    assert report["placement"]["cores"] == 1


def test_pieces_of_the_report_make_up_the_network(wage_neuro, tmp_path):
    ended = wage_neuro("map", "--network", "4C3-MP2-16FC", "--data", "digits", "--mode", "training")
    assert ended.code == 1  # a convolution cannot learn there
    placement = report_of(tmp_path / "map-loihi2-training.json")["placement"]
    keys = placement["pieces"]["keys"]
    assert keys == ["population", "core", "rows", "columns", "channels", "inputs"]
    neurons = np.zeros(len(placement["populations"]), int)
    for population, core, *ranges in placement["pieces"]["rows"]:
        assert 0 <= core < placement["cores"]
        if ranges[6] == 0:  # the first slice of the inputs owns the neurons
            neurons[population] += np.prod(np.diff(np.reshape(ranges[:6], (3, 2))))
    assert neurons.tolist() == [row["neurons"] for row in placement["populations"]]
    for row in placement["populations"]:
        assert set(row["largest_piece"]) == set(RESOURCES)
        assert all(v["value"] <= v["limit"] for v in row["largest_piece"].values())


def test_all_broken_limits_are_shown_and_the_report_is_whole(wage_neuro, tmp_path):
    ended = wage_neuro("map", "--network", "4C3-MP2-16FC", "--data", "digits", "--chip", "loihi1")
    assert ended.code == 1
    assert ended.err == (
        "wage-neuro: 8 x 8 x 1: 4C3-MP2-16FC-10FC on Loihi 1, inference: does not fit, 4 limits broken"
        " (map-loihi1-inference.json)\n"
    )
    report = report_of(tmp_path / "map-loihi1-inference.json")
    assert not report["fits"]
    assert [limit["quantity"] for limit in report["limits"]] == [
        "payload of an input code",
        "payload of an activation",
        "payload of an activation",
        "max-pooling (programmable neurons)",
    ]
    assert all(limit["way_out"] in ended.out.replace("\n", " ") for limit in report["limits"][:3])
    assert "lower bounds" in ended.out
    assert (
        wage_neuro(
            "map", "--network", "4C3S2-16FC", "--data", "digits", "--chip", "loihi1", "--bits", "2288"
        ).code
        == 0
    )


def test_a_network_that_fits_nowhere(wage_neuro, tmp_path):
    (tmp_path / "tiny.toml").write_text(
        'base = "loihi2"\ncore_memory = { value = 64, unit = "bits a core" }\n'
    )
    ended = wage_neuro(*NEW, "--chip", "tiny.toml")
    assert ended.code == 1
    assert ended.err.count("\n") == 1
    assert "does not fit, 1 limit broken" in ended.err
    report = report_of(tmp_path / "map-tiny-inference.json")
    assert set(report) == KEYS
    assert (report["placement"], report["cost"]) == (None, None)
    (limit,) = report["limits"]
    assert (limit["quantity"], limit["limit"]) == ("synapses of one neuron", 64)
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            (*NEW, "--chip", "loihi3"),
            "--chip 'loihi3': want loihi1, loihi2, ice40up5k, ecp5-25k, ecp5-85k or",
        ),
        ((*NEW, "--chip", "none.toml"), "none.toml: cannot read this chip"),
        ((*NEW, "--chip", "bad.toml"), "bad.toml: cores=-4: want 1 or more"),
        ((*NEW, "--mode", "dreaming"), "mode 'dreaming': want inference or training"),
        ((*NEW, "--feedback", "back"), "--feedback 'back': want transposed, random or direct"),
        ((*NEW, "--images", 0), "--images 0: want 1 or more"),
        ((*NEW, "--bits", "1888"), "--bits '1888': k_W=1: want a whole number in 2..16"),
        ((*NEW, "--output", "file"), "file: cannot write there"),
        (("map", "no-such-run"), "no-such-run: no such checkpoint"),
        (("map", "file"), "file: not a whole wage-neuro checkpoint"),
        (("map",), "map: want a run, or --network with --data, and not both"),
        (("map", "run", "--network", "32FC", "--data", "digits"), "and not both"),
        (("map", "--network", "32FC"), "want --data too"),
        (("map", "--network", "32XY", "--data", "digits"), "cannot read '32XY'"),
        (("map", "--network", "32FC", "--data", "nothing"), "data 'nothing'"),
        (("map", "--network", "9FC-FCU", "--data", "digits"), "1 10FCU: a chip has no unquantized layer"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(words, message, wage_neuro, tmp_path):
    (tmp_path / "file").write_text("hello")
    (tmp_path / "bad.toml").write_text('base = "loihi2"\ncores = { value = -4, unit = "cores" }\n')
    ended = wage_neuro(*words)
    assert ended.code == 1
    assert message in ended.err
    assert ended.err.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"file", "bad.toml"}


def test_images_of_another_form(run, wage_neuro, tmp_path):
    np.savez(tmp_path / "wide.npz", images=np.zeros((9, 9, 9, 1), np.uint8), labels=np.arange(9) % 3)
    ended = wage_neuro("map", run, "--data", "wide.npz", "--output", "out")
    _, error = ended.err.splitlines()  # all images are black
    assert ended.code == 1
    assert "this network takes" in error
    assert not list((tmp_path / "out").glob("*"))


def test_numbers_are_printed_with_their_sources(wage_neuro, tmp_path):
    ended = wage_neuro("map", "--numbers", "--chip", "loihi1")
    assert ended.code == 0
    assert re.search(r"energy_synapse +│ 23.6 +│ pJ +│ S +│ Davies et al., IEEE Micro", ended.out)
    for text in Chip.load("loihi1").to_json().values():
        assert isinstance(text, str) or f"│ {text['source']} " in ended.out  # on one line, whole
    assert not list(tmp_path.iterdir())


def test_json_text_is_the_report():
    value = {"a": [1, 2, -3], "b": [[1, 2], [3, 4]], "c": ["x", 1.5], "d": []}
    assert json.loads(as_text(value)) == value
    assert '"a": [1, 2, -3]' in as_text(value)


def test_traffic_adds_up_to_the_hops(sparse_images):
    """A message is seen by one tile more than it has hops."""
    network = Network.parse("6C3-MP2-40FC", (12, 12, 2), 5)
    chip = Chip.load("loihi1")
    images, labels = sparse_images(4, (12, 12, 2), 5)
    saved = Checkpoint(network, ONCHIP, initial_state(network))
    for use in (Use(False), Use(True, ONCHIP)):
        report = map_checkpoint(saved, chip, use, images, labels, 3, "")
        o = report.cost.operations()
        traffic = tile_traffic(report.placement, report.cost)
        assert traffic.sum() == pytest.approx(o.messages + o.hops_x + o.hops_y)
        assert traffic.min() >= 0
    assert (report.placement.edges.source == HOST).any()


def test_the_cut_between_chips(wage_neuro, tmp_path):
    """Two chips: the report has the cores as METIS has cut them, and is read so."""
    pytest.importorskip("pymetis")
    (tmp_path / "small.toml").write_text(
        'base = "loihi2"\ncores = { value = 3, unit = "cores" }\n'
        'core_neurons = { value = 150, unit = "neurons a core" }\n'
    )
    words = ("map", "--network", "300FC-300FC", "--data", "digits", "--chip", "small.toml", "--images", 2)
    words += ("--mode", "training")
    ended = [wage_neuro(*words, "--output", cut, "--cut", cut) for cut in ("order", "metis")]
    assert [each.code for each in ended] == [0, 0], ended[0].err
    found = [
        Report.from_json(json.loads((tmp_path / cut / "map-small-training.json").read_text()))
        for cut in ("order", "metis")
    ]
    before, after = (axons_between_chips(report.placement) for report in found)
    assert after < before
    assert f"\n{before:,} axons go from chip to chip; --cut metis looks for fewer\n" in ended[0].out
    assert f"\n{after:,} axons go from chip to chip, {before:,} if the cores follow each" in ended[1].out
    refused = wage_neuro(*words, "--cut", "none")
    assert refused.err == "wage-neuro: --cut 'none': want order or metis\n"
