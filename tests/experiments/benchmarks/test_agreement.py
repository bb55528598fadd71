"""The agreement table: a wrong engine, one that refuses, one that is absent; stopped and gone on."""

from __future__ import annotations

import json
import sys

import pytest

from experiments.benchmarks import agreement
from experiments.benchmarks.agreement import MODES, NETWORKS, other_control
from wage_neuro import NumpyEngine
from wage_neuro.errors import EngineError, SettingError, WageError


class WrongInOneBit(NumpyEngine):
    """After the fourth step one stored weight is off by one."""

    def learn(self, images, labels, control):
        logits = super().learn(images, labels, control)
        if self.state.step == 4:
            S = [array.copy() for array in self.state.S]
            S[0].flat[35] ^= 1
            self._learner.go_on_from(self.state.having(S=tuple(S)))
        return logits


def make(name, network, rules, state, **options):
    """Three engines: right; wrong; and one that learns in whole batches alone."""
    if name == "brian2" and rules.pipelined:
        raise SettingError("pipelined: not here")
    wrong = name == "lava" and not options and rules == MODES["paper"]
    return (WrongInOneBit if wrong else NumpyEngine)(network, rules, state=state)


def find(name):
    if name == "torch":
        raise EngineError("engine 'torch': it needs PyTorch")


def commands_in(monkeypatch, folder):
    """The command, with engines of ours, two networks and two modes, in a folder."""
    monkeypatch.setattr(agreement, "make_engine", make)
    monkeypatch.setattr(agreement.ENGINES, "find", find)
    monkeypatch.setattr(agreement, "ROWS", ("dense", "conv VALID, stride 2"))
    monkeypatch.setattr(agreement, "MODES", {name: MODES[name] for name in ("paper", "pipelined")})
    monkeypatch.chdir(folder)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["agreement", "--output", "agreement.json", "--seeds", "2", *words])
        return agreement.main(), json.loads((folder / "agreement.json").read_text())

    return run


@pytest.fixture
def command(monkeypatch, tmp_path, capsys):
    run = commands_in(monkeypatch, tmp_path)

    def with_output(*words):
        code, record = run(*words)
        return code, capsys.readouterr().out, record

    return with_output


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The record of two columns."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        code, record = commands_in(monkeypatch, tmp_path_factory.mktemp("whole"))(
            "--engines", "compiled,brian2"
        )
    assert code == 0
    return record


def test_a_wrong_engine_is_shown_with_its_first_difference(command, tmp_path):
    code, out, record = command("--engines", "compiled,lava,brian2,torch")
    assert code == 1
    cells = {tuple(c[k] for k in ("network", "mode", "engine")): c for c in record["cells"]}
    wrong = cells["dense", "paper", "lava"]["difference"]
    assert wrong.startswith("seed 0, step 4, layer 0, stored weight (1, 11): numpy ")
    assert f"lava, dense, paper: {wrong}" in out
    assert "left out: engine 'torch': it needs PyTorch" in out
    assert out.splitlines()[-1] == "12 cells: 8 equal, 2 different, 2 refused; written to agreement.json"
    table = agreement.agreement_table(tmp_path).splitlines()
    assert table[0] == "| mode | network | compiled | lava | brian2 |"
    assert "| paper | dense | = | **≠** <sup>1</sup> | = |" in table
    assert "| pipelined | all | = | = | – <sup>3</sup> |" in table
    assert table[-3:] == [f"<br>1: {wrong}", table[-2], "<br>3: pipelined: not here"]


def test_equal_cells_have_learned_something(whole):
    cells = [c for c in whole["cells"] if c["engine"] == "compiled"]
    assert len(cells) == 4
    for c in cells:
        assert (c["seeds"], c["difference"], c["refused"]) == (2, None, None)
        assert c["weights"] == NETWORKS[c["network"]].n_weights
        assert c["changed"] > c["weights"] / 20


def test_goes_on_where_it_was_stopped(command, whole, monkeypatch):
    whole, done = whole["cells"], []

    def cell(*place):
        done.append(place[:3])
        if len(done) == 3:
            raise KeyboardInterrupt
        return agreement_cell(*place)

    agreement_cell = agreement.cell
    monkeypatch.setattr(agreement, "cell", cell)
    with pytest.raises(KeyboardInterrupt):
        command("--engines", "compiled,brian2")
    assert command("--engines", "compiled")[2]["cells"] == whole[:4]  # as in an environment without Brian2
    assert command("--engines", "brian2")[2]["cells"] == whole
    # the third is tried again, each other one is compared once
    assert len(done) == len(whole) + 1
    assert len(set(done)) == len(whole)


def test_anew_leaves_what_was_not_asked_for(command, whole, monkeypatch, tmp_path):
    """The columns of other engines stay as they are in the record, with their versions."""
    (tmp_path / "agreement.json").write_text(json.dumps(whole))
    done = []
    agreement_cell = agreement.cell
    monkeypatch.setattr(agreement, "cell", lambda *place: done.append(place[2]) or agreement_cell(*place))
    monkeypatch.setattr(agreement.run_folder, "versions", lambda: {"python": "later"})
    record = command("--engines", "compiled", "--anew")[2]
    assert record["cells"] == whole["cells"]
    assert done == ["compiled"] * 4
    assert record["versions"] == {**whole["versions"], "compiled": {"python": "later"}}


def test_other_seeds_are_compared_anew(command, whole, tmp_path):
    (tmp_path / "agreement.json").write_text(json.dumps(whole))
    found = command("--engines", "compiled", "--seeds", "1")[2]["cells"]
    assert {(c["engine"], c["seeds"]) for c in found} == {("compiled", 1), ("brian2", 2)}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--engines", "nest"), "engine 'nest': want compiled, lava, lava structural, brian2, torch"),
        (("--seeds", "0"), "--seeds 0: want 1 or more"),
    ],
)
def test_wrong_options(command, words, message, capsys):
    with pytest.raises(SystemExit) as ended:
        command(*words)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("column", ["brian2", "lava structural"])
def test_what_an_engine_has_not_it_refuses(column):
    """The tests of an engine go over the other modes."""
    pytest.importorskip(column.partition(" ")[0])
    refused = set(MODES) - set(agreement.modes_of(column))
    assert refused
    for mode in refused:
        with pytest.raises(WageError, match=f": {agreement.supports_of(column).who} has .* only$"):
            agreement.build_column(column)(NETWORKS["dense"], MODES[mode], 0)


def test_every_layer_but_a_single_one_is_controlled_on_its_own():
    for network in NETWORKS.values():
        L = len(network.layers)
        controls = other_control(network).of_layers(L, MODES["held"])
        assert [c.log2_eta is None for c in controls].count(True) == int(L > 1)
        assert len({c.hold for c in controls}) == L
