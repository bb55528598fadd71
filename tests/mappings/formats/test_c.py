"""C source: compiled by every compiler here, with sanitizers; the numpy engine's logits and weights."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mappings.formats import c as c_source
from mappings.formats.inference import Inference
from wage_neuro import Network, NumpyEngine, Rules, initial_state, predict
from wage_neuro.checkpoint import Checkpoint
from wage_neuro.errors import WageError
from wage_neuro.train import Batch, Held, State, train_step

COMPILERS = [compiler for compiler in ("gcc", "clang") if shutil.which(compiler)]
FLAGS = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-O2"]
SANITIZERS = {
    "gcc": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    "clang": ["-fsanitize=undefined", "-fsanitize-trap=undefined"],  # Debian packs its run time apart
}
needs_compiler = pytest.mark.skipif(not COMPILERS, reason="no C compiler here: gcc or clang")

PREDICTS = r"""
#include <stdio.h>
#include "net.h"
int main(void) {
    static int8_t codes[NET_INPUTS];
    int32_t logits[NET_CLASSES];
    fwrite(net_input_codes, 1, 256, stdout);
    while (fread(codes, 1, NET_INPUTS, stdin) == NET_INPUTS) {
        net_predict(codes, logits);
        fwrite(logits, sizeof *logits, NET_CLASSES, stdout);
    }
    return 0;
}
"""
LEARNS = r"""
#include <stdio.h>
#include "net.h"
int main(void) {
    static int8_t codes[NET_INPUTS];
    int8_t about[2];
    int32_t logits[NET_CLASSES];
    while (fread(about, 1, 2, stdin) == 2 && fread(codes, 1, NET_INPUTS, stdin) == NET_INPUTS) {
        net_learn(codes, (uint32_t)about[0], about[1], logits);
        fwrite(logits, sizeof *logits, NET_CLASSES, stdout);
    }
    fwrite(&net_state, 1, sizeof net_state, stdout);
    return 0;
}
"""


def compiled(folder: Path, saved: Checkpoint, compiler: str, main: str, learn: bool) -> Path:
    c_source.write(folder / "net.c", saved, learn)
    (folder / "main.c").write_text(main)
    command = [compiler, *FLAGS, *SANITIZERS[compiler], "net.c", "main.c", "-o", "program"]
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert built.stderr == ""
    assert built.returncode == 0
    return folder / "program"


def run(program: Path, data: bytes) -> bytes:
    done = subprocess.run([program], input=data, capture_output=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


@pytest.fixture
def ternary(network: Network) -> Network:
    if network.bits.k_W != 2:
        pytest.skip("not ternary")
    return network


@needs_compiler
@pytest.mark.parametrize("compiler", COMPILERS)
def test_logits_are_equal(compiler, ternary, trained, images_of, tmp_path):
    check_logits(compiler, ternary, trained(ternary), images_of(ternary), tmp_path)


@needs_compiler
@pytest.mark.parametrize("text", ["4C4-MP3S2P-F-8FC-3FC", "F-3FC"])
def test_incomplete_windows_and_a_single_layer(text, trained, images_of, tmp_path):
    network = Network.parse(text, (8, 9, 1))
    check_logits(COMPILERS[0], network, trained(network), images_of(network), tmp_path)


def check_logits(compiler, network, saved, images, folder):
    x = network.encode(images)
    out = run(compiled(folder, saved, compiler, PREDICTS, False), x.astype(np.int8).tobytes())
    assert np.array_equal(np.frombuffer(out[:256], np.int8), network.input_codes)
    found = np.frombuffer(out[256:], "<i4").reshape(len(x), network.classes)
    assert np.array_equal(found, predict(network, saved.state, x))


@needs_compiler
def test_every_tie_goes_to_even(tmp_path):
    network = Network.parse("1FC-1FC", (6,), bits="2588")
    saved = Inference(network, (np.ones((6, 1)), np.ones((1, 1)))).checkpoint()
    rng = np.random.default_rng(0)
    codes = rng.integers(-15, 16, (3000, 6)).astype(np.int8)
    assert len(np.unique(codes.sum(axis=1))) > 100
    out = run(compiled(tmp_path, saved, COMPILERS[0], PREDICTS, False), codes.tobytes())
    wanted = [min(max(round(int(t) / 2 ** network.layers[0].z_shift), 0), 15) for t in codes.sum(axis=1)]
    assert np.frombuffer(out[256:], "<i4").tolist() == wanted


STRICT = Rules(batch=1, update="ternary", shift="held", hold=3, loss="one-sided", margin=4)
RULES = {
    "chip": STRICT,
    "plain": replace(STRICT, loss="sse", margin=0),
    "own shift": replace(STRICT, shift="batch"),
    "paper's range": replace(STRICT, stored_range="paper", margin=8),
    "gamma": replace(STRICT, gamma=4, hold=1),
}
LEARNERS = {
    "deep": Network.parse("F-19FC-11FC-5FC", (7, 6, 2), signed_input=True),
    "one layer": Network.parse("3FC", (20,)),
    "one class": Network.parse("7FC-1FC", (20,)),
    "narrow": Network.parse("9FC-4FC", (20,), bits="2654"),
}


def samples(network: Network, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes, labels and log2_eta of n samples: silent ones, saturating ones, large and small steps."""
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (n, *network.input_shape)) * (rng.random((n, *network.input_shape)) < 0.5)
    images[::11], images[5::13] = 0, 255
    labels = rng.integers(0, network.classes, n)
    return network.encode(images.astype(np.uint8)), labels, rng.choice([-16, -5, -1, 0, 2, 3, 16], n)


