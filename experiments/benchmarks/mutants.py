"""Would a test notice? `python -m experiments.benchmarks.mutants`, or `make mutants`.

Changes one place of a file at a time, as a slip of the hand would (cosmic-ray makes the mutants), and runs
the tests of that file in a copy of the work tree. A mutant that no test kills is named with its line. A file
is tested by its own doctests and the tests that import it, or else those that import what imports it; tests
of a library that is not installed are none.

The files are those given, or those that have changed since the record was last committed.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypedDict

from rich.console import Console
from rich.progress import Progress

from experiments.runs.run_folder import check_writable, versions, write_json
from wage_neuro.errors import SettingError, WageError
from wage_neuro.typed import Count, read_json

ROOT = Path(__file__).resolve().parents[2]
RESULT = Path("experiments/results/mutants.json")
FLOORS = ("wage_neuro", "processes", "mappings", "experiments")
PYTEST = ("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", "--tb=no")
TRIES = 3  # at a place, before it is taken for one that changes nothing, such as an annotation
EQUIVALENT = {
    "wage_neuro/files.py": {
        'if os.name > "posix":': "os.name is posix here, and Windows' nt is below it",
        'if os.name < "posix":': "the same",
        "descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL"
        ' - getattr(os, "O_BINARY", 0), 0o666)': "the flag is 0 where a file of text is one of bytes",
    },
    "wage_neuro/loss.py": {
        "SPARED = UNKNOWN + 2": "no logit is so low, and both marks stay apart",
    },
    "wage_neuro/random_bits.py": {
        'return raw.astype("<u8", copy=True).view("<u2")[:count]': "a copy has the same bits",
    },
    "wage_neuro/read_out.py": {
        "def seen(self) -> int:": "what stands for it in an engine is a property",
    },
    "wage_neuro/state.py": {
        "for layer, norm in zip(network.layers, state.norm, strict=False)": "`having` counts them too",
    },
}
"""Mutants of a file, by what they make of a line, that change nothing which could be seen, and why."""
SLACK_S = 60.0  # a mutant may take three times as long as the tests without it, and this


@dataclass(frozen=True)
class Mutant:
    """One change: where, what stood there, and what the file becomes."""

    line: int
    was: str
    now: str
    text: str = field(repr=False)

    def __str__(self) -> str:
        return f"{self.line}: {self.was} -> {self.now}"


@dataclass(frozen=True)
class Score:
    """What became of a file's mutants.

    Attributes
    ----------
    places : where a mutant can be made
    tried : how many of them were
    survived : the mutants that no test killed, `line: was -> now`
    equivalent : and those of them that none could, with the reason
    tests : files that were run against them
    """

    places: int
    tried: int
    survived: tuple[str, ...]
    tests: tuple[str, ...]
    equivalent: dict[str, str] = field(default_factory=dict)


def mutants_of(text: str, rng: random.Random, at_most: int) -> tuple[int, list[Mutant]]:
    """Number of places where a file can be mutated, and one mutant each of so many of them, drawn.

    What only changes an annotation is no mutant: nothing ever evaluates it.

    >>> places, mutants = mutants_of("def half(x: int | None):\\n    return x // 2\\n", random.Random(0), 9)
    >>> places, sorted({mutant.line for mutant in mutants})
    (3, [2])
    """
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    by_place: dict[tuple[int, int], list[tuple[Any, int]]] = {}
    nodes = list(ast_nodes(get_ast(text)))
    for operator in (get_operator(name)() for name in operator_names() if not get_operator(name).arguments()):
        found = [start for node in nodes for start, _ in operator.mutation_positions(node)]
        for occurrence, place in enumerate(found):
            by_place.setdefault(place, []).append((operator, occurrence))
    mutants, meaning = list[Mutant](), _meaning(text)
    for place in rng.sample(sorted(by_place), len(by_place)):
        if len(mutants) == at_most:
            break
        ways = by_place[place]
        for operator, occurrence in rng.sample(ways, min(len(ways), TRIES)):
            changed = mutate_code(text, operator, occurrence)
            if changed is not None and _meaning(changed) not in (None, meaning):
                mutants.append(_mutant(text, changed))
                break
    return len(by_place), mutants


class _Bare(ast.NodeTransformer):
    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AnnAssign:
        node.annotation = ast.Constant(None)
        self.generic_visit(node)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.returns = None
        self.generic_visit(node)
        return node


def _meaning(text: str) -> str | None:
    """A program without its annotations; None where it is none."""
    try:
        return ast.dump(_Bare().visit(ast.parse(text)))
    except SyntaxError:
        return None


def _mutant(text: str, changed: str) -> Mutant:
    pairs = zip(text.splitlines(), [*changed.splitlines(), ""], strict=False)
    line, (was, now) = next((i, pair) for i, pair in enumerate(pairs, start=1) if pair[0] != pair[1])
    return Mutant(line, was.strip(), now.strip(), changed)


# --- which tests -------------------------------------------------------------------------------------


def nearest_tests(module: Path) -> list[Path]:
    """Files to give to pytest: the module, for its doctests, and the tests nearest to it by imports.

    Those of its name come first: what is killed is killed sooner.

    Lava finds `models.py` beside the `process.py` that it belongs to, so whoever imports that imports both.
    """
    files = [path.relative_to(ROOT) for top in (*FLOORS, "tests") for path in (ROOT / top).rglob("*.py")]
    imports = {file: _imports(ROOT / file) for file in files}
    wanted, seen = {module}, set[Path]()
    while wanted:
        names = {_name(file) for file in wanted} | {
            _name(file.with_name("process.py")) for file in wanted if file.name == "models.py"
        }
        users = {file for file in files if names & imports[file]}
        tests = [file for file in users if file.name.startswith("test_") and _runs_here(file)]
        if tests:
            return [module, *sorted(tests, key=lambda file: (file.stem != f"test_{module.stem}", file))]
        seen |= wanted
        wanted = users - seen
    return [module]


def _runs_here(test: Path) -> bool:
    """Whether all is installed without which the whole file would be skipped."""
    head = [
        node for node in ast.parse((ROOT / test).read_text()).body if isinstance(node, ast.Expr | ast.Assign)
    ]
    calls = [node.value for node in head if isinstance(node.value, ast.Call)]
    wanted = [ast.literal_eval(c.args[0]) for c in calls if ast.unparse(c.func) == "pytest.importorskip"]
    return all(find_spec(name.partition(".")[0]) for name in wanted)


def _name(file: Path) -> str:
    return ".".join(file.with_suffix("").parts).removesuffix(".__init__")


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def changed_files(since: str | None) -> list[Path]:
    """Files of the four floors that have changed since a commit, or since the record's."""
    since = since or _git("log", "-1", "--format=%H", "--", str(RESULT))
    names = _git("diff", "--name-only", since) if since else _git("ls-files")
    paths = [Path(name) for name in names.splitlines()]
    return [p for p in paths if p.suffix == ".py" and p.parts[0] in FLOORS and (ROOT / p).exists()]


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SettingError(f"git {' '.join(words)}: {done.stderr.strip().splitlines()[0]}")
    return done.stdout.strip()


