"""The documentation's pages: every README, in its place, and a page of each module's docstrings.

With what `made.py` has run: a page of each example, its output below it, and the demo run with its report.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))
import made

ROOT = made.ROOT
FLOORS = ("wage_neuro", "processes", "mappings", "experiments")
NOT_SHOWN = ("experiments.campaign", "experiments.benchmarks")


def on_files(files: Files, config: Any) -> Files:
    """Add what is in the repository."""
    for name in _tracked(
        "*.md", "*.png", "LICENSE", "CITATION.cff", "*.toml", "*.schema.json", "experiments/examples/*.py"
    ):
        if not name.startswith(("docs/", "tests/golden/")):
            uri = "index.md" if name == "README.md" else name.replace("README.md", "index.md")
            files.append(_page(config, uri, ROOT / name))
    if made.MADE.exists():
        for script in made.examples():
            uri = str(script.relative_to(ROOT).with_suffix(".md"))
            files.append(File.generated(config, uri, content=_example(script)))
        report = made.MADE / "demo" / "report.html"
        files.append(File.generated(config, "demo/report.html", abs_src_path=str(report)))
        files.append(File.generated(config, "demo/index.md", content=_demo()))
    for module in _modules():
        text = f"# {module}\n\n::: {module}\n    options:\n      show_root_heading: false\n"
        files.append(File.generated(config, f"api/{module.replace('.', '/')}.md", content=text))
    return files


def _example(script: Path) -> str:
    output = made.output_of(script).read_text()
    name = ".".join(script.relative_to(ROOT).with_suffix("").parts)
    return (
        f"# {script.stem}\n\n`python -m {name}`\n\n```python\n{script.read_text()}```\n\n"
        f"It prints\n\n```text\n{output}```\n"
    )


def _demo() -> str:
    said = (made.MADE / "demo" / "said.txt").read_text()
    return (
        "# The demo run\n\n`make demo` trains a ternary network on handwritten digits, with integers alone."
        " [The report of this run](report.html) is what `wage-neuro report` makes: one file,"
        f" offline.\n\n```text\n{said}```\n"
    )


def _page(config: Any, uri: str, path: Path) -> File:
    if path.suffix != ".md":
        return File.generated(config, uri, abs_src_path=str(path))
    text = path.read_text().replace("README.md", "index.md")
    if path.parent == made.EXAMPLES and made.MADE.exists():
        text = re.sub(r"\]\(([\w/]+)\.py\)", r"](\1.md)", text)  # with the output
    return File.generated(config, uri, content=text)


def _modules() -> list[str]:
    found = []
    for name in _tracked("*.py"):
        path = Path(name)
        module = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
        shown = path.parts[0] in FLOORS and not module.startswith(NOT_SHOWN)
        if shown and (ROOT / name).read_text().startswith('"""'):
            found.append(module)
    return found


def _tracked(*patterns: str) -> list[str]:
    done = subprocess.run(
        ["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.split("\n")[:-1]
