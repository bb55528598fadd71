"""What tables and pictures call a network and the way it learns."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any


def short_name(network: str, prototypes: int = 0) -> str:
    """A network without its flattening, and with what answers in the last layer's place, if anything does.

    >>> short_name("8C3-F-10FC"), short_name("F-10FC", 2000)
    ('8C3-10FC', '2,000 prototypes')
    """
    if prototypes:
        network = f"{network.rpartition('-')[0]}-{prototypes:,} prototypes"
    return network.replace("-F-", "-").removeprefix("F-")


def learning(rules: dict[str, Any]) -> str:
    """How the weights learned, in a few words.

    >>> learning({"batch": 1, "update": "ternary", "loss": "one-sided", "margin": 3})
    'one sample at a time, ternary updates, one-sided error, margin 3/8'
    """
    words = ["one sample at a time" if rules["batch"] == 1 else f"batch {rules['batch']}"]
    if rules.get("pipelined"):
        words = ["one sample a time step, pipelined"]
    words += [f"{rules['update']} updates"]
    feedback = rules.get("feedback", "transposed")
    words += [f"{feedback} feedback"] if feedback != "transposed" else []
    words += {"one-sided": ["one-sided error"], "softmax": ["softmax"]}.get(rules.get("loss", ""), [])
    words += [f"sharpness {rules['sharpness']}"] if rules.get("sharpness") else []
    words += (
        [f"momentum of {2 ** rules['momentum'] - 1}/{2 ** rules['momentum']}"]
        if rules.get("momentum")
        else []
    )
    words += [f"margin {rules['margin']}/8"] if rules.get("margin") else []
    words += [f"gamma {rules['gamma']}"] if rules.get("gamma", 1) != 1 else []
    return ", ".join(words)


def apart(words: Sequence[Sequence[str]]) -> tuple[list[str], list[str]]:
    """What all say, and what each says alone, for a legend that prints only what differs.

    >>> apart([["512FC", "batch 1"], ["512FC", "batch 1", "flip"], ["8C3", "batch 1"]])
    (['batch 1'], ['512FC', '512FC, flip', '8C3'])
    """
    common = [word for word in words[0] if all(word in each for each in words)] if len(words) > 1 else []
    return common, [", ".join(word for word in each if word not in common) for each in words]


def table(heads: str, rows: Iterable[Iterable[object]], *below: str) -> str:
    """A table in Markdown: its heads, ` | ` between them, a row a line, then paragraphs.

    >>> print(table("a | b", [(1, "x")], "So it is."))
    | a | b |
    |---|---|
    | 1 | x |
    <BLANKLINE>
    So it is.
    """
    lines = [f"| {heads} |", "|" + "---|" * (heads.count(" | ") + 1)]
    lines += [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n\n".join(["\n".join(lines), *below])


def mean_and_spread(values: Iterable[float], digits: int = 2, unit: str = "") -> str:
    """Mean, with the standard deviation over the seeds where there are several; nothing for none.

    >>> mean_and_spread([98], unit=" %"), mean_and_spread([97, 98, 99], digits=1), mean_and_spread([])
    ('98.00 %', '98.0 ± 1.0', '')
    """
    found = list(values)
    if not found:
        return ""
    mean = f"{statistics.mean(found):.{digits}f}{unit}"
    return f"{mean} ± {statistics.stdev(found):.{digits}f}" if len(found) > 1 else mean
