"""A session learns what its engine learns, shows what the network does, and takes no nonsense."""

from __future__ import annotations

import base64
import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import datasets
from experiments.commands import raster
from experiments.live import commands as told
from experiments.live.commands import COMMANDS, command_of
from experiments.live.learners import with_outputs
from experiments.live.session import NAMES, Config, Session, fresh, opened
from experiments.live.watched import Watched
from experiments.runs import run_folder
from mappings.formats import packed
from wage_neuro import Control, Network, NumpyEngine, Rules, initial_state
from wage_neuro.checkpoint import Checkpoint
from wage_neuro.errors import CheckpointError, EngineError, SettingError, WageError
from wage_neuro.memory import MemoryForm, Reservoir
from wage_neuro.random_bits import permutation
from wage_neuro.train import predict

try:
    import lava  # noqa: F401
except ImportError:
    ENGINES = ["compiled"]
else:
    ENGINES = ["compiled", "lava"]


def arrays(packed_: dict, dtype: str = "<i2") -> np.ndarray:
    return np.frombuffer(base64.b64decode(packed_["data"]), dtype).reshape(packed_["shape"])


def taught(session: Session, star, passes: int = 3) -> None:
    for _ in range(5):
        session.do(told.Draw(star))
        session.do(told.Keep(10))
    session.do(told.Teach(10, passes))
    while session.lesson:
        session.advance()


# --- learning ----------------------------------------------------------------------------------------


def test_learns_what_engine_and_memory_learn(open_session, digits, assert_same_state):
    """The order, the recalled samples and the step size follow from what the session was told."""
    session = open_session(memory=20)
    session.do(told.Classes([0, 1, 2, 5]))
    session.do(told.Freeze(0, True))
    session.do(told.Train(True))
    session.at_once = 90
    session.advance()
    session.do(told.Freeze(0, False))
    session.do(told.Eta(1))
    session.do(told.Pace(5))
    session.advance()

    mine = np.flatnonzero(np.isin(digits.train_labels, [0, 1, 2, 5]))
    order = np.concatenate([mine[permutation(0, epoch, len(mine))] for epoch in (0, 1)])
    parts = [(order[:90], Control(log2_eta=(None, 2))), (order[90:91], Control(log2_eta=1))]
    memory = Reservoir.empty(20, (8, 8, 1), 12, 0, form=MemoryForm(keep="balanced"))
    with (
        NumpyEngine(session.network, session.rules) as naive,
        NumpyEngine(session.network, session.rules) as recalling,
    ):
        for part, control in parts:
            images, labels = digits.train_images[part], digits.train_labels[part]
            naive.train(images, labels, control)
            mixed = memory.interleave(images, labels, 1)
            recalling.train(mixed.images, mixed.labels, control)
        assert_same_state(session.states[0], naive.state, "without memory")
        assert_same_state(session.states[1], recalling.state, "with memory")
    assert session.samples == 91


@pytest.mark.parametrize("engine", ENGINES)
def test_engines_show_the_same_session(engine, open_session, star, assert_same_state, need_kernels):
    need_kernels()
    frames, sessions = [], [open_session(), open_session(engine)]
    for session in sessions:
        session.do(told.Train(True))
        session.do(told.Pace(20))
        for _ in range(12):
            session.advance()
        session.do(told.Draw(star, 11))
        session.do(told.Learn(11))
        taught(session, star, passes=1)
        frames.append(json.loads(json.dumps({**session.frame(), "curve": []})))  # of time
    for one, other, name in zip(sessions[0].states, sessions[1].states, NAMES, strict=True):
        assert_same_state(one, other, name)
    assert frames[0] == frames[1]


def test_a_lesson_is_learned_and_can_be_undone(open_session, star, assert_same_state):
    session = open_session()
    session.do(told.Train(True))
    session.at_once = 600
    session.advance()
    before = session.states
    held = session.pair[1].memory.images.copy()
    taught(session, star, passes=12)
    verdict = session.frame()["verdict"]
    assert [each["right"] for each in verdict["learners"]] == [5, 5]
    assert (verdict["label"], verdict["drawings"], session.samples) == (10, 5, 600 + 60)
    for each, accuracy in zip(verdict["learners"], session.accuracy, strict=True):
        assert each["after"] == pytest.approx(np.mean(accuracy[:10]))
        assert each["lost"] == sorted(each["lost"], key=lambda row: row[2] - row[1])
    assert not all(np.array_equal(a, b) for a, b in zip(before[0].S, session.states[0].S, strict=True))
    session.do(told.Back())
    for one, other in zip(before, session.states, strict=True):
        assert_same_state(one, other, "undone")
    assert np.array_equal(held, session.pair[1].memory.images)
    assert (session.samples, session.marks, session.verdict) == (600, [], None)
    with pytest.raises(SettingError, match=r"^back: there is nothing to undo$"):
        session.do(told.Back())


