"""Samples that make an alert fire, and how long it may take; nothing of Google's is imported."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from classmark.cloud.watch.objectives import matchers_of
from classmark.cloud.watch.rules import Rules
from classmark.errors import UsageError

DEFAULT_ALERT = "ClassmarkDriftRetrain"
"""A ticket without a waiting time: the gentlest alert that can be tested."""
_COMPARED = re.compile(r"(\w+)(?:\{([^}]*)\})? (==|>) ([\d.]+)")


@dataclass(frozen=True)
class Sample:
    """Values of one metric with which an alert fires, and does not.

    Attributes:
        metric: its name in Prometheus.
        labels: that the rule asks for.
        firing: value with which it fires.
        calm: value with which it does not.
    """

    metric: str
    labels: Mapping[str, str]
    firing: float
    calm: float


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How long things take, in seconds.

    Attributes:
        timeout_s: to wait for the incident.
        every_s: between two samples.
        gap_s: that Monitoring wants between two samples of a series.
    """

    timeout_s: float = 900.0
    every_s: float = 15.0
    gap_s: float = 5.0


def testable(rules: Rules) -> list[str]:
    """Return the names of the alerts that compare one metric with a number."""
    return [alert.name for alert in rules.alerts if _COMPARED.fullmatch(alert.written)]


def sample_of(rules: Rules, name: str) -> Sample:
    """Return what makes an alert fire.

    Raises:
        UsageError: there is no such alert, or it compares more than one metric with a number.
    """
    alert = rules.alert(name)
    found = _COMPARED.fullmatch(alert.written)
    if found is None:
        raise UsageError(
            f"{name} looks at more than one sample, so none can make it fire. Give one of "
            f"{', '.join(testable(rules))}; tests of deploy/prometheus show that the others fire."
        )
    metric, labels, operator, number = found.groups()
    bound = float(number)
    firing, calm = (bound, bound - 1) if operator == "==" else (2 * bound + 1, bound)
    return Sample(metric, {m.label: m.value for m in matchers_of(labels or "")}, firing, calm)
