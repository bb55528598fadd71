"""Pooling that keeps incomplete windows: equal to plain Python's, refused by name where it is not known."""

from __future__ import annotations

import numpy as np
import pytest

from wage_neuro import Conv, Dense, Flatten, MaxPool, Network, Rules
from wage_neuro.errors import NetworkError
from wage_neuro.kinds import Kind, kinds_of
from wage_neuro.train import Batch, predict, train_step

SAME = "SAME"


@pytest.mark.parametrize(
    ("n", "size", "stride", "windows", "before", "after"),
    [
        (56, 3, 2, 28, 0, 1), (28, 3, 2, 14, 0, 1), (7, 3, 2, 4, 1, 1), (7, 2, None, 4, 0, 1),
        (8, 2, None, 4, 0, 0), (5, 3, 1, 5, 1, 1), (2, 3, 2, 1, 0, 1), (1, 4, 2, 1, 1, 2), (7, 2, 3, 3, 0, 1),
        (10, 2, 4, 3, 0, 0),
    ],
)  # fmt: skip
def test_windows_are_tensorflows(n, size, stride, windows, before, after):
    """out = ceil(n / stride); what is missing goes half before, and the odd one after."""
    network = Network((Conv(1, 1), MaxPool(size, stride, SAME), Flatten(), Dense(2)), (n, 9, 1))
    layer = network.layers[0]
    assert layer.out_shape[0] == windows
    assert layer.pool_padding[:2] == (before, after)


NETS = {
    "odd": Network((Conv(3, 3), MaxPool(2, None, SAME), Flatten(), Dense(3)), (5, 7, 1)),
    "AlexNet's": Network(
        (Conv(4, 3), MaxPool(3, 2, SAME), Conv(3, 3), MaxPool(3, 2, SAME), Flatten(), Dense(3)), (8, 7, 2)
    ),
    "steps of 1": Network((Conv(2, 2), MaxPool(3, 1, SAME), Flatten(), Dense(3)), (4, 4, 1)),
    "larger than the image": Network((Conv(3, 1), MaxPool(4, 3, SAME), Flatten(), Dense(3)), (2, 3, 1)),
}


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
@pytest.mark.parametrize("feedback", ["transposed", "direct"])
def test_a_step_is_plain(net, feedback, plain_train, random_state, batch_of, assert_same_arrays):
    rules = Rules(batch=4, feedback=feedback)
    state = random_state(net, rules)
    for step in range(6):
        x, labels = batch_of(net, rules.batch, step)
        expected, logits = plain_train(net, state, x, labels, 2, rules)
        assert_same_arrays(predict(net, state, x), logits, "logits")
        new, _ = train_step(net, state, Batch(x, labels), 2, rules)
        for S, wanted in zip(new.S, expected.S, strict=True):
            assert_same_arrays(S.astype(np.int64), wanted.astype(np.int64), "stored weights")
        assert any(not np.array_equal(a, b) for a, b in zip(state.S, new.S, strict=True))
        state = new


def test_where_windows_are_whole_both_are_one():
    whole, same = (Network.parse(f"4C3-MP2{p}-6FC", (8, 8, 1), 3) for p in ("", "P"))
    assert same.layers[0].out_shape == whole.layers[0].out_shape
    assert Kind.PADDED_POOL not in kinds_of(same.layers[0])


def test_notation():
    net = Network.parse("4C3-MP3S2P-3C3-MP2P-6FC", (9, 9, 1), 3)
    assert str(net) == "4C3-MP3S2P-3C3-MP2P-F-6FC-3FC"
    assert Network.parse(str(net), (9, 9, 1)) == net
    assert Kind.PADDED_POOL in kinds_of(net.layers[0])
    with pytest.raises(NetworkError, match=r"^MaxPool padding='VALUED': want 'SAME' or 'VALID'$"):
        MaxPool(2, None, "VALUED")
