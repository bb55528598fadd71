"""What the tests of the bottom floor share: the plain reference, repeatable hypothesis, threads."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import settings

from wage_neuro import Network, Rules, initial_state, random_bits
from wage_neuro.bits import code_dtype
from wage_neuro.checkpoint import Checkpoint, load, save
from wage_neuro.kernels import numpy_kernels as kernels
from wage_neuro.train import Batch, Held, State, train_step

settings.register_profile("wage", deadline=None, derandomize=True, database=None, max_examples=60)
settings.load_profile("wage")


@pytest.fixture(scope="session")
def plain() -> ModuleType:
    """WAGE in Python ints."""
    path = Path(__file__).resolve().parent / "plain_reference.py"
    spec = importlib.util.spec_from_file_location("plain_reference", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def plain_train(plain) -> Callable:
    """`train_step` in Python ints; only the random bits are the oracle's own.

    log2_eta, hold : of all layers, or a list with one a layer; log2_eta None freezes
    S_forward : the weights that the samples met on their way up, if others
    """

    def bits(state, layer, purpose, shape, step, *generator):
        name = state.seed, purpose, layer.index, step
        return random_bits.bits16(name, 0, int(np.prod(shape)), *generator)

    def of_updates(state, layer, rules):
        if rules.update != "coincidence":
            shape = layer.weight_shape
            return bits(state, layer, random_bits.UPDATE, shape, state.step, rules.generator)
        neurons = (random_bits.PRE, layer.in_shape), (random_bits.POST, layer.out_shape)
        return [bits(state, layer, purpose, shape, state.step, rules.generator) for purpose, shape in neurons]

    def of_feedback(net, state, layer, rules):
        fan_in, n_out = int(np.prod(layer.weight_shape[:-1])), layer.weight_shape[-1]
        shape = (
            (net.classes, int(np.prod(layer.out_shape))) if rules.feedback == "direct" else (fan_in, n_out)
        )
        r = bits(state, layer, random_bits.FEEDBACK, shape, 0)
        return plain.each(plain.feedback_weight, plain.ints(r)).reshape(shape)

    def train(net, state, x, labels, log2_eta, rules, hold=None, S_forward=None, trace=None):
        layers = net.layers
        etas = log2_eta if isinstance(log2_eta, list) else [log2_eta] * len(layers)
        holds = hold if isinstance(hold, list) else [hold or rules.hold] * len(layers)
        held = [[(h.exponent, h.below) for h in kind] for kind in (state.error_held, state.gradient_held)]
        random = [of_updates(state, layer, rules) for layer in layers]
        exponents = [[m for m, _ in kind] for kind in held] if rules.shift == "held" else None
        B = [of_feedback(net, state, layer, rules) for layer in layers]
        S = state.S if S_forward is None else S_forward
        new, logits, peaks = plain.step(
            net.specs, net.bits, S, x, labels, etas, random, rules, exponents, state.S, B, trace
        )
        if rules.shift == "held":
            held = [
                [plain.held(h, peak, len(x), n) for h, peak, n in zip(kind, tops, holds, strict=True)]
                for kind, tops in zip(held, peaks, strict=True)
            ]
        error_held, moved = (tuple(Held(*h) for h in kind) for kind in held)
        learned = [eta is not None and rules.update != "coincidence" for eta in etas]
        gradient_held = tuple(
            after if learns else before
            for learns, before, after in zip(learned, state.gradient_held, moved, strict=True)
        )
        S = tuple(np.array(s.tolist(), before.dtype) for s, before in zip(new, state.S, strict=True))
        after = State.of(
            S, seed=state.seed, step=state.step + 1, error_held=error_held, gradient_held=gradient_held
        )
        return after, logits

    return train


@pytest.fixture(scope="session")
def random_state() -> Callable[..., State]:
    """Stored weights over their whole range, the ends too."""

    def make(net, rules, seed=0):
        rng = np.random.default_rng(seed)

        def whole_range(layer):
            bound = layer.bits.stored_max(rules.stored_range)
            S = rng.integers(-bound, bound + 1, layer.weight_shape).astype(code_dtype(layer.bits.k_G))
            S.flat[:2] = bound, -bound
            return S

        S = tuple(map(whole_range, net.layers))
        return State.of(S, seed=seed)

    return make


@pytest.fixture(scope="session")
def batch_of() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """Input codes over their whole range, with labels."""

    def make(net, n, seed=1):
        rng, top = np.random.default_rng(seed), net.bits.activation_max
        x = rng.integers(-top if net.signed_input else 0, top + 1, (n, *net.input_shape))
        return x.astype(code_dtype(net.bits.k_A)), rng.integers(0, net.classes, n)

    return make


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    """Set the number of threads for one test."""
    yield kernels.set_threads
    kernels.set_threads(os.cpu_count() or 1)


@pytest.fixture
def stopped_and_whole(tmp_path, assert_same_state) -> Callable:
    """Train over batches; the state at their half, saved and loaded again, goes on to the same bits."""

    def check(network: Network, rules: Rules, batches: Sequence[Batch]) -> tuple[State, State]:
        half, middle = initial_state(network), len(batches) // 2
        for batch in batches[:middle]:
            half, _ = train_step(network, half, batch, 3, rules)
        save(tmp_path / "a.npz", Checkpoint(network, rules, half))
        whole, again = half, load(tmp_path / "a.npz").state
        assert_same_state(again, half)
        for batch in batches[middle:]:
            whole, _ = train_step(network, whole, batch, 3, rules)
            again, _ = train_step(network, again, batch, 3, rules)
        assert_same_state(again, whole)
        return half, whole

    return check
