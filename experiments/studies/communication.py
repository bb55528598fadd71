"""What distributed training would send, and what weights take: measured over a training run.

The update dS of a step, as it changes the stored weights, is coded and decoded again; beside it stand its
bits at a fixed length, the entropy of its values, and the float32 gradient that other training sends. The
updates are those of one machine that has the whole batch: what it sends to every copy of the network.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from experiments.datasets.augment import Augment
from experiments.engines import make_engine
from experiments.records.figure import logarithmic, picture, whole_numbers
from experiments.records.style import OTHERS, OURS, series
from experiments.runs import run_folder
from experiments.runs.training import Config, build_network, kept_of, open_data, predict_all
from wage_neuro.engine import Engine
from wage_neuro.errors import SettingError
from wage_neuro.eta import EtaSchedule
from wage_neuro.kinds import Kind
from wage_neuro.network import Network
from wage_neuro.random_bits import permutation
from wage_neuro.rules import Rules
from wage_neuro.support import Support
from wage_neuro.train import initial_state

TAKES = Support(
    who="the measure of communication",
    kinds=frozenset(Kind) - {Kind.UNQUANTIZED, Kind.AVERAGE_POOL, Kind.NORMALISED},
)
FLOAT_BYTES = 4
_LONGEST = 255  # a gap byte: so many zeros, and the gap goes on


@dataclass(frozen=True)
class Sent:
    """Bytes of one step's update, all layers.

    Attributes
    ----------
    step : int
        Updates done before it.
    changed : float
        Share of the weights that it changes.
    largest : int
        Largest change of a weight, in steps.
    fixed : float
        Every change in as many bits as tell the possible ones apart: 2 for ternary updates.
    coded : int
        As `encode` writes it.
    entropy : float
        Least for a coder that knows how often each change occurs in a layer, and nothing else.
    """

    step: int
    changed: float
    largest: int
    fixed: float
    coded: int
    entropy: float


# --- the coder ---------------------------------------------------------------------------------------


def encode(dS: np.ndarray) -> tuple[bytes, bytes, bytes]:
    """Code an update sparsely: zeros before each change, its sign, its size.

    Zeros are counted in bytes, under a Huffman code (zlib's); signs take a bit each; sizes are compressed by
    zlib, which leaves next to nothing of a ternary update's.

    Parameters
    ----------
    dS : (n,) int32

    >>> dS = np.array([0, 0, 1, 0, -1, 0], np.int32)
    >>> decode(encode(dS), 6).tolist()
    [0, 0, 1, 0, -1, 0]
    """
    places = np.flatnonzero(dS)
    gaps = np.diff(places, prepend=-1) - 1
    lengths = gaps // _LONGEST + 1
    zeros = np.full(lengths.sum(), _LONGEST, np.uint8)
    zeros[np.cumsum(lengths) - 1] = gaps % _LONGEST
    changes = dS[places]
    huffman = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_HUFFMAN_ONLY)
    sizes = (np.abs(changes) - 1).astype("<u4")
    return (
        huffman.compress(zeros.tobytes()) + huffman.flush(),
        np.packbits(changes < 0).tobytes(),
        zlib.compress(sizes.tobytes(), 9),
    )


def decode(coded: tuple[bytes, bytes, bytes], n: int) -> np.ndarray:
    """Read an update of n weights that `encode` wrote."""
    zeros = np.frombuffer(zlib.decompress(coded[0]), np.uint8)
    sizes = np.frombuffer(zlib.decompress(coded[2]), "<u4").astype(np.int32) + 1
    negative = np.unpackbits(np.frombuffer(coded[1], np.uint8), count=len(sizes)).astype(bool)
    passed = np.cumsum(zeros, dtype=np.int64)[zeros < _LONGEST]
    dS: np.ndarray = np.zeros(n, np.int32)
    dS[passed + np.arange(len(sizes))] = np.where(negative, -sizes, sizes)
    return dS


def entropy_bytes(dS: np.ndarray) -> float:
    """Order-0 entropy of an update's values, in bytes for all of it.

    >>> entropy_bytes(np.array([0, 0, 1, -1] * 8))
    6.0
    """
    _, counts = np.unique(dS, return_counts=True)
    return float((counts * np.log2(dS.size / counts)).sum() / 8)


def fixed_bits(network: Network, rules: Rules) -> int:
    """Bits that tell every possible change of a weight apart.

    >>> [fixed_bits(Network.parse("2FC", (3,)), Rules(update=update)) for update in ("ternary", "wide")]
    [2, 9]
    """
    largest = 1 if rules.update != "wide" else 2 * network.bits.stored_max(rules.stored_range)
    return (2 * largest).bit_length()


def sent(step: int, updates: list[np.ndarray], bits: int) -> Sent:
    """Measure one step's update, of each layer; what was coded is decoded and compared."""
    coded = [encode(dS) for dS in updates]
    for dS, text in zip(updates, coded, strict=True):
        assert np.array_equal(decode(text, dS.size), dS)
    n = sum(dS.size for dS in updates)
    return Sent(
        step,
        sum(np.count_nonzero(dS) for dS in updates) / n,
        max(int(np.abs(dS).max()) for dS in updates),
        n * bits / 8,
        sum(len(part) for text in coded for part in text),
        sum(entropy_bytes(dS) for dS in updates),
    )


# --- over a run --------------------------------------------------------------------------------------


def config_of(run: Path) -> Config:
    """Settings of the run in a folder."""
    return kept_of(run, run_folder.load(run)).config


def measure(
    config: Config,
    every: int,
    engine_name: str = "numpy",
    data_dir: Path | None = None,
    report: Callable[[int, int], None] = lambda step, steps: None,
) -> dict[str, Any]:
    """Train as `config` says, and measure the update of every `every`-th step; the record.

    Raises
    ------
    SettingError
        If `every` is not a whole number of steps, or the run is pipelined: its samples overlap.
    """
    if every < 1:
        raise SettingError(f"every={every}: want 1 or more steps")
    if config.rules.pipelined:
        raise SettingError("a pipelined run: its updates are one sample each, and overlap; give another run")
    data = open_data(config, data_dir)
    network = build_network(config, data)
    TAKES.check(network)
    bits, rows = fixed_bits(network, config.rules), []
    eta, augment, batch = EtaSchedule.parse(config.eta), Augment.parse(config.augment), config.rules.batch
    steps = len(data.train_labels) // batch
    with make_engine(engine_name, network, config.rules, initial_state(network, config.seed)) as engine:

        def train(order: np.ndarray, epoch: int, first: int, last: int) -> None:
            places = slice(first * batch, last * batch)
            images = data.train_images[order[places]]
            images = augment.apply(images, config.seed, epoch, places)
            engine.train(images, data.train_labels[order[places]], eta.log2_at(epoch))
            report(epoch * steps + last, config.epochs * steps)

        for epoch in range(config.epochs):
            order, at = permutation(config.seed, epoch, len(data.train_labels)), 0
            for place in range(-epoch * steps % every, steps, every):
                if place > at:
                    train(order, epoch, at, place)
                before = _stored(engine)
                train(order, epoch, place, place + 1)
                updates = [a - b for a, b in zip(before, _stored(engine), strict=True)]
                rows.append(sent(epoch * steps + place, updates, bits))
                at = place + 1
            if at < steps:
                train(order, epoch, at, steps)
        error = float((predict_all(engine, data.test_images).argmax(axis=1) != data.test_labels).mean())
    return {
        "config": config.to_json(),
        "engine": engine_name,
        "network": str(network),
        "weights": network.n_weights,
        "data_sha256": data.checksum,
        "every": every,
        "fixed_bits": bits,
        "accuracy": 1 - error,
        "bytes_a_step": {
            "float32 gradient": FLOAT_BYTES * network.n_weights,
            **{
                name: round(mean(getattr(row, name) for row in rows))
                for name in ("fixed", "coded", "entropy")
            },
        },
        "memory_bytes": memory(network),
        "steps": [asdict(row) for row in rows],
        "versions": run_folder.versions(),
    }


def _stored(engine: Engine) -> list[np.ndarray]:
    return [S.astype(np.int32).reshape(-1) for S in engine.state.S]


def memory(network: Network) -> dict[str, int]:
    """Bytes of all weights: in float32; stored, as training needs them; visible, as inference does.

    The visible weights follow from the stored ones, so training keeps no second copy.

    >>> memory(Network.parse("8FC", (8,)))
    {'float32': 256, 'training': 64, 'inference': 16}
    """
    n, bits = network.n_weights, network.bits
    return {"float32": FLOAT_BYTES * n, "training": -(-n * bits.k_G // 8), "inference": -(-n * bits.k_W // 8)}


# --- what is shown -----------------------------------------------------------------------------------


def summary(record: dict[str, Any]) -> list[str]:
    """Lines that say what was measured."""
    a_step, memories = record["bytes_a_step"], record["memory_bytes"]
    float_bytes = a_step["float32 gradient"]
    changed = mean(step["changed"] for step in record["steps"])
    names = {
        "float32 gradient": "float32 gradient",
        "fixed": f"update, {record['fixed_bits']} bits a weight",
        "coded": "update, coded",
        "entropy": "update, entropy of its values",
    }
    rows = [(names[key], a_step[key], "bytes a step", float_bytes) for key in names]
    rows += [(f"weights, {key}", memories[key], "bytes", memories["float32"]) for key in memories]
    return [
        f"{record['network']} on {record['config']['data']}, {record['weights']:,} weights,"
        f" {record['config']['rules']['update']} updates: {100 * changed:.2f} % of the weights change a step",
        *(f"{name:<30}{n:>14,} {unit:<13}{whole / max(1, n):>8.1f} x less" for name, n, unit, whole in rows),
    ]


def draw(path: Path, record: dict[str, Any]) -> None:
    """Draw bytes a step over the run, and the memory of the weights."""
    steps, rules = record["steps"], record["config"]["rules"]
    with picture(path, 10, 4.2) as figure:
        figure.suptitle(
            f"{record['network']} on {Path(record['config']['data']).name}, {record['config']['bits']},"
            f" batch {rules['batch']}, {rules['update']} updates"
        )
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        _draw_bytes(left, record, steps)
        _draw_memory(right, record["memory_bytes"])


def _draw_bytes(axes: Any, record: dict[str, Any], steps: list[dict[str, Any]]) -> None:
    x, a_step = [step["step"] for step in steps], record["bytes_a_step"]
    full = a_step["float32 gradient"]
    axes.axhline(full, color=OTHERS, linestyle=(0, (8, 3)), label=f"float32 gradient: {full:,}")
    drawn = [full]
    for i, (key, label) in enumerate(
        (
            ("fixed", f"update, {record['fixed_bits']} bits a weight"),
            ("coded", "update, coded"),
            ("entropy", "update, entropy of its values"),
        )
    ):
        values, look = [step[key] for step in steps], series(i)
        every = max(1, len(x) // 12)
        axes.plot(
            x, values, color=look.colour, linestyle=look.dash, marker=look.marker, markevery=every,
            label=f"{label}: mean {a_step[key]:,}",
        )  # fmt: skip
        drawn += values
    axes.set(xlabel="update step", title="bytes a step")
    whole_numbers(axes.xaxis)
    logarithmic(axes.yaxis, [value for value in drawn if value > 0])
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)


def _draw_memory(axes: Any, memories: dict[str, int]) -> None:
    kib = [value / 1024 for value in memories.values()]
    bars = axes.bar(list(memories), kib, color=[OTHERS, OURS, OURS])
    less = ["", *(f"\n{kib[0] / value:.0f} x less" for value in kib[1:])]
    axes.bar_label(bars, [f"{v:,.0f} KiB{text}" for v, text in zip(kib, less, strict=True)], fontsize=8)
    axes.set(title="memory of the weights", ylim=(0, 1.2 * kib[0]))
    axes.set_yticks([])
    axes.grid(False)
    axes.spines["left"].set_visible(False)


def write(path: Path, record: dict[str, Any]) -> Path:
    """Write the record as JSON, and its picture beside it; return where the picture is."""
    run_folder.write_json(path, record)
    draw(path.with_suffix(".png"), record)
    return path.with_suffix(".png")
