"""The words of the sample generator: terms by category, sentences with slots, and their filling."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, TypeVar

Choice = TypeVar("Choice")

_KINDS = {
    "topic": "topics",
    "object": "objects",
    "method": "methods",
    "finding": "findings",
    "math": "math",
}
_LATE_KINDS = {"objects": "late_objects", "methods": "late_methods"}
_SLOT = re.compile(r"\{(\w+)\}")
_SHARED_SHARE = 0.3
_CONNECTOR_SHARE = 0.25
_STYLED_SHARE = 0.45
_PARTS = (("opening", 1, 2), ("approach", 1, 2), ("result", 1, 3), ("closing", 0, 1))
"""Part of an abstract with the least and the greatest number of its sentences."""

_MAX_AUTHORS = 4
_COMMUNITY = 60
"""People who write about a category again and again; the first ones write most."""
_STRIDE = 4001
"""Spreads the communities over all names: it shares no factor with their number."""
_HOME_SHARE, _GUEST_SHARE = 0.65, 0.2
"""Authors from the community of the category, and from those that it borrows terms from."""
_LEAST_NUMBER, _GREATEST_NUMBER = 3, 60


@dataclass(frozen=True, slots=True)
class Entry:
    """The vocabulary of one category.

    Attributes:
        style: ``theory`` or ``empirical``: which sentences suit it.
        growth: how its share changes with drift, in doublings.
        neighbours: categories that it is confused and cross-listed with.
        terms: at least 40 terms by kind, and LaTeX snippets.
    """

    style: str
    growth: float
    neighbours: tuple[str, ...]
    terms: Mapping[str, tuple[str, ...]]


Vocabulary = dict[str, Entry]


@dataclass(frozen=True, slots=True)
class Subject:
    """What a paper is about.

    Attributes:
        code: its true category.
        others: categories that it borrows terms from.
        own_share: share of its particular terms that are of its own category, 0..1.
        late_share: chance that a term is a new one, 0..1.
    """

    code: str
    others: tuple[str, ...]
    own_share: float
    late_share: float


class Writer:
    """Fills the slots of sentences; the same random state gives the same text."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        phrasing = _load("phrasing.json")
        self._titles = [_parse(title) for title in phrasing["titles"]]
        self._sentences = {
            part: {style: [_parse(text) for text in texts] for style, texts in styles.items()}
            for part, styles in ((part, phrasing[part]) for part, _, _ in _PARTS)
        }
        self._connectors = phrasing["connectors"]
        self._shared: dict[str, list[str]] = phrasing["shared"]
        self._names: dict[str, Sequence[str]] = phrasing["names"]
        self._communities = {code: place for place, code in enumerate(vocabulary)}

    def title(self, random: Random, subject: Subject) -> str:
        """Return an invented title."""
        return _capitalised(self._fill(random, pick(random, self._titles), subject))

    def abstract(self, random: Random, subject: Subject) -> str:
        """Return an invented abstract of three to eight sentences."""
        sentences = []
        for part, least, most in _PARTS:
            for position in range(least + int(random.random() * (most - least + 1))):
                sentence = self._sentence(random, part, subject)
                if position and random.random() < _CONNECTOR_SHARE:
                    sentence = f"{pick(random, self._connectors)} {_lowered(sentence)}"
                sentences.append(_capitalised(sentence))
        return " ".join(sentences)

    def authors(self, random: Random, subject: Subject) -> list[str]:
        """Return one to four invented names: most of people who write about the subject often."""
        count = 1 + int(random.random() * _MAX_AUTHORS)
        return list(dict.fromkeys(self._author(random, subject) for _ in range(count)))

    def _author(self, random: Random, subject: Subject) -> str:
        """Return a member of a community, or a passer-by, who may be somebody's namesake."""
        kind, member, guest = (random.random() for _ in range(3))
        if kind >= _HOME_SHARE + _GUEST_SHARE:
            return self._name(int(member * self._n_names()))
        others = subject.others
        code = subject.code if kind < _HOME_SHARE else others[int(guest * len(others))]
        place = self._communities[code] * _COMMUNITY + int(member * member * _COMMUNITY)
        return self._name(place * _STRIDE % self._n_names())

    def _n_names(self) -> int:
        return math.prod(map(len, self._names.values()))

    def _name(self, number: int) -> str:
        """Return one of all names that can be made."""
        parts = []
        for kind in ("initials", "beginnings", "endings"):
            number, place = divmod(number, len(self._names[kind]))
            parts.append(self._names[kind][place])
        initial, beginning, ending = parts
        return f"{initial}. {beginning}{ending}"

    def _sentence(self, random: Random, part: str, subject: Subject) -> str:
        style = self.vocabulary[subject.code].style
        chosen = style if random.random() < _STYLED_SHARE else "common"
        return self._fill(random, pick(random, self._sentences[part][chosen]), subject)

    def _fill(self, random: Random, pieces: Sequence[str], subject: Subject) -> str:
        """Join the pieces of a sentence; every second one names a slot."""
        filled = list(pieces)
        for position in range(1, len(pieces), 2):
            filled[position] = self._term(random, pieces[position], subject)
        return "".join(filled)

    def _term(self, random: Random, slot: str, subject: Subject) -> str:
        if slot == "number":
            span = _GREATEST_NUMBER - _LEAST_NUMBER + 1
            return str(_LEAST_NUMBER + int(random.random() * span))
        kind = _KINDS[slot.lower()]
        term = pick(random, self._terms(random, kind, subject))
        return _capitalised(term) if slot[0].isupper() else term

    def _terms(self, random: Random, kind: str, subject: Subject) -> Sequence[str]:
        if random.random() < _SHARED_SHARE:
            return self._shared[kind]
        own = random.random() < subject.own_share
        code = subject.code if own else pick(random, subject.others)
        if kind in _LATE_KINDS and random.random() < subject.late_share:
            kind = _LATE_KINDS[kind]
        return self.vocabulary[code].terms[kind]


