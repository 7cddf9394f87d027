"""Watches predictions one by one, without end, with a stated chance of a false alarm in all.

Each paper has some scores: components, energy, confidence, the way towards each common category. A
score's conformal p-value is the share of the papers before it, those of the reference included,
that score as high, ties divided by chance (Vovk et al. 2003). While papers stay exchangeable these
p-values are independent and uniform, so any fair bet on them is a martingale: here jumpers, which
bet that p-values lean to one side and change their mind now and then (Vovk et al. 2021, "Retrain or
not retrain"). A small shift is found by small bets, a sudden one by jumps, so there are several of
both. The mean of all their wealths is a martingale too. By Ville's inequality it ever reaches
1 / alpha with a chance of at most alpha: however often somebody looks, over a stream of any length.

Only scores that are fixed beforehand may be used: one that is learnt from the stream would not be
exchangeable with what came before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from classmark.errors import InvalidWindow
from classmark.runtime.features import DIMS, NUMBERS, FeatureTable

BINS = 512
"""A score is kept as one of so many, of equally many papers of the reference."""
MOST_WAYS = 30
"""Categories of the reference whose direction is a score: the most common ones."""
_LEAST_OF_WAY = 20
_JUMPS = np.array([0.01, 0.0001])
_BETS = np.array([-1.0, -0.5, -0.2, -0.08, 0.0, 0.08, 0.2, 0.5, 1.0])
_LEAST_REFERENCE = 50

Floats = NDArray[np.float64]
SCORES = (*(f"input {i + 1}" for i in range(DIMS)), "distance", "confidence", *NUMBERS)
"""Those of every stream; the ways towards categories come after them."""


@dataclass(eq=False)
class Stream:
    """The state of a watch; it is small, and goes on where it was saved.

    Attributes:
        ways: float64 [w, 32], unit vectors towards the common categories of the reference.
        columns: int64 [w], of these categories.
        edges: float64 [s, 511], where the bins of each score begin.
        counts: int64 [s, 512], papers so far in each bin, half of the reference included: the
            ways come from the other half.
        log_wealth: float64 [s, 2, 9], logarithm of what each bet of each jumper has made.
        n_papers: of the stream.
        peak: highest logarithm of the mean wealth so far.
    """

    ways: Floats
    columns: NDArray[np.int64]
    edges: Floats
    counts: NDArray[np.int64]
    log_wealth: Floats
    n_papers: int = 0
    peak: float = 0.0

    @classmethod
    def begin(cls, reference: FeatureTable) -> Stream:
        """Return a watch that has seen nothing but its reference.

        Raises:
            InvalidWindow: the reference has fewer than 50 papers.
        """
        if len(reference) < _LEAST_REFERENCE:
            raise InvalidWindow(
                f"the reference has {len(reference)} papers, a watch needs {_LEAST_REFERENCE} or "
                "more. Export the model with a larger valid split."
            )
        # What the ways were learnt from would score higher on them than papers like it.
        is_learnt = np.arange(len(reference)) % 2 == 0
        ways, columns = _ways(reference.select(is_learnt))
        scores = _scores_of(reference.select(~is_learnt), ways)
        edges = np.quantile(scores, np.linspace(0, 1, BINS + 1)[1:-1], axis=0).T.copy()
        counts = np.stack([np.bincount(b, minlength=BINS) for b in _bins(edges, scores).T])
        shape = (scores.shape[1], len(_JUMPS), len(_BETS))
        start = np.full(shape, -np.log(len(_JUMPS) * len(_BETS)))
        return cls(ways, columns, edges, counts.astype(np.int64), start)

    @property
    def log_martingale(self) -> float:
        """Logarithm of the mean wealth of all scores, 0 at the beginning."""
        return float(_log_mean(_log_sum(self.log_wealth)))

    @property
    def p_value(self) -> float:
        """Chance of a stream without drift to have come so far at any time: 1 / highest wealth."""
        return float(np.exp(-self.peak))

    def leading(self, labels: tuple[str, ...], most: int = 5) -> list[tuple[str, float]]:
        """Return the scores that have made most, each with the logarithm of its wealth.

        Args:
            labels: k codes of the model.
            most: how many.
        """
        wealth = _log_sum(self.log_wealth)
        names = (*SCORES, *(f"towards {labels[column]}" for column in self.columns))
        return [(names[s], float(wealth[s])) for s in np.argsort(-wealth, kind="stable")[:most]]

    def watch(self, papers: FeatureTable, chance: NDArray[np.float64]) -> Floats:
        """Take further papers, in their order; return the logarithm of the wealth after each.

        Args:
            papers: n of them.
            chance: float64 [n], 0..1, independent of the papers; divides ties. The same numbers
                for the same papers give the same result.
        """
        path = np.zeros(len(papers))
        every = np.arange(len(self.counts))
        # Papers up to the end of each bin; the update of a paper is a step in each row.
        up_to = self.counts.cumsum(axis=1)
        places = np.arange(BINS)
        for row, bins in enumerate(_bins(self.edges, _scores_of(papers, self.ways))):
            below = up_to[every, bins] - self.counts[every, bins]
            self.counts[every, bins] += 1
            up_to += places >= bins[:, None]
            p = (below + chance[row] * self.counts[every, bins]) / up_to[:, -1]
            self._bet(p)
            self.n_papers += 1
            path[row] = self.log_martingale
            self.peak = max(self.peak, float(path[row]))
        return path

    def _bet(self, p: Floats) -> None:
        """Change the wealths by the p-values of one paper: float64 [s]."""
        highest = self.log_wealth.max(axis=2, keepdims=True)
        wealth = np.exp(self.log_wealth - highest)
        shared = wealth.sum(axis=2, keepdims=True) / len(_BETS)
        moved = (1 - _JUMPS[:, None]) * wealth + _JUMPS[:, None] * shared
        gain = 1 + _BETS * (p[:, None, None] - 0.5)
        self.log_wealth = np.log(moved * gain) + highest


def _ways(reference: FeatureTable) -> tuple[Floats, NDArray[np.int64]]:
    """Return unit vectors from the mean of a reference to those of its common categories."""
    components = reference.projection.astype(np.float64)
    first = reference.top_labels[:, 0]
    counts = np.bincount(first)
    common = np.argsort(-counts, kind="stable")[:MOST_WAYS]
    common = np.sort(common[counts[common] >= _LEAST_OF_WAY])
    ways = [components[first == c].mean(axis=0) - components.mean(axis=0) for c in common]
    lengths = [float(np.linalg.norm(way)) for way in ways]
    kept = [i for i, length in enumerate(lengths) if length > 0]
    unit = np.array([ways[i] / lengths[i] for i in kept]).reshape(-1, DIMS)
    return unit, common[kept].astype(np.int64)


def _scores_of(table: FeatureTable, ways: Floats) -> Floats:
    """Return the scores of n papers: float64 [n, s], those of ``SCORES`` first."""
    components = table.projection.astype(np.float64)
    distance = np.square(components).sum(axis=1, keepdims=True)
    confidence = table.confidence[:, None]
    towards = components @ ways.T
    return np.concatenate([components, distance, confidence, table.numbers, towards], axis=1)


def _bins(edges: Floats, scores: Floats) -> NDArray[np.intp]:
    columns = [np.searchsorted(e, s, side="right") for e, s in zip(edges, scores.T, strict=True)]
    return np.stack(columns, axis=1)


def _log_sum(log_wealth: Floats) -> Floats:
    """Return the logarithm of the wealth of each score: float64 [s]."""
    flat = log_wealth.reshape(len(log_wealth), -1)
    highest = flat.max(axis=1)
    sums: Floats = np.log(np.exp(flat - highest[:, None]).sum(axis=1)) + highest
    return sums


def _log_mean(logs: Floats) -> float:
    highest = float(logs.max())
    return float(np.log(np.mean(np.exp(logs - highest))) + highest)
