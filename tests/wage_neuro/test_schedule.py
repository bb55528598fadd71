"""The schedule is what messages do that move one hop a time step, by sending them."""

from __future__ import annotations

from itertools import product

import pytest

from wage_neuro.schedule import Schedule

SIZES = list(product(range(1, 7), (1, 2, 3, 5, 12)))


def arrivals(layers, micro_steps, direct, learning):
    """(step, port, micro-step) of every message; a port is a layer's input, its error, or the read-out."""
    on_their_way = [(t, ("forward", 0), t) for t in range(micro_steps)]
    seen = []
    while on_their_way:
        t, (way, place), sample = message = on_their_way.pop()
        seen.append(message)
        if way == "forward" and place < layers:
            to = [("forward", place + 1)]
        elif way == "forward":
            to = [("error", layers - 1)] if learning else []
        elif direct:
            to = [("error", below) for below in range(layers - 1)] if place == layers - 1 else []
        else:
            to = [("error", place - 1)] if place else []
        on_their_way += [(t + 1, port, sample) for port in to]
    return seen


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("learning", [False, True])
@pytest.mark.parametrize(("layers", "micro_steps"), SIZES)
def test_every_message_arrives_on_time(layers, micro_steps, learning, direct):
    schedule = Schedule(layers, micro_steps, direct)
    messages = arrivals(layers, micro_steps, direct, learning)
    at = {(t, port): sample for t, port, sample in messages}
    assert len(at) == len(messages)  # no two messages at one port at once
    ports = {port for _, port, _ in messages}
    assert ports == {("forward", i) for i in range(layers + 1)} | {
        ("error", i) for i in range(layers) if learning
    }
    last = max(t for t, _, _ in messages)
    assert schedule.steps(learning) == last + 1
    for t, (way, place) in product(range(-1, last + 3), ports):
        assert getattr(schedule, way)(place, t) == at.get((t, (way, place)))
