"""What the site shows that must be run first: the output of every example, and the report of the demo run.

`make docs` runs it. What was made of the same code is kept.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MADE = ROOT / "build" / "made"
EXAMPLES = ROOT / "experiments" / "examples"
NEEDS_LAVA = ("lava", "your_own_data_in_lava")
MOST_S = 1200


def main() -> None:
    """Run whatever is not there."""
    key = _code()
    if (MADE / "code").exists() and (MADE / "code").read_text() != key:
        shutil.rmtree(MADE)
    (MADE / "examples").mkdir(parents=True, exist_ok=True)
    (MADE / "code").write_text(key)
    for script in examples():
        if not output_of(script).exists():
            print(f"running {script.relative_to(ROOT)}", flush=True)
            _run_example(script)
    if not (MADE / "demo" / "report.html").exists():
        print("running wage-neuro demo", flush=True)
        _run_demo()


def examples() -> list[Path]:
    """Every example."""
    return sorted(path for path in EXAMPLES.rglob("*.py") if path.stem != "__init__")


def output_of(script: Path) -> Path:
    """Where the output of an example is kept."""
    return MADE / "examples" / f"{'.'.join(script.relative_to(EXAMPLES).with_suffix('').parts)}.txt"


def _run_example(script: Path) -> None:
    name = ".".join(script.relative_to(ROOT).with_suffix("").parts)
    if not find_spec("lava") and any(word in script.relative_to(EXAMPLES).parts for word in NEEDS_LAVA):
        output_of(script).write_text("(Lava is not installed where this page was made.)\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            said = _run(folder, "-m", name)
        except SystemExit as error:
            lacks = re.search(r"ModuleNotFoundError: No module named '(\w+)'", str(error))
            if not lacks:
                raise
            said = f"({lacks[1]} is not installed where this page was made.)\n"
        output_of(script).write_text(said)


def _run_demo() -> None:
    demo = MADE / "demo"
    demo.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        engine = () if find_spec("lava") else ("--engine", "numpy")
        said = _run(folder, "-m", "experiments.entry", "demo", *engine)
        (run,) = Path(folder, "runs").iterdir()
        _run(folder, "-m", "experiments.entry", "report", str(run), "--output", str(demo / "report.html"))
    (demo / "said.txt").write_text(said)


def _run(folder: str, *words: str) -> str:
    """Run Python in a folder, and return what it prints; its last line is told if it fails."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path, "COLUMNS": "100", "MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=MOST_S
    )
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise SystemExit(f"docs: {' '.join(words)}: ended with {done.returncode}: {''.join(last)}")
    return done.stdout


def _code() -> str:
    """A checksum of all code."""
    held = hashlib.sha256()
    for words in (
        ("ls-files", "-s", "*.py", "*.cpp", "*.js"),
        ("diff", "HEAD", "--", "*.py", "*.cpp", "*.js"),
    ):
        held.update(subprocess.run(["git", *words], cwd=ROOT, capture_output=True, check=True).stdout)
    return held.hexdigest()


if __name__ == "__main__":
    main()
