"""Streams of Avalanche and Continuum, our learner as Avalanche's strategy; `make test-avalanche` has both."""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from experiments import datasets
from experiments.continual import metrics, records
from experiments.continual.bridges import (
    accuracy,
    channels_last,
    grey_levels,
    learn_stream,
    tasks_of,
    tasks_of_avalanche,
    tasks_of_continuum,
)
from experiments.continual.learner import Learner
from experiments.continual.settings import Learning
from experiments.continual.streams import Stream
from experiments.continual.streams import tasks_of as our_tasks
from wage_neuro.errors import DataError, SettingError

needs_avalanche = pytest.mark.skipif(find_spec("avalanche") is None, reason="avalanche")
needs_continuum = pytest.mark.skipif(find_spec("continuum") is None, reason="continuum")
quietly = pytest.mark.filterwarnings("ignore")
SETTINGS = Learning(method="replay", memory=100, network="64FC", eta="4")


class Rows:
    """Items of arrays, as a data set of another library gives them."""

    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.images[index], self.labels[index], 0


def rows_of(data, classes, part="train"):
    labels = getattr(data, f"{part}_labels")
    mine = np.isin(labels, classes)
    return Rows(getattr(data, f"{part}_images")[mine], labels[mine])


def pairs_of_digits():
    data = datasets.load("digits")
    groups = [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)]
    return [[rows_of(data, group, part) for group in groups] for part in ("train", "test")]


def begin(settings=SETTINGS, outputs=10):
    return Learner.start(settings, (8, 8, 1), outputs, "numpy")


# --- without either library --------------------------------------------------------------------------


def test_data_sets_of_items_are_our_stream():
    """Split digits by hand is the stream split-digits, sample by sample."""
    theirs, ours = Stream(tasks_of(*pairs_of_digits()), "class"), Stream(our_tasks("split-digits"), "class")
    assert len(theirs) == len(ours)
    for a, b in zip(theirs.samples(0, len(ours)), ours.samples(0, len(ours)), strict=True):
        assert np.array_equal(a, b)
    for mine, other in zip(theirs.tasks, ours.tasks, strict=True):
        for a, b in zip(mine.test_samples(), other.test_samples(), strict=True):
            assert np.array_equal(a, b)
    assert (theirs.outputs, theirs.tasks[3].outputs) == (10, (6, 7))


def test_outputs_of_each_scenario():
    train, test = pairs_of_digits()
    for scenario, outputs in (("class", (4, 5)), ("domain", (4, 5)), ("task", (4, 5))):
        assert tasks_of(train, test, scenario)[2].outputs == outputs
    again = [train[0], train[0]], [test[0], test[0]]
    assert [task.outputs for task in tasks_of(*again, "domain")] == [(0, 1), (0, 1)]
    assert [task.outputs for task in tasks_of(*again, "task")] == [(0, 1), (2, 3)]


def test_one_test_of_all_tasks():
    train, test = pairs_of_digits()
    data = datasets.load("digits")
    for a, b in zip(
        tasks_of(train, [Rows(data.test_images, data.test_labels)]), tasks_of(train, test), strict=True
    ):
        assert np.array_equal(by_content(a.test_samples()), by_content(b.test_samples()))
    again = tasks_of([train[0], train[0]], [test[0]], "domain")
    assert [len(task.test) for task in again] == [len(test[0])] * 2


def test_learned_streams_have_the_matrix_of_a_learner_by_hand():
    stream = Stream(tasks_of(*pairs_of_digits()), "class")
    with begin() as learner, begin() as other:
        R = learn_stream(learner, stream)
        assert R.shape == (5, 5)
        assert metrics.final_accuracy(R) > 0.3
        other.learn(*stream.samples(0, len(stream)))
        assert [accuracy(other, stream, task) for task in stream.tasks] == R[-1].tolist()


@pytest.mark.parametrize("factor", [1, 255])
def test_grey_levels_of_floats_and_bytes(factor):
    levels = np.arange(256).reshape(4, 8, 8)
    values = levels.astype(np.uint8) if factor == 1 else (levels / 255).astype(np.float32)
    assert np.array_equal(grey_levels(values), levels[..., None])


