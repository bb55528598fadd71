"""A run that ends with no update in a layer says so."""

from __future__ import annotations

import json

import numpy as np

from experiments.runs.unchanged import unchanged
from wage_neuro import Control, Network, NumpyEngine, Rules
from wage_neuro.train import initial_state

NETWORK = Network.parse("6FC-5FC-3FC", (7,))


def test_layers_that_moved_or_were_frozen_are_not_named(sparse_images):
    images, labels = sparse_images(40, (7,), 3)
    rules, begin = Rules(batch=4), initial_state(NETWORK)
    control = Control(log2_eta=(None, 3, 3))
    with NumpyEngine(NETWORK, rules, state=begin) as engine:
        engine.train(images, labels, control)
        after = engine.state
    assert [np.array_equal(a, b) for a, b in zip(begin.S, after.S, strict=True)] == [True, False, False]
    assert unchanged(NETWORK, rules, begin, after, control) == []
    assert [line.split(":")[0] for line in unchanged(NETWORK, rules, begin, after)] == ["layer 0 6FC"]
    same = after.having(S=begin.S)
    (line, *others) = unchanged(NETWORK, rules, begin, same)
    assert len(others) == 2
    assert line.startswith("layer 0 6FC: not one weight has changed in 10 updates: no step came to 1, or all")


def test_train_says_so_and_keeps_it_in_its_record(wage_neuro, tmp_path):
    words = ("train", "--network", "8FC", "--data", "digits", "--engine", "numpy", "--epochs", 1, "--shift")
    few = ("--batch", 10, "--train-images", 20)
    assert wage_neuro(*words, "held", *few, "--run", "short").out.count("warning: layer") == 2
    record = json.loads((tmp_path / "short" / "record.json").read_text())
    assert [line.split(":")[0] for line in record["unchanged"]] == ["layer 0 8FC", "layer 1 10FC"]
    assert "warning" not in wage_neuro(*words, "batch", *few, "--run", "long").out
    assert "unchanged" not in json.loads((tmp_path / "long" / "record.json").read_text())


def test_transfer_says_so(wage_neuro, tmp_path):
    words = ("--network", "8FC", "--data", "digits:0-4", "--engine", "numpy", "--epochs", 1, "--run", "r")
    assert wage_neuro("train", "--mode", "onchip", *words).code == 0
    ended = wage_neuro("transfer", "r", "--data", "digits:5-9", "--examples", "1,all", "--engine", "numpy",
                       "--samples", 2, "--passes", 1, "--eta", "1/65536")  # fmt: skip
    assert ended.code == 0, ended.err
    assert "warning: seed 0, 1 of each class, frozen: layer 1 5FC: not one weight has changed" in ended.out
    assert "frozen: layer 0" not in ended.out
