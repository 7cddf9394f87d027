"""Tests that may be looked at as often as one likes: how strong the evidence against a bound is.

Each is an e-process: while the bound holds its expected value is at most 1 at every moment, so the
probability that it ever reaches 1/a is at most a (Ville's inequality), however often it is looked
at. Evidence is kept as a logarithm.

Sources: Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting,
arXiv:2010.09686, for one stream; Turner, Ly and Grünwald, Generic E-variables for exact sequential
k-sample tests that allow for optional stopping, arXiv:2106.02693, for two.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

BETS = tuple(0.9 * 2.0**-i for i in range(8))
"""Bold ones find a large difference soon, timid ones a small one at last."""
_STEPS = 50
_FIRST_BET_AT = 50
"""Observations of each arm before the first bet: fewer say nothing about what to bet on."""
_PRIOR = 10.0
"""An arm counts as if so many of its observations had been those of both arms together."""


def mean_evidence(ups: float, downs: float, zeros: float, bound: float) -> float:
    """Return the evidence that the mean of values -1, 0 and 1 is above a bound.

    Args:
        ups: how many values are 1.
        downs: how many are -1.
        zeros: how many are 0.
        bound: 0..1.
    """
    logs = []
    for bet in BETS:
        stake = bet / (1 + bound)
        logs.append(
            ups * math.log1p(stake * (1 - bound))
            + downs * math.log1p(-stake * (1 + bound))
            + zeros * math.log1p(-stake * bound)
        )
    return log_mean(logs)


def log_mean(logs: Iterable[float]) -> float:
    """Return the logarithm of the mean of numbers, given by their logarithms."""
    values = list(logs)
    largest = max(values)
    return largest + math.log(sum(math.exp(v - largest) for v in values) / len(values))


@dataclass
class Arm:
    """What was seen of one of two groups of requests.

    Attributes:
        n: how many.
        k: how many of them had the property.
    """

    n: float = 0.0
    k: float = 0.0

    def add(self, n: float, k: float) -> None:
        """Count more of them."""
        self.n += n
        self.k += k


class ShareTest:
    """Evidence that a property is more frequent in one of two groups, by more than a margin.

    The groups are compared within each block of requests, so that what changes for both, such as a
    busy hour, does not count. What is bet on in a block is what the blocks before it have shown.

    Attributes:
        evidence: logarithm of the product over blocks of p(block | bet) / p(block | bound), with
            the bound nearest to the bet. The likelihood ratio's expectation is log-concave in the
            two shares and has its largest value, 1, there: that bound is the projection of the bet.
        reference: the group that it is compared with.
        group: the group that must not have more.
    """

    def __init__(self, margin: float) -> None:
        """Begin without evidence.

        Args:
            margin: by how much the share of the group may be larger, 0..1.
        """
        self.evidence = 0.0
        self.reference, self.group = Arm(), Arm()
        self._margin = margin

    def add(self, reference: Arm, group: Arm) -> None:
        """Take a block: what came since the last one."""
        bet = self._bet()
        if bet is not None and reference.n and group.n:
            self.evidence += self._gain(reference, group, *bet)
        self.reference.add(reference.n, reference.k)
        self.group.add(group.n, group.k)

    def _bet(self) -> tuple[float, float] | None:
        """Return the two shares to bet on; None if they are within the bound."""
        if min(self.reference.n, self.group.n) < _FIRST_BET_AT:
            return None
        n, k = self.reference.n + self.group.n, self.reference.k + self.group.k
        both = (k + 0.5) / (n + 1)
        low, high = (
            (arm.k + _PRIOR * both) / (arm.n + _PRIOR) for arm in (self.reference, self.group)
        )
        return (low, high) if high > low + self._margin else None

    def _gain(self, reference: Arm, group: Arm, low: float, high: float) -> float:
        at = self._nearest_bound(reference.n, group.n, low, high)
        return _log_ratio(reference, low, at) + _log_ratio(group, high, at + self._margin)

    def _nearest_bound(self, n: float, m: float, low: float, high: float) -> float:
        """Return the share of the reference at the bound that is nearest to a bet, by divergence.

        The divergence of n and m observations is convex, so its slope has one zero in between.
        """
        below, above = low, high - self._margin
        for _ in range(_STEPS):
            x = (below + above) / 2
            y = x + self._margin
            slope = n * (x - low) / (x * (1 - x)) + m * (y - high) / (y * (1 - y))
            below, above = (x, above) if slope < 0 else (below, x)
        return (below + above) / 2


def _log_ratio(arm: Arm, bet: float, bound: float) -> float:
    return arm.k * math.log(bet / bound) + (arm.n - arm.k) * math.log((1 - bet) / (1 - bound))
