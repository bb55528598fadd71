"""Compiled engine = numpy engine: every stored weight, exponent and logit, over layers x modes x widths."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from experiments.benchmarks.agreement import MODES, NETWORKS, modes_of
from mappings.engines.compiled import CompiledEngine
from wage_neuro import Conv, Dense, Flatten, MaxPool, Network, NumpyEngine, Rules, initial_state, normal
from wage_neuro.errors import DataError, EngineError, NetworkError, SettingError
from wage_neuro.fixed_point import log2_round
from wage_neuro.kernels import build, native
from wage_neuro.kernels.numpy_kernels import set_threads, thread_count
from wage_neuro.random_bits import GENERATORS, INIT, POST, UPDATE, bits16
from wage_neuro.train import Held

if not native.is_here():
    pytest.skip("no compiled kernels here: python -m wage_neuro.kernels.build", allow_module_level=True)
SETS = native.instruction_sets()
WIDTHS = ["2222", "3-7-9-5", "2-8-16-16", "4-6-12-10", "8-8-6-8", "2-16-16-16"]


@pytest.fixture(params=SETS)
def isa(request, monkeypatch):
    monkeypatch.setenv(native.VARIABLE, request.param)


def in_turn(**lists) -> pytest.MarkDecorator:
    """Every case in every instruction set, but in all of them but one, which goes round, only if slow."""
    cases = []
    for at in product(*(range(len(values)) for values in lists.values())):
        own = [values[i] for values, i in zip(lists.values(), at, strict=True)]
        marks = [() if sum(at) % len(SETS) == i else pytest.mark.slow for i in range(len(SETS))]
        cases += [pytest.param(isa, *own, marks=mark) for isa, mark in zip(SETS, marks, strict=True)]
    return pytest.mark.parametrize(("isa", *lists), cases, indirect=["isa"])


@in_turn(name=list(NETWORKS), mode=modes_of("compiled"))
def test_compiled_equals_numpy(isa, name, mode, assert_agree):
    assert assert_agree(CompiledEngine, NETWORKS[name], MODES[mode], n=48) > 0


NORMALISED = {
    "conv": Network.parse("4C3N-MP2-37C3N-6C3S2N-F-33FCN-5FC", (12, 13, 1)),
    "other layers beside": Network.parse("4C3-MP2-8C3N-AP2-8C3VN-MP2S1-F-9FC-5FC", (16, 16, 3)),
    "dense": Network.parse("40FCN-17FCN-5FC", (30,)),
}


@in_turn(name=list(NORMALISED), mode=["paper", "held, ternary", "sharp softmax, momentum", "direct feedback"])
def test_normalised_layers(isa, name, mode, assert_agree):
    assert assert_agree(CompiledEngine, NORMALISED[name], MODES[mode]) > 0


@in_turn(bits=WIDTHS)
def test_normalised_layers_of_other_widths(isa, bits, assert_agree):
    for network in NORMALISED.values():
        assert_agree(CompiledEngine, replace(network, bits=bits), MODES["paper"])


@in_turn(name=list(NORMALISED))
def test_shifts_of_channels_end_at_their_largest(isa, name, assert_same_state):
    """Weights have grown: the first channel of a layer is at its largest shift, others past the paper's."""
    network, rules = replace(NORMALISED[name], bits="88C8"), MODES["sharp softmax, momentum"]
    begin, rng = initial_state(network, 2), np.random.default_rng(4)
    begin = begin.having(S=[np.clip(8 * S.astype(int), -2032, 2032).astype(np.int16) for S in begin.S])
    for layer, norm in zip(network.layers, begin.norm, strict=True):
        if norm is not None:
            norm[1], norm[2], norm[2, 0] = 127 << 8, layer.a_shift + 1, normal.shift_max(layer)
    images = rng.integers(0, 256, (rules.batch, *network.input_shape), np.uint8)
    labels = np.arange(len(images)) % network.classes
    one, other = NumpyEngine(network, rules, state=begin), CompiledEngine(network, rules, state=begin)
    assert np.array_equal(one.train(images, labels, 3), other.train(images, labels, 3))
    assert_same_state(one.state, other.state)
    for layer, norm in zip(network.layers, one.state.norm, strict=True):
        if norm is not None:
            assert norm[2, 0] == normal.shift_max(layer) > layer.a_shift + 1
            assert (norm[2, 1:] == layer.a_shift + 2).all()


