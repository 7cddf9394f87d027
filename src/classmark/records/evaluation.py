"""How good a model is on one split, and how two differ: the content of both reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from classmark.records.fields import read_report
from classmark.wire import ModelRef, to_builtins

FORMAT_VERSION = 1
COMPARISON_FORMAT_VERSION = 1
FEW_PAPERS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricValue:
    """A metric with its bootstrap interval; low and high are None if none was drawn."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SliceReport:
    """The metrics of some of the papers: a period or a year by name, and how many they are."""

    name: str
    n: int
    metrics: dict[str, MetricValue]


@dataclass(frozen=True, kw_only=True, slots=True)
class CategoryReport:
    """How one category fares as primary; no intervals are drawn for it.

    Attributes:
        code: the category.
        n: papers whose primary it is.
        predicted: papers that have it on top.
        precision: share of ``predicted`` that are right, None if it is never on top.
        recall: share of ``n`` that are found, None if no paper has it.
        f1: 2 TP / (n + predicted), 0..1.
        confused_with: what its papers get most often instead, None if all are right.
        confused: how many of its papers get that.
    """

    code: str
    n: int
    predicted: int
    precision: float | None
    recall: float | None
    f1: float
    confused_with: str | None
    confused: int

    @property
    def right(self) -> int:
        """Papers that are of the category and have it on top."""
        return round(self.f1 * (self.n + self.predicted) / 2)

    @property
    def is_uncertain(self) -> bool:
        """It has so few papers that its numbers are mostly chance."""
        return self.n < FEW_PAPERS


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationReport:
    """Everything measured on one score table, and what is needed to measure it again.

    Attributes:
        model: who scored.
        dataset_digest: digest of the dataset manifest, "" if there is none.
        split: name of the split, "" if there is none.
        generated: the papers were invented; the numbers say nothing about real ones.
        label_space: ``arxiv``, or ``free`` if a label is not an arXiv category (no levels then).
        n: papers measured.
        n_unknown: papers left out, because their primary is unknown or not among the labels.
        date: ISO date and time (UTC) of the measurement.
        machine: system, processor architecture, CPUs, Python and numpy versions.
        command: the command line that wrote it, "" if it was called from Python.
        config: options of the measurement (draws, seed, level of confidence, bins).
        metrics: every metric over all papers.
        periods: the same for each period, in order of first year.
        years: the same for each year.
        categories: one entry for each label that is the truth or the prediction of a paper.
    """

    model: ModelRef
    dataset_digest: str
    split: str
    generated: bool
    label_space: str
    n: int
    n_unknown: int
    date: str
    machine: str
    command: str
    config: dict[str, Any]
    metrics: dict[str, MetricValue]
    periods: tuple[SliceReport, ...]
    years: tuple[SliceReport, ...]
    categories: tuple[CategoryReport, ...]
    format_version: int = field(default=FORMAT_VERSION)

    @property
    def headline(self) -> str:
        """The numbers to quote, in one line with what they were measured on."""
        shares = " ".join(
            f"{label} {self.metrics[name].value:.3f}"
            for label, name in (("top-1", "top_1"), ("top-5", "top_5"), ("ECE", "ece"))
        )
        invented = "invented " if self.generated else ""
        where = f" of split {self.split}" if self.split else ""
        return f"{shares} on {self.n:,} {invented}papers{where}"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of a report; ``headline`` is in it for readers."""
        return {"headline": self.headline, **to_builtins(self)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> EvaluationReport:
        """Read the JSON object of a report.

        Raises:
            InvalidReport: another format version, or a key is missing or unknown.
        """
        given = {key: v for key, v in value.items() if key != "headline"}
        return read_report(cls, given, FORMAT_VERSION, "classmark evaluate")


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
