"""The hot operations, each against its definition."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wage_neuro.errors import SettingError
from wage_neuro.kernels import numpy_kernels as kernels

SMALL = st.integers(1, 4)


def draw(shape, top=50, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).integers(-top, top + 1, shape).astype(dtype)


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_each_part_covers_every_index_once(threads, set_threads):
    set_threads(threads)
    lock = threading.Lock()
    for n in (0, 1, 2, 7, 64, 101):
        for size in (1, 2, 3, 10, 64, 1000):
            seen: list[int] = []

            def work(part, size=size, seen=seen):
                with lock:
                    seen.extend(range(part.start, part.stop))
                assert 0 < part.stop - part.start <= size

            kernels.each_part(work, n, size)
            assert sorted(seen) == list(range(n))


@pytest.mark.parametrize("threads", [1, 3])
def test_a_failing_part_fails_the_whole(threads, set_threads):
    set_threads(threads)

    def work(part):
        if part.start == 5:
            raise ValueError("part 5")

    with pytest.raises(ValueError, match="part 5"):
        kernels.each_part(work, 9, 1)
    kernels.each_part(lambda part: None, 9, 1)


@given(st.integers(0, 40), SMALL, st.integers(0, 2**31))
def test_gradient_product_whatever_the_cut(n, rows, seed):
    a, e = draw((n, 3), seed=seed), draw((n, 2), seed=seed + 1)
    expected = a.astype(np.int64).T @ e.astype(np.int64)
    assert np.array_equal(kernels.gradient_product(a, e, rows), expected)
    assert np.array_equal(kernels.gradient_product(a, e, 1000), expected)


@st.composite
def geometries(draw):
    kernel, stride = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    padding = tuple(draw(st.integers(0, 2)) for _ in range(4))
    top, bottom, left, right = padding
    h = draw(st.integers(max(1, kernel - top - bottom), 8))
    w = draw(st.integers(max(1, kernel - left - right), 8))
    out_hw = (h + top + bottom - kernel) // stride + 1, (w + left + right - kernel) // stride + 1
    return kernel, stride, padding, (draw(SMALL), h, w, draw(SMALL)), out_hw


@given(geometries())
def test_patches_and_fold_patches_are_transposes(geometry):
    kernel, stride, padding, shape, out_hw = geometry
    x = draw(shape, dtype=np.float64)
    rows = kernels.patches(
        kernels.pad_images(x, padding, np.float64, "a"), kernel, stride, out_hw, "b"
    ).copy()
    n, _, _, c = shape
    assert rows.shape == (n * out_hw[0] * out_hw[1], kernel * kernel * c)
    zeros = ((0, 0), padding[:2], padding[2:], (0, 0))
    padded, cells = np.pad(x, zeros), rows.reshape(n, *out_hw, kernel, kernel, c)
    for y, u, i, j in np.ndindex(*out_hw, kernel, kernel):
        assert np.array_equal(cells[:, y, u, i, j], padded[:, y * stride + i, u * stride + j])
    other = draw(rows.shape, dtype=np.float64, seed=1)
    folded = kernels.fold_patches(other, shape, padding, (kernel, stride), out_hw)
    assert folded.shape == shape
    assert (rows * other).sum() == (x * folded).sum()


@st.composite
def poolings(draw):
    size, stride = draw(SMALL), draw(SMALL)
    h, w = draw(st.integers(size, 9)), draw(st.integers(size, 9))
    return (
        size,
        stride,
        (draw(SMALL), h, w, draw(SMALL)),
        ((h - size) // stride + 1, (w - size) // stride + 1),
    )


@given(poolings(), st.sampled_from([0, 1, 50]))
def test_pooling_takes_the_first_maximum_and_sends_back_to_it(plain, pooling, top):
    size, stride, shape, out_hw = pooling
    z = draw(shape, top)  # a small top: many ties
    winner = np.full((shape[0], *out_hw, shape[3]), 99, np.uint8)
    best = kernels.max_pool(z, size, stride, out_hw, winner).copy()
    expected, chosen = plain.pool(plain.ints(z), size, stride)
    assert np.array_equal(best, expected)
    assert all(
        divmod(int(winner[place]), size) == (v - place[1] * stride, u - place[2] * stride)
        for place, (_, v, u, _) in chosen.items()
    )
    for dtype, top in ((np.int8, 127), (np.int16, 32767)):
        e = draw(best.shape, top, dtype)
        back = kernels.unpool(e, winner, (size, stride), shape[1:], np.float32)
        assert np.array_equal(back, plain.unpool(plain.ints(e), chosen, shape))
        # the transpose of the selection
        assert (back.astype(np.float64) * z).sum() == (e.astype(np.float64) * best).sum()


@given(st.lists(st.integers(-(2**23), 2**23), min_size=1), st.integers(-2, 20), st.sampled_from([1, 7, 127]))
def test_quantize_into(plain, values, shift, top):
    for dtype in (np.float32, np.float64):
        out = np.empty(len(values), np.int8)
        kernels.quantize_into(out, np.array(values, dtype), shift, -top, top)
        assert out.tolist() == [plain.clip(plain.rne(v, shift), -top, top) for v in values]
        kernels.quantize_into(out, np.array(values, dtype), shift, 0, top)
        assert out.tolist() == [plain.clip(plain.rne(v, shift), 0, top) for v in values]


def test_scratch_is_per_thread():
    mine = kernels.scratch("test", (3,), np.float32)
    theirs = []
    thread = threading.Thread(target=lambda: theirs.append(kernels.scratch("test", (3,), np.float32)))
    thread.start()
    thread.join()
    assert not np.shares_memory(mine, theirs[0])


@pytest.mark.parametrize("count", [0, -1, 1025, 2.0, "two", True, None])
def test_threads_out_of_range(count):
    with pytest.raises(SettingError, match=rf"^threads={count}: want a whole number in 1\.\.1024$"):
        kernels.set_threads(count)


@pytest.mark.parametrize("named", ["0", "1025", "-3", "two", "1.5"])
def test_a_wrong_number_of_threads_in_the_environment(named, set_threads, monkeypatch):
    monkeypatch.setenv("WAGE_NEURO_THREADS", named)
    monkeypatch.setattr(kernels._WORKERS, "count", None)
    with pytest.raises(
        SettingError, match=rf"^WAGE_NEURO_THREADS={named}: want a whole number in 1\.\.1024$"
    ):
        kernels.thread_count()


def test_threads_of_the_environment(set_threads, monkeypatch):
    monkeypatch.setattr(kernels._WORKERS, "count", None)
    monkeypatch.setenv("WAGE_NEURO_THREADS", "3")
    assert kernels.thread_count() == 3
    set_threads(2)
    assert kernels.thread_count() == 2
