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
from concurrent.futures import ThreadPoolExecutor
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


def _seal(content: bytes, version: str) -> bytes:
    return version.encode() + hashlib.sha256(content + version.encode()).digest()


def version_of(library: Path) -> str | None:
    """Version of a library, from the seal behind its end; None if any byte of it is not what was written."""
    content, seal = library.read_bytes()[:-44], library.read_bytes()[-44:]
    found = seal[:12].decode(errors="replace")
    return found if seal == _seal(content, found) else None


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
        shared = f"-DWAGE_SETS(X)={' '.join(f'X({s})' for s in sets)}", "-DSHARED"
        parts = {
            name: [f"-DLEVEL={level}", f"-DNAME={name}", *flags] for name, (level, flags) in sets.items()
        }
        parts["shared"] = [*shared]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(
                pool.map(
                    lambda part: run(
                        "-c", str(SOURCE / "native.cpp"), *parts[part], "-o", f"{folder}/{part}.o"
                    ),
                    parts,
                )
            )
        run("-shared", *(f"{folder}/{part}.o" for part in parts), "-o", f"{folder}/{target.name}")
        with open(f"{folder}/{target.name}", "ab") as file:
            file.write(_seal(Path(file.name).read_bytes(), version()))
        os.replace(file.name, target)


def build(target: Path = LIBRARY, extra: list[str] | None = None) -> str:
    """Build the library unless it is there already; return one line that says what was done."""
    if target.exists() and not extra and version_of(target) == version():
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
