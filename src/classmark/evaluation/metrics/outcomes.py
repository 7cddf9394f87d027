"""A score table turned into what happened to each paper, once, for all slices and resamples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from classmark import taxonomy
from classmark.errors import EmptyEvaluation, InvalidScores, UnknownCategory
from classmark.evaluation.metrics import rows
from classmark.evaluation.metrics.ranking import (
    calibrated_probabilities,
    equal_mass_bins,
    equal_width_bins,
)
from classmark.evaluation.metrics.rows import (
    Bools,
    Floats,
    weighted_calibration_error,
    weighted_calibration_floor,
    weighted_macro_f1,
)
from classmark.evaluation.metrics.thresholds import prediction_sets
from classmark.records import ScoreTable

MACRO_F1 = "macro_f1"
ECE = "ece"
EQUAL_MASS_ECE = "ece_equal_mass"
ECE_FLOOR = "ece_floor"
ACCEPTANCE_RATE = "acceptance_rate"
ACCEPTED_ACCURACY = "accepted_accuracy"
# Resampling biases these: a resample has more noise in each bin, and misses rare labels.
BIASED_BY_RESAMPLING = frozenset({MACRO_F1, ECE, EQUAL_MASS_ECE})


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """What happened to each of n papers with a known primary.

    Attributes:
        n_labels: number of columns k.
        primary: int64 [n], true column.
        top: int64 [n], predicted column.
        confidence: float64 [n], probability of the top label.
        accepted: bool [n], it reaches its threshold; None without thresholds.
        mean_names: m names of metrics that are plain means over papers.
        row_values: float64 [n, m], the values whose means they are.
    """

    n_labels: int
    primary: NDArray[np.int64]
    top: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accepted: Bools | None
    mean_names: tuple[str, ...]
    row_values: NDArray[np.float64]

    def __len__(self) -> int:
        return self.primary.size

    def select(self, index: NDArray[np.intp]) -> Outcomes:
        """Return the outcomes of some papers, by index."""
        return Outcomes(
            n_labels=self.n_labels,
            primary=self.primary[index],
            top=self.top[index],
            confidence=self.confidence[index],
            accepted=None if self.accepted is None else self.accepted[index],
            mean_names=self.mean_names,
            row_values=self.row_values[index],
        )


def is_arxiv(labels: tuple[str, ...]) -> bool:
    """Return whether every label is an arXiv category, so that levels can be summed."""
    try:
        for label in labels:
            taxonomy.get(label)
    except UnknownCategory:
        return False
    return True


def read_outcomes(table: ScoreTable) -> Outcomes:
    """Return what happened to each paper of a table.

    Args:
        table: every primary known.

    Raises:
        EmptyEvaluation: there are no labels.
        InvalidScores: a score is not finite, or truth and labels disagree; names the paper.
    """
    _check(table)
    probabilities = calibrated_probabilities(table.scores, table.temperature)
    values = _ranking_values(table) | _probability_values(table, probabilities)
    top = table.scores.argmax(axis=1).astype(np.int64)
    confidence = probabilities[np.arange(len(table)), top]
    return Outcomes(
        n_labels=len(table.labels),
        primary=table.primary.astype(np.int64),
        top=top,
        confidence=confidence,
        accepted=confidence >= np.asarray(table.thresholds)[top] if table.thresholds else None,
        mean_names=tuple(values),
        row_values=np.column_stack([value.astype(np.float64) for value in values.values()]),
    )


def weighted_metrics(
    outcomes: Outcomes, weights: NDArray[np.float64], n_bins: int
) -> dict[str, NDArray[np.float64]]:
    """Return every metric for each weighting of the papers, name -> float64 [d].

    Args:
        outcomes: n papers.
        weights: float64 [d, n], how often each paper counts.
        n_bins: bins of both calibration errors.
    """
    totals = weights.sum(axis=1)
    means = (weights @ outcomes.row_values).T / totals
    metrics = dict(zip(outcomes.mean_names, means, strict=True))
    metrics[MACRO_F1] = weighted_macro_f1(
        outcomes.top, outcomes.primary, outcomes.n_labels, weights
    )
    correct = outcomes.top == outcomes.primary
    gaps = outcomes.confidence - correct
    for name, cut in ((ECE, equal_width_bins), (EQUAL_MASS_ECE, equal_mass_bins)):
        bins = cut(outcomes.confidence, n_bins)
        metrics[name] = weighted_calibration_error(gaps, bins, n_bins, weights)
    bins = equal_width_bins(outcomes.confidence, n_bins)
    metrics[ECE_FLOOR] = weighted_calibration_floor(outcomes.confidence, bins, n_bins, weights)
    if outcomes.accepted is not None:
        accepted = weights @ outcomes.accepted.astype(np.float64)
        right = weights @ (outcomes.accepted & correct).astype(np.float64)
        metrics[ACCEPTANCE_RATE] = accepted / totals
        # Nothing accepted has no accuracy; NaN is dropped from values and from draws.
        metrics[ACCEPTED_ACCURACY] = np.divide(
            right, accepted, out=np.full_like(right, np.nan), where=accepted > 0
        )
    return metrics


def _ranking_values(table: ScoreTable) -> dict[str, Floats | Bools]:
    ranks = rows.rank_of_primary(table.scores, table.primary)
    return {
        "top_1": ranks < 1,
        "top_3": ranks < 3,
        "top_5": ranks < 5,
        # With one label a paper, micro-F1 equals top-1 accuracy.
        "micro_f1": ranks < 1,
        "precision_at_1_listed": rows.listed_hits(table.scores, table.listed),
        "recall_at_5_listed": rows.listed_recalls(
            table.scores, table.listed, table.listed_count, k=5
        ),
    }


def _probability_values(
    table: ScoreTable, probabilities: NDArray[np.float64]
) -> dict[str, Floats | Bools]:
    sets = prediction_sets(probabilities, table.set_thresholds[:, None])
    values: dict[str, Floats | Bools] = {
        "nll": rows.log_losses(probabilities, table.primary),
        "brier": rows.brier_scores(probabilities, table.primary),
        "set_coverage": sets[np.arange(len(table)), table.primary],
        "set_size": np.count_nonzero(sets, axis=1).astype(np.float64),
    }
    if is_arxiv(table.labels):
        for name, level in (("archive", taxonomy.parent), ("group", taxonomy.group)):
            _, columns = np.unique([level(label) for label in table.labels], return_inverse=True)
            values[f"{name}_accuracy"] = rows.level_hits(probabilities, table.primary, columns)
    return values


def _check(table: ScoreTable) -> None:
    if not table.labels:
        raise EmptyEvaluation("the score table has no labels. Score the papers again.")
    unfit = np.asarray((~np.isfinite(table.scores)).any(axis=1), dtype=np.bool_)
    _refuse(table, unfit, "has scores that are not finite")
    outside = (table.primary < 0) | (table.primary >= len(table.labels))
    _refuse(table, outside, f"has a primary outside the {len(table.labels)} columns")
    own_listed = table.listed[np.arange(len(table)), table.primary]
    _refuse(table, ~own_listed, "is not listed in its own primary category")
    overfull = np.asarray(table.listed_count < np.count_nonzero(table.listed, axis=1))
    _refuse(table, overfull, "is listed in more columns than it has categories")


def _refuse(table: ScoreTable, bad: Bools, fault: str) -> None:
    found = np.flatnonzero(bad)
    if found.size:
        raise InvalidScores(
            f"paper {table.ids[found[0]]!r} {fault} ({found.size} such papers of {len(table)}). "
            "Score the papers again."
        )
