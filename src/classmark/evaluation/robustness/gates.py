"""Minimum values that a model must hold: written from one robustness report, checked on another."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from classmark.errors import InvalidConfig, InvalidGates
from classmark.evaluation.robustness import OTHER_KINDS
from classmark.records import RobustnessGates, RobustnessLevel, RobustnessReport

DEFAULT_MARGIN = 0.01
CLEAN = "clean"
GATED = ("top_1", "top_5", "accepted", "accepted_accuracy", "agreement")
GATED_OF_OTHER_TEXTS = ("abstained",)
_UNITS = 10_000


@dataclass(frozen=True)
class GateValue:
    """A minimum and what was measured; ``value`` is None where nothing could be."""

    kind: str
    level: str
    metric: str
    value: float | None
    minimum: float

    @property
    def holds(self) -> bool:
        """Whether the minimum is met."""
        return self.value is not None and self.value >= self.minimum

    def __str__(self) -> str:
        where = f"{self.kind}, {self.level}: {self.metric}"
        if self.value is None:
            return f"{where} has no value, the minimum is {self.minimum:.4f}"
        return f"{where} is {self.value:.4f}, below {self.minimum:.4f}"


def read_gates(file: Path) -> RobustnessGates:
    """Read a gate file.

    Raises:
        InvalidGates: it is missing, not JSON, of another format, or a minimum is not a share.
    """
    try:
        return RobustnessGates.from_dict(json.loads(file.read_text(encoding="utf-8-sig")))
    except (OSError, ValueError, RecursionError, InvalidGates) as error:
        raise InvalidGates(
            f"gate file {file} cannot be used: {error}. Write one with "
            "`classmark evaluate robustness --write-gates FILE`."
        ) from error


def make_gates(report: RobustnessReport, margin: float = DEFAULT_MARGIN) -> RobustnessGates:
    """Return the measured values less a margin as minima.

    Args:
        report: what was measured.
        margin: 0 up to below 1.

    Raises:
        InvalidConfig: the margin is not in that range.
    """
    if not 0.0 <= margin < 1.0:
        raise InvalidConfig(f"margin must be from 0 to below 1, got {margin}.")
    minimum: dict[str, dict[str, dict[str, float]]] = {}
    for kind, level in _measured(report):
        gated = GATED_OF_OTHER_TEXTS if kind in OTHER_KINDS else GATED
        minimum.setdefault(kind, {})[level.name] = {
            metric: _lowered(level.metrics[metric].value, margin)
            for metric in gated
            if metric in level.metrics
        }
    return RobustnessGates(
        model=f"{report.model.name} {report.model.version}",
        dataset_digest=report.dataset_digest,
        split=report.split,
        papers=report.n,
        seed=report.config["seed"],
        margin=margin,
        minimum=minimum,
    )


def check_gates(report: RobustnessReport, gates: RobustnessGates) -> tuple[GateValue, ...]:
    """Return the minima that a report does not hold.

    Raises:
        InvalidGates: as ``gate_values``.
    """
    return tuple(value for value in gate_values(report, gates) if not value.holds)


def gate_values(report: RobustnessReport, gates: RobustnessGates) -> tuple[GateValue, ...]:
    """Return every minimum with what a report says of it.

    Raises:
        InvalidGates: a kind or level was measured that has no minimum, or has one and was not
            measured: a gate that is never checked would look like one that holds.
    """
    levels = {(kind, level.name): level for kind, level in _measured(report)}
    asked = {(kind, level) for kind, of_kind in gates.minimum.items() for level in of_kind}
    _refuse_missing(set(levels), asked)
    return tuple(
        GateValue(kind, level, metric, _value(levels[kind, level], metric), least)
        for (kind, level), metrics in ((at, gates.minimum[at[0]][at[1]]) for at in levels)
        for metric, least in metrics.items()
    )


def count_gates(gates: RobustnessGates) -> int:
    """Return how many minima there are."""
    return sum(len(metrics) for levels in gates.minimum.values() for metrics in levels.values())


def other_papers(report: RobustnessReport, gates: RobustnessGates) -> str:
    """Return in what the papers of a report and of its gates differ, "" if in nothing."""
    facts = {
        "dataset": (report.dataset_digest[:12], gates.dataset_digest[:12]),
        "split": (report.split, gates.split),
        "papers": (f"{report.n:,}", f"{gates.papers:,}"),
        "seed": (str(report.config["seed"]), str(gates.seed)),
    }
    return ", ".join(
        f"{name} {ours} not {theirs}" for name, (ours, theirs) in facts.items() if ours != theirs
    )


def _measured(report: RobustnessReport) -> Iterator[tuple[str, RobustnessLevel]]:
    yield CLEAN, report.clean
    for kind in report.kinds:
        for level in kind.levels:
            yield kind.name, level


def _refuse_missing(measured: set[tuple[str, str]], asked: set[tuple[str, str]]) -> None:
    without = sorted(measured - asked)
    if without:
        raise InvalidGates(
            f"the gate file has no minimum for {_named(without)}. Add it, write a new file with "
            "--write-gates, or leave that kind out with --kinds."
        )
    unseen = sorted(asked - measured)
    if unseen:
        raise InvalidGates(
            f"the gate file asks for {_named(unseen)}, which was not measured. Leave out --kinds, "
            "correct the name, or write a new file with --write-gates."
        )


def _named(places: list[tuple[str, str]]) -> str:
    kinds = list(dict.fromkeys(kind for kind, _ in places))
    first_kind, first_level = places[0]
    more = f" and {len(places) - 1} more (kinds: {', '.join(kinds)})" if len(places) > 1 else ""
    return f"{first_kind}, {first_level}{more}"


def _value(level: RobustnessLevel, metric: str) -> float | None:
    if metric in level.metrics:
        return level.metrics[metric].value
    if metric not in (*GATED, *GATED_OF_OTHER_TEXTS):
        raise InvalidGates(
            f"the gate file asks for {metric!r}, which is not a metric of {level.name!r}. "
            f"Choose from: {', '.join(sorted(level.metrics))}."
        )
    return None


def _lowered(value: float, margin: float) -> float:
    # Rounded down: a minimum must not lie above what was measured.
    return max(0.0, math.floor((value - margin) * _UNITS) / _UNITS)