# --- running them ------------------------------------------------------------------------------------


def passes(copy: Path, tests: Sequence[Path], limit: float | None = None) -> bool:
    """Whether the tests pass in a copy of the work tree; what takes longer than the limit does not."""
    settings = {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(
        [sys.executable, *PYTEST, *map(str, tests)],
        cwd=copy,
        env={**os.environ, **settings},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return child.wait(limit) == 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def score(
    module: Path, copies: SimpleQueue[Path], jobs: ThreadPoolExecutor, seed: int, at_most: int
) -> Score:
    """Try a file's mutants, each in one of the copies."""
    tests = nearest_tests(module)
    places, mutants = mutants_of((ROOT / module).read_text(), random.Random(f"{seed} {module}"), at_most)
    began = time.monotonic()
    with taken(copies) as copy:
        if mutants and not passes(copy, tests):
            raise SettingError(f"{module}: its tests fail without any mutant ({' '.join(map(str, tests))})")
    limit = 3 * (time.monotonic() - began) + SLACK_S

    def killed(mutant: Mutant) -> bool:
        with taken(copies) as copy:
            file = copy / module
            whole = file.read_bytes()
            try:
                file.write_text(mutant.text)
                return not passes(copy, tests, limit)
            finally:
                file.write_bytes(whole)

    outcomes = list(jobs.map(killed, mutants))
    alive = [mutant for mutant, dead in zip(mutants, outcomes, strict=True) if not dead]
    known = EQUIVALENT.get(str(module), {})
    equivalent = {str(mutant): known[mutant.now] for mutant in alive if mutant.now in known}
    survived = tuple(str(mutant) for mutant in alive if mutant.now not in known)
    return Score(places, len(mutants), survived, tuple(map(str, tests[1:])), equivalent)


@contextmanager
def taken(copies: SimpleQueue[Path]) -> Iterator[Path]:
    """Have a copy of the work tree to oneself."""
    copy = copies.get()
    try:
        yield copy
    finally:
        copies.put(copy)


def copy_tree(to: Path) -> Path:
    """Copy what git knows of the work tree."""
    for name in _git("ls-files").splitlines():
        if (ROOT / name).exists():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)
    return to


def main() -> int:
    """Try the mutants, write the record, and name those that survived."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.benchmarks.mutants",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="*", type=Path, help="files to mutate (default: the changed ones)")
    parser.add_argument("--since", help="a commit (default: the one of the record, or the first)")
    parser.add_argument("--at-most", type=int, default=10, help="mutants of a file (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="draws them (default: %(default)s)")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="at once (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, default=RESULT, help="JSON record (default: %(default)s)")
    options = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True, markup=False)
    check_writable(options.output)
    files = options.files or changed_files(options.since)
    for file in files:
        if not (ROOT / file).is_file():
            raise SettingError(f"{file}: no such file; want one of the project, by its path in it")
    if options.output.exists():
        _read(options.output)
    found: dict[Path, Score] = {}
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as jobs:
        copies = SimpleQueue[Path]()
        for i in range(options.jobs):
            copies.put(copy_tree(Path(folder) / str(i)))
        with Progress(console=console) as progress:
            for file in progress.track(files, description="files"):
                found[file] = score(file, copies, jobs, options.seed, options.at_most)
                for mutant in found[file].survived:
                    console.print(f"{file}:{mutant}")
                write_json(options.output, with_score(options.output, file, found[file], options.seed))
    console.print(summary(found))
    return 0


def with_score(record: Path, file: Path, one: Score, seed: int) -> dict[str, Any]:
    """A record with a file's score in the place of its last one; each file has its own seed and versions."""
    files = _read(record)["files"] if record.exists() else {}
    files[str(file)] = {**asdict(one), "seed": seed, "versions": versions()}
    rows = files.values()
    tried, equivalent = sum(row["tried"] for row in rows), sum(len(row["equivalent"]) for row in rows)
    killed = tried - equivalent - sum(len(row["survived"]) for row in rows)
    return {"tried": tried, "killed": killed, "equivalent": equivalent, "files": dict(sorted(files.items()))}


class _Record(TypedDict):
    tried: Count
    killed: Count
    equivalent: Count
    files: dict[str, Any]


def _read(record: Path) -> _Record:
    return read_json(record, _Record, "record of mutants")


def summary(found: dict[Path, Score]) -> str:
    """One line.

    >>> summary({Path("a.py"): Score(9, 4, ("3: a -> b",), ("tests/test_a.py",))})
    '3 of 4 mutants killed (75 %), in 1 files'
    """
    tried, survived, equivalent = _sums(found)
    told, killed = tried - equivalent, tried - survived - equivalent
    share = 100 * killed / max(told, 1)
    return f"{killed} of {told} mutants killed ({share:.0f} %), in {len(found)} files"


def _sums(found: dict[Path, Score]) -> tuple[int, int, int]:
    """Mutants that were tried, that survived, and that nothing could kill."""
    scores = found.values()
    return (
        sum(one.tried for one in scores),
        sum(len(one.survived) for one in scores),
        sum(len(one.equivalent) for one in scores),
    )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except WageError as error:
        sys.exit(f"mutants: {error}")
