"""Rules: how the weights learn, beside eta."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from fractions import Fraction

from wage_neuro.errors import SettingError
from wage_neuro.eta import short_fraction
from wage_neuro.random_bits import GENERATORS
from wage_neuro.settings import RULE, check_settings, setting

MARGIN_UNITS = 8  # a margin counts eighths of the target
NEW_SHIFT_MAX = 7
RECALLED_MAX = 7  # samples for each new one
SHIFT_MAX = 16  # bits of a step's probability
IMPORTANCE_MAX = 15
MOMENTUM_MAX = 7
SHARPNESS_MAX = 7
GAMMAS = tuple(1 << n for n in range(8))

UPDATES = ("wide", "ternary", "coincidence")
LOSSES = ("sse", "one-sided", "softmax")

LINEAR: tuple[object, ...] = ("sse", "one-sided")
"""Losses whose error has the units of the logits."""
NEUTRAL: dict[str, tuple[object, ...]] = {
    "loss": LINEAR,
    "gamma": (1,),
    "new_shift": (0,),
    "recalled": (1,),
    "metaplasticity": (0,),
    "consolidation": (0,),
    "sharpness": (0,),
    "momentum": (0,),
}
"""What is left when none of the later additions to the rules is used."""


def margin_of(text: str) -> int:
    """Eighths of the target, from a share such as 3/8, 0.5 or 0.

    >>> margin_of("3/8"), margin_of("0.5"), margin_of("0")
    (3, 4, 0)
    """
    share = short_fraction(text)
    eighths = Fraction(-1) if share is None else share * MARGIN_UNITS
    if eighths.denominator != 1 or not 0 <= eighths <= MARGIN_UNITS:
        shown = text if text.isprintable() else repr(text)  # one line
        raise SettingError(f"margin={shown}: want a share of the target in eighths, such as 3/8 (0 .. 1)")
    return int(eighths)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How the weights learn, beside eta.

    Parameters
    ----------
    batch : int
        Samples that share one update.
    shift : 'batch' or 'held'
        Where Shift takes its maximum: over the batch (the paper), or from a peak-hold exponent that each
        layer keeps (a chip: no sample waits for a global maximum).
    hold : int
        With 'held': samples that must stay below the held exponent before it steps down by one.
    update : 'wide', 'ternary' or 'coincidence'
        Updates as the paper's; limited to -1, 0, 1 steps; or a step where a spike of the input, drawn with
        probability abs(A) / 2**(k_A-1), meets a signed error spike, drawn with eta * abs(E) / 2**(k_E-1) (one
        sample at a time). Its expectation is the gradient, and nothing is multiplied at the synapse.
    stored_range : 'authors' or 'paper'
        Stored weights end at the largest visible weight, or use the whole k_G bits.
    loss : 'sse', 'one-sided' or 'softmax'
        Sum of squared errors (the paper), or an integer squared hinge: the right output is driven only while
        it is below its target, the others only while they are above 0. Or cross-entropy after softmax (the
        paper's ImageNet nets), see `wage_neuro.softmax`.
    margin : int
        In eighths of the target: a sample whose right output leads all others by as much is not learned.
        0 learns every sample.
    pipelined : bool
        Learn each sample by itself when its error arrives, while later ones are on their way: a chip's flow,
        one sample a time step. The batch is then the number of samples that enter before the network drains.
        Without it, batch = 1 learns one sample at a time strictly: each leaves before the next one enters.
    feedback : 'transposed', 'random' or 'direct'
        How the error reaches the layers below, see `wage_neuro.feedback`.
    new_shift : int
        For replay: bits by which the output error of new samples is shifted right, so that what is new now
        does not crowd out what is kept.
    recalled : int
        Samples that are recalled behind each new one, where new_shift tells them apart: new is the first of
        1 + recalled samples, or the first such part of each update's samples.
    metaplasticity : int
        Bits by which a step that would bring a stored weight of half the range, 2**(k_G-2), or more back
        towards 0 is made less likely; in proportion fewer for a smaller weight. So what was learned well is
        forgotten slowly, but always forgotten in the end. 0 treats all weights alike.
        Source: metaplastic binary networks, Laborieux et al., Nature Communications 12, 2549 (2021).
    consolidation : int
        Largest importance of a synapse: bits by which its steps are made less likely. The steps of each
        synapse are counted, and `layers.consolidate` makes importance of them where a task ends.
        0 keeps no importance.
    gamma : 1, 2, 4 .. 128
        Q_E divides an error by Shift / gamma: those above the gamma-th part of the largest saturate.
        Not at the output of 'softmax': p - onehot sums to 0 over the classes, and cut off it would not;
        softmax does not see what all logits share, so nothing would bring them back.
    sharpness : int
        With 'softmax': logits count 2**sharpness times. A quantized last layer reaches logits of a few tenths
        only, of which softmax would make nearly the same probability for every class.
    momentum : int
        Bits by which the momentum of the weights decays at each update, M <- M - M / 2**momentum + G, see
        `wage_neuro.update.momentum_after`; weights then move by M. 0 keeps none. Batches only: it is 16 bits
        more a synapse, and every synapse is visited at every update.
        Source: integer momentum, WAGEUBN, arXiv:1909.02384.
    generator : 'philox4x64' or 'philox4x32'
        Of the random bits of updates and of learning spikes, see `wage_neuro.random_bits`. Records and
        checkpoints that do not name theirs are of the first.
    """

    batch: int = setting(128, "Samples that share one update.", RULE, least=1)
    shift: str = setting(
        "batch",
        "Shift takes its maximum over the `batch`, or is `held` by each layer.",
        RULE,
        choices=("batch", "held"),
    )
    hold: int = setting(5000, "held: samples below an exponent before it steps down.", RULE, least=1)
    update: str = setting(
        "wide",
        "`wide` updates as the paper's, `ternary` steps of -1, 0, 1, or `coincidence` of two spikes.",
        RULE,
        choices=UPDATES,
    )
    stored_range: str = setting(
        "authors",
        "Range of stored weights: as the `authors`' code, or as the `paper`.",
        RULE,
        choices=("authors", "paper"),
    )
    loss: str = setting(
        "sse",
        "`sse`, the paper's; `one-sided`: outputs past their target are left alone; or `softmax`, the paper's"
        " cross-entropy for ImageNet.",
        RULE,
        choices=LOSSES,
    )
    margin: int = setting(
        0,
        "Skip samples whose right output leads by this share of the target: `3/8`; 0 skips none.",
        RULE,
        least=0,
        most=MARGIN_UNITS,
        unit="eighths of the target",
        read=margin_of,
        write=lambda eighths: f"{eighths}/{MARGIN_UNITS}" if eighths else "0",
    )
    pipelined: bool = setting(
        False,
        "One sample a time step, several in flight; the batch is how many enter before it drains.",
        RULE,
        choices=(False, True),
        flag="--pipelined",
    )
    feedback: str = setting(
        "transposed",
        "The error goes down through `transposed` weights (the paper), fixed `random` ones, or `direct` from"
        " the last layer to each.",
        RULE,
        choices=("transposed", "random", "direct"),
    )
    new_shift: int = setting(
        0,
        "Bits by which errors of new samples are shifted right beside recalled ones.",
        RULE,
        least=0,
        most=NEW_SHIFT_MAX,
        unit="bits",
        option=False,
    )
    recalled: int = setting(
        1,
        "Recalled samples behind each new one.",
        RULE,
        least=1,
        most=RECALLED_MAX,
        option=False,
    )
    metaplasticity: int = setting(
        0,
        "Bits by which a large stored weight is less likely to step back towards 0.",
        RULE,
        least=0,
        most=SHIFT_MAX,
        unit="bits",
        option=False,
    )
    consolidation: int = setting(
        0,
        "Largest importance of a synapse, the bits by which it is less likely to step.",
        RULE,
        least=0,
        most=IMPORTANCE_MAX,
        unit="bits",
        option=False,
    )
    gamma: int = setting(
        1,
        "Errors above the gamma-th part of the largest saturate, but those at the output of `softmax`:"
        " 1, 2, 4 .. 128.",
        RULE,
        choices=GAMMAS,
    )
    sharpness: int = setting(
        0,
        "softmax: logits count 2 to the power of this times.",
        RULE,
        least=0,
        most=SHARPNESS_MAX,
        unit="bits",
    )
    momentum: int = setting(
        0,
        "Weights move by their momentum, which loses a 2 to the power of this share at each update: 3 is a"
        " momentum of 7/8; 0 has none.",
        RULE,
        least=0,
        most=MOMENTUM_MAX,
        unit="bits",
    )
    generator: str = setting(
        "philox4x64",
        "Random bits of updates: `philox4x64`, or `philox4x32`, of fewer multipliers in hardware.",
        RULE,
        choices=tuple(GENERATORS),
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if self.update == "coincidence" and self.samples_an_update != 1:
            raise SettingError(
                f"batch={self.batch} with update='coincidence': spikes meet one sample at a time,"
                " so batch=1 or pipelined"
            )
        if self.pipelined and self.shift != "held":
            raise SettingError(
                f"shift={self.shift!r} with pipelined: want 'held', no sample waits for others"
            )
        if self.sharpness and self.loss != "softmax":
            raise SettingError(f"sharpness={self.sharpness} with loss={self.loss!r}: want loss='softmax'")
        if self.momentum and self.samples_an_update == 1:
            one = "pipelined" if self.pipelined else f"batch={self.batch}"
            raise SettingError(
                f"momentum={self.momentum} with {one}: every synapse would move at every sample;"
                " want batches of 2 or more"
            )
        if self.new_shift and self.samples_an_update > 1 and self.samples_an_update % (1 + self.recalled):
            raise SettingError(
                f"batch={self.batch} with new_shift={self.new_shift}: want a multiple of {1 + self.recalled}"
            )

    def require(self, who: str, **known: tuple[object, ...]) -> None:
        """Raise SettingError unless each named setting is one that `who` knows.

        >>> Rules(gamma=2).require("the structural model", gamma=(1,))
        Traceback (most recent call last):
        wage_neuro.errors.SettingError: gamma=2: the structural model has 1 only
        """
        for name, values in known.items():
            value = getattr(self, name)
            if value not in values:
                raise SettingError(f"{name}={value!r}: {who} has {' or '.join(map(repr, values))} only")

    def log2_gamma(self, is_last: bool) -> int:
        """Powers of two by which the upper boundary of a layer's errors is lowered.

        >>> Rules(gamma=4).log2_gamma(is_last=True), Rules(gamma=4, loss="softmax").log2_gamma(is_last=True)
        (2, 0)
        """
        whole = is_last and self.loss == "softmax"
        return 0 if whole else self.gamma.bit_length() - 1

    @property
    def samples_an_update(self) -> int:
        """Samples whose gradients are summed before the weights change."""
        return 1 if self.pipelined else self.batch

    @property
    def new_samples(self) -> int:
        """New samples that are followed by `recalled` times as many, where new_shift tells them apart."""
        return max(1, self.samples_an_update // (1 + self.recalled))

    @property
    def new_period(self) -> int:
        """New samples and those that are recalled behind them."""
        return self.new_samples * (1 + self.recalled)


VALUES: dict[str, Iterable[object]] = {
    each.name: rule.get("choices") or range(rule["least"], rule["most"] + 1)
    for each in fields(Rules)
    if (rule := each.metadata).keys() & {"choices", "most"}
}
"""All values of every rule but `batch` and `hold`, which are any whole numbers; `Rules` refuses others."""
