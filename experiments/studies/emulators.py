"""A trained network in simulators of chips that others wrote: `python -m experiments.studies.emulators`.

nengo-loihi's emulator of Loihi 1 answers to test images, every logit compared; it wants Python 3.9 and an old
numpy. SANA-FE replays test images on a chip's mesh, and its messages, hops and energies stand beside those of
`map`. Each runs in the Python of an environment of its own, which has it:

    python3.9 -m venv loihi && loihi/bin/pip install 'numpy<1.24' 'nengo<4' nengo-loihi==1.1.0 scipy
    python3.11 -m venv sana && sana/bin/pip install sanafe==2.2.9
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from experiments.records.names import short_name, table
from experiments.runs import run_folder
from experiments.runs.training import load_for
from experiments.studies import alone
from mappings.chips.chip import Chip
from mappings.chips.cost import Cost, count_activity
from mappings.chips.placement import Use, place
from mappings.formats import sana_fe
from mappings.formats.inference import Inference
from wage_neuro.checkpoint import Checkpoint
from wage_neuro.engine import NumpyEngine
from wage_neuro.errors import EngineError, NetworkError
from wage_neuro.layers import Layer
from wage_neuro.network import Network
from wage_neuro.rules import Rules
from wage_neuro.train import State, predict

RESULT = Path("experiments/results/emulators.json")
HERE = Path(__file__).parent
SMALL: dict[str, Any] = {"core_neurons": 8, "cores": 16, "mesh_columns": 4, "mesh_rows": 2, "tile_cores": 2}
"""A mesh that a small network spreads over."""


def flat(saved: Checkpoint) -> tuple[Network, State]:
    """A dense network as one that takes rows of numbers, not images.

    Raises
    ------
    NetworkError
        If it has other than dense layers.
    """
    for layer in saved.network.layers:
        if layer.window:
            raise NetworkError(f"layer {layer.index} {layer}: want dense layers alone")
    specs = tuple(layer.spec for layer in saved.network.layers)
    return Network(specs, (saved.network.layers[0].fan_in,), saved.network.bits), saved.state


# --- Loihi 1 -----------------------------------------------------------------------------------------


def loihi1(network: Network, state: State, images: np.ndarray, python: Path) -> dict[str, Any]:
    """Answer (n, features) uint8 images in nengo-loihi's emulator, and count the logits that differ."""
    if len(network.layers) != 2:
        raise NetworkError(f"{network}: {len(network.layers)} layers; want 2")
    x = network.encode(images)
    V = Inference.of(Checkpoint(network, Rules(), state)).V
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder) / "given.npz"
        np.savez(given, x=x, V0=V[0], V1=V[1], z_shift0=network.layers[0].z_shift)
        (found,) = run_script(python, HERE / "loihi1_emulator.py", given, len(x))
    logits = np.array(found.pop("logits"))
    wanted = predict(network, state, x)
    return {
        "network": short_name(str(network)),
        "images": len(x),
        "logits_differ": int((logits != wanted).any(axis=1).sum()),
        **found,
        "mnist_512": loihi1_cores(784, 512, found["block_uses_of"]),
    }


