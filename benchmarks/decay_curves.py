"""What the score tables of many fits say: accuracy by age, at a fixed mix, and what is recovered.

All numbers of one test bucket come from the same papers, so two fits are compared paper by paper;
intervals are percentiles of resamples in which every fit gets the same draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classmark.evaluation.metrics.intervals import resample_counts

DRAWS, SEED, LEVEL = 1_000, 7, 0.95

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Bucket:
    """The test papers of a year, or of some: hits of each fit on them.

    Attributes:
        name: e.g. ``2012`` or ``2023-24``.
        year: the year that ages are counted to.
        primary: int [n], column of the true label.
        hits: by series and last year of the fit, float64 [n], 1 where the top label is right.
    """

    name: str
    year: int
    primary: NDArray[np.int16]
    hits: Mapping[tuple[str, int], Values]

    def draws(self) -> Values:
        """Return the counts of every resample, float64 [draws, n]; the same at each call."""
        rng = np.random.default_rng([SEED, self.year])
        return np.concatenate(list(resample_counts(len(self.primary), DRAWS, rng)))


def interval(value: float, drawn: Values) -> dict[str, float]:
    """Return a number with the percentile interval of its draws, to four places."""
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(drawn[np.isfinite(drawn)], [tail, 1 - tail])
    return {"value": round(value, 4), "low": round(low, 4), "high": round(high, 4)}


def mix_weights(primary: NDArray[np.int16], reference: Values) -> tuple[Values, float]:
    """Return the weight of each paper that gives its bucket the mix of a reference.

    Args:
        primary: int [n], labels of the bucket.
        reference: float64 [k], share of each label in the wanted mix.

    Returns:
        float64 [n], summing to n: wanted share over share here. And the part of the wanted mix
        that the bucket has papers for, 0..1; the rest cannot be re-weighted and is left out.
    """
    here = np.bincount(primary, minlength=len(reference)) / len(primary)
    covered = float(reference[here > 0].sum())
    if covered == 0:
        return np.zeros(len(primary)), 0.0
    return reference[primary] / here[primary] / covered, covered


def weighted_share(hits: Values, weights: Values, counts: Values) -> Values:
    """Return the weighted share of hits for each row of counts: float64 [draws]."""
    total = counts @ weights
    found = np.full(len(counts), np.nan)
    np.divide(counts @ (weights * hits), total, out=found, where=total > 0)
    return found


def recovery(stale: Values, retrained: Values, ceiling: Values) -> Values:
    """Return (retrained - stale) / (ceiling - stale), NaN where nothing was lost.

    1 says that retraining gives back all that a fit of the papers' own time has over the stale
    one, 0 nothing; above 1 and below 0 happen by chance.

    Args:
        stale: float64 [d], accuracy of the fit that was never renewed.
        retrained: float64 [d], of the fit that was.
        ceiling: float64 [d], of a fit that has seen the test papers' own time.
    """
    lost = np.asarray(ceiling - stale, dtype=np.float64)
    gained = np.asarray(retrained - stale, dtype=np.float64)
    return np.divide(gained, lost, out=np.full_like(lost, np.nan), where=lost > 0)


def measure_recovery(
    buckets: Sequence[Bucket], keys: Sequence[tuple[tuple[str, int], ...]]
) -> dict[str, Any] | None:
    """Return what retraining recovers over some buckets together; None if nothing was lost.

    Args:
        buckets: the test papers; each bucket counts alike.
        keys: for each bucket the fits (stale, retrained, ceiling).
    """
    once = [_means(b, k, np.ones((1, len(b.primary)))) for b, k in zip(buckets, keys, strict=True)]
    drawn = [_means(b, k, b.draws()) for b, k in zip(buckets, keys, strict=True)]
    value, means = np.mean(once, axis=0)[:, 0], np.mean(drawn, axis=0)
    lost = means[2] - means[0]
    if value[2] <= value[0] or np.quantile(lost, 0.025) <= 0:
        return None  # the interval of what there is to recover holds 0: a share of it says nothing
    share = recovery(*value[:, None])[0]
    return {
        **{
            n: round(float(v), 4)
            for n, v in zip(("stale", "retrained", "ceiling"), value, strict=True)
        },
        "recovery": interval(float(share), recovery(*means)),
    }


def _means(bucket: Bucket, keys: tuple[tuple[str, int], ...], counts: Values) -> Values:
    """Return the accuracy of each fit for each row of counts: float64 [fits, draws]."""
    hits = np.stack([bucket.hits[key] for key in keys], axis=1)
    return np.asarray((counts @ hits / counts.sum(axis=1, keepdims=True)).T)


def measure_loss(buckets: Sequence[Bucket], series: str) -> list[dict[str, Any]]:
    """Return the accuracy lost by age: fits of the papers' own year minus older ones.

    Both on the same papers, mean over the buckets that have both; the buckets count alike.
    """
    pairs: dict[int, list[tuple[Bucket, int]]] = {}
    for bucket in buckets:
        untils = [until for s, until in bucket.hits if s == series]
        if bucket.year in untils:
            for until in sorted(u for u in untils if u < bucket.year):
                pairs.setdefault(bucket.year - until, []).append((bucket, until))
    return [{"age": age, **_loss(pairs[age], series)} for age in sorted(pairs)]


def _loss(pairs: list[tuple[Bucket, int]], series: str) -> dict[str, Any]:
    values, drawn = [], []
    for bucket, until in pairs:
        change = bucket.hits[series, bucket.year] - bucket.hits[series, until]
        values.append(change.mean())
        drawn.append(bucket.draws() @ change / len(change))
    lost = interval(float(np.mean(values)), np.mean(drawn, axis=0))
    return {"buckets": len(pairs), "papers": sum(len(b.primary) for b, _ in pairs), "lost": lost}