@in_turn(bits=WIDTHS, mode=["paper", "pipelined", "coincidence", "softmax", "sharp softmax, momentum"])
def test_other_widths(isa, bits, mode, assert_agree):
    for name in ("dense", "conv, pooling"):
        assert_agree(CompiledEngine, replace(NETWORKS[name], bits=bits), MODES[mode], n=48)


@settings(max_examples=25, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(data=st.data())
def test_any_small_network(data, assert_agree):
    pick = lambda *values: data.draw(st.sampled_from(values))  # noqa: E731
    specs, normalised = [], data.draw(st.booleans())
    for _ in range(data.draw(st.integers(0, 2))):
        channels, kernel, stride, padding = (
            pick(1, 3, 4, 17, 32, 33),
            pick(1, 2, 3, 5),
            pick(1, 2, 3),
            pick("SAME", "VALID"),
        )
        specs.append(Conv(channels, kernel, stride, padding, normalised=normalised))
        if data.draw(st.booleans()):
            specs.append(MaxPool(pick(1, 2, 3), pick(None, 1, 2), pick("VALID", "SAME")))
    units = data.draw(st.lists(st.integers(1, 140), max_size=2))
    specs += [Flatten(), *(Dense(n, normalised=normalised) for n in units)]
    widths = "-".join(str(data.draw(st.one_of(st.just(k), st.integers(2, 16)))) for k in (2, 8, 8, 8))
    loss = pick("sse", "one-sided", "softmax")
    try:
        shape, signed = (23, 22, pick(1, 2, 3, 5)), pick(False, True)
        network = Network((*specs, Dense(pick(1, 2, 10))), shape, widths, signed)
    except NetworkError:  # a kernel larger than what is left of the image
        return
    batch, pipelined = pick(1, 2, 3, 24), data.draw(st.booleans())
    if any(layer.normalised for layer in network.layers):
        batch, pipelined = pick(2, 3, 24), False
    single = batch == 1 or pipelined
    rules = Rules(
        batch=batch,
        shift="held" if pipelined else pick("batch", "held"),
        hold=pick(1, 3, 1000),
        update=pick("wide", "ternary", "coincidence") if single else pick("wide", "ternary"),
        stored_range=pick("authors", "paper"),
        loss=loss,
        margin=pick(0, 3, 8),
        pipelined=pipelined,
        feedback=pick("transposed", "random", "direct"),
        metaplasticity=pick(0, 0, 3),
        gamma=pick(1, 8),
        sharpness=pick(0, 3, 7) if loss == "softmax" else 0,
        momentum=0 if single else pick(0, 0, 1, 3, 7),
        generator=pick(*GENERATORS),
    )
    seed, log2_eta = data.draw(st.integers(0, 2**64 - 1)), pick(-16, -3, 0, 16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(native.VARIABLE, pick(*SETS))
        assert_agree(CompiledEngine, network, rules, n=24, seed=seed, log2_etas=(log2_eta, 3))


@pytest.mark.parametrize("mode", ["held", "one sample at a time", "pipelined", "held, momentum"])
def test_goes_on_from_a_state(mode, assert_goes_on):
    assert_goes_on(CompiledEngine, MODES[mode])


def test_many_samples_at_once(assert_same_in_parts):
    assert_same_in_parts(CompiledEngine, samples=300)


def test_black_images_teach_nothing_but_the_outputs_see_them(assert_same_state):
    """All products are 0: ties in every pooling window, no gradient anywhere."""
    network, rules = NETWORKS["conv, pooling"], MODES["one sample at a time"]
    images, labels = np.zeros((5, 12, 12, 1), np.uint8), np.arange(5)
    one, other = NumpyEngine(network, rules), CompiledEngine(network, rules)
    assert not one.train(images, labels, 3).any()
    other.train(images, labels, 3)
    assert_same_state(one.state, other.state)
    assert other.state.step == 5
    assert other.state.error_held[-1].exponent is not None


@pytest.mark.usefixtures("isa")
def test_even_images(assert_same_state):
    """Ties among positive products, of which the first wins."""
    network, rules = NETWORKS["conv, pooling"], MODES["paper"]
    images = np.repeat(np.arange(16, dtype=np.uint8) * 17, 144).reshape(16, 12, 12, 1)
    one, other = NumpyEngine(network, rules), CompiledEngine(network, rules)
    for engine in (one, other):
        engine.train(images, np.arange(16) % 5, 3)
    assert_same_state(one.state, other.state)


@pytest.mark.usefixtures("isa")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 2**64 - 1),
    st.integers(0, 40),
    st.integers(0, 2**40),
    st.integers(0, 2**40),
    st.integers(0, 9),
    st.sampled_from(sorted(GENERATORS)),
)
def test_philox_is_numpys(seed, layer, step, first, groups, generator):
    for purpose in (INIT, UPDATE, POST):
        drawn = native.philox((seed, purpose, layer, step), first, groups, generator)
        wanted = bits16((seed, purpose, layer, step), 16 * first, 128 * groups, generator)
        assert np.array_equal(drawn, wanted)


