"""Figure 3: one text through the shipped model, from its terms to the scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from marks import WIDTH, arrow, box, document, words
from numpy.typing import NDArray

from classmark import Classifier
from classmark.bundle import Bundle, find_bundle, load_bundle
from classmark.kernels.featuriser import terms
from classmark.kernels.linear import DIM, bucket_of, fingerprint, slot_of
from classmark.pages.svg import Scale, bar
from classmark.wire import Ranked

LABEL = "Terms of a text, their rows of 128 two-bit numbers, the sum of the rows, and the scores"
TEXT = "Orbital decay of a hot Jupiter"
LEVELS = ("against", "against-half", "half", "full")
CELL = 2.25
TOP = 5
STEP = 17


def draw() -> str:
    """Return the figure."""
    bundle = load_bundle(find_bundle("fast"))
    answer = Classifier.from_bundle(bundle).classify(TEXT, top=TOP)
    named = terms("", TEXT)
    rows, weights, known = _rows(bundle, [key for _, key in named])
    left = 120.0
    marks = [box(1, 8, WIDTH - 2, 30), words(12, 28, TEXT, "head"), arrow(60, 40, 60, 58)]
    marks.append(words(0, 76, "words and pairs", "name"))
    marks.append(words(left, 76, f"a row of {DIM} two-bit numbers each", "name"))
    for i, (term, _) in enumerate(named):
        y = 86 + STEP * i
        marks.append(words(0, y + 10, term, "code"))
        if known[i]:
            marks += _strip(left, y, rows[i])
        else:
            marks.append(
                words(left, y + 10, "not among the features that were kept: no row", "note")
            )
    bottom = 86 + STEP * len(named)
    middle = left + DIM * CELL / 2
    marks += [arrow(middle, bottom, middle, bottom + 18), words(0, bottom + 50, "sum", "code")]
    marks += _upright(left, bottom + 46, (weights * known) @ rows)
    at = left + DIM * CELL
    marks.append(arrow(at + 8, bottom + 46, at + 40, bottom + 46))
    marks += _scores(at + 52, bottom - 106, answer.ranked)
    marks += _key(left, bottom + 92)
    return document(LABEL, bottom + 100, marks)


def _rows(bundle: Bundle, keys: list[int]) -> tuple[NDArray[Any], ...]:
    """Return half steps [n, 128], weight [n] and whether it is known [n], of n features."""
    key = np.array(keys, dtype=np.uint64)
    displacements, fingerprints = (bundle.array(n) for n in ("displacements", "fingerprints"))
    displacement = displacements[bucket_of(key, len(displacements))]
    slots = slot_of(key, displacement.astype(np.uint16), len(fingerprints))
    packed = np.asarray(bundle.array("rows")[slots], dtype=np.uint8)
    bits = (packed[:, :, None] >> np.arange(0, 8, 2, dtype=np.uint8)) & 3
    weights = bundle.array("weights")[0, bundle.array("scale_codes")[slots]]
    known = fingerprints[slots] == fingerprint(key)
    return 2.0 * bits.reshape(len(keys), DIM) - 3, weights.astype(np.float64), known


def _strip(x: float, y: float, row: NDArray[np.float64]) -> list[str]:
    """Return a row as cells of four shades, one path a shade."""
    found = []
    for level, css in zip((-3, -1, 1, 3), LEVELS, strict=True):
        cells = [
            f"M{x + i * CELL:.2f} {y}h{CELL}v13h-{CELL}z" for i in np.flatnonzero(row == level)
        ]
        found.append(f'<path class="{css}" d="{"".join(cells)}"/>')
    return found


def _upright(x: float, y: float, hidden: NDArray[np.float64]) -> list[str]:
    tall = Scale(0, float(np.abs(hidden).max()), 0, 24)
    found = []
    for i, value in enumerate(hidden):
        height = tall(abs(float(value)))
        top = y - height if value > 0 else y
        found.append(bar(x + i * CELL, top, CELL - 0.4, height, "full" if value > 0 else "against"))
    return found


def _scores(x: float, y: float, ranked: Sequence[Ranked]) -> list[str]:
    wide = Scale(0, 1, 0, 90)
    found = [words(x, y - 22, f"head of {DIM} × 149, softmax", "name")]
    for i, entry in enumerate(ranked):
        top, end = y + 36 * i, wide(entry.probability)
        found.append(words(x, top, entry.code, "code"))
        found.append(words(x, top + 14, entry.name[:38], "note"))
        found.append(bar(x + 116, top - 9, end, 10, "full"))
        found.append(words(x + 122 + end, top, f"{entry.probability:.2f}", "tick"))
    return found


def _key(x: float, y: float) -> list[str]:
    found = []
    for i, (css, name) in enumerate(zip(LEVELS, ("−3", "−1", "+1", "+3"), strict=True)):
        found += [bar(x + 58 * i, y - 9, 12, 10, css), words(x + 17 + 58 * i, y, name, "tick")]
    return [*found, words(x + 236, y, "half steps", "note")]
