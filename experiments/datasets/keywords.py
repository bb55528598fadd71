"""NeuroBench's keywords: spoken words of 15 languages, for few-shot class-incremental learning.

100 base words of five languages, then ten words of each of ten more: NeuroBench's task, on whatever network
and method, is the stream `split-mswc --base 100 --tasks 11 --shots 5`.

Source: Yik et al., arXiv:2304.04640; the words are of Multilingual Spoken Words, CC BY 4.0.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.datasets.base import Dataset
from experiments.datasets.files import reading
from wage_neuro.errors import DataError

LANGUAGES = ("fa", "eo", "pt", "eu", "pl", "cy", "nl", "ru", "es", "it")
"""Of the words that come later, a task each, in this order."""
SUPPORT = 100
"""Clips of each later word that are learned from; those after them test, as NeuroBench splits them."""
RATE = 16_000
WINDOW, HOP, BANDS = 512, 320, 32
"""Samples of a window and between windows, mel bands: 49 x 32 grey levels a second."""
FRAMES = RATE // HOP - 1
LOUDEST = 12.0
"""Grey level 255, as log2 of a band's mean amplitude above the level 0."""

Clip = tuple[Path, str]


def read(folder: Path) -> Dataset:
    """Read MSWC/: base_train.csv, base_test.csv and LANGUAGE/evaluation.csv, of rows file,word,language.

    The clips are LANGUAGE/clips/FILE, in the 16 kHz wav files that NeuroBench offers beside its opus files.

    Raises
    ------
    DataError
        If a list or a clip is missing or damaged, or of another rate.
    """
    train, test = (_listed(folder, folder / f"base_{part}.csv") for part in ("train", "test"))
    words = list(dict.fromkeys(word for _, word in train))
    for language in LANGUAGES:
        clips = _listed(folder, folder / language / "evaluation.csv")
        for word in dict.fromkeys(word for _, word in clips):
            mine = [clip for clip in clips if clip[1] == word]
            train, test = train + mine[:SUPPORT], test + mine[SUPPORT:]
            words.append(word)
    label = {word: i for i, word in enumerate(words)}
    if strange := [word for _, word in test if word not in label]:
        raise DataError(f"{folder}: base_test.csv has {strange[0]!r}, base_train.csv has not")
    parts = [_pair(clips, label) for clips in (train, test)]
    (images, labels), (test_images, test_labels) = parts
    return Dataset("mswc", images, labels, test_images, test_labels, len(words), False, tuple(words))


def _pair(clips: Sequence[Clip], label: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    return np.stack([_heard(path) for path, _ in clips]), np.array([label[word] for _, word in clips])


def _listed(folder: Path, path: Path) -> list[Clip]:
    with reading(path, "list of clips"), path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.reader(file) if row and row[1:2] != ["WORD"]]
    for i, row in enumerate(rows, start=1):
        if len(row) != 3:
            raise DataError(f"{path}: row {i} has {len(row)} fields: want file,word,language")
    if not rows:
        raise DataError(f"{path}: no clips in it")
    return [((folder / language / "clips" / name).with_suffix(".wav"), word) for name, word, language in rows]


def _heard(path: Path) -> np.ndarray:
    """(FRAMES, BANDS, 1) grey levels of a clip: loudness of mel bands, on a scale of octaves."""
    from scipy.io import wavfile

    if not path.exists():
        raise DataError(f"{path}: not found; want the 16 kHz wav files")
    with reading(path, "wav file"):
        rate, sound = wavfile.read(path)
    if rate != RATE or sound.dtype != np.int16 or sound.ndim != 1:
        raise DataError(
            f"{path}: {sound.dtype} {sound.shape} at {rate} Hz: want int16 of one channel at {RATE} Hz"
        )
    return spectrogram(sound)


def spectrogram(sound: np.ndarray) -> np.ndarray:
    """Grey levels of the first second of a sound, silence where it is shorter.

    sound : (n,) int16. Returns (FRAMES, BANDS, 1) uint8.

    >>> spectrogram(np.zeros(RATE, np.int16)).max(), spectrogram(np.zeros(9, np.int16)).shape
    (np.uint8(0), (49, 32, 1))
    """
    second = np.zeros(RATE + WINDOW)
    second[: min(len(sound), RATE)] = sound[:RATE]
    windows = np.lib.stride_tricks.sliding_window_view(second, WINDOW)[::HOP][:FRAMES]
    amplitude = np.abs(np.fft.rfft(windows * np.hanning(WINDOW), axis=1))
    loud = np.log2(1 + amplitude @ _mel() / WINDOW)
    return np.clip(np.rint(loud * (255 / LOUDEST)), 0, 255).astype(np.uint8)[..., np.newaxis]


def _mel() -> np.ndarray:
    """(frequencies, BANDS) triangles, equally far from each other on the mel scale, each of sum 1."""
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, BANDS + 2) / 2595) - 1)
    hertz = np.linspace(0, RATE / 2, WINDOW // 2 + 1)[:, None]
    low, mid, high = edges[:-2], edges[1:-1], edges[2:]
    triangles = np.maximum(0, np.minimum((hertz - low) / (mid - low), (high - hertz) / (high - mid)))
    return triangles / np.maximum(triangles.sum(axis=0), 1)
