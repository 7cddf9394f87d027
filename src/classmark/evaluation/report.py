"""From a score table to an evaluation report."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classmark.errors import InvalidConfig
from classmark.evaluation.metrics.intervals import measure
from classmark.evaluation.metrics.outcomes import Outcomes, is_arxiv, read_outcomes
from classmark.evaluation.metrics.ranking import N_BINS
from classmark.evaluation.metrics.rows import known_rows, require_papers, require_share
from classmark.records import (
    CategoryReport,
    EvaluationReport,
    MetricValue,
    ScoreTable,
    SliceReport,
)

Measure = Callable[[Outcomes], dict[str, MetricValue]]


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How a table is measured.

    Attributes:
        draws: bootstrap resamples; 0 gives no intervals.
        seed: of the resampling.
        level: share of resampled values inside an interval, between 0 and 1.
        n_bins: bins of both calibration errors.
    """

    draws: int = 1000
    seed: int = 7
    level: float = 0.95
    n_bins: int = N_BINS

    def __post_init__(self) -> None:
        for name, least in (("draws", 0), ("seed", 0), ("n_bins", 1)):
            if getattr(self, name) < least:
                raise InvalidConfig(f"{name} must be at least {least}, got {getattr(self, name)}.")
        require_share("level", self.level)


def evaluate_table(
    table: ScoreTable, *, config: EvaluationConfig | None = None, command: str = ""
) -> EvaluationReport:
    """Return every metric of a table: over all papers, by period, by year and by category.

    Papers whose primary is unknown, or not among the labels, are counted and left out.

    Args:
        table: scores and truth of n papers.
        config: how to measure; the defaults if None.
        command: the command line to name in the report.

    Raises:
        EmptyEvaluation: there are no papers, or none with a known primary.
        InvalidScores: a score is not finite, or truth and labels disagree; names the paper.
    """
    config = config or EvaluationConfig()
    require_papers(len(table))
    known = table.select(known_rows(table.primary))
    outcomes = read_outcomes(known)

    def measured(part: Outcomes) -> dict[str, MetricValue]:
        return measure(part, **asdict(config))

    return EvaluationReport(
        model=table.model,
        dataset_digest=table.dataset_digest,
        split=table.split,
        generated=table.generated,
        label_space="arxiv" if is_arxiv(table.labels) else "free",
        n=len(known),
        n_unknown=len(table) - len(known),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=describe_machine(),
        command=command,
        config=_options(config, table),
        metrics=measured(outcomes),
        periods=_slices(outcomes, known.periods, _periods_in_time(known), measured),
        years=_slices(outcomes, [str(y) for y in known.years], _years_in_time(known), measured),
        categories=measure_categories(outcomes, table.labels),
    )


def measure_categories(outcomes: Outcomes, labels: tuple[str, ...]) -> tuple[CategoryReport, ...]:
    """Return how each label fares that is the truth or the prediction of a paper."""
    k = len(labels)
    pairs = np.bincount(outcomes.primary * k + outcomes.top, minlength=k * k).reshape(k, k)
    seen = np.flatnonzero(pairs.sum(axis=0) + pairs.sum(axis=1))
    return tuple(_category(pairs, int(column), labels) for column in seen)


def describe_machine() -> str:
    """Return system, architecture, CPUs, Python and numpy versions; no host or user name."""
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, "
        f"Python {platform.python_version()}, numpy {np.__version__}"
    )


def _category(pairs: NDArray[np.intp], c: int, labels: tuple[str, ...]) -> CategoryReport:
    n, predicted, right = int(pairs[c].sum()), int(pairs[:, c].sum()), int(pairs[c, c])
    missed = pairs[c].copy()
    missed[c] = 0
    confused = int(missed.max())
    return CategoryReport(
        code=labels[c],
        n=n,
        predicted=predicted,
        precision=right / predicted if predicted else None,
        recall=right / n if n else None,
        f1=2 * right / (n + predicted),
        confused_with=labels[int(missed.argmax())] if confused else None,
        confused=confused,
    )


def _slices(
    outcomes: Outcomes, names: Iterable[str], wanted: list[str], measured: Measure
) -> tuple[SliceReport, ...]:
    of_paper = np.asarray(list(names))
    parts = {name: outcomes.select(np.flatnonzero(of_paper == name)) for name in wanted}
    return tuple(
        SliceReport(name=name, n=len(part), metrics=measured(part)) for name, part in parts.items()
    )


def _periods_in_time(table: ScoreTable) -> list[str]:
    first_years: dict[str, int] = {}
    for name, year in zip(table.periods, table.years.tolist(), strict=True):
        if name:
            first_years[name] = min(first_years.get(name, year), year)
    return sorted(first_years, key=lambda name: (first_years[name], name))


def _years_in_time(table: ScoreTable) -> list[str]:
    return [str(year) for year in np.unique(table.years).tolist() if year > 0]


def _options(config: EvaluationConfig, table: ScoreTable) -> dict[str, Any]:
    return {
        **asdict(config),
        "temperature": table.temperature,
        "set_threshold": table.set_threshold,
        "set_coverage": table.set_coverage,
        "thresholds": bool(table.thresholds),
        **({} if table.used_authors is None else {"authors": int(table.used_authors.sum())}),
    }
