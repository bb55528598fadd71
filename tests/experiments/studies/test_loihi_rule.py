"""The comparison with the stock learning engine: both sides see the same images, the record says what ran."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("lava", reason="lava-nc is not installed")

from experiments import datasets
from experiments.studies import loihi_rule


def test_a_small_comparison_chooses_on_validation_and_tests_each_seed(monkeypatch):
    digits = datasets.load("digits")
    data = replace(
        digits,
        train_images=digits.train_images[:60],
        train_labels=digits.train_labels[:60],
        test_images=digits.test_images[:30],
        test_labels=digits.test_labels[:30],
    )
    seen = []
    answers = {("2884", 0, False): 0.25, ("2884", 4, False): 0.75, (0, "paper", "held"): 0.5}

    def noted(learner):
        def learn(setting, seed, train, test):
            seen.append((setting, seed, len(train[1]), len(test[1])))
            accuracy = learner(setting, seed, train, test)
            assert 0 <= accuracy <= 1
            return answers[setting]

        return learn

    monkeypatch.setattr(loihi_rule, "in_the_engine", noted(loihi_rule.in_the_engine))
    monkeypatch.setattr(loihi_rule, "in_ours", noted(loihi_rule.in_ours))
    config = loihi_rule.Config(
        epochs=2,
        validation=20,
        choosing_seeds=(9,),
        seeds=(0, 1),
        engine_settings=(("2884", 0, False), ("2884", 4, False)),
        our_settings=((0, "paper", "held"),),
    )
    record = loihi_rule.run(config, data)
    engine, ours = record["sides"]
    assert engine["chosen"] == "('2884', 4, False)"
    assert engine["test"] == [0.75, 0.75]
    assert record["test_mean"] == {"LearningDense": 0.75, "wage-neuro": 0.5}
    assert seen == [
        (("2884", 0, False), 9, 80, 20),
        (("2884", 4, False), 9, 80, 20),
        (("2884", 4, False), 0, 120, 30),
        (("2884", 4, False), 1, 120, 30),
        ((0, "paper", "held"), 9, 80, 20),
        ((0, "paper", "held"), 0, 120, 30),
        ((0, "paper", "held"), 1, 120, 30),
    ]
    assert record["samples"] == 120
    assert ours["chosen"] == "(0, 'paper', 'held')"
