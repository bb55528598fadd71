"""Checkpoints: exact round trips, and no damage that goes unnoticed."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wage_neuro import (
    Bits,
    Conv,
    Dense,
    Flatten,
    MaxPool,
    Network,
    NumpyEngine,
    Rules,
    arrays,
    checkpoint,
    initial_state,
    train_step,
)
from wage_neuro.bits import code_dtype
from wage_neuro.checkpoint import FORMAT, Checkpoint, load, save
from wage_neuro.errors import CheckpointError, NetworkError
from wage_neuro.train import Batch, Held, State, consolidated

WIDTH, FEW = st.integers(2, 16), st.integers(1, 4)
HELD = st.builds(Held, st.none() | st.integers(0, 60), st.integers(0, 9999))
EXTRA = st.dictionaries(
    st.text(max_size=5), st.none() | st.integers() | st.text(max_size=5) | st.lists(FEW), max_size=3
)
RULES = (
    st.builds(
        Rules,
        batch=st.integers(1, 500),
        shift=st.sampled_from(["batch", "held"]),
        hold=st.integers(1, 9999),
        update=st.sampled_from(["wide", "ternary"]),
        stored_range=st.sampled_from(["authors", "paper"]),
        loss=st.sampled_from(["sse", "one-sided"]),
        margin=st.integers(0, 8),
        generator=st.sampled_from(["philox4x64", "philox4x32"]),
    )
    | st.builds(Rules, batch=st.just(1), update=st.just("coincidence"))
    | st.just(Rules(shift="held", pipelined=True))
)


@st.composite
def checkpoints(draw):
    bits, rules = draw(st.builds(Bits, *[WIDTH] * 4)), draw(RULES)
    front, shape = draw(
        st.sampled_from(
            [((), (3,)), ((Flatten(),), (2, 2, 1)), ((Conv(2, 2), MaxPool(2, 1), Flatten()), (4, 3, 2))]
        )
    )
    net = Network(
        (*front, *map(Dense, draw(st.lists(FEW, min_size=1, max_size=3)))), shape, bits, draw(st.booleans())
    )
    rng, bound = np.random.default_rng(draw(st.integers(0, 99))), bits.stored_max(rules.stored_range)
    dtype = code_dtype(bits.k_G)
    S = tuple(rng.integers(-bound, bound + 1, layer.weight_shape).astype(dtype) for layer in net.layers)
    held = st.lists(HELD, min_size=len(S), max_size=len(S)).map(tuple)
    state = State.of(
        S,
        seed=draw(st.integers(0, 2**64 - 1)),
        step=draw(st.integers(0, 2**40)),
        error_held=draw(held),
        gradient_held=draw(held),
    )
    return Checkpoint(net, rules, state, draw(EXTRA))


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture
def assert_same_checkpoint(assert_same_state):
    def compare(one: Checkpoint, other: Checkpoint) -> None:
        assert_same_state(one.state, other.state)
        assert [s.dtype for s in one.state.S] == [s.dtype for s in other.state.S]
        assert (one.network, one.rules, one.extra) == (other.network, other.rules, other.extra)

    return compare


@pytest.fixture
def saved(tmp_path) -> Path:
    path = tmp_path / "a.npz"
    net = Network((Conv(2, 3), MaxPool(2), Flatten(), Dense(3)), (4, 4, 1))
    save(path, Checkpoint(net, Rules(batch=7, shift="held"), initial_state(net, 5), {"epoch": 2}))
    return path


def rewrite(path: Path, header=None, **changes) -> None:
    """Change a checkpoint's header (a function of its dict) and its arrays (None: left out)."""
    with np.load(path) as file:
        arrays = dict(file)
    fields = json.loads(bytes(arrays.pop("header")))
    text = json.dumps(header(fields) if header else fields).encode()
    arrays = {name: array for name, array in {**arrays, **changes}.items() if array is not None}
    np.savez_compressed(path, **{"header": np.frombuffer(text, np.uint8), **arrays})


