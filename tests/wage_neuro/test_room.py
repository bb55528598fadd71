"""Memory that is known before it is taken."""

from __future__ import annotations

import resource

import pytest

from wage_neuro import Network, room
from wage_neuro.errors import DataError, NetworkError
from wage_neuro.room import check_learning, check_room, check_weights, free_memory, in_words


def test_there_is_some_memory_and_not_without_end():
    assert 1 << 26 < free_memory() < 1 << 46


def test_a_limit_of_the_process_counts(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1 << 27, 1 << 27))
    assert free_memory() == 1 << 27


def test_what_fits_passes_and_a_byte_more_does_not(monkeypatch):
    monkeypatch.setattr(room, "free_memory", lambda: 1 << 30)
    check_room("x", 1 << 30)
    with pytest.raises(DataError, match=r"^x: takes 1\.0 GiB of memory; 1\.0 GiB are free$"):
        check_room("x", (1 << 30) + 1, DataError)


def test_words():
    found = [in_words(size) for size in (0, 1023, 1024, 1536, 46 << 40, 1 << 69, 1 << 70)]
    assert found == [
        "0 bytes",
        "1023 bytes",
        "1.0 KiB",
        "1.5 KiB",
        "46.0 TiB",
        "512.0 EiB",
        "more than 1024 EiB",
    ]


def test_a_network_s_weights_and_sums(monkeypatch):
    net = Network.parse("1000FC-1000FC", (8, 8, 1), 10)
    monkeypatch.setattr(room, "free_memory", lambda: 33_074_000)
    check_weights(net)  # 1,074,000 bytes stored, 32 more for each of 1,000,000 that are drawn
    monkeypatch.setattr(room, "free_memory", lambda: 33_073_999)
    with pytest.raises(
        NetworkError, match=r"^network F-1000FC-1000FC-10FC: 1,074,000 weights: takes 31\.5 MiB"
    ):
        check_weights(net)
    wide = Network.parse("64C3-MP2", (64, 64, 1), 10)
    check_learning(wide, 15)
    with pytest.raises(
        NetworkError, match=r"layer 0 64C3-MP2 for 16 samples at once: takes 32\.0 MiB of memory"
    ):
        check_learning(wide, 16)