def test_what_is_no_scenario():
    train, test = pairs_of_digits()
    strange = Rows(test[0].images, test[0].labels + 5)
    for words, error, message in (
        ((train, test, "tasks"), SettingError, r"^scenario 'tasks': want task, domain or class$"),
        (
            (train, test[:-1]),
            SettingError,
            r"^scenario: 5 training and 4 test tasks: want as many, or one test of all$",
        ),
        (([], []), SettingError, r"^scenario: 0 training and 0 test tasks"),
        (
            (train[:1], [strange]),
            DataError,
            r"^scenario: task 0: test label 5: no training image of it has that$",
        ),
        (([Rows([], [])], [test[0]]), DataError, r"^a task without images$"),
        (
            (train[:1], [Rows(np.full((2, 8, 8), 0.3), [0, 1])]),
            DataError,
            r"^images in 0\.3\.\.0\.3: want grey",
        ),
        ((train[:1], [Rows(np.full((2, 8, 8), -1.0), [0, 1])]), DataError, r"^images in -1\.\.-1: want grey"),
        (
            (train[:1], [Rows(np.full((2, 8), 1.0), [0, 1])]),
            DataError,
            r"^images of shape \(8,\): want height",
        ),
    ):
        with pytest.raises(error, match=message):
            tasks_of(*words)


def test_frames():
    rows = [
        {"trained": "all", "tested": "a", "accuracy": 0.5},
        {"trained": "all", "tested": "b", "accuracy": 1.0},
    ]
    found = metrics.frame(np.array([[0.5, 1.0]]), ["a", "b"])
    assert (found if isinstance(found, list) else found.to_dict("records")) == rows
    record = records.read(Path("experiments/results/continual/split-mnist-class-naive.jsonl"))
    found = record.frame
    first = found[0] if isinstance(found, list) else found.to_dict("records")[0]
    assert (first["seed"], first["method"], first["ACC"]) == (0, "naive", record.runs[0]["ACC"])
    assert len(found) == len(record.runs)


# --- Continuum ---------------------------------------------------------------------------------------


@needs_continuum
@quietly
def test_a_continuum_scenario_is_our_stream():
    from continuum import ClassIncremental
    from continuum.datasets import InMemoryDataset

    data = datasets.load("digits")
    parts = [
        ClassIncremental(InMemoryDataset(images[..., 0], labels), increment=2)
        for images, labels in (
            (data.train_images, data.train_labels),
            (data.test_images, data.test_labels),
        )
    ]
    theirs, ours = Stream(tasks_of_continuum(*parts), "class"), Stream(our_tasks("split-digits"), "class")
    for a, b in zip(theirs.samples(0, len(ours)), ours.samples(0, len(ours)), strict=True):
        assert np.array_equal(a, b)


@needs_continuum
@quietly
def test_metrics_of_continuum_are_ours():
    from continuum.metrics import Logger

    stream, logger, place, rows = Stream(tasks_of(*pairs_of_digits()), "class"), Logger(), 0, []
    with begin() as learner:
        for end in stream.ends:
            learner.learn(*stream.samples(place, end - place))
            place = end
            for i, task in enumerate(stream.tasks):
                images, labels = task.test_samples()
                answers = stream.answers(task, learner.predict(images))
                logger.add([answers, labels, np.full(len(labels), i)], subset="test")
            rows.append([accuracy(learner, stream, task) for task in stream.tasks])
            assert np.allclose(logger.accuracy_per_task, rows[-1], rtol=0, atol=1e-12)
            sizes = [len(task.test) for task in stream.tasks]
            assert logger.accuracy == pytest.approx(np.average(rows[-1], weights=sizes))
            logger.end_task()


# --- Avalanche ---------------------------------------------------------------------------------------


def split_digits(n: int = 5):
    """Avalanche's benchmark of digits, two classes an experience, tensors 0..1."""
    import torch
    from avalanche.benchmarks import nc_benchmark
    from avalanche.benchmarks.utils import as_classification_dataset
    from torch.utils.data import TensorDataset

    data, parts = datasets.load("digits"), []
    for images, labels in ((data.train_images, data.train_labels), (data.test_images, data.test_labels)):
        x = torch.tensor(images.transpose(0, 3, 1, 2).astype(np.float32) / 255)
        part = TensorDataset(x, torch.tensor(labels))
        part.targets = labels.tolist()
        parts.append(as_classification_dataset(part))
    return nc_benchmark(
        *parts, n_experiences=n, task_labels=False, fixed_class_order=list(range(10)), shuffle=False
    )


