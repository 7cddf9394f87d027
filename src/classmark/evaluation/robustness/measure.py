"""From what a model made of clean, perturbed and other texts to a robustness report.

The clean and the perturbed papers are the same ones, so each bootstrap draw takes the same papers
at every level: the interval of a difference to clean is paired.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from classmark.evaluation.metrics.intervals import resample_counts, share_interval
from classmark.evaluation.metrics.ranking import expected_calibration_error
from classmark.evaluation.metrics.rows import Bools, require_papers
from classmark.evaluation.report import EvaluationConfig, describe_machine
from classmark.evaluation.robustness import KINDS, OTHER_KINDS
from classmark.records import (
    Difference,
    MetricValue,
    RobustnessKind,
    RobustnessLevel,
    RobustnessReport,
)
from classmark.wire import ModelRef

LATER_YEARS = "later-years"
LATER_YEARS_UNIT = "clean papers by the time of their first version"
ROBUSTNESS_KINDS = (*KINDS, *OTHER_KINDS, LATER_YEARS)
COMPARED = ("top_1", "top_5")
DEFAULT_PAPERS = 5000
_SHARES_OF_OTHER_TEXTS = ("below_threshold", "out_of_scope", "abstained")

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class RobustnessConfig:
    """What is measured, and how.

    Attributes:
        papers: most papers to measure; drawn by the seed where there are more.
        kinds: names out of ``ROBUSTNESS_KINDS``.
        measurement: resamples, seed (also of the choice of papers and all perturbations), level
            of confidence, bins.
    """

    papers: int = DEFAULT_PAPERS
    kinds: tuple[str, ...] = ROBUSTNESS_KINDS
    measurement: EvaluationConfig = field(default_factory=EvaluationConfig)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What a model made of n texts.

    Attributes:
        top: int64 [n], column of the most probable label.
        rank: int64 [n], labels before the true one; 0 = it is on top. Ignored for other texts.
        confidence: float64 [n], probability of the top label.
        accepted: bool [n], it is the primary.
        out_of_scope: bool [n]; what is neither is below its threshold.
        changed: bool [n], the text differs from the clean one.
    """

    top: NDArray[np.int64]
    rank: NDArray[np.int64]
    confidence: Floats
    accepted: Bools
    out_of_scope: Bools
    changed: Bools


@dataclass(frozen=True, kw_only=True)
class Study:
    """All texts that one model has judged; kinds -> levels, mildest first.

    Attributes:
        model, dataset_digest, split, generated: as in the report.
        clean: the papers as they are.
        perturbed: the same papers in the same order.
        other_texts: texts that are not papers.
        slices: bool [n], which of the clean papers.
    """

    model: ModelRef
    dataset_digest: str
    split: str
    generated: bool
    clean: Judged
    perturbed: Mapping[str, Mapping[str, Judged]]
    other_texts: Mapping[str, Mapping[str, Judged]]
    slices: Mapping[str, Mapping[str, Bools]]


def measure_robustness(
    study: Study, *, config: RobustnessConfig, command: str = ""
) -> RobustnessReport:
    """Return every metric of every kind and level.

    Raises:
        EmptyEvaluation: there are no papers.
    """
    n = study.clean.top.size
    require_papers(n)
    measurement = config.measurement
    board = _Board(study.clean, measurement)
    clean = board.level("clean", study.clean, np.ones(n, dtype=np.bool_))
    return RobustnessReport(
        model=study.model,
        dataset_digest=study.dataset_digest,
        split=study.split,
        generated=study.generated,
        n=n,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=describe_machine(),
        command=command,
        config={
            "papers": config.papers,
            "kinds": list(config.kinds),
            "seed": measurement.seed,
            "draws": measurement.draws,
            "level": measurement.level,
            "n_bins": measurement.n_bins,
        },
        clean=clean,
        kinds=(
            *_perturbed(study, board),
            *_others(study, measurement),
            *_slices(study, board),
        ),
    )


def _perturbed(study: Study, board: _Board) -> list[RobustnessKind]:
    everything = np.ones(study.clean.top.size, dtype=np.bool_)
    return [
        RobustnessKind(
            name=kind,
            unit=KINDS[kind].unit,
            ordered=KINDS[kind].ordered,
            levels=tuple(board.level(name, j, everything) for name, j in levels.items()),
        )
        for kind, levels in study.perturbed.items()
    ]


def _slices(study: Study, board: _Board) -> list[RobustnessKind]:
    return [
        RobustnessKind(
            name=kind,
            unit=LATER_YEARS_UNIT,
            ordered=True,
            levels=tuple(board.level(name, study.clean, part) for name, part in parts.items()),
        )
        for kind, parts in study.slices.items()
    ]


