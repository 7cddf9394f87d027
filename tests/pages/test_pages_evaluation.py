from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classmark.evaluation import EvaluationConfig, evaluate_details, evaluate_table
from classmark.pages import evaluation_page
from classmark.pages.figures import by_year, share_of
from classmark.pages.svg import short, ticks
from classmark.records import PaperFacts, ScoreTable

VOID = {"meta", "circle", "line", "rect", "path", "br"}


class Balance(HTMLParser):
    """Collects the elements, and fails on one that is closed out of turn."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def page_of(table: ScoreTable, draws: int = 20, facts: PaperFacts | None = None) -> str:
    config = EvaluationConfig(draws=draws)
    report = evaluate_table(table, config=config, command="classmark evaluate --scores s.npz")
    return evaluation_page(report, evaluate_details(table, config=config, facts=facts))


def test_page_is_whole_html_that_loads_and_runs_nothing(random_table: ScoreTable) -> None:
    page = page_of(random_table)
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    assert not parser.seen & {"script", "link", "img", "iframe", "object", "image", "use"}
    assert not re.search(r"https?:|url\(|@import|\bon\w+=", page)
    assert "default-src 'none'" in page


def test_page_says_where_the_numbers_come_from(random_table: ScoreTable) -> None:
    page = page_of(replace(random_table, dataset_digest="e" * 64, split="test"))
    for fact in ("d" * 64, "e" * 64, "classmark evaluate --scores s.npz", "numpy", "seed 7"):
        assert fact in page
    assert re.search(r"measured</dt><dd>\d{4}-\d\d-\d\dT", page)


def test_page_shows_the_numbers_of_the_report(random_table: ScoreTable) -> None:
    report = evaluate_table(random_table, config=EvaluationConfig(draws=20))
    page = page_of(random_table)
    for name in ("top_1", "macro_f1", "ece", "set_coverage"):
        assert f"{report.metrics[name].value:.3f}" in page
    assert f"by chance {report.metrics['ece_floor'].value:.3f}" in page


def test_page_on_invented_papers_warns_first(random_table: ScoreTable) -> None:
    warning = "Invented sample papers"
    page = page_of(replace(random_table, generated=True))
    assert page.index(warning) < page.index("<h1>")
    assert warning not in page_of(random_table)


def test_page_has_colours_for_dark_and_rules_for_print_and_phone(
    random_table: ScoreTable,
) -> None:
    page = page_of(random_table)
    for rule in ("prefers-color-scheme: dark", "@media print", "max-width: 34rem"):
        assert rule in page
    assert 'name="viewport"' in page


def test_nothing_from_outside_is_markup(random_table: ScoreTable) -> None:
    n, evil = len(random_table), "<script>alert(1)</script>"
    facts = PaperFacts(
        titles=(evil,) * n,
        text_chars=np.arange(n, dtype=np.int32),
        formula_share=np.zeros(n, dtype=np.float32),
    )
    table = replace(
        random_table,
        labels=(evil, *random_table.labels[1:]),
        ids=(evil,) * n,
        periods=(evil,) * n,
        split=evil,
    )
    page = page_of(table, facts=facts)
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_page_without_titles_shows_ids_only(random_table: ScoreTable) -> None:
    page = page_of(random_table)
    assert "Confident errors" in page
    assert '<th scope="col">title</th>' not in page


def test_page_without_resamples_years_or_errors_leaves_them_out(
    make_table: Callable[..., ScoreTable],
) -> None:
    page = page_of(make_table(np.eye(4), [0, 1, 2, 3]), draws=0)
    assert "No intervals were drawn" in page
    for absent in ("Over the years", "Confident errors", "What is mistaken for what"):
        assert absent not in page


def test_papers_that_were_left_out_are_counted(random_table: ScoreTable) -> None:
    primary = random_table.primary.copy()
    primary[:3] = -1
    assert "3 more have no primary" in page_of(replace(random_table, primary=primary))


def test_curve_by_year_breaks_where_a_year_is_missing(random_table: ScoreTable) -> None:
    years = np.array([2015, 2016, 2018, 2019], dtype=np.int16)[np.arange(200) // 50]
    table = replace(random_table, years=years)
    svg = by_year(evaluate_table(table, config=EvaluationConfig(draws=20)))
    assert svg.count('class="first curve"') == 2


def test_a_year_alone_is_a_point_with_its_interval(random_table: ScoreTable) -> None:
    svg = by_year(evaluate_table(random_table, config=EvaluationConfig(draws=20)))
    assert svg.count('class="first interval"') == 2
    assert "curve" not in svg


def test_a_year_that_is_all_right_still_has_an_interval(
    make_table: Callable[..., ScoreTable],
) -> None:
    table = make_table(np.eye(4)[[0] * 40], [0] * 40, years=np.full(40, 2019, dtype=np.int16))
    report = evaluate_table(table, config=EvaluationConfig(draws=20))
    share = share_of(report.years[0], "top_1", 0.95)
    assert share.value == 1.0
    assert share.low is not None
    assert 0.9 < share.low < 1.0


@given(st.floats(0, 100), st.floats(1e-3, 100))
def test_ticks_are_few_and_inside(low: float, span: float) -> None:
    found = ticks(low, low + span)
    assert 1 <= len(found) <= 6
    assert all(low - 1e-6 <= t <= low + span + 1e-6 for t in found)


@pytest.mark.parametrize(
    ("n", "words"),
    [(0, "0"), (999, "999"), (1234, "1.2k"), (9949, "9.9k"), (34_100, "34k"), (2_700_000, "2.7M")],
)
def test_short_writes_counts_in_four_characters(n: int, words: str) -> None:
    assert short(n) == words


@pytest.mark.slow
def test_the_room_with_its_pages_imports_with_numpy_alone() -> None:
    code = (
        "import sys, classmark.evaluation, classmark.pages\n"
        "heavy = {'jinja2', 'scipy', 'polars', 'pyarrow', 'hydra', 'typer'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert result.stdout.strip() == b"[]"


def test_page_names_what_is_never_right_and_marks_categories_of_few_papers(
    make_table: Callable[..., ScoreTable],
) -> None:
    primary = np.repeat([0, 1, 2], [25, 25, 2])
    page = page_of(make_table(np.eye(4)[np.repeat([0, 1, 3], [25, 25, 2])], primary))
    assert "Never right, with their papers: math.CO (2)." in page
    assert "<td class=n>2 <small>uncertain</small></td>" in page
    assert "<td class=n>25</td>" in page
