from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classmark.errors import EmptyEvaluation, InvalidScores, LabelMismatch
from classmark.evaluation import EvaluationConfig, compare_shares, compare_tables, evaluate_table
from classmark.evaluation.comparison import mcnemar_p_value
from classmark.pages import comparison_page, comparison_text
from classmark.records import ComparisonReport, Difference, ScoreTable
from classmark.wire import ModelRef

QUICK = EvaluationConfig(draws=50)


def noisy(table: ScoreTable, seed: int, noise: float = 1.0) -> ScoreTable:
    """The table of a model that scores the same papers with more noise."""
    more = np.random.default_rng(seed).normal(size=table.scores.shape) * noise
    scores = (table.scores + more).astype(np.float32)
    return replace(table, scores=scores, model=ModelRef("noisy", "2.0", "b" * 64))


def drop_label(table: ScoreTable, label: str) -> ScoreTable:
    """The table of a model that does not have a label."""
    kept = np.array([i for i, name in enumerate(table.labels) if name != label])
    place = np.full(len(table.labels), -1, dtype=np.int16)
    place[kept] = np.arange(len(kept))
    return replace(
        table,
        labels=tuple(table.labels[i] for i in kept),
        scores=table.scores[:, kept],
        listed=table.listed[:, kept],
        primary=place[table.primary],
        thresholds=tuple(table.thresholds[i] for i in kept),
    )


def all_differences(report: ComparisonReport) -> dict[str, Difference]:
    return {**report.metrics, **{c.code: c.f1 for c in report.categories}}


def test_a_model_does_not_differ_from_itself(random_table: ScoreTable) -> None:
    report = compare_tables(random_table, random_table, config=QUICK)
    for name, d in all_differences(report).items():
        assert (d.difference, d.low, d.high) == (0.0, 0.0, 0.0), name
    assert (report.agreement.only_a, report.agreement.only_b) == (0, 0)
    assert report.agreement.p_value == 1.0


@settings(max_examples=10)
@given(st.integers(0, 10_000))
def test_comparison_is_antisymmetric(seed: int) -> None:
    rng = np.random.default_rng(seed)
    primary = rng.integers(0, 4, 60).astype(np.int16)
    a = _table(rng.normal(size=(60, 4)) + np.eye(4)[primary], primary)
    b = _table(rng.normal(size=(60, 4)) + np.eye(4)[primary], primary)
    forth, back = compare_tables(a, b, config=QUICK), compare_tables(b, a, config=QUICK)
    for name, d in all_differences(forth).items():
        other = all_differences(back)[name]
        assert d.low is not None
        assert d.high is not None
        assert (d.difference, d.low, d.high) == pytest.approx(
            (-other.difference, -(other.high or 0.0), -(other.low or 0.0)), abs=1e-12
        ), name
    assert forth.agreement.only_a == back.agreement.only_b


def _table(scores: Any, primary: Any) -> ScoreTable:
    n = len(primary)
    return ScoreTable(
        labels=("cs.AI", "cs.LG", "math.CO", "hep-th"),
        ids=tuple(f"p{i}" for i in range(n)),
        scores=np.asarray(scores, dtype=np.float32),
        primary=primary,
        listed=primary[:, None] == np.arange(4),
        listed_count=np.ones(n, dtype=np.int16),
        years=np.zeros(n, dtype=np.int16),
        periods=("",) * n,
        known_share=np.ones(n, dtype=np.float32),
    )


def test_shares_that_are_compared_alone_differ_as_they_do_in_a_report(
    random_table: ScoreTable,
) -> None:
    a, b = random_table, noisy(random_table, 1)
    report = compare_tables(a, b, config=QUICK)
    known = a.primary >= 0
    right = [(t.scores.argmax(axis=1) == t.primary)[known] for t in (a, b)]
    shares = compare_shares(right[0], right[1], QUICK)
    assert asdict(shares) == pytest.approx(asdict(report.metrics["top_1"]))
    assert compare_shares(right[0], right[1], EvaluationConfig(draws=0)).low is None