def by_content(samples):
    images, labels = samples
    rows = np.concatenate([labels[:, None], images.reshape(len(images), -1)], axis=1)
    return rows[np.lexsort(rows.T)]


@needs_avalanche
@quietly
def test_an_avalanche_benchmark_is_our_stream():
    """Avalanche lines the images of an experience up by class, so the order of a task is another."""
    theirs, ours = tasks_of_avalanche(split_digits()), our_tasks("split-digits")
    for a, b in zip(theirs, ours, strict=True):
        every = np.arange(len(b.train))
        assert np.array_equal(by_content(a.training_samples(every)), by_content(b.training_samples(every)))
        assert np.array_equal(by_content(a.test_samples()), by_content(b.test_samples()))


def run_strategy(benchmark, learner, most=None, **options):
    """Train and evaluate as Avalanche's users do; the metrics of each evaluation. `most` training images."""
    from avalanche.evaluation.metrics import accuracy_metrics, bwt_metrics, forgetting_metrics
    from avalanche.training.plugins import EvaluationPlugin

    from experiments.continual.avalanche import WageStrategy

    evaluator = EvaluationPlugin(
        accuracy_metrics(minibatch=True, experience=True, stream=True),
        forgetting_metrics(experience=True, stream=True),
        bwt_metrics(stream=True),
        loggers=[],
    )
    strategy = WageStrategy(learner=learner, evaluator=evaluator, **options)
    found = []
    for experience in benchmark.train_stream:
        if most:
            experience.dataset = experience.dataset.subset(list(range(most)))
        strategy.train(experience, shuffle=False)
        found.append(dict(strategy.eval(benchmark.test_stream)))
    return strategy, found


