"""The house: four floors from one root, imports that point down, numpy alone at the bottom."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = ("wage_neuro", "processes", "mappings", "experiments")


def imports_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    relative = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]
    assert not relative, f"{path}: a relative import, which Lava cannot follow"
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_point_down(floor):
    above = set(FLOORS[FLOORS.index(floor) + 1 :])
    for path in (ROOT / floor).rglob("*.py"):
        assert not imports_of(path) & above, f"{path.relative_to(ROOT)} imports from a floor above"


def test_the_bottom_floor_needs_numpy_only():
    allowed = {"numpy", "wage_neuro", "threadpoolctl", "pandas"} | set(sys.stdlib_module_names)
    for path in (ROOT / "wage_neuro").rglob("*.py"):
        assert imports_of(path) <= allowed, path.name


def test_lava_stays_on_its_floors():
    """But for the examples of graphs of one's own."""
    examples = ROOT / "experiments" / "examples" / "lava"
    for path in [*(ROOT / "wage_neuro").rglob("*.py"), *(ROOT / "experiments").rglob("*.py")]:
        assert "lava" not in imports_of(path) or examples in path.parents, path.name


LEARNING_PATH = (
    "wage_neuro",
    "processes",
    "mappings/engines",
    "mappings/binary_spikes",
    "mappings/lava_stock",
)
MORE_ARGUMENTS = {
    ("channels.py", "__init__"): "Lava calls it so",
    ("fitting.py", "fit"): "what a user says by name",
    ("registry.py", "__init__"): "what a floor says by name, once",
}


def arguments_of(path: Path) -> dict[str, list[str]]:
    """Arguments of each function of a file, by place or by name; `self` and GPU kernels apart."""
    found = {}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            if "triton.jit" not in map(ast.unparse, node.decorator_list):
                found[f"{node.name}:{node.lineno}"] = names[names[:1] in (["self"], ["cls"]) :]
    return found


def test_the_learning_path_takes_five_arguments_at_most():
    """A sixth has slid into another before; what there is more to say is a settings class."""
    paths = [path for folder in LEARNING_PATH for path in (ROOT / folder).rglob("*.py")]
    more = {
        (path.name, function.partition(":")[0]): names
        for path in paths
        for function, names in arguments_of(path).items()
        if len(names) > 5
    }
    assert len(paths) > 100
    assert more.keys() == MORE_ARGUMENTS.keys(), more


def test_the_most_arguments_anywhere(tmp_path):
    """Elsewhere they stay below what the commands' options take by themselves."""
    (tmp_path / "six.py").write_text("def f(self, a, b, *, c, d, e, f): pass\n")
    assert arguments_of(tmp_path / "six.py") == {"f:1": list("abcdef")}
    for path in (each for floor in FLOORS for each in (ROOT / floor).rglob("*.py")):
        for function, names in arguments_of(path).items():
            assert len(names) <= 10, f"{path.relative_to(ROOT)}: {function}{tuple(names)}"


def test_settings_are_given_by_name():
    """Whatever has a `setting` is `kw_only`."""
    found = 0
    for path in (each for floor in FLOORS for each in (ROOT / floor).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ClassDef) or not re.search(r"= (setting|like)\(", ast.unparse(node)):
                continue
            found += 1
            assert "kw_only=True" in ast.unparse(node.decorator_list[0]), f"{path.name}: {node.name}"
    assert found > 10


@pytest.mark.parametrize("floor", FLOORS)
def test_all_floors_come_from_one_root(floor):
    assert Path(importlib.import_module(floor).__file__ or "").resolve().parent.parent == ROOT


def test_works_without_threadpoolctl(tmp_path):
    """It only holds BLAS to one thread; the bits are the same without it."""
    (tmp_path / "threadpoolctl.py").write_text("raise ImportError")
    code = (
        "import numpy as np; from wage_neuro import *\n"
        "from wage_neuro.kernels import numpy_kernels as kernels\n"
        "kernels.set_threads(2)\n"
        "net = Network((Conv(4, 3), Flatten(), Dense(3)), (9, 9, 1)); rng = np.random.default_rng(0)\n"
        "x, y = rng.integers(0, 256, (64, 9, 9, 1)).astype(np.uint8), rng.integers(0, 3, 64)\n"
        "engine = NumpyEngine(net, Rules(batch=32)); engine.train(x, y, 3)\n"
        "print(kernels.ThreadpoolController is None, [int(S.astype(int).sum()) for S in engine.state.S])"
    )
    outputs = []
    for path in (str(ROOT), f"{tmp_path}:{ROOT}"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": path},
            cwd=tmp_path.parent,
            capture_output=True,
            text=True,
            check=True,
        )
        outputs.append(done.stdout.split(maxsplit=1))
    assert outputs[1][0] == "True"
    assert outputs[0][1] == outputs[1][1]


def test_training_needs_no_extra(tmp_path):
    """What an extra brings is not asked for by a run in numpy; the arithmetic alone needs numpy."""
    extras = shlex.split("lava brian2 torch nir h5py onnx onnxruntime amaranth pandas jsonschema networkx")
    train = shlex.split("wage-neuro train --network 8FC --epochs 1 --batch 32 --engine numpy --run out")
    code = f"from experiments import cli\nsys.argv = {train}\ncli.main()"
    arithmetic = (
        "import numpy as np, wage_neuro as w\n"
        "with w.NumpyEngine(w.Network.parse('8FC', (9,), classes=3), w.Rules(batch=4)) as engine:\n"
        "    rows = w.fit(engine, np.zeros((8, 9), np.uint8), np.zeros(8, int), epochs=1)\n"
        "print(type(rows).__name__)"
    )
    alone = "top not in {'numpy', 'wage_neuro', *sys.stdlib_module_names}"
    cases = (f"top in {extras}", code, "test accuracy"), (alone, arithmetic, "list")
    for missing, use, shown in cases:
        script = (
            "import sys\nclass Missing:\n    def find_spec(self, name, path=None, target=None):\n"
            f"        top = name.partition('.')[0]\n        if {missing}: raise ImportError(name)\n"
            f"sys.meta_path.insert(0, Missing())\n{use}"
        )
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONPATH": str(ROOT)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert shown in done.stdout


def test_help_is_quick():
    """It imports no numpy: what the commands need is imported when one is used."""
    done = subprocess.run(
        [
            sys.executable,
            "-X",
            "importtime",
            "-c",
            "import sys; from experiments import cli; cli.app(['--help'])",
        ],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "transfer" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "experiments.cli" in imported
    assert not {"numpy", "wage_neuro", "matplotlib", "experiments.datasets"} & imported


def test_a_test_file_that_cannot_be_imported_is_an_error(tmp_path):
    """Not one that is skipped because it might be a module whose library is not installed."""
    for name in ("conftest.py", "pyproject.toml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    (tmp_path / "test_lost.py").write_text("from wage_neuro import nothing_like_it\n\n\ndef test(): pass\n")
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_lost.py"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "cannot import name 'nothing_like_it'" in done.stdout
