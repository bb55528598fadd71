"""Continual runs: what a memory keeps, what the measures say, exact resume, what is refused."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import pytest

from experiments.continual import metrics, pictures, records
from experiments.continual.command import Means, Study, _open
from experiments.continual.latent import Below
from experiments.continual.learner import Learner
from experiments.continual.methods import METHODS, Method
from experiments.continual.presets import PRESETS, Preset, config_of
from experiments.continual.settings import Learning
from experiments.continual.study import Config, Run
from experiments.continual.table import continual_table
from experiments.engines import FASTEST
from experiments.examples.your_own_method import HardReplay
from experiments.runs import calibration, run_folder
from experiments.runs.jobs import Jobs
from experiments.runs.training import Config as Training
from experiments.runs.training import Run as TrainingRun
from wage_neuro import NumpyEngine, Rules, checkpoint, layers
from wage_neuro.errors import CheckpointError, DataError, EngineError, SettingError
from wage_neuro.kinds import Kind
from wage_neuro.layers import SPARED, UNKNOWN
from wage_neuro.memory import MemoryForm, Reservoir, pack
from wage_neuro.network import Network
from wage_neuro.support import Support
from wage_neuro.train import initial_state, visible_weights

SMALL = Config(stream="split-digits", memory=40, network="24FC", seed=3, probes=2, eta="4, 2@50%")
FEW = replace(SMALL, task_images=80)
QUICK = ("--engine", "numpy", "--network", "16FC")
SHORT = (*QUICK, "--task-images", 60)


# --- measures ----------------------------------------------------------------------------------------

R = np.array([[0.9, 0.2, 0.1], [0.6, 0.8, 0.3], [0.7, 0.5, 0.6]])


def test_measures_by_hand():
    assert metrics.final_accuracy(R) == pytest.approx((0.7 + 0.5 + 0.6) / 3)
    assert metrics.forgetting(R) == pytest.approx(((0.9 - 0.7) + (0.8 - 0.5)) / 2)
    assert metrics.backward_transfer(R) == pytest.approx(((0.7 - 0.9) + (0.5 - 0.8)) / 2)
    assert metrics.forward_transfer(R, np.array([0.1, 0.1, 0.2])) == pytest.approx((0.1 + 0.1) / 2)
    assert metrics.incremental_accuracy(R) == pytest.approx((0.9 + 0.7 + 0.6) / 3)


def test_forgetting_is_not_minus_backward_transfer():
    improved = np.array([[0.5, 0, 0], [0.9, 0.8, 0], [0.7, 0.9, 0.6]])
    assert metrics.backward_transfer(improved) == pytest.approx((0.2 + 0.1) / 2)
    # task 0 was best after task 1; the final row is no candidate, so task 1 counts as -0.1
    assert metrics.forgetting(improved) == pytest.approx((0.2 - 0.1) / 2)


def test_one_task_forgets_nothing():
    one = np.array([[0.8]])
    assert metrics.summary(one, np.array([0.1])) == {
        "ACC": 80.0, "forgetting": 0.0, "BWT": 0.0, "average incremental accuracy": 80.0, "FWT": 0.0,
    }  # fmt: skip


# --- runs --------------------------------------------------------------------------------------------


def _run(folder, config: Config, stops: tuple[int, ...] = (), engine: str = "numpy") -> tuple[Run, object]:
    """Run to the end, stopping and resuming at each of some places; return the run and its last state."""
    folder.mkdir()
    run = Run.start(config, folder)
    for stop in (*stops, None):

        def report(seen, run=run, stop=stop) -> None:
            run.stop_wanted = stop is not None and seen.place >= stop

        with run.engine(engine) as machine:
            run.fit(machine, report)
            state = machine.state
        if stop is not None:
            assert not run.finished
            run = Run.resume(folder)
    assert run.finished
    return run, state


def _without_time(rows):
    return [{k: v for k, v in row.items() if k not in ("train_seconds", "versions")} for row in rows]


@pytest.mark.parametrize(
    "config",
    [
        FEW,
        replace(FEW, method="features", memory=0, step=10, augment="crop1"),
        replace(FEW, method="replay-logits", network="8FC"),
        replace(FEW, recalled=3, memory_bits=2, keep="balanced", network="8FC", new_shift=1),
        replace(FEW, method="asymmetric", recalled=2, step=4, network="8FC", unlike="digits"),
        replace(FEW, network="2C3-8FC", frozen=1, latent=1, memory_bits=4),
        replace(FEW, method="replay-logits", recalled=2, keep="balanced", step=3, network="8FC"),
        replace(FEW, method="prototypes", network="8FC", augment="crop1"),
        replace(FEW, memory=0, method="discriminant", network="2C3-8FC"),
        replace(FEW, memory=0, method="consolidation", consolidation=5, boundaries=True, metaplasticity=1),
    ],
    ids=[
        "replay one at a time",
        "features by tens",
        "replay with logits",
        "packed and balanced",
        "asymmetric",
        "latent",
        "balanced with logits",
        "prototypes",
        "discriminant",
        "consolidation",
    ],
)
def test_a_resumed_run_is_the_same_run(tmp_path, config, monkeypatch, assert_same_state, assert_same_arrays):
    monkeypatch.setattr("experiments.continual.study.PART", 30)
    whole, state = _run(tmp_path / "whole", config)
    parts, resumed = _run(tmp_path / "parts", config, stops=(50, 165, 330))
    assert_same_state(state, resumed)
    assert _without_time(whole.record("numpy")) == _without_time(parts.record("numpy"))
    if whole.method.arrays:
        for name, array in whole.method.arrays.items():
            assert_same_arrays(array, parts.method.arrays[name], name)
        assert len(list((tmp_path / "parts").glob("memory-*"))) == 1


@pytest.mark.parametrize("step", [1, 7])
def test_measuring_more_often_changes_no_weight(tmp_path, assert_same_state, step):
    few, often = (replace(FEW, step=step, network="8FC", probes=probes) for probes in (0, 13))
    assert_same_state(_run(tmp_path / "few", few)[1], _run(tmp_path / "often", often)[1])


@pytest.mark.parametrize(
    ("engine", "needs", "method", "step"),
    [
        ("compiled", "wage_neuro", "features-replay", 1),
        ("compiled", "wage_neuro", "replay-logits", 1),
        ("compiled", "wage_neuro", "asymmetric", 7),
        ("compiled", "wage_neuro", "discriminant", 20),
        ("lava", "lava", "replay", 20),
        ("lava", "lava", "replay, packed", 5),
        ("lava", "lava", "features-replay", 20),
        ("lava", "lava", "replay-logits", 20),
        ("lava", "lava", "asymmetric, packed", 5),
        ("lava", "lava", "prototypes", 1),
        ("lava", "lava", "discriminant", 20),
        ("lava", "lava", "naive", 20),
    ],
)
def test_engines_agree(tmp_path, assert_same_state, need_kernels, engine, needs, method, step):
    pytest.importorskip(needs)
    if engine == "compiled":
        need_kernels()
    memory = 0 if method in ("naive", "discriminant") else SMALL.memory
    method, _, packed = method.partition(", ")
    config = replace(FEW, method=method, memory=memory, probes=0, network="16FC", step=step)
    if packed:
        config = replace(config, recalled=3, memory_bits=2, keep="balanced", new_shift=1, bits="28C8")
        config = replace(config, update="wide", stored_range="paper")
    whole, parts = ("numpy", ()), (engine, (200,))
    runs = [_run(tmp_path / name, config, stops, name) for name, stops in (whole, parts)]
    assert_same_state(runs[0][1], runs[1][1])
    assert _without_time(runs[0][0].record("x")) == _without_time(runs[1][0].record("x"))


def test_few_images_of_each_task(tmp_path):
    config = replace(
        SMALL, stream="permuted-digits", scenario="domain", tasks=12, task_images=30, test_images=20
    )
    run, _ = _run(tmp_path / "run", config)
    assert [len(task.train) for task in run.tasks] == [30] * 12
    assert len(run.stream) == 360
    assert {len(task.test_samples()[0]) for task in run.tasks} == {20}
    head, *rows = run.record("numpy")
    (tmp_path / "continual").mkdir()
    run_folder.write_rows(tmp_path / "continual" / "x.jsonl", [head, *rows])
    assert (
        f"| permuted-digits, domain, 12 tasks of 30 | replay 40 | {config.network} | ternary, 8 bits |"
        in continual_table(tmp_path)
    )


def test_weights_that_are_held_on_to_forget_less(tmp_path, need_kernels):
    need_kernels()  # the numpy engine takes minutes
    config = Config(
        stream="permuted-digits",
        scenario="domain",
        tasks=5,
        method="naive",
        memory=0,
        network="64FC",
        eta="2",
        seed=3,
        passes=2,
        probes=0,
    )
    found = {}
    for method, changes in (
        ("naive", {}),
        ("metaplastic", {"metaplasticity": 1}),
        ("consolidation", {"consolidation": 6, "boundaries": True}),
    ):
        run, state = _run(tmp_path / method, replace(config, method=method, **changes), engine="compiled")
        found[method] = run.summary()
        assert (state.importance is not None) == (method == "consolidation")
        labels = {"naive": "naive", "metaplastic": "metaplastic 1", "consolidation": "consolidation 6"}
        assert records.record_of(run.record("x")).method == labels[method]
        importance = 4 * run.network.n_weights if method == "consolidation" else 0
        assert run.record("x")[0]["memory_bytes"] == importance
        assert run.record("x")[0]["task boundaries"] == ("told" if changes.get("boundaries") else "not told")
    naive, metaplastic, consolidation = found.values()
    assert naive["ACC"] + 3 < metaplastic["ACC"] < consolidation["ACC"] - 3
    assert naive["forgetting"] - 5 > metaplastic["forgetting"] > consolidation["forgetting"] + 5


def test_replay_forgets_less_than_naive_and_joint_least(tmp_path):
    config = replace(SMALL, network="64FC", memory=200, passes=3, eta="4")
    found = {}
    for method in ("naive", "replay", "joint"):
        memory = config.memory if method == "replay" else 0
        run, _ = _run(tmp_path / method, replace(config, method=method, memory=memory), engine=FASTEST)
        found[method] = run.summary()["ACC"]
    assert found["naive"] < 25
    assert found["naive"] + 40 < found["replay"] < found["joint"] + 5
    assert found["joint"] > 85


def test_prototypes_need_no_replay(tmp_path):
    config = replace(SMALL, method="prototypes", memory=150, network="F")
    run, _ = _run(tmp_path / "run", config)
    (head, *_) = run.record("numpy")
    assert head["ACC"] > 90
    assert head["prototypes"] == run.method.memory.count <= 150
    assert head["samples_learned"] == head["samples"] == 1437
    assert head["memory_bytes"] == 150 * (64 + 2 + 4 + 8)
    with pytest.raises(EngineError, match="engine with prototypes 'torch': want numpy, compiled or lava"):
        run.engine("torch")


def test_a_discriminant_keeps_no_sample_and_forgets_little(tmp_path):
    config = replace(SMALL, method="discriminant", memory=0, network="100FC")
    run, _ = _run(tmp_path / "run", config)
    (head, *_) = run.record("numpy")
    assert head["ACC"] > 92
    assert head["forgetting"] < 8
    assert head["memory_bytes"] == 4 * (100 * 101 // 2 + 100 * 10 + 10)
    assert head["unchanged"] == []
    counted = head["activity"]
    # each two active features meet once, each one its class
    assert counted["learning_operations"][-1] == counted["updates"][-1] > counted["inputs"][-1] ** 2 / 2
    with pytest.raises(EngineError, match="engine with a discriminant 'torch': want numpy, compiled or lava"):
        run.engine("torch")


def test_frozen_features_stay_as_they_were_drawn(tmp_path):
    config = replace(SMALL, method="features", memory=0)
    run, state = _run(tmp_path / "run", config)
    first = Run.start(config, tmp_path).saved.state
    assert np.array_equal(state.S[0], first.S[0])
    assert not np.array_equal(state.S[1], first.S[1])
    assert set(np.unique(run.saved.state.S[0])) <= {-64, 0, 64}


def test_record_has_a_row_a_pair_and_what_the_run_needed(tmp_path):
    run, _ = _run(tmp_path / "run", replace(SMALL, scenario="domain"))
    head, *rows = run.record("numpy")
    pairs = [(row["trained"], row["tested"]) for row in rows if row["kind"] == "accuracy"]
    assert pairs == [(i, j) for i in (None, *range(5)) for j in range(5)]
    assert len([row for row in rows if row["kind"] == "probe"]) == 2 * 5
    assert head["memory_bytes"] == 40 * 65
    assert head["samples_learned"] == 2 * head["samples"] == 2 * 1437
    assert 0 < head["weight_updates"] < head["weights"] * head["samples_learned"]
    assert (head["task id"], head["task boundaries"], head["heads"]) == ("never", "not told", "one")
    assert "FWT" in head
    path = tmp_path / "record.jsonl"
    run_folder.write_rows(path, [head, *rows])
    assert records.read(path).R.shape == (1, 5, 5)
    (tmp_path / "continual").mkdir()
    run_folder.write_rows(tmp_path / "continual" / "x.jsonl", [head, *rows])
    (row,) = continual_table(tmp_path).splitlines()[2:]
    assert row.startswith("| split-digits, domain | replay 40 | 24FC | ternary, 8 bits | 1 | **")
    assert f"**{head['ACC']:.2f}**" in row
    head["ACC"] += 0.1
    run_folder.write_rows(path, [head, *rows])
    with pytest.raises(DataError, match="is not that of its rows"):
        records.read(path)


def test_record_says_how_far_logits_can_be_trusted(tmp_path, monkeypatch):
    """Of all test images of all tasks, or as many of each; the temperature is chosen on training images."""
    run, _ = _run(tmp_path / "run", replace(SMALL, unlike="digits"))
    engine = run.engine("numpy")
    parts = {}
    for part in ("training", "test"):
        found = [
            task.test_samples() if part == "test" else task.training_samples(np.arange(len(task.train)))
            for task in run.tasks
        ]
        images, parts[part] = (np.concatenate(column) for column in zip(*found, strict=True))
        parts[part] = engine.predict(images), parts[part]
    log2_t = calibration.best_temperature(*parts["training"])
    head = run.record("numpy")[0]
    assert head["log2 temperature"] == log2_t
    assert head["ECE"] == pytest.approx(
        100 * calibration.calibration_error(*parts["test"], log2_t), abs=0.001
    )
    assert 0 < head["ECE"] < 60
    assert head["AUROC of the energy"] == pytest.approx(50, abs=0.001)  # they are no others
    monkeypatch.setattr("experiments.continual.study.TRUSTED", 23)
    measured = []
    monkeypatch.setattr(calibration, "trust", lambda logits, *_: measured.append(logits) or {})
    run._trust(engine)
    assert measured[0].shape == (25, 10)  # five of each task


def test_what_it_never_meets_has_the_form_of_its_images(wage_neuro, tmp_path):
    images, labels = np.full((4, 5, 5, 1), 255, np.uint8), np.arange(4)
    parts = {"train_images": images, "test_images": images, "train_labels": labels, "test_labels": labels}
    np.savez(tmp_path / "other.npz", **parts)
    ended = wage_neuro("continual", "split-digits", "--unlike", "other.npz", *QUICK, "--run", "r")
    assert (ended.code, ended.err.splitlines()[-1]) == (
        1,
        "wage-neuro: images of shape (5, 5, 1): this network takes (8, 8, 1)",
    )
    assert not (tmp_path / "r").exists()


def test_where_the_task_is_known_confidence_is_of_its_outputs(tmp_path):
    run, _ = _run(tmp_path / "run", replace(SMALL, scenario="task", network="8FC"))
    logits, labels = run._answered(run.engine("numpy"), run.tasks[2], run.tasks[2].test_samples())
    assert set(logits.argmax(axis=1)) <= {4, 5}
    shares = np.exp(calibration.log_shares(logits, 0))
    assert (shares[:, [0, 1, 2, 3, 6, 7, 8, 9]] == 0).all()
    assert np.mean(logits.argmax(axis=1) == labels) == run.progress.rows[-3]["accuracy"]


@pytest.mark.parametrize(("images", "every"), [(20, 1), (None, 1), (None, 57), (None, 101)])
def test_a_short_run_is_counted_whole(images, every, tmp_path):
    """So that no run of which weights changed is said to have changed none."""
    run = Run.start(
        replace(SMALL, step=10 if every == 1 else 1, task_images=images, passes=2 if every == 101 else 1),
        tmp_path,
    )
    updates = run.record_updates = 2 * len(run.stream) // run.config.rules.batch
    assert run._watch_every == every
    assert updates // every >= 5 if images is None else every == 1


def test_weights_changed_in_a_short_run_are_those_that_changed(tmp_path):
    """Ten updates; all of them are counted, and no layer is said to stand still."""
    config = replace(SMALL, step=10, task_images=20, memory=40, probes=0)
    run, state = _run(tmp_path / "run", config)
    head = run.record("numpy")[0]
    begin = initial_state(run.network, config.seed)
    changed = sum(int((a != b).sum()) for a, b in zip(state.S, begin.S, strict=True))
    assert state.step == 10
    assert head["weight_updates"] >= changed > 0
    assert head["unchanged"] == []


@pytest.mark.parametrize(
    ("tasks", "words", "cause"),
    [
        (1, (0, 1), "no error has reached it"),
        (2, (0, 1), "held exponents let a layer learn two updates after its first error"),
        (3, (0,), "held exponents let a layer learn two updates after its first error"),
        (4, (), ""),
    ],
)
def test_a_layer_that_learned_nothing_is_named(tasks, words, cause, wage_neuro, tmp_path):
    """An update each task: the last layer learns in the third, the one below it in the fourth."""
    stream = ("continual", "permuted-digits", "--scenario", "domain", "--tasks", tasks, "--task-images", 10)
    ended = wage_neuro(*stream, "--step", 10, "--memory", 30, "--probes", 0, *QUICK, "--run", "r")
    assert (ended.code, ended.err) == (0, "")
    warnings = [line for line in ended.out.splitlines() if line.startswith("warning: ")]
    assert [line.split(":")[2].split()[1] for line in warnings] == [str(i) for i in words]
    assert all("not one weight has changed" in line for line in warnings)
    assert not words or cause in warnings[0]
    assert f"{tasks * 10} new samples" in ended.out


# --- the command -------------------------------------------------------------------------------------


def test_command_runs_seeds_and_resumes(wage_neuro, tmp_path):
    words = ("continual", "split-digits", "--memory", 30, "--seeds", 2, *SHORT, "--run", "r", "--probes", 1)
    ended = wage_neuro(*words, "--record", "copy.jsonl")
    assert (ended.code, ended.err) == (0, "")
    assert all(f"\n{name} " in ended.out for name in ("ACC", "forgetting", "BWT"))
    record = records.read(tmp_path / "copy.jsonl")
    assert record.R.shape == (2, 5, 5)
    assert (tmp_path / "r" / "continual.png").read_bytes().startswith(b"\x89PNG")
    again = wage_neuro("continual", "--resume", "r", "--beside", "copy.jsonl")
    assert again.code == 0
    assert records.read(tmp_path / "r").runs[1]["engine"] == "numpy"  # as it was begun
    assert np.array_equal(records.read(tmp_path / "r").R, record.R)


def test_demo_shows_both_learners(wage_neuro, monkeypatch):
    monkeypatch.setattr("experiments.continual.demo.FRAMES_A_TASK", 1)
    ended = wage_neuro("continual", "demo", "--engine", FASTEST)
    assert ended.code == 0
    (found,) = re.findall(r"^naive (\S+) %  replay (\S+) % of all classes$", ended.out, re.MULTILINE)
    naive, replay = map(float, found)
    assert naive < 30
    assert replay > 70


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "no stream: want one, such as split-mnist, or --resume FOLDER"),
        (("mnist",), "stream 'mnist': want split-DATA"),
        (("split-digits", "--memory", 0), "--memory 0 with method 'replay': want room for 1 or more"),
        (("split-digits", "--method", "naive", "--memory", 5), "--memory 5 with method 'naive': it keeps no"),
        (("split-digits", "--method", "magic"), "method 'magic': want naive, joint, replay"),
        (("split-digits", "--tasks", 11), "--tasks 11: digits has 10 classes"),
        (("split-digits:8-12",), "classes 8-12: digits has classes 0-9"),
        (("split-digits", "--eta", "8, 2@500"), "want a whole percentage of the stream"),
        (("split-digits", "--seeds", 0), "--seeds 0: want 1 or more"),
        (("split-digits", "--probes", -1), "--probes -1: want 0 or more"),
        (
            ("permuted-digits", "--task-images", 0),
            "--task-images 0: want 1..1437, task permuted 0 has no more",
        ),
        (("split-digits", "--test-images", 999), "--test-images 999: want 1.."),
        (("split-digits", "--step", 10, "--task-images", 9), "--step 10: want 1..9, task 0 1 has no more"),
        (
            ("split-digits", "--step", 2000, "--method", "joint"),
            "--step 2000: want 1..1437, the stream has",
        ),
        (
            ("split-digits", "--method", "consolidation", "--no-boundaries"),
            "consolidation=7 on a stream without task boundaries: it acts where a task ends, so want",
        ),
        (
            ("split-digits", "--method", "consolidation", "--consolidation", 0),
            "--consolidation 0 with method 'consolidation': want 1 bit or more",
        ),
        (("split-digits", "--consolidation", 16), "--consolidation 16: want bits, 0..15"),
        (("split-digits", "--metaplasticity", 17), "--metaplasticity 17: want bits, 0..16"),
        (
            ("split-digits", "--method", "joint", "--boundaries"),
            "boundaries with method 'joint': its tasks come",
        ),
        (("split-digits", "--tasks", 0), "--tasks 0: want 1 or more"),
        (
            ("split-digits", "--latent", 1),
            "--latent 1: layer 0 16FC learns, so its codes do not stay what they",
        ),
        (("split-digits", "--latent", 2, "--frozen", 1), "--latent 2: want 1..1, F-16FC-10FC has no other"),
        (
            ("split-digits", "--latent", 1, "--method", "naive"),
            "--latent 1 with method 'naive': it recalls no samples",
        ),
        (
            ("split-digits", "--latent", 1, "--frozen", 1, "--bits", "2-9-8-8"),
            "--latent 1 with bits 2988: a code of 9 bits is no grey level, want 8 or fewer",
        ),
        (("split-digits", "--memory-bits", 3), "--memory-bits 3: want 1, 2, 4 or 8"),
        (("split-digits", "--recalled", 8), "--recalled 8: want 1..7"),
        (("split-digits", "--keep", "best"), "--keep 'best': want reservoir or balanced"),
        (("split-digits", "--stored-range", "mine"), "--stored-range 'mine': want authors or paper"),
        (
            ("split-digits", "--method", "naive", "--recalled", 3),
            "--recalled 3 with method 'naive': it recalls no samples",
        ),
        (
            ("split-digits", "--method", "prototypes", "--memory-bits", 1),
            "--memory-bits 1 with method 'prototypes': it recalls no samples",
        ),
        (("split-digits", "--shrinkage", 4), "--shrinkage 4 with method 'replay': it holds no covariance"),
        (("split-digits", "--method", "discriminant", "--shrinkage", 21), "--shrinkage 21: want 0..20"),
        (
            ("split-digits", "--method", "discriminant", "--memory", 9),
            "--memory 9 with method 'discriminant': it keeps no samples",
        ),
        (
            ("split-digits", "--method", "discriminant", "--bits", "2-9-8-8"),
            "k_A=9: a discriminant takes features of 8 bits or fewer",
        ),
        (
            ("split-digits", "--method", "discriminant", "--cost", "loihi2"),
            "map of method 'discriminant': nothing on a chip stands for what it holds",
        ),
        (("split-digits", "--frozen", 1, "--from", "nowhere"), "nowhere: no such checkpoint"),
        (("split-digits", "--frozen", 2), "--frozen 2: want 0..1, or F-16FC-10FC has no layer that learns"),
        (("split-digits", "--unlike", "nothing"), "data 'nothing': want digits"),
        (("split-digits", "--method", "slda"), "method 'slda': want naive"),
        (("digits-to-digits", "--tasks", 3), "--tasks 3: a stream of 2 data sets or sessions has 2"),
        (("permuted-digits", "--augment", "crop1"), "its pixels have no neighbours"),
        (("split-digits", "--augment", "window7"), "--augment 'window7': a stream's tasks show whole images"),
        (("--resume", "nowhere"), "nowhere/study.json: no study of continual runs to read"),
    ],
)
def test_bad_words_end_with_one_line(wage_neuro, tmp_path, words, message):
    ended = wage_neuro("continual", *words, *(() if "--resume" in words else QUICK))
    assert ended.code == 1
    assert len(ended.err.splitlines()) == 1
    assert message in ended.err
    assert list(tmp_path.iterdir()) == []


def test_a_resumed_run_keeps_its_settings(wage_neuro, tmp_path):
    assert wage_neuro("continual", "split-digits", *SHORT, "--method", "naive", "--run", "r").code == 0
    ended = wage_neuro("continual", "--resume", "r", "--eta", "2")
    assert (ended.code, ended.err) == (
        1,
        "wage-neuro: --eta with --resume: a resumed run keeps its settings\n",
    )
    ended = wage_neuro("continual", "split-digits", *QUICK, "--method", "naive", "--run", "r")
    assert ended.code == 1
    assert "holds a run already" in ended.err


def test_settings_of_a_run_of_before_there_were_so_many():
    values = asdict(SMALL)
    for name in ("metaplasticity", "consolidation", "boundaries", "task_images", "test_images"):
        del values[name]
    assert Config.from_json(values) == SMALL
    for wrong in ({**values, "magic": 1}, {"seed": 3}):
        with pytest.raises(CheckpointError, match="run settings"):
            Config.from_json(wrong)


def test_a_seed_of_another_setting_is_refused(tmp_path):
    """A study goes on with its own runs alone, and says what is different in the one that is there."""
    work = Study(tmp_path, replace(SMALL, shots=3, probes=0), [0], "numpy")
    means = Means("numpy", None, Jobs())
    learner, engine = _open(work, True, means, 0)
    run_folder.prepare(learner.folder, new=True)
    learner.save(engine)
    assert _open(work, False, means, 0)[0].config == learner.config
    other = replace(work, config=replace(work.config, hold=9))
    with pytest.raises(CheckpointError, match=r"seed-0: .* of other settings: hold is 5000 there, 9 here$"):
        _open(other, False, means, 0)


def test_damaged_runs_are_refused(tmp_path):
    folder = tmp_path / "run"
    run, _ = _run(folder, replace(SMALL, network="8FC"))
    name = f"memory-{len(run.stream)}.npz"
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:100])
    with pytest.raises(CheckpointError, match="not a whole memory"):
        Run.resume(folder)
    np.savez(folder / name, images=np.zeros((3, 8, 8, 1), np.uint8), labels=np.zeros(3, np.uint8))
    with pytest.raises(CheckpointError, match=r"images uint8 \(3, 8, 8, 1\): want uint8 \(40, 8, 8, 1\)"):
        Run.resume(folder)
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match="not a whole memory"):
        Run.resume(folder)


def test_an_engine_that_learns_labels_alone_is_refused(tmp_path, monkeypatch):
    class LabelsAlone:
        supports = Support(who="an abacus", kinds=frozenset(Kind))

        def close(self) -> None:
            self.closed = True

    engine = LabelsAlone()
    monkeypatch.setattr("experiments.continual.methods.make_engine", lambda *words, **options: engine)
    run = Run.start(replace(SMALL, method="replay-logits"), tmp_path)
    with pytest.raises(EngineError, match="engine 'numpy' with method 'replay-logits': it is none that rec"):
        run.engine("numpy")
    assert engine.closed


def test_pictures_with_and_without_probes(tmp_path):
    found = []
    for name, probes, method in (("a", 0, "naive"), ("b", 2, "naive"), ("c", 2, "joint")):
        config = replace(SMALL, method=method, memory=0, probes=probes, network="8FC")
        run, _ = _run(tmp_path / name, config)
        found.append(records.record_of(run.record("numpy")))
    for i, others in ((0, []), (1, found[2:]), (0, found[1:])):
        path = tmp_path / "picture.png"
        pictures.draw(path, found[i], others)
        assert path.read_bytes().startswith(b"\x89PNG")
    assert found[2].so_far.shape == (1, 1)
    assert len(found[1].samples) == 10


@pytest.mark.parametrize("text", ["", "[]", '{"kind": "run"}', "no json"])
def test_a_file_that_is_no_record(tmp_path, text):
    path = tmp_path / "x.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match="damaged record of continual runs"):
        records.read(path)
    with pytest.raises(DataError, match="no record of continual runs to read"):
        records.read(tmp_path / "missing.jsonl")


def test_two_runs_of_one_folder_leave_a_whole_one(tmp_path, monkeypatch):
    """A save writes the memory, then the checkpoint; another run's save in between is refused."""
    config = Config(stream="split-digits", memory=20, network="8FC", probes=0, task_images=30, test_images=5)
    runs = [Run.start(config, tmp_path) for _ in range(2)]
    engines = [run.engine("numpy") for run in runs]
    for run, engine, place in zip(runs, engines, (20, 10), strict=True):
        run._measure(engine, None)
        engine.watch(run._watch_every)
        run.learn_to(engine, place)
    save = checkpoint.save

    def between(path, saved):
        monkeypatch.setattr(checkpoint, "save", save)
        with pytest.raises(SettingError, match="in use by process"):
            runs[1].save(engines[1])
        save(path, saved)

    monkeypatch.setattr(checkpoint, "save", between)
    runs[0].save(engines[0])
    assert Run.resume(tmp_path).progress.place == 20