def check_learning(compiler: str, saved: Checkpoint, folder: Path, n: int = 150) -> State:
    network = saved.network
    x, labels, etas = samples(network, n)
    about = np.stack([labels, etas], axis=1).astype(np.int8)
    data = np.concatenate([about, x.reshape(n, -1).astype(np.int8)], axis=1).tobytes()
    out = run(compiled(folder, saved, compiler, LEARNS, True), data)
    state, wanted = saved.state, []
    for i in range(n):
        state, Z = train_step(
            network, state, Batch(x[i : i + 1], labels[i : i + 1]), int(etas[i]), saved.rules
        )
        wanted.append(Z[0])
    assert any((S != T).any() for S, T in zip(state.S, saved.state.S, strict=True))
    size = 4 * n * network.classes
    assert np.array_equal(np.frombuffer(out[:size], "<i4").reshape(n, -1), wanted)
    end, L = out[size:], len(network.layers)
    assert int.from_bytes(end[:8], "little") == state.step
    held = np.frombuffer(end[8 : 8 + 16 * L], "<i4").reshape(2, L, 2).tolist()
    assert held == [[as_pair(h) for h in state.error_held], [as_pair(h) for h in state.gradient_held]]
    stored = np.frombuffer(end[8 + 16 * L :], np.int8)[: network.n_weights]
    assert np.array_equal(stored, np.concatenate([S.reshape(-1) for S in state.S]))
    return state


def as_pair(held: Held) -> list[int]:
    return [-1 if held.exponent is None else held.exponent, held.below]


@needs_compiler
@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("rules", RULES)
def test_it_learns_the_same_stored_weights(rules, compiler, tmp_path):
    network = LEARNERS["deep"]
    check_learning(compiler, Checkpoint(network, RULES[rules], initial_state(network, 3)), tmp_path)


@needs_compiler
@pytest.mark.parametrize("name", LEARNERS)
def test_every_shape_learns(name, tmp_path):
    network = LEARNERS[name]
    state = initial_state(network, 2**64 - 1)  # the widest seed
    check_learning(COMPILERS[0], Checkpoint(network, STRICT, state), tmp_path)


@needs_compiler
def test_it_goes_on_from_where_training_stood(tmp_path):
    network = LEARNERS["deep"]
    rng = np.random.default_rng(0)
    with NumpyEngine(network, STRICT, seed=7) as engine:
        engine.train(rng.integers(0, 256, (60, 7, 6, 2)).astype(np.uint8), rng.integers(0, 5, 60), 3)
        saved = Checkpoint(network, STRICT, replace(engine.state, step=2**32 - 5))  # past 32 bits on the way
    assert saved.state.error_held[0].exponent is not None
    end = check_learning(COMPILERS[0], saved, tmp_path)
    assert end.step > 2**32


@needs_compiler
@pytest.mark.parametrize("learn", [False, True])
def test_it_needs_no_library_and_no_float(learn, tmp_path):
    saved = Checkpoint(LEARNERS["deep"], STRICT, initial_state(LEARNERS["deep"]))
    c_source.write(tmp_path / "net.c", saved, learn)
    command = [COMPILERS[0], *FLAGS, "-ffreestanding", "-c", "net.c"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    names = subprocess.run(
        ["nm", "-u", tmp_path / "net.o"], capture_output=True, text=True, check=True
    ).stdout
    # compilers may call these two themselves, and a freestanding one brings them
    assert {line.split()[-1] for line in names.splitlines()} <= {"memset", "memcpy"}
    text = (tmp_path / "net.c").read_text() + (tmp_path / "net.h").read_text()
    assert not re.search(r"\b(float|double|malloc|long)\b", re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL))
    assert re.findall("#include (.*)", text) == ['"net.h"', "<stdint.h>"]
    assert "@" not in text


