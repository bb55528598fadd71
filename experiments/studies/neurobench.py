"""NeuroBench's row of a trained network, by its metrics: `python -m experiments.studies.neurobench RUN`.

Footprint is ours to say, as their model holds whole-number weights in float32: 2 bits a weight to answer
with, 8 bits to learn with. Their effective operations are compared with those that our engine counts.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from experiments.records.names import short_name, table
from experiments.runs import run_folder
from experiments.runs.training import load_for
from experiments.studies import alone
from mappings.chips.cost import count_activity
from mappings.formats.inference import Inference
from wage_neuro.checkpoint import Checkpoint
from wage_neuro.engine import NumpyEngine
from wage_neuro.errors import EngineError

RESULT = Path("experiments/results/neurobench.json")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A network measured; bytes, shares of zeros, operations a sample.

    `effective` is theirs, summed in float32; `counted` is our engine's, of the same images.
    """

    network: str
    data: str
    images: int
    accuracy: float
    bytes_2_bits: int
    bytes_8_bits: int
    connection_sparsity: float
    activation_sparsity: float
    dense: float
    effective: float
    counted: float
    by: str
    commit: str


def measure(saved: Checkpoint, images: np.ndarray, labels: np.ndarray, data: str) -> Row:
    """Let NeuroBench measure a network on (n, ...) uint8 images.

    Raises
    ------
    EngineError
        If NeuroBench or PyTorch is not installed.
    """
    try:
        found = _theirs(saved, images, labels)
    except ImportError as error:
        raise EngineError(f'{error.name} is not installed: pip install "neurobench==2.3.0" torch') from None
    counted = count_activity(NumpyEngine(saved.network, state=saved.state), images)
    operations, weights = found["SynapticOperations"], saved.network.n_weights
    return Row(
        network=short_name(str(saved.network)),
        data=data,
        images=len(images),
        accuracy=float(found["ClassificationAccuracy"]),
        bytes_2_bits=-(-weights // 4),
        bytes_8_bits=weights,
        connection_sparsity=found["ConnectionSparsity"],
        activation_sparsity=found["ActivationSparsity"],
        dense=operations["Dense"],
        effective=operations["Effective_MACs"] + operations["Effective_ACs"],
        counted=float(sum(layer.effective or 0 for layer in counted)),
        by=f"NeuroBench {version('neurobench')}",
        commit=run_folder.versions()["commit"],
    )


def _theirs(saved: Checkpoint, images: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    import torch
    from neurobench.benchmarks import Benchmark
    from neurobench.metrics.static import ConnectionSparsity
    from neurobench.metrics.workload import ActivationSparsity, ClassificationAccuracy, SynapticOperations

    from mappings.formats import neurobench

    x = neurobench.codes_of(saved.network, images)
    samples = torch.utils.data.TensorDataset(x, torch.tensor(labels.astype(np.int64)))
    workload = [ClassificationAccuracy, ActivationSparsity, SynapticOperations]
    loader = torch.utils.data.DataLoader(samples, batch_size=20)
    model = neurobench.model_of(Inference.of(saved))
    benchmark = Benchmark(model, loader, [], [lambda Z: Z.argmax(-1)], [[ConnectionSparsity], workload])
    with torch.no_grad():
        measured: dict[str, Any] = benchmark.run(verbose=False)
    return measured


def read(path: Path) -> list[Row]:
    """Read a record."""
    return [Row(**row) for row in json.loads(path.read_text())["rows"]] if path.exists() else []


def neurobench_table(folder: Path) -> str:
    """A row a network."""
    heads = (
        "network, data | accuracy | bytes to answer (2 bits a weight) | to learn (8) | weights of 0"
        " | activations of 0 | dense operations | effective, by NeuroBench | by our engine"
    )
    found = read(folder / RESULT.name)
    rows = [
        (
            *(f"{row.network}, {row.data}", f"{row.accuracy:.2%} of {row.images:,}"),
            *(f"{n:,}" for n in (row.bytes_2_bits, row.bytes_8_bits)),
            *(f"{share:.1%}" for share in (row.connection_sparsity, row.activation_sparsity)),
            *(f"{n:,.0f}" for n in (row.dense, row.effective, row.counted)),
        )
        for row in found
    ]
    return table(heads, rows, f"Operations a sample; {', '.join(sorted({row.by for row in found}))}.")


def main(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or a checkpoint file.")],
    data: Annotated[
        str | None, typer.Option(help="Data set. [default: the run's]", show_default=False)
    ] = None,
    images: Annotated[int, typer.Option(help="Test images.")] = 1000,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the data.")] = None,
    output: Annotated[Path, typer.Option(help="JSON record.")] = RESULT,
) -> None:
    """Measure a network, and write its row in the place of an older one."""
    run_folder.check_writable(output)
    saved = run_folder.load(run)
    name = data or saved.extra.get("config", {}).get("data", "digits")
    found = load_for(saved, name, data_dir)
    row = measure(saved, np.asarray(found.test_images)[:images], np.asarray(found.test_labels)[:images], name)
    rows = {(one.network, one.data): one for one in [*read(output), row]}
    run_folder.write_text(output, json.dumps({"rows": [asdict(r) for r in rows.values()]}, indent=1) + "\n")
    typer.echo(row)


if __name__ == "__main__":
    alone(main)
