"""A model card says what was measured, where the model is weak, and if it was all invented."""

from __future__ import annotations

from typing import Any

import pytest

from classmark.export import render_card
from classmark.records import CategoryReport, EvaluationReport, MetricValue, SliceReport
from classmark.wire import ModelRef


def category(code: str, n: int, f1: float) -> CategoryReport:
    return CategoryReport(
        code=code,
        n=n,
        predicted=n,
        precision=f1,
        recall=f1,
        f1=f1,
        confused_with="stat.ML",
        confused=1,
    )


def report(**changes: Any) -> EvaluationReport:
    metrics = {"top_1": MetricValue(value=0.6543), "ece": MetricValue(value=0.01)}
    values: dict[str, Any] = {
        "model": ModelRef("mine", "1.0", ""),
        "dataset_digest": "d" * 64,
        "split": "test",
        "generated": False,
        "label_space": "arxiv",
        "n": 1234,
        "n_unknown": 0,
        "date": "2026-01-01",
        "machine": "",
        "command": "",
        "config": {},
        "metrics": metrics,
        "periods": (SliceReport(name="from-2020", n=34, metrics={"top_1": metrics["top_1"]}),),
        "years": (),
        "categories": tuple(category(f"c{i:02d}", 20, i / 20) for i in range(20, 0, -1)),
    }
    return EvaluationReport(**{**values, **changes})


def test_authors_have_rows_of_their_own_and_what_can_go_wrong_is_said() -> None:
    plain = render_card("m", report(), {})
    card = render_card("m", report(), {}, with_authors=report())
    rows = [line for line in card.splitlines() if ", with authors |" in line]
    assert len(rows) == 1 + len(report().periods)
    assert "forget-author" in card
    assert ", with authors" not in plain
    assert "forget-author" not in plain


def test_the_card_has_facts_periods_and_further_sections() -> None:
    card = render_card("mine 1.0", report(), {"seed": "7"}, "## Limits\n\nNone known.")
    assert card.startswith("# mine 1.0\n")
    for line in (
        "| seed | 7 |",
        "| period | papers | top-1 | ECE |",
        "| all | 1,234 | 0.654 | 0.010 |",
        "| from-2020 | 34 | 0.654 |  |",
        "None known.",
    ):
        assert f"\n{line}\n" in card


def test_the_weakest_categories_come_first_and_those_of_few_papers_are_marked() -> None:
    rare = category("rare", 7, 0.0)
    card = render_card("m", report(categories=(*report().categories, rare)), {})
    weakest = card.split("## Weakest categories\n\n")[1].splitlines()
    assert weakest[0] == "| category | papers | F1 | interval | most confused with |"
    assert weakest[2] == "| rare | 7, uncertain | 0.00 | 0.00 to 0.35 | stat.ML |"
    codes = [line.split(" | ")[0] for line in weakest[2:22]]
    assert codes == ["| rare", *(f"| c{i:02d}" for i in range(1, 20))]
    assert "| c01 | 20 | 0.05 | 0.01 to 0.23 | stat.ML |" in weakest
    assert weakest[-1] == "Uncertain: fewer than 20 test papers."


def test_of_equally_weak_categories_the_surer_ones_come_first() -> None:
    equal = tuple(category(f"c{n}", n, 0.0) for n in (3, 40, 21))
    card = render_card("m", report(categories=equal), {})
    assert [line[2:5] for line in card.splitlines() if line.startswith("| c")][1:] == [
        "c40", "c21", "c3 ",
    ]  # fmt: skip


def test_a_report_without_categories_says_so() -> None:
    assert "No category has a test paper." in render_card("m", report(categories=()), {})


def test_a_label_that_holds_a_bar_stays_in_its_cell() -> None:
    card = render_card("m", report(categories=(category("Stars | galaxies", 30, 0.5),)), {})
    assert r"| Stars \| galaxies | 30 | 0.50 |" in card


@pytest.mark.parametrize("generated", [True, False])
def test_invented_papers_are_warned_of(generated: bool) -> None:
    card = render_card("m", report(generated=generated), {})
    assert ("invented sample papers" in card) is generated
