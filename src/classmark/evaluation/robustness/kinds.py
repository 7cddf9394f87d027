"""Every kind of perturbed paper with its levels, in the unit a person would state it in."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from classmark.evaluation.robustness.noise import (
    BLANK,
    LONG_WORD,
    WORD,
    Change,
    accent,
    change_share,
    cut_at_line_end,
    generator,
    look_alike,
    lose,
    misread,
    mistype,
    repeat,
    space_out,
    tag,
)

# Formulas between dollars (never across a blank line of text: at most this long) and commands.
_LONGEST_FORMULA = 400
LATEX = re.compile(rf"\$\$?[^$]{{1,{_LONGEST_FORMULA}}}\$\$?|\\[A-Za-z]+|\\[^A-Za-z\s]", re.DOTALL)
_LATEX_MARK = re.compile(r"[$\\{}^_]")

Text = tuple[str, str]
"""Title and abstract."""

Edit = Callable[[Text, float, np.random.Generator], Text]


@dataclass(frozen=True)
class Kind:
    """One kind of perturbation.

    Attributes:
        name: e.g. ``typos``.
        unit: what a level states, e.g. ``share of words with a typo``.
        levels: name -> value, mildest first.
        edit: takes title and abstract, the value of a level and a source of chance.
        ordered: each level is worse than the one before.
    """

    name: str
    unit: str
    levels: Mapping[str, float]
    edit: Edit
    ordered: bool = True


def perturb(kind: Kind, level: str, text: Text, *, identifier: str, seed: int) -> Text:
    """Return title and abstract perturbed: the same for the same arguments, never both empty.

    Args:
        kind: one of ``KINDS``.
        level: the name of one of its levels.
        text: title and abstract.
        identifier: of the paper; papers of other ids get other changes.
        seed: of all changes.
    """
    changed = kind.edit(text, kind.levels[level], generator(seed, kind.name, identifier))
    return changed if any(part.strip() for part in changed) else text


def _shares(*percent: int) -> dict[str, float]:
    return {f"{n} %": n / 100 for n in percent}


def _everywhere(pattern: re.Pattern[str], change: Change) -> Edit:
    def edit(text: Text, share: float, rng: np.random.Generator) -> Text:
        title, abstract = (change_share(part, pattern, share, rng, change) for part in text)
        return title, abstract

    return edit


def _title_only(text: Text, _: float, __: np.random.Generator) -> Text:
    return text[0], ""


def _abstract_only(text: Text, _: float, __: np.random.Generator) -> Text:
    return "", text[1]


def _truncate(text: Text, words: float, _: np.random.Generator) -> Text:
    kept = text[1].split(None, int(words))
    return text if len(kept) <= words else (text[0], " ".join(kept[: int(words)]))


_CASES: tuple[Callable[[str], str], ...] = (str.title, str.lower, str.upper)


def _set_case(text: Text, case: float, _: np.random.Generator) -> Text:
    return _CASES[int(case)](text[0]), _CASES[int(case)](text[1])


def _by_name(kinds: Iterable[Kind]) -> dict[str, Kind]:
    return {kind.name: kind for kind in kinds}


KINDS = _by_name(
    [
        Kind(
            "typos",
            "share of words with a letter swapped, lost, doubled or mistyped",
            _shares(2, 5, 10, 20),
            _everywhere(WORD, mistype),
        ),
        Kind(
            "ocr",
            "share of words with a letter or ligature misread",
            _shares(2, 5, 10, 20),
            _everywhere(WORD, misread),
        ),
        Kind(
            "hyphenation",
            "share of words of six letters or more that a line end cuts",
            _shares(2, 5, 10, 20),
            _everywhere(LONG_WORD, cut_at_line_end),
        ),
        Kind(
            "missing-blanks",
            "share of blanks lost",
            _shares(2, 5, 10, 20),
            _everywhere(BLANK, lose),
        ),
        Kind("title-only", "without the abstract", {"title": 1.0}, _title_only),
        Kind("abstract-only", "without the title", {"abstract": 1.0}, _abstract_only),
        Kind(
            "truncation",
            "words of the abstract that are left",
            {f"{n} words": n for n in (100, 50, 25, 10)},
            _truncate,
        ),
        Kind(
            "latex-stripped",
            "share of formulas and commands lost",
            _shares(25, 50, 100),
            _everywhere(LATEX, lose),
        ),
        Kind(
            "latex-broken",
            "share of the marks $ \\ { } ^ _ lost",
            _shares(10, 25, 50, 100),
            _everywhere(_LATEX_MARK, lose),
        ),
        Kind(
            "case",
            "how all letters are set",
            {"title": 0.0, "lower": 1.0, "upper": 2.0},
            _set_case,
            ordered=False,
        ),
        Kind(
            "white-space",
            "share of blanks that are tabs, line ends, double or not breaking",
            _shares(10, 50, 100),
            _everywhere(BLANK, space_out),
        ),
        Kind("html", "share of words in tags", _shares(2, 5, 10, 20), _everywhere(WORD, tag)),
        Kind(
            "duplicated-words",
            "share of words that stand twice",
            _shares(5, 10, 20, 40),
            _everywhere(WORD, repeat),
        ),
        Kind(
            "accents",
            "share of words with a stray accent",
            _shares(10, 50, 100),
            _everywhere(WORD, accent),
        ),
        Kind(
            "look-alikes",
            "share of words spelled with Cyrillic letters that look Latin",
            _shares(2, 5, 10, 20),
            _everywhere(WORD, look_alike),
        ),
    ]
)
