"""Communication and memory: the coder, what it is held against, and the command."""

from __future__ import annotations

import json
import struct
from collections import Counter
from dataclasses import replace
from math import log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.runs.training import Run
from experiments.studies import communication
from experiments.studies.communication import decode, encode, entropy_bytes, fixed_bits, measure, memory
from wage_neuro import Dense, Network, Rules
from wage_neuro.errors import CheckpointError, NetworkError, SettingError

UPDATE = st.lists(
    st.one_of(st.just(0), st.integers(-1, 1), st.integers(-(2**17), 2**17)), min_size=0, max_size=60
)


@given(UPDATE, st.integers(0, 1100), st.integers(0, 1100))
def test_what_is_coded_is_decoded(values, before, after):
    dS = np.array([0] * before + values + [0] * after, np.int32)
    assert np.array_equal(decode(encode(dS), dS.size), dS)


@pytest.mark.parametrize("zeros", [0, 1, 254, 255, 256, 509, 510, 511, 765])
def test_gaps_around_a_full_byte(zeros):
    dS = np.array([1, *[0] * zeros, -1], np.int32)
    assert np.array_equal(decode(encode(dS), dS.size), dS)


@pytest.mark.parametrize("share", [0.001, 0.01, 0.05, 0.2, 0.6])
def test_the_coder_comes_near_the_entropy(share):
    """Of independent changes nothing can be coded in less; the coder loses a twentieth and a table."""
    rng = np.random.default_rng(0)
    dS = (rng.integers(0, 2, 400_000) * 2 - 1) * (rng.random(400_000) < share)
    coded = sum(map(len, encode(dS.astype(np.int32))))
    assert 0.995 * entropy_bytes(dS) < coded < 1.12 * entropy_bytes(dS) + 200


def test_entropy_by_its_definition():
    dS = np.random.default_rng(1).integers(-2, 3, 1000)
    counts = Counter(dS.tolist()).values()
    assert entropy_bytes(dS) == pytest.approx(sum(-n * log2(n / 1000) for n in counts) / 8)
    assert entropy_bytes(np.zeros(50, int)) == 0


def test_fixed_bits_tell_all_changes_apart():
    network = Network((Dense(2),), (3,))
    for rules in (Rules(), Rules(update="ternary"), Rules(stored_range="paper")):
        largest = 1 if rules.update == "ternary" else 2 * network.bits.stored_max(rules.stored_range)
        bits = fixed_bits(network, rules)
        assert 2 ** (bits - 1) < 2 * largest + 1 <= 2**bits


def test_memory_is_the_papers():
    bytes_of = memory(Network.parse("lenet", (28, 28, 1), 10))
    assert bytes_of["float32"] == 16 * bytes_of["inference"] == 4 * bytes_of["training"]


@pytest.mark.parametrize("update", ["ternary", "wide"])
def test_a_run_is_measured_as_it_is_trained(update, helpers, tmp_path):
    """The run measured is the run itself: same accuracy; the steps are those asked for."""
    config = helpers.small(Rules(batch=32, update=update))
    run = helpers.fit(Run.start(config, tmp_path))
    record = measure(config, every=5)
    assert record["accuracy"] == run.progress.curve[-1]["accuracy"]
    assert [row["step"] for row in record["steps"]] == list(range(0, 36, 5))  # 3 epochs of 12
    for row in record["steps"]:
        assert row["largest"] <= (1 if update == "ternary" else 128)
        assert 0 < row["changed"] < 1
        assert 0 < row["coded"] < row["fixed"] < record["bytes_a_step"]["float32 gradient"]
    assert max(row["largest"] for row in record["steps"]) == 1 or update == "wide"
    n = record["weights"]
    assert record["bytes_a_step"]["fixed"] == round(n * record["fixed_bits"] / 8)
    assert record["bytes_a_step"]["float32 gradient"] == n * struct.calcsize("f")


def test_the_updates_are_those_of_the_weights(helpers, monkeypatch):
    """What is sent, added up over every step, is what training did to the stored weights."""
    total, seen = [], communication.sent

    def add_up(step, updates, bits):
        total.append(updates)
        return seen(step, updates, bits)

    monkeypatch.setattr(communication, "sent", add_up)
    config = helpers.small(epochs=1)
    measure(config, every=1)
    data = communication.open_data(config)
    network = communication.build_network(config, data)
    begin = communication.initial_state(network, config.seed)
    with communication.make_engine("numpy", network, config.rules, begin) as engine:
        order = communication.permutation(config.seed, 0, len(data.train_labels))[: 12 * 32]
        engine.train(data.train_images[order], data.train_labels[order], 3)
        for i, (S, first) in enumerate(zip(engine.state.S, begin.S, strict=True)):
            assert np.array_equal(S.reshape(-1), first.reshape(-1) - sum(updates[i] for updates in total))


def test_the_command(wage_neuro, helpers, tmp_path):
    run = Run.start(helpers.small(), tmp_path / "run")
    (tmp_path / "run").mkdir()
    helpers.fit(run)
    ended = wage_neuro("communication", tmp_path / "run", "--every", 6, "--epochs", 1, "--output", "out.json")
    assert ended.code == 0
    record = json.loads((tmp_path / "out.json").read_text())
    assert [row["step"] for row in record["steps"]] == [0, 6]
    assert record["command"].startswith("wage-neuro communication")
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    assert f"{record['bytes_a_step']['coded']:,} bytes a step" in ended.out
    assert ended.last == "written to out.json and out.png"


def test_bad_input(wage_neuro, helpers, tmp_path):
    assert "no such" in wage_neuro("communication", tmp_path / "none").err
    with pytest.raises(SettingError, match=r"^every=0: want 1 or more steps$"):
        measure(helpers.small(), 0)
    with pytest.raises(NetworkError, match=r"10FCU: the measure of communication has no unquantized layer$"):
        measure(helpers.small(network="8FC-FCU"), 1)
    rules = Rules(batch=32, shift="held", update="ternary", pipelined=True)
    with pytest.raises(SettingError, match=r"^a pipelined run: "):
        measure(replace(helpers.small(), rules=rules), 1)


def test_a_checkpoint_of_something_else(helpers, tmp_path):
    run = Run.start(helpers.small(), tmp_path)
    helpers.fit(run)
    helpers.tamper(tmp_path / "checkpoint.npz", lambda header: header["extra"].update(config=None))
    with pytest.raises(CheckpointError, match=r"damaged checkpoint: config=None: want an object"):
        communication.config_of(tmp_path)
