"""Accelerator engine = numpy engine: every stored weight, exponent and logit, over layers x modes x widths.

On the processor, and on a CUDA device where there is one.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch", reason="the extra wage-neuro[torch]")

import torch

from experiments.benchmarks.agreement import MODES, NETWORKS, modes_of
from mappings.engines.torch import engine as accelerator
from mappings.engines.torch import kernels, passes
from mappings.engines.torch.engine import TorchEngine, TorchOptions, find_device
from mappings.engines.torch.floats import log2_round as log2_of_tensor
from mappings.engines.torch.floats import power_of_two
from mappings.engines.torch.passes import RandomBits
from wage_neuro import Conv, Dense, Flatten, MaxPool, Network, NumpyEngine, Rules, initial_state
from wage_neuro.bits import Bits
from wage_neuro.errors import DataError, EngineError, SettingError
from wage_neuro.fixed_point import log2_round
from wage_neuro.kernels.numpy_kernels import max_pool
from wage_neuro.random_bits import FEEDBACK, GENERATORS, INIT, POST, UPDATE, bits16

CPU = torch.device("cpu")
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
WIDTHS = ["2222", "3-7-9-5", "2-8-16-16", "4-6-12-10", "8-8-6-8", "2-16-16-16"]


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Small tensors: a second thread only waits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=[*DEVICES, "cpu without int8"])
def build(request):
    device, _, without_int8 = request.param.partition(" ")
    with pytest.MonkeyPatch.context() as patch:
        if without_int8:
            patch.setattr(kernels, "int8_is_exact", lambda device: False)
        elif device == "cpu":
            assert kernels.int8_is_exact(CPU), "this processor has no exact int8 products: bytes go untested"
        yield partial(TorchEngine, options=TorchOptions(device=device))


@pytest.mark.parametrize("mode", modes_of("torch"))
@pytest.mark.parametrize("name", NETWORKS)
def test_torch_equals_numpy(name, mode, build, assert_agree):
    assert assert_agree(build, NETWORKS[name], MODES[mode], n=48) > 0


@pytest.mark.parametrize("bits", ["2888", *WIDTHS])
@pytest.mark.parametrize("name", ["dense", "one layer", "dense on images", "conv, pooling"])
def test_an_unquantized_last_layer(name, bits, build, assert_agree):
    *specs, last = NETWORKS[name].specs
    network = replace(NETWORKS[name], specs=(*specs, replace(last, quantized=False)), bits=bits)
    for shift in ("batch", "held"):
        rules = Rules(batch=24, shift=shift, hold=40, loss="softmax", gamma=2)
        assert assert_agree(build, network, rules, n=48) > 0


def test_a_window_of_errors_below_softmax(build, assert_agree):
    rules = replace(MODES["sharp softmax, momentum"], gamma=4)
    assert assert_agree(build, NETWORKS["conv, pooling"], rules, n=48) > 0


def test_wide_weights_in_float64_leave_the_others_their_fast_products():
    """The largest factor of the float32 products alone decides whether TF32 is let in."""
    network = Network.parse("24FC-20FC-5FCU", (30,))
    with TorchEngine(network, Rules(loss="softmax"), options=TorchOptions(device="cpu")) as engine:
        assert engine.passes.largest == 127
    assert network.layers[-1].bits.weight_max == 32767


@pytest.mark.parametrize("mode", ["paper", "coincidence"])
@pytest.mark.parametrize("bits", WIDTHS)
def test_other_widths(bits, mode, build, assert_agree):
    for name in ("dense", "conv, pooling"):
        assert_agree(build, replace(NETWORKS[name], bits=bits), MODES[mode], n=48)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_small_network(data, build, assert_agree):
    pick = lambda *values: data.draw(st.sampled_from(values))  # noqa: E731
    specs = []
    for _ in range(data.draw(st.integers(0, 2))):
        specs.append(Conv(pick(1, 3, 17), pick(1, 2, 3), pick(1, 2, 4), pick("SAME", "VALID")))
        if specs[-1].stride < 4 and data.draw(st.booleans()):
            specs.append(MaxPool(pick(1, 2), pick(None, 1)))
    specs += [Flatten(), *(Dense(units) for units in data.draw(st.lists(st.integers(1, 40), max_size=2)))]
    network = Network((*specs, Dense(pick(1, 2, 10))), (33, 30, pick(1, 2)), signed_input=pick(False, True))
    batch = pick(1, 3, 24)
    rules = Rules(
        batch=batch,
        shift=pick("batch", "held"),
        hold=pick(1, 3, 1000),
        update=pick("wide", "ternary", "coincidence") if batch == 1 else pick("wide", "ternary"),
        stored_range=pick("authors", "paper"),
        loss=pick("sse", "one-sided", "softmax"),
        margin=pick(0, 3, 8),
        feedback=pick("transposed", "random", "direct"),
    )
    seed, log2_eta = data.draw(st.integers(0, 2**64 - 1)), pick(-16, -3, 0, 16)
    assert_agree(build, network, rules, n=48, seed=seed, log2_etas=(log2_eta, 3))


def test_parts_of_a_batch_and_rows_of_a_gradient(monkeypatch, build, assert_agree):
    """A batch in several parts, and gradients of more rows than one float32 product can sum."""
    monkeypatch.setitem(passes.PART_BYTES, "cpu", 144 * (9 + 4 * 4) * 10)
    network = NETWORKS["conv, pooling"]
    assert network.layers[0].gradient_rows[0] < 10 * network.layers[0].positions
    assert assert_agree(build, network, MODES["paper"], n=48) > 0


@pytest.mark.parametrize("mode", ["held", "coincidence", "held, momentum"])
def test_goes_on_from_a_state(mode, assert_goes_on):
    assert_goes_on(TorchEngine, MODES[mode])


def test_many_samples_at_once(assert_same_in_parts):
    assert_same_in_parts(TorchEngine, samples=700)


@pytest.mark.parametrize("shift", ["batch", "held"])
def test_even_images(shift, assert_same_state):
    """Ties in every pooling window; among them black images, whose products are all 0."""
    network, rules = NETWORKS["conv, pooling"], Rules(batch=4, shift=shift)
    images = np.repeat(np.arange(16, dtype=np.uint8) // 4 * 85, 144).reshape(16, 12, 12, 1)
    one, other = NumpyEngine(network, rules), TorchEngine(network, rules)
    for engine in (one, other):
        engine.train(images, np.arange(16) % 5, 3)
    assert_same_state(one.state, other.state)


def test_the_first_maximum_wins():
    layer = Network((Conv(1, 1), MaxPool(2, 1), Flatten(), Dense(2)), (3, 3, 1)).layers[0]
    Z = torch.tensor([3.0, 5, 5, 1, 5, 2, 5, 5, 5]).view(1, 3, 3, 1)
    best, winner = kernels.max_pool(layer, Z)
    assert best.flatten().tolist() == [5, 5, 5, 5]
    assert winner.flatten().tolist() == [1, 0, 1, 0]
    # overlapping windows add up where they share their winner
    spread = kernels.unpool(layer, torch.tensor([1.0, 2, 4, 8]).view(1, 2, 2, 1), winner)
    assert spread.flatten().tolist() == [0, 3, 0, 0, 12, 0, 0, 0, 0]


@pytest.mark.parametrize(("bits", "sums"), [("2888", torch.int32), ("8-16-8-8", torch.int64)])
@pytest.mark.parametrize(("size", "step"), [(2, 2), (3, 2), (3, 3), (2, 1)])
def test_pooling_is_numpys_up_to_the_largest_sum(bits, sums, size, step):
    specs = Conv(2, 3), MaxPool(size, step), Flatten(), Dense(2)
    layer = Network(specs, (9, 8, 40), bits=Bits.parse(bits)).layers[0]
    few = np.random.default_rng(0).integers(-3, 3, (5, *layer.z_shape), endpoint=True)  # many ties
    for Z in (few, few * (layer.z_bound // 3)):
        best, winner = kernels.max_pool(layer, torch.from_numpy(Z.astype(np.float64)))
        wanted = np.empty((5, *layer.out_shape), np.uint8)
        highest = max_pool(Z.astype(np.float64), size, step, layer.out_shape[:2], wanted)
        assert best.dtype == sums
        assert np.array_equal(best.numpy(), highest)
        assert np.array_equal(winner.numpy(), wanted)


@settings(deadline=None)
@given(
    st.integers(0, 2**64 - 1),
    st.integers(0, 40),
    st.integers(0, 2**40),
    st.integers(1, 100),
    st.sampled_from([INIT, UPDATE, POST, FEEDBACK]),
    st.sampled_from(sorted(GENERATORS)),
)
def test_philox_is_numpys(seed, layer, step, count, purpose, generator):
    drawn = RandomBits(seed, CPU, generator).on_device(purpose, layer, step, count)
    assert np.array_equal(drawn.numpy(), bits16((seed, purpose, layer, step), 0, count, generator))


def test_philox_of_a_large_layer():
    bits = RandomBits(7, CPU)
    wanted = bits16((7, UPDATE, 2, 99), 0, 784 * 512)
    assert np.array_equal(bits.on_device(UPDATE, 2, 99, 784 * 512).numpy(), wanted)
    assert np.array_equal(bits(UPDATE, 2, 99, 784 * 512).numpy(), wanted)


def _fails(*_):
    raise RuntimeError


def _wrong(constants, counter, first):
    return kernels.philox16(constants, counter, first) + (first.numel() > 100)


@pytest.mark.parametrize("compiled", [_fails, _wrong])
def test_compiled_bits_that_fail_or_differ_are_not_used(compiled, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda *_, **__: compiled)
    bits = RandomBits(7, CPU)
    bits.choose()
    assert bits._draw is kernels.philox16
    monkeypatch.setattr(kernels, "philox16", lambda *_: torch.zeros(80_000))
    with pytest.raises(EngineError, match=r"^device 'cpu': its random bits are not numpy's$"):
        bits.choose()


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("generator", sorted(GENERATORS))
@torch.inference_mode()  # as the engine draws; elsewhere it would be compiled once more
def test_the_generator_compiles_to_the_same_bits(generator):
    bits = RandomBits(2**64 - 5, CPU, generator)
    plain = bits._draw
    bits.choose()
    assert bits._draw is not plain
    for count in (3, 1000, 784 * 512):
        wanted = bits16((2**64 - 5, POST, 2, 2**33), 0, count, generator)
        assert np.array_equal(bits.on_device(POST, 2, 2**33, count).numpy(), wanted)


def test_log2_round_on_either_side_of_every_half():
    for n in range(1, 53):
        half = int(np.sqrt(2.0) * 2.0**n)
        for x in (2**n - 1, 2**n, half - 1, half, half + 1, half + 2, 2**n + 1):
            assert int(log2_of_tensor(torch.tensor(float(x), dtype=torch.float64))) == log2_round(x), x


def test_powers_of_two():
    exponents = range(-80, 81)
    assert power_of_two(torch.tensor(exponents)).tolist() == [2.0**m for m in exponents]


def test_products_leave_the_precision_of_others_alone():
    before = torch.get_float32_matmul_precision()
    for outer in ("medium", "highest"):
        torch.set_float32_matmul_precision(outer)
        with kernels.exact_products(CPU, 127):
            assert torch.get_float32_matmul_precision() == "highest"
        with kernels.exact_products(torch.device("cuda"), 127):
            assert torch.get_float32_matmul_precision() == "high"
        with kernels.exact_products(torch.device("cuda"), 2**15 - 1):
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == outer
    torch.set_float32_matmul_precision(before)


def test_a_device_that_rounds_is_refused(monkeypatch):
    real = torch.Tensor.__matmul__
    halved = lambda a, b: real(a, b).bfloat16().float() if a.is_floating_point() else real(a, b)  # noqa: E731
    kernels.prove_products(CPU, 127)
    monkeypatch.setattr(torch.Tensor, "__matmul__", halved)
    with pytest.raises(
        EngineError, match=r"^device 'cpu': its float32 products of small integers are not exact$"
    ):
        TorchEngine(Network((Dense(3),), (4,)), options=TorchOptions(device="cpu"))


SIZES = [(1, 1, 1), (1, 5, 3), (5, 1, 3), (5, 3, 1), (1, 1, 7), (17, 33, 65), (600, 31, 2)]


@pytest.mark.parametrize("sizes", SIZES)
def test_products_of_bytes(sizes):
    """Of any shape, each factor as it lies or turned: PyTorch 2.13 misreads axes of length 1."""
    m, k, n = sizes
    draw = np.random.default_rng(0).integers
    a, b = (torch.tensor(draw(-127, 128, shape), dtype=torch.int8) for shape in ((m, k), (k, n)))
    for x in (a, a.T.contiguous().T):
        for y in (b, b.T.contiguous().T):
            assert torch.equal(kernels.product(x, y).long(), a.long() @ b.long())


def test_long_gradients_of_bytes_are_summed_in_parts():
    a, e = (torch.full((1000, n), 127, dtype=torch.int8) for n in (3, 2))
    assert (kernels.gradient_product(a, e, 300) == 1000 * 127**2).all()


def test_a_processor_that_saturates_multiplies_floats(monkeypatch):
    real = torch._int_mm
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: real(a, b).clamp(max=2**22))
    assert not kernels.int8_is_exact(CPU)


class Elsewhere(passes.TorchPasses):
    """On a device that holds no values: what comes back to the host is a guess."""

    def host(self, x):
        return torch.zeros(x.shape, dtype=x.dtype).numpy()

    def peak(self, x):
        return 5


@pytest.fixture
def elsewhere(monkeypatch, one_device):
    monkeypatch.setattr(accelerator, "find_device", lambda name: torch.device("meta"))
    monkeypatch.setitem(passes.PART_BYTES, "meta", passes.PART_BYTES["cuda"])
    monkeypatch.setattr(kernels, "prove_products", lambda device, largest: None)
    monkeypatch.setattr(RandomBits, "choose", lambda bits: None)
    monkeypatch.setattr(accelerator, "TorchPasses", Elsewhere)
    with one_device:
        yield TorchEngine


@pytest.mark.parametrize("mode", modes_of("torch"))
@pytest.mark.parametrize("name", NETWORKS)
def test_on_a_device_nothing_lies_elsewhere(name, mode, elsewhere):
    network, rules = NETWORKS[name], MODES[mode]
    engine = elsewhere(network, rules)
    images = np.zeros((2 * rules.batch, *network.input_shape), np.uint8)
    engine.train(images, np.zeros(len(images), np.int64), 3)
    engine.predict(images)
    assert {layer.state.S.device.type for layer in engine._learner.layers} == {"meta"}


def test_what_lies_elsewhere_is_found(elsewhere):
    engine = elsewhere(Network((Dense(3),), (4,)), MODES["held"])
    S = engine._learner.layers[0].state.S
    with pytest.raises(RuntimeError, match="cannot be called on meta tensors"):
        int(S[0, 0])
    with pytest.raises(AssertionError, match=r"aten\.mul\.Tensor: .*meta.*cpu"):
        S * torch.ones(3)


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cpu:0", "mps", ""])
def test_an_unknown_device(name):
    with pytest.raises(SettingError, match=f"^device '{name}': want cpu, cuda or cuda:N$"):
        find_device(name)


@pytest.mark.parametrize("name", ["cuda:99", *(["cuda"] if DEVICES == ["cpu"] else [])])
def test_an_absent_device(name):
    with pytest.raises(EngineError, match=rf"^device '{name}': PyTorch .* finds no such accelerator here$"):
        TorchEngine(Network((Dense(3),), (4,)), options=TorchOptions(device=name))


@pytest.mark.parametrize(("name", "number"), [("cuda:1", 1), ("cuda", -1), ("cpu", -1)])
def test_fused_kernels_run_on_the_device_of_their_engine(name, number, monkeypatch):
    """Triton launches on the current device, wherever its tensors are; -1 leaves that as it is."""
    current, seen = [], []

    @contextmanager
    def on(index):
        current.append(index)
        yield
        current.pop()

    class Fused:
        def __init__(self, *_):
            seen.append(("begins", *current))

        def train(self, images, *_):
            seen.append(("trains", *current))
            return np.zeros((len(images), 3))

        def predict(self, images):
            seen.append(("predicts", *current))

    monkeypatch.setattr(torch.cuda, "device", on)
    monkeypatch.setattr(accelerator, "find_device", lambda name: torch.device(name))
    monkeypatch.setattr(accelerator, "find_fused", lambda *_: Fused)
    engine = TorchEngine(Network((Dense(3),), (4,)), Rules(batch=2), options=TorchOptions(device=name))
    images = np.zeros((2, 4), np.uint8)
    engine.train(images, np.zeros(2, np.int64), 0)
    engine.predict(images)
    assert seen == [("begins", number), ("trains", number), ("predicts", number)]


def test_weights_outside_the_range_are_refused():
    network = Network((Dense(3),), (4,))
    outside = initial_state(network).having(S=(np.full((4, 3), -100, np.int8),))
    with pytest.raises(
        SettingError, match=r"^stored weights of layer 0 reach 100: stored_range='authors' ends at 64$"
    ):
        TorchEngine(network, Rules(), state=outside)
    TorchEngine(network, Rules(stored_range="paper"), state=outside).close()


def test_bad_data_is_refused_and_changes_nothing(sparse_images, assert_same_state):
    network = Network((Dense(3),), (4,))
    images, labels = sparse_images(8, (4,), 3)
    with TorchEngine(network, Rules(batch=4)) as engine:
        with pytest.raises(DataError, match=r"^label 3: "):
            engine.train(images, np.full(8, 3), 0)
        with pytest.raises(DataError, match=r"^images of float64: "):
            engine.predict(images / 255)
        with pytest.raises(SettingError, match=r"^7 samples: want a multiple of the batch, 4$"):
            engine.train(images[:7], labels[:7], 0)
        assert_same_state(engine.state, initial_state(network))