@pytest.mark.usefixtures("isa")
def test_log2_round_on_either_side_of_every_half():
    for n in range(1, 53):
        half = int(np.sqrt(2.0) * 2.0**n)
        for x in (2**n - 1, 2**n, half - 1, half, half + 1, half + 2, 2**n + 1):
            assert native.log2_round(x) == log2_round(x), x


def test_weights_outside_the_range_are_refused():
    network = Network((Dense(3),), (4,))
    begin = initial_state(network)
    outside = begin.having(S=(np.full((4, 3), -100, np.int8),))
    with pytest.raises(
        SettingError, match=r"^stored weights of layer 0 reach 100: stored_range='authors' ends at 64$"
    ):
        CompiledEngine(network, Rules(), state=outside)
    CompiledEngine(network, Rules(stored_range="paper"), state=outside).close()


def test_bad_data_is_refused_and_changes_nothing(sparse_images, assert_same_state):
    network = Network((Dense(3),), (4,))
    images, labels = sparse_images(8, (4,), 3)
    with CompiledEngine(network, Rules(batch=4)) as engine:
        with pytest.raises(DataError, match=r"^label 3: "):
            engine.train(images, np.full(8, 3), 0)
        with pytest.raises(DataError, match=r"^images of float64: "):
            engine.predict(images / 255)
        with pytest.raises(SettingError, match=r"^7 samples: want a multiple of the batch, 4$"):
            engine.train(images[:7], labels[:7], 0)
        assert_same_state(engine.state, initial_state(network))


@pytest.mark.parametrize("bits", ["2888", "28CC"])
def test_a_window_of_errors_below_softmax(bits, assert_agree):
    for name in ("dense", "conv, pooling"):
        rules = replace(MODES["sharp softmax, momentum"], gamma=4)
        assert assert_agree(CompiledEngine, replace(NETWORKS[name], bits=bits), rules) > 0


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("batch", [1, 24])
@pytest.mark.parametrize("units", [9, 200])
def test_an_unquantized_last_layer(batch, units, assert_agree):
    network = Network.parse(f"4C3-MP2-{units}FC-FCU", (12, 12, 1), 5)
    assert assert_agree(CompiledEngine, network, Rules(batch=batch, loss="softmax")) > 0


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("signed", [False, True])
def test_the_papers_nets(signed, assert_agree):
    """Whole registers of channels: what small networks do not fill."""
    network = Network.parse("32C5-MP2-64C5-MP2-130FC", (20, 20, 3), 10, signed_input=signed)
    assert assert_agree(CompiledEngine, network, Rules(batch=32), answers=40) > 0


@pytest.mark.usefixtures("isa")
def test_long_sums_of_one_sign(assert_same_state):
    """All weights are 1, all errors positive: the largest sums of ternary weights on the way back."""
    network, rules = Network((Dense(520), Dense(520), Dense(5)), (600,)), Rules(batch=16)
    begin = initial_state(network)
    begin = begin.having(S=[np.full_like(S, 64) for S in begin.S])
    images, labels = np.zeros((16, 600), np.uint8), np.zeros(16, np.int64)
    images[:, 0] = 64  # activations below the largest, which would let no error through
    one, other = NumpyEngine(network, rules, state=begin), CompiledEngine(network, rules, state=begin)
    assert (one.train(images, labels, 3) == other.train(images, labels, 3)).all()
    assert_same_state(one.state, other.state)
    assert all((a != b).any() for a, b in zip(begin.S, one.state.S, strict=True))


