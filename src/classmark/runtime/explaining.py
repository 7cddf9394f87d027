"""The explanation of an answer: the terms of the text, the known authors, the neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from classmark.kernels import RawScores, Scorer
from classmark.kernels.explanation import explain, terms_beside_text
from classmark.kernels.joining import AuthorJoin
from classmark.records import Paper
from classmark.runtime.decisions import Decisions


@dataclass(frozen=True)
class Explainer:
    """Explains the answers of one model.

    Attributes:
        scorer: of the text.
        join: of text and authors; None if the model has no table of authors.
        labels: k codes.
        temperature: of the policy.
    """

    scorer: Scorer
    join: AuthorJoin | None
    labels: tuple[str, ...]
    temperature: float

    def fields(
        self, papers: Sequence[Paper], raw: RawScores, decisions: Decisions
    ) -> dict[str, Sequence[object]]:
        """Return the fields of an explanation, a value for each of n papers."""
        pairs = decisions.columns[decisions.ranked(2)]
        changes = raw.changed_beside_text(pairs).tolist()
        terms = [
            self.scorer.contributions(paper.title, paper.abstract, best, second)
            for paper, (best, second) in zip(papers, pairs.tolist(), strict=True)
        ]
        for row in np.flatnonzero(raw.with_authors | raw.with_neighbours).tolist():
            change = changes[row]
            terms[row] += self._beside_text(papers[row], raw, row, pairs[row].tolist(), change)
        return {
            "explanation": [explain(t, temperature=self.temperature) for t in terms],
            "explanation_method": [self.scorer.explanation_method] * len(papers),
        }

    def _beside_text(
        self, paper: Paper, raw: RawScores, row: int, pair: list[int], change: float
    ) -> list[tuple[str, float]]:
        """Return the terms of the authors and the neighbours of a paper."""
        with_authors, with_neighbours = bool(raw.with_authors[row]), bool(raw.with_neighbours[row])
        shares = []
        if with_authors and self.join is not None:
            by_authors = None if with_neighbours else change
            text = raw.text_of(row)
            shares = self.join.shares(text, paper, pair, self.temperature, by_authors)
        return terms_beside_text(
            shares,
            self.labels,
            change,
            used_authors=with_authors,
            used_neighbours=with_neighbours,
        )
