"""`wage-neuro runs`: what it lists, shows and compares."""

from __future__ import annotations

import re

QUICK = ("train", "--data", "digits", "--network", "16FC", "--batch", 32, "--train-images", 64)


def cells(text: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("│").split("│")] for line in text.splitlines() if "│" in line
    ]


def test_runs_are_listed_shown_and_compared(wage_neuro, tmp_path):
    ended = [wage_neuro(*QUICK, "--engine", "numpy", "--epochs", 1 + n, "--seed", n) for n in (0, 1)]
    accuracies = [re.search(r"accuracy (.*)$", each.last).group(1) for each in ended]
    names = [f"runs/digits-16FC-s{n}" for n in (0, 1)]
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "checkpoint.npz").write_bytes(b"no")

    listed = wage_neuro("runs", "list")
    assert (listed.code, listed.err) == (0, "")
    broken, *rows = cells(listed.out)
    assert broken[0] == "runs/broken"
    assert "not a whole wage-neuro checkpoint" in broken[1]
    assert rows == [
        [name, "digits", "16FC-10FC", str(2 * (1 + n)), f"{1 + n} of {1 + n}", accuracies[n]]
        for n, name in enumerate(names)
    ]

    shown = wage_neuro("runs", "show", names[1])
    facts = dict(cells(shown.out))
    assert (facts["epochs"], facts["seed"], facts["batch"], facts["accuracy"]) == (
        "2",
        "1",
        "32",
        accuracies[1],
    )
    assert "1,184 weights: 296 bytes to answer" in shown.out

    compared = wage_neuro("runs", "compare", *names)
    assert cells(compared.out) == [
        ["epochs", "1", "2"],
        ["seed", "0", "1"],
        ["updates", "2", "4"],
        ["epochs done", "1", "2"],
        ["accuracy", *accuracies],
    ]


def test_a_continual_run_is_listed(wage_neuro):
    words = "continual split-digits --network 8FC --memory 10 --task-images 20 --test-images 5 --probes 0"
    assert wage_neuro(*words.split(), "--engine", "numpy", "--run", "runs/c").code == 0
    (row,) = cells(wage_neuro("runs", "list").out)
    assert row[:3] == ["runs/c/seed-0", "split-digits", "8FC-10FC"]
    assert wage_neuro("runs", "show", "runs/c").err == (
        "wage-neuro: runs/c/checkpoint.npz: no such checkpoint; want one of runs/c/seed-0\n"
    )


def test_where_there_are_no_runs(wage_neuro):
    ended = wage_neuro("runs", "list", "nowhere")
    assert (ended.code, ended.err) == (
        1,
        "wage-neuro: nowhere: no runs; want the folder of some, as `wage-neuro train` makes them\n",
    )
