"""How good a model is on one split, how two differ, and what the page of a report adds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from classmark.errors import InvalidScores
from classmark.records.fields import read_report
from classmark.wire import ModelRef, to_builtins

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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


@dataclass(frozen=True, kw_only=True, slots=True)
class PaperFacts:
    """What a score table does not hold of its n papers; from the dataset, in the table's order.

    Attributes:
        titles: n titles.
        text_chars: int32 [n], characters of title and abstract.
        formula_share: float32 [n], share of these characters in formulas and TeX commands, 0..1.
    """

    titles: tuple[str, ...]
    text_chars: NDArray[np.int32]
    formula_share: NDArray[np.float32]

    def __post_init__(self) -> None:
        sizes = {len(self.titles), self.text_chars.size, self.formula_share.size}
        if len(sizes) > 1:
            raise InvalidScores(
                f"facts of {sorted(sizes)} papers at once; titles, lengths and formula shares must "
                "be one a paper."
            )

    def __len__(self) -> int:
        return len(self.titles)

    def select(self, rows: NDArray[np.intp]) -> PaperFacts:
        """Return the facts of some papers, by index."""
        return PaperFacts(
            titles=tuple(self.titles[i] for i in rows),
            text_chars=self.text_chars[rows],
            formula_share=self.formula_share[rows],
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ReliabilityBin:
    """The papers whose top probability lies in one bin.

    Attributes:
        low: lower edge, 0..1.
        high: upper edge, 0..1.
        n: papers in it, at least 1.
        confidence: mean probability of their top label.
        accuracy: share that is right, with its interval.
    """

    low: float
    high: float
    n: int
    confidence: float
    accuracy: MetricValue


@dataclass(frozen=True, kw_only=True, slots=True)
class CategoryDetail:
    """How one category fares, with intervals; the counts are those of ``CategoryReport``."""

    code: str
    n: int
    predicted: int
    precision: MetricValue | None
    recall: MetricValue | None
    f1: MetricValue


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfusionPair:
    """How many papers of ``truth`` get ``predicted`` on top, and their share of its papers."""

    truth: str
    predicted: str
    n: int
    share: MetricValue


@dataclass(frozen=True, kw_only=True, slots=True)
class SliceGroup:
    """Papers grouped by one property; ``note`` says which."""

    title: str
    note: str
    slices: tuple[SliceReport, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorExample:
    """One paper that was wrong; ``title`` is "" where only the scores are known."""

    id: str
    title: str
    truth: str
    predicted: str
    probability: float


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationDetails:
    """All of it; categories by size, pairs by count, errors by probability, largest first."""

    bins: tuple[ReliabilityBin, ...]
    categories: tuple[CategoryDetail, ...]
    pairs: tuple[ConfusionPair, ...]
    groups: tuple[SliceGroup, ...]
    errors: tuple[ErrorExample, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class AccuracyEstimate:
    """How often the first category is right for the papers of a window, with an interval.

    Attributes:
        papers: of the window.
        labels: how many of them have a known category that the estimate uses; 0 if none.
        value: estimated share of papers whose first category is right, 0..1.
        low: lower end of the interval.
        high: upper end of the interval.
        level: wanted coverage of the interval, e.g. 0.95.
        reference: share that is right on the reference, 0..1.
        unlike: how different the papers are from the reference, from 0 (not at all) to 1; the
            interval of an estimate without labels gets wider with it. None with labels.
    """

    papers: int
    labels: int
    value: float
    low: float
    high: float
    level: float
    reference: float
    unlike: float | None = None
