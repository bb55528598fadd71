"""A trained network where others run theirs: `python -m experiments.studies.ports RUN --in snntorch,norse`.

The network is exported, read by a library that is not ours, and its answers to the test images are compared,
logit by logit, with the numpy engine's. What is not installed is left out; `make test-ports` makes an
environment that has it all. A row a library goes into the record, in the place of an older one.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from experiments.records.names import short_name
from experiments.runs import run_folder
from experiments.runs.training import load_for
from experiments.studies import alone
from mappings.formats.registry import FORMATS
from wage_neuro.checkpoint import Checkpoint
from wage_neuro.errors import EngineError, SettingError
from wage_neuro.network import Network
from wage_neuro.train import predict

RESULT = Path("experiments/results/ports.json")
CHUNK = 100  # images at once


@dataclass(frozen=True, kw_only=True)
class Row:
    """A network in a library.

    Attributes
    ----------
    to : what `wage-neuro export --to` calls the format
    runs_in : what read it and ran it, with its version
    images : test images
    logits_differ, classes_differ : of so many images, from the numpy engine's
    bytes : of the file
    commit : that it was run at
    """

    to: str
    runs_in: str
    network: str
    data: str
    images: int
    logits_differ: int
    classes_differ: int
    bytes: int
    commit: str


Answer = Callable[[np.ndarray], np.ndarray]
"""(n, channels, height, width) input codes to (n, classes) logits."""


@dataclass(frozen=True)
class Library:
    """What can run an exported network.

    Attributes
    ----------
    to : the format
    package : whose version is noted
    load : from the file to what answers
    """

    to: str
    package: str
    load: Callable[[Path], Answer]


# --- the libraries -----------------------------------------------------------------------------------


def _torch(model: Any) -> Answer:
    """A module that answers a batch in one time step."""
    import torch

    def answer(x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            out = model(torch.tensor(x.astype(np.float32)))
        while isinstance(out, tuple):  # and states
            out = out[0]
        return out.numpy().reshape(len(x), -1)

    return answer


def _graph(path: Path) -> Any:
    import nir

    return nir.read(path)


def _snntorch(path: Path) -> Answer:
    def answer(x: np.ndarray) -> np.ndarray:
        import snntorch
        from snntorch.import_nir import import_from_nir

        model = import_from_nir(_graph(path))
        for (
            module
        ) in model.modules():  # snntorch 1.0.0 forgets it for IF, and hands its state to the next node
            if isinstance(module, snntorch.Leaky):
                module.init_hidden = True
        return _torch(model)(x)

    return answer


def _norse(path: Path) -> Answer:
    import norse.torch

    return lambda x: _torch(norse.torch.from_nir(_graph(path), dt=1.0))(x)


def _sinabs(path: Path) -> Answer:
    import sinabs.nir

    return lambda x: _torch(sinabs.nir.from_nir(_graph(path), batch_size=len(x), num_timesteps=1))(x)


def _nirtorch(path: Path) -> Answer:
    """With a module for IF, which nirtorch leaves to its user."""
    import nir
    import nirtorch
    import torch

    class IF(torch.nn.Module):
        def __init__(self, node: nir.IF) -> None:
            super().__init__()
            self.threshold = torch.as_tensor(node.v_threshold)

        def forward(self, x: Any) -> Any:
            return (x > self.threshold).to(x.dtype)

    return _torch(nirtorch.nir_to_torch(_graph(path), {nir.IF: IF}))


def _onnxruntime(path: Path) -> Answer:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    return lambda x: session.run(None, {given.name: x.astype(_numpy_type(given.type))})[0]


def _numpy_type(text: str) -> str:
    """`tensor(int8)` as numpy calls it."""
    return {"float": "float32"}.get(text[7:-1], text[7:-1])


def _onnx_reference(path: Path) -> Answer:
    import onnx
    from onnx.reference import ReferenceEvaluator

    model = onnx.load(path)
    given = model.graph.input[0]
    kind = onnx.helper.tensor_dtype_to_np_dtype(given.type.tensor_type.elem_type)
    return lambda x: ReferenceEvaluator(model).run(None, {given.name: x.astype(kind)})[0]


LIBRARIES = {
    "snntorch": Library("nir-if", "snntorch", _snntorch),
    "norse": Library("nir-if", "norse", _norse),
    "sinabs": Library("nir-if", "sinabs", _sinabs),
    "nirtorch": Library("nir-if", "nirtorch", _nirtorch),
    "onnxruntime": Library("onnx", "onnxruntime", _onnxruntime),
    "onnxruntime-qlinear": Library("onnx-qlinear", "onnxruntime", _onnxruntime),
    "onnx-reference": Library("onnx", "onnx", _onnx_reference),
}


# --- one network in one of them ----------------------------------------------------------------------


def codes_of(network: Network, to: str, images: np.ndarray) -> np.ndarray:
    """Input codes as a format takes them, channels first; nir-if has (features, 1, 1) of a dense network."""
    x = np.moveaxis(network.encode(images), -1, 1) if images.ndim == 4 else network.encode(images)
    if to == "nir-if" and x.ndim == 2:
        x = x[:, :, None, None]
    return np.ascontiguousarray(x)


def compare(saved: Checkpoint, name: str, images: np.ndarray, data: str, folder: Path) -> Row:
    """Export a network, let a library answer to (n, ...) uint8 images, and compare.

    Raises
    ------
    EngineError
        If the library is not installed.
    """
    library, network = LIBRARIES[name], saved.network
    path = folder / library.to
    FORMATS.find(library.to).write(path, saved)
    try:
        answer = library.load(path)
    except ImportError as error:
        raise EngineError(f"{name}: {error.name} is not installed") from None
    logits = predict(network, saved.state, network.encode(images))
    x = codes_of(network, library.to, images)
    found = np.concatenate([answer(x[i : i + CHUNK]) for i in range(0, len(x), CHUNK)])
    return Row(
        to=library.to,
        runs_in=f"{name} {version(library.package)}",
        network=short_name(str(network)),
        data=data,
        images=len(images),
        logits_differ=int((found != logits).any(axis=1).sum()),
        classes_differ=int((found.argmax(axis=1) != logits.argmax(axis=1)).sum()),
        bytes=path.stat().st_size,
        commit=run_folder.versions()["commit"],
    )


def read(path: Path) -> list[Row]:
    """Read a record."""
    return [Row(**row) for row in json.loads(path.read_text())["rows"]] if path.exists() else []


def write(path: Path, rows: list[Row]) -> None:
    """Write rows, in the place of those of the same network in the same library of any version."""
    found = {(row.to, row.runs_in.split()[0], row.network, row.data): row for row in [*read(path), *rows]}
    run_folder.write_text(path, json.dumps({"rows": [asdict(r) for r in found.values()]}, indent=1) + "\n")


def main(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or a checkpoint file.")],
    libraries: Annotated[str, typer.Option("--in", help="Joined by commas.")] = ",".join(LIBRARIES),
    data: Annotated[
        str | None, typer.Option(help="Data set. [default: the run's]", show_default=False)
    ] = None,
    images: Annotated[
        int | None, typer.Option(help="Test images. [default: all]", show_default=False)
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the data.")] = None,
    output: Annotated[Path, typer.Option(help="JSON record.")] = RESULT,
) -> None:
    """Compare a network's answers in these libraries, and write the record."""
    names = libraries.split(",")
    if not set(names) <= set(LIBRARIES):
        raise SettingError(f"in={libraries}: want some of {', '.join(LIBRARIES)}")
    run_folder.check_writable(output)
    saved = run_folder.load(run)
    data = data or saved.extra.get("config", {}).get("data", "digits")
    x = np.asarray(load_for(saved, data, data_dir).test_images)[:images]
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            try:
                row = compare(saved, name, x, data, Path(folder))
            except EngineError as error:
                typer.echo(error)
                continue
        typer.echo(f"{row.runs_in}, {row.to}: logits of {row.logits_differ} of {row.images} images differ")
        write(output, [row])


if __name__ == "__main__":
    alone(main)
