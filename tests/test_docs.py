"""What the site shows is run first: an example that fails ends it, and nothing of it is kept."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


def module_of(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_links_to_nowhere_are_found(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "index.html").write_text('<h1 id="top">a</h1><a href="../">up</a><img src="none.png">')
    (tmp_path / "index.html").write_text(
        '<a href="a/#top">1</a> <a href="a/#gone">2</a> <a href="b/">3</a> <a href="#here">4</a>'
        ' <p id="here"></p> <a href="https://example.org/x">5</a> <a href="/a/">6</a>'
    )
    found = ["a/index.html: none.png", "index.html: a/#gone", "index.html: b/"]
    assert sorted(module_of("links").dead(tmp_path)) == found


@pytest.fixture
def made(tmp_path, monkeypatch) -> ModuleType:
    """docs/made.py in a repository of its own, with one example."""
    module = module_of("made")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "MADE", tmp_path / "build" / "made")
    monkeypatch.setattr(module, "EXAMPLES", tmp_path / "experiments" / "examples")
    module.EXAMPLES.mkdir(parents=True)
    (module.EXAMPLES / "one.py").write_text("print('it says', 1 + 1)\n")
    monkeypatch.setattr(module, "_run_demo", lambda: None)
    for words in (
        ("init", "-q"),
        ("add", "-A"),
        ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"),
    ):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    return module


def test_the_output_of_an_example_is_kept_until_code_changes(made):
    made.main()
    (script,) = made.examples()
    assert made.output_of(script).read_text() == "it says 2\n"
    made.output_of(script).write_text("kept")
    made.main()
    assert made.output_of(script).read_text() == "kept"
    script.write_text("print('it says', 1 + 1 + 1)\n")
    made.main()
    assert made.output_of(script).read_text() == "it says 3\n"


def test_an_example_that_fails_ends_it(made):
    (script,) = made.examples()
    script.write_text("print('half')\nraise ValueError('no more')\n")
    with pytest.raises(SystemExit, match=r"one: ended with 1: ValueError: no more$"):
        made.main()
    assert not made.output_of(script).exists()


def test_an_example_whose_package_is_not_here_says_so(made):
    (script,) = made.examples()
    script.write_text("import nothing_of_that_name\n")
    made.main()
    assert (
        made.output_of(script).read_text()
        == "(nothing_of_that_name is not installed where this page was made.)\n"
    )


def test_all_examples_of_ours_are_shown():
    module = module_of("made")
    scripts = module.examples()
    assert len({module.output_of(script) for script in scripts}) == len(scripts) >= 12
