"""What another package declares as entry points is found by its name: tests/plugin is such a package."""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path

import pytest

from experiments.continual.methods import METHODS, what_methods_do
from experiments.datasets import DATASETS
from experiments.engines import ENGINES
from mappings.chips.chip import CHIPS
from mappings.formats.registry import FORMATS
from wage_neuro.errors import DoubtWarning

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PLUGIN = Path(__file__).resolve().parents[1] / "plugin"
REGISTRIES = (ENGINES, METHODS, CHIPS, FORMATS, DATASETS)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder as pip would make it: the package, and what its pyproject.toml declares."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(PLUGIN, folder, dirs_exist_ok=True)
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    info = folder / f"wage_abacus-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 1.0\n")
    groups = project["entry-points"].items()
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()) for group, points in groups]
    (info / "entry_points.txt").write_text("\n".join(lines))
    return folder


@pytest.fixture(autouse=True)
def installed(site, monkeypatch):
    """The package is installed for one test."""
    monkeypatch.syspath_prepend(site)
    importlib.invalidate_caches()
    for registry in REGISTRIES:
        vars(registry).pop("others", None)
    with pytest.warns(DoubtWarning, match=r"^method 'naive' of package wage-abacus: that name is taken$"):
        assert "tough-replay" in METHODS
    yield
    sys.modules.pop("wage_abacus", None)
    for registry in REGISTRIES:
        vars(registry).pop("others", None)


@pytest.fixture
def run(wage_neuro):
    """A run on its data set in its engine."""
    words = ("--data", "halves", "--network", "8FC", "--batch", 8, "--epochs", 2, "--engine", "abacus")
    ended = wage_neuro("train", *words, "--run", "run")
    assert ended.code == 0, ended.err
    return "run"


def test_every_registry_lists_ours_and_theirs():
    for registry, ours, theirs in (
        (ENGINES, "numpy", "abacus"),
        (METHODS, "replay", "tough-replay"),
        (CHIPS, "loihi2", "abacus"),
        (FORMATS, "nir", "beads"),
        (DATASETS, "mnist", "halves"),
    ):
        names = list(registry)
        assert names.index(ours) < names.index(theirs)
        assert type(registry[theirs]) is type(registry[ours]) or registry is CHIPS
    assert METHODS["naive"].what == "the stream as it comes"  # ours


def test_an_engine_a_data_set_and_a_format(run, wage_neuro):
    assert "halves" in wage_neuro("data").out
    assert wage_neuro("export", run, "--to", "beads", "--output", "net.beads").code == 0
    assert "(beads)" in wage_neuro("import", "net.beads", "--output", "net.npz").out
    wanted = wage_neuro("evaluate", run).last
    assert wanted.startswith("test accuracy ")
    assert wage_neuro("evaluate", "net.npz").last == wanted


def test_a_chip(run, wage_neuro):
    assert "Abacus" in wage_neuro("map", run, "--chip", "abacus").out


def test_a_method(wage_neuro):
    words = ("permuted-halves", "--tasks", 2, "--scenario", "domain", "--memory", 10)
    ended = wage_neuro("continual", *words, "--method", "tough-replay", "--network", "8FC", "--run", "stream")
    assert ended.code == 0, ended.err
    assert "tough-replay" in ended.out
    assert '"metaplasticity": 1' in (Path("stream") / "study.json").read_text()


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("torn", "--method 'torn' of package wage-abacus: module 'wage_abacus' has no attribute 'no_such_"),
        ("no-method", "--method 'no-method' of package wage-abacus: PosixPath("),
    ],
)
def test_a_method_that_does_not_load(method, message, wage_neuro):
    ended = wage_neuro("continual", "split-halves", "--method", method, "--run", "no")
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert ended.err.startswith(f"wage-neuro: {message}")
    assert "`torn`, of package wage-abacus" in what_methods_do()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--network 4C3-8FC --engine abacus", "layer 0 4C3: engine 'abacus' has no convolution\n"),
        (
            "--network 8FC --engine abacus --update ternary",
            "--update 'ternary': engine 'abacus' has 'wide' only\n",
        ),
        ("--engine broken", "--engine 'broken' of package wage-abacus: module 'wage_abacus' has no "),
        ("--engine no-engine", "--engine 'no-engine' of package wage-abacus: PosixPath("),
        ("--engine abacsu", "--engine 'abacsu': want numpy, compiled, torch, lava, brian2, rtl, abacus, "),
    ],
)
def test_what_is_refused(words, message, wage_neuro):
    ended = wage_neuro("train", "--data", "halves", "--batch", 8, "--run", "no", *words.split())
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert ended.err.startswith(f"wage-neuro: {message}")
