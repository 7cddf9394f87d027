"""What every kernel offers: raw scores of papers, and the terms behind one score."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from classmark.kernels.featuriser import KERNEL

_LONG_WORD_CHARS = 10


@dataclass(frozen=True, eq=False)
class RawScores:
    """The scores that a kernel gives n papers, before any policy.

    Attributes:
        scores: float32 [n, k], uncalibrated logits in label order.
        known_share: float32 [n], share of the text's terms that the model knows, 0..1.
        n_terms: int32 [n], words of each text as ``count_terms`` returns them; None if nobody
            counted them, and then no prediction set is withheld for having too few.
        text_scores: float32 [n, k], what the text alone gives, where authors or neighbours were
            used for some of the papers; else None.
        used_authors: bool [n], for which of them authors were; None if for none.
        used_neighbours: bool [n], for which of them neighbours were; None if for none.
    """

    scores: NDArray[np.float32]
    known_share: NDArray[np.float32]
    n_terms: NDArray[np.int32] | None = None
    text_scores: NDArray[np.float32] | None = None
    used_authors: NDArray[np.bool_] | None = None
    used_neighbours: NDArray[np.bool_] | None = None

    def rows(self, start: int, end: int) -> RawScores:
        """Return the scores of the papers from ``start`` to before ``end``."""
        return RawScores(
            self.scores[start:end],
            self.known_share[start:end],
            None if self.n_terms is None else self.n_terms[start:end],
            None if self.text_scores is None else self.text_scores[start:end],
            None if self.used_authors is None else self.used_authors[start:end],
            None if self.used_neighbours is None else self.used_neighbours[start:end],
        )

    @classmethod
    def joined(cls, parts: Sequence[RawScores]) -> RawScores:
        """Return the scores of one or more batches as those of one."""
        if len(parts) == 1:
            return parts[0]
        counts = [part.n_terms for part in parts if part.n_terms is not None]
        has_more = any(part.text_scores is not None for part in parts)
        return cls(
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.known_share for part in parts]),
            np.concatenate(counts) if len(counts) == len(parts) else None,
            np.concatenate([part.of_text for part in parts]) if has_more else None,
            np.concatenate([part.with_authors for part in parts]) if has_more else None,
            np.concatenate([part.with_neighbours for part in parts]) if has_more else None,
        )

    def changed_beside_text(self, pairs: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return what authors and neighbours change in the difference of two columns of each paper.

        Args:
            pairs: [n, 2], the columns.

        Returns:
            float64 [n], in raw logits.
        """
        rows = np.arange(len(pairs))[:, None]
        changes = (self.scores[rows, pairs] - self.of_text[rows, pairs]).astype(np.float64)
        difference: NDArray[np.float64] = changes[:, 0] - changes[:, 1]
        return difference

    def changed_tops(self) -> dict[int, int]:
        """Return the papers whose first column is not that of the text alone, with the latter."""
        if self.text_scores is None:
            return {}
        of_text = self.text_scores.argmax(axis=1)
        rows = np.flatnonzero(of_text != self.scores.argmax(axis=1))
        return dict(zip(rows.tolist(), of_text[rows].tolist(), strict=True))

    @property
    def of_text(self) -> NDArray[np.float32]:
        """Return what the text alone gives: float32 [n, k]."""
        return self.scores if self.text_scores is None else self.text_scores

    def text_of(self, row: int) -> RawScores:
        """Return what the text alone gives one paper."""
        part = slice(row, row + 1)
        return RawScores(self.of_text[part], self.known_share[part])

    @property
    def with_authors(self) -> NDArray[np.bool_]:
        """Return for which papers authors were used: bool [n]."""
        if self.used_authors is None:
            return np.zeros(len(self.known_share), dtype=np.bool_)
        return self.used_authors

    @property
    def with_neighbours(self) -> NDArray[np.bool_]:
        """Return for which papers neighbours were used: bool [n]."""
        if self.used_neighbours is None:
            return np.zeros(len(self.known_share), dtype=np.bool_)
        return self.used_neighbours


def count_terms(papers: Iterable[tuple[str, str]], most: int) -> NDArray[np.int32]:
    """Return how many words each (title, abstract) has, int32 [n], counted up to ``most``.

    A text of ten characters for each of the ``most`` words is taken to have them all: counting
    would cost a twentieth of the answer.
    """
    return np.array([_count(title, abstract, most) for title, abstract in papers], dtype=np.int32)


def _count(title: str, abstract: str, most: int) -> int:
    if len(title) + len(abstract) >= most * _LONG_WORD_CHARS:
        return most
    if KERNEL is not None and title.isascii() and abstract.isascii():
        counted: int = KERNEL.count_words(title, abstract, most)
        return counted
    return min(most, len(title.split(None, most)) + len(abstract.split(None, most)))


class Scorer(Protocol):
    """A kernel: thread-safe, without state that a call changes."""

    @property
    def explanation_method(self) -> str:
        """How ``contributions`` come about: ``exact_linear`` or ``occlusion``."""
        ...

    def score(self, papers: Sequence[tuple[str, str]]) -> RawScores:
        """Score raw (title, abstract) pairs; the kernel normalises them itself."""
        ...

    def contributions(
        self, title: str, abstract: str, top: int, other: int
    ) -> list[tuple[str, float]]:
        """Return what each term adds to ``score[top] - score[other]``, in raw logits.

        The weights sum to that difference; a bias is listed under ``(bias)``, what the terms do not
        explain under ``(residual)``.
        """
        ...
