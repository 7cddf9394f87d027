"""When a model is fitted again, and what a model loses with age."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from classmark.errors import UsageError
from classmark.records.fields import check_ranges, read_rules
from classmark.records.registry import RetrainStart

DAYS_OF_YEAR = 365.25
LOST_WITH_AGE = (0.0244, 0.0444, 0.0568, 0.0696, 0.0824, 0.0955, 0.1077, 0.1267, 0.15, 0.1813)
"""Accuracy that a fast model has lost 1, 2, ... 10 years after its newest paper, as measured by
``benchmarks/decay.py`` on fits of the newest 50,000 papers (``lost_by_age``, ``recent``)."""
_MOST_DAYS = 36_500


@dataclass(frozen=True, kw_only=True)
class RetrainPolicy:
    """When a model is fitted again. The replay of ten years chose the defaults (decision 0079).

    Attributes:
        cooldown_days: after the end of an order before the next one.
        least_papers: new papers with a label, 1 or more.
        least_gain: accuracy that a new model must be expected to win, 0..1.
        most_age_days: age of the newest fitted paper that is a cause by itself.
        budget_hours: CPU-hours that fits may take in ``budget_days``.
        budget_days: for which the budget is.
        start: what the fit begins with.
    """

    cooldown_days: float = 120.0
    least_papers: int = 1_000
    least_gain: float = 0.01
    most_age_days: float = 270.0
    budget_hours: float = 24.0
    budget_days: float = 365.0
    start: RetrainStart = "full"

    def __post_init__(self) -> None:
        if self.budget_hours <= 0:
            raise UsageError(
                f"budget_hours of the policy is {self.budget_hours:g}, and no fit stays within "
                "that. Give the CPU-hours that fits may take; `classmark retrain status` shows "
                "what they took."
            )
        ranges = {
            "cooldown_days": (0, _MOST_DAYS),
            "least_papers": (1, 1_000_000_000),
            "least_gain": (0, 1),
            "most_age_days": (1, _MOST_DAYS),
            "budget_hours": (0, 1_000_000),
            "budget_days": (1, _MOST_DAYS),
        }
        check_ranges(self, ranges, "the policy")

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> RetrainPolicy:
        """Read a policy as YAML or JSON has it; what is left out has its default.

        Raises:
            UsageError: a name is unknown, or a value cannot be used.
        """
        return read_rules(cls, value, "the policy")


def lost_with_age(days: float) -> float:
    """Return the accuracy, 0..1, that a model has lost by the age of its newest paper.

    Args:
        days: of age; a negative one is 0. Beyond ten years the loss stays that of ten years.
    """
    years = np.arange(len(LOST_WITH_AGE) + 1)
    return float(np.interp(days / DAYS_OF_YEAR, years, (0.0, *LOST_WITH_AGE)))
