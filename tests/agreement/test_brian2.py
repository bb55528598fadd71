"""Brian2 engine = numpy engine, through code that shares none of the arithmetic: layers x modes x targets."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("brian2", reason="brian2 is an optional extra")

import brian2 as b2

from experiments import datasets
from experiments.benchmarks.agreement import MODES, NETWORKS, is_slow, modes_of
from experiments.runs.training import Config, Run
from mappings.engines.brian2 import engine as mapping
from mappings.engines.brian2 import equations, objects
from mappings.engines.brian2.engine import Brian2Engine, Brian2Options
from wage_neuro import Conv, Dense, Flatten, MaxPool, Network, NumpyEngine, Rules
from wage_neuro.errors import DataError, EngineError, SettingError


@pytest.fixture
def same_training(assert_agree):
    """Brian2 counts no activity; a sample takes it some milliseconds."""

    def check(network, rules, n=None, build=Brian2Engine) -> None:
        n = n or max(16, 2 * rules.batch)
        assert assert_agree(build, network, rules, n, watched=False) > 0

    return check


PAIRS = [
    pytest.param(name, mode, marks=[pytest.mark.slow] if is_slow(name, mode) else [], id=f"{name}-{mode}")
    for name in NETWORKS
    for mode in modes_of("brian2")
]


@pytest.mark.parametrize(("name", "mode"), PAIRS)
def test_brian2_equals_numpy(name, mode, same_training):
    same_training(NETWORKS[name], MODES[mode])


@pytest.mark.parametrize("bits", ["2222", "3-7-9-5", "2-8-16-16", "4-6-12-10", "8-8-6-8"])
def test_other_widths(bits, same_training):
    specs = (Conv(3, 3), MaxPool(2), Flatten(), Dense(4))
    same_training(Network(specs, (6, 6, 1), bits, signed_input=True), Rules(batch=8), n=40)


def test_one_class_with_a_margin(same_training):
    same_training(Network((Dense(6), Dense(1)), (12,)), Rules(batch=8, margin=2), n=40)


@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1])
def test_several_epochs_of_digits(seed, tmp_path, assert_same_state):
    """The whole of a run, evaluations included: weights, metrics and answers."""
    config = Config(
        data="digits",
        network="16FC",
        epochs=2,
        eta="8, 2@1",
        seed=seed,
        train_images=256,
        rules=Rules(batch=64),
    )
    ends = {}
    for name in ("numpy", "brian2"):
        (tmp_path / name).mkdir()
        run = Run.start(config, tmp_path / name)
        with run.engine(name) as engine:
            rows = run.fit(engine)
            ends[name] = engine.state, [{**row, "seconds": 0} for row in rows], run.predict(engine)
    assert_same_state(ends["numpy"][0], ends["brian2"][0])
    assert ends["numpy"][1] == ends["brian2"][1]
    assert np.array_equal(ends["numpy"][2], ends["brian2"][2])


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("name", "mode", "log2_etas"),
    [
        ("32C3-MP2-32FC", "paper", (3, 0)),
        ("64FC", "paper", (3, 0)),
        ("8C3-MP2-16FC", "one sample at a time", (2,)),
        ("64FC", "one sample at a time", (2,)),
        ("64FC", "coincidence", (3,)),
    ],
)
def test_whole_epochs_of_digits(name, mode, log2_etas, assert_same_state, assert_same_arrays):
    digits, rules = datasets.load("digits"), MODES[mode]
    network = Network.parse(name, (8, 8, 1), 10)
    n = len(digits.train_labels) // rules.batch * rules.batch
    images, labels = digits.train_images[:n], digits.train_labels[:n]
    oracle = NumpyEngine(network, rules, seed=7)
    with Brian2Engine(network, rules, seed=7) as engine:
        for log2_eta in log2_etas:
            assert_same_arrays(
                oracle.train(images, labels, log2_eta), engine.train(images, labels, log2_eta), "logits"
            )
            assert_same_state(oracle.state, engine.state)
        answers = oracle.predict(digits.test_images)
        assert_same_arrays(answers, engine.predict(digits.test_images), "answers")
    assert (answers.argmax(axis=1) == digits.test_labels).mean() > 0.3  # three times chance


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("name", "rules", "n"),
    [
        ("64FC", Rules(batch=32), 640),
        ("4C5-MP2-6C5-MP2-16FC", Rules(batch=8), 320),
        ("64FC", Rules(batch=1, shift="held", update="ternary", loss="one-sided", margin=3), 300),
    ],
)
def test_mnist(name, rules, n, seed, assert_same_state, assert_same_arrays):
    try:
        mnist = datasets.load("mnist")
    except DataError as error:
        pytest.skip(str(error))
    network = Network.parse(name, (28, 28, 1), 10)
    images, labels = mnist.train_images[:n], mnist.train_labels[:n]
    oracle = NumpyEngine(network, rules, seed=seed)
    oracle.train(images, labels, 3)
    with Brian2Engine(network, rules, seed=seed) as engine:
        engine.train(images, labels, 3)
        assert_same_state(oracle.state, engine.state)
        one, other = oracle.predict(mnist.test_images[:200]), engine.predict(mnist.test_images[:200])
        assert_same_arrays(one, other, "answers")


def test_goes_on_from_a_state(sparse_images, assert_same_state):
    network, rules = Network((Dense(12), Dense(3)), (10,)), Rules(batch=8, shift="held", hold=20)
    images, labels = sparse_images(160, (10,), 3)
    whole = NumpyEngine(network, rules)
    whole.train(images, labels, 1)
    half = NumpyEngine(network, rules)
    half.train(images[:80], labels[:80], 1)
    with Brian2Engine(network, rules, state=half.state) as engine:
        engine.train(images[80:], labels[80:], 1)
        assert_same_state(whole.state, engine.state)


# --- that the comparison can fail ---


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("ACTIVATE", "int(a_rest > (z_unit))", "int(a_rest >= (z_unit))"),
        ("ERROR", "code_floor % 2", "(1 - code_floor % 2)"),
        ("FORWARD", "V * A_pre", "V * A_pre * int(i != 3)"),
        ("BACK", " * open_post", ""),
        ("STOCHASTIC", "+ random", "+ random // 2"),
        ("VISIBLE", "v_rest > (v_down)", "v_rest >= (v_down)"),
        ("SHIFT_HELD", "waited >= hold", "waited > hold"),
        ("SHIFT_OF_BATCH", "unit = peak", "unit = 2 * peak"),
    ],
)
def test_one_wrong_word_in_the_code_is_found(
    name, right, wrong, sparse_images, monkeypatch, assert_same_state
):
    code = getattr(equations, name)
    assert right in code
    held = name == "SHIFT_HELD"
    network = Network((Dense(24), Dense(5)), (30,))
    rules = Rules(batch=16, shift="held", hold=16) if held else Rules(batch=16)
    images, labels = sparse_images(320, (30,), 5)
    oracle = NumpyEngine(network, rules)
    oracle.train(images, labels, 3)
    for module in (mapping, objects):  # whichever of them has imported it
        if hasattr(module, name):
            monkeypatch.setattr(module, name, code.replace(right, wrong))
    with Brian2Engine(network, rules) as engine:
        engine.train(images, labels, 3)
        with pytest.raises(AssertionError):
            assert_same_state(oracle.state, engine.state)


def test_a_weight_that_differs_is_found(sparse_images, assert_same_state):
    network, rules = Network((Dense(6), Dense(3)), (10,)), Rules(batch=8)
    images, labels = sparse_images(8, (10,), 3)
    oracle = NumpyEngine(network, rules)
    state = oracle.state
    S = state.S[0].copy()
    S[2, 1] = -64 if S[2, 1] == 64 else 64
    oracle.train(images, labels, 3)
    with Brian2Engine(network, rules, state=state.having(S=(S, state.S[1]))) as engine:
        engine.train(images, labels, 3)
        with pytest.raises(AssertionError, match="stored weights"):
            assert_same_state(oracle.state, engine.state)


# --- other code generation, and what is left behind ---


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("layers", "mode"), [("conv, pooling", "paper"), ("dense", "coincidence")])
def test_cython_gives_the_same_bits(layers, mode, same_training, tmp_path):
    if not (shutil.which("g++") or shutil.which("clang++")):
        pytest.skip("no C++ compiler found for Brian2's Cython target")
    pytest.importorskip("Cython", reason="Brian2's Cython target needs Cython")
    prefs = b2.prefs.codegen
    before = prefs.runtime.cython.cache_dir, prefs.cpp.extra_compile_args_gcc
    prefs.runtime.cython.cache_dir, prefs.cpp.extra_compile_args_gcc = str(tmp_path), ["-O0", "-w"]
    try:
        same_training(
            NETWORKS[layers], MODES[mode], 16, partial(Brian2Engine, options=Brian2Options(codegen="cython"))
        )
    finally:
        prefs.runtime.cython.cache_dir, prefs.cpp.extra_compile_args_gcc = before


def alone(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        capture_output=True,
        text=True,
    )


def test_a_build_that_is_given_up_is_not_complained_of():
    """Ctrl-C while the network is built: Brian2 would say five lines or more of each object."""
    code = (
        "from mappings.engines.brian2.objects import Builder\n"
        "def begin():\n"
        "    with Builder() as build:\n"
        "        build.group(2, 'A : integer', 'given_up', {})\n"
        "        raise KeyboardInterrupt\n"
        "try: begin()\n"
        "except KeyboardInterrupt: print('ended')\n"
        "import gc; gc.collect()"
    )
    done = alone(code)
    assert (done.stdout, done.stderr) == ("ended\n", "")


@pytest.mark.parametrize(
    ("before", "kept"), [("SIG_IGN", True), ("SIG_DFL", True), ("default_int_handler", False)]
)
def test_hears_no_ctrl_c_where_nobody_did(before, kept):
    """In a shell's background job Ctrl-C is ignored; Brian2's handler would call what is no function."""
    code = (
        f"import signal; before = signal.{before}; signal.signal(signal.SIGINT, before)\n"
        "import mappings.engines.brian2; print(signal.getsignal(signal.SIGINT) is before)"
    )
    done = alone(code)
    assert (done.stdout, done.stderr) == (f"{kept}\n", "")


def test_leaves_preferences_and_files_as_they_were(tmp_path):
    code = (
        "import brian2 as b2; before = b2.prefs.as_file\n"
        "import numpy as np; from wage_neuro import *\n"
        "from mappings.engines.brian2.engine import Brian2Engine, Brian2Options\n"
        "with Brian2Engine(Network((Dense(3),), (4,)), Rules(batch=4)) as engine:\n"
        "    engine.train(np.ones((4, 4), np.uint8), np.zeros(4, int), 0)\n"
        "print(before == b2.prefs.as_file, float(np.asarray(b2.defaultclock.t_)), float(b2.defaultclock.dt_))"
    )
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    home.mkdir()
    temporary.mkdir()
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={
            "PYTHONPATH": root,
            "HOME": str(home),
            "TMPDIR": str(temporary),
            "MPLCONFIGDIR": str(tmp_path / "matplotlib"),
            "PATH": "",
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "True 0.0 0.0001\n", "")
    assert list(temporary.iterdir()) == []
    assert list(home.iterdir()) == []


# --- faults ---


def test_what_brian2_remembers_does_not_grow_with_the_engines():
    remembered = []
    for seed in range(3):
        engine = Brian2Engine(Network((Dense(2),), (9,)), Rules(batch=2), seed=seed)
        engine.predict(np.zeros((2, 9), np.uint8))
        remembered.append(len(objects.make_statements.__wrapped__._cache))
    assert remembered[0] == remembered[2] > 0


def test_refuses_what_it_cannot_build(monkeypatch):
    monkeypatch.setattr(mapping, "MAX_SYNAPSES", 100)
    with pytest.raises(EngineError, match=r"^layer 0 6FC: 120 synapses for 2 samples in flight; the Brian2"):
        Brian2Engine(Network((Dense(6), Dense(2)), (10,)), Rules(batch=2))


def test_refuses_to_hold_on_to_weights():
    with pytest.raises(SettingError, match=r"^consolidation=3: engine 'brian2' has 0 only"):
        Brian2Engine(Network((Dense(2),), (10,)), Rules(batch=2, consolidation=3))


def test_refuses_an_unknown_target():
    with pytest.raises(SettingError, match=r"^codegen='c': want numpy or cython$"):
        Brian2Engine(Network((Dense(2),), (10,)), Rules(batch=2), options=Brian2Options(codegen="c"))


def test_refuses_sums_past_64_bits(sparse_images):
    network = Network((Dense(6), Dense(2)), (10,), "16-16-16-16")
    images, labels = sparse_images(2048, (10,), 2)
    with (
        Brian2Engine(network, Rules(batch=2048)) as engine,
        pytest.raises(
            EngineError, match=r"^layer 0 6FC with bits 16-16-16-16 and eta=2\*\*16: .* past the 64-bit"
        ),
    ):
        engine.train(images, labels, 16)


def test_no_samples():
    with Brian2Engine(Network((Dense(2),), (4,)), Rules(batch=2)) as engine:
        assert engine.predict(np.empty((0, 4), np.uint8)).shape == (0, 2)
