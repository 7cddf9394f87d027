"""Typing and scanning errors: single changes of words, blanks and marks, and where they happen."""

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


_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_FEWEST_LETTERS_OF_A_PART = 2

MISREADINGS = (
    *(("rn", "m"), ("m", "rn"), ("cl", "d"), ("d", "cl"), ("l", "1"), ("I", "l"), ("O", "0")),
    *(("e", "c"), ("c", "e"), ("h", "b"), ("u", "ii"), ("n", "ri"), ("w", "vv"), ("S", "5")),
    *(("B", "8"), ("g", "9"), ("fi", ""), ("fl", ""), ("ff", ""), ("fi", "f i"), ("ff", "f f")),
)
"""What scanners take for what; ligatures (fi, fl, ff) get lost or fall apart."""

_LOOKALIKES = str.maketrans("aceopxyABCEHKMOPTX", "асеорхуАВСЕНКМОРТХ")
_MARKS = "\u0300\u0301\u0302\u0303\u0308"
_VOWELS = frozenset("aeiouAEIOU")
_WHITE = ("  ", "\n", "\t", "\u00a0", " \n ", "\u2009")
_TAGS = (
    *("<i>{}</i>", "<b>{}</b>", "<sub>{}</sub>", "<p>{}", "<br/>{}", "{}&nbsp;", "{}&amp;"),
    '<span class="text">{}</span>',
)


def _neighbours() -> dict[str, str]:
    keys = {}
    for y, row in enumerate(_ROWS):
        for x, key in enumerate(row):
            near = [row[i] for i in (x - 1, x + 1) if 0 <= i < len(row)]
            near += [
                _ROWS[j][x] for j in (y - 1, y + 1) if 0 <= j < len(_ROWS) and x < len(_ROWS[j])
            ]
            keys[key] = "".join(near)
    return keys


_NEIGHBOURS = _neighbours()


def mistype(word: str, draws: Sequence[float]) -> str:
    """Return a word of two letters or more with two swapped, or one lost, doubled or wrong."""
    which, i = int(draws[0] * 4), int(draws[1] * (len(word) - 1))
    if which == 0 and word[i] != word[i + 1]:
        return word[:i] + word[i + 1] + word[i] + word[i + 2 :]
    if which == 1:
        return word[: i + 1] + word[i:]
    keys = _NEIGHBOURS.get(word[i].lower(), "")
    if which == 2 and keys:
        key = keys[int(draws[0] * 4 % 1 * len(keys))]
        return word[:i] + (key.upper() if word[i].isupper() else key) + word[i + 1 :]
    return word[:i] + word[i + 1 :]


def misread(word: str, draws: Sequence[float]) -> str:
    """Return a word with one misreading of a scanner, or the word if none applies to it."""
    found = [pair for pair in MISREADINGS if pair[0] in word]
    if not found:
        return word
    seen, read = found[int(draws[0] * len(found))]
    changed = word.replace(seen, read, 1)
    return changed if changed.strip() else word


def cut_at_line_end(word: str, draws: Sequence[float]) -> str:
    """Return a long word with a hyphen and a line end inside."""
    places = len(word) - 2 * _FEWEST_LETTERS_OF_A_PART + 1
    i = _FEWEST_LETTERS_OF_A_PART + int(draws[0] * places)
    return f"{word[:i]}-\n{word[i:]}"


def lose(_: str, __: Sequence[float]) -> str:
    """Return nothing."""
    return ""


def look_alike(word: str, _: Sequence[float]) -> str:
    """Return a word whose Latin letters are Cyrillic ones that look the same, where there are."""
    return word.translate(_LOOKALIKES)


def accent(word: str, draws: Sequence[float]) -> str:
    """Return a word with an accent on one of its vowels, if it has any."""
    places = [i for i, letter in enumerate(word, 1) if letter in _VOWELS]
    if not places:
        return word
    i = places[int(draws[0] * len(places))]
    return word[:i] + _MARKS[int(draws[1] * len(_MARKS))] + word[i:]


def space_out(_: str, draws: Sequence[float]) -> str:
    """Return white space other than one blank."""
    return _WHITE[int(draws[0] * len(_WHITE))]


def tag(word: str, draws: Sequence[float]) -> str:
    """Return a word with HTML around it."""
    return _TAGS[int(draws[0] * len(_TAGS))].format(word)


def repeat(word: str, _: Sequence[float]) -> str:
    """Return a word twice."""
    return f"{word} {word}"