def loihi1_cores(n_in: int, hidden: int, uses: dict[str, tuple[int, int]]) -> dict[str, Any]:
    """What a larger hidden layer would take, by the limits that a measured block was told.

    >>> uses = {"compartments": (256, 1024), "in-axons": (448, 4096), "synapses": (1032192, 1048576)}
    >>> loihi1_cores(64, 32, uses)["cores"], loihi1_cores(784, 512, uses)["in_axons"]
    (16, 5488)
    """
    axons, memory = uses["in-axons"], uses["synapses"]
    bits = memory[0] / uses["compartments"][0] / axons[0]  # of a synapse
    each = min(uses["compartments"][1], int(memory[1] / (bits * 7 * n_in)))
    return {"in_axons": 7 * n_in, "most_in_axons": axons[1], "cores": -(-hidden * 127 // each)}


# --- SANA-FE -----------------------------------------------------------------------------------------


def in_sana_fe(
    network: Network, state: State, images: np.ndarray, chip: Chip, python: Path
) -> dict[str, Any]:
    """Replay (n, features) uint8 images on a chip; its counts beside those of our placement and of `map`."""
    placement = place(network, chip, Use())
    V = Inference.of(Checkpoint(network, Rules(), state)).V
    samples = [layer_codes(network, V, a) for a in network.encode(images)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "chip.yaml").write_text(sana_fe.architecture(chip, placement.populations[0].size))
        paths = [folder / f"{i}.yaml" for i in range(len(samples))]
        for path, values in zip(paths, samples, strict=True):
            path.write_text(sana_fe.network(placement, V, values))
        steps = len(placement.populations)
        found = run_script(python, HERE / "sana_fe_run.py", folder / "chip.yaml", steps, *paths)
    ours = [sana_fe.messages_and_hops(placement, values) for values in samples]
    theirs = [(one["messages"], one["hops_x"], one["hops_y"]) for one in found]
    cost = Cost(placement, count_activity(NumpyEngine(network, state=state), images))
    operations, links = cost.operations(), placement.edges.link >= 0
    across, down = cost.distances
    n = len(images)
    energies = {
        name: sum(one["energy_pJ"][name] for one in found) / n for name in ("synapse", "soma", "network")
    }
    return {
        "chip": f"{chip.name}, {chip.core_neurons} neurons a core",
        "network": short_name(str(network)),
        "images": n,
        "cores": placement.cores,
        "samples_whose_messages_or_hops_differ": sum(a != b for a, b in zip(ours, theirs, strict=True)),
        "messages": sum(one[0] for one in theirs) / n,
        "hops": sum(one[1] + one[2] for one in theirs) / n,
        "map_messages": float(cost.edge_messages[links].sum()),
        "map_hops": float((cost.edge_messages * (across + down))[links].sum()),
        "synapses_reached": sum(one["synaptic"] for one in found) / n,
        "map_synapses_reached": operations.reached,
        "energy_pJ": energies,
        "map_energy_pJ": {name: e for name, e in cost.energy().items() if name != "static"},
        "differs_after_reset": sorted({name for one in found for name in one["differs_after_reset"]}),
        "runs_in": found[0]["runs_in"],
    }


def layer_codes(network: Network, V: tuple[np.ndarray, ...], a: np.ndarray) -> list[np.ndarray]:
    """Input codes of every layer, of the codes `a` of one input or of many."""
    values = [a.astype(np.int64)]
    for layer, weights in zip(network.layers[:-1], V, strict=False):
        values.append(_activation(layer, values[-1] @ weights.astype(np.int64)))
    return values


def _activation(layer: Layer, Z: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(Z / 2**layer.z_shift), 0, layer.bits.activation_max).astype(np.int64)


def run_script(python: Path, script: Path, *words: object) -> list[dict[str, Any]]:
    """Let another Python run a script of ours; the lines of JSON that it prints.

    Raises
    ------
    EngineError
        If it fails, with its last line.
    """
    done = subprocess.run(
        [str(python), "-W", "ignore", str(script), *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise EngineError(f"{python} {script.name}: {last}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def sana_fe_table(folder: Path) -> str:
    """Counts and energies of SANA-FE beside those of `map`, a sample."""
    lines = []
    rows = json.loads((folder / RESULT.name).read_text())["sana_fe"]
    for row in rows:
        theirs, ours = row["energy_pJ"], row["map_energy_pJ"]
        neurons = ours["active neurons"] + ours["inactive neurons"]
        pairs = (
            (row["synapses_reached"], row["map_synapses_reached"]),
            (theirs["synapse"], ours["synaptic operations"]),
            (theirs["soma"], neurons),
            (theirs["network"], ours["messages"]),
        )
        counts = (f"{row[name]:,.2f} ({row[f'map_{name}']:,.2f})" for name in ("messages", "hops"))
        cells = (f"{a:,.0f} ({b:,.0f})" for a, b in pairs)
        lines.append((f"{row['chip']}, {row['cores']}", *counts, *cells))
    what = f"{rows[0]['network']} on {rows[0]['images']} test images of {rows[0]['data']}"
    heads = "chip, cores | messages | hops | synapses reached | pJ: synapses | neurons | messages"
    return table(heads, lines, f"{what}, the mean of a sample; `map`'s in brackets; {rows[0]['runs_in']}.")


# --- the command -------------------------------------------------------------------------------------


def main(
    run: Annotated[Path, typer.Argument(help="Folder of a run of a dense network, or its checkpoint.")],
    loihi: Annotated[Path | None, typer.Option(help="Python that has nengo-loihi.")] = None,
    sana: Annotated[Path | None, typer.Option(help="Python that has SANA-FE.")] = None,
    replayed: Annotated[int, typer.Option(help="Test images that SANA-FE replays.")] = 20,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the data.")] = None,
    output: Annotated[Path, typer.Option(help="JSON record; what is not run stays as it is.")] = RESULT,
) -> None:
    """Run a network in these simulators, compare, and write the record."""
    run_folder.check_writable(output)
    saved = run_folder.load(run)
    network, state = flat(saved)
    data = saved.extra.get("config", {}).get("data", "digits")
    images = np.asarray(load_for(saved, data, data_dir).test_images).reshape(-1, *network.input_shape)
    record = json.loads(output.read_text()) if output.exists() else {}
    if loihi:
        record["loihi1"] = {"data": data, **loihi1(network, state, images, loihi)}
    if sana:
        loihi2 = Chip.load("loihi2")
        record["sana_fe"] = [
            {"data": data, **in_sana_fe(network, state, images[:replayed], chip, sana)}
            for chip in (loihi2, replace(loihi2, **SMALL))
        ]
    record["versions"] = run_folder.versions()
    run_folder.write_text(output, json.dumps(record, indent=1) + "\n")
    typer.echo(f"written to {output}")


if __name__ == "__main__":
    alone(main)
