"""The error at the output in tensors, for what cannot wait for the host: see `wage_neuro.loss`."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from wage_neuro import softmax
from wage_neuro.layers import Layer
from wage_neuro.loss import log2_one
from wage_neuro.rules import MARGIN_UNITS, Rules


def output_error(layer: Layer, Z: Tensor, labels: Tensor, rules: Rules, step: Tensor) -> Tensor:
    """(n, classes) int64 error of the whole batch of an update step, of a network that recalls nothing.

    Z : (n, classes) int64; labels : (n,) int64; step : its number, int64
    """
    right, target = labels[:, None], layer.target
    if rules.loss == "softmax":
        D = probabilities(Z, log2_one(layer, rules))
        D = D.scatter_add(1, right, torch.full_like(right, -softmax.ONE))
    else:
        D = Z.scatter_add(1, right, torch.full_like(right, -target))
    if rules.loss == "one-sided":
        D = D.clamp(min=0).scatter(1, right, D.gather(1, right).clamp(max=0))
    if rules.margin:
        others = Z.scatter(1, right, torch.iinfo(Z.dtype).min).amax(1) if Z.shape[1] > 1 else 0
        lead = Z.gather(1, right)[:, 0] - others
        D = D.masked_fill((lead * MARGIN_UNITS >= rules.margin * target)[:, None], 0)
    if rules.new_shift:
        number = step * len(Z) + torch.arange(len(Z), device=Z.device)
        calm = D.sign() * (D.abs() >> rules.new_shift)
        D = torch.where((number % rules.new_period < rules.new_samples)[:, None], calm, D)
    return D


def probabilities(Z: Tensor, log2_one: int) -> Tensor:
    """`wage_neuro.softmax.probabilities`, in int64 tensors."""
    distance = (Z.amax(1, keepdim=True) - Z).clamp_(max=softmax.RANGE << log2_one)
    drop = log2_one - softmax.LOGIT_BITS
    x = (distance + (1 << drop >> 1)) >> drop if drop > 0 else distance << -drop
    x = x.clamp_(max=(softmax.RANGE << softmax.LOGIT_BITS) - 1)
    coarse, fine = _tables(Z.device)
    e = coarse[x >> softmax.FINE_BITS] * fine[x & ((1 << softmax.FINE_BITS) - 1)] >> softmax.EXP_BITS
    total = e.sum(1, keepdim=True)
    return ((e << (softmax.PROBABILITY_BITS + 1)) + total) // (2 * total)


@cache
def _tables(device: torch.device) -> tuple[Tensor, Tensor]:
    coarse, fine = softmax.tables()
    return torch.tensor(coarse, device=device), torch.tensor(fine, device=device)