def load_vocabulary(n_categories: int) -> Vocabulary:
    """Return the first categories of the vocabulary; neighbours beyond them are left out."""
    entries = list(_load("vocabulary.json").items())[:n_categories]
    codes = {code for code, _ in entries}
    return {code: _entry(values, codes) for code, values in entries}


def category_sentences() -> dict[str, str]:
    """Return, for each category of the vocabulary, a sentence made of its terms."""
    every = load_vocabulary(sys.maxsize)
    return {code: _sentence(entry.terms) for code, entry in every.items()}


def _sentence(terms: Mapping[str, tuple[str, ...]]) -> str:
    topic, objects, method = terms["topics"][0], terms["objects"][:2], terms["methods"][0]
    return f"We turn to {topic}: {objects[0]} and {objects[1]}, with {method}."


def pick(random: Random, choices: Sequence[Choice]) -> Choice:
    """Return one of the choices; of ``Random`` only ``random()`` is the same in every Python."""
    return choices[int(random.random() * len(choices))]


def _entry(values: dict[str, Any], codes: set[str]) -> Entry:
    kinds = (*_KINDS.values(), *_LATE_KINDS.values())
    return Entry(
        style=values["style"],
        growth=values["growth"],
        neighbours=tuple(code for code in values["neighbours"] if code in codes),
        terms={kind: tuple(values[kind]) for kind in kinds},
    )


def _load(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path(__file__).with_name(name).read_bytes())
    return content


def _parse(template: str) -> tuple[str, ...]:
    """Split a template into text and slot, text and slot ..., text."""
    return tuple(_SLOT.split(template))


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def _lowered(sentence: str) -> str:
    """Lower the first letter of ordinary words; names and abbreviations keep theirs."""
    first = sentence.split(" ", 1)[0]
    is_plain_word = len(first) > 1 and first[1:].islower()
    return sentence[:1].lower() + sentence[1:] if is_plain_word else sentence
