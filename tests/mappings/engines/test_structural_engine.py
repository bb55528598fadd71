"""The Lava engine with structural models: what it refuses, how it fails, what its widths do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lava", reason="lava-nc is not installed")

from mappings.engines.lava.engine import LavaEngine, LavaOptions
from processes.widths import Widths
from wage_neuro import Bits, Control, Dense, Network, NumpyEngine, Rules, State, neurocore
from wage_neuro.errors import BitWidthError, EngineError, SettingError

NETWORK = Network((Dense(12), Dense(3)), (10,))
RULES = Rules(batch=1, shift="held", update="ternary")
PIPELINED = Rules(batch=16, shift="held", update="ternary", pipelined=True)


@pytest.mark.parametrize(
    ("rules", "lanes", "message"),
    [
        (replace(RULES, batch=8), 1, "batch=8: the structural model has batch=1 or pipelined only"),
        (replace(RULES, batch=8), 8, "batch=8: the structural model has batch=1 or pipelined only"),
        (Rules(batch=1, update="ternary"), 1, "shift='batch': the structural model has 'held' only"),
        (
            replace(RULES, feedback="random"),
            1,
            "feedback='random': the structural model has 'transposed' only",
        ),
        (replace(RULES, gamma=2), 1, "gamma=2: the structural model has 1 only"),
        (
            replace(RULES, update="wide"),
            1,
            "update='wide': the structural model has 'ternary' or 'coincidence' only",
        ),
        (
            replace(RULES, loss="softmax"),
            1,
            "loss='softmax': the structural model has 'sse' or 'one-sided' only",
        ),
        (replace(RULES, metaplasticity=1), 1, "metaplasticity=1: the structural model has 0 only"),
        (replace(RULES, consolidation=4), 1, "consolidation=4: the structural model has 0 only"),
    ],
)
def test_rules_that_a_chip_has_no_part_for(rules, lanes, message):
    with pytest.raises(SettingError, match=f"^{message}$"):
        LavaEngine(NETWORK, rules, options=LavaOptions(lanes=lanes, model="structural"))


def test_models_by_name():
    with pytest.raises(SettingError, match=r"^model='Structural': want behavioural or structural$"):
        LavaEngine(NETWORK, PIPELINED, options=LavaOptions(model="Structural"))
    for more in ({"widths": Widths()}, {"strict": True}):
        with pytest.raises(SettingError, match=r"^widths or strict with model='behavioural'"):
            LavaEngine(NETWORK, PIPELINED, options=LavaOptions(**more))


def test_a_part_that_fails_is_named_and_nothing_is_left(monkeypatch, sparse_images):
    def broken(*_):
        raise ArithmeticError("made to fail")

    monkeypatch.setattr(neurocore, "error_sums", broken)
    engine = LavaEngine(
        NETWORK, PIPELINED, options=LavaOptions(model="structural", channels="stock", kernels="numpy")
    )
    children = [Path(f"/proc/{actor.pid}") for actor in engine._graph._children.living]
    assert len(children) == 4 + 5 + 2 + 1  # parts of both layers, source and read-out, Lava's own service
    engine.predict(np.zeros((1, 10), np.uint8))
    with pytest.raises(EngineError, match=r"layer 1 3FC transposed synapses: ArithmeticError: made to fail"):
        engine.train(*sparse_images(16, (10,), 3), 0)
    engine.close()
    assert not [child for child in children if child.exists()]


# --- widths ------------------------------------------------------------------------------------------

SUM = Network((Dense(2),), (4,))
UP_AND_DOWN = State.of((np.array([[64, -64]] * 4, np.int8),), seed=0)
FITS, ONE_TOO_MANY = np.array([[128, 128, 128, 126]], np.uint8), np.array([[128] * 4], np.uint8)


def test_a_sum_saturates_at_both_ends_and_not_before():
    nine = Widths(accumulator=9)  # -255..255
    with LavaEngine(SUM, RULES, state=UP_AND_DOWN, options=LavaOptions(model="structural")) as engine:
        assert engine.unproven == []
        assert engine.predict(np.concatenate([FITS, ONE_TOO_MANY])).tolist() == [[255, -255], [256, -256]]
    with LavaEngine(
        SUM, RULES, state=UP_AND_DOWN, options=LavaOptions(model="structural", widths=nine)
    ) as engine:
        assert engine.unproven == [
            "layer 0 2FC forward synapses: z_out may reach 508, past its 9 bits (-255..255)"
        ]
        assert engine.predict(np.concatenate([FITS, ONE_TOO_MANY])).tolist() == [[255, -255], [255, -255]]


def test_strict_ends_the_run_and_names_it():
    nine = Widths(accumulator=9)
    with LavaEngine(
        SUM, RULES, state=UP_AND_DOWN, options=LavaOptions(model="structural", widths=nine, strict=True)
    ) as engine:
        assert engine.predict(FITS).tolist() == [[255, -255]]
        with pytest.raises(
            EngineError, match=r"layer 0 2FC forward synapses: z_out=256 is past its 9 bits \(-255\.\.255\)"
        ):
            engine.predict(ONE_TOO_MANY)


def test_a_hold_that_no_counter_reaches(assert_same_state):
    """Under a control a layer may hold longer than its rules say, up to what its trackers count to."""
    rules, twelve = replace(RULES, hold=5), Widths(state=12)  # counts to 2047
    network = replace(SUM, bits=Bits.parse("2-8-8-3"))  # whose gradients fit it
    images, labels = np.full((9, 4), 255, np.uint8) // np.arange(1, 10, dtype=np.uint8)[:, None], [0] * 9
    oracle = NumpyEngine(network, rules, state=UP_AND_DOWN)
    with LavaEngine(
        network, rules, state=UP_AND_DOWN, options=LavaOptions(model="structural", widths=twelve, strict=True)
    ) as engine:
        for hold in (3, 2047):
            for each in (oracle, engine):
                each.train(images, np.array(labels), Control(log2_eta=0, hold=hold))
        assert_same_state(oracle.state, engine.state)
        with pytest.raises(BitWidthError, match=r"^hold=2048: the layer 0 2FC error exponent counts in 12"):
            engine.train(images, np.array(labels), Control(log2_eta=0, hold=2048))
        engine.train(images, np.array(labels), 0)  # it can still be used
    behavioural = LavaEngine(network, rules, state=UP_AND_DOWN)
    with behavioural:
        behavioural.train(images, np.array(labels), Control(log2_eta=0, hold=2**31 - 1))


@pytest.mark.parametrize(
    ("widths", "name"),
    [
        (Widths(error=4), "layer 1 3FC neurons: e_out="),
        (Widths(learning=9), "layer 1 3FC transposed synapses: G="),
    ],
    ids=["error", "learning"],
)
def test_too_narrow_to_learn(widths, name, sparse_images):
    images, labels = sparse_images(32, (10,), 3)
    oracle = NumpyEngine(NETWORK, PIPELINED)
    oracle.train(images, labels, 3)
    with LavaEngine(NETWORK, PIPELINED, options=LavaOptions(model="structural", widths=widths)) as engine:
        engine.train(images, labels, 3)
        assert any((a != b).any() for a, b in zip(engine.state.S, oracle.state.S, strict=True))
    with (
        LavaEngine(
            NETWORK, PIPELINED, options=LavaOptions(model="structural", widths=widths, strict=True)
        ) as engine,
        pytest.raises(EngineError, match=name),
    ):
        engine.train(images, labels, 3)


def test_a_tag_too_narrow_for_the_weights(sparse_images):
    six = Widths(tag=6)
    with LavaEngine(NETWORK, PIPELINED, options=LavaOptions(model="structural", widths=six)) as engine:
        engine.train(*sparse_images(16, (10,), 3), 3)
        assert [np.abs(S).max() for S in engine.state.S] == [31, 31]
    with pytest.raises(BitWidthError, match=r"^layer \d \d+FC forward synapses: S=-?64 is past its 6 bits"):
        LavaEngine(NETWORK, PIPELINED, options=LavaOptions(model="structural", widths=six, strict=True))
