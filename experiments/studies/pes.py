"""nengo-loihi's delta rule in its emulator of Loihi 1, and ours: `python -m experiments.studies.pes RUN`.

Both learn the last layer of a dense two-layer network anew, from the hidden codes of its first, which stays:
the same samples in the same order, one at a time. Loihi 1 has binary spikes, so a hidden code of 7 bits is 7
axons there; ours learns from those spikes, and from the codes themselves. Each side takes the setting that is
best on a validation split of the training images; the test images are read once a seed. nengo-loihi wants an
environment of its own (Python 3.9, `numpy<1.24`, `nengo-loihi==1.1.0`).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import numpy as np
import typer

from experiments.records.names import mean_and_spread, table
from experiments.runs import run_folder
from experiments.runs.training import load_for
from experiments.studies import alone
from experiments.studies.emulators import flat, layer_codes, run_script
from mappings.formats.inference import Inference
from wage_neuro.engine import NumpyEngine
from wage_neuro.errors import NetworkError
from wage_neuro.network import Network
from wage_neuro.random_bits import permutation
from wage_neuro.rules import Rules

RESULT = Path("experiments/results/pes.json")
SCRIPT = Path(__file__).parent / "loihi1_pes.py"
TARGET = 1000  # logit of the right class, in units of a weight's step: 12 a spike


@dataclass(frozen=True, kw_only=True)
class Config:
    """What is compared.

    Attributes
    ----------
    validation : training images that choose the settings, the last ones
    choosing_seeds, seeds : seeds of the runs that choose, and of those that count
    magnitudes : what a spike adds to a trace of PES, which is its learning rate
    our_settings : (log2_eta, loss)
    """

    epochs: int = 2
    validation: int = 287
    choosing_seeds: tuple[int, ...] = (100,)
    seeds: tuple[int, ...] = (0, 1, 2)
    magnitudes: tuple[int, ...] = (2, 5, 10, 20, 40)
    our_settings: tuple[tuple[int, str], ...] = tuple(
        (log2_eta, loss) for loss in ("sse", "one-sided") for log2_eta in (0, 1, 2, 3)
    )


Samples = tuple[np.ndarray, np.ndarray]
Learner = Callable[[Any, int, Samples, np.ndarray], np.ndarray]
"""Of a setting, a seed, (n, inputs) codes with their labels and those asked: (asked,) classes."""


@dataclass
class Side:
    """One way to learn: its settings with their validation accuracies, %, and the best one's tests."""

    name: str
    inputs: int
    weight: str
    settings: list[str]
    validation: list[float] = field(default_factory=list)
    chosen: str = ""
    test: list[float] = field(default_factory=list)


def spikes_of(codes: np.ndarray, bits: int) -> np.ndarray:
    """Return (n, values * bits) spikes, 0 or 1, of (n, values) codes; the lowest bit first.

    >>> spikes_of(np.array([[5, 0]]), 3).tolist()
    [[1, 0, 1, 0, 0, 0]]
    """
    return (codes[:, :, None] >> np.arange(bits) & 1).reshape(len(codes), -1).astype(np.uint8)


def in_emulator(python: Path, found: dict[str, Any]) -> Learner:
    """PES in nengo-loihi's emulator; what it says beside its answers goes to `found`."""

    def learn(magnitude: int, seed: int, samples: Samples, asked: np.ndarray) -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            given = Path(folder) / "given.npz"
            x, labels = samples
            arrays: dict[str, Any] = {"x": x, "labels": labels, "asked": asked, "classes": 10}
            np.savez(given, **arrays, magnitude=magnitude, target=TARGET, seed=seed)
            (answer,) = run_script(python, SCRIPT, given)
        logits = np.array(answer.pop("logits"))
        found.update(answer)
        return logits.argmax(axis=1)

    return learn


def in_ours(k_A: int) -> Learner:
    """The delta rule of a single dense layer in the numpy engine, strictly one sample at a time."""

    def learn(setting: tuple[int, str], seed: int, samples: Samples, asked: np.ndarray) -> np.ndarray:
        log2_eta, loss = setting
        network = Network.parse("F", (samples[0].shape[1], 1, 1), 10, f"2{k_A}88")
        rules = Rules(batch=1, shift="held", update="ternary", loss=loss, margin=3 if loss != "sse" else 0)
        pixels = [np.searchsorted(network.input_codes, x).astype(np.uint8) for x in (samples[0], asked)]
        with NumpyEngine(network, rules, seed) as engine:
            engine.train(pixels[0][..., None, None], samples[1], log2_eta)
            return engine.predict(pixels[1][..., None, None]).argmax(axis=1)

    return learn