# --- methods and the learner by themselves -----------------------------------------------------------


@pytest.fixture
def hard_replay(monkeypatch):
    monkeypatch.setattr(METHODS, "own", dict(METHODS.own))
    METHODS.add("hard-replay", HardReplay)
    return replace(FEW, method="hard-replay", recalled=2, network="8FC")


def test_a_method_of_ones_own_stops_and_goes_on(tmp_path, hard_replay, assert_same_state, assert_same_arrays):
    whole, state = _run(tmp_path / "whole", hard_replay)
    parts, resumed = _run(tmp_path / "parts", hard_replay, stops=(50, 330))
    assert_same_state(state, resumed)
    assert _without_time(whole.record("numpy")) == _without_time(parts.record("numpy"))
    assert whole.record("numpy")[0]["memory_bytes"] == 40 * (64 + 8) + 8
    assert whole.record("numpy")[0]["samples_learned"] == 3 * 5 * 80


def test_a_learner_needs_no_stream(tmp_path, assert_same_state):
    """New samples given by hand, cut anywhere, with the end of each task told: the bits of a run."""
    config = replace(
        FEW, method="replay", recalled=3, memory_bits=1, consolidation=4, boundaries=True, probes=0
    )
    run, state = _run(tmp_path / "run", config)
    with Learner.start(config, (8, 8, 1), 10, "numpy") as learner:
        for begin, end in pairwise((0, *run.stream.ends)):
            for place in range(begin, end):
                learner.learn(*run.stream.samples(place, 1), run.eta.log2_at(place))
            learner.end_task()
        assert_same_state(state, learner.engine.state)
        assert learner.memory_bytes == run.record("numpy")[0]["memory_bytes"]
        assert learner.seen == len(run.stream)


