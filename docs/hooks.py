"""The documentation's pages: every README, in its place, and a page of each module's docstrings."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ("wage_neuro", "processes", "mappings", "experiments")
NOT_SHOWN = ("experiments.campaign", "experiments.benchmarks")


def on_files(files: Files, config: Any) -> Files:
    """Add what is in the repository."""
    for name in _tracked("*.md", "*.png", "LICENSE", "CITATION.cff", "*.toml", "*.schema.json"):
        if not name.startswith(("docs/", "tests/golden/")):
            uri = "index.md" if name == "README.md" else name.replace("README.md", "index.md")
            files.append(_page(config, uri, ROOT / name))
    for module in _modules():
        text = f"# {module}\n\n::: {module}\n    options:\n      show_root_heading: false\n"
        files.append(File.generated(config, f"api/{module.replace('.', '/')}.md", content=text))
    return files


def _page(config: Any, uri: str, path: Path) -> File:
    if path.suffix != ".md":
        return File.generated(config, uri, abs_src_path=str(path))
    return File.generated(config, uri, content=path.read_text().replace("README.md", "index.md"))


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
