"""Neighbours as evidence: what the nearest papers of an index say of a paper's categories.

Each of the 200 nearest papers counts exp(30 (s - best) - years apart / 2), where s is its cosine;
later papers than the paper itself, and the paper's own row, count nothing. A joined score is

    a log p(label) + b log(primaries + .002) + c log(listed + .002) + d log p0(label)

with p what the model says, the shares of the neighbours' primaries and of all their categories, and
p0 the share of the label in the index. Four weights and a calibration curve, fitted on papers that
neither the model nor the index has learned from, are kept in the index (decision 0063).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from classmark.kernels import RawScores
from classmark.kernels.authors import expand
from classmark.kernels.calibration import CalibrationCurve, log_softmax
from classmark.kernels.checks import MOST_SCALE, curve_of, numbers_of
from classmark.kernels.joining import years_of
from classmark.records import Paper

if TYPE_CHECKING:
    from classmark.neighbours.index import Index

NEAREST = 200
SHARPNESS = 30.0
FADING_YEARS = 2.0
ASK_BELOW = 0.6
"""From this probability of the top label, neighbours are not looked for: less than a tenth of what
they gain is there, and half of the papers."""
N_SIDES = 4
_FLOOR = 0.002
_OWN_PLACES = 5
"""A paper's own row is among so many nearest ones, if the index has it."""
_PRIOR_COUNT = 0.5

Floats = NDArray[np.float64]
FindVectors = Callable[[Sequence[Paper]], NDArray[np.float32]]


@dataclass(frozen=True)
class SideWeights:
    """How scores and neighbours are joined.

    Attributes:
        sides: a, b, c and d of the formula above.
        curve: makes joined scores probabilities; None leaves them.
    """

    sides: tuple[float, ...]
    curve: CalibrationCurve | None = None

    def score(self, parts: Floats) -> NDArray[np.float32]:
        """Return joined scores of n papers, float32 [n, k]: logits at a temperature of 1.

        Args:
            parts: float64 [n, 4, k], as ``NeighbourJoin.parts`` returns them.
        """
        a, b, c, d = self.sides
        joined = a * parts[:, 0] + b * parts[:, 1] + c * parts[:, 2] + d * parts[:, 3]
        scores = joined.astype(np.float32)
        return scores if self.curve is None else self.curve.apply(scores)


@dataclass(frozen=True)
class EvidenceWeights:
    """When neighbours are asked, and how far they are trusted.

    Attributes:
        ask_below: neighbours are asked where the top probability is below it, 0..1.
        text: for papers whose scores are those of the text alone.
        authors: for papers whose authors are known; None does not ask for these.
    """

    ask_below: float
    text: SideWeights
    authors: SideWeights | None = None

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> EvidenceWeights:
        """Read what an index keeps; raises KeyError, TypeError or ValueError if invalid."""
        (ask_below,) = numbers_of([value["ask_below"]], "the bound of asking", 1, 0)
        authors = value["authors"]
        return cls(ask_below, _side(value["text"]), None if authors is None else _side(authors))


class Found(NamedTuple):
    """What the neighbours of n papers say.

    Attributes:
        primaries: float64 [n, k], share of each label among their primaries; 0 without neighbours.
        listed: float64 [n, k], the same of all their categories, divided by the same sum.
        known: bool [n], whether any neighbour counts.
    """

    primaries: Floats
    listed: Floats
    known: NDArray[np.bool_]

    def rows(self, rows: NDArray[np.intp]) -> Found:
        """Return what the neighbours of some of the papers say."""
        return Found(self.primaries[rows], self.listed[rows], self.known[rows])

    @classmethod
    def joined(cls, parts: Sequence[Found]) -> Found:
        """Return what is said of one or more batches as of one."""
        return cls(
            np.concatenate([part.primaries for part in parts]),
            np.concatenate([part.listed for part in parts]),
            np.concatenate([part.known for part in parts]),
        )