def test_a_method_says_what_it_needs():
    with pytest.raises(TypeError, match="Wishful needs magic: want all tasks at once, boundaries, con"):

        class Wishful(Method):
            needs = frozenset({"magic", "memory"})


def test_an_engine_takes_no_memory_whose_turn_is_another(monkeypatch):
    """What a memory in an engine does in its stead is what `Replaying` does, and nothing of one's own."""
    given = []

    class Abacus:
        supports = Support(
            who="an abacus", kinds=frozenset(Kind), abilities=frozenset({"recalls former logits"})
        )

    def make(*words, replay=None):
        given.append(replay)
        return Abacus()

    class Watching(METHODS["replay"]):
        def observe(self, images, labels):
            self.met = labels

    monkeypatch.setattr("experiments.continual.methods.make_engine", make)
    monkeypatch.setattr("experiments.continual.methods.holds_memory", lambda name: True)
    net = Network.parse("4FC", (2,), 4)
    for kind in (METHODS["replay"], METHODS["asymmetric"], METHODS["replay-logits"], Watching):
        kind(Learning(memory=9), net).engine("abacus", initial_state(net, 0), None)
    assert [replay is not None for replay in given] == [True, True, True, False]


def test_new_samples_spare_the_classes_that_are_not_of_the_moment(monkeypatch):
    monkeypatch.setattr("wage_neuro.memory.RECENT", 3)
    settings = Learning(method="asymmetric", memory=9, recalled=2)
    method = settings.kind(settings, Network.parse("4FC", (2,), 4))
    labels = np.array([0, 1, 1, 2, 1, 1, 3])
    found = [method.mix(np.zeros((n, 2), np.uint8), part) for n, part in ((3, labels[:3]), (4, labels[3:]))]
    former = np.concatenate([samples.former for samples in found]).reshape(7, 3, 4)
    spared = [set(np.flatnonzero(row == SPARED)) for row in former[:, 0]]
    assert spared == [{1, 2, 3}, {2, 3}, {2, 3}, {0, 3}, {0, 3}, {0, 3}, {0, 2}]
    assert (former[:, 1:] == UNKNOWN).all()


