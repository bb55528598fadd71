"""HDF5 files are read in a process of their own first: damaged, the library may hang, die or take all memory.

Run as a script it is that process: it compares what the file declares with the network that it names, then
reads every byte, and says what is wrong.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import h5py

ROOT = Path(__file__).resolve().parents[2]
CPU_S = 10  # and a tenth of a second each MiB
SPARE = 1 << 22  # bytes beside weights and thresholds
ROOM = 1 << 31  # address space of Python and its libraries
DEPTH = 20  # groups in groups
PACKED = 256  # times that ternary weights and equal thresholds are smaller in a file
_HEADERS = {"netx": "its attribute 'wage_neuro'", "nir": "its metadata 'wage_neuro'"}


def check(path: Path) -> str:
    """Read a whole HDF5 file in a child process, within limits; return its kind, 'netx', 'nir' or 'nir-if'.

    Raises
    ------
    FileNotFoundError
        If there is none.
    CheckpointError
        If it is damaged, declares more than its network has, or wage-neuro did not write it.
    """
    found = path.stat()
    return _checked(path, found.st_size, found.st_ino, found.st_ctime_ns)


@lru_cache(maxsize=8)
def _checked(path: Path, size: int, *changes: int) -> str:
    """What a file is that has not changed is asked once, though each format asks, and then its reader."""
    from wage_neuro.errors import CheckpointError

    seconds = CPU_S + size / (10 << 20)
    words = [sys.executable, __file__, str(path.resolve()), str(math.ceil(seconds))]
    try:
        child = subprocess.run(words, capture_output=True, text=True, timeout=10 * seconds, check=False)
    except subprocess.TimeoutExpired:
        raise CheckpointError("truncated or damaged HDF5 (the library hangs on it)") from None
    found: dict[str, str] = {}
    with suppress(ValueError):
        found = json.loads(child.stdout)
    if "kind" in found:
        return found["kind"]
    what = "the library hangs on it or dies of it" if child.returncode < 0 else "the library cannot read it"
    raise CheckpointError(found.get("error", f"truncated or damaged HDF5 ({what})"))


# --- in the child ------------------------------------------------------------------------------------


def _datasets(group: h5py.Group, depth: int = 0) -> Iterator[h5py.Dataset]:
    import h5py

    if depth > DEPTH:
        raise ValueError(f"more than {DEPTH} groups in each other")
    for name in group:
        held = group[name]
        if isinstance(held, h5py.Group):
            yield from _datasets(held, depth + 1)
        elif isinstance(held, h5py.Dataset):
            yield held


def _declared(file: h5py.File) -> int:
    """Bytes that the file says its arrays have."""
    return sum(math.prod(found.shape or ()) * found.dtype.itemsize for found in _datasets(file))


def _most(text: str, spiking: bool) -> int:
    """Bytes that the arrays of a network may have."""
    from mappings.formats.inference import network_of

    network = network_of(json.loads(text))
    if spiking:
        from mappings.formats.nir_if import values

        return 8 * values(network) + SPARE
    places = sum(math.prod(layer.z_shape) + math.prod(layer.out_shape) for layer in network.layers)
    levels = max(layer.bits.activation_max for layer in network.layers)
    return 32 * network.n_weights + 8 * places * (levels + 2) + SPARE


def _check_room(file: h5py.File, path: str) -> None:
    """Refuse the file of others that says much more than it can hold."""
    from wage_neuro.errors import CheckpointError
    from wage_neuro.room import in_words

    declared, most = _declared(file), PACKED * Path(path).stat().st_size + 16 * SPARE
    if declared > most:
        raise CheckpointError(
            f"damaged: its arrays would take {in_words(declared)}; such a file has {in_words(most)} at most"
        )
    for found in _datasets(file):
        found[()]


def _kind(path: str) -> str:
    import h5py

    from wage_neuro.errors import CheckpointError
    from wage_neuro.room import in_words

    with h5py.File(path, "r") as file:
        kind = "netx" if "layer" in file else "nir"
        place: Any = file.attrs if kind == "netx" else file.get("node/metadata", {})
        if kind == "nir" and "node" in file and not {"wage_neuro", "input_codes"} & set(place):
            _check_room(file, path)
            return kind
        if "wage_neuro" not in place:
            what = {"netx": "a netx file", "nir": "a NIR graph"}[kind]
            raise CheckpointError(f"{what} that wage-neuro did not write: no {_HEADERS[kind][4:]}")
        text = place["wage_neuro"] if kind == "netx" else place["wage_neuro"][()]
        spiking = kind == "nir" and "form" in place
        declared, most = _declared(file), _most(text, spiking)
        if declared > most:
            raise CheckpointError(
                f"damaged: its arrays would take {in_words(declared)}; the network that it names has"
                f" {in_words(most)} at most"
            )
        for found in _datasets(file):
            found[()]
        return "nir-if" if spiking else kind


def _main(path: str, seconds: str) -> None:
    sys.path[0] = str(ROOT)  # not the folder of this file, whose names are those of libraries
    with suppress(ImportError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds) + 1))
        free = resource.getrlimit(resource.RLIMIT_AS)[1]
        if free == resource.RLIM_INFINITY:
            from wage_neuro.room import free_memory

            resource.setrlimit(resource.RLIMIT_AS, (free_memory() + ROOM, free))
    try:
        print(json.dumps({"kind": _kind(path)}))
    except Exception as error:  # h5py, numpy and JSON raise many kinds on damaged bytes
        from wage_neuro.errors import WageError

        text = " ".join(str(error).split())[:300] or type(error).__name__
        known = isinstance(error, WageError)
        print(json.dumps({"error": text if known else f"truncated or damaged HDF5 ({text})"}))


if __name__ == "__main__":
    _main(*sys.argv[1:])