def compare(side: Side, settings: tuple[Any, ...], learner: Learner, data: Split, config: Config) -> Side:
    """Choose a setting on the validation split, then test it seed by seed."""
    (x, labels), (asked, right), cut = data.train, data.test, len(data.train[1]) - config.validation
    held_out = x[cut:], labels[cut:]
    for setting in settings:
        hits = [
            learner(setting, seed, _ordered((x[:cut], labels[:cut]), seed, config.epochs), held_out[0])
            == held_out[1]
            for seed in config.choosing_seeds
        ]
        side.validation.append(100 * float(np.mean(hits)))
        typer.echo(f"{side.name} {setting}: validation {side.validation[-1]:.2f} %")
    best = settings[int(np.argmax(side.validation))]
    side.chosen = str(best)
    for seed in config.seeds:
        answers = learner(best, seed, _ordered((x, labels), seed, config.epochs), asked)
        side.test.append(100 * float((answers == right).mean()))
        typer.echo(f"{side.name} {best} seed {seed}: test {side.test[-1]:.2f} %")
    return side


@dataclass(frozen=True)
class Split:
    """Codes and labels to learn from, and to be tested on."""

    train: Samples
    test: Samples


def _ordered(samples: Samples, seed: int, epochs: int) -> Samples:
    """Every epoch's samples, one after the other."""
    order = np.concatenate([permutation(seed, epoch, len(samples[1])) for epoch in range(epochs)])
    return samples[0][order], samples[1][order]


def run(python: Path, codes: Split, k_A: int, config: Config) -> dict[str, Any]:
    """Compare PES with ours on the same spikes, and with ours on the codes; the record."""
    bits = k_A - 1
    spikes = Split(*((spikes_of(x, bits), labels) for x, labels in (codes.train, codes.test)))
    lit = Split(*((x * (2**bits - 1), labels) for x, labels in (spikes.train, spikes.test)))
    found: dict[str, Any] = {}
    n, values = spikes.train[0].shape[1], codes.train[0].shape[1]
    pes = Side("PES", n, "8 bits, two an output", [str(m) for m in config.magnitudes])
    sides = [compare(pes, config.magnitudes, in_emulator(python, found), spikes, config)]
    for name, inputs, data in (("ours, the same spikes", n, lit), ("ours, the codes", values, codes)):
        side = Side(name, inputs, "ternary, 8 bits stored", [str(s) for s in config.our_settings])
        sides.append(compare(side, config.our_settings, in_ours(k_A), data, config))
    return {
        "config": asdict(config),
        "samples": config.epochs * len(codes.train[1]),
        "sides": [asdict(side) for side in sides],
        "emulator": found,
        "versions": run_folder.versions(),
    }


def pes_table(folder: Path) -> str:
    """A row a side, of the record in `folder`."""
    record = json.loads((folder / RESULT.name).read_text())
    names = "name", "inputs", "weight", "chosen"
    rows = [(*(side[name] for name in names), mean_and_spread(side["test"])) for side in record["sides"]]
    heads = (
        "last layer learned by | inputs | a weight | a spike adds to its trace; ours: log2 eta, loss"
        " | test accuracy, %"
    )
    what = f"{record['network']}, {record['data']}: {record['samples']:,} samples, one at a time,"
    seeds = f"{len(record['config']['seeds'])} seeds; {record['emulator']['runs_in']}"
    return table(heads, rows, f"{what} {seeds}.")


def main(
    run_of: Annotated[Path, typer.Argument(metavar="RUN", help="Run of a dense network of two layers.")],
    loihi: Annotated[Path, typer.Option(help="Python that has nengo-loihi.")],
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the data.")] = None,
    output: Annotated[Path, typer.Option(help="JSON record.")] = RESULT,
) -> None:
    """Learn the last layer of a run's network on both sides, and write the record."""
    run_folder.check_writable(output)
    saved = run_folder.load(run_of)
    network = flat(saved)[0]
    if len(network.layers) != 2:
        raise NetworkError(f"{network}: {len(network.layers)} layers; want 2")
    name = saved.extra.get("config", {}).get("data", "digits")
    data = load_for(saved, name, data_dir)
    images = [np.asarray(part).reshape(len(part), -1) for part in (data.train_images, data.test_images)]
    V = Inference.of(saved).V
    hidden = [layer_codes(network, V, network.encode(part))[1] for part in images]
    labels = [np.asarray(data.train_labels), np.asarray(data.test_labels)]
    split = Split((hidden[0], labels[0]), (hidden[1], labels[1]))
    record = {"network": str(network), "data": name, **run(loihi, split, network.bits.k_A, Config())}
    run_folder.write_text(output, json.dumps(record, indent=1) + "\n")
    for side in record["sides"]:
        typer.echo(f"{side['name']}: test accuracy {mean(side['test']):.2f} %")


if __name__ == "__main__":
    alone(main)