@settings(max_examples=40)
@given(checkpoints())
def test_round_trip(folder, assert_same_state, checkpoint):
    path = folder / "round.npz"
    save(path, checkpoint)
    again = load(str(path))
    assert_same_state(again.state, checkpoint.state)
    assert [s.dtype for s in again.state.S] == [s.dtype for s in checkpoint.state.S]
    assert (again.network, again.rules, again.extra) == (
        checkpoint.network,
        checkpoint.rules,
        checkpoint.extra,
    )


@pytest.mark.parametrize(
    "rules", [Rules(batch=6), Rules(batch=6, shift="held", hold=9), Rules(batch=1, update="coincidence")]
)
def test_a_resumed_run_ends_in_the_same_bits(rules, tmp_path, assert_same_state):
    net = Network((Dense(9), Dense(3)), (8,))
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 128, (6, rules.batch, 8)).astype(np.int8), rng.integers(0, 3, (6, rules.batch))
    straight = resumed = initial_state(net, 2**64 - 1)
    for step in range(6):
        straight, _ = train_step(net, straight, Batch(x[step], y[step]), 3, rules)
        save(tmp_path / "a.npz", Checkpoint(net, rules, resumed))
        resumed, _ = train_step(net, load(tmp_path / "a.npz").state, Batch(x[step], y[step]), 3, rules)
    assert_same_state(straight, resumed)


def test_missing(tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.npz: no such checkpoint$"):
        load(tmp_path / "none.npz")


EVERY = [pytest.param(1, marks=pytest.mark.slow), 7]
"""Bytes from one damage to the next: 7 meets each of a zip's fields, 1 takes its time."""


@pytest.mark.parametrize("stride", EVERY)
def test_truncated_at_every_byte(saved, stride):
    whole = saved.read_bytes()
    for size in range(0, len(whole), stride):
        saved.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=r"a\.npz: not a whole wage-neuro checkpoint \("):
            load(saved)


@pytest.mark.parametrize("flip", [0x01, 0x20, 0xFF])
@pytest.mark.parametrize("stride", EVERY)
def test_each_byte_flipped(saved, flip, stride, assert_same_checkpoint):
    """Either it is an error of ours, or the byte did not matter (a time stamp)."""
    whole, expected, escaped, harmless = saved.read_bytes(), load(saved), {}, 0
    places = range(flip % stride, len(whole), stride)
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= flip
        saved.write_bytes(damaged)
        try:
            assert_same_checkpoint(load(saved), expected)
            harmless += 1
        except CheckpointError:
            pass
        except AssertionError:
            raise
        except Exception as error:
            escaped.setdefault(f"{type(error).__name__}: {error}"[:90], []).append(place)
    assert not escaped
    assert harmless < len(places) / 2


NO_CHECKPOINT = r"a\.npz: not a whole wage-neuro checkpoint \("


@pytest.mark.parametrize("content", [b"", b"PK", b"hello", bytes(500), pickle.dumps({"S0": [1]})])
def test_other_files(saved, content):
    saved.write_bytes(content)
    with pytest.raises(CheckpointError, match=NO_CHECKPOINT):
        load(saved)


def test_one_array_alone(saved):
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    saved.write_bytes(buffer.getvalue())
    with pytest.raises(CheckpointError, match=NO_CHECKPOINT):
        load(saved)


def test_a_folder(tmp_path):
    with pytest.raises(CheckpointError, match="not a whole wage-neuro checkpoint"):
        load(tmp_path)


