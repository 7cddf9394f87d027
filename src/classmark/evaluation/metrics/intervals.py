"""Intervals: Wilson's for shares and F1, the bootstrap for every other metric."""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from classmark.evaluation.metrics.outcomes import BIASED_BY_RESAMPLING, Outcomes, weighted_metrics
from classmark.records import MetricValue

# 3 MB of weights: small enough for a processor's cache, large enough to hide the loop.
_WEIGHTS_PER_CHUNK = 400_000


def measure(
    outcomes: Outcomes, *, draws: int, seed: int, level: float, n_bins: int
) -> dict[str, MetricValue]:
    """Return every metric with its interval; metrics that are undefined here are left out.

    Args:
        outcomes: n papers, at least one.
        draws: number of resamples; 0 gives no intervals.
        seed: of the resampling.
        level: share of the resampled values inside an interval, e.g. 0.95.
        n_bins: bins of both calibration errors.
    """
    once = weighted_metrics(outcomes, np.ones((1, len(outcomes))), n_bins)
    values = {name: float(value[0]) for name, value in once.items() if np.isfinite(value[0])}
    if draws == 0:
        return {name: MetricValue(value=value) for name, value in values.items()}
    chunks = [
        weighted_metrics(outcomes, counts, n_bins)
        for counts in resample_counts(len(outcomes), draws, np.random.default_rng(seed))
    ]
    resampled = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in values}
    return {
        name: _with_interval(value, resampled[name], level, centred=name in BIASED_BY_RESAMPLING)
        for name, value in values.items()
    }


def resample_counts(n: int, draws: int, rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
    """Yield how often each paper is drawn, float64 [some draws, n]; a row sums to n."""
    at_once = max(1, _WEIGHTS_PER_CHUNK // n)
    for start in range(0, draws, at_once):
        d = min(at_once, draws - start)
        drawn = rng.integers(0, n, size=(d, n)) + np.arange(d)[:, None] * n
        yield np.bincount(drawn.ravel(), minlength=d * n).reshape(d, n).astype(np.float64)


def _with_interval(
    value: float, resampled: NDArray[np.float64], level: float, *, centred: bool
) -> MetricValue:
    """Percentile interval; ``centred`` moves it so that its median is the value.

    A calibration error near 0 grows in every resample, because each adds noise to each bin. Its
    plain interval would lie above the value.
    """
    defined = resampled[np.isfinite(resampled)]
    tail = (1.0 - level) / 2.0
    low, middle, high = np.quantile(defined, [tail, 0.5, 1.0 - tail])
    shift = value - middle if centred else 0.0
    # Rounding may put an end on the wrong side of the value by 1e-16. All metrics start at 0.
    low, high = min(low + shift, value), max(high + shift, value)
    return MetricValue(value=value, low=float(max(low, 0.0)), high=float(high))


def share_interval(hits: int, n: int, level: float = 0.95) -> MetricValue:
    """Return hits / n with its Wilson interval; it stays inside 0..1 and works for few papers.

    Args:
        hits: 0..n.
        n: at least 1.
        level: wanted coverage of the interval, between 0 and 1.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    z = NormalDist().inv_cdf((1.0 + level) / 2.0)
    share = hits / n
    centre = share + z * z / (2.0 * n)
    reach = z * sqrt(share * (1.0 - share) / n + z * z / (4.0 * n * n))
    scale = 1.0 + z * z / n
    # Rounding may put an end on the wrong side of 0, 1 or the share by 1e-17.
    low, high = max((centre - reach) / scale, 0.0), min((centre + reach) / scale, 1.0)
    return MetricValue(value=share, low=min(low, share), high=max(high, share))


def f1_interval(right: int, n: int, predicted: int, level: float = 0.95) -> MetricValue:
    """Return F1 = 2 right / (n + predicted) with an interval.

    F1 = 2 J / (1 + J) rises with J, the share of right papers among those that have the label as
    truth or as prediction. J is a plain share, so the ends of its interval give those of F1.

    Args:
        right: papers that have the label as both.
        n: papers that have it as truth.
        predicted: papers that have it as prediction; n + predicted is at least 1.
        level: wanted coverage of the interval, between 0 and 1.
    """
    jaccard = share_interval(right, n + predicted - right, level)
    low, high = (2.0 * end / (1.0 + end) for end in (jaccard.low or 0.0, jaccard.high or 0.0))
    value = 2.0 * right / (n + predicted)
    return MetricValue(value=value, low=min(low, value), high=max(high, value))