class NeighbourJoin:
    """Joins scores of a model with the neighbours of an index; may be shared by threads.

    Attributes:
        index: whose papers are asked.
        weights: of the join.
    """

    def __init__(self, index: Index, labels: Sequence[str], weights: EvidenceWeights) -> None:
        """Prepare a join.

        Args:
            index: the papers.
            labels: k codes, the columns of the scores.
            weights: ``index.manifest.evidence``, or such that are to be tried.
        """
        self.index, self.weights = index, weights
        self._k = len(labels)
        place = {label: i for i, label in enumerate(labels)}
        columns = [place.get(code, -1) for code in index.codes]
        self._columns = np.array([*columns, -1], dtype=np.int64)
        arrays = index.arrays
        has_any = np.diff(arrays.category_starts) > 0
        first = arrays.categories[arrays.category_starts[:-1][has_any]]
        counts = np.bincount(first, minlength=len(columns))
        known = self._columns[:-1] >= 0
        shares = np.full(self._k, _PRIOR_COUNT)
        np.add.at(shares, self._columns[:-1][known], counts[: len(columns)][known])
        self._prior = np.log(shares / shares.sum())
        self._newest = int(index.years.max(initial=0))

    def join(
        self,
        raw: RawScores,
        papers: Sequence[Paper],
        temperature: float,
        vectors: FindVectors,
    ) -> RawScores:
        """Return the scores of n papers with what their neighbours say.

        Papers that are not asked for, and those without neighbours, keep their scores to the last
        bit.

        Args:
            raw: what text and authors give.
            papers: the papers that were scored.
            temperature: of the model's policy.
            vectors: makes the vectors of papers.
        """
        log_p = log_softmax(raw.scores, temperature)
        asked = self.asked(raw, log_p)
        if not len(asked):
            return raw
        some = [papers[row] for row in asked.tolist()]
        found = self.find(vectors(some), some)
        rows = asked[found.known]
        if not len(rows):
            return raw
        parts = self.parts(log_p[rows], found)
        scores, used = raw.scores.copy(), np.zeros(len(papers), dtype=np.bool_)
        with_authors = raw.with_authors[rows]
        for weights, chosen in (
            (self.weights.text, ~with_authors),
            (self.weights.authors, with_authors),
        ):
            if weights is not None and chosen.any():
                scores[rows[chosen]] = weights.score(parts[chosen]) * temperature
        used[rows] = True
        return replace(raw, scores=scores, text_scores=raw.of_text, used_neighbours=used)

    def asked(self, raw: RawScores, log_p: Floats) -> NDArray[np.intp]:
        """Return the papers whose neighbours can change the answer: intp [m]."""
        unsure = np.exp(log_p.max(axis=1, initial=-np.inf)) < self.weights.ask_below
        return np.flatnonzero(
            unsure if self.weights.authors is not None else unsure & ~raw.with_authors
        )

    def find(self, vectors: NDArray[np.float32], papers: Sequence[Paper]) -> Found:
        """Return what the neighbours of n papers say.

        Args:
            vectors: float32 [n, 128].
            papers: the same; their years decide which neighbours count, their ids which are they
                themselves.
        """
        near = self.index.search(vectors, NEAREST)
        weights = self._weights(near.rows, near.similarity.astype(np.float64), papers)
        arrays = self.index.arrays
        paper, place = np.nonzero(weights)
        row = near.rows[paper, place]
        starts = arrays.category_starts[row]
        owner, entry = expand(starts, arrays.category_starts[row + 1] - starts)
        columns = self._columns[arrays.categories[entry]]
        weight = weights[paper, place][owner]
        is_first = (entry == starts[owner]) & (columns >= 0)
        cell = paper[owner] * self._k + columns
        totals = np.bincount(paper[owner], weight * is_first, len(papers)).astype(np.float64)
        share = (1.0 / np.where(totals > 0, totals, 1.0))[:, None]
        return Found(
            self._sums(cell[is_first], weight[is_first], len(papers)) * share,
            self._sums(cell[columns >= 0], weight[columns >= 0], len(papers)) * share,
            totals > 0,
        )

    def parts(self, log_p: Floats, found: Found) -> Floats:
        """Return what is joined for n papers of known neighbours: float64 [n, 4, k].

        Args:
            log_p: float64 [n, k], of those papers.
            found: of all papers that were asked.
        """
        primaries, listed = found.primaries[found.known], found.listed[found.known]
        prior = np.broadcast_to(self._prior, log_p.shape)
        return np.stack([log_p, np.log(primaries + _FLOOR), np.log(listed + _FLOOR), prior], axis=1)

    def _sums(self, cells: NDArray[np.int64], weights: Floats, n: int) -> Floats:
        return np.bincount(cells, weights, n * self._k).reshape(n, self._k).astype(np.float64)

    def _weights(
        self, rows: NDArray[np.int64], similarity: Floats, papers: Sequence[Paper]
    ) -> Floats:
        """Return how much each neighbour counts: float64 [n, 200]."""
        years, own = years_of(papers), self.index.years[rows].astype(np.int64)
        years = np.where(years > 0, years, self._newest)[:, None]
        apart = np.where(own > 0, years - own, 0)
        faded = np.exp(SHARPNESS * (similarity - similarity[:, :1]) - np.abs(apart) / FADING_YEARS)
        counts = (rows >= 0) & (apart >= 0) & (similarity > 0)
        for i, paper in enumerate(papers):
            for place in range(min(_OWN_PLACES, rows.shape[1])) if paper.id else ():
                row = int(rows[i, place])
                if row >= 0 and self.index.id_of(row) == paper.id:
                    counts[i, place] = False
        return np.where(counts, faded, 0.0).astype(np.float64)


def _side(value: Mapping[str, Any]) -> SideWeights:
    sides = numbers_of(value["sides"], "weights of the join", N_SIDES, -MOST_SCALE)
    return SideWeights(sides, curve_of(value["curve"]))
