"""Features of a frozen network as a data set, and streams of a base and few-shot tasks."""

from __future__ import annotations

import numpy as np
import pytest

from experiments import datasets
from experiments.continual.features import features_data, features_of
from experiments.continual.streams import tasks_of
from experiments.continual.study import Config, open_tasks
from experiments.datasets import Dataset
from wage_neuro import Dense, Flatten, Network, Rules, checkpoint, initial_state
from wage_neuro.checkpoint import Checkpoint
from wage_neuro.errors import NetworkError, SettingError
from wage_neuro.prototypes import PrototypeEngine, Prototypes


def saved_of(network: Network) -> Checkpoint:
    return Checkpoint(network, Rules(), initial_state(network, 3))


@pytest.mark.parametrize("bits", ["2888", "2488"])
@pytest.mark.parametrize("text", ["9FC-3FC", "4C3-MP2-F-7FC-3FC", "3C3-F-3FC"])
def test_a_network_on_features_sees_the_codes(text, bits):
    """What a network of the same k_A encodes is what the layers below made of the images."""
    text = text if "C3" in text else f"F-{text}"
    network = Network.parse(text, (8, 8, 1), bits=bits)
    images = np.random.default_rng(0).integers(0, 256, (300, 8, 8, 1)).astype(np.uint8)
    made = features_of(saved_of(network), images)
    empty = Prototypes.empty(1, made.shape[2], np.int8, 0)
    codes = PrototypeEngine(network, Rules(batch=1), initial_state(network, 3), empty).features(images)
    on_top = Network.parse("F-3FC", made.shape[1:], bits=bits)
    assert np.array_equal(on_top.encode(made).reshape(len(images), -1), codes)
    assert codes.any()


def test_images_of_other_classes_have_features():
    """A network of five classes makes features of ten."""
    digits = datasets.load("digits")
    made = features_data(saved_of(Network.parse("F-16FC-5FC", (8, 8, 1))), digits)
    assert made.train_images.shape == (len(digits.train_labels), 1, 16, 1)
    assert np.array_equal(made.test_labels, digits.test_labels)
    assert (made.classes, made.signed) == (10, False)


def test_what_has_no_features():
    for network, message in (
        (Network((Flatten(), Dense(3)), (8, 8, 1)), r"one layer; want one below it"),
        (Network.parse("F-4FC-3FC", (8, 8, 1), bits="2988"), r"^k_A=9: want activations of 8 bits at most$"),
    ):
        with pytest.raises(NetworkError, match=message):
            features_of(saved_of(network), np.zeros((1, 8, 8, 1), np.uint8))


def test_the_command_writes_a_data_set_and_a_stream_learns_it(wage_neuro, tmp_path):
    checkpoint.save(tmp_path / "net.npz", saved_of(Network.parse("F-24FC-5FC", (8, 8, 1))))
    said = wage_neuro("features", "net.npz", "--data", "digits", "--output", "f.npz")
    assert said.code == 0
    assert "1,437 and 360 images of digits, 24 features each, written to f.npz" in " ".join(said.out.split())
    words = ("--network", "F", "--method", "prototypes", "--memory", "300", "--base", "6", "--tasks", "3")
    done = wage_neuro("continual", "split-f.npz", *words, "--shots", "5", "--run", "r", "--engine", "numpy")
    assert done.code == 0, done.err
    refused = wage_neuro("features", "net.npz", "--output", "no/f.npz")
    assert (refused.code, refused.err.count("\n")) == (1, 1)


# --- a base, and few-shot tasks ----------------------------------------------------------------------


def test_a_base_and_tasks_of_few_shots():
    config = Config(stream="split-digits", base=4, tasks=4, shots=5, seed=3)
    tasks = open_tasks(config)
    assert [task.classes for task in tasks] == [(0, 1, 2, 3), (4, 5), (6, 7), (8, 9)]
    labels = tasks[0].data.train_labels
    assert len(tasks[0].train) == np.isin(labels, range(4)).sum()
    for task in tasks[1:]:
        assert np.bincount(labels[task.train])[list(task.classes)].tolist() == [5, 5]
        assert len(task.test) == np.isin(task.data.test_labels, task.classes).sum()
    assert tasks[2].outputs == (6, 7)


def test_fewer_shots_are_the_first_of_more_and_a_seed_draws_them():
    (task, *_) = tasks_of("split-digits", tasks=5)
    few, more, other = task.few(3, 0), task.few(9, 0), task.few(3, 1)
    assert set(few.train) < set(more.train)
    assert set(few.train) != set(other.train)


def test_without_a_base_every_task_has_few_shots():
    tasks = open_tasks(Config(stream="split-digits", shots=1))
    assert [len(task.train) for task in tasks] == [2] * 5


def test_what_is_no_base_or_shot(tmp_path):
    images, labels = np.full((6, 4, 4, 1), 200, np.uint8), np.array([0, 0, 0, 1, 1, 2])
    small = Dataset("small", images, labels, images, labels, 3, False)
    assert small.classes == 3
    for words, message in (
        ({"base": 10}, r"^base=10: digits has 10 classes, want some for later$"),
        ({"base": 4, "tasks": 1}, r"^tasks=1: digits has 10 classes to share among them$"),
        ({"base": 4, "tasks": 8}, r"^tasks=8: digits has 10 classes"),
        ({"shots": 0}, r"^shots=0: want 1\.\.\d+, a class of task 0 1 has no more$"),
        ({"shots": 9999}, r"^shots=9999: want 1\.\.\d+, a class of task 0 1 has no more$"),
    ):
        with pytest.raises(SettingError, match=message):
            open_tasks(Config(stream="split-digits", **words))
    with pytest.raises(
        SettingError, match=r"^base=2 with 'permuted-digits': want a stream that is split by class$"
    ):
        open_tasks(Config(stream="permuted-digits", base=2))
