"""Build the compiled kernels: `python -m wage_neuro.kernels.build`.

With the system's C++ compiler, or with the one that comes as the wheel `ziglang`. Where there is neither, one
line says so, and numpy does all the work.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "source"
LIBRARY = HERE / "libwage.so"

_AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni", "-mprefer-vector-width=512"]
_X86 = {"avx512vnni": (3, _AVX512), "avxvnni": (2, ["-mavx2", "-mavxvnni"]), "avx2": (1, ["-mavx2"])}
_FLAGS = [
    *("-std=c++17", "-O3", "-fPIC", "-pthread", "-fvisibility=hidden", "-fno-strict-aliasing"),
    *("-Wall", "-Wextra", "-Werror", "-Wno-psabi"),
]
_SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g"]


def version() -> str:
    """Name of what the library is made from: twelve hexadecimal digits of the source's hash."""
    digest = hashlib.sha256()
    for path in sorted(SOURCE.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def instruction_sets() -> dict[str, tuple[int, list[str]]]:
    """Forms of the kernels for this kind of machine, best first: level in the source, and flags."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    return {**(_X86 if x86 else {}), "generic": (0, [])}


def compilers() -> Iterator[list[str]]:
    """Commands that may be a C++ compiler, the system's own first."""
    for name in filter(None, (os.environ.get("CXX"), "c++", "g++", "clang++")):
        if shutil.which(name):
            yield [name]
    if find_spec("ziglang"):
        yield [sys.executable, "-m", "ziglang", "c++"]


def compile_library(compiler: list[str], target: Path, extra: list[str]) -> None:
    """Make the library with one compiler; the file appears whole or not at all.

    Raises
    ------
    subprocess.CalledProcessError
        If it does not compile; its stderr says why.
    """
    sets = instruction_sets()

    def run(*arguments: str) -> None:
        subprocess.run([*compiler, *_FLAGS, *extra, *arguments], check=True, capture_output=True, text=True)

    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".build-") as folder:
        objects = []
        source, shared = str(SOURCE / "native.cpp"), f"-DWAGE_SETS(X)={' '.join(f'X({s})' for s in sets)}"
        for name, (level, flags) in sets.items():
            objects.append(f"{folder}/{name}.o")
            run("-c", source, f"-DLEVEL={level}", f"-DNAME={name}", *flags, "-o", objects[-1])
        objects.append(f"{folder}/shared.o")
        run("-c", source, "-DSHARED", shared, f'-DVERSION="{version()}"', "-o", objects[-1])
        run("-shared", *objects, "-o", f"{folder}/libwage.so")
        os.replace(f"{folder}/libwage.so", target)


def build(target: Path = LIBRARY, extra: list[str] | None = None) -> str:
    """Build the library unless it is there already; return one line that says what was done."""
    if target.exists() and not extra and version().encode() in target.read_bytes():
        return f"compiled kernels {version()}: up to date"
    reason = "no C++ compiler found (c++, g++, clang++ or the wheel ziglang)"
    for compiler in compilers():
        try:
            compile_library(compiler, target, extra or [])
        except (OSError, subprocess.CalledProcessError) as error:
            lines = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
            reason = f"{' '.join(compiler)}: {next((line for line in lines if 'error' in line), lines[-1])}"
            continue
        return (
            f"compiled kernels {version()}: {', '.join(instruction_sets())}, made with {' '.join(compiler)}"
        )
    raise OSError(f"compiled kernels: {reason}; all works on numpy, more slowly")


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the compiled kernels.")
    parser.add_argument("--output", type=Path, default=LIBRARY, help="where to write the library")
    parser.add_argument(
        "--sanitize", action="store_true", help="with the sanitizers of addresses and undefined behaviour"
    )
    options = parser.parse_args()
    try:
        print(build(options.output, _SANITIZERS if options.sanitize else None))
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
