"""How far logits can be trusted: whether confidence is accuracy, and what a network makes of the unknown.

Nothing here learns. Logits are whole numbers of any scale; for a softmax they are divided by a power of two,
the temperature, that is chosen on images other than those that are measured.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from experiments.datasets import Dataset

BINS = 15
CHOSEN_ON = 5000
"""Images on which a temperature is chosen, at most."""
TEMPERATURES = range(-8, 41)
"""log2 of those that are tried; what is `prototypes.NOWHERE` has no share at any."""
SHARES = ("ECE", "AUROC of the largest logit", "AUROC of the energy")
"""What `trust` says in %."""


def log_shares(logits: np.ndarray, log2_t: int) -> np.ndarray:
    """(n, classes) logarithm of the softmax of logits / 2**log2_t.

    >>> np.exp(log_shares(np.array([[256, 256, -99999]]), 3)).round(3).tolist()
    [[0.5, 0.5, 0.0]]
    """
    from scipy.special import log_softmax

    found: np.ndarray = log_softmax(np.ldexp(logits.astype(np.float64), -log2_t), axis=1)
    return found


def best_temperature(logits: np.ndarray, labels: np.ndarray) -> int:
    """log2 of the power of two at which the labels are likeliest, the lowest of equals.

    Source: temperature scaling, Guo et al., arXiv:1706.04599.

    >>> best_temperature(np.array([[64, 0], [64, 0], [64, 0], [64, 0]]), np.array([0, 0, 0, 1]))
    6
    """
    rows = np.arange(len(labels))
    return max(TEMPERATURES, key=lambda t: float(log_shares(logits, t)[rows, labels].mean()))


def calibration_error(logits: np.ndarray, labels: np.ndarray, log2_t: int) -> float:
    """Expected calibration error: by how much confidence misses accuracy, mean over BINS equal parts of 0..1.

    Each part counts by its samples; confidence is the softmax of the answer, and where two parts meet it is
    of the lower one.

    Source: Naeini et al., AAAI 2015; Guo et al., arXiv:1706.04599.

    >>> round(calibration_error(np.array([[9, 0], [9, 0], [9, 0], [9, 0]]), np.array([0, 0, 0, 1]), -8), 3)
    0.25
    """
    confidence = np.exp(log_shares(logits, log2_t).max(axis=1))
    gap = confidence - (logits.argmax(axis=1) == labels)
    place = np.clip(np.ceil(BINS * confidence).astype(int) - 1, 0, BINS - 1)
    return float(np.abs(np.bincount(place, gap, BINS)).sum() / len(labels))


def energy(logits: np.ndarray, log2_t: int) -> np.ndarray:
    """(n,) logarithm of the sum of exp(logits / 2**log2_t): large for what is known.

    Source: Liu et al., arXiv:2010.03759, with the other sign.
    """
    from scipy.special import logsumexp

    found: np.ndarray = logsumexp(np.ldexp(logits.astype(np.float64), -log2_t), axis=1)
    return found


def told_apart(known: np.ndarray, unlike: np.ndarray, log2_t: int) -> dict[str, float]:
    """AUROC of the largest logit, and of the energy: how often one of `known` has more than one of `unlike`.

    0.5 is chance. Source: Hendrycks and Gimpel, arXiv:1610.02136; logits: Hendrycks et al., arXiv:1911.11132.

    >>> told_apart(np.array([[5, 0], [9, 1]]), np.array([[4, 4], [6, 0]]), 0)["largest logit"]
    0.75
    """
    from sklearn.metrics import roc_auc_score

    is_known = np.repeat([1, 0], [len(known), len(unlike)])
    both = np.concatenate([known, unlike])
    scores = {"largest logit": both.max(axis=1), "energy": energy(both, log2_t)}
    return {name: float(roc_auc_score(is_known, score)) for name, score in scores.items()}


def chosen_on(data: Dataset, held_out: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Images that a temperature is chosen on, their labels, and what they are.

    held_out : validation images that were kept from training; if there are none, training images are taken
    """
    if held_out:
        part = data.split(held_out)
        images, labels, what = part.test_images, part.test_labels, "held out"
    else:
        images, labels, what = data.train_images, data.train_labels, "of the training set"
    some = np.arange(n := min(len(labels), CHOSEN_ON)) * len(labels) // n
    return np.asarray(images[some]), labels[some], f"{n:,} images {what}"


def trust(
    logits: np.ndarray, labels: np.ndarray, log2_t: int, unlike: np.ndarray | None = None
) -> dict[str, float]:
    """What is said of logits: log2 of the temperature, ECE and AUROCs, %.

    unlike : logits of images that are unlike all that it knows, if any
    """
    apart: Mapping[str, float] = {} if unlike is None else told_apart(logits, unlike, log2_t)
    return {
        "log2 temperature": log2_t,
        "ECE": round(100 * calibration_error(logits, labels, log2_t), 3),
        **{f"AUROC of the {name}": round(100 * share, 3) for name, share in apart.items()},
    }
