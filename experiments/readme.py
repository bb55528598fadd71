"""The README's tables, made from the committed records. `make readme` writes them; a test holds them equal.

A table stands between `<!-- begin NAME -->` and `<!-- end NAME -->`.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from experiments.run_folder import write_text
from experiments.training import Config
from wage_neuro.rules import MARGIN_UNITS, Rules

ROOT = Path(__file__).resolve().parent.parent
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
    """Every record of a training run, by file name."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    return [record for record in found if "curve" in record]


def learning(rules: dict[str, Any]) -> str:
    """How the weights learned, in a few words.

    >>> learning({"batch": 1, "update": "ternary", "loss": "one-sided", "margin": 3})
    'one sample at a time, ternary updates, one-sided error, margin 3/8'
    """
    words = ["one sample at a time" if rules["batch"] == 1 else f"batch {rules['batch']}"]
    if rules.get("pipelined"):
        words = ["one sample a time step, pipelined"]
    words += [f"{rules['update']} updates"]
    words += ["one-sided error"] if rules.get("loss") == "one-sided" else []
    words += [f"margin {rules['margin']}/8"] if rules.get("margin") else []
    return ", ".join(words)


def results_table(folder: Path = RESULTS) -> str:
    """Test accuracy, last epoch first, beside the published marks."""
    lines = [
        "| data | network, bits | learning | engine | epochs | test accuracy, last epoch | best epoch"
        " | published, % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in records(folder):
        if r["measured_on"] == "test":
            config = r["config"]
            name = r["network"].replace("-F-", "-").removeprefix("F-")
            lines.append(
                f"| {config['data']} | {name}, {config['bits']} | {learning(config['rules'])} | {r['engine']}"
                f" | {len(r['curve'])}"
                f" | **{100 * r['accuracy_last']:.2f} %** | {100 * r['accuracy_best']:.2f} %"
                f" | {PUBLISHED.get(config['data'], '')} |"
            )
    return "\n".join(lines)


def commands_list(folder: Path = RESULTS) -> str:
    """The commands that made the records."""
    return "\n".join(["```sh", *map(command_of, records(folder)), "```"])


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
    for name in ("bits", "seed", "validation", "train_images"):
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
    lines = ["| what | ours | against | ratio | bar | met |", "|---|---|---|---|---|---|"]
    for row in record["rows"]:
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f} x"
        ours = f"{row['ours']:,.2f}" if row["ours"] < 10 else f"{row['ours']:,.0f}"
        met = "yes" if row["met"] else "**no**"
        lines.append(
            f"| {row['what']} | {ours} {row['unit']} | {row['against']} | {ratio} | {row['bar']} | {met} |"
        )
    versions = record["versions"]
    lines += ["", f"{versions['machine']}, Python {versions['python']}, numpy {versions['numpy']}."]
    return "\n".join(lines)


TABLES: dict[str, Callable[[Path], str]] = {
    "results": results_table,
    "commands": commands_list,
    "bench": bench_table,
}


def with_tables(text: str, folder: Path = RESULTS) -> str:
    """Return the README's text with every table made anew."""
    for name, make in TABLES.items():
        block = f"<!-- begin {name} -->\n{make(folder)}\n<!-- end {name} -->"
        pattern = rf"<!-- begin {name} -->.*?<!-- end {name} -->"
        text, count = re.subn(pattern, block.replace("\\", r"\\"), text, flags=re.DOTALL)
        if count != 1:
            raise ValueError(f"README: {count} places for the table {name!r}, want 1")
    return text


def main() -> None:
    """Rewrite the README's tables."""
    write_text(README, with_tables(README.read_text()))


if __name__ == "__main__":
    main()
