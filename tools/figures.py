"""Figures of the house, of the modules outside the tests: `python tools/figures.py [FOLDER]`."""

from __future__ import annotations

import ast
import sys
from collections import Counter
from pathlib import Path

FLOORS = ("wage_neuro", "processes", "mappings", "experiments")
RUN = 6  # equal lines that count as written twice


def functions(tree: ast.Module) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def arguments(function: ast.FunctionDef, positional: bool = False) -> int:
    """How many arguments a caller may give; `self` and `cls` do not count."""
    given = [*function.args.posonlyargs, *function.args.args]
    own = bool(given) and given[0].arg in ("self", "cls")
    return len(given) - own + (0 if positional else len(function.args.kwonlyargs))


def private_imports(tree: ast.Module) -> int:
    """Names with an underscore that come from another module."""
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    return sum(
        a.name.startswith("_") and not a.name.startswith("__")
        for n in froms
        if n.module and n.module.split(".")[0] in FLOORS
        for a in n.names
    )


def twice(texts: dict[Path, str]) -> int:
    """Lines within runs of RUN lines that stand elsewhere too; imports and lone brackets do not count."""
    lines = {
        path: [s for line in text.splitlines() if len(s := line.strip()) > 3 and "import " not in s]
        for path, text in texts.items()
    }
    runs = Counter(tuple(own[i : i + RUN]) for own in lines.values() for i in range(len(own) - RUN + 1))
    found = 0
    for own in lines.values():
        starts = {i for i in range(len(own) - RUN + 1) if runs[tuple(own[i : i + RUN])] > 1}
        found += len({i + k for i in starts for k in range(RUN)})
    return found


def main(root: Path) -> None:
    texts = {p.relative_to(root): p.read_text() for f in FLOORS for p in sorted((root / f).rglob("*.py"))}
    trees = {path: ast.parse(text) for path, text in texts.items()}
    named = [(path, each) for path, tree in trees.items() for each in functions(tree)]
    lines = {path: text.count("\n") for path, text in texts.items()}
    length = {(path, f.name): (f.end_lineno or f.lineno) - f.lineno + 1 for path, f in named}
    triton = "triton_kernels"  # a kernel's arguments are its launch
    here = [(path, f) for path, f in named if path.stem != triton]
    most = max(here, key=lambda each: arguments(each[1]))
    path_of_learning = [(p, f) for p, f in here if p.parts[0] == "wage_neuro" and f.name != "__init__"]
    widest = max(path_of_learning, key=lambda each: arguments(each[1], positional=True))
    tests = sum(p.read_text().count("\n") for p in (root / "tests").rglob("*.py"))
    print(f"modules {len(texts)}, lines {sum(lines.values()):,}, of tests {tests:,}")
    print("lines of each floor", {f: sum(n for p, n in lines.items() if p.parts[0] == f) for f in FLOORS})
    print("longest module", *max(lines.items(), key=lambda each: each[1]))
    print("longest function", *max(length.items(), key=lambda each: each[1]))
    print("most arguments", arguments(most[1]), most[0], most[1].name)
    print("most in wage_neuro, by place", arguments(widest[1], positional=True), widest[0], widest[1].name)
    print("private names from other modules", sum(map(private_imports, trees.values())))
    print(f"lines in runs of {RUN} that stand twice", twice(texts))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
