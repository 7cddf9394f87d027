"""Where a text is changed: a share of its words, blanks or marks, chosen by chance."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from hashlib import blake2b

import numpy as np

Change = Callable[[str, Sequence[float]], str]
"""Takes what stands at a place, and two numbers from 0 to below 1; returns what takes its place."""

WORD = re.compile(r"[^\W\d_]{2,}")
LONG_WORD = re.compile(r"[^\W\d_]{6,}")
BLANK = re.compile(" ")
_DRAWS = 2


def generator(seed: int, kind: str, identifier: str) -> np.random.Generator:
    """Return the source of chance of one paper and kind: the same in every process."""
    key = blake2b(f"{seed}\0{kind}\0{identifier}".encode("utf-8", "replace"), digest_size=8)
    return np.random.default_rng(int.from_bytes(key.digest(), "big"))


def change_share(
    text: str, pattern: re.Pattern[str], share: float, rng: np.random.Generator, change: Change
) -> str:
    """Return the text with a share of the places that a pattern finds changed.

    With the same source of chance a larger share changes the same places and more. The number is
    rounded up or down by chance, so that the share also holds on average over short texts.

    Args:
        text: to be changed.
        pattern: finds the places.
        share: of the places, 0..1.
        rng: source of chance; how much is drawn depends on the text alone.
        change: what to do with each.
    """
    spans = [match.span() for match in pattern.finditer(text)]
    order = rng.random(len(spans))
    draws = rng.random((len(spans), _DRAWS))
    count = min(int(share * len(spans) + rng.random()), len(spans))
    if not count or share <= 0.0:
        return text
    chosen = np.sort(np.argsort(order, kind="stable")[:count])
    pieces, done = [], 0
    for (start, end), numbers in zip(
        [spans[i] for i in chosen.tolist()], draws[chosen].tolist(), strict=True
    ):
        pieces += [text[done:start], change(text[start:end], numbers)]
        done = end
    return "".join([*pieces, text[done:]])
