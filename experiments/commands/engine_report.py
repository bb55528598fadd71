"""What is installed here and how fast it is: `wage-neuro engines`."""

from __future__ import annotations

import os
import time
from importlib import metadata
from importlib.util import find_spec

import numpy as np
from rich.table import Table

from experiments.engines import ENGINES, NAMES, make_engine
from wage_neuro import Network, Rules, initial_state
from wage_neuro.errors import WageError
from wage_neuro.kernels import native
from wage_neuro.kernels.numpy_kernels import thread_count

SECONDS = 5.0
"""What the speed test of all engines together takes, beside their setting up."""
NETWORK = Network.parse("64FC", (8, 8, 1), 10)
BATCH = 16
ONE_BY_ONE = Rules(batch=1, shift="held", update="ternary", loss="one-sided")
"""Of the hardware, which knows nothing else."""
_PACKAGES = {"lava": "lava-nc", "rtl": "amaranth"}  # where the name of an engine is not its own


def blas_kernel() -> str:
    """The BLAS that numpy's products run in, and the kernel that it has chosen for this processor."""
    if not find_spec("threadpoolctl"):
        return "unknown (threadpoolctl is not installed)"
    from threadpoolctl import threadpool_info

    found = [info for info in threadpool_info() if info["user_api"] == "blas"]
    if not found:
        return "none that threadpoolctl knows"
    info = found[0]
    forced = os.environ.get("OPENBLAS_CORETYPE")
    named = f"{info['internal_api']} {info['version']}, kernel {info.get('architecture', 'unknown')}"
    return f"{named}, forced by OPENBLAS_CORETYPE={forced}" if forced else named


def compiled_kernels() -> str:
    """The instruction set in use, and those that could be forced; or why there is none."""
    try:
        used = native.instruction_set()
    except WageError as error:
        return str(error)
    return f"{used} in use, of {', '.join(native.instruction_sets())} ({native.VARIABLE} forces one)"


def version_of(engine: str) -> str:
    """Version of the package that an engine stands on, or that it is not here."""
    if engine == "compiled":
        return "built" if native.is_here() else "not built"
    try:
        package = _PACKAGES.get(engine, engine)
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return "not here"


def speed(engine: str, seconds: float) -> float:
    """Samples a second that an engine learns of one small net, once it is set up; in batches where it can."""
    rules = ONE_BY_ONE if ENGINES.find(engine).supports.one_by_one else Rules(batch=BATCH)
    n, rng = rules.batch, np.random.default_rng(0)
    images = (rng.integers(0, 256, (n, 8, 8, 1)) * (rng.random((n, 8, 8, 1)) < 0.5)).astype(np.uint8)
    labels = rng.integers(0, 10, n)
    with make_engine(engine, NETWORK, rules, initial_state(NETWORK)) as built:
        built.train(images, labels, 0)
        calls, began = 0, time.perf_counter()
        while (passed := time.perf_counter() - began) < seconds:
            built.train(images, labels, 0)
            calls += 1
    return calls * n / passed


def installation() -> list[str]:
    """Lines about what is in use here."""
    return [
        f"compiled kernels  {compiled_kernels()}",
        f"BLAS of numpy     {blas_kernel()}",
        f"threads           {thread_count()} (WAGE_NEURO_THREADS sets them; no bit depends on it)",
    ]


def speeds(seconds: float = SECONDS) -> Table:
    """A table of the engines with their speed, or what they need."""
    table = Table("engine", "stands on", f"{NETWORK}, batches of {BATCH}", "has not")
    for name in NAMES:
        has_not = ""
        try:
            has_not = ", ".join(ENGINES.find(name).supports.has_not)
            found = f"{speed(name, seconds / len(NAMES)):,.0f} samples/s"
        except WageError as error:
            found = f"needs {ENGINES.needs(name)}" if version_of(name) == "not here" else str(error)
        table.add_row(name, version_of(name), found, has_not)
    return table
