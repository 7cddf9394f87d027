"""What a page shows beside the report: bins, intervals of categories, pairs, slices, errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from classmark.errors import InvalidScores
from classmark.evaluation.metrics.intervals import f1_interval, measure, share_interval
from classmark.evaluation.metrics.outcomes import Outcomes, read_outcomes
from classmark.evaluation.metrics.ranking import equal_width_bins
from classmark.evaluation.metrics.rows import Bools, known_rows, require_papers
from classmark.evaluation.report import EvaluationConfig
from classmark.records import (
    CategoryDetail,
    CategoryReport,
    ConfusionPair,
    ErrorExample,
    EvaluationDetails,
    EvaluationReport,
    MetricValue,
    PaperFacts,
    ReliabilityBin,
    ScoreTable,
    SliceGroup,
    SliceReport,
)

N_PAIRS = 20
N_ERRORS = 20
ERRORS_PER_PAIR = 2
SIZE_EDGES = (20, 100, 500)
N_QUANTILES = 4

Masks = list[tuple[str, Bools]]


def evaluate_details(
    table: ScoreTable,
    *,
    config: EvaluationConfig | None = None,
    facts: PaperFacts | None = None,
) -> EvaluationDetails:
    """Return what an evaluation page shows beside the report of the same table.

    Args:
        table: scores and truth of n papers.
        config: how to measure; the defaults if None.
        facts: of the same n papers in the same order; None if only the scores are known.

    Raises:
        EmptyEvaluation: there are no papers, or none with a known primary.
        InvalidScores: facts and table differ in length, or the table is inconsistent.
    """
    config = config or EvaluationConfig()
    require_papers(len(table))
    if facts is not None and len(facts) != len(table):
        raise InvalidScores(
            f"the score table has {len(table)} papers, the dataset's split {len(facts)}. "
            "Score the split again."
        )
    rows = known_rows(table.primary)
    known = table.select(rows)
    facts = None if facts is None else facts.select(rows)
    outcomes = read_outcomes(known)
    return EvaluationDetails(
        bins=reliability_bins(outcomes, config),
        categories=category_details(outcomes, known.labels, config.level),
        pairs=confusion_pairs(outcomes, known.labels, config.level),
        groups=tuple(_groups(outcomes, known, facts, config)),
        errors=confident_errors(outcomes, known, facts),
    )


def reliability_bins(outcomes: Outcomes, config: EvaluationConfig) -> tuple[ReliabilityBin, ...]:
    """Return accuracy and confidence of each equal-width bin that holds a paper."""
    bins = equal_width_bins(outcomes.confidence, config.n_bins)
    right = outcomes.top == outcomes.primary
    result = []
    for index in np.unique(bins).tolist():
        inside = bins == index
        n = int(inside.sum())
        result.append(
            ReliabilityBin(
                low=index / config.n_bins,
                high=(index + 1) / config.n_bins,
                n=n,
                confidence=float(outcomes.confidence[inside].mean()),
                accuracy=share_interval(int(right[inside].sum()), n, config.level),
            )
        )
    return tuple(result)


def category_details(
    outcomes: Outcomes, labels: tuple[str, ...], level: float
) -> tuple[CategoryDetail, ...]:
    """Return precision, recall and F1 of each label that occurs, with intervals, by size."""
    pairs = pair_counts(outcomes)
    truths, guesses, rights = pairs.sum(axis=1), pairs.sum(axis=0), pairs.diagonal()
    found = [
        CategoryDetail(
            code=labels[c],
            n=n,
            predicted=predicted,
            precision=share_interval(right, predicted, level) if predicted else None,
            recall=share_interval(right, n, level) if n else None,
            f1=f1_interval(right, n, predicted, level),
        )
        for c in np.flatnonzero(truths + guesses).tolist()
        for n, predicted, right in [(int(truths[c]), int(guesses[c]), int(rights[c]))]
    ]
    return tuple(sorted(found, key=lambda c: (-c.n, c.code)))


def confusion_pairs(
    outcomes: Outcomes, labels: tuple[str, ...], level: float, n_pairs: int = N_PAIRS
) -> tuple[ConfusionPair, ...]:
    """Return the most frequent (true, predicted) pairs that differ, most frequent first."""
    counts = pair_counts(outcomes)
    sizes = counts.sum(axis=1)
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:n_pairs]
    cells = [divmod(int(cell), outcomes.n_labels) for cell in order]
    return tuple(
        ConfusionPair(
            truth=labels[i],
            predicted=labels[j],
            n=int(counts[i, j]),
            share=share_interval(int(counts[i, j]), int(sizes[i]), level),
        )
        for i, j in cells
        if counts[i, j]
    )


def confident_errors(
    outcomes: Outcomes, table: ScoreTable, facts: PaperFacts | None
) -> tuple[ErrorExample, ...]:
    """Return the errors with the highest probability, at most two per pair of categories."""
    wrong = np.flatnonzero(outcomes.top != outcomes.primary)
    order = wrong[np.argsort(-outcomes.confidence[wrong], kind="stable")]
    seen: Counter[tuple[int, int]] = Counter()
    chosen: list[ErrorExample] = []
    for i in order.tolist():
        pair = (int(outcomes.primary[i]), int(outcomes.top[i]))
        seen[pair] += 1
        if seen[pair] > ERRORS_PER_PAIR:
            continue
        chosen.append(
            ErrorExample(
                id=table.ids[i],
                title="" if facts is None else facts.titles[i],
                truth=table.labels[pair[0]],
                predicted=table.labels[pair[1]],
                probability=float(outcomes.confidence[i]),
            )
        )
        if len(chosen) == N_ERRORS:
            break
    return tuple(chosen)


def pair_counts(outcomes: Outcomes) -> NDArray[np.intp]:
    """Return how many papers of each true column get each predicted one: int [k, k]."""
    k = outcomes.n_labels
    return np.bincount(outcomes.primary * k + outcomes.top, minlength=k * k).reshape(k, k)


def _groups(
    outcomes: Outcomes,
    table: ScoreTable,
    facts: PaperFacts | None,
    config: EvaluationConfig,
) -> Iterator[SliceGroup]:
    wanted = [_by_listing(table), _by_category_size(outcomes)]
    if facts is not None:
        wanted += [_by_length(facts), _by_formulas(facts)]
    for title, note, masks in wanted:
        slices = []
        for name, mask in masks:
            index = np.flatnonzero(mask)
            if index.size:
                metrics = measure(outcomes.select(index), **asdict(config))
                slices.append(SliceReport(name=name, n=index.size, metrics=metrics))
        yield SliceGroup(title=title, note=note, slices=tuple(slices))


def _by_listing(table: ScoreTable) -> tuple[str, str, Masks]:
    crossed = np.asarray(table.listed_count > 1, dtype=np.bool_)
    masks: Masks = [("primary only", ~crossed), ("cross-listed", crossed)]
    return "Cross-lists", "whether a paper is listed in more than its primary category", masks


def _by_category_size(outcomes: Outcomes) -> tuple[str, str, Masks]:
    sizes = np.bincount(outcomes.primary, minlength=outcomes.n_labels)[outcomes.primary]
    edges = (0, *SIZE_EDGES)
    names = [f"under {SIZE_EDGES[0]}"]
    names += [f"{low}\u2013{high - 1}" for low, high in pairwise(SIZE_EDGES)]
    names.append(f"{SIZE_EDGES[-1]} or more")
    group = np.digitize(sizes, edges[1:])
    masks: Masks = [(name, np.asarray(group == i)) for i, name in enumerate(names)]
    note = (
        "papers of this split in the true category; grouped by the truth, so that even a "
        "perfectly calibrated model shows an ECE here"
    )
    return "Category size", note, masks


def _by_length(facts: PaperFacts) -> tuple[str, str, Masks]:
    chars = facts.text_chars
    cuts = np.unique(np.quantile(chars, np.arange(1, N_QUANTILES) / N_QUANTILES).round())
    group = np.searchsorted(cuts, chars, side="left")
    names = [f"{low:,}\u2013{high:,}" for low, high in _ranges(chars, group, cuts.size + 1)]
    masks: Masks = [(name, np.asarray(group == i)) for i, name in enumerate(names)]
    return "Length of text", "characters of title and abstract, in quarters", masks


def _by_formulas(facts: PaperFacts) -> tuple[str, str, Masks]:
    share = facts.formula_share
    some = share > 0.0
    masks: Masks = [("none", ~some)]
    if some.any():
        cuts = np.quantile(share[some], [1 / 3, 2 / 3])
        group = np.searchsorted(cuts, share, side="left")
        for i, word in enumerate(("least", "middle", "most")):
            inside = np.asarray(some & (group == i))
            if inside.any():
                low, high = 100 * share[inside].min(), 100 * share[inside].max()
                masks.append((f"{word} ({low:.2g}\u2013{high:.2g} %)", inside))
    note = "share of the characters in formulas and TeX commands; papers that have any, in thirds"
    return "Formulas", note, masks


def _ranges(values: NDArray[np.int32], group: NDArray[np.intp], n: int) -> list[tuple[int, int]]:
    parts = [values[group == i] for i in range(n)]
    return [(int(p.min()), int(p.max())) if p.size else (0, 0) for p in parts]


def weakest_categories(
    report: EvaluationReport, most: int
) -> list[tuple[CategoryReport, MetricValue]]:
    """Return the categories with the lowest F1, each with F1 and its interval.

    Of equal ones, those with more papers come first: of them it is surer. No category is left out
    for having few papers; ``is_uncertain`` and the interval tell.
    """
    level = float(report.config.get("level", 0.95))
    weakest = sorted(report.categories, key=lambda c: (c.f1, -c.n, c.code))[:most]
    return [(c, f1_interval(c.right, c.n, c.predicted, level)) for c in weakest]
