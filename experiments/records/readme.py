"""The tables of the READMEs, made from the committed records; `make readme` writes them.

A table stands between `<!-- begin NAME -->` and `<!-- end NAME -->`, in one README of all.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from experiments.benchmarks.agreement import agreement_table
from experiments.campaign.rows import campaign_table
from experiments.continual import records as continual_records
from experiments.continual.hardware import learning_cost_table
from experiments.continual.table import FLOAT, continual_table
from experiments.records.findings import markdown
from experiments.records.hardware import hardware_table
from experiments.records.machines import machines_table
from experiments.records.names import learning, mean_and_spread, short_name, table
from experiments.runs.training import Config
from experiments.studies.binary import binary_table
from experiments.studies.emulators import sana_fe_table
from experiments.studies.microcontroller import microcontroller_table
from experiments.studies.neurobench import neurobench_table
from experiments.studies.pes import pes_table
from experiments.transfer.pictures import transfer_table
from wage_neuro.feedback import feedback_memory
from wage_neuro.network import Network
from wage_neuro.rules import MARGIN_UNITS, Rules

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "experiments" / "results"
README = ROOT / "README.md"

PUBLISHED = {
    "mnist": "99.60 (WAGE, 100 epochs, mean of 10 runs); 99.45 (NITRO-D, run in integers);"
    " 96.3 (backpropagation on Loihi)",
    "fashion-mnist": "93.66 (NITRO-D); 87.7 (PocketNN)",
    "digits": "",
}
"""Test accuracies of others, %: arXiv:1802.04680 and the papers named."""


def records(folder: Path = RESULTS) -> list[dict[str, Any]]:
    """Every record of a training run that was measured on test images, by file name."""
    elsewhere = {"validation", "experiments"}  # of no table, and of tables of their own
    paths = sorted(
        path for path in folder.rglob("*.json") if elsewhere.isdisjoint(path.relative_to(folder).parts)
    )
    found = [json.loads(path.read_text()) for path in paths]
    return [r for r in found if isinstance(r, dict) and r.get("measured_on") == "test"]


def groups(runs: Iterable[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Records that differ in their seed alone, together; the seeds rise."""
    found: dict[str, list[dict[str, Any]]] = {}
    for record in runs:
        rules = {**asdict(Rules()), **record["config"]["rules"]}  # older records have fewer
        config = {**record["config"], "rules": rules, "seed": None}
        key = json.dumps([config, record["engine"], len(record["curve"])], sort_keys=True)
        found.setdefault(key, []).append(record)
    return [sorted(group, key=lambda r: r["config"]["seed"]) for group in found.values()]


def in_percent(records: Iterable[dict[str, Any]], key: str) -> str:
    """Mean and spread of a share that records have."""
    return mean_and_spread((100 * record[key] for record in records), unit=" %")


def results_table(folder: Path = RESULTS) -> str:
    """Test accuracy, last epoch first: mean over the seeds."""
    rows = []
    for group in groups(records(folder)):
        r = group[0]
        config = r["config"]
        name = short_name(r["network"])
        what = learning(config["rules"])
        if config.get("augment", "none") != "none":
            what += f", {config['augment']}"
        last, best = (in_percent(group, key) for key in ("accuracy_last", "accuracy_best"))
        bits, epochs = config["bits"], len(r["curve"])
        rows.append(
            (config["data"], f"{name}, {bits}", what, r["engine"], epochs, len(group), f"**{last}**", best)
        )
    data = dict.fromkeys(group[0]["config"]["data"] for group in groups(records(folder)))
    published = [f"{name}: {PUBLISHED[name]}" for name in data if PUBLISHED.get(name)]
    heads = (
        "data | network, bits | learning | engine | epochs | seeds | test accuracy, last epoch | best epoch"
    )
    return table(heads, rows, f"Published, %: {'. '.join(published)}.")


def feedback_table(folder: Path = RESULTS) -> str:
    """Accuracy and memory of the three feedback paths, of the runs that differ in nothing else."""
    by_setting: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for group in groups(records(folder)):
        config = group[0]["config"]
        rules = {**config["rules"], "feedback": None, "pipelined": config["rules"].get("pipelined", False)}
        key = json.dumps({**config, "seed": None, "rules": rules}, sort_keys=True)
        kind = config["rules"].get("feedback", "transposed")
        if len(group) > 1:
            by_setting.setdefault(key, {})[kind] = group
    rows = []
    for kinds in by_setting.values():
        for kind, group in kinds.items() if len(kinds) > 1 else ():
            r = group[0]
            network = Network.parse(r["network"], tuple(r["input_shape"]), bits=r["config"]["bits"])
            synapses, bits = feedback_memory(network, kind)
            name, accuracy = short_name(r["network"]), in_percent(group, "accuracy_last")
            memory = f"{bits / 8 / 1024:,.1f} KiB"
            rows.append((f"{name}, {r['config']['data']}", kind, f"**{accuracy}**", f"{synapses:,}", memory))
    return table(
        "network, data | feedback | test accuracy, last epoch | feedback synapses | their memory", rows
    )


