"""What a network answers: the confusion matrix, and the images behind each of its cells."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import Any

import numpy as np

from experiments.datasets import Dataset
from experiments.records.style import ink_on, value_colours
from experiments.report.page import Part, script, table, words

MOST_CLASSES = 25
"""A matrix of more is a list of its largest cells."""
LISTED = 60
SHEET_BYTES = 1_200_000
"""Of all images together; fewer of each cell are kept until they fit."""
A_CELL = (40, 24, 12, 6, 3, 1)
"""Images of a cell, at most; of a right answer a third as many."""
SIDE = 56
"""Pixels that an image is wide, about."""
SHEET_COLUMNS = 40


@dataclass(frozen=True)
class Confusion:
    """Answers to the images of a data set."""

    data: Dataset
    answers: np.ndarray
    part: str

    @cached_property
    def counts(self) -> np.ndarray:
        """(label, answer) images."""
        n = self.data.classes
        return np.bincount(self.data.test_labels * n + self.answers, minlength=n * n).reshape(n, n)

    @property
    def wrong(self) -> np.ndarray:
        """Indices of the images that are answered wrongly."""
        return np.flatnonzero(self.answers != self.data.test_labels)

    def examples(self, most: int) -> list[int]:
        """Some images: the first of some classes that is answered rightly, then mistakes, a third of all."""
        right = self.answers == self.data.test_labels
        firsts = [np.flatnonzero(right & (self.data.test_labels == c))[:1] for c in range(self.data.classes)]
        mistakes = self.wrong[: most // 3].tolist()
        found = [int(first[0]) for first in firsts if len(first)][: most - len(mistakes)]
        return found + mistakes or [0]

    def parts(self) -> list[Part]:
        """The matrix, or its largest cells; choosing one shows its images."""
        right, n = int(np.trace(self.counts)), int(self.counts.sum())
        said = f"{right:,} of {n:,} {self.part} images are answered rightly, {100 * right / n:.2f} %."
        body = self._matrix() if self.data.classes <= MOST_CLASSES else self._list()
        return [
            words(said + " Choose a number to see its images."),
            body,
            '<h3 id="cell-name" aria-live="polite"></h3><div id="cell-images" class="images"></div>',
            self._classes(),
        ]

    def _matrix(self) -> str:
        n, colours = self.data.classes, ["#ffffff", *value_colours(100)]
        names = [self.data.called(c) for c in range(n)]
        head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
        rows = []
        for label in range(n):
            total, cells = max(1, int(self.counts[label].sum())), []
            for answer in range(n):
                count = int(self.counts[label, answer])
                ground = colours[0 if not count else 1 + int(99 * (count / total) ** 0.5)]
                ink = ink_on(ground)
                button = self._button(label, answer, count) if count else ""
                cells.append(f'<td style="background:{ground};color:{ink}">{button}</td>')
            rows.append(f'<tr><th scope="row">{escape(names[label])}</th>{"".join(cells)}</tr>')
        caption = "Confusion matrix: images of the class of a row that were taken for the class of a column"
        return (
            '<div class="wide" tabindex="0" role="group" aria-label="Confusion matrix">'
            f'<table class="matrix"><caption>{caption}</caption><thead><tr><td></td>{head}</tr></thead>'
            f"<tbody>{''.join(rows)}</tbody></table></div>"
        )

    def _button(self, label: int, answer: int, count: int) -> str:
        what = f"{count:,} images of {self.data.called(label)} taken for {self.data.called(answer)}"
        cell = f"{label},{answer}"
        named = f'data-cell="{cell}" aria-label="{escape(what, quote=True)}"'
        return f'<button type="button" {named}>{count:,}</button>'

    def _list(self) -> str:
        counts = self.counts.copy()
        np.fill_diagonal(counts, 0)
        order = np.argsort(-counts, axis=None, kind="stable")[:LISTED]
        rows = []
        for label, answer in zip(*np.unravel_index(order, counts.shape), strict=True):
            count = int(counts[label, answer])
            if count:
                names = (escape(self.data.called(int(c))) for c in (label, answer))
                rows.append(
                    f"<tr>{''.join(f'<td>{name}</td>' for name in names)}"
                    f"<td>{self._button(int(label), int(answer), count)}</td></tr>"
                )
        return (
            f"<table><caption>The {len(rows)} most frequent mistakes</caption><thead><tr>"
            '<th scope="col">class</th><th scope="col">taken for</th><th scope="col">images</th></tr></thead>'
            f"<tbody>{''.join(rows)}</tbody></table>"
        )

    def _classes(self) -> str:
        rows = []
        for label in range(self.data.classes):
            row = self.counts[label]
            others = np.where(np.arange(len(row)) == label, 0, row)
            mistaken = (
                f"{self.data.called(int(others.argmax()))} ({others.max():,} x)" if others.any() else ""
            )
            n = int(row.sum())
            share = f"{100 * row[label] / n:.2f} %" if n else ""
            rows.append([f"class {self.data.called(label)}", f"{n:,}", f"{row[label]:,}", share, mistaken])
        heads = ("class", "images", "right", "accuracy", "most often taken for")
        found = table(heads, rows, "Accuracy, class by class")
        return f"<details><summary>class by class</summary>{found}</details>"

    # --- the images ---

    def kept(self) -> dict[str, list[int]]:
        """Images of each cell that is not empty, as many as the sheet has room for."""
        found: dict[str, list[int]] = {}
        for most in A_CELL:
            found = self._cells(most)
            if len(self._sheet([i for cell in found.values() for i in cell])) <= SHEET_BYTES:
                break
        return found

    def _cells(self, most: int) -> dict[str, list[int]]:
        found = {}
        pairs = zip(*np.nonzero(self.counts), strict=True)
        for label, answer in pairs:
            if self.data.classes > MOST_CLASSES and label == answer:
                continue
            mine = np.flatnonzero((self.data.test_labels == label) & (self.answers == answer))
            some = most if label != answer else max(1, most // 3)
            found[f"{label},{answer}"] = mine[:some].tolist()
        return found

    def _sheet(self, index: list[int]) -> bytes:
        """One PNG of all these images, in rows of SHEET_COLUMNS."""
        from PIL import Image

        images = np.stack([self._tile(i) for i in index])
        h, w, c = images.shape[1:]
        rows = -(-len(images) // SHEET_COLUMNS)
        padded = np.zeros((rows * SHEET_COLUMNS, h, w, c), np.uint8)
        padded[: len(images)] = images
        whole = padded.reshape(rows, SHEET_COLUMNS, h, w, c).transpose(0, 2, 1, 3, 4)
        whole = whole.reshape(rows * h, SHEET_COLUMNS * w, c)
        made = io.BytesIO()
        Image.fromarray(whole[..., 0] if c == 1 else whole).save(made, "PNG", optimize=True)
        return made.getvalue()

    def _tile(self, index: int) -> np.ndarray:
        """An image as it is shown: three colours or one, and not much larger than it is drawn."""
        image = np.asarray(self.data.test_images[index])
        step = -(-max(image.shape[:2]) // SIDE)
        image = image[::step, ::step]
        return image if image.shape[-1] == 3 else image[..., :1]

    def script(self) -> str:
        """What shows the images of a cell; the cell with the most mistakes is shown at first."""
        cells = self.kept()
        order = [i for cell in cells.values() for i in cell]
        sheet = base64.b64encode(self._sheet(order)).decode()
        height, width = self._tile(order[0]).shape[:2]
        mistakes = [cell for cell in cells if len(set(cell.split(","))) > 1]
        most = max(mistakes, key=lambda cell: self.counts[tuple(map(int, cell.split(",")))], default="")
        known: dict[str, Any] = {
            "cells": cells,
            "counts": {cell: int(self.counts[tuple(map(int, cell.split(",")))]) for cell in cells},
            "names": [self.data.called(c) for c in range(self.data.classes)],
            "width": width,
            "height": height,
            "columns": SHEET_COLUMNS,
            "rows": -(-len(order) // SHEET_COLUMNS),
            "scale": max(1, SIDE // max(width, height)),
            "part": self.part,
            "sheet": f"data:image/png;base64,{sheet}",
            "first": most or next(iter(cells)),
        }
        return script("confusion.js", known)