def _others(study: Study, config: EvaluationConfig) -> list[RobustnessKind]:
    return [
        RobustnessKind(
            name=kind,
            unit=OTHER_KINDS[kind].unit,
            ordered=False,
            levels=tuple(_level_of_other_texts(name, j, config) for name, j in levels.items()),
        )
        for kind, levels in study.other_texts.items()
    ]


def _level_of_other_texts(name: str, judged: Judged, config: EvaluationConfig) -> RobustnessLevel:
    n = judged.top.size
    values = _row_values(judged)
    metrics = {
        metric: share_interval(int(values[metric].sum()), n, config.level)
        for metric in _SHARES_OF_OTHER_TEXTS
    }
    metrics["confidence"] = MetricValue(value=float(judged.confidence.mean()))
    return RobustnessLevel(name=name, n=n, changed=None, metrics=metrics, differences={})


def _row_values(judged: Judged) -> dict[str, Floats]:
    """Return what each paper adds to the metrics that are means over papers."""
    values = {
        "top_1": judged.rank < 1,
        "top_5": judged.rank < 5,
        "confidence": judged.confidence,
        "below_threshold": ~judged.accepted & ~judged.out_of_scope,
        "out_of_scope": judged.out_of_scope,
        "abstained": ~judged.accepted,
        "accepted": judged.accepted,
    }
    return {name: value.astype(np.float64) for name, value in values.items()}


class _Board:
    """The clean papers with their resamples, against which every level is measured."""

    def __init__(self, clean: Judged, config: EvaluationConfig) -> None:
        self._clean = clean
        self._config = config
        n, rng = clean.top.size, np.random.default_rng(config.seed)
        drawn = list(resample_counts(n, config.draws, rng))
        # At most some ten thousand papers: float32 counts exactly, in half the memory.
        self._counts = np.concatenate([np.zeros((0, n), np.float32), *drawn]).astype(np.float32)
        everything = np.ones(n, dtype=np.bool_)
        self._clean_values = _row_values(clean)
        self._clean_ratios = {
            name: self._ratio(self._clean_values[name], everything) for name in COMPARED
        }

    def level(self, name: str, judged: Judged, part: Bools) -> RobustnessLevel:
        """Return the metrics of some of the papers, and how they differ from all clean ones.

        Args:
            name: of the level.
            judged: all papers.
            part: bool [n], those that count; the others make no difference.
        """
        values = _row_values(judged)
        # Papers that are not perturbed agree with themselves: no news.
        if judged is not self._clean:
            values["agreement"] = (judged.top == self._clean.top).astype(np.float64)
        ratios = {metric: self._ratio(value, part) for metric, value in values.items()}
        metrics = {metric: self._metric(*ratio) for metric, ratio in ratios.items()}
        metrics["ece"] = self._ece(judged, part)
        accepted = judged.accepted & part
        if accepted.any():
            metrics["accepted_accuracy"] = self._metric(*self._ratio(values["top_1"], accepted))
        is_clean = judged is self._clean
        return RobustnessLevel(
            name=name,
            n=int(np.count_nonzero(part)),
            changed=None if is_clean else float(judged.changed[part].mean()),
            metrics=metrics,
            differences={}
            if is_clean and part.all()
            else {metric: self._difference(metric, *ratios[metric]) for metric in COMPARED},
        )

    def _ratio(self, values: Floats, of: Bools) -> tuple[float, Floats]:
        """Return the mean of values over some papers, and the same for each resample, [draws]."""
        some = of.astype(np.float32)
        totals = self._counts @ some
        with np.errstate(invalid="ignore"):  # a resample without any of them has no mean
            resampled = (self._counts @ (values.astype(np.float32) * some)) / totals
        return float(values[of].mean()), resampled.astype(np.float64)

    def _metric(self, value: float, resampled: Floats) -> MetricValue:
        low, high = self._ends(resampled)
        if low is None or high is None:
            return MetricValue(value=value)
        return MetricValue(value=value, low=min(low, value), high=max(high, value))

    def _difference(self, metric: str, value: float, resampled: Floats) -> Difference:
        clean, clean_resampled = self._clean_ratios[metric]
        low, high = self._ends(resampled - clean_resampled)
        return Difference(a=clean, b=value, difference=value - clean, low=low, high=high)

    def _ends(self, resampled: Floats) -> tuple[float, float] | tuple[None, None]:
        defined = resampled[np.isfinite(resampled)]
        if not defined.size:
            return None, None
        tail = (1.0 - self._config.level) / 2.0
        low, high = np.quantile(defined, [tail, 1.0 - tail])
        return float(low), float(high)

    def _ece(self, judged: Judged, part: Bools) -> MetricValue:
        correct = judged.rank[part] < 1
        bins = self._config.n_bins
        return MetricValue(value=expected_calibration_error(judged.confidence[part], correct, bins))
