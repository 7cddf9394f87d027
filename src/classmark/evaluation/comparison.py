"""From two score tables of the same papers to their differences, with paired intervals.

Each bootstrap draw takes the same papers for both models, so that what is hard for both cancels:
the interval of a difference is narrower than those of the two numbers suggest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from math import exp, lgamma, log

import numpy as np
from numpy.typing import NDArray

from classmark.errors import EmptyEvaluation, InvalidScores, LabelMismatch
from classmark.evaluation.metrics.intervals import resample_counts
from classmark.evaluation.metrics.outcomes import (
    BIASED_BY_RESAMPLING,
    Outcomes,
    read_outcomes,
    weighted_metrics,
)
from classmark.evaluation.metrics.rows import sums_by_label
from classmark.evaluation.report import EvaluationConfig, describe_machine
from classmark.records import (
    Agreement,
    CategoryDifference,
    ComparisonReport,
    Difference,
    ScoreTable,
)
from classmark.records.scores import UNKNOWN

Values = NDArray[np.float64]


def compare_tables(
    a: ScoreTable,
    b: ScoreTable,
    *,
    config: EvaluationConfig | None = None,
    common: bool = False,
    command: str = "",
) -> ComparisonReport:
    """Return how B differs from A in every metric and category, on the same papers.

    Args:
        a: scores and truth of the first model.
        b: those of the second; papers are matched by id, labels by name.
        config: how to measure; the defaults if None.
        common: compare what both tables have, instead of refusing what only one has.
        command: the command line to name in the report.

    Raises:
        LabelMismatch: the labels differ.
        InvalidScores: the papers or their categories differ, or a score is not finite.
        EmptyEvaluation: no paper with a known primary is in both.
    """
    config = config or EvaluationConfig()
    left, right = pair_tables(a, b, common=common)
    one, two = read_outcomes(left), read_outcomes(right)
    metrics, f1 = _differences(one, two, config)
    return ComparisonReport(
        model_a=a.model,
        model_b=b.model,
        dataset_digests=(a.dataset_digest, b.dataset_digest),
        split=a.split if a.split == b.split else "",
        generated=a.generated or b.generated,
        n=len(left),
        left_out_a=len(a) - len(left),
        left_out_b=len(b) - len(left),
        labels=len(left.labels),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=describe_machine(),
        command=command,
        config={**asdict(config), "common": common},
        agreement=count_agreement(one, two),
        metrics=metrics,
        categories=_categories(one, two, left.labels, f1),
    )


def count_agreement(a: Outcomes, b: Outcomes) -> Agreement:
    """Return how many papers both, one or neither model gets right."""
    right_a, right_b = a.top == a.primary, b.top == b.primary
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    return Agreement(
        both=int((right_a & right_b).sum()),
        only_a=only_a,
        only_b=only_b,
        neither=int((~right_a & ~right_b).sum()),
        p_value=mcnemar_p_value(only_a, only_b),
    )


def compare_shares(
    a: NDArray[np.bool_], b: NDArray[np.bool_], config: EvaluationConfig
) -> Difference:
    """Return how B's share of papers differs from A's, with the paired interval.

    Args:
        a: bool [n], what holds for each paper with the first model, at least one.
        b: bool [n], the same papers with the second one.
        config: draws, seed and level of the bootstrap.
    """
    change = b.astype(np.float64) - a
    counts = resample_counts(len(a), config.draws, np.random.default_rng(config.seed))
    drawn = np.concatenate([np.zeros(0), *(some @ change / len(a) for some in counts)])
    return _difference(float(a.mean()), float(b.mean()), drawn, config.level)


def mcnemar_p_value(only_a: int, only_b: int) -> float:
    """Return the two-sided exact p-value that both models are right equally often, 0..1.

    Of the papers that only one model gets right, the number of A's is binomial with p = 1/2; the
    p-value is twice the smaller tail, at most 1.

    Source: McNemar 1947, "Note on the sampling error of the difference between correlated
    proportions or percentages".
    """
    n, fewer = only_a + only_b, min(only_a, only_b)
    terms = (
        exp(lgamma(n + 1) - lgamma(i + 1) - lgamma(n - i + 1) - n * log(2.0))
        for i in range(fewer + 1)
    )
    return min(1.0, 2.0 * sum(terms))


def _differences(
    a: Outcomes, b: Outcomes, config: EvaluationConfig
) -> tuple[dict[str, Difference], list[Difference]]:
    """Return the difference of each metric, and of each label's F1."""
    once = np.ones((1, len(a)))
    metrics_a, f1_a = weighted_metrics(a, once, config.n_bins), weighted_f1(a, once)
    metrics_b, f1_b = weighted_metrics(b, once, config.n_bins), weighted_f1(b, once)
    names = [
        name
        for name, value in metrics_a.items()
        if name in metrics_b and np.isfinite(value[0] + metrics_b[name][0])
    ]
    drawn: dict[str, list[Values]] = {name: [] for name in names}
    drawn_f1: list[Values] = []
    rng = np.random.default_rng(config.seed)
    for counts in resample_counts(len(a), config.draws, rng):
        new_a = weighted_metrics(a, counts, config.n_bins)
        new_b = weighted_metrics(b, counts, config.n_bins)
        for name in names:
            drawn[name].append(new_b[name] - new_a[name])
        drawn_f1.append(weighted_f1(b, counts) - weighted_f1(a, counts))
    metrics = {
        name: _difference(
            float(metrics_a[name][0]),
            float(metrics_b[name][0]),
            np.concatenate([np.zeros(0), *drawn[name]]),
            config.level,
            centred=name in BIASED_BY_RESAMPLING,
        )
        for name in names
    }
    all_f1 = np.concatenate([np.zeros((0, a.n_labels)), *drawn_f1])
    f1 = [
        _difference(float(f1_a[0, c]), float(f1_b[0, c]), all_f1[:, c], config.level)
        for c in range(a.n_labels)
    ]
    return metrics, f1


