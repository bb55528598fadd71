"""The oracle against real numbers: 50 steps, same random bits, every stored weight equal.

The witness is written from the paper's formulas and shares no code with the oracle.
"""

from __future__ import annotations

import numpy as np
import pytest

from wage_neuro import Conv, Dense, Flatten, MaxPool, Network, Rules, initial_state, random_bits, train_step
from wage_neuro.train import Batch

DENSE = (Dense(40), Dense(24), Dense(10))
LENET = (Conv(8, 5), MaxPool(2), Conv(16, 5), MaxPool(2), Flatten(), Dense(64), Dense(10))
MIXED = (Conv(6, 3, 2), Conv(8, 3, 1, "VALID"), MaxPool(3, 2), Conv(8, 2), Flatten(), Dense(10))

CASES = [
    # name, specs, image, bits, update, range, log2 eta, steps, gamma if not 1
    ("dense", DENSE, (100,), "2888", "wide", "authors", 0, 50),
    ("dense, eta 8", DENSE, (100,), "2888", "wide", "paper", 3, 50),
    ("dense, ternary", DENSE, (100,), "2888", "ternary", "authors", 2, 50),
    ("dense, 28C8", DENSE, (100,), "28C8", "wide", "paper", 3, 50),
    ("dense, wide codes", DENSE, (60,), "4-12-14-12", "wide", "authors", 2, 50),
    ("dense, 2 bits each", DENSE, (60,), "2222", "wide", "authors", 0, 50),
    ("dense, 16 bits each", DENSE, (60,), "16-16-16-16", "wide", "paper", 3, 50),
    ("dense, k_W > k_G", DENSE, (60,), "8-8-6-8", "wide", "authors", 0, 50),
    ("dense, gamma 8", DENSE, (100,), "2888", "wide", "authors", 3, 50, 8),
    ("lenet, gamma 2", LENET, (28, 28, 1), "2888", "wide", "authors", 3, 50, 2),
    ("lenet", LENET, (28, 28, 1), "2888", "wide", "authors", 3, 50),
    ("mixed conv", MIXED, (17, 15, 3), "2888", "ternary", "authors", 1, 50),
]


def to_witness(float_wage, specs):
    """The witness's own specs: pooling belongs to its convolution."""
    out = []
    for spec in specs:
        if isinstance(spec, Conv):
            out.append(
                {"out": spec.channels, "kernel": spec.kernel, "stride": spec.stride, "padding": spec.padding}
            )
        elif isinstance(spec, MaxPool):
            out[-1].update(pool=spec.size, pool_stride=spec.step)
        elif isinstance(spec, Dense):
            out.append({"out": spec.units})
    return [float_wage.ConvSpec(**s) if "kernel" in s else float_wage.DenseSpec(**s) for s in out]


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_stored_weights_equal_the_witness(case, float_wage, sparse_images, assert_same_arrays):
    name, specs, shape, bits, update, stored_range, log2_eta, steps, *gamma = case
    batch = 32
    network = Network(specs, shape, bits)
    rules = Rules(batch=batch, update=update, stored_range=stored_range, gamma=(*gamma, 1)[0])
    images, labels = sparse_images(batch * 5, shape, 10)
    state = initial_state(network, seed=11)
    k = network.bits
    witness = float_wage.FloatWage(
        to_witness(float_wage, specs),
        shape,
        [S * 2.0 ** (1 - k.k_G) for S in state.S],
        k.k_W,
        k.k_A,
        k.k_G,
        k.k_E,
        stored_range,
        update,
        rules.gamma,
    )
    assert [layer.scale_shift for layer in network.layers] == [int(np.log2(a)) for a in witness.alphas]
    moved = False
    for step in range(steps):
        part = slice(step % 5 * batch, (step % 5 + 1) * batch)
        x, y = network.encode(images[part]), labels[part]
        random = [
            random_bits.bits16((11, random_bits.UPDATE, layer.index, step), 0, layer.n_weights).reshape(
                layer.weight_shape
            )
            for layer in network.layers
        ]
        new, logits = train_step(network, state, Batch(x, y), log2_eta, rules)
        expected = witness.forward(x * 2.0 ** (1 - k.k_A))
        unit = 2.0 ** -(k.k_A - 1 + network.layers[-1].z_shift)
        assert_same_arrays(logits * unit, expected, f"{name}, step {step}: logits")
        witness.step(x * 2.0 ** (1 - k.k_A), y, 2.0**log2_eta, random)
        for i, (S, codes) in enumerate(zip(new.S, witness.codes(), strict=True)):
            assert_same_arrays(S.astype(np.int64), codes, f"{name}, step {step}, layer {i}")
        moved = moved or any(not np.array_equal(a, b) for a, b in zip(state.S, new.S, strict=True))
        state = new
    assert moved, "no weight moved: the comparison proves nothing"