@needs_avalanche
@quietly
def test_the_strategy_gives_the_bits_and_the_metrics_of_the_learner():
    benchmark = split_digits()
    with begin() as learner, begin() as other:
        strategy, found = run_strategy(benchmark, learner, train_mb_size=7)
        tasks = tasks_of_avalanche(benchmark)
        stream, rows = Stream(tasks, "class"), []
        for task in tasks:
            other.learn(*task.training_samples(np.arange(len(task.train))))
            rows.append([accuracy(other, stream, each) for each in tasks])
        for a, b in zip(learner.engine.state.S, other.engine.state.S, strict=True):
            assert np.array_equal(a, b)
        assert learner.seen == other.seen == sum(len(task.train) for task in tasks)
    R = np.array(rows)
    name = "Top1_Acc_Exp/eval_phase/test_stream/Task000/Exp{:03d}"
    theirs = np.array([[each[name.format(i)] for i in range(5)] for each in found])
    assert np.array_equal(theirs, R)
    last = found[-1]
    assert last["StreamBWT/eval_phase/test_stream"] == pytest.approx(metrics.backward_transfer(R))
    assert last["StreamForgetting/eval_phase/test_stream"] == pytest.approx(-metrics.backward_transfer(R))
    sizes = [len(task.test) for task in tasks]
    stream_accuracy = last["Top1_Acc_Stream/eval_phase/test_stream/Task000"]
    assert stream_accuracy == pytest.approx(np.average(R[-1], weights=sizes))
    assert metrics.final_accuracy(R) > 0.3
    assert strategy.clock.train_iterations == sum(-(-len(task.train) // 7) for task in tasks)


@needs_avalanche
@quietly
def test_plugins_of_avalanche_see_the_strategy():
    from avalanche.core import SupervisedPlugin
    from avalanche.training.plugins import ReplayPlugin

    seen = []

    class Spy(SupervisedPlugin):
        def after_update(self, strategy, **kwargs):
            seen.append((len(strategy.mb_y), tuple(strategy.mb_output.shape), bool(strategy.loss >= 0)))

        def after_training_exp(self, strategy, **kwargs):
            seen.append(strategy.experience.current_experience)

    naive = Learning(method="naive", memory=0, network="64FC", eta="4")
    with begin(naive) as learner:
        run_strategy(split_digits(2), learner, plugins=[ReplayPlugin(mem_size=50), Spy()], train_mb_size=10)
        assert [each for each in seen if isinstance(each, int)] == [0, 1]
        steps = [each for each in seen if not isinstance(each, int)]
        assert {step[1][1] for step in steps} == {10}
        assert all(step[2] for step in steps)
        assert max(step[0] for step in steps) == 20  # with as many of Avalanche's own replay
        assert learner.seen == sum(step[0] for step in steps)


@needs_avalanche
@quietly
def test_where_a_task_ends_and_how_eta_changes():
    settings = Learning(method="consolidation", memory=0, consolidation=7, network="32FC", eta="4, 1@50%")
    with begin(settings) as learner:
        from experiments.continual.avalanche import WageStrategy

        with pytest.raises(
            SettingError, match=r"^eta '4, 1@50%': it changes on the way, so want the stream's"
        ):
            WageStrategy(learner=learner)
        learned = []
        learn = learner.learn
        learner.learn = lambda x, y, log2_eta: (learned.append((len(y), log2_eta)), learn(x, y, log2_eta))
        length = len(datasets.load("digits").train_labels)
        run_strategy(split_digits(2), learner, boundaries=True, length=length, train_mb_size=100)
        assert learner.engine.state.importance is not None
        assert {eta for _, eta in learned} == {2, 0}
        assert abs(sum(n for n, eta in learned if eta == 2) - length // 2) < 100
    steps = Learning(method="naive", memory=0, step=4, network="32FC")
    with begin(steps) as learner:
        with pytest.raises(SettingError, match=r"^train_mb_size=10: want a multiple of step=4$"):
            WageStrategy(learner=learner, train_mb_size=10)
        run_strategy(split_digits(2), learner, train_mb_size=8)
        assert learner.seen % 4 == 0
        assert 0 <= length - learner.seen < 8


def test_tensors_have_their_channels_turned():
    torch = pytest.importorskip("torch")
    x = torch.arange(24).reshape(1, 2, 3, 4)
    assert np.array_equal(channels_last(x), np.arange(24).reshape(1, 2, 3, 4).transpose(0, 2, 3, 1))
    assert np.array_equal(channels_last(x[0, 0]), np.arange(12).reshape(3, 4))
    assert np.array_equal(channels_last(np.arange(6).reshape(2, 3)), np.arange(6).reshape(2, 3))


# --- SplitMNIST, their own -----------------------------------------------------------------------------


@pytest.fixture
def mnist_of_torchvision(tmp_path):
    """The folder that Avalanche's SplitMNIST reads, of the files that we read."""
    from experiments.datasets import files

    try:
        paths = files.get("mnist", None, download=False)
    except DataError as error:
        pytest.skip(str(error))
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for path in paths:
        (raw / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    return tmp_path


@pytest.mark.slow
@needs_avalanche
@quietly
def test_split_mnist_of_avalanche(mnist_of_torchvision):
    """Their benchmark, their loop and metrics beside our stream, our loop and metrics: the same samples."""
    from avalanche.benchmarks.classic import SplitMNIST

    options = {
        "train_transform": None,
        "eval_transform": None,
        "dataset_root": mnist_of_torchvision,
    }
    benchmark = SplitMNIST(5, fixed_class_order=list(range(10)), shuffle=False, **options)
    tasks, ours = tasks_of_avalanche(benchmark), our_tasks("split-mnist")
    for a, b in zip(tasks, ours, strict=True):
        assert np.array_equal(by_content(a.test_samples()), by_content(b.test_samples()))
    settings = Learning(method="replay", memory=200, network="32FC", eta="4")
    stream, rows = Stream(ours, "class"), []
    learners = [Learner.start(settings, (28, 28, 1), 10, "numpy") for _ in range(2)]
    _, found = run_strategy(benchmark, learners[0], train_mb_size=100, most=1000)
    for task in tasks:
        learners[1].learn(*task.training_samples(np.arange(1000)))
        rows.append([accuracy(learners[1], stream, each) for each in ours])
    for a, b in zip(learners[0].engine.state.S, learners[1].engine.state.S, strict=True):
        assert np.array_equal(a, b)
    name = "Top1_Acc_Exp/eval_phase/test_stream/Task000/Exp{:03d}"
    assert np.allclose([[each[name.format(i)] for i in range(5)] for each in found], rows, rtol=0, atol=1e-12)
    assert found[-1]["StreamBWT/eval_phase/test_stream"] == pytest.approx(
        metrics.backward_transfer(np.array(rows))
    )