def weighted_f1(outcomes: Outcomes, weights: Values) -> Values:
    """Return F1 of each label for each weighting of the papers, float64 [d, k]; 0 if absent."""
    k, hits = outcomes.n_labels, np.flatnonzero(outcomes.top == outcomes.primary)
    right = sums_by_label(outcomes.primary[hits], weights[:, hits], k)
    seen = sums_by_label(outcomes.primary, weights, k) + sums_by_label(outcomes.top, weights, k)
    return np.asarray(2.0 * right / np.maximum(seen, 1.0), dtype=np.float64)


def _difference(
    a: float, b: float, drawn: Values, level: float, *, centred: bool = False
) -> Difference:
    """Return B minus A with the percentile interval of its draws, which holds the value.

    ``centred`` moves the interval so that its median is the value, as for a single metric that
    resampling biases; the bias of two models need not cancel.
    """
    value, defined = b - a, drawn[np.isfinite(drawn)]
    if not defined.size:
        return Difference(a=a, b=b, difference=value)
    tail = (1.0 - level) / 2.0
    low, middle, high = np.quantile(defined, [tail, 0.5, 1.0 - tail])
    shift = value - middle if centred else 0.0
    return Difference(
        a=a,
        b=b,
        difference=value,
        low=float(min(low + shift, value)),
        high=float(max(high + shift, value)),
    )


def _categories(
    a: Outcomes, b: Outcomes, labels: tuple[str, ...], f1: list[Difference]
) -> tuple[CategoryDifference, ...]:
    k = a.n_labels
    right_a, right_b = a.top == a.primary, b.top == b.primary
    sizes = np.bincount(a.primary, minlength=k)
    only_a = np.bincount(a.primary[right_a & ~right_b], minlength=k)
    only_b = np.bincount(a.primary[right_b & ~right_a], minlength=k)
    seen = sizes + np.bincount(a.top, minlength=k) + np.bincount(b.top, minlength=k)
    found = [
        CategoryDifference(
            code=labels[c],
            n=int(sizes[c]),
            only_a=int(only_a[c]),
            only_b=int(only_b[c]),
            f1=f1[c],
        )
        for c in np.flatnonzero(seen).tolist()
    ]
    return tuple(sorted(found, key=lambda category: (-category.n, category.code)))