@in_turn(mode=["one sample at a time", "metaplastic", "coincidence", "paper"])
def test_rows_of_whole_groups(isa, mode, assert_agree):
    """256 outputs: the short way of one sample at a time."""
    network = Network((Dense(256), Dense(128), Dense(5)), (200,))
    for log2_eta in (-3, 0, 16):
        assert_agree(CompiledEngine, network, MODES[mode], n=32, log2_etas=(log2_eta, 3))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_change_no_bit(threads, assert_agree):
    before = thread_count()
    set_threads(threads)
    try:
        for mode in ("paper", "one sample at a time", "direct feedback"):
            network = Network.parse("32C5-MP2-64C5-MP2-512FC", (18, 18, 1), 10, signed_input=mode == "paper")
            assert_agree(CompiledEngine, network, MODES[mode], n=16)
        network = Network.parse("40C3N-64C5N-MP2-64FCN", (18, 18, 1), 10)
        assert_agree(CompiledEngine, network, MODES["sharp softmax, momentum"], n=16)
    finally:
        set_threads(before)


def test_a_kind_of_layer_that_is_unknown_is_left_to_numpy(monkeypatch, assert_agree):
    """Within a network whose other layers are the library's."""
    monkeypatch.setattr(native, "computes", lambda layer: layer.index != 1)
    for mode, rules in MODES.items():
        for name in ("dense", "conv, pooling", "conv VALID, stride 2"):
            assert_agree(CompiledEngine, NETWORKS[name], rules, n=48), mode
    with CompiledEngine(NETWORKS["dense"]) as engine:
        assert engine.net.paths == ("tiles of bytes", "numpy")


def test_sums_of_64_bits_in_a_batch_are_left_to_numpy():
    network = Network((Dense(9), Dense(3)), (4,), "2-16-8-16")
    with CompiledEngine(network, Rules(batch=16)) as engine:
        assert engine.net.paths == ("numpy", "numpy")
    with CompiledEngine(network, Rules(batch=1, shift="held")) as engine:
        assert engine.net.paths == ("events, 16 bits",) * 2


def test_a_failure_in_numpys_part_comes_through(sparse_images, monkeypatch):
    network = Network((Dense(9), Dense(3)), (4,), "2-16-8-16")
    images, labels = sparse_images(16, (4,), 3)
    with CompiledEngine(network, Rules(batch=16)) as engine:
        monkeypatch.setattr(native.layers, "forward", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            engine.train(images, labels, 0)


def test_wrong_instruction_sets(monkeypatch):
    monkeypatch.setenv(native.VARIABLE, "sse9")
    with pytest.raises(SettingError, match=r"^WAGE_NEURO_ISA=sse9: want .*generic$"):
        native.instruction_set()
    monkeypatch.setattr(native, "instruction_sets", lambda: ("generic",))
    monkeypatch.setenv(native.VARIABLE, "avx2")
    if "avx2" in SETS:
        with pytest.raises(SettingError, match=r"^WAGE_NEURO_ISA=avx2: this machine has generic only$"):
            native.instruction_set()


def test_no_library_a_broken_one_or_that_of_another_source(tmp_path, monkeypatch):
    again = r"`python -m wage_neuro\.kernels\.build` makes it"
    with pytest.raises(EngineError, match=rf"^compiled kernels: x\.so is not there; {again}, .*$"):
        native.load(tmp_path / "x.so")
    whole = build.LIBRARY.read_bytes()
    flipped = bytearray(whole)
    flipped[70_000] ^= 1
    for content in (b"", whole[:5000], bytes(flipped)):
        (tmp_path / "x.so").write_bytes(content)
        with pytest.raises(EngineError, match=rf"^compiled kernels: x\.so is broken; {again} anew$"):
            native.load(tmp_path / "x.so")
    found = build.version()
    monkeypatch.setattr(build, "version", lambda: "0123456789ab")
    with pytest.raises(EngineError, match=rf"version {found}: want 0123456789ab; {again} anew$"):
        native.load(build.LIBRARY)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_threads_after_a_fork(sparse_images, assert_same_state):
    network = Network.parse("32C5-MP2-512FC", (28, 28, 1), 10)
    images, labels = sparse_images(32, (28, 28, 1), 10)
    before = thread_count()
    set_threads(2)
    try:
        with CompiledEngine(network, Rules(batch=32)) as engine:
            engine.train(images, labels, 3)
            pid = os.fork()
            if not pid:
                engine.train(images, labels, 3)
                os._exit(0 if engine.state.step == 2 else 1)
            assert os.waitpid(pid, 0)[1] == 0
    finally:
        set_threads(before)


def test_a_held_exponent_that_is_unknown_stays_unknown():
    network = Network((Dense(3),), (4,))
    with CompiledEngine(network, MODES["one sample at a time"]) as engine:
        assert engine.state.error_held == (Held(),)
