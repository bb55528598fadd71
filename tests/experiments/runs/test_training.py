"""Training runs: stopped and resumed they end in the same bits as if never stopped."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import threading
from dataclasses import replace

import numpy as np
import pytest

import wage_neuro as wage_neuro_package
from experiments.datasets import load
from experiments.runs import run_folder, training
from experiments.runs.training import Config, Run
from wage_neuro import Network, NumpyEngine, Rules, checkpoint, softmax
from wage_neuro.activity import FIELDS
from wage_neuro.errors import CheckpointError, DataError, EngineError, SettingError, WageError
from wage_neuro.random_bits import permutation

try:
    import lava  # noqa: F401
except ImportError:  # newer Pythons
    ENGINES = ["numpy"]
else:
    ENGINES = ["numpy", "lava"]
needs_lava = pytest.mark.skipif("lava" not in ENGINES, reason="lava-nc is not installed")

BATCHES = 12  # 400 images in batches of 32
EPOCH = BATCHES * 32
END = (99, 0)
# Legs of one run: (engine, lanes, where it stops as (epoch, samples)).
LEGS = {
    "numpy, in an epoch": ("batch", [("numpy", None, (0, 160)), ("numpy", None, END)]),
    "numpy, at an epoch's end": ("batch", [("numpy", None, (1, 0)), ("numpy", None, END)]),
    "numpy, often": (
        "held",
        [("numpy", None, stop) for stop in ((0, 32), (0, 64), (1, 0), (2, 352), END)],
    ),
    "lava, in an epoch": ("batch", [("lava", None, (0, 160)), ("lava", None, END)]),
    "lava, at an epoch's end": ("batch", [("lava", None, (1, 0)), ("lava", None, END)]),
    "lava, then numpy": ("batch", [("lava", None, (1, 224)), ("numpy", None, END)]),
    "numpy, then lava": ("held", [("numpy", None, (0, 224)), ("lava", 16, END)]),
    "lava, then other lanes, then numpy, then lava": (
        "held",
        [
            ("lava", 1, (0, 64)),
            ("lava", 8, (1, 0)),
            ("numpy", None, (1, 96)),
            ("lava", 32, (2, 32)),
            ("lava", 4, END),
        ],
    ),
}


@pytest.fixture(autouse=True)
def no_drawing(monkeypatch):
    """test_run_folder.py draws; here it would take most of the time."""
    monkeypatch.setattr(run_folder, "draw_curve", lambda path, *_: path.write_bytes(b""))


@pytest.fixture
def batch_by_batch(monkeypatch):
    """One batch a call of the engine, so a run can stop after any."""
    monkeypatch.setattr(training, "REPORT_EVERY_S", 0)


@pytest.fixture
def same_run(assert_same_state, helpers):
    """Comparator of two runs: weights, held exponents, metrics but their seconds."""

    def compare(one: Run, other: Run) -> None:
        assert_same_state(one.saved.state, other.saved.state)
        assert helpers.without_seconds(one.progress.curve) == helpers.without_seconds(other.progress.curve)

    return compare


def test_the_comparator_sees_a_difference(uninterrupted, same_run):
    with pytest.raises(AssertionError):
        same_run(uninterrupted["batch"], uninterrupted["held"])


# --- exact resume ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LEGS)
def test_a_resumed_run_ends_in_the_same_bits(
    name, tmp_path, helpers, uninterrupted, same_run, assert_same_state, batch_by_batch
):
    shift, legs = LEGS[name]
    if any(engine not in ENGINES for engine, _, _ in legs):
        pytest.skip("lava-nc is not installed")
    run = Run.start(helpers.small(helpers.held_shift if shift == "held" else helpers.batch_shift), tmp_path)
    for engine, lanes, stop in legs:
        helpers.fit(run, engine, lanes, stop)
        if stop != END:
            assert (run.progress.epoch, run.progress.batch * 32) == stop
            assert not run.finished
        saved = checkpoint.load(tmp_path / run_folder.CHECKPOINT)
        assert_same_state(saved.state, run.saved.state)
        assert saved.state.step == run.progress.epoch * BATCHES + run.progress.batch
        run = Run.resume(tmp_path)
    assert run.finished
    same_run(run, uninterrupted[shift])
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows == run.progress.curve


@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_grown_by_epochs_is_the_longer_run(engine, tmp_path, helpers, uninterrupted, same_run):
    helpers.fit(Run.start(helpers.small(epochs=1), tmp_path), engine)
    run = helpers.fit(Run.resume(tmp_path, epochs=3), engine)
    assert run.config.epochs == 3
    same_run(run, uninterrupted["batch"])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("every", [0, 1e9], ids=["one batch a call", "as many as fit"])
def test_the_cut_into_calls_changes_no_bit(
    engine, every, tmp_path, helpers, uninterrupted, same_run, monkeypatch
):
    monkeypatch.setattr(training, "REPORT_EVERY_S", every)
    run, sizes = Run.start(helpers.small(), tmp_path), []
    with run.engine(engine) as machine:
        train = machine.train
        machine.train = lambda images, labels, eta: (
            sizes.append(len(labels) // 32) or train(images, labels, eta)
        )
        run.fit(machine)
    assert sum(sizes) == 3 * BATCHES
    assert sizes == [1] * 3 * BATCHES if every == 0 else max(sizes) > BATCHES // 2
    same_run(run, uninterrupted["batch"])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("error", [EngineError("a Process died"), KeyboardInterrupt()], ids=repr)
def test_a_run_that_breaks_goes_on_from_its_last_checkpoint(
    engine, error, tmp_path, helpers, uninterrupted, same_run, batch_by_batch, monkeypatch
):
    monkeypatch.setattr(training, "SAVE_EVERY_S", 0)
    run, places = Run.start(helpers.small(helpers.held_shift), tmp_path), []

    def report(seen):
        if (tmp_path / run_folder.CHECKPOINT).exists():
            progress = checkpoint.load(tmp_path / run_folder.CHECKPOINT).extra["progress"]
            places.append((progress["epoch"], progress["batch"]))
        if (seen.epoch, seen.samples) == (1, 128):
            raise error

    with run.engine(engine) as machine, pytest.raises(type(error)):
        run.fit(machine, report)
    # reported before it is saved: the first epoch, its end, then three batches of the second
    assert places[:2] == [(0, 1), (0, 2)]
    assert places[-3:] == [(1, 1), (1, 2), (1, 3)]
    run = Run.resume(tmp_path)
    assert (run.progress.epoch, run.progress.batch) == (1, 3)
    same_run(helpers.fit(run, engine), uninterrupted["held"])


def test_no_checkpoint_in_between_by_default(tmp_path, helpers, batch_by_batch):
    run, found = Run.start(helpers.small(epochs=1), tmp_path), []
    with run.engine("numpy") as machine:
        run.fit(machine, lambda seen: found.append((tmp_path / run_folder.CHECKPOINT).exists()))
    assert found == [False] * BATCHES + [True]  # once more after the epoch


def test_a_finished_run_resumed_changes_nothing(tmp_path, helpers, uninterrupted, same_run):
    shutil.copytree(uninterrupted["batch"].folder, tmp_path, dirs_exist_ok=True)
    run = Run.resume(tmp_path)
    assert run.finished
    same_run(helpers.fit(run), uninterrupted["batch"])


def test_a_run_killed_while_it_drew_its_last_curve_gets_it_when_resumed(tmp_path, helpers, uninterrupted):
    """The checkpoint is written first; metrics and curve follow from it."""
    shutil.copytree(uninterrupted["batch"].folder, tmp_path, dirs_exist_ok=True)
    metrics = (tmp_path / "metrics.jsonl").read_text()
    (tmp_path / "metrics.jsonl").write_text("".join(metrics.splitlines(keepends=True)[:-1]))
    (tmp_path / "curve.png").unlink()
    helpers.fit(Run.resume(tmp_path))
    assert (tmp_path / "metrics.jsonl").read_text() == metrics
    assert (tmp_path / "curve.png").exists()


def test_fewer_epochs_than_are_trained_are_refused(tmp_path, helpers, batch_by_batch):
    """Else the run counts as finished with weights that no row of its metrics belongs to."""
    helpers.fit(Run.start(helpers.small(), tmp_path), stop=(1, 96))
    with pytest.raises(SettingError, match="epochs=1"):
        Run.resume(tmp_path, epochs=1)


@pytest.mark.parametrize("epochs", [0, -1])
def test_resuming_for_no_epochs_is_refused(epochs, uninterrupted):
    with pytest.raises(SettingError, match=f"epochs={epochs}: want 1 or more"):
        Run.resume(uninterrupted["batch"].folder, epochs=epochs)


# --- signals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_the_batches_in_hand(
    number, tmp_path, helpers, uninterrupted, same_run, batch_by_batch
):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    run = Run.start(helpers.small(), tmp_path)
    with run.engine("numpy") as machine:
        rows = run.fit(machine, lambda seen: os.kill(os.getpid(), number) if seen.samples == 96 else None)
    assert rows == []
    assert (run.progress.epoch, run.progress.batch) == (0, 3)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    same_run(helpers.fit(Run.resume(tmp_path)), uninterrupted["batch"])


def test_the_second_interrupt_stops_at_once_and_the_third_signal_is_python_s_again(tmp_path, helpers):
    before = signal.getsignal(signal.SIGINT)
    run = Run.start(helpers.small(), tmp_path)
    with run.engine("numpy") as machine, pytest.raises(KeyboardInterrupt):
        run.fit(machine, lambda seen: [os.kill(os.getpid(), signal.SIGINT) for _ in range(2)])
    assert signal.getsignal(signal.SIGINT) is before
    assert not (tmp_path / run_folder.CHECKPOINT).exists()


def test_a_run_in_a_thread_leaves_the_signals_alone(tmp_path, helpers, uninterrupted, same_run):
    run = Run.start(helpers.small(), tmp_path)
    thread = threading.Thread(target=helpers.fit, args=(run,))
    thread.start()
    thread.join()
    same_run(run, uninterrupted["batch"])


# --- what a run measures -----------------------------------------------------------------------------


def test_softmax_from_windows_resumed_ends_in_the_same_bits(tmp_path, helpers, same_run, batch_by_batch):
    """An unquantized last layer, windows of 6x6 in 8x8: stopped in an epoch, at its end, or not at all."""
    rules = Rules(batch=32, loss="softmax")
    config = helpers.small(rules, network="8C3-MP2-24FC-FCU", augment="window6-flip")
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole = helpers.fit(Run.start(config, tmp_path / "whole"))
    run = Run.start(config, tmp_path / "parts")
    for stop in ((0, 160), (1, 0), END):
        helpers.fit(run, stop=stop)
        run = Run.resume(tmp_path / "parts")
    same_run(run, whole)
    assert whole.network.input_shape == (6, 6, 1)
    assert np.array_equal(whole.data.test_images, load("digits").test_images[:, 1:7, 1:7])
    *_, (logits, labels) = _trained(whole, epoch=2)
    one = 2**15
    p = softmax.probabilities(logits, 7 + 15)
    wanted = sum(
        (int(v) - one * (c == label)) ** 2
        for row, label in zip(p, labels, strict=True)
        for c, v in enumerate(row)
    )
    assert whole.progress.curve[-1]["train_loss"] == wanted / (2 * one**2 * len(labels))


def _trained(run, epoch):
    """Logits in training of the epochs up to one, by an engine by hand, with the labels."""
    config, data = run.config, run.data
    engine = NumpyEngine(run.network, config.rules, seed=config.seed)
    for at in range(epoch + 1):
        order = permutation(config.seed, at, 400)[:EPOCH]
        images = run.augment.apply(data.train_images[order], config.seed, at, slice(0, EPOCH))
        yield engine.train(images, data.train_labels[order], run.eta.log2_at(at)), data.train_labels[order]


def test_the_five_best_answers_count_where_there_are_more_than_ten_classes(tmp_path, sparse_images):
    images, labels = sparse_images(160, (5, 5, 1), 12)
    np.savez(tmp_path / "many.npz", images=images, labels=labels)
    config = Config(data=str(tmp_path / "many.npz"), network="8FC", epochs=1, rules=Rules(batch=32))
    run = Run.start(config, tmp_path)
    with run.engine("numpy") as engine:
        (row,) = run.fit(engine)
        logits = run.predict(engine)
    right = 0
    for answer, label in zip(logits.tolist(), run.data.test_labels.tolist(), strict=True):
        better = [c for c, z in enumerate(answer) if (-z, c) < (-answer[label], label)]
        right += len(better) < 5
    assert row["error_top5"] == 1 - right / len(logits)
    assert row["error_top5"] < row["error"]


@pytest.mark.parametrize("bits", ["2888", "2-16-8-16"])
def test_a_row_says_what_an_engine_by_hand_says(bits, tmp_path, helpers):
    config = helpers.small(bits=bits, epochs=1)
    run = helpers.fit(Run.start(config, tmp_path))
    digits = load("digits")
    images, labels = digits.train_images[:400], digits.train_labels[:400]
    order = permutation(config.seed, 0, 400)[:EPOCH]
    engine = NumpyEngine(Network.parse(config.network, (8, 8, 1), 10, bits), config.rules, seed=config.seed)
    logits = engine.train(images[order], labels[order], 3)
    target = engine.network.layers[-1].target
    wanted = np.zeros((EPOCH, 10), object)
    wanted[np.arange(EPOCH), labels[order]] = target
    loss = sum(int(d) ** 2 for d in (logits - wanted).ravel())
    accuracy = np.mean(engine.predict(digits.test_images).argmax(axis=1) == digits.test_labels)
    (row,) = helpers.without_seconds(run.progress.curve)
    assert row == {
        "epoch": 0,
        "eta": 8.0,
        "samples": EPOCH,
        "train_loss": loss / (2 * target**2 * EPOCH),
        "train_error": float(np.mean(logits.argmax(axis=1) != labels[order])),
        "error": pytest.approx(1 - accuracy, abs=1e-12),
        "accuracy": pytest.approx(accuracy, abs=1e-12),
    }


def test_eta_follows_its_schedule(uninterrupted):
    assert [row["eta"] for row in uninterrupted["batch"].progress.curve] == [8.0, 4.0, 1.0]


def test_validation_takes_the_place_of_the_test_set(tmp_path, helpers):
    run = Run.start(helpers.small(validation=100, train_images=None, epochs=1), tmp_path)
    digits = load("digits")
    assert np.array_equal(run.data.test_images, digits.train_images[-100:])
    assert np.array_equal(run.data.train_images, digits.train_images[:-100])
    helpers.fit(run)
    assert run.record("numpy", "command")["measured_on"] == "validation"
    assert Run.resume(tmp_path).config.validation == 100


def test_a_report_tells_how_far_it_is(tmp_path, helpers, batch_by_batch):
    run, reports = Run.start(helpers.small(epochs=2), tmp_path), []
    with run.engine("numpy") as machine:
        rows = run.fit(machine, reports.append)
    assert [report.seen for report in reports] == sorted(report.seen for report in reports)
    assert (reports[-1].seen, reports[-1].epoch, reports[-1].last_error) == (2 * EPOCH, 2, rows[-1]["error"])
    assert {(report.epochs, report.samples_an_epoch) for report in reports} == {(2, EPOCH)}
    assert all(0 <= report.train_error <= 1 and report.samples_per_s > 0 for report in reports)


def test_the_record_is_what_a_table_needs(tmp_path, uninterrupted):
    run = uninterrupted["batch"]
    run.write_record(tmp_path / "record.json", "numpy", "wage-neuro train")
    record = json.loads((tmp_path / "record.json").read_text())
    accuracies = [row["accuracy"] for row in run.progress.curve]
    assert record["curve"] == run.progress.curve
    assert (record["accuracy_last"], record["accuracy_best"]) == (accuracies[-1], max(accuracies))
    assert (record["command"], record["engine"], record["measured_on"]) == (
        "wage-neuro train",
        "numpy",
        "test",
    )
    assert record["data_sha256"] == load("digits").subset(400).checksum
    assert record["network"] == "8C3-MP2-F-48FC-10FC"
    assert record["weights"] == 8 * 9 + 48 * 128 + 480
    assert Config.from_json(record["config"]) == run.config


# --- settings and checkpoints that cannot be ---------------------------------------------------------


def test_settings_survive_json(helpers):
    config = helpers.small(
        Rules(batch=7, shift="held", hold=3, update="ternary", stored_range="paper"), validation=5
    )
    assert Config.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"epochs": 0}, SettingError, "epochs=0: want 1 or more"),
        ({"eta": "3"}, SettingError, "eta=3: want a power of two"),
        ({"seed": -1}, SettingError, "seed -1: want a whole number in 0.."),
        ({"seed": 2**64}, SettingError, f"seed {2**64}: want a whole number in 0.."),
        ({"rules": Rules(batch=401)}, SettingError, "batch=401: there are only 400 training images"),
        ({"validation": 1437}, DataError, "validation=1437: want 1..1436"),
        ({"validation": -1}, DataError, "validation=-1: want 1..1436"),
        ({"train_images": 0}, DataError, "train_images=0: want 1..1437"),
        ({"train_images": 1438}, DataError, "train_images=1438: want 1..1437"),
    ],
)
def test_settings_that_cannot_be(changes, error, message, tmp_path, helpers):
    with pytest.raises(error, match=message):
        Run.start(replace(helpers.small(), **changes), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_whole_training_set_can_be_one_batch(tmp_path, helpers):
    run = helpers.fit(Run.start(helpers.small(Rules(batch=400), epochs=1), tmp_path))
    assert (run.saved.state.step, run.progress.curve[0]["samples"]) == (1, 400)


@pytest.fixture
def finished(tmp_path, uninterrupted):
    """A copy of a finished run, to be spoilt."""
    return shutil.copytree(uninterrupted["batch"].folder, tmp_path / "run")


def _cut(file):
    file.write_bytes(file.read_bytes()[:-200])


def _one_array(file):
    with file.open("wb") as opened:
        np.save(opened, np.zeros(3))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda file: file.unlink(), "no such checkpoint"),
        (_cut, "not a whole wage-neuro checkpoint"),
        (lambda file: file.write_bytes(b""), "not a whole wage-neuro checkpoint"),
        (lambda file: file.write_text("text"), "not a whole wage-neuro checkpoint"),
        (lambda file: np.savez(file, images=np.zeros(3)), "not a wage-neuro checkpoint, it holds images"),
        (_one_array, "not a whole wage-neuro checkpoint"),
    ],
    ids=["missing", "cut", "empty", "text", "other npz", "npy"],
)
def test_a_checkpoint_that_cannot_be_read(spoil, message, finished):
    file = finished / run_folder.CHECKPOINT
    spoil(file)
    with pytest.raises(CheckpointError, match=message) as error:
        Run.resume(finished)
    assert str(file) in str(error.value)
    del error
    gc.collect()  # a file left open is found here and not in a later test


def test_a_damaged_byte_is_harmless_or_told(finished, assert_same_state):
    file = finished / run_folder.CHECKPOINT
    whole, state = file.read_bytes(), checkpoint.load(file).state
    told = 0
    for place in range(5, len(whole), 31):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0x40]) + whole[place + 1 :])
        try:
            assert_same_state(checkpoint.load(file).state, state)
        except CheckpointError:
            told += 1
    gc.collect()
    assert told > len(whole) / 31 / 2


def _put(*path, value):
    """Change one value deep in the header."""

    def change(header):
        *way, last = path
        for key in way:
            header = header[key]
        header[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_put("format", value=2), "checkpoint format 2; this version reads 1"),
        (lambda header: ["no", "settings"], "damaged checkpoint|not a whole"),
        (_put("network", value="10FC"), "damaged checkpoint"),
        (_put("bits", value="8888"), "damaged checkpoint|other settings"),
        (_put("rules", value={"batch": 0}), r"damaged checkpoint \(batch=0"),
        (_put("extra", value={}), "not of a training run"),
        (_put("extra", value=[]), "not of a training run|damaged"),
        (
            _put("extra", "config", "network", value="8C3-MP2-47FC"),
            r": specs is .*-48FC-.* there, .*-47FC-.* here$",
        ),
        (_put("extra", "config", "network", value="what"), "cannot read 'what'"),
        (
            _put("extra", "config", "rules", "batch", value=16),
            "of other settings: batch is 32 there, 16 here$",
        ),
        (_put("extra", "config", "bits", value="2887"), "of other settings: k_E is 8 there, 7 here$"),
        (_put("extra", "config", "momentum", value=0.9), "momentum.*want"),
        (
            _put("extra", "config", "train_images", value=399),
            "the data of 'digits' has changed since this run began",
        ),
        (_put("extra", "data_sha256", value="0" * 64), "the data of 'digits' has changed"),
        (_put("extra", "progress", value={"mood": "good"}), "progress.mood='good': want epoch, batch"),
        (_put("extra", "progress", "batch", value=BATCHES + 1), "damaged|not of a training run|batch"),
        (_put("extra", "progress", "epoch", value="two"), "damaged|not of a training run|epoch"),
        (_put("step", value=-1), "damaged checkpoint"),
        (_put("step", value="two"), "damaged checkpoint"),
        (_put("error_held", value=[]), "damaged checkpoint"),
    ],
)
def test_a_checkpoint_that_lies(change, message, finished, helpers):
    helpers.tamper(finished / run_folder.CHECKPOINT, change)
    with pytest.raises(WageError, match=message) as error:
        Run.resume(finished)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: {**arrays, "S0": arrays["S0"][:-1]}, "weights of shapes"),
        (lambda arrays: {**arrays, "S1": arrays["S1"].astype(np.float32)}, "weights of layer 1: want int8"),
        (
            lambda arrays: {**arrays, "S1": arrays["S1"] * 0 + 65},
            r"weights of layer 1: want int8 in -64\.\.64",
        ),
        (lambda arrays: {key: value for key, value in arrays.items() if key != "S2"}, "weights of shapes"),
        (lambda arrays: {key: value for key, value in arrays.items() if key != "S1"}, "damaged checkpoint"),
    ],
)
def test_weights_that_the_network_cannot_have(change, message, finished):
    file = finished / run_folder.CHECKPOINT
    with np.load(file) as saved:
        arrays = dict(saved)
    np.savez(file, **change(arrays))
    with pytest.raises(CheckpointError, match=message):
        Run.resume(finished)


def test_data_that_changed_or_went_away(tmp_path, helpers, sparse_images):
    images, labels = sparse_images(100, (8, 8), 3)
    file, folder = tmp_path / "mine.npz", tmp_path / "run"
    folder.mkdir()
    np.savez(file, images=images, labels=labels)
    config = helpers.small(data=str(file), train_images=None, epochs=1)
    helpers.fit(Run.start(config, folder))
    Run.resume(folder)
    images[50, 4, 4] ^= 1
    np.savez(file, images=images, labels=labels)
    with pytest.raises(CheckpointError, match=r"mine\.npz' has changed since this run began"):
        Run.resume(folder)
    file.unlink()
    with pytest.raises(DataError, match=r"mine\.npz: no such file"):
        Run.resume(folder)


def test_a_watched_run_counts_each_layer_and_learns_the_same(tmp_path, assert_same_state):
    config = Config(network="8FC", epochs=2, train_images=96, augment="crop1", rules=Rules(batch=32))
    ends = []
    for watch in (0, 3):
        run = Run.start(config, tmp_path / f"{watch}")
        run_folder.prepare(run.folder, new=True)
        with run.engine("numpy") as engine:
            rows = run.fit(engine, watch=watch)
            ends.append(engine.state)
        assert ("activity" in rows[-1]) == bool(watch)
    assert_same_state(*ends)
    activity = rows[-1]["activity"]
    assert {field: len(values) for field, values in activity.items()} == dict.fromkeys(FIELDS, 2)
    assert 0 < activity["updates"][0] <= 8 * 64
    assert activity["inputs"][1] == activity["spikes"][0]
    assert json.loads((run.folder / "metrics.jsonl").read_text().splitlines()[0])["activity"]


def test_the_picture_of_the_activity(tmp_path):
    fields = {"spikes": [3.0, 0.0], "errors": [1.0, 0.5], "updates": [20.0, 0.0]}
    rows = [{"epoch": 0}, *({"epoch": epoch, "activity": fields} for epoch in (1, 2))]
    run_folder.draw_activity(tmp_path / "activity.png", "a title", rows, ["8FC", "10FC"])
    assert (tmp_path / "activity.png").read_bytes().startswith(b"\x89PNG")


def test_two_runs_of_one_folder_do_not_write_at_once(tmp_path, helpers):
    one, other = (Run.start(helpers.small(helpers.batch_shift), tmp_path) for _ in range(2))
    with one.engine("numpy") as engine, other.engine("numpy") as second:

        def meanwhile(seen) -> None:
            for write in (other.fit, other.save):
                with pytest.raises(SettingError, match=f"in use by process {os.getpid()} on"):
                    write(second)

        one.fit(engine, meanwhile)
    assert Run.resume(tmp_path).progress == one.progress


def test_fit_in_python_gives_the_bits_of_the_command(wage_neuro, assert_same_state):
    words = "train --data digits --network 16FC --batch 32 --epochs 2 --seed 4 --engine numpy --run out"
    assert wage_neuro(*words.split()).code == 0
    data, run = load("digits"), wage_neuro_package.load("out")
    with NumpyEngine(run.network, run.rules, seed=4) as engine:
        rows = wage_neuro_package.fit(
            engine, data.train_images, data.train_labels, epochs=2,
            held_out=(data.test_images, data.test_labels),
        )  # fmt: skip
    assert_same_state(engine.state, run.state)
    metrics = [run.metrics, rows]
    names = ("epoch", "eta", "samples", "train_error", "error", "accuracy")
    kept, again = (
        [[row[name] for name in names] for row in (m if isinstance(m, list) else m.to_dict("records"))]
        for m in metrics
    )
    assert kept == again