def commands_list(folder: Path = RESULTS) -> str:
    """The commands that made the records, of a group's first seed."""
    return "\n".join(["```sh", *(command_of(group[0]) for group in groups(records(folder))), "```"])


def command_of(record: dict[str, Any]) -> str:
    """The whole command of a run, also of one that was resumed on its way.

    >>> config = {"network": "mlp", "data": "mnist", "epochs": 2, "eta": "8, 1@1", "rules": {"batch": 1}}
    >>> command_of({"engine": "numpy", "config": config})
    "wage-neuro train --network mlp --data mnist --engine numpy --epochs 2 --eta '8, 1@1' --batch 1"
    """
    config = {**Config().to_json(), **record["config"]}
    words = ["wage-neuro", "train"]
    for name in ("network", "data", "engine", "epochs", "eta"):
        words += [f"--{name}", str({**config, "engine": record["engine"]}[name])]
    for name in ("bits", "seed", "validation", "train_images", "augment"):
        if config[name] != Config().to_json()[name]:
            words += [f"--{name.replace('_', '-')}", str(config[name])]
    for name, value in config["rules"].items():
        if value != asdict(Rules())[name]:
            text = f"{value}/{MARGIN_UNITS}" if name == "margin" else str(value)
            words += [f"--{name.replace('_', '-')}", *([] if value is True else [text])]
    return shlex.join(words)


def bench_table(folder: Path = RESULTS) -> str:
    """The benchmark's rows, and the machine they were measured on."""
    record = json.loads((folder / "bench.json").read_text())
    rows = []
    for row in record["rows"]:
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f} x"
        ours = f"{row['ours']:,.2f}" if row["ours"] < 10 else f"{row['ours']:,.0f}"
        met = ("yes" if row["met"] else "**no**") if row["bar"] else ""
        others = row.get("others")  # older rows have none
        busy = "" if others is None else f"{others:.2f}"
        rows.append((row["what"], f"{ours} {row['unit']}", row["against"], ratio, row["bar"], met, busy))
    versions = record["versions"]
    said = f"{versions['machine']}, Python {versions['python']}, numpy {versions['numpy']}."
    if any(row.get("others") is not None for row in record["rows"]):
        said += " Busy besides: processors that the rest of the machine used meanwhile."
    blas = {each["about"]["BLAS"] for each in record.get("kernels", []) if "BLAS" in each["about"]}
    if blas:
        said += f" BLAS of numpy: {', '.join(sorted(blas))}."
    return table("what | ours | against | ratio | bar | met | busy besides", rows, said)


def lava_table(folder: Path = RESULTS) -> str:
    """Lava's simulator against its own channels and models in numpy; of `bench_lava`."""
    record = json.loads((folder / "bench-lava.json").read_text())
    rows = []
    for case in record["cases"]:
        bar, rate = case["bar"], f"{case['samples_a_second']:,.0f} samples/s"
        met = ("yes" if case["ratio"] >= bar else "**no**") if bar else ""
        times = f"{case['slow_us']:,.0f} -> {case['fast_us']:,.0f} µs"
        ratios = f"**{case['ratio']:.2f} x**", f"{case['wall_ratio']:.2f} x, {rate}"
        rows.append((case["name"], case["against"], times, *ratios, f">= {bar} x" if bar else "", met))
    versions = record["versions"]
    said = f"{versions['machine']}, Python {versions['python']}, load {record['load']:.0f}."
    heads = "network | against | processor time a sample | faster by it | on the wall | bar | met"
    return table(heads, rows, said, _structural_epoch(folder), _pipeline_cost(folder))


def _structural_epoch(folder: Path) -> str:
    """What a whole epoch through the structural models came to; of `experiments.studies.structural`."""
    record = json.loads((folder / "structural.json").read_text())
    parts = record["structural"]
    accuracy = f"{100 * parts['accuracy_last']:.2f} %"
    equal = "equal to" if record["equal"] else "**not** equal to"
    return (
        f"{record['samples']:,} images of {parts['config']['data']} through the structural models of"
        f" {short_name(parts['network'])}: test accuracy {accuracy}, trained in"
        f" {parts['train_seconds']:.0f} s; {parts['weights']:,} stored weights and all exponents {equal}"
        " those of the behavioural run."
    )


