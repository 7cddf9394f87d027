"""The policy of a bundle, fitted on validation scores that weigh all periods alike."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classmark.errors import EmptyEvaluation
from classmark.evaluation import (
    calibrated_probabilities,
    choose_scope_threshold,
    energy,
    fit_cross_list_thresholds,
    fit_scope,
    fit_set_threshold,
    fit_temperature,
    fit_thresholds,
)
from classmark.kernels import RawScores
from classmark.kernels.calibration import GAP_KNOTS, TOP_KNOTS, CalibrationCurve, CurveLoss
from classmark.records import Policy, ScoreTable
from classmark.records.manifests import SET_TERMS

SET_COVERAGE = 0.9
_DIGITS = 4
_SHORTEST_SHARE = 0.005
_SEED = 0
_LEAST_FOR_CURVE = 2_000
_MOST_STEPS = 40


def fit_curve(valid: ScoreTable) -> CalibrationCurve | None:
    """Return the calibration curve that minimises the log-loss; None with too few papers for it.

    Args:
        valid: logits without a curve; the same number of papers is drawn from each period.
    """
    from scipy.optimize import minimize

    table = valid.select(_equal_periods(valid))
    if len(table) < _LEAST_FOR_CURVE:
        return None

    loss = CurveLoss(table.scores, table.primary)
    n_gaps = len(GAP_KNOTS) - 1
    start = np.concatenate([np.log(np.diff(GAP_KNOTS)), np.zeros(len(TOP_KNOTS))])
    limits = [(centre - 4, centre + 2) for centre in start[:n_gaps]] + [(-2, 2)] * len(TOP_KNOTS)
    found = minimize(
        lambda logarithms: loss.of(_curve_of(logarithms)),
        start,
        method="L-BFGS-B",
        bounds=limits,
        options={"maxiter": _MOST_STEPS},
    )
    return _curve_of(found.x)


def _curve_of(logarithms: NDArray[np.float64]) -> CalibrationCurve:
    n_gaps = len(GAP_KNOTS) - 1
    gaps = np.concatenate([[0.0], np.cumsum(np.exp(logarithms[:n_gaps]))])
    return CalibrationCurve(
        tuple(float(v) for v in gaps), tuple(float(v) for v in np.exp(logarithms[n_gaps:]))
    )


def fit_policy(
    valid: ScoreTable,
    non_papers: RawScores | None = None,
    n_terms: NDArray[np.int32] | None = None,
    *,
    has_cross_lists: bool = True,
) -> Policy:
    """Return temperature, thresholds, prediction sets and scope of a bundle.

    Args:
        valid: scores of the validation split by the bundle's own kernel; the same number of
            papers is drawn from each period.
        non_papers: scores of texts that are not papers; without them nothing is out of scope.
        n_terms: words of each validation text; without them the default number of known terms is
            needed for a prediction set.
        has_cross_lists: papers may have several labels; else no further one is ever suggested.

    Raises:
        EmptyEvaluation: no validation paper has a label of the model.
    """
    table = valid.select(_equal_periods(valid))
    if not len(table):
        raise EmptyEvaluation(
            "the validation split holds no paper with a label of the model. Build the dataset with "
            "a larger --valid-share."
        )
    temperature = fit_temperature(table.scores, table.primary)
    probabilities = calibrated_probabilities(table.scores, temperature)
    policy = Policy(
        temperature=temperature,
        thresholds=_rounded(fit_thresholds(probabilities, table.primary)),
        cross_list_thresholds=_cross_list_thresholds(probabilities, table, has_cross_lists),
        set_threshold=fit_set_threshold(probabilities, table.primary, SET_COVERAGE),
        set_coverage=SET_COVERAGE,
        set_terms=SET_TERMS if n_terms is None else _set_terms(valid.known_share * n_terms),
    )
    return policy if non_papers is None else _with_scope(policy, table, non_papers)


def _set_terms(known_terms: NDArray[np.floating[Any]]) -> int:
    """Return the known terms that a text needs for a set: what nearly all of these texts have.

    A model of short texts was calibrated on short texts, so its sets hold for them too.
    """
    return min(SET_TERMS, int(np.quantile(known_terms, _SHORTEST_SHARE)))


def _equal_periods(table: ScoreTable) -> NDArray[np.intp]:
    random = np.random.default_rng(_SEED)
    known = table.primary >= 0
    periods = np.array(table.periods)
    groups = [np.flatnonzero(known & (periods == name)) for name in np.unique(periods[known])]
    n = min((len(group) for group in groups), default=0)
    drawn = [random.permutation(group)[:n] for group in groups]
    return np.sort(np.concatenate(drawn)) if drawn else np.zeros(0, dtype=np.intp)


def _with_scope(policy: Policy, table: ScoreTable, non_papers: RawScores) -> Policy:
    shares = np.concatenate([table.known_share, non_papers.known_share])
    energies = np.concatenate(
        [energy(scores, policy.temperature) for scores in (table.scores, non_papers.scores)]
    )
    is_paper = np.arange(len(shares)) < len(table)
    bias, on_share, on_energy = fit_scope(shares, energies, is_paper)
    score = bias + on_share * shares + on_energy * energies
    return replace(
        policy,
        scope_weights=(bias, on_share, on_energy),
        scope_threshold=choose_scope_threshold(score[is_paper]),
    )


def _cross_list_thresholds(
    probabilities: NDArray[np.float64], table: ScoreTable, has_cross_lists: bool
) -> tuple[float, ...]:
    if not has_cross_lists:
        return (1.0,) * len(table.labels)
    return _rounded(fit_cross_list_thresholds(probabilities, table.primary, table.listed))


def _rounded(values: NDArray[np.float32]) -> tuple[float, ...]:
    return tuple(round(float(v), _DIGITS) for v in values)
