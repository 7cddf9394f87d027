"""Intervals that need no resampling: shares, and F1, which is a share in disguise."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist

from classmark.records import MetricValue


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
