"""Every kind of layer x every rule through every engine and every format: equal, or refused by `supports`.

Whoever adds a kind or a value of a rule is told here what does not know it yet.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from experiments.commands.export import ROUND, reader_of
from experiments.engines import ENGINES, make_engine
from mappings.formats import c
from mappings.formats.registry import FORMATS
from wage_neuro import Network, NumpyEngine, Rules, initial_state
from wage_neuro.checkpoint import Checkpoint
from wage_neuro.engine import Engine
from wage_neuro.errors import EngineError, SettingError, WageError
from wage_neuro.kinds import Kind, kinds_of
from wage_neuro.rules import VALUES
from wage_neuro.train import predict

README = Path(__file__).resolve().parents[2] / "mappings" / "README.md"
KINDS = {
    Kind.DENSE: Network.parse("6FC-3FC", (5,)),
    Kind.UNQUANTIZED: Network.parse("6FC-3FCU", (5,)),
    Kind.CONV: Network.parse("3C3-F-3FC", (5, 4, 1)),
    Kind.MAX_POOL: Network.parse("3C3-MP2-F-3FC", (5, 4, 1)),
    Kind.AVERAGE_POOL: Network.parse("3C3-AP2-F-3FC", (5, 4, 1)),
    Kind.NORMALISED: Network.parse("3C3N-MP2-F-5FCN-3FC", (5, 4, 1)),
    Kind.PADDED_POOL: Network.parse("3C3-MP2P-F-3FC", (5, 4, 1)),
}
"""A network with each."""
BASES = {
    "batch": Rules(batch=4),
    "one by one": Rules(batch=1, shift="held", update="ternary"),
    "softmax": Rules(batch=4, loss="softmax"),
}
SIMULATED = ("lava", "lava structural", "brian2", "rtl")
COLUMNS = {
    "compiled": ("compiled", {}),
    "torch": ("torch", {}),
    "lava": ("lava", {}),
    "lava structural": ("lava", {"model": "structural"}),
    "brian2": ("brian2", {}),
    "rtl": ("rtl", {"simulator": "python"}),
}
NEEDS = {"torch": "torch", "lava": "lava", "lava structural": "lava", "brian2": "brian2", "rtl": "amaranth"}


@cache
def variants() -> dict[str, Rules]:
    """Each base, and each value of each rule, that makes rules with the base."""
    found = dict(BASES)
    for (base, rules), (name, values) in product(BASES.items(), VALUES.items()):
        for value in list(values) if len(list(values)) < 4 else list(values)[:: len(list(values)) - 1]:
            try:
                found[f"{base}, {name}={value}"] = replace(rules, **{name: value})
            except SettingError:
                continue  # these rules are none
    return found


def test_every_kind_has_a_network_here():
    assert set(KINDS) == set(Kind)
    for kind, network in KINDS.items():
        assert any(kind in kinds_of(layer) for layer in network.layers)


def test_every_rule_has_its_values_here():
    assert set(VALUES) | {"batch", "hold"} == set(vars(Rules()))
    for name, values in VALUES.items():
        seen = {getattr(rules, name) for rules in variants().values()}
        assert {next(iter(values)), list(values)[-1]} <= seen


def refusal_of(column: str, network: Network, rules: Rules) -> str | None:
    """Why the engine of a column should refuse this: what it says it takes, and what an FCU layer asks."""
    name, options = COLUMNS[column]
    return ENGINES.find(name).supports_of(**options).refusal(network, rules)


def build(column: str, network: Network, rules: Rules) -> Engine:
    name, options = COLUMNS[column]
    return make_engine(name, network, rules, initial_state(network), **options)


def cases(names) -> list:
    return [pytest.param(kind, name, id=f"{kind.name}-{name}") for kind, name in product(KINDS, names)]


EACH = [pytest.param(column, id=column.replace(" ", "-")) for column in COLUMNS]


@pytest.fixture
def agrees(sparse_images, assert_same_state, need_kernels):
    def check(column: str, kind: Kind, name: str) -> None:
        need_kernels() if column == "compiled" else pytest.importorskip(NEEDS[column])
        network, rules = KINDS[kind], variants()[name]
        if refusal_of(column, network, rules):
            return  # the matter of the test of refusals
        images, labels = sparse_images(8, network.input_shape, 3)
        oracle = NumpyEngine(network, rules)
        with build(column, network, rules) as engine:
            for log2_eta in (3, 0):
                logits = [each.train(images, labels, log2_eta) for each in (oracle, engine)]
                assert np.array_equal(*logits), f"numpy and {column}, {name}: logits in training"
            assert np.array_equal(oracle.predict(images), engine.predict(images)), (
                f"numpy and {column}, {name}"
            )
            assert_same_state(oracle.state, engine.state)

    return check


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("column", ["compiled", "torch"])
def test_what_is_taken_is_equal(column, kind, agrees):
    for name in variants():
        agrees(column, kind, name)


@pytest.mark.parametrize(
    ("column", "kind", "name"),
    [
        pytest.param(
            *case,
            id="-".join((case[0], case[1].name, case[2])),
            # the core's own tests hold its convolutions
            marks=[pytest.mark.slow] if case[0] == "rtl" and case[1] is not Kind.DENSE else [],
        )
        for case in product(SIMULATED, KINDS, BASES)
    ],
)
def test_what_a_simulator_takes_is_equal(column, kind, name, agrees):
    agrees(column, kind, name)


@pytest.mark.slow
@pytest.mark.parametrize("column", SIMULATED)
@pytest.mark.parametrize(("kind", "name"), cases(name for name in variants() if name not in BASES))
def test_all_that_a_simulator_takes_is_equal(column, kind, name, agrees):
    agrees(column, kind, name)


@pytest.mark.parametrize("column", EACH)
def test_what_is_not_taken_is_refused_in_one_line(column, need_kernels):
    need_kernels() if column == "compiled" else pytest.importorskip(NEEDS[column])
    for kind, name in product(KINDS, variants()):
        network, rules = KINDS[kind], variants()[name]
        refusal = refusal_of(column, network, rules)
        if refusal:
            with pytest.raises(WageError) as error:
                build(column, network, rules)
            assert str(error.value) == refusal
            assert "\n" not in refusal


# --- formats -----------------------------------------------------------------------------------------


REFUSED = {form: {Kind.UNQUANTIZED, Kind.AVERAGE_POOL, Kind.NORMALISED} for form in ROUND}
REFUSED["packed"] = {Kind.UNQUANTIZED, Kind.NORMALISED}
for _form in ("netx", "nir-if"):
    REFUSED[_form] |= {Kind.MAX_POOL, Kind.PADDED_POOL}
for _form in ("nir", "program"):
    REFUSED[_form] |= {Kind.PADDED_POOL}


@cache
def learned(kind: Kind, name: str) -> Checkpoint:
    network, rules = KINDS[kind], variants()[name]
    rng = np.random.default_rng(3)
    with NumpyEngine(network, rules) as engine:
        engine.train(
            rng.integers(0, 256, (8, *network.input_shape)).astype(np.uint8), rng.integers(0, 3, 8), 3
        )
        return Checkpoint(network, rules, engine.state)


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("form", ROUND)
def test_a_format_keeps_every_answer_or_refuses(form, kind, name, tmp_path, sparse_images, assert_same_state):
    try:
        saved = learned(kind, name)
    except SettingError:
        return  # rules of an unquantized layer
    path = tmp_path / "net"
    try:
        FORMATS.find(form).write(path, saved)
    except EngineError as error:
        pytest.skip(str(error))
    except WageError:
        assert kind in REFUSED[form] or (form == "program" and name == "softmax")
        assert not path.exists()
        return
    assert kind not in REFUSED[form]
    found, read = reader_of(path)
    assert found == form
    back = read(path)
    x = saved.network.encode(sparse_images(20, saved.network.input_shape, 3)[0])
    answers = [predict(each.network, each.state, x) for each in (saved, back)]
    assert np.array_equal(*answers)
    if form == "program":
        assert back.rules == saved.rules
        assert_same_state(back.state, saved.state)


@pytest.mark.parametrize("name", variants())
@pytest.mark.parametrize("form", ["program", "c that learns"])
def test_a_format_that_learns_knows_every_rule_or_refuses(form, name, tmp_path):
    """What it says it takes is what it writes: whether the C is right is the matter of test_c.py."""
    saved = learned(Kind.DENSE, name)
    if form == "program":
        from mappings.formats import program

        refusal = program.TAKES.refusal(saved.network, saved.rules)
        write = program.write
    else:
        refusal = c.LEARNS.refusal(saved.network, saved.rules)

        def write(path, saved):
            c.write(path, saved, True, None, None)

    if refusal is None:
        write(tmp_path / "net.c", saved)
        return
    with pytest.raises(WageError) as error:
        write(tmp_path / "net.c", saved)
    assert str(error.value) == refusal
    assert not (tmp_path / "net.c").exists()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_c_takes_a_kind_or_refuses(kind, tmp_path):
    saved = learned(kind, "softmax" if kind is Kind.UNQUANTIZED else "batch")
    refused = kind in (Kind.UNQUANTIZED, Kind.AVERAGE_POOL, Kind.NORMALISED)
    try:
        FORMATS.find("c").write(tmp_path / "net.c", saved)
    except WageError:
        assert refused
    else:
        assert not refused


@pytest.mark.parametrize("column", [name for name in COLUMNS if name != "compiled"])
def test_the_table_of_refusals_has_what_the_engines_refuse(column):
    """No more and no less: what is taken one day leaves the table."""
    if column in NEEDS:
        pytest.importorskip(NEEDS[column])
    engine, options = COLUMNS[column]
    kept = [
        row.split(" | ")
        for row in README.read_text().splitlines()
        if row.startswith(f"| {column.split()[-1]} | ")
    ]
    told = [what for row in kept for what in row[1].split(", ")]
    refused = [what.partition(" (")[0] for what in ENGINES.find(engine).supports_of(**options).has_not]
    assert sorted(told) == sorted(refused)
