"""How far logits can be trusted: by hand, against plain Python, and by what must not matter."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import datasets
from experiments.runs.calibration import (
    BINS,
    CHOSEN_ON,
    TEMPERATURES,
    best_temperature,
    calibration_error,
    chosen_on,
    energy,
    log_shares,
    told_apart,
    trust,
)
from wage_neuro.prototypes import NOWHERE


def logits_of(confidence: float, n: int = 1) -> np.ndarray:
    """Logits of two outputs at temperature 2^20 whose first has that share."""
    lead = round(2**20 * math.log(confidence / (1 - confidence)))
    return np.array([[lead, 0]] * n)


def test_calibration_error_by_hand():
    """Two parts: of four samples sure to 0.9 one is right, of six sure to 0.6 all are."""
    logits = np.concatenate([logits_of(0.9, 4), logits_of(0.6, 6)])
    labels = np.array([0, 1, 1, 1] + [0] * 6)
    wanted = 0.4 * (0.9 - 0.25) + 0.6 * (1 - 0.6)
    assert calibration_error(logits, labels, 20) == pytest.approx(wanted, abs=1e-5)
    # in one part what is too sure and what is not enough cancel out
    both = np.concatenate([logits_of(0.80, 4), logits_of(0.85, 4)])  # 12/15 is of the part below
    halves = np.array([0, 0, 0, 1, 0, 0, 0, 1])
    assert BINS == 15
    assert calibration_error(both, halves, 20) == pytest.approx(0.5 * 0.05 + 0.5 * 0.10, abs=1e-5)


def test_a_sure_answer_that_is_right_is_calibrated():
    logits = np.array([[2**30, 0, 0], [0, 2**30, 0]])
    assert calibration_error(logits, np.array([0, 1]), 0) == 0
    assert calibration_error(logits, np.array([1, 0]), 0) == 1


def plain_error(logits, labels, log2_t: int) -> float:
    parts = {}
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        top = max(row)
        share = 1 / sum(math.exp((value - top) / 2**log2_t) for value in row)
        part = parts.setdefault(max(1, math.ceil(BINS * share)), [])
        part.append((share, row.index(top) == label))
    gaps = [abs(sum(right for _, right in part) - sum(share for share, _ in part)) for part in parts.values()]
    return sum(gaps) / len(labels)


@settings(deadline=None)  # or scipy
@given(seed=st.integers(0, 2**32), classes=st.integers(2, 12), log2_t=st.integers(0, 8), n=st.integers(1, 60))
def test_calibration_error_is_that_of_plain_python(seed, classes, log2_t, n):
    rng = np.random.default_rng(seed)
    logits, labels = rng.integers(-999, 999, (n, classes)), rng.integers(0, classes, n)
    found = calibration_error(logits, labels, log2_t)
    assert found == pytest.approx(plain_error(logits, labels, log2_t), abs=1e-9)
    assert 0 <= found <= 1


@given(seed=st.integers(0, 2**32), twice=st.integers(0, 9))
def test_the_scale_of_logits_does_not_matter(seed, twice):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, 50)
    logits = rng.integers(-400, 400, (50, 4))
    logits[np.arange(50), labels] += 150
    log2_t = best_temperature(logits, labels)
    assert best_temperature(logits << twice, labels) == log2_t + twice
    assert calibration_error(logits << twice, labels, log2_t + twice) == pytest.approx(
        calibration_error(logits, labels, log2_t)
    )


@given(seed=st.integers(0, 2**32))
def test_no_other_temperature_makes_the_labels_likelier(seed):
    rng = np.random.default_rng(seed)
    labels, logits = rng.integers(0, 3, 40), rng.integers(-2000, 2000, (40, 3))
    likely = {t: log_shares(logits, t)[np.arange(40), labels].sum() for t in TEMPERATURES}
    assert likely[best_temperature(logits, labels)] == pytest.approx(max(likely.values()))


def test_an_output_that_is_nowhere_has_no_share_at_any_temperature():
    logits = np.array([[5, NOWHERE, 5]])
    for t in (TEMPERATURES[0], TEMPERATURES[-1]):
        assert np.exp(log_shares(logits, t)).tolist() == [[pytest.approx(0.5), 0, pytest.approx(0.5)]]


@settings(deadline=None, max_examples=25)  # the first one imports scikit-learn
@given(seed=st.integers(0, 2**32), known=st.integers(1, 30), unlike=st.integers(1, 30))
def test_telling_apart_counts_pairs(seed, known, unlike):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 9, (known, 3)), rng.integers(-2, 7, (unlike, 3))
    found = told_apart(a, b, 2)
    for name, scores in (
        ("largest logit", [x.max(axis=1) for x in (a, b)]),
        ("energy", [energy(x, 2) for x in (a, b)]),
    ):
        pairs = [(x > y) + (x == y) / 2 for x in scores[0] for y in scores[1]]
        assert found[name] == pytest.approx(np.mean(pairs))
    assert told_apart(b, a, 2)["energy"] == pytest.approx(1 - found["energy"])


def test_energy_by_hand():
    assert energy(np.array([[8, 8], [0, -8]]), 3).tolist() == pytest.approx(
        [1 + math.log(2), math.log(1 + math.exp(-1))]
    )


def test_trust_says_all_in_percent():
    logits = np.concatenate([logits_of(0.9, 4), logits_of(0.6, 6)])
    labels = np.array([0, 1, 1, 1] + [0] * 6)
    assert trust(logits, labels, 20) == {"log2 temperature": 20, "ECE": pytest.approx(50, abs=1e-3)}
    assert trust(logits, labels, 20, logits_of(0.7, 5)) == {
        "log2 temperature": 20,
        "ECE": pytest.approx(50, abs=1e-3),
        "AUROC of the largest logit": 40,
        "AUROC of the energy": 40,
    }


def test_a_temperature_is_chosen_on_what_was_held_out():
    data = datasets.load("digits")
    images, labels, what = chosen_on(data, 100)
    assert np.array_equal(images, data.train_images[-100:])
    assert np.array_equal(labels, data.train_labels[-100:])
    assert what == "100 images held out"
    images, labels, what = chosen_on(data, 0)
    assert np.array_equal(images, data.train_images)
    assert what == f"{len(data.train_labels):,} images of the training set"
    assert len(labels) < CHOSEN_ON


def test_evaluate_says_how_far_logits_can_be_trusted(wage_neuro, tmp_path):
    quick = ("--network", "16FC", "--engine", "numpy")
    assert wage_neuro("train", *quick, "--epochs", 2, "--validation", 300, "--run", "r").code == 0
    plain = wage_neuro("evaluate", "r", "--engine", "numpy")
    asked = wage_neuro("evaluate", "r", "--engine", "numpy", "--calibration")
    assert (asked.code, asked.err) == (0, "")
    assert asked.last == plain.last
    assert "ECE" not in plain.out
    (line,) = [line for line in asked.out.splitlines() if line.startswith("ECE")]
    assert line.endswith("chosen on 300 images held out")
    asked = wage_neuro("evaluate", "r", "--engine", "numpy", "--unlike", "digits")
    assert [line for line in asked.out.splitlines() if line.startswith("AUROC")] == [
        "AUROC of the largest logit 50.00 %",
        "AUROC of the energy 50.00 %",
    ]
    np.savez(
        tmp_path / "other.npz",
        **{f"{part}_images": np.full((4, 5, 5, 1), 255, np.uint8) for part in ("train", "test")},
        **{f"{part}_labels": np.arange(4) for part in ("train", "test")},
    )
    ended = wage_neuro("evaluate", "r", "--engine", "numpy", "--unlike", "other.npz")
    assert (ended.code, ended.out.count("accuracy")) == (1, 0)
    assert ended.err == "wage-neuro: images of shape (5, 5, 1): this network takes (8, 8, 1)\n"