def _pipeline_cost(folder: Path) -> str:
    """Accuracy of pipelined learning beside that of one sample at a time, on validation images."""
    found = [json.loads(path.read_text()) for path in folder.glob("validation/onchip-512-*.json")]
    rules = {id(record): record["config"]["rules"] for record in found}
    found.sort(key=lambda record: (rules[id(record)]["pipelined"], rules[id(record)]["batch"]))
    shares = [
        f"{100 * record['accuracy_last']:.2f} % "
        + (f"drained every {rules[id(record)]['batch']}" if rules[id(record)]["pipelined"] else "strictly")
        for record in found
    ]
    config = found[0]["config"]
    return (
        f"What the pipeline's delay costs {short_name(found[0]['network'])}, on {config['validation']:,}"
        f" validation images after {config['epochs']} epochs, one seed: {', '.join(shares)}."
    )


def choices_table(folder: Path = RESULTS) -> str:
    """Accuracy by the rules past the paper on validation images, of which the settings were chosen."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("validation/past-*.json"))]
    rows = []
    for record in found:
        config, last = record["config"], record["curve"][-1]
        what = f"{short_name(record['network'])}, {config['bits']}", learning(config["rules"])
        errors = (f"{100 * last[name]:.2f} %" for name in ("train_error", "error"))
        rows.append((*what, config["eta"], config["epochs"], *errors))
    data = ", ".join(sorted({record["config"]["data"] for record in found}))
    images = ", ".join(sorted({f"{record['config']['validation']:,}" for record in found}))
    heads = "network | learning | eta | epochs | training error, last epoch | validation error"
    return table(heads, rows, f"{data}, one seed, {images} training images held out; no test image was read.")


def chip_table(folder: Path = RESULTS) -> str:
    """What `wage-neuro map` said of each network on each chip, and what was measured of the same layers."""
    rows = []
    for path in sorted(folder.glob("chip/*/*.json")):
        report = json.loads(path.read_text())
        place, cost, mode = report["placement"], report["cost"], report["mode"]
        broken = len(report["limits"])
        fits = "yes" if report["fits"] else f"no, {broken} limit{'s' * (broken > 1)} broken"
        chips = f" on {place['chips']} chips" if place["chips"] > 1 else ""
        name = short_name(report["network"]["layers"], report["prototypes"])
        feedback = report["rules"]["feedback"]
        use = mode + (f", {feedback} feedback" if mode == "training" and feedback != "transposed" else "")
        done, energy = cost["operations"]["counted"], cost["energy_mJ"]
        found = (report["published"] or {}).get(mode)
        measured = f"{found['energy_mJ']} mJ, {found['time_ms']} ms" if found else ""
        operations = f"{done['effective']:,.0f} of {done['dense']:,.0f}"
        mJ = f"**{energy['total']:.2g} mJ**", f"{energy['dynamic']:.2g}, {energy['static']:.2g} mJ"
        where = name, report["chip"]["name"], use, fits, f"{place['cores']}{chips}"
        rows.append((*where, operations, *mJ, f"{cost['time_ms']:.2g} ms", measured))
    heads = (
        "network | chip | use | fits | cores | synaptic operations, effective of dense | energy a sample"
        " | of it operations, at rest | time | measured, the same layers"
    )
    return table(heads, rows)


def gpu_table(folder: Path = RESULTS) -> str:
    """Speed and agreement on a GPU, from the record of `python -m experiments.benchmarks.gpu`."""
    record = json.loads((folder / "gpu.json").read_text())
    speed, agreement = record["speed"], record["agreement"]
    rows = [(f"{row['network']}, batch {row['batch']}", f"{row['images_per_s']:,}") for row in speed["rows"]]
    cells = agreement["rows"]
    wrong = sum(cell["difference"] is not None for cell in cells)
    weights = sum(cell["seeds"] * cell["steps"] * cell["weights"] for cell in cells)
    modes = len({cell["mode"] for cell in cells})
    said = (
        f"{_device(speed)}. Equal to the numpy engine in {len(cells) - wrong} of {len(cells)} pairs of"
        f" network and mode ({modes} modes), these at full width among them, on {_device(agreement)}:"
        f" {weights:,} stored weights compared."
    )
    return table("training on a GPU | images a second", rows, said)


def _device(part: Mapping[str, Any]) -> str:
    return f"{part['versions']['accelerator']}, PyTorch {part['versions']['torch']}"


def headline_table(folder: Path = RESULTS) -> str:
    """Five results and the published marks beside them."""
    experiments = folder / "experiments"
    lenet = [_record(path) for path in sorted((experiments / "mnist-lenet/paper").glob("2888-s*.json"))]
    vgg = [_record(experiments / "cifar10-vgg/paper/2888-s0.json")]
    onchip = [_record(path) for path in sorted((folder / "onchip").glob("mnist-2x512-shift-s*.json"))]
    split = continual_records.read(folder / "continual/split-mnist-1.5m.jsonl")
    memory, floats = split.runs[0]["config"]["memory"], FLOAT["split-mnist", "class", "replay", 2000]
    speed = _record(folder / "gpu.json")["speed"]["rows"]
    (gpu,) = (row for row in speed if row["network"] == "vgg")
    rows = [
        (
            "CIFAR-10, the paper's VGG, 300 epochs",
            vgg,
            "93.22 (best epochs), 92.74 (the authors' log) | WAGE, simulated",
        ),
        ("MNIST, the paper's LeNet, 100 epochs", lenet, "99.60 | WAGE, simulated"),
        (
            "MNIST, 784-512-512-10, one sample at a time",
            onchip,
            "96.3 | backpropagation on Loihi, 400-400-10",
        ),
    ]
    lines = ["| | last epoch | best epoch | seeds | published, % | by |", "|---|---|---|---|---|---|"]
    for what, runs, published in rows:
        last, best = (in_percent(runs, key) for key in ("accuracy_last", "accuracy_best"))
        lines.append(f"| {what} | **{last}** | {best} | {len(runs)} | {published} |")
    lines += [
        f"| SplitMNIST, class by class, one pass, {memory:,} images of 2 bits a pixel |"
        f" **{split.mean_and_spread('ACC')} %** | | {len(split.runs)} | {floats} |"
        " float replay, the same bytes, fewer recalled |",
        f"| training the paper's VGG on a GPU | **{gpu['images_per_s']:,} images/s** | | | | |",
    ]
    return "\n".join(lines)


def _record(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


TABLES: dict[str, Callable[[Path], str]] = {
    "headline": headline_table,
    "gpu": gpu_table,
    "results": results_table,
    "feedback": feedback_table,
    "chip": chip_table,
    "continual": continual_table,
    "learning-cost": learning_cost_table,
    "transfer": transfer_table,
    "binary": binary_table,
    "agreement": agreement_table,
    "microcontroller": microcontroller_table,
    "hardware": hardware_table,
    "machines": machines_table,
    "neurobench": neurobench_table,
    "pes": pes_table,
    "sana-fe": sana_fe_table,
    "campaign": campaign_table,
    "experiments": lambda folder: markdown(folder / "experiments"),
    "choices": choices_table,
    "commands": commands_list,
    "bench": bench_table,
    "lava": lava_table,
}


def tables(folder: Path = RESULTS) -> dict[str, Callable[[Path], str]]:
    """The tables that the README must have: that of the experiments once a record of one is kept."""
    has_experiments = any((folder / "experiments").rglob("*.json"))
    return {name: make for name, make in TABLES.items() if name != "experiments" or has_experiments}


def pages() -> dict[Path, str]:
    """Every README, and its text."""
    paths = [README, *ROOT.glob("*/README.md"), *ROOT.glob("*/*/README.md")]
    return {
        path: path.read_text() for path in sorted(paths) if not path.is_relative_to(ROOT / "tests/golden")
    }


def with_tables(texts: dict[Path, str], folder: Path = RESULTS) -> dict[Path, str]:
    """Return the texts with every table made anew.

    Raises
    ------
    ValueError
        If a table has no place, or two.
    """
    found = dict(texts)
    for name, make in tables(folder).items():
        pattern = re.compile(rf"<!-- begin {name} -->.*?<!-- end {name} -->", re.DOTALL)
        places = [path for path, text in found.items() for _ in pattern.finditer(text)]
        if len(places) != 1:
            raise ValueError(f"READMEs: {len(places)} places for the table {name!r}, want 1")
        block = f"<!-- begin {name} -->\n{make(folder)}\n<!-- end {name} -->"
        found[places[0]] = pattern.sub(block.replace("\\", r"\\"), found[places[0]])
    return found
