"""Objectives of the service, read from the rules whose alerts compare them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from classmark.cloud.watch.rules import Rules
from classmark.errors import UsageError

DAYS = 30
"""Length of the window of an objective, as the rules have it."""
_BURN = re.compile(r"(classmark:(\w+):ratio_rate)\w+ > [\d.]+ \* ([\d.]+)")
_NAMES = {"errors": "availability", "slow": "latency"}
_SELECTOR = re.compile(r"(classmark_\w+)\{([^}]*)\}")
_MATCHER = re.compile(r"(\w+)(=~|=|!=|!~)\"((?:[^\"\\]|\\.)*)\"")


@dataclass(frozen=True)
class Matcher:
    """A condition on a label: ``status=~"5.."``."""

    label: str
    operator: str
    value: str


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A share of requests that shall be good over 30 days.

    Attributes:
        name: ``availability`` or ``latency``.
        budget: share that may be bad, 0..1.
        metric: counts requests, or is the histogram of how long they take.
        bad: conditions of the bad ones, beyond those of all.
        every: conditions of all requests.
        limit: an answer that takes longer is bad, in seconds; None for answers that are errors.
    """

    name: str
    budget: float
    metric: str
    bad: tuple[Matcher, ...]
    every: tuple[Matcher, ...]
    limit: float | None = None

    @property
    def goal(self) -> float:
        """Share that shall be good, 0..1."""
        return round(1 - self.budget, 9)


def objectives_of(rules: Rules) -> tuple[Objective, ...]:
    """Return the objectives that the alerts of the rules compare, each once.

    Raises:
        UsageError: two alerts compare one objective with different budgets, or a rule is of a
            form that this cannot read.
    """
    budgets: dict[str, tuple[str, float]] = {}
    for alert in rules.alerts:
        for prefix, kind, budget in _BURN.findall(alert.written):
            found = budgets.setdefault(kind, (prefix, float(budget)))
            if found[1] != float(budget):
                raise UsageError(f"{alert.name} has the budget {budget}, another rule {found[1]}.")
    return tuple(
        _objective(_NAMES.get(kind, kind), _first(rules, prefix), budget)
        for kind, (prefix, budget) in budgets.items()
    )


def _first(rules: Rules, prefix: str) -> str:
    for name, expression in rules.records.items():
        if name.startswith(prefix):
            return expression
    raise UsageError(f"no recording rule begins with {prefix}, which an alert compares.")


def _objective(name: str, expression: str, budget: float) -> Objective:
    selectors = _SELECTOR.findall(expression)
    if len(selectors) < 2:
        raise UsageError(f"the objective {name} is not a ratio of two metrics: {expression}.")
    (metric, bad), (_, every) = selectors[0], selectors[-1]
    of_bad, of_every = matchers_of(bad), matchers_of(every)
    bounds = [float(m.value) for m in of_bad if m.label == "le"]
    return Objective(
        name=name,
        budget=budget,
        metric=metric.removesuffix("_bucket"),
        bad=tuple(m for m in of_bad if m not in of_every and m.label != "le"),
        every=of_every,
        limit=bounds[0] if bounds else None,
    )


def matchers_of(text: str) -> tuple[Matcher, ...]:
    """Return the conditions between the braces of a selector."""
    return tuple(Matcher(*found) for found in _MATCHER.findall(text))