def test_differences_are_those_of_the_two_reports(random_table: ScoreTable) -> None:
    other = noisy(random_table, 1)
    one, two = (evaluate_table(t, config=QUICK) for t in (random_table, other))
    report = compare_tables(random_table, other, config=QUICK)
    assert set(report.metrics) == set(one.metrics)
    for name, d in report.metrics.items():
        expected = (one.metrics[name].value, two.metrics[name].value)
        assert (d.a, d.b) == pytest.approx(expected), name
        assert d.low is not None
        assert d.high is not None
        assert d.low <= d.difference <= d.high, name
    f1 = {c.code: c.f1 for c in one.categories}
    for category in report.categories:
        assert category.f1.a == pytest.approx(f1[category.code])


def test_a_paired_interval_is_narrower_than_the_two_intervals_together(
    random_table: ScoreTable,
) -> None:
    other = noisy(random_table, 1, noise=0.2)
    d = compare_tables(random_table, other, config=QUICK).metrics["top_1"]
    alone = evaluate_table(random_table, config=QUICK).metrics["top_1"]
    assert d.high is not None
    assert d.low is not None
    assert alone.high is not None
    assert alone.low is not None
    assert d.high - d.low < alone.high - alone.low


def test_papers_and_labels_are_matched_by_name_not_by_place(random_table: ScoreTable) -> None:
    order = np.random.default_rng(3).permutation(len(random_table))
    columns = np.array([2, 0, 3, 1])
    shuffled = random_table.select(order)
    other = replace(
        shuffled,
        labels=tuple(random_table.labels[c] for c in columns),
        scores=shuffled.scores[:, columns],
        listed=shuffled.listed[:, columns],
        primary=np.argsort(columns).astype(np.int16)[shuffled.primary],
        thresholds=tuple(random_table.thresholds[c] for c in columns),
    )
    report = compare_tables(random_table, other, config=QUICK)
    assert {d.difference for d in all_differences(report).values()} == {0.0}


def test_agreement_counts_every_paper_once(random_table: ScoreTable) -> None:
    report = compare_tables(random_table, noisy(random_table, 2), config=QUICK)
    a = report.agreement
    assert a.both + a.only_a + a.only_b + a.neither == report.n == 200
    assert a.only_b - a.only_a == round(200 * report.metrics["top_1"].difference)
    assert sum(c.only_a for c in report.categories) == a.only_a
    assert sum(c.only_b for c in report.categories) == a.only_b


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [(0, 0, 1.0), (5, 5, 1.0), (0, 5, 2 / 32), (1, 5, 2 * 7 / 64), (3000, 3000, 1.0)],
)
def test_mcnemar_is_the_exact_binomial_test(only_a: int, only_b: int, p: float) -> None:
    assert mcnemar_p_value(only_a, only_b) == pytest.approx(p)
    assert mcnemar_p_value(only_b, only_a) == pytest.approx(p)


def test_other_papers_are_refused_and_named(random_table: ScoreTable) -> None:
    fewer = random_table.select(np.arange(1, 200))
    with pytest.raises(InvalidScores, match=r"200 and 199 papers, 1 of them.*'p0'.*--common"):
        compare_tables(random_table, fewer)


def test_other_labels_are_refused_and_named(random_table: ScoreTable) -> None:
    with pytest.raises(LabelMismatch, match=r"4 and 3 labels, 1 of them.*'hep-th'.*--common"):
        compare_tables(random_table, drop_label(random_table, "hep-th"))


def test_common_compares_the_overlap_and_counts_the_rest(random_table: ScoreTable) -> None:
    other = drop_label(random_table.select(np.arange(50, 200)), "hep-th")
    report = compare_tables(random_table, other, config=QUICK, common=True)
    shared = int((random_table.primary[50:] != 3).sum())
    assert (report.n, report.labels) == (shared, 3)
    assert (report.left_out_a, report.left_out_b) == (200 - shared, 150 - shared)
    # Without its column the wider model answers as the narrower one does.
    assert report.metrics["top_1"].difference == 0.0


