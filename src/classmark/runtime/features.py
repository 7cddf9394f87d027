"""What the monitor compares: features of papers, as a bundle's reference and the journal keep them.

The journal keeps of each prediction the scores that the text alone gave, so that it does not
matter who sent authors. A reference keeps the same of validation papers, made smaller. All that is
compared went through the same rounding, or the rounding itself would look like drift.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classmark.errors import InvalidEvent
from classmark.kernels import RawScores
from classmark.kernels.calibration import softmax
from classmark.runtime.decisions import ACCEPTED
from classmark.runtime.policy import Decider

DIMS = 32
"""Principal components of the scores that are compared."""
TOP = 8
"""Categories of a paper whose probabilities are compared; further ones hold next to nothing."""
MOST_LABELS = 2048
"""A prediction of a model with more keeps no scores: they would take more than 4 KB."""
NUMBERS = (
    *("entropy", "energy", "known_share", "english_share", "foreign_share", "log_words"),
    "latex_share",
)
FLAGS = ("accepted", "has_abstract", "used_authors")
_FORMAT = 1
_HEADER_BYTES = 4
_SHARES = 255
STEPS_PER_SD = 30
"""A component is kept in 1/30 of its standard deviation, up to 4.2 of them."""

FUNCTION_WORDS = (
    *("the", "of", "and", "in", "to", "a", "we", "is", "for", "that", "with", "are", "on", "by"),
    *("this", "which", "from", "an", "be", "as", "at", "it", "can", "or", "has", "have", "these"),
    *("our", "not", "between", "their", "its", "using", "also", "both", "such", "than", "one"),
    *("two", "all"),
)
"""Words that are common in English texts of any field."""
_ENGLISH = frozenset((*FUNCTION_WORDS, *map(str.capitalize, FUNCTION_WORDS)))
_FIRST_FOREIGN = "\u0400"
_LETTERS_OF_FORMULAS = (("\u1e00", "\u2bff"), ("\U0001d400", "\U0001d7ff"))

_LATEX = re.compile(r"\\(?:[A-Za-z]+|.)|[$^_{}~]", re.DOTALL)

Floats32 = NDArray[np.float32]
Project = Callable[[Floats32], NDArray[np.int8]]


@dataclass(frozen=True, eq=False, kw_only=True)
class FeatureTable:
    """Features of n papers.

    Attributes:
        labels: k codes.
        top_labels: intp [n, t], columns of the most probable labels of the text, most probable
            first; t is 8, or k if that is less.
        top_probs: float32 [n, t], their calibrated probabilities, 0..1.
        numbers: float32 [n, 7], in the order of ``NUMBERS``.
        flags: bool [n, 3], in the order of ``FLAGS``.
        projection: float32 [n, 32], principal components of the scores, of unit variance on the
            reference.
    """

    labels: tuple[str, ...]
    top_labels: NDArray[np.intp]
    top_probs: Floats32
    numbers: Floats32
    flags: NDArray[np.bool_]
    projection: Floats32

    def __len__(self) -> int:
        return len(self.top_labels)

    @property
    def entropy(self) -> Floats32:
        """Return the entropy of the probabilities in nats: float32 [n]."""
        return self.number("entropy")

    @property
    def energy(self) -> Floats32:
        """Return the logarithm of the sum of the exponentials of the scores: float32 [n]."""
        return self.number("energy")

    @property
    def known_share(self) -> Floats32:
        """Return the share of terms that the model knows: float32 [n], 0..1."""
        return self.number("known_share")

    @property
    def log_words(self) -> Floats32:
        """Return log(1 + words): float32 [n]."""
        return self.number("log_words")

    @property
    def latex_share(self) -> Floats32:
        """Return the share of characters that are LaTeX: float32 [n], 0..1."""
        return self.number("latex_share")

    @property
    def used_authors(self) -> NDArray[np.bool_]:
        """Return whether authors were used: bool [n]."""
        return self.flag("used_authors")

    @property
    def confidence(self) -> Floats32:
        """Return the calibrated probability of the first category: float32 [n]."""
        return self.top_probs[:, 0]

    def number(self, name: str) -> Floats32:
        """Return one of ``NUMBERS``: float32 [n]."""
        return self.numbers[:, NUMBERS.index(name)]

    def flag(self, name: str) -> NDArray[np.bool_]:
        """Return one of ``FLAGS``: bool [n]."""
        return self.flags[:, FLAGS.index(name)]

    def select(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> FeatureTable:
        """Return the features of some papers: a mask [n] or indices, in that order."""
        arrays = {name: getattr(self, name)[rows] for name in _TABLE_ARRAYS}
        return FeatureTable(labels=self.labels, **arrays)

    @classmethod
    def joined(cls, parts: Sequence[FeatureTable]) -> FeatureTable:
        """Return the features of one or more tables over the same labels as one."""
        arrays = {n: np.concatenate([getattr(p, n) for p in parts]) for n in _TABLE_ARRAYS}
        return cls(labels=parts[0].labels, **arrays)


_TABLE_ARRAYS = ("top_labels", "top_probs", "numbers", "flags", "projection")


@dataclass(frozen=True, eq=False, kw_only=True)
class WatchedPapers:
    """What is known of n predictions, in the journal or on the valid split.

    Attributes:
        scores: float32 [n, k], raw scores of the text alone.
        known_share: float32 [n], as in ``RawScores``.
        english_share, foreign_share: float32 [n], see ``text_shares``.
        latex_share: float32 [n], see ``latex_share``.
        n_words: int [n], of title and abstract.
        has_abstract, used_authors: bool [n].
    """

    scores: Floats32
    known_share: Floats32
    english_share: Floats32
    foreign_share: Floats32
    latex_share: Floats32
    n_words: NDArray[np.int32]
    has_abstract: NDArray[np.bool_]
    used_authors: NDArray[np.bool_]

    @classmethod
    def of_texts(
        cls,
        scores: Floats32,
        known_share: Floats32,
        texts: Iterable[tuple[str, str]],
        used_authors: NDArray[np.bool_] | None,
    ) -> WatchedPapers:
        """Return scored papers with what their texts say.

        Args:
            scores: float32 [n, k], of the text alone.
            known_share: float32 [n].
            texts: n raw (title, abstract) pairs.
            used_authors: bool [n]; None for none.
        """
        facts = np.array([_facts_of(*text) for text in texts], dtype=np.float64)
        english, foreign, latex, n_words, has_abstract = facts.reshape(-1, 5).T
        return cls(
            scores=scores,
            known_share=known_share,
            english_share=_rounded(english),
            foreign_share=_rounded(foreign),
            latex_share=latex.astype(np.float32),
            n_words=n_words.astype(np.int32),
            has_abstract=has_abstract.astype(np.bool_),
            used_authors=np.zeros(len(facts), np.bool_) if used_authors is None else used_authors,
        )

    def features(self, decider: Decider, project: Project) -> FeatureTable:
        """Return the features, rounded as a reference keeps them.

        Args:
            decider: the policy of the model.
            project: ``Axes.project``: scores float32 [n, k] -> components int8 [n, 32].

        Raises:
            InvalidScores: a score is not a finite number, or they are of other labels.
        """
        scores = self.scores.astype(np.float16).astype(np.float32)
        decisions = decider.decide(RawScores(scores, self.known_share), top=TOP)
        p = decisions.probabilities
        places = decisions.ranked(min(TOP, len(decider.labels)))
        _, energy = softmax(scores, decider.temperature)
        entropy = -(p * np.log(np.maximum(p, 1e-300))).sum(axis=1)
        numbers = [entropy, energy, self.known_share, self.english_share, self.foreign_share]
        numbers += [np.log1p(self.n_words), self.latex_share]
        flags = [decisions.reasons == ACCEPTED, self.has_abstract, self.used_authors]
        return FeatureTable(
            labels=decider.labels,
            top_labels=decisions.columns[places],
            top_probs=shares_of(kept_shares(decisions.falling[places].astype(np.float32))),
            numbers=np.stack(numbers, axis=1).astype(np.float16).astype(np.float32),
            flags=np.stack(flags, axis=1),
            projection=components_of(project(scores)),
        )


def keep_scores(raw: RawScores) -> list[bytes]:
    """Return what the journal keeps of the scores of n papers: n times 2 k bytes.

    They are those of the text alone, as float16, lowest byte first. Empty for a model of more than
    2,048 labels.
    """
    n, k = raw.of_text.shape
    if k > MOST_LABELS:
        return [b""] * n
    kept = raw.of_text.astype("<f2").tobytes()
    return [kept[start : start + 2 * k] for start in range(0, 2 * k * n, 2 * k)]


def keep_features(scores: bytes, words: Sequence[str], text: str, *, has_abstract: bool) -> bytes:
    """Return the column ``features`` of the journal: four bytes about the text, then its scores.

    Args:
        scores: an item of ``keep_scores``.
        words: of the text.
        text: title and abstract.
        has_abstract: whether there is one.
    """
    shares = (round(_SHARES * share) for share in text_shares(words, text))
    return bytes((_FORMAT, *shares, has_abstract)) + scores


def has_scores(kept: bytes | None) -> bool:
    """Return whether the column ``features`` of a prediction holds scores."""
    return kept is not None and len(kept) > _HEADER_BYTES


def read_features(kept: bytes, n_labels: int) -> tuple[Floats32, float, float, bool]:
    """Return scores, English share, foreign share, and whether there was an abstract.

    Args:
        kept: the column ``features``.
        n_labels: of the model that predicted.

    Raises:
        InvalidEvent: it is of another version, or of other labels.
    """
    if len(kept) < _HEADER_BYTES or kept[0] != _FORMAT:
        raise InvalidEvent(
            f"features of version {kept[0] if kept else None} are not readable; this classmark "
            f"reads {_FORMAT}. Install the classmark that wrote them."
        )
    scores = np.frombuffer(kept, dtype="<f2", offset=_HEADER_BYTES)
    if len(scores) != n_labels:
        raise InvalidEvent(
            f"a prediction keeps {len(scores)} scores, its model has {n_labels} labels. Give the "
            "model that made it."
        )
    return scores.astype(np.float32), kept[1] / _SHARES, kept[2] / _SHARES, bool(kept[3])


def text_shares(words: Sequence[str], text: str) -> tuple[float, float]:
    """Return the share of words that are common in English, and of characters of other scripts.

    Both are 0..1. Latin and Greek letters, and those of formulas, are not of another script.
    """
    english = sum(map(_ENGLISH.__contains__, words)) / max(1, len(words))
    if text.isascii():
        return english, 0.0
    foreign = sum(c >= _FIRST_FOREIGN and c.isalpha() and not _is_of_formula(c) for c in text)
    return english, foreign / max(1, len(text))


def latex_share(text: str) -> float:
    """Return the share of characters that are LaTeX commands or signs, 0..1."""
    if not any(sign in text for sign in "\\$^_{}~"):
        return 0.0
    # One by one: findall of a long text would hold the interpreter for 15 ms.
    return sum(len(match[0]) for match in _LATEX.finditer(text)) / len(text)


def watched(rows: Sequence[Mapping[str, Any]], n_labels: int) -> WatchedPapers:
    """Return predictions of the journal as arrays.

    Args:
        rows: each with ``features``, ``known_share``, ``latex_share``, ``n_words`` and
            ``used_authors``.
        n_labels: of the model that made them.

    Raises:
        InvalidEvent: as ``read_features``.
    """
    read = [read_features(row["features"], n_labels) for row in rows]

    def column(index: int) -> Floats32:
        return np.array([r[index] for r in read], dtype=np.float32)

    scores = [r[0] for r in read] or [np.zeros(n_labels, dtype=np.float32)]
    return WatchedPapers(
        scores=np.stack(scores)[: len(read)],
        known_share=np.array([row["known_share"] for row in rows], dtype=np.float32),
        english_share=column(1),
        foreign_share=column(2),
        latex_share=np.array([row["latex_share"] for row in rows], dtype=np.float32),
        n_words=np.array([row["n_words"] for row in rows], dtype=np.int32),
        has_abstract=np.array([r[3] for r in read], dtype=np.bool_),
        used_authors=np.array([row["used_authors"] for row in rows], dtype=np.bool_),
    )


def _facts_of(title: str, abstract: str) -> tuple[float, float, float, int, bool]:
    text = f"{title}\n{abstract}"
    words = text.split()
    return *text_shares(words, text), latex_share(text), len(words), bool(abstract)


def _rounded(shares: NDArray[np.float64]) -> Floats32:
    """Return shares of 0..1 as the journal keeps them, in 1/255."""
    rounded: Floats32 = (np.rint(shares * _SHARES) / _SHARES).astype(np.float32)
    return rounded


def components_of(kept: NDArray[np.int8]) -> Floats32:
    """Return components as they are compared, in standard deviations of the reference."""
    components: Floats32 = kept.astype(np.float32) / np.float32(STEPS_PER_SD)
    return components


def kept_shares(shares: Floats32) -> NDArray[np.uint8]:
    """Return probabilities as they are kept: their roots in 1/255, as it is those that differ."""
    kept: NDArray[np.uint8] = np.rint(np.sqrt(shares) * _SHARES).astype(np.uint8)
    return kept


def shares_of(kept: NDArray[np.generic]) -> Floats32:
    """Return the probabilities of ``kept_shares``, 0..1."""
    shares: Floats32 = np.square(kept.astype(np.float32) / np.float32(_SHARES))
    return shares


def _is_of_formula(character: str) -> bool:
    return any(first <= character <= last for first, last in _LETTERS_OF_FORMULAS)