def test_to_start_again_can_be_undone(open_session, assert_same_state):
    session = open_session()
    session.do(told.Train(True))
    session.at_once = 50
    session.advance()
    before, curve, memory = session.states, session.curve, session.pair[1].memory
    session.do(told.Restart())
    assert_same_state(session.states[0], initial_state(session.network, 0), "begun anew")
    assert (session.samples, session.pair[1].memory.seen, session.on) == (0, 0, False)
    assert session.frame()["undo"] == "starting again"
    session.do(told.Back())
    assert_same_state(session.states[1], before[1], "undone")
    assert (session.samples, session.curve, session.unsaved) == (50, curve, True)
    assert np.array_equal(session.pair[1].memory.images, memory.images)
    session.do(told.Train(True))
    session.advance()
    assert session.samples > 50


def test_the_demonstration(star, need_kernels):
    """What the page is for: five drawings teach a class; without a memory others are lost for it."""
    need_kernels()
    digits = datasets.load("digits")
    session = Session(fresh(Config(), digits), digits, Config(), "compiled")
    session.do(told.Train(True))
    session.at_once = 12_000
    session.advance()
    known = [session.overall(each) for each in session.accuracy]
    assert min(known) > 0.94
    taught(session, star, passes=20)
    naive, recalling = session.frame()["verdict"]["learners"]
    assert naive["right"] == recalling["right"] == 5
    assert naive["after"] < known[0] - 0.3
    assert recalling["after"] > known[1] - 0.1
    assert session.samples == 12_100
    session.close()


def test_batches_are_whole(digits, star):
    """A network of a run learns as its rules say: a drawing fills a batch."""
    saved = Checkpoint(
        Network.parse("8FC", (8, 8, 1), 12),
        Rules(batch=4),
        initial_state(Network.parse("8FC", (8, 8, 1), 12)),
    )
    session = Session(saved, digits, Config(), "numpy")
    session.do(told.Train(True))
    session.advance()
    session.do(told.Draw(star))
    session.do(told.Learn(10))
    assert (session.samples, [state.step for state in session.states]) == (8, [2, 4])
    with pytest.raises(SettingError, match=r"^batch=3 with a memory: want 1 or an even batch"):
        Session(Checkpoint(saved.network, Rules(batch=3), saved.state), digits, Config(), "numpy")


def test_a_failed_engine_is_said_and_the_session_goes_on(open_session, monkeypatch, assert_same_state):
    session = open_session()
    session.do(told.Example())
    session.do(told.Learn(3))
    before = session.states

    def fail(*_):
        raise EngineError("a child was killed")

    engine = session.pair[0].engine
    monkeypatch.setattr(engine, "train", fail)
    monkeypatch.setattr(type(engine), "state", property(fail))
    session.do(told.Train(True))
    with pytest.raises(EngineError, match="a child was killed"):
        session.advance()
    monkeypatch.undo()
    assert_same_state(session.states[0], before[0], "as it was last seen")
    session.do(told.Restart())
    session.do(told.Train(True))
    session.advance()
    assert session.samples > 0


# --- what is shown -----------------------------------------------------------------------------------


def test_shows_what_the_network_does(open_session, digits):
    session = open_session(network="4C3-MP2-12FC")
    session.do(told.Train(True))
    session.at_once = 50
    session.advance()
    session.do(told.Train(False))
    session.do(told.Example(7))
    before = session.states[0]
    look = session.frame()["look"]
    image = next(
        image for image, label in zip(digits.test_images, digits.test_labels, strict=True) if label == 7
    )
    assert np.array_equal(arrays(look["image"], "u1"), image)
    assert look["logits"] == predict(session.network, before, session.network.encode(image[None]))[0].tolist()
    activity = raster.record(session.network, before, session.rules, image, 7)
    for volley in activity.volleys:
        sent = look["bands"][volley.band]["errors" if volley.is_error else "values"]
        assert sent["spikes"] == np.count_nonzero(volley.values)
        shown = arrays(sent)
        wanted = np.moveaxis(volley.values, -1, 0) if volley.values.ndim == 3 else volley.values
        assert np.array_equal(shown.ravel()[: volley.values.size], wanted.ravel())

    session.do(told.Learn(2))
    frame = session.frame()
    for layer, found, old, new in zip(
        session.network.layers, frame["moved"], before.S, session.states[0].S, strict=True
    ):
        step = np.sign(new.astype(int) - old)
        assert (found["up"], found["down"]) == ((step > 0).sum(), (step < 0).sum())
        assert np.array_equal(arrays(found["step"], "i1"), step.reshape(layer.fan_in, -1).T)
        assert found["tile"][0] * found["tile"][1] == layer.fan_in
    assert sum(found["up"] for found in frame["moved"]) > 0
    assert frame["look"]["label"] == 2


