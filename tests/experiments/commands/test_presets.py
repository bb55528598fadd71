"""The paper's experiments as presets: settings, scaling, sweeps that go on where they were."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from experiments.commands import presets
from experiments.commands.presets import EXPERIMENTS, PATTERNS, Means, Scale, do, do_all, jobs
from experiments.datasets import files
from experiments.engines import FASTEST, NAMES, make_engine
from experiments.records.findings import arranged
from experiments.runs import run_folder
from experiments.runs.jobs import Jobs
from experiments.runs.training import Run
from mappings.pattern import Pattern
from wage_neuro import Bits, Network, Rules, initial_state
from wage_neuro.errors import DataError, EngineError, SettingError
from wage_neuro.eta import EtaSchedule


@pytest.fixture
def small_sweep(helpers, monkeypatch):
    """An experiment that takes a second: two settings on small digits."""
    config = helpers.small(epochs=2, eta="8, 4@1")
    monkeypatch.setitem(EXPERIMENTS, "small", {"a": config, "b": replace(config, bits="28C8")})
    return "small"


def test_every_preset_is_a_run_of_the_papers():
    for name, settings in EXPERIMENTS.items():
        for label, config in settings.items():
            if "imagenet" in config.data:
                continue
            shape = (28, 28, 1) if "mnist" in config.data else (32, 32, 3)
            bits = Pattern.parse(config.bits).bits
            network = Network.parse(config.network, shape, 10, bits, "mnist" not in config.data)
            is_sweep = name.startswith("past-") and name != "past-the-paper"
            batch = 16 if "batches-of-16" in label else 32 if is_sweep or "small-batches" in label else 128
            assert config.rules.batch == batch
            assert all(step[0] < config.epochs for step in EtaSchedule.parse(config.eta).steps)
            assert network.classes == 10
    assert EXPERIMENTS["gradient-bits"]["k_G=8"] == EXPERIMENTS["cifar10-vgg"]["2888"]
    assert EXPERIMENTS["gradient-bits"]["k_G=2"].eta == "1/8, 1/64@200, 1/512@250"
    assert EXPERIMENTS["gradient-bits"]["k_G=12"].eta == "128, 16@200, 2@250"
    assert [Bits.parse(c.bits).k_E for c in EXPERIMENTS["errors-bits"].values()] == list(range(4, 16))
    assert [c.rules.gamma for c in EXPERIMENTS["error-window"].values()] == [1, 2, 4, 8]
    past = EXPERIMENTS["past-the-paper"]
    assert past["2888"] == EXPERIMENTS["cifar10-vgg"]["2888"]
    assert past["28C8+softmax+momentum"].eta == "128, 32@200, 8@250"
    assert past["vanilla"].eta == "1/8, 1/64@200, 1/512@250"
    assert past["vanilla+small-batches"].eta == "1/32, 1/256@200, 1/2048@250"
    assert past["28C8+normalised+batches-of-16"].eta.startswith("64, 32@4")
    best, ternary = past["88C8+normalised+small-batches"], past["28C8+normalised+small-batches"]
    assert best.epochs == ternary.epochs == 15
    for sweep, label, whole in (
        ("gradient-bits", "k_G=12", ternary),
        ("errors-bits", "k_E=8", best),
        ("error-window", "gamma=1", best),
    ):
        assert EXPERIMENTS[f"past-{sweep}"][label] == whole
        assert EXPERIMENTS[f"past-{sweep}"].keys() == EXPERIMENTS[sweep].keys()
    assert EXPERIMENTS["past-gradient-bits"]["k_G=8"].eta.startswith("8, 4@4")
    assert Scale(epochs=15).of(best).eta == "16, 8@5, 4@8, 2@10, 1@12, 1/2@13, 1/4@14"
    assert Scale(width=Fraction(1, 4)).of(past["normalised"]).network == (
        "32C3N-32C3N-MP2-64C3N-64C3N-MP2-128C3N-128C3N-MP2-256FCN"
    )
    assert [c.bits for c in EXPERIMENTS["patterns"].values()] == list(PATTERNS)
    assert EXPERIMENTS["patterns"]["28C8"] == EXPERIMENTS["gradient-bits"]["k_G=12"]
    assert EXPERIMENTS["patterns"]["288C"] == EXPERIMENTS["errors-bits"]["k_E=12"]


def test_alexnet_is_the_papers():
    config = EXPERIMENTS["imagenet-alexnet"]["2888"]
    assert (config.epochs, config.augment) == (70, "window224-flip")
    assert EtaSchedule.parse(config.eta).steps == ((0, 2), (60, -1), (65, -4))
    assert config.rules == Rules(batch=256, loss="softmax")
    network = Network.parse(config.network, (224, 224, 3), 1000, config.bits, signed_input=True)
    shapes = [layer.z_shape for layer in network.layers]
    assert shapes[:3] == [(56, 56, 96), (28, 28, 256), (14, 14, 384)]  # SAME, as in the authors' code
    assert shapes[-3:] == [(4096,), (4096,), (1000,)]
    assert [layer.fan_in for layer in network.layers][5] == 7 * 7 * 256
    assert not network.layers[-1].quantized
    tiny = EXPERIMENTS["tiny-imagenet-alexnet"]["2888"]
    papers = {name: getattr(config, name) for name in ("data", "network", "augment", "rules")}
    assert tiny.rules == replace(config.rules, batch=64)
    assert replace(tiny, **papers) == config
    small = Scale.parse("epochs=28,width=1/8").of(tiny)
    network = Network.parse(small.network, (56, 56, 3), 20, small.bits, signed_input=True)
    assert str(network) == "12C5S2-MP3S2P-32C5-MP3S2P-48C3-48C3-32C3-MP3S2P-F-512FC-512FC-20FCU"
    assert small.eta == "4, 1/2@24, 1/16@26"


def test_scale():
    assert Scale.parse("") == Scale()
    assert Scale.parse(" epochs=3,width=1/4 images=500") == Scale(3, Fraction(1, 4), 500)
    for text in ("", "epochs=3,width=1/4,images=500", "images=7"):
        assert str(Scale.parse(text)) == text
    for config in (presets.MNIST, presets.CIFAR10):
        assert Scale().of(config) == config
    small = Scale.parse("epochs=6,width=1/8,images=500").of(presets.CIFAR10)
    assert small.network == "16C3-16C3-MP2-32C3-32C3-MP2-64C3-64C3-MP2-128FC"
    assert (small.epochs, small.eta, small.train_images) == (6, "8, 1@4, 1/8@5", 500)
    assert Scale(epochs=1).of(presets.CIFAR10).eta == "8, 1/8@1"  # both changes come after the last epoch
    assert Scale(width=Fraction(1, 1000)).of(presets.MNIST).network == "1C5-MP2-1C5-MP2-1FC"


@pytest.mark.parametrize(
    "text", ["1/4", "epochs=0", "epochs=1.5", "width=", "width=1/0", "width=-1", "depth=2", "images=x"]
)
def test_a_scale_that_cannot_be_read(text):
    with pytest.raises(SettingError, match=f"^scale '{text}': want epochs=N"):
        Scale.parse(text)


def test_an_unknown_experiment(tmp_path):
    with pytest.raises(SettingError, match=r"^experiment 'cifar': want mnist-lenet, cifar10-vgg, "):
        jobs("cifar", Scale(), [0], tmp_path)


def test_some_settings_in_an_order(small_sweep, tmp_path):
    work = jobs(small_sweep, Scale(), [0, 1], tmp_path, ["b", "a"])
    assert [job.folder.name for job in work] == ["b-s0", "b-s1", "a-s0", "a-s1"]
    with pytest.raises(SettingError, match=r"^setting 'c' of small: want a, b$"):
        jobs(small_sweep, Scale(), [0], tmp_path, ["a", "c"])


@pytest.mark.slow
def test_alexnet_learns_real_photographs(helpers, tmp_path):
    """The preset, smaller: 4,000 images for 4 epochs, measured on 1,000 others that are not the test set."""
    if None in files.find(files.SOURCES["tiny-imagenet-20"]):
        pytest.skip("tiny-imagenet-20 is not in ../shared/data")
    scale = Scale.parse("epochs=4,width=1/16,images=4000")
    config = replace(scale.of(EXPERIMENTS["tiny-imagenet-alexnet"]["2888"]), validation=1000)
    run = helpers.fit(Run.start(config, tmp_path))
    last = run.progress.curve[-1]
    assert last["accuracy"] > 2 * 1 / 20
    assert last["error_top5"] < 0.75 - 0.1


def test_a_sweep_that_was_stopped_goes_on(small_sweep, helpers, tmp_path):
    """One run finished, one stopped in its second epoch, two not begun: the rest is done, bit for bit."""
    work = jobs(small_sweep, Scale(), [0, 1], tmp_path / "sweep")
    assert [job.folder.name for job in work] == ["a-s0", "a-s1", "b-s0", "b-s1"]
    assert do(work[0], Means())
    first = (work[0].folder / "checkpoint.npz").stat().st_mtime_ns
    work[1].folder.mkdir()
    helpers.fit(Run.start(work[1].config, work[1].folder), stop=(1, 96))
    reported = []
    means = Means(command="sweep", records=tmp_path / "records")
    assert do_all(work, means, lambda job, ended: reported.append((job, ended)))
    assert reported == [(job, True) for job in work]
    assert (work[0].folder / "checkpoint.npz").stat().st_mtime_ns == first
    whole = helpers.fit(Run.start(work[1].config, tmp_path))
    record = json.loads((work[1].folder / "record.json").read_text())
    assert helpers.without_seconds(record["curve"]) == helpers.without_seconds(whole.progress.curve)
    assert record["command"] == "sweep"
    kept = tmp_path / "records" / "small" / "paper"
    assert sorted(path.name for path in kept.iterdir()) == [
        "a-s0.json",
        "a-s1.json",
        "b-s0.json",
        "b-s1.json",
    ]
    assert json.loads((kept / "a-s1.json").read_text()) == record
    (found,) = arranged(job.record() for job in work)
    rows = found.rows
    assert [row[:2] for row in rows] == [("a", 2), ("b", 2)]
    errors = [100 * row["error"] for row in (whole.progress.curve[-1], _last(work[0]))]
    assert rows[0][2].startswith(f"{sum(errors) / 2:.2f} ± ")


def _last(job):
    return json.loads((job.folder / "record.json").read_text())["curve"][-1]


def test_a_stop_ends_the_sweep(small_sweep, tmp_path, monkeypatch):
    work = jobs(small_sweep, Scale(), [0], tmp_path)
    monkeypatch.setattr(Run, "fit", lambda self, engine, report: None)
    reported = []
    assert not do_all(work, Means(), lambda job, ended: reported.append((job.label, ended)))
    assert reported == [("a", False)]
    assert [job.record() for job in work] == [None, None]


@pytest.mark.parametrize(
    "engine",
    [name if name == "numpy" else pytest.param(name, marks=pytest.mark.slow) for name in NAMES],
)
def test_processes_give_the_same_bits(engine, small_sweep, tmp_path):
    network = Network.parse("4FC", (4,), 2)
    try:
        make_engine(engine, network, Rules(batch=4), initial_state(network)).close()
    except EngineError as error:
        pytest.skip(str(error))
    one, two = (jobs(small_sweep, Scale(epochs=1), [0], tmp_path / name) for name in ("one", "two"))
    for work, means in ((one, Means()), (two, Means(engine, jobs=Jobs(jobs=2)))):
        assert do_all(work, means, lambda job, ended: None)
    for a, b in zip(one, two, strict=True):
        for what in ("error", "train_loss"):
            assert _last(a)[what] == _last(b)[what]


def test_threads_of_one_process_give_the_same_bits(small_sweep, tmp_path):
    one, two = (jobs(small_sweep, Scale(epochs=2), range(2), tmp_path / name) for name in ("one", "two"))
    for work, means in ((one, Means()), (two, Means(FASTEST, jobs=Jobs(jobs=3, together=True)))):
        assert do_all(work, means, lambda job, ended: None)
    for a, b in zip(one, two, strict=True):
        states = [run_folder.load(job.folder).state for job in (a, b)]
        assert states[0] == states[1]
        assert _last(a)["error"] == _last(b)["error"]


def test_threads_end_with_the_first_that_is_refused(small_sweep, tmp_path):
    """What has begun stops with a checkpoint, and goes on later."""
    work = jobs(small_sweep, Scale(epochs=5000), [0, 1], tmp_path)
    bad = replace(work[0], config=replace(work[0].config, data="none"))
    with pytest.raises(DataError, match="'none'"):
        do_all([work[1], bad, work[2]], Means(jobs=Jobs(jobs=3, together=True)), lambda job, ended: None)
    assert run_folder.load(work[1].folder).extra["progress"]["epoch"] < 5000


def test_a_sweep_ends_with_the_first_that_is_refused(small_sweep, tmp_path, monkeypatch):
    """Its error is raised as it is in one process; the others stop, and go on later."""
    work = jobs(small_sweep, Scale(epochs=50), [0, 1], tmp_path)
    bad = replace(work[0], config=replace(work[0].config, data="none"))
    reported = []
    with pytest.raises(DataError, match="'none'"):
        do_all([work[1], bad, work[2]], Means(jobs=Jobs(jobs=3)), lambda job, ended: reported.append(job))
    assert reported == []


def test_a_folder_of_another_run_is_refused(small_sweep, tmp_path):
    (job, _) = jobs(small_sweep, Scale(epochs=1), [0], tmp_path)
    assert do(job, Means())
    with pytest.raises(SettingError, match=r"a-s0: holds a run of other settings: seed is 0 there, 7 here$"):
        do(replace(job, config=replace(job.config, bits="2888", seed=7)), Means())


def test_the_command(small_sweep, wage_neuro):
    words = (
        "experiment",
        small_sweep,
        "--scale",
        "epochs=1",
        "--seeds",
        2,
        "--engine",
        "numpy",
        "--record",
        "kept",
    )
    ended = wage_neuro(*words)
    assert ended.code == 0
    again = wage_neuro(*words)
    assert (again.code, again.out) == (0, ended.out)
    record = json.loads(Path("kept/small/epochs=1/b-s1.json").read_text())
    assert (record["experiment"], record["setting"], record["scale"]) == ("small", "b", "epochs=1")
    assert record["command"] == "wage-neuro experiment small --scale epochs=1 --seeds 2 --engine numpy"
    assert "small: 4 runs, engine numpy" in ended.out
    assert "b seed 1: done, runs/small/b-s1" in ended.out
    assert ended.out.count("±") == 4
    assert wage_neuro("experiment", "mnist-lenett").err.endswith("; did you mean mnist-lenet?\n")
    assert wage_neuro("experiment", "none").err.startswith("wage-neuro: experiment 'none': want ")


def test_patterns_without_pytorch_are_refused_at_once(monkeypatch, wage_neuro):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "mappings.engines.torch.floats", raising=False)
    ended = wage_neuro("experiment", "patterns", "--scale", "epochs=1")
    assert ended.err.startswith("wage-neuro: pattern '28f8': ")
    assert ended.err.endswith('it needs PyTorch: pip install "wage-neuro[torch]"\n')
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    "text", ["width=1e99999999", "width=1/0", "epochs=1e9", "images=0", "width=-1", "size=2", "epochs="]
)
def test_a_scale_that_is_none(text):
    with pytest.raises(SettingError, match=f"^scale '{text}': want epochs=N, width=SHARE such as 1/4, or im"):
        Scale.parse(text)
