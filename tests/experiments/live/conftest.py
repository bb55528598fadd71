"""Small sessions, and drawings to show them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest

from experiments import datasets
from experiments.live.session import Config, Session, fresh


@pytest.fixture(scope="session")
def digits() -> datasets.Dataset:
    return datasets.load("digits").subset(300, 100)


@pytest.fixture
def open_session(digits) -> Iterator[Callable[..., Session]]:
    """Sessions on some digits, closed at the end."""
    opened = []

    def open_(engine: str = "numpy", network: str = "12FC", memory: int = 20, **settings) -> Session:
        config = Config(network=network, memory=memory, **settings)
        opened.append(Session(fresh(config, digits), digits, config, engine))
        return opened[-1]

    yield open_
    for session in opened:
        session.close()


@pytest.fixture(scope="session")
def star() -> list[tuple[tuple[float, float], ...]]:
    corners = [-math.pi / 2 + k * 4 * math.pi / 5 for k in range(6)]
    return [tuple((0.5 + 0.4 * math.cos(a), 0.5 + 0.4 * math.sin(a)) for a in corners)]