def test_tables_without_a_common_label_or_paper_are_refused(random_table: ScoreTable) -> None:
    alien = replace(random_table, labels=("a", "b", "c", "d"))
    with pytest.raises(LabelMismatch, match="no label in common"):
        compare_tables(random_table, alien, common=True)
    others = replace(random_table, ids=tuple(f"q{i}" for i in range(200)))
    with pytest.raises(EmptyEvaluation, match="no paper with a known primary"):
        compare_tables(random_table, others, common=True)


def test_other_truth_is_refused_even_with_common(random_table: ScoreTable) -> None:
    listed_count = random_table.listed_count.copy()
    listed_count[4] += 1
    other = replace(random_table, listed_count=listed_count)
    with pytest.raises(InvalidScores, match="paper 'p4' has other categories in the second"):
        compare_tables(random_table, other, common=True)


def test_a_paper_that_is_there_twice_is_refused(random_table: ScoreTable) -> None:
    twins = replace(random_table, ids=("p1", *random_table.ids[1:]))
    with pytest.raises(InvalidScores, match="first table holds the paper 'p1' 2 times"):
        compare_tables(twins, random_table)


def test_papers_of_unknown_primary_are_left_out(make_table: Callable[..., ScoreTable]) -> None:
    table = make_table(np.eye(4)[[0, 1, 2]], [0, -1, 2], listed=np.eye(4)[[0, 1, 2]] > 0)
    report = compare_tables(table, table, config=QUICK)
    assert (report.n, report.left_out_a, report.left_out_b) == (2, 1, 1)


def test_comparison_to_dict_is_json(random_table: ScoreTable) -> None:
    report = compare_tables(random_table, noisy(random_table, 1), config=QUICK)
    value = json.loads(json.dumps(report.to_dict()))
    assert value["metrics"]["top_1"]["difference"] == report.metrics["top_1"].difference
    assert value["agreement"]["only_a"] == report.agreement.only_a


def test_text_names_the_better_model_where_the_interval_leaves_0_out(
    random_table: ScoreTable,
) -> None:
    text = comparison_text(compare_tables(random_table, noisy(random_table, 1, 5.0)))
    assert re.search(r"top-1 accuracy .* A$", text, re.MULTILINE)
    assert re.search(r"negative log-likelihood, nats .* A$", text, re.MULTILINE)
    assert not re.search(r"prediction sets.* [AB]$", text, re.MULTILINE)
    assert "by chance" in text.splitlines()[-1]
    assert max(map(len, text.splitlines())) <= 100


def test_text_without_resamples_judges_nothing(random_table: ScoreTable) -> None:
    config = EvaluationConfig(draws=0)
    text = comparison_text(compare_tables(random_table, noisy(random_table, 1), config=config))
    assert "F1 that differs" not in text
    assert not re.search(r"top-1 accuracy .*[AB]$", text, re.MULTILINE)


def test_comparison_of_invented_papers_says_so_first(random_table: ScoreTable) -> None:
    report = compare_tables(random_table, replace(random_table, generated=True), config=QUICK)
    assert comparison_text(report).startswith("invented sample papers")
    page = comparison_page(report)
    assert page.index("Invented sample papers") < page.index("<h1>")


def test_comparison_page_shows_both_models_and_loads_nothing(random_table: ScoreTable) -> None:
    other = noisy(random_table, 1, 5.0)
    page = comparison_page(compare_tables(random_table, other, config=QUICK))
    for fact in ("d" * 64, "b" * 64, "fast 1.0 or noisy 2.0?", "Categories that differ"):
        assert fact in page
    assert not re.search(r"<script|<link|<img|https?:|url\(", page)
    assert page.count("<svg") == page.count("</svg>") >= 4


def test_comparison_page_says_what_was_left_out_and_if_nothing_is_clear(
    random_table: ScoreTable,
) -> None:
    fewer = random_table.select(np.arange(1, 200))
    config = EvaluationConfig(draws=0)
    page = comparison_page(compare_tables(random_table, fewer, config=config, common=True))
    assert "Not compared: 1 of A." in page
    assert "No difference is clear." in page
    assert "No intervals were drawn." in page