def test_shows_a_sample_as_it_was_met(open_session):
    """With the weights of before it was learned: its answer is the one that the error came from."""
    session = open_session()
    session.do(told.Look(1))
    session.do(told.Train(True))
    for at_once in (60, 7):
        session.at_once = at_once
        before = session.states[1]
        session.advance()
    look = session.frame()["look"]
    x = session.network.encode(arrays(look["image"], "u1")[None])
    assert (look["source"], session.lately) == ("stream", 7)
    assert look["logits"] == predict(session.network, before, x)[0].tolist()
    assert look["logits"] != predict(session.network, session.states[1], x)[0].tolist()


def test_a_drawing_without_a_label_has_no_error(open_session, star):
    session = open_session()
    session.do(told.Draw(star))
    look = session.frame()["look"]
    assert (look["source"], look["label"], look["no_error"]) == ("drawing", None, "")
    assert all(band["errors"] is None for band in look["bands"])


def test_large_layers_are_sent_in_part(open_session):
    session = open_session(network="300FC")
    found = session.frame()["moved"][0]
    assert (found["V"]["shape"], found["neurons"]) == ([256, 64], 300)


def test_the_curve_stays_short(open_session):
    session = open_session(network="4FC")
    session.do(told.Train(True))
    session.do(told.Pace(20))
    for _ in range(600):
        session.learn(*session._next(1))
        session.count(at_once=True)
    places = [row[0] for row in session.curve]
    assert 100 < len(places) <= 240
    assert (places[0], places[-1], places) == (0, 600, sorted(set(places)))


# --- what stays --------------------------------------------------------------------------------------


def test_what_is_saved_is_taken_by_other_commands(
    open_session, star, tmp_path, monkeypatch, wage_neuro, assert_same_state
):
    monkeypatch.chdir(tmp_path)
    session = open_session()
    taught(session, star)
    session.do(told.Name(10, "star"))
    assert session.unsaved
    session.do(told.Save())
    folder = tmp_path / session.frame()["saved"]
    for name, state in zip(("without-memory", "with-memory"), session.states, strict=True):
        saved, data = opened(folder / name, None)
        assert_same_state(saved.state, state, name)
        again = Session(saved, data, Config(), "numpy")
        assert again.names[10:] == ["star", "new B"]
    assert "test accuracy" in wage_neuro("evaluate", folder / "with-memory").out
    with np.load(folder / "drawings.npz") as drawings:
        assert drawings["images"].shape == (5, 8, 8, 1)
        assert drawings["labels"].tolist() == [10] * 5
    session.do(told.Learn(3))
    assert session.frame()["saved"] is None
    session.do(told.Save())
    assert [path.name for path in tmp_path.glob("runs/*")] == ["live-digits"]


def test_exports(open_session, tmp_path, assert_same_arrays):
    session = open_session()
    path = tmp_path / "net"
    path.write_bytes(session.exported(1, "packed"))
    answers = packed.read(path).checkpoint()
    for one, other in zip(answers.state.S, session.states[1].S, strict=True):
        assert np.array_equal(np.sign(one), np.sign(other))
    path.write_bytes(session.exported(0, "checkpoint"))
    assert_same_arrays(run_folder.load(path).state.S[0], session.states[0].S[0], "exported")
    with pytest.raises(SettingError, match=r"^format 'pickle': want checkpoint, nir"):
        session.exported(0, "pickle")


# --- what it is told ---------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)
FIELDS = ("on", "samples", "which", "strokes", "label", "place", "passes", "text", "log2", "layer", "learner")
MESSAGES = st.builds(
    lambda name, rest: {"do": name, **rest},
    st.sampled_from(sorted(COMMANDS)),
    st.dictionaries(st.sampled_from(FIELDS), JSON | st.integers(-2, 20), max_size=3),
)


