"""The error at the output: sum of squares, the one-sided integer hinge, or cross-entropy after softmax."""

from __future__ import annotations

import numpy as np

from wage_neuro import softmax
from wage_neuro.layer import Layer
from wage_neuro.rules import MARGIN_UNITS, Rules

UNKNOWN = np.iinfo(np.int64).min
"""A former logit that is not known: nothing is drawn to it."""
SPARED = UNKNOWN + 1
"""In its place: no error is sent to this output at all."""


def log2_one(layer: Layer, rules: Rules) -> int:
    """log2 of the Z that softmax takes for a logit of 1.0."""
    return max(0, layer.log2_target - rules.sharpness)


def output_error(
    layer: Layer,
    Z: np.ndarray,
    labels: np.ndarray,
    rules: Rules,
    former: np.ndarray | None = None,
) -> np.ndarray:
    """Error at the output: the derivative of the loss by Z; of the sum of squared errors Z - target, of
    cross-entropy after softmax p - onehot.

    Parameters
    ----------
    Z : (n, classes) int64 products of the last layer
    labels : (n,) whole numbers; the target of the right output is `layer.target`, of the others 0
    former : (n, classes) int64 logits that the samples once had, UNKNOWN where they had none; what is known
        adds Z - former, so that an answer stays what it was; SPARED leaves an output alone

    Returns
    -------
    (n, classes) int64 D, in units of Z, of softmax in units of 2**-15; all zeros for a sample that has its
    margin and no former logits. `quiet_new` has still to meet it.

    Source: former logits as in DER++, Buzzega et al., arXiv:2004.07211.
    """
    rows = np.arange(len(Z))
    if rules.loss == "softmax":
        D = softmax.probabilities(Z, log2_one(layer, rules))
        D[rows, labels] -= softmax.ONE
    else:
        D = Z.copy()
        D[rows, labels] -= layer.target
    if rules.loss == "one-sided":
        right = np.minimum(D[rows, labels], 0)
        np.maximum(D, 0, out=D)
        D[rows, labels] = right
    if rules.margin:
        others = Z.copy()
        others[rows, labels] = np.iinfo(Z.dtype).min
        lead = Z[rows, labels] - others.max(axis=1) if Z.shape[1] > 1 else Z[rows, labels]
        D[lead * MARGIN_UNITS >= rules.margin * layer.target] = 0
    if former is not None:
        np.add(D, Z - former, out=D, where=former > SPARED)
        D[former == SPARED] = 0
    return D


def quiet_new(D: np.ndarray, first: int, rules: Rules) -> np.ndarray:
    """Shift the errors of new samples right by `Rules.new_shift`, in place; the others stay.

    first : number of the first sample among all that were learned; tells the new ones

    >>> quiet_new(np.array([[-5], [-5], [5]]), 1, Rules(batch=2, new_shift=1)).tolist()
    [[-5], [-2], [5]]
    """
    if rules.new_shift:
        new = (first + np.arange(len(D))) % rules.new_period < rules.new_samples
        D[new] = np.sign(D[new]) * (np.abs(D[new]) >> rules.new_shift)
    return D
