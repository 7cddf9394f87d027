"""How two models differ on the same papers: the content of a comparison."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from classmark.wire import ModelRef, to_builtins

COMPARISON_FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """A number of A and of B, and B minus A with its paired interval (None if none was drawn)."""

    a: float
    b: float
    difference: float
    low: float | None = None
    high: float | None = None

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves 0 out."""
        if self.low is None or self.high is None:
            return False
        return self.low > 0.0 or self.high < 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """How many papers each model gets right, and the p-value that both are as good.

    Attributes:
        both: papers that both get right.
        only_a: papers that only A gets right.
        only_b: papers that only B gets right.
        neither: papers that neither gets right.
        p_value: two-sided exact McNemar test of only_a against only_b, 0..1.
    """

    both: int
    only_a: int
    only_b: int
    neither: int
    p_value: float


@dataclass(frozen=True, kw_only=True, slots=True)
class CategoryDifference:
    """How F1 of one category differs.

    Attributes:
        code: the category.
        n: papers whose primary it is.
        only_a: those of them that only A gets right.
        only_b: those of them that only B gets right.
        f1: F1 of both, and the difference.
    """

    code: str
    n: int
    only_a: int
    only_b: int
    f1: Difference


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparisonReport:
    """Everything compared, and what is needed to compare it again.

    Attributes:
        model_a: who scored first.
        model_b: who scored second; differences are B minus A.
        dataset_digests: of A's and of B's table, "" where there is none.
        split: name of the split, "" if there is none or they differ.
        generated: some of the papers were invented.
        n: papers compared.
        left_out_a: papers of A's table that were not compared.
        left_out_b: the same of B's.
        labels: labels compared.
        date: ISO date and time (UTC).
        machine: system, processor architecture, CPUs, Python and numpy versions.
        command: the command line, "" if it was called from Python.
        config: options of the measurement (draws, seed, level of confidence, bins, common).
        agreement: who is right on how many papers.
        metrics: every metric that both have.
        categories: every label that is the truth or a prediction, by size.
    """

    model_a: ModelRef
    model_b: ModelRef
    dataset_digests: tuple[str, str]
    split: str
    generated: bool
    n: int
    left_out_a: int
    left_out_b: int
    labels: int
    date: str
    machine: str
    command: str
    config: dict[str, Any]
    agreement: Agreement
    metrics: dict[str, Difference]
    categories: tuple[CategoryDifference, ...]
    format_version: int = field(default=COMPARISON_FORMAT_VERSION)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of a comparison."""
        value: dict[str, Any] = to_builtins(self)
        return value