@settings(max_examples=60)
@given(JSON | MESSAGES)
def test_nonsense_is_refused_in_a_line(message):
    refusal = ""
    try:
        assert type(command_of(message)) in COMMANDS.values()
    except WageError as error:
        refusal = str(error)
    assert len(refusal.splitlines()) <= 1
    assert len(refusal) < 400


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ([1], "[1]: want an object with a `do`"),
        ({"do": "train", "on": 1}, "train.on=1: want true or false"),
        ({"do": "train"}, "train.on: is missing"),
        ({"do": "pace", "samples": 21}, "pace.samples=21: want 1..20"),
        ({"do": "draw", "strokes": [[[float("nan"), 0]]]}, "draw.strokes[0][0][0]=nan: want -1..2"),
        ({"do": "eta", "log2": 17}, "eta.log2=17: want -16..16"),
        ({"do": "name", "label": 1, "text": "a\nb"}, "name 'a\\nb': want 1 to 24 printable signs"),
        ({"do": "save", "where": "/"}, "save.'where': want no field beside `do`"),
    ],
)
def test_a_refusal_has_the_value(message, text):
    with pytest.raises(WageError, match=f"^{re.escape(text)}$"):
        command_of(message)


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (told.Freeze(2, True), "layer=2: want 0..1"),
        (told.Classes([]), "classes []: want one or more of 0..9"),
        (told.Classes([10]), "classes [10]: want one or more of 0..9"),
        (told.Draw([], 12), "label=12: want 0..11"),
        (told.Example(10), "label=10: there are no images of it"),
        (told.Keep(3), "keep: nothing is drawn"),
        (told.Drop(0), "place=0: want 0..-1, between lessons"),
        (told.Teach(11), "teach: no drawing of 'new B' is kept"),
        (told.Learn(99), "label=99: want 0..11"),
    ],
)
def test_a_session_refuses(command, text, open_session):
    session = open_session()
    before = session.frame()
    with pytest.raises(SettingError, match=f"^{re.escape(text)}$"):
        session.do(command)
    assert session.frame() == before


# --- a run -------------------------------------------------------------------------------------------


def test_more_outputs_change_no_answer(sparse_images):
    network = Network.parse("6C3-9FC", (8, 8, 1), 5)
    saved = Checkpoint(network, Rules(batch=4), initial_state(network, 3))
    wide = with_outputs(saved, 2)
    x = network.encode(sparse_images(9, (8, 8, 1), 5)[0])
    assert np.array_equal(predict(wide.network, wide.state, x)[:, :5], predict(network, saved.state, x))
    with pytest.raises(
        SettingError, match=r"^feedback='direct', consolidation=0: such a network takes no new"
    ):
        with_outputs(Checkpoint(network, Rules(feedback="direct"), saved.state), 1)


def test_a_run_is_watched(helpers, tmp_path):
    config = helpers.small(epochs=2)
    from experiments.runs.training import Run

    folder = tmp_path / "run"
    run = helpers.fit(Run.start(config, folder), stop=(1, 64))
    view = Watched(folder)
    first = view.frame()
    assert (first["epochs"], len(first["curve"]), first["writing"]) == ([1, 2], 1, False)
    assert first["look"]["source"] == "example"
    helpers.fit(Run.resume(folder))
    view.advance()
    frame = view.frame()
    assert (frame["epochs"], len(frame["curve"])) == ([2, 2], 2)
    assert frame["updates"] > first["updates"]
    assert sum(layer["up"] + layer["down"] for layer in frame["moved"]) > 0
    (folder / "checkpoint.npz").write_bytes(b"half a checkpoint")
    view.advance()
    assert view.frame() == frame
    with run_folder.Lock(folder):
        assert view.frame()["writing"]
    with pytest.raises(SettingError, match=r"^train: this run is watched, not steered$"):
        view.do(told.Train(True))
    assert run.config == config


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"checkpoint.npz: no such checkpoint"):
        Watched(tmp_path)
    network = Network.parse("8FC", (4,), 2)
    from wage_neuro import checkpoint

    checkpoint.save(tmp_path / "checkpoint.npz", Checkpoint(network, Rules(), initial_state(network)))
    with pytest.raises(SettingError, match=r": does not say what it learned from; want the folder of"):
        opened(tmp_path, None)
