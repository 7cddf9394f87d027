from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from classmark.errors import EmptyEvaluation, InvalidScores
from classmark.evaluation import EvaluationConfig, evaluate_details, evaluate_table
from classmark.records import PaperFacts, ScoreTable

QUICK = EvaluationConfig(draws=20)


def facts_of(table: ScoreTable) -> PaperFacts:
    n = len(table)
    return PaperFacts(
        titles=tuple(f"Title {i}" for i in range(n)),
        text_chars=np.arange(100, 100 + n, dtype=np.int32),
        formula_share=np.where(np.arange(n) % 2, np.arange(n) / n, 0.0).astype(np.float32),
    )


def test_bins_hold_every_paper_once_and_give_the_calibration_error(
    random_table: ScoreTable,
) -> None:
    bins = evaluate_details(random_table, config=QUICK).bins
    ece = sum(b.n * abs(b.confidence - b.accuracy.value) for b in bins) / len(random_table)
    report = evaluate_table(random_table, config=QUICK)
    assert sum(b.n for b in bins) == report.n
    assert ece == pytest.approx(report.metrics["ece"].value)
    assert all(b.low <= b.confidence <= b.high for b in bins)


def test_categories_agree_with_the_report_and_come_by_size(random_table: ScoreTable) -> None:
    details = evaluate_details(random_table, config=QUICK)
    report = {c.code: c for c in evaluate_table(random_table, config=QUICK).categories}
    sizes = [c.n for c in details.categories]
    assert sizes == sorted(sizes, reverse=True)
    for category in details.categories:
        assert category.f1.value == pytest.approx(report[category.code].f1)
        assert category.recall is not None
        assert category.recall.value == report[category.code].recall


def test_a_category_that_is_never_predicted_has_no_precision(
    make_table: Callable[..., ScoreTable],
) -> None:
    details = evaluate_details(make_table(np.eye(4)[[0, 0]], [0, 1]), config=QUICK)
    by_code = {c.code: c for c in details.categories}
    assert by_code["cs.LG"].precision is None
    assert by_code["cs.LG"].f1.value == 0.0


def test_pairs_count_errors_only_and_the_most_frequent_first(
    make_table: Callable[..., ScoreTable],
) -> None:
    table = make_table(np.eye(4)[[0, 1, 1, 0, 2]], [0, 0, 0, 1, 2])
    pairs = evaluate_details(table, config=QUICK).pairs
    assert [(p.truth, p.predicted, p.n) for p in pairs] == [
        ("cs.AI", "cs.LG", 2),
        ("cs.LG", "cs.AI", 1),
    ]
    assert pairs[0].share.value == pytest.approx(2 / 3)


def test_every_group_of_slices_holds_every_paper_once(random_table: ScoreTable) -> None:
    facts = facts_of(random_table)
    groups = evaluate_details(random_table, config=QUICK, facts=facts).groups
    assert [g.title for g in groups] == [
        "Cross-lists",
        "Category size",
        "Length of text",
        "Formulas",
    ]
    for group in groups:
        assert sum(part.n for part in group.slices) == len(random_table), group.title


def test_slices_of_text_need_the_dataset(random_table: ScoreTable) -> None:
    groups = evaluate_details(random_table, config=QUICK).groups
    assert [g.title for g in groups] == ["Cross-lists", "Category size"]


def test_texts_without_latex_and_of_one_length_are_one_slice_each(
    random_table: ScoreTable,
) -> None:
    n = len(random_table)
    facts = PaperFacts(
        titles=("",) * n,
        text_chars=np.full(n, 80, dtype=np.int32),
        formula_share=np.zeros(n, dtype=np.float32),
    )
    *_, length, latex = evaluate_details(random_table, config=QUICK, facts=facts).groups
    assert [part.n for part in length.slices] == [n]
    assert [part.name for part in latex.slices] == ["none"]


def test_errors_come_by_probability_at_most_two_of_a_pair(
    make_table: Callable[..., ScoreTable],
) -> None:
    scores = np.eye(4)[[1, 1, 1, 2, 3]] * np.array([[5.0], [4.0], [3.0], [2.0], [9.0]])
    table = make_table(scores, [0, 0, 0, 0, 3])
    errors = evaluate_details(table, config=QUICK, facts=facts_of(table)).errors
    assert [(e.id, e.title) for e in errors] == [
        ("p0", "Title 0"),
        ("p1", "Title 1"),
        ("p3", "Title 3"),
    ]


def test_errors_have_no_title_without_the_dataset(random_table: ScoreTable) -> None:
    errors = evaluate_details(random_table, config=QUICK).errors
    assert {e.title for e in errors} == {""}


def test_papers_without_a_known_primary_are_left_out_of_the_facts_too(
    random_table: ScoreTable,
) -> None:
    primary = random_table.primary.copy()
    primary[::2] = -1
    table = replace(random_table, primary=primary)
    details = evaluate_details(table, config=QUICK, facts=facts_of(table))
    assert all(int(e.title.removeprefix("Title ")) % 2 for e in details.errors)
    assert all(e.title.removeprefix("Title ") == e.id.removeprefix("p") for e in details.errors)


def test_facts_of_other_papers_are_refused(random_table: ScoreTable) -> None:
    facts = facts_of(random_table).select(np.arange(3))
    with pytest.raises(InvalidScores, match="table has 200 papers, the dataset's split 3"):
        evaluate_details(random_table, facts=facts)


def test_an_empty_table_has_no_details(make_table: Callable[..., ScoreTable]) -> None:
    with pytest.raises(EmptyEvaluation, match="no papers to evaluate"):
        evaluate_details(make_table([], []))


def test_facts_want_one_of_each_a_paper() -> None:
    with pytest.raises(InvalidScores, match=r"facts of \[1, 2\] papers at once"):
        PaperFacts(
            titles=("a", "b"),
            text_chars=np.ones(1, dtype=np.int32),
            formula_share=np.ones(2, dtype=np.float32),
        )