class Bomb:
    """Leaves a file behind if it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["S0", "S2", "header"])
def test_no_pickle_is_run(saved, name):
    fuse = saved.parent / "exploded"
    array = np.array([Bomb(fuse)], object)
    with np.load(saved) as file:
        arrays = dict(file)
    np.savez_compressed(saved, **{**arrays, name: array})
    with pytest.raises(CheckpointError, match=NO_CHECKPOINT):
        load(saved)
    assert not fuse.exists()
    with np.load(saved, allow_pickle=True) as file:  # it would have gone off
        _ = file[name]
    assert fuse.exists()


def test_a_checkpoint_names_its_generator_and_one_of_before_has_the_first(saved):
    network = load(saved).network
    save(saved, Checkpoint(network, Rules(generator="philox4x32"), initial_state(network)))
    assert load(saved).rules.generator == "philox4x32"
    before = {"rules": {name: value for name, value in vars(Rules()).items() if name != "generator"}}
    rewrite(saved, lambda header: {**header, **before})
    assert load(saved).rules == Rules(generator="philox4x64")


@pytest.mark.parametrize("version", [FORMAT + 1, 0, None, "1"])
def test_other_format(saved, version):
    rewrite(saved, lambda header: {**header, "format": version})
    with pytest.raises(
        CheckpointError, match=rf"checkpoint format {version!r}; this version reads {FORMAT}$"
    ):
        load(saved)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"S1": np.full((8, 3), 65, np.int8)}, "weights of layer 1: want int8 in -64..64"),
        ({"S1": np.full((8, 3), -65, np.int8)}, "weights of layer 1: want int8 in -64..64"),
        ({"S1": np.full((8, 3), -128, np.int8)}, "weights of layer 1: want int8 in -64..64"),
        ({"S0": np.zeros((3, 3, 1, 2), np.int16)}, "weights of layer 0: want int8 in -64..64"),
        ({"S0": np.zeros((3, 3, 1, 2))}, "weights of layer 0: want int8 in -64..64"),
        (
            {"S1": np.zeros((8, 2), np.int8)},
            "weights of shapes [(3, 3, 1, 2), (8, 2)]: want [(3, 3, 1, 2), (8, 3)]",
        ),
        ({"S1": None}, "weights of shapes [(3, 3, 1, 2)]: want [(3, 3, 1, 2), (8, 3)]"),
        ({"S0": None}, "weights of shapes [None]: want [(3, 3, 1, 2), (8, 3)]"),
        (
            {"S2": np.zeros(3, np.int8)},
            "weights of shapes [(3, 3, 1, 2), (8, 3), (3,)]: want [(3, 3, 1, 2), (8, 3)]",
        ),
        (
            {"other": np.zeros(3, np.int8)},
            "an array 'other': want weights, importance, momentum and norm of each layer alone",
        ),
    ],
)
def test_weights_that_the_network_cannot_have(saved, changes, message):
    rewrite(saved, **changes)
    with pytest.raises(CheckpointError) as caught:
        load(saved)
    assert str(caught.value) == f"{saved}: damaged checkpoint ({message})"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("network", "2C3-F-", "network '2C3-F-': cannot read ''"),
        ("network", "2C3-MP2-F", "last layer F: want a Dense"),
        ("bits", "1888", "k_W=1: want"),
        ("input_shape", [4, 4], "input shape (4, 4): want"),
        ("input_shape", None, "input_shape=None: want a list"),
        ("rules", {"batch": 0}, "batch=0: want"),
        ("rules", {"impetus": 1}, "rules.impetus=1: want batch, "),
        ("rules", {"pipelined": 1}, "rules.pipelined=1: want true or false"),
        (
            "error_held",
            [{"exponent": 1, "above": 2}] * 2,
            "error_held[0].above=2: want exponent, below alone",
        ),
        ("error_held", [{"exponent": 63}] * 2, "exponent=63, below=0): want 0..62"),
        ("gradient_held", [{"below": -1}] * 2, "below=-1): want 0..62, below 0 or more"),
        ("error_held", 3, "error_held=3: want a list"),
        ("seed", True, "seed=True: want a whole number"),
        ("step", -1, "step=-1: want 0.."),
        ("signed_input", "no", "signed_input='no': want true or false"),
        ("extra", [], "extra=[]: want an object"),
    ],
)
def test_damaged_header(saved, field, value, message):
    rewrite(saved, lambda header: {**header, field: value})
    with pytest.raises(CheckpointError, match=r"a\.npz: damaged checkpoint \(") as caught:
        load(saved)
    assert message in str(caught.value)


FIELDS = [
    "network",
    "input_shape",
    "bits",
    "signed_input",
    "rules",
    "seed",
    "step",
    "error_held",
    "gradient_held",
    "extra",
]


@pytest.mark.parametrize("field", FIELDS)
def test_missing_field(saved, field):
    rewrite(saved, lambda header: {k: v for k, v in header.items() if k != field})
    with pytest.raises(CheckpointError, match=rf"damaged checkpoint \({field}: is missing\)$"):
        load(saved)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", -1),
        ("seed", "5"),
        ("seed", None),
        ("step", -1),
        ("step", 0.5),
        ("error_held", []),
        ("gradient_held", [{"exponent": 1, "below": 0}] * 3),
        ("error_held", [{"exponent": "1", "below": 0}] * 2),
    ],
)
def test_values_that_training_cannot_have(saved, field, value):
    """What would only fail later, inside a training step."""
    rewrite(saved, lambda header: {**header, field: value})
    with pytest.raises(CheckpointError, match=r"a\.npz: damaged checkpoint \("):
        load(saved)


@pytest.mark.parametrize("header", [[], 3, None, "text"])
def test_header_that_is_no_object(saved, header):
    rewrite(saved, lambda _: header)
    with pytest.raises(CheckpointError, match=r"a\.npz: "):
        load(saved)


# --- saving that fails -------------------------------------------------------------------------------


def test_folder_that_cannot_be_written(saved):
    checkpoint = load(saved)
    for path in (saved.parent / "none" / "b.npz", saved / "b.npz"):
        with pytest.raises(OSError, match=r"b\.npz"):
            save(path, checkpoint)
    assert os.listdir(saved.parent) == ["a.npz"]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_failure_in_the_middle_leaves_the_old_file(saved, monkeypatch, error):
    whole, checkpoint = saved.read_bytes(), load(saved)

    def fail(file, **arrays):
        file.write(whole[:100])
        raise error

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(type(error)):
        save(saved, checkpoint)
    assert saved.read_bytes() == whole
    assert os.listdir(saved.parent) == ["a.npz"]


def test_extra_that_is_no_json_leaves_the_old_file(saved):
    whole, checkpoint = saved.read_bytes(), load(saved)
    checkpoint.extra["array"] = np.zeros(3)
    with pytest.raises(TypeError, match="JSON"):
        save(saved, checkpoint)
    assert saved.read_bytes() == whole
    assert os.listdir(saved.parent) == ["a.npz"]


def _with_importance(tmp_path: Path) -> tuple[Path, Checkpoint]:
    network, rules = Network((Dense(4), Dense(3)), (5,)), Rules(batch=2, consolidation=6)
    state, x = initial_state(network), np.arange(10, dtype=np.int8).reshape(2, 5)
    for _ in range(3):
        state, _ = train_step(network, state, Batch(x, np.array([0, 2])), 3, rules)
    saved = Checkpoint(network, rules, consolidated(network, state, 3, rules))
    state, _ = train_step(network, saved.state, Batch(x, np.array([1, 2])), 3, rules)
    saved = replace(saved, state=state)
    save(tmp_path / "c.npz", saved)
    return tmp_path / "c.npz", saved


def test_importance_comes_back(tmp_path, assert_same_state):
    path, saved = _with_importance(tmp_path)
    assert all(bits.any() for bits, _ in saved.state.importance)
    assert any(steps.any() for _, steps in saved.state.importance)
    assert_same_state(load(path).state, saved.state)


def test_a_checkpoint_of_before_there_was_importance_still_loads(tmp_path, assert_same_state):
    path, saved = _with_importance(tmp_path)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files if not name.startswith("importance")}
    header = json.loads(bytes(arrays["header"]))
    del header["rules"]["metaplasticity"], header["rules"]["consolidation"]
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez(path, **arrays)
    found = load(path)
    assert (found.rules, found.state.importance) == (replace(saved.rules, consolidation=0), None)
    assert_same_state(found.state, saved.state.having(importance=(None,) * len(saved.state.layers)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"importance1": np.zeros((2, 4, 2), np.uint16)},
            r"importance of layer 1: want uint16 \(2, 4, 3\), bits in",
        ),
        ({"importance0": np.zeros((2, 5, 4), np.int16)}, r"importance of layer 0: want uint16"),
        ({"importance0": np.full((2, 5, 4), 7, np.uint16)}, r"bits in 0\.\.6"),
        ({"importance1": None}, "importance0 alone: want importance of 2 layers"),
    ],
)
def test_importance_that_cannot_be_is_refused(tmp_path, change, message):
    path, _ = _with_importance(tmp_path)
    with np.load(path) as file:
        arrays = {**file, **change}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(CheckpointError, match=message):
        load(path)


# --- what would take too much memory -----------------------------------------------------------------


def test_a_file_that_declares_more_than_its_network_is_refused_unread(saved, monkeypatch):
    """6 MB of a zip that unpack to 6 GiB, and an array whose head says more than there is."""
    with zipfile.ZipFile(saved, "a", zipfile.ZIP_DEFLATED) as file, file.open("S2.npy", "w") as member:
        np.lib.format.write_array_header_1_0(
            member, {"shape": (1 << 24,), "fortran_order": False, "descr": "|i1"}
        )
        member.write(bytes(1 << 24))
    monkeypatch.setattr(arrays.np.lib.format, "read_array", lambda *_, **__: pytest.fail("it was read"))
    monkeypatch.setattr(checkpoint, "ArrayFile", JsonAlone)
    with pytest.raises(
        CheckpointError, match=r"weights of shapes \[.*\(16777216,\)\]: want \[\(3, 3, 1, 2\), "
    ):
        load(saved)


class JsonAlone(arrays.ArrayFile):
    """Reads the header without the function that reads arrays."""

    def read(self, name, problem=CheckpointError):
        assert name == "header"
        return np.frombuffer(b"".join(self.parts(name)), np.uint8)


def test_a_head_that_says_more_than_the_file_has(saved):
    with zipfile.ZipFile(saved) as file:
        members = {name: file.read(name) for name in file.namelist()}
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"shape": (1 << 20, 46 << 20), "fortran_order": False, "descr": "|i1"}
    )
    members["S1.npy"] = head.getvalue() + bytes(24)
    with zipfile.ZipFile(saved, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    with pytest.raises(CheckpointError, match="of 50577534877696 bytes: the file has 24"):
        load(saved)


def test_a_network_that_no_memory_holds_is_refused_with_the_number():
    net = Network.parse("300000FC-300000FC", (8, 8, 1), 10)
    with pytest.raises(
        NetworkError, match=r"90,022,200,000 weights: takes 2\.7 TiB of memory; \S+ \S+ are free$"
    ):
        initial_state(net)
    with pytest.raises(NetworkError, match=r"takes .* EiB of memory"):
        initial_state(Network.parse("999999999FC-999999999FC", (8, 8, 1), 10))


# --- of earlier versions -----------------------------------------------------------------------------

OLD = Path(__file__).resolve().parent / "data" / "checkpoint-0.1.0.npz"
"""Written by version 0.1.0 (commit 23fde0d), whose State had four tuples."""


def digest(state):
    arrays = (*state.S, *(state.importance or ()))
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def test_a_checkpoint_of_version_0_1_0_loads_and_goes_on_to_the_same_bits():
    saved = load(OLD)
    assert digest(saved.state) == "b0730cb74e179babb499834e45dfe16c0782771045f8044211f108b7610bdc6a"
    assert (saved.state.step, saved.state.seed) == (8, 7)
    assert saved.state.error_held == (Held(8, 4), Held(7, 8), Held(9, 8))
    assert saved.state.gradient_held == (Held(15, 8), Held(15, 8), Held(14, 8))
    rng = np.random.default_rng(0)
    images = (rng.integers(0, 256, (24, 6, 6, 1)) * (rng.random((24, 6, 6, 1)) < 0.5)).astype(np.uint8)
    with NumpyEngine(saved.network, saved.rules, state=saved.state) as engine:
        engine.train(images, rng.integers(0, 3, 24), 1)
        assert digest(engine.state) == "da057aec30ba25191b2b90b9ef7b729f4c74a0c15fe6790990ee39f5b2fca007"