@pytest.mark.parametrize("bits", ["2888", "28C8", "2688"])
@pytest.mark.parametrize("network", ["6FC-5FC", "3C3-MP2-5FC"])
def test_latent_codes_are_those_of_the_layers_below(network, bits, assert_same_arrays):
    net = Network.parse(network, (8, 8, 1), 4, bits)
    state = initial_state(net, 5)
    below = Below(net, 1, state)
    images = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 1), np.uint8)
    codes, _ = layers.forward(
        net.layers[0], visible_weights(net, state)[0], net.encode(images).reshape(30, *net.layers[0].in_shape)
    )
    assert_same_arrays(codes.reshape(30, -1), below.above.encode(below.see(images)).reshape(30, -1), "codes")
    assert len(np.unique(codes)) > 20
    with NumpyEngine(net, state=state) as whole, NumpyEngine(below.above, state=below.upper(state)) as above:
        assert_same_arrays(whole.predict(images), above.predict(below.see(images)), "logits")
    assert below.whole(below.upper(state), Rules()) == state


@pytest.mark.parametrize("engine", ["numpy", "compiled", "lava"])
def test_a_latent_memory_is_a_memory_of_codes(
    engine, tmp_path, need_kernels, assert_same_state, assert_same_arrays
):
    """Above the layer below, a run is that of a network whose images are the codes."""
    pytest.importorskip(engine) if engine == "lava" else need_kernels()
    config = replace(SMALL, network="20FC-8FC", frozen=1, latent=1, memory_bits=2, recalled=3, probes=0)
    config = replace(config, task_images=30, memory=20)
    run, _ = _run(tmp_path / "run", config, stops=(60,), engine=engine)
    net, begin = run.network, initial_state(run.network, config.seed)
    below = Below(net, 1, begin)
    oracle = NumpyEngine(below.above, config.rules, state=below.upper(begin))
    memory = Reservoir.empty(20, (20,), 10, config.seed, form=MemoryForm(bits=2))
    for place in range(len(run.stream)):
        image, label = run.stream.samples(place, 1)
        mixed = memory.interleave(below.see(image), label, 1, 3)
        oracle.train(mixed.images, mixed.labels, run.eta.log2_at(place))
    assert_same_arrays(memory.images, run.method.memory.images, "memory")
    assert memory.bytes == run.method.bytes == 20 * (5 + 1)
    assert_same_state(oracle.state, below.upper(run.saved.state))
    assert np.array_equal(run.saved.state.S[0], begin.S[0])
    assert run.unchanged == []
    changed = run.record(engine)[0]["activity"]["updates"]
    assert changed[0] == 0 < changed[1]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder of a run that was trained on all of its data, with two layers below its last."""
    config = Training(network="20FC-8FC", epochs=15, rules=Rules(batch=32), seed=8)
    run = TrainingRun.start(config, tmp_path_factory.mktemp("trained"))
    with run.engine("numpy") as engine:
        run.fit(engine)
    return run.folder


def test_frozen_layers_are_those_of_a_trained_run(tmp_path, trained, assert_same_state, assert_same_arrays):
    """The memory keeps the codes of its layers; what is above begins as it would without it."""
    config = replace(SMALL, network="20FC-9FC", frozen=1, latent=1, memory_bits=4, probes=0)
    config = replace(config, begun_from=str(trained), task_images=30)
    run = Run.start(config, tmp_path)
    net, begin = run.network, initial_state(run.network, config.seed)
    saved = run_folder.load(trained)
    assert_same_arrays(run.saved.state.S[0], saved.state.S[0], "taken")
    assert not np.array_equal(begin.S[0], saved.state.S[0])
    for i in (1, 2):
        assert_same_arrays(run.saved.state.S[i], begin.S[i], f"drawn {i}")
    whole, state = _run(tmp_path / "whole", config)
    _, resumed = _run(tmp_path / "parts", config, stops=(70,))
    assert_same_state(state, resumed)
    assert_same_arrays(whole.saved.state.S[0], saved.state.S[0], "kept")
    below = Below(net, 1, whole.saved.state)
    images, _ = whole.stream.samples(0, len(whole.stream))
    codes = {image.tobytes() for image in pack(below.see(images), 4)}
    assert {row.tobytes() for row in whole.method.memory.images} <= codes
    with Learner.start(config, (8, 8, 1), 10, "numpy") as learner:
        for place in range(len(whole.stream)):
            learner.learn(*whole.stream.samples(place, 1), whole.eta.log2_at(place))
        assert_same_state(state, learner.engine.state)


def test_a_read_out_on_the_layers_of_a_trained_run(tmp_path, trained):
    """All of its layers but the last: what it answers with is solved, and random features are worse."""
    config = replace(SMALL, method="discriminant", memory=0, network="20FC-8FC", probes=0)
    found, _ = _run(tmp_path / "run", replace(config, begun_from=str(trained)))
    drawn, _ = _run(tmp_path / "drawn", config)
    saved = run_folder.load(trained)
    for i in (0, 1):
        assert np.array_equal(found.saved.state.S[i], saved.state.S[i])
    assert found.summary()["ACC"] > drawn.summary()["ACC"] + 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("20FC-8FC",), "with frozen=0: want --frozen N, the layers that are taken from it"),
        (
            ("20FC-9FC", "--frozen", 2),
            "layer 1: 8FC of (20,), bits 2888: want 9FC of (20,), bits 2888",
        ),
        (("9FC", "--frozen", 1), "layer 0: 20FC of (64,), bits 2888: want 9FC of (64,), bits 2888"),
        (
            ("20FC-8FC-7FC-6FC", "--frozen", 4),
            "layer 2: 10FC of (8,), bits 2888: want 7FC of (8,), bits 2888",
        ),
        (
            ("20FC-8FC", "--frozen", 1, "--bits", "28C8"),
            "layer 0: 20FC of (64,), bits 2888: want 20FC of (64,), bits 28C8",
        ),
        (("20FC-8FC", "--frozen", 3), "--frozen 3: want 0..2, or F-20FC-8FC-10FC has no layer that learns"),
        (
            ("20FC-8FC", "--frozen", 1, "--latent", 2),
            "--latent 2: layer 1 8FC learns, so its codes do not stay what they are; want --frozen 2 or more",
        ),
        (
            ("20FC-8FC", "--frozen", 2, "--latent", 3),
            "--latent 3: want 1..2, F-20FC-8FC-10FC has no other layer below",
        ),
    ],
)
def test_what_cannot_be_taken_from_a_run_is_said_in_one_line(wage_neuro, tmp_path, trained, words, message):
    network, *others = words
    words = ("split-digits", "--network", network, *others, "--from", str(trained), "--run", "r")
    ended = wage_neuro("continual", *words, "--engine", "numpy")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("wage-neuro: --")
    assert ended.err.endswith(f"{message}\n")
    assert len(ended.err.splitlines()) == 1
    assert not (tmp_path / "r").exists()


# --- long streams, presets, seeds side by side -------------------------------------------------------

LONG = Config(
    stream="permuted-digits", scenario="domain", tasks=12, task_images=20, test_images=10, method="naive",
    memory=0, network="8FC", seed=3, probes=1, measured=2,
)  # fmt: skip


def test_a_long_stream_measures_the_newest_tasks(tmp_path, assert_same_state):
    whole, state = _run(tmp_path / "whole", replace(LONG, measured=None))
    few, same = _run(tmp_path / "few", LONG, stops=(50, 130))
    assert_same_state(state, same)
    (head, *rows), (known, *all_rows) = few.record("x"), whole.record("x")
    R = metrics.matrix([row for row in all_rows if row["kind"] == "accuracy"], 12)
    pairs = {(row["trained"], row["tested"]): row["accuracy"] for row in rows if row["kind"] == "accuracy"}
    newest = {(i, j) for i in range(11) for j in (i - 1, i) if j >= 0}
    assert pairs.keys() == newest | {(11, j) for j in range(12)}
    assert all(accuracy == R[pair] for pair, accuracy in pairs.items())
    assert head["ACC"] == known["ACC"]
    assert head["BWT"] == known["BWT"]
    assert head["ACC of the newest 5"] == pytest.approx(100 * R[-1, 7:].mean(), abs=0.001)
    assert {"FWT", "average incremental accuracy"} & head.keys() == set()
    path = tmp_path / "few.jsonl"
    run_folder.write_rows(path, [head, *rows])
    record = records.read(path)
    assert not record.all_measured
    assert record.anytime.shape == (1, 12)
    pictures.draw(tmp_path / "few.png", record, [records.record_of([known, *all_rows])])
    assert (tmp_path / "few.png").read_bytes().startswith(b"\x89PNG")
    run_folder.write_rows(path, [head, *rows[:-13], *rows[-12:]])  # without the last accuracy
    with pytest.raises(DataError, match="damaged record"):
        records.read(path)


def test_the_best_of_what_was_measured_is_what_is_forgotten():
    nan = np.nan
    few = np.array([[0.5, nan, nan], [0.9, 0.8, nan], [0.7, 0.9, 0.6]])
    assert metrics.forgetting(few) == pytest.approx(((0.9 - 0.7) + (0.8 - 0.9)) / 2)
    assert metrics.summary(few).keys() == {"ACC", "forgetting", "BWT", "average incremental accuracy"}
    few[1, 0] = nan
    assert metrics.summary(few).keys() == {"ACC", "forgetting", "BWT"}


def test_every_preset_is_a_run():
    for name, preset in PRESETS.items():
        config = config_of(name)
        assert preset.settings.items() <= asdict(config).items()
    assert config_of("long").rules.stored_range == "paper"


def test_a_preset_gives_what_is_not_given(wage_neuro, tmp_path, monkeypatch):
    small = Preset("small", {"stream": "split-digits", "memory": 30, "memory_bits": 1, "recalled": 2})
    monkeypatch.setitem(PRESETS, "long", small)
    ended = wage_neuro("continual", "--preset", "long", "--memory", 40, *SHORT, "--probes", 0, "--run", "r")
    assert (ended.code, ended.err) == (0, "")
    config = json.loads((tmp_path / "r" / "study.json").read_text())["config"]
    assert (config["stream"], config["memory"], config["memory_bits"]) == ("split-digits", 40, 1)
    assert (config["recalled"], config["network"]) == (2, "16FC")
    ended = wage_neuro("continual", "--preset", "magic")
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert "--preset 'magic': want split-mnist-153k, " in ended.err


def test_seeds_side_by_side_are_those_in_turn(wage_neuro, tmp_path):
    words = (
        "continual",
        "split-digits",
        "--memory",
        30,
        "--seeds",
        2,
        *SHORT,
        "--probes",
        1,
    )
    turns = wage_neuro(*words, "--run", "turns")
    assert (turns.code, turns.err) == (0, "")
    assert re.search(
        r"^seed 1, after task 2 of 5 \(2 3\): [\d.]+ % over the tasks so far$", turns.out, re.MULTILINE
    )
    together = wage_neuro(*words, "--run", "together", "--jobs", 2)
    assert (together.code, together.err) == (0, "")
    texts = [(tmp_path / name / "record.jsonl").read_text() for name in ("turns", "together")]
    in_turn, side_by_side = (_without_time(map(json.loads, text.splitlines())) for text in texts)
    assert in_turn == side_by_side
    again = wage_neuro(*words, "--run", "together", "--jobs", 2)
    assert again.code == 1
    assert "holds a run already" in again.err
