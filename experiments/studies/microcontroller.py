"""C that learns on a Cortex-M, run in qemu: `python -m experiments.studies.microcontroller`.

Every logit, stored weight and held exponent is compared with the numpy engine's. qemu counts instructions,
not cycles: it has no model of a core's pipeline, caches or flash. Wants arm-none-eabi-gcc and
qemu-system-arm.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from experiments import datasets
from experiments.records.names import table
from experiments.runs import run_folder
from experiments.studies import alone
from mappings.formats import c as c_source
from wage_neuro import Network, initial_state
from wage_neuro.checkpoint import Checkpoint
from wage_neuro.errors import EngineError, WageError
from wage_neuro.rules import Rules
from wage_neuro.train import Batch, Held, State, train_step

BOARDS = {"cortex-m4": "mps2-an386", "cortex-m7": "mps2-an500"}
TOOLS = ("arm-none-eabi-gcc", "arm-none-eabi-size", "qemu-system-arm")
FLAGS = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-O2", "-mthumb", "-ffreestanding", "-nostdlib"]
QEMU = [
    *("-display", "none", "-monitor", "none", "-serial", "none"),
    *("-icount", "shift=0"),  # an instruction a nanosecond
    *("-chardev", "stdio,id=told", "-semihosting-config", "enable=on,chardev=told"),
]
CALIBRATION = 2_000_000  # instructions of the loop in cortex_m.c
CHIP = Rules(batch=1, update="ternary", shift="held", loss="one-sided", margin=4)


def missing_tools() -> list[str]:
    """Names of the tools that are not here."""
    return [tool for tool in TOOLS if not shutil.which(tool)]


def measure(saved: Checkpoint, x: np.ndarray, labels: np.ndarray, log2_eta: int, cpu: str) -> dict[str, Any]:
    """Let a network learn samples on a Cortex-M in qemu, and compare it with the numpy engine.

    Parameters
    ----------
    x : (n, *input_shape) input codes; a few hundred at most, SysTick has 24 bits
    cpu : one of `BOARDS`

    Returns
    -------
    Bytes of flash (code, constants, initial state) and RAM, instructions a sample.

    Raises
    ------
    EngineError
        If a tool is missing.
    WageError
        If a logit, a stored weight or an exponent differs.
    """
    if missing_tools():
        raise EngineError(f"{', '.join(missing_tools())}: not installed here")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = c_source.write(folder / "net.c", saved, learn=True)
        for file in ("cortex_m.c", "cortex_m.ld"):
            (folder / file).write_text(files("mappings.formats").joinpath(f"c_files/{file}").read_text())
        (folder / "samples.h").write_text(_samples(x, labels, log2_eta))
        compiler = ["arm-none-eabi-gcc", *FLAGS, f"-mcpu={cpu}"]
        _run([*compiler, "-c", "net.c"], folder)
        link = ["-T", "cortex_m.ld", "net.o", "cortex_m.c", "-lgcc", "-o", "net.elf"]
        _run([*compiler, *link], folder)
        text, data, bss = _run(["arm-none-eabi-size", "net.o"], folder).splitlines()[1].split()[:3]
        out = _run(["qemu-system-arm", "-machine", BOARDS[cpu], *QEMU, "-kernel", "net.elf"], folder)
    told = {key: bytes.fromhex(value) for key, value in (line.split() for line in out.splitlines())}
    compare(saved, x, labels, log2_eta, told["logits"], told["state"])
    loop, predicting, learning = np.frombuffer(told["ticks"], "<u4").tolist()
    if int(data) + int(bss) != source.ram_bytes:
        raise WageError(f"{data} + {bss} bytes of RAM: the header says {source.ram_bytes}")
    return {
        "units": [
            int(np.prod(saved.network.input_shape)),
            *(n.weight_shape[1] for n in saved.network.layers),
        ],
        "cpu": cpu,
        "samples": len(x),
        "flash_bytes": int(text) + int(data),
        "code_and_constant_bytes": int(text),
        "ram_bytes": source.ram_bytes,
        "instructions_to_predict": round(CALIBRATION / loop * predicting / len(x)),
        "instructions_to_learn": round(CALIBRATION / loop * learning / len(x)),
        "instructions_a_tick": CALIBRATION / loop,
    }


def compare(
    saved: Checkpoint, x: np.ndarray, labels: np.ndarray, log2_eta: int, logits: bytes, end: bytes
) -> State:
    """Raise WageError unless the logits and the bytes of the final state are the numpy engine's."""
    state, wanted, network = saved.state, [], saved.network
    for i in range(len(x)):
        state, Z = train_step(network, state, Batch(x[i : i + 1], labels[i : i + 1]), log2_eta, saved.rules)
        wanted.append(Z[0])
    _check_equal("logits", np.frombuffer(logits, "<i4").reshape(len(x), -1), np.array(wanted))
    L = len(network.layers)
    _check_equal("step", int.from_bytes(end[:8], "little"), state.step)
    held = [_pair(h) for h in (*state.error_held, *state.gradient_held)]
    _check_equal("held exponents", np.frombuffer(end[8 : 8 + 16 * L], "<i4").reshape(-1, 2), held)
    stored = np.concatenate([S.reshape(-1) for S in state.S])
    _check_equal("stored weights", np.frombuffer(end[8 + 16 * L :], np.int8)[: network.n_weights], stored)
    return state