@needs_compiler
def test_a_wrong_size_does_not_compile(tmp_path):
    """The promise in the header is checked by the compiler."""
    saved = Checkpoint(LEARNERS["deep"], STRICT, initial_state(LEARNERS["deep"]))
    c_source.write(tmp_path / "net.c", saved, learn=True)
    header = (tmp_path / "net.h").read_text()
    size = int(re.search(r"RAM_BYTES (\d+)", header)[1])
    (tmp_path / "net.h").write_text(header.replace(f"RAM_BYTES {size}", f"RAM_BYTES {size - 4}"))
    done = subprocess.run(
        [COMPILERS[0], *FLAGS, "-c", "net.c"], cwd=tmp_path, capture_output=True, timeout=60
    )
    assert done.returncode != 0


@pytest.mark.parametrize(
    ("text", "shape", "bits", "rules", "learn", "message"),
    [
        ("4FC-3FC", (5,), "3888", {}, False, "^k_W=3: C source packs two bits a weight, so want k_W=2$"),
        ("4FC-3FC", (5,), "2988", {}, False, "^k_A=9: C source keeps codes in 8 bits; want 8 at most$"),
        ("4FC-3FC", (5,), "2898", {}, True, "^k_G=9: C source keeps codes in 8 bits; want 8 at most$"),
        ("4FC-3FC", (5,), "2828", {}, True, "^k_G=2: C source that learns stores more bits than it shows"),
        ("4FC-3FCU", (5,), "2888", {}, False, "^layer 1 3FCU: an exported network has no"),
        ("4C3-F-3FC", (5, 5, 1), "2888", {}, True, "^layer 0 4C3: C source that learns has no convolution$"),
        ("4FC-3FC", (5,), "2888", {"batch": 8}, True, "^batch=8: C source that learns has batch=1 or"),
        ("4FC-3FC", (5,), "2888", {"update": "wide"}, True, "^update='wide': C source that learns"),
        ("4FC-3FC", (5,), "2888", {"feedback": "direct"}, True, "^feedback='direct': C source that learns"),
        ("4FC-3FC", (5,), "2888", {"pipelined": True}, True, "^pipelined=True: C source that learns has"),
        ("4FC-3FC", (5,), "2888", {"loss": "softmax"}, True, "^loss='softmax': C source that learns has"),
        ("4FC-3FC", (5,), "2888", {"generator": "philox4x32"}, True, "^generator=.philox4x32.: C so"),
    ],
)  # fmt: skip
def test_networks_that_c_cannot_say(text, shape, bits, rules, learn, message, tmp_path, leaves_alone):
    network = Network.parse(text, shape, bits=bits)
    saved = Checkpoint(network, replace(STRICT, **rules), initial_state(network))
    write = lambda path: c_source.write(path.with_suffix(".c"), saved, learn)  # noqa: E731
    with pytest.raises(WageError, match=message):
        write(tmp_path / "net")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("learn", "most"), [(False, 127 * 5), (True, 127 * 5 + 2**8)])
def test_sums_past_their_word_are_refused(learn, most, tmp_path, monkeypatch):
    """The bounds of `_check`, with a word short enough that a small network passes it."""
    network = Network.parse("3FC", (5,))
    assert network.layers[0].target == 2**8
    saved = Checkpoint(network, STRICT, initial_state(network))
    monkeypatch.setattr(c_source, "INT32", most + 1)
    c_source.to_c(saved, learn=learn)
    monkeypatch.setattr(c_source, "INT32", most)
    with pytest.raises(WageError, match=f"^layer 0 3FC: a sum may reach {most}, past 32 bits$"):
        c_source.to_c(saved, learn=learn)


def test_names_and_bytes_that_are_refused(tmp_path):
    network = LEARNERS["deep"]
    saved = Checkpoint(network, STRICT, initial_state(network))
    needs = c_source.to_c(saved, learn=True)
    for name, limits, message in (
        ("net.cc", {}, r"net.cc: want a name that ends in .c$"),
        ("2net.c", {}, r"^name '2net': want a C name"),
        (
            "net.c",
            {"ram": needs.ram_bytes - 1},
            rf"^ram=2\d+: {network} needs {needs.ram_bytes:,} bytes, and a stack$",
        ),
        (
            "net.c",
            {"flash": 100},
            rf"^flash=100: {network} needs {needs.constant_bytes:,} bytes, and its code more$",
        ),
    ):
        with pytest.raises(WageError, match=message):
            c_source.write(tmp_path / name, saved, learn=True, **limits)
    assert list(tmp_path.iterdir()) == []
    c_source.write(tmp_path / "net.c", saved, True, needs.ram_bytes, needs.constant_bytes)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.c", "net.h"]