def pair_tables(
    a: ScoreTable, b: ScoreTable, *, common: bool = False
) -> tuple[ScoreTable, ScoreTable]:
    """Return both tables with the same papers in the same rows and the same labels as columns.

    Papers whose primary is unknown in either table are left out.

    Args:
        a: the first table; its order of papers and labels is kept.
        b: the second one.
        common: compare the papers and labels that both have; else all must be in both. Labels
            that only one has lose their column, so its probabilities are renormalised.

    Raises:
        LabelMismatch: the labels differ, or there is none in common.
        InvalidScores: the papers differ, one occurs twice, or its categories differ; named.
        EmptyEvaluation: no paper with a known primary is in both.
    """
    for name, table in (("first", a), ("second", b)):
        _refuse_twins(name, table.ids)
    if not common:
        _refuse_other_labels(a, b)
        _refuse_other_papers(a.ids, b.ids)
    in_b = set(b.labels)
    labels = tuple(label for label in a.labels if label in in_b)
    if not labels:
        raise LabelMismatch(
            f"the tables have no label in common (first ones: {a.labels[0]!r} and "
            f"{b.labels[0]!r}). Compare models of one label space."
        )
    rows_a, rows_b = _shared_rows(a.ids, b.ids)
    left, right = _columns(a.select(rows_a), labels), _columns(b.select(rows_b), labels)
    known = np.flatnonzero((left.primary != UNKNOWN) & (right.primary != UNKNOWN))
    if not known.size:
        raise EmptyEvaluation(
            f"no paper with a known primary category is in both tables ({len(a)} and {len(b)} "
            "papers). Score the same split with both models."
        )
    left, right = left.select(known), right.select(known)
    _refuse_other_truth(left, right)
    return left, right


def _refuse_twins(name: str, ids: Sequence[str]) -> None:
    twin, count = Counter(ids).most_common(1)[0] if ids else ("", 0)
    if count > 1:
        raise InvalidScores(
            f"the {name} table holds the paper {twin!r} {count} times; papers are matched by id. "
            "Give every paper a unique id and score them again."
        )


def _refuse_other_labels(a: ScoreTable, b: ScoreTable) -> None:
    odd = _in_one_only(a.labels, b.labels)
    if odd:
        raise LabelMismatch(
            f"the tables have {len(a.labels)} and {len(b.labels)} labels, {len(odd)} of them in "
            f"one only (first: {odd[0]!r}). Compare models of the same labels, or pass --common "
            "for the overlap."
        )


def _refuse_other_papers(a: Sequence[str], b: Sequence[str]) -> None:
    odd = _in_one_only(a, b)
    if odd:
        raise InvalidScores(
            f"the tables have {len(a)} and {len(b)} papers, {len(odd)} of them in one only "
            f"(first: {odd[0]!r}). Score the same split with both models, or pass --common for "
            "the overlap."
        )


def _refuse_other_truth(a: ScoreTable, b: ScoreTable) -> None:
    other = a.primary != b.primary
    other |= (a.listed != b.listed).any(axis=1) | (a.listed_count != b.listed_count)
    found = np.flatnonzero(other)
    if found.size:
        i = int(found[0])
        raise InvalidScores(
            f"paper {a.ids[i]!r} has other categories in the second table (primary "
            f"{a.labels[a.primary[i]]!r} and {b.labels[b.primary[i]]!r}; {found.size} such papers "
            f"of {len(a)}). Score one dataset with both models."
        )


def _in_one_only(a: Iterable[str], b: Iterable[str]) -> list[str]:
    first, second = set(a), set(b)
    return sorted(first ^ second)


def _shared_rows(a: Sequence[str], b: Sequence[str]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    row_in_b = {identifier: i for i, identifier in enumerate(b)}
    shared = [(i, row_in_b[name]) for i, name in enumerate(a) if name in row_in_b]
    rows = np.array(shared, dtype=np.intp).reshape(-1, 2)
    return rows[:, 0], rows[:, 1]


def _columns(table: ScoreTable, labels: tuple[str, ...]) -> ScoreTable:
    """Return the table with these of its labels as columns; other primaries become unknown."""
    if labels == table.labels:
        return table
    place = {label: i for i, label in enumerate(table.labels)}
    old = np.array([place[label] for label in labels], dtype=np.intp)
    # One place more than there are columns: -1, the unknown primary, stays what it is.
    new = np.full(len(table.labels) + 1, UNKNOWN, dtype=np.int16)
    new[old] = np.arange(len(labels), dtype=np.int16)
    return replace(
        table,
        labels=labels,
        scores=table.scores[:, old],
        listed=table.listed[:, old],
        primary=new[table.primary],
        thresholds=tuple(table.thresholds[i] for i in old) if table.thresholds else (),
    )
