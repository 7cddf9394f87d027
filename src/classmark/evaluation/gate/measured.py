"""What was measured of a candidate, for the rules of a gate to judge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from classmark.evaluation.behaviour import BehaviourRate
from classmark.records import (
    ComparisonReport,
    EvaluationReport,
    RobustnessGates,
    RobustnessReport,
)


@dataclass(frozen=True, kw_only=True)
class LabelFacts:
    """How the labels of candidate, champion and dataset differ.

    Attributes:
        missing: labels of the champion that the candidate lacks; None without a champion.
        new: labels of the candidate that the champion lacks.
        unknown: share of the test papers whose category the candidate does not know, 0..1.
    """

    missing: tuple[str, ...] | None
    new: tuple[str, ...]
    unknown: float


@dataclass(frozen=True, kw_only=True)
class Replay:
    """Golden answers given again.

    Attributes:
        share: with the same category, 0..1.
        change: greatest difference of a probability.
        other: first texts with another category, by id.
    """

    share: float
    change: float
    other: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Parity:
    """Test papers to which the kernel in numpy gives other bits than the one in C.

    Attributes:
        differ: how many; None if they cannot be compared.
        papers: how many were compared.
        note: why they cannot be.
    """

    differ: int | None
    papers: int
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """A cost of both models.

    Attributes:
        candidate: milliseconds, or units of 10^6 bytes.
        champion: the same; None if there is none.
        ratio: of the first to the second, the median of all rounds.
        low: of the middle half of the rounds; None if it was measured once.
        high: its other end.
    """

    candidate: float
    champion: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The answer to a question that has no number.

    Attributes:
        holds: None if it cannot be found out.
        note: why, or what is wrong.
    """

    holds: bool | None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Leaks:
    """Test papers that are among those that the candidate was fitted on.

    Attributes:
        papers: how many; None if those papers could not be found.
        note: where they were, or why they could not be found.
    """

    papers: int | None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Everything; what the rules do not ask for is None.

    Attributes:
        report: the candidate on the test papers.
        comparison: champion (A) and candidate (B) on the papers of categories that both know.
        periods: the same for each period.
        labels: what they know.
        robustness: the candidate, and the minima that it must hold.
        behaviour: rates; None where its labels are not arXiv's.
        goldens: answers given again.
        kernels: parity.
        costs: ``latency``, ``memory`` and ``size``.
        signature: whether a trusted key signed it.
        fit: whether test papers were in it.
    """

    report: EvaluationReport
    comparison: ComparisonReport | None = None
    periods: Mapping[str, ComparisonReport] = field(default_factory=dict)
    labels: LabelFacts
    robustness: tuple[RobustnessReport, RobustnessGates] | None = None
    behaviour: tuple[BehaviourRate, ...] | None = None
    goldens: Replay | None = None
    kernels: Parity | None = None
    costs: Mapping[str, Cost] = field(default_factory=dict)
    signature: Finding | None = None
    fit: Leaks | None = None
