"""What the export tests share: networks as a training leaves them, and files made to lie."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from mappings.formats.inference import Inference
from wage_neuro import Network, NumpyEngine, Rules
from wage_neuro.checkpoint import Checkpoint
from wage_neuro.errors import CheckpointError

# text, input shape, bits, signed input
NETWORKS = {
    "dense": ("F-16FC-9FC-5FC", (7, 6, 2), "2888", False),
    "features": ("20FC-4FC", (13,), "2688", False),
    "lenet": ("6C5-MP2-8C5-MP2-F-12FC-4FC", (13, 12, 1), "2888", False),
    "vgg": ("4C3-5C3-MP2-6C3-MP2-F-9FC-4FC", (12, 12, 3), "2888", True),
    "strides": ("5C5S2-6C4S3-F-7FC-4FC", (11, 14, 3), "2888", True),
    "valid": ("4C3V-MP3S2-5C2V-F-3FC", (12, 11, 2), "2888", False),
    "wide": ("4C4-MP2-F-8FC-3FC", (8, 9, 1), "3588", False),
}


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> Network:
    text, shape, bits, signed = NETWORKS[request.param]
    return Network.parse(text, shape, bits=bits, signed_input=signed)


def _trained(network: Network, rules: Rules = Rules(batch=8), steps: int = 3, seed: int = 1) -> Checkpoint:  # noqa: B008
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (steps * rules.batch, *network.input_shape)).astype(np.uint8)
    labels = rng.integers(0, network.classes, len(images))
    with NumpyEngine(network, rules, seed=seed) as engine:
        engine.train(images, labels, 1)
        return Checkpoint(network, rules, engine.state, {"config": {"data": "digits"}})


@pytest.fixture(scope="session")
def trained() -> Callable[..., Checkpoint]:
    """Learn a few batches of noise, so that stored weights are no longer the seed's."""
    return _trained


@pytest.fixture
def inference(network: Network) -> Inference:
    return Inference.of(_trained(network))


@pytest.fixture(scope="session")
def images_of() -> Callable[..., np.ndarray]:
    """(n, ...) uint8 images for a network: bright ones too, so that activations saturate."""

    def make(network: Network, n: int = 40, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        dark = rng.integers(0, 256, (n, *network.input_shape)) * (rng.random((n, *network.input_shape)) < 0.4)
        return np.where(np.arange(n).reshape(-1, *[1] * (dark.ndim - 1)) % 4 == 0, 255, dark).astype(np.uint8)

    return make


@pytest.fixture(scope="session")
def leaves_alone() -> Callable[..., None]:
    """Check that a writer that refuses leaves no file, and an older one as it was."""

    def check(write: Callable[[Path], None], folder: Path, error: type[Exception], match: str) -> None:
        folder.mkdir()
        (folder / "old").write_text("as it was")
        for name in ("new", "old"):
            with pytest.raises(error, match=match):
                write(folder / name)
        assert [path.name for path in folder.iterdir()] == ["old"]
        assert (folder / "old").read_text() == "as it was"

    return check


@pytest.fixture(scope="session")
def assert_refused() -> Callable[..., None]:
    """Check that a reader refuses a file in one short line that begins with its name."""

    def check(read: Callable[[Path], object], file: Path, match: str) -> None:
        with pytest.raises(CheckpointError, match=match) as refused:
            read(file)
        line = str(refused.value)
        assert line.startswith(f"{file}: ")
        assert "\n" not in line
        assert len(line) < 500

    return check


# --- operating-system processes ----------------------------------------------------------------------


def _descendants(pid: int | None = None) -> set[int]:
    """Living processes that a process, this one if none is named, or a child of it has started."""
    found, parents, table = set(), {pid or os.getpid()}, {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            table[int(entry.name)] = int(fields[1])
    while parents:
        parents = {pid for pid, parent in table.items() if parent in parents} - found
        found |= parents
    return found


def _named_memory(pid: int) -> tuple[set[str], int]:
    """Names in /dev/shm of what a process has mapped, and how many pieces there have none any more."""
    try:
        paths = [line.split(maxsplit=5)[5:] for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
    except OSError:
        return set(), 0
    there = [path[0] for path in paths if path and path[0].startswith("/dev/shm/")]
    names = {path for path in there if not path.endswith(" (deleted)")}
    return names, len(there) - len(names)


@pytest.fixture(scope="session")
def descendants() -> Callable[..., set[int]]:
    return _descendants


@pytest.fixture(scope="session")
def named_memory() -> Callable[[int], tuple[set[str], int]]:
    return _named_memory


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Fail if a test leaves a process, or anything in /dev/shm that this one has made."""
    before, names = _descendants(), _named_memory(os.getpid())[0]
    yield
    deadline = time.monotonic() + 5
    while _descendants() - before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _descendants() - before, "orphan processes"
    assert _named_memory(os.getpid())[0] <= names, "leaked shared memory"
