"""What an evaluation page adds to the report: bins, intervals, pairs, slices, errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from classmark.errors import InvalidScores
from classmark.records.evaluation import MetricValue, SliceReport

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


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
    """Papers told apart by one property; ``note`` says what it is."""

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
