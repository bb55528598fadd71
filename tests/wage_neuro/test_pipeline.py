"""Pipelined learning against Python ints: which weights a sample meets on its way up and down."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wage_neuro import Conv, Dense, Flatten, MaxPool, Network, NumpyEngine, Rules, initial_state, random_bits

NETS = {
    "one layer": Network((Dense(3),), (5,)),
    "dense": Network((Dense(8), Dense(7), Dense(3)), (6,), "3-8-10-8"),
    "conv": Network((Conv(3, 3), MaxPool(3, 2), Conv(2, 2), Flatten(), Dense(3)), (7, 6, 1)),
}


def plain_run(plain, net, state, x, labels, log2_eta, rules):
    """Sample j learns at layer i when j - 1 have; forward it met weights that 2 (L - i) fewer had changed.

    At layer i it goes up at time j + i and its error comes down at j + 2 L - i.
    """
    L, versions, logits = len(net.layers), [state.S], []
    held = [list(state.error_held), list(state.gradient_held)]
    for j in range(len(x)):
        S = [versions[max(0, j - 2 * (L - i))][i] for i in range(L)]
        random = []
        for layer in net.layers:
            purposes = [(random_bits.UPDATE, layer.weight_shape)]
            if rules.update == "coincidence":
                purposes = [(random_bits.PRE, layer.in_shape), (random_bits.POST, layer.out_shape)]
            place = layer.index, state.step + j, 0
            bits = [random_bits.bits16(state.seed, p, *place, int(np.prod(s))) for p, s in purposes]
            random.append(bits if rules.update == "coincidence" else bits[0])
        exponents = [[h.exponent for h in kind] for kind in held]
        one = slice(j, j + 1)
        new, Z, peaks = plain.step(
            net.specs, net.bits, S, x[one], labels[one], log2_eta, random, rules, exponents, versions[j]
        )
        for kind, tops in zip(held, peaks, strict=True):
            if kind is held[0] or rules.update != "coincidence":
                kind[:] = [h.after(top, 1, rules.hold) for h, top in zip(kind, tops, strict=True)]
        versions.append(new)
        logits.append(Z[0].tolist())
    error_held, gradient_held = map(tuple, held)
    S = tuple(np.array(s.tolist(), before.dtype) for s, before in zip(versions[-1], state.S, strict=True))
    return replace(
        state, S=S, error_held=error_held, gradient_held=gradient_held, step=state.step + len(x)
    ), logits


@pytest.mark.parametrize("update", ["wide", "ternary", "coincidence"])
@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_weights_that_a_sample_meets(net, update, plain, sparse_images, assert_same_state):
    rules = Rules(batch=12, shift="held", hold=3, update=update, pipelined=True)
    state = initial_state(net, 6)
    images, labels = sparse_images(24, net.input_shape, net.classes)
    engine = NumpyEngine(net, rules, state=state)
    for part in (slice(0, 12), slice(12, 24)):  # it drains between batches
        found = engine.train(images[part], labels[part], 0)
        state, logits = plain_run(plain, net, state, net.encode(images[part]), labels[part], 0, rules)
        assert found.tolist() == logits
        assert_same_state(engine.state, state)
    assert any(not np.array_equal(a, b) for a, b in zip(state.S, initial_state(net, 6).S, strict=True))


@pytest.mark.parametrize("update", ["wide", "ternary", "coincidence"])
def test_a_pipeline_of_one_sample_is_a_batch_of_one(update, sparse_images, assert_same_state):
    net = NETS["conv"]
    images, labels = sparse_images(9, net.input_shape, net.classes)
    runs = []
    for pipelined in (False, True):
        runs.append(
            NumpyEngine(net, Rules(batch=1, shift="held", update=update, pipelined=pipelined), seed=4)
        )
        logits = runs[-1].train(images, labels, 2)
    assert logits.shape == (9, 3)
    assert_same_state(runs[0].state, runs[1].state)