def microcontroller_table(folder: Path) -> str:
    """Bytes and instructions of every network and core of the record."""
    record = json.loads((folder / "microcontroller.json").read_text())
    numbers = "flash_bytes", "ram_bytes", "instructions_to_predict", "instructions_to_learn"
    rows = [
        (f"{'-'.join(map(str, row['units']))}, {row['data']}", row["cpu"], *(f"{row[n]:,}" for n in numbers))
        for row in record["rows"]
    ]
    first = record["rows"][0]["samples"]
    heads = "network | core | flash | RAM without stack | instructions to predict | to learn a sample"
    said = f"The first {first} training samples, from new weights, in {record['tools'][1]}."
    return table(heads, rows, said)


def _pair(held: Held) -> tuple[int, int]:
    return -1 if held.exponent is None else held.exponent, held.below


def _check_equal(name: str, found: Any, wanted: Any) -> None:
    if not np.array_equal(found, wanted):
        raise WageError(
            f"{np.sum(np.asarray(found) != np.asarray(wanted))} {name} differ from the numpy engine's"
        )


def _samples(x: np.ndarray, labels: np.ndarray, log2_eta: int) -> str:
    return (
        f"enum {{ SAMPLES = {len(x)}, LOG2_ETA = {log2_eta} }};\n"
        f"static const int8_t codes[] = {{{', '.join(map(str, x.reshape(-1).tolist()))}}};\n"
        f"static const uint8_t labels[] = {{{', '.join(map(str, labels.tolist()))}}};\n"
    )


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    if done.returncode or (command[0] != "qemu-system-arm" and done.stderr):
        raise EngineError(f"{command[0]}: {' '.join(done.stderr.split())[:300]}")
    return done.stdout


NETWORKS = (("digits", "32FC"), ("mnist", "256FC"))
"""Data and hidden layers: 64-32-10, and an MNIST net that learns in 256 KiB of RAM."""


def main(
    samples: Annotated[int, typer.Option(help="Training samples, in the order of their file.")] = 100,
    eta: Annotated[int, typer.Option(help="log2 of the step size.")] = 2,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the data.")] = None,
    record: Annotated[Path | None, typer.Option(help="Write what was measured there, JSON.")] = None,
) -> None:
    """Let new networks learn on each board, and print flash, RAM and instructions a sample."""
    rows = []
    for name, hidden in NETWORKS:
        data = datasets.load(name, data_dir)
        network = Network.parse(hidden, data.input_shape, data.classes)
        saved = Checkpoint(network, CHIP, initial_state(network))
        x, labels = network.encode(data.train_images[:samples]), data.train_labels[:samples]
        for cpu in BOARDS:
            rows.append({"data": name, **measure(saved, x, labels, eta, cpu)})
            print(json.dumps(rows[-1]))
    if record:
        tools = [_run([tool, "--version"], Path()).splitlines()[0] for tool in (TOOLS[0], TOOLS[2])]
        facts = {"rules": str(CHIP), "log2_eta": eta, "rows": rows, "tools": tools}
        run_folder.write_json(record, {**facts, "versions": run_folder.versions()})


if __name__ == "__main__":
    alone(main)
