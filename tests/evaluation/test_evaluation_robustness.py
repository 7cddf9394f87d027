from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from classmark.errors import EmptyEvaluation, InvalidConfig, InvalidGates, InvalidReport
from classmark.evaluation import (
    EvaluationConfig,
    RobustnessConfig,
    check_gates,
    count_gates,
    make_gates,
    measure_robustness,
    other_papers,
)
from classmark.evaluation.robustness.measure import Judged, Study
from classmark.pages import robustness_page, robustness_text
from classmark.records import RobustnessGates, RobustnessReport
from classmark.wire import ModelRef

N = 400
VOID = {"meta", "circle", "line", "rect", "path", "br"}


def judged(right: float, seed: int, n: int = N, accepted: float = 0.7) -> Judged:
    rng = np.random.default_rng(seed)
    return Judged(
        top=rng.integers(0, 9, n),
        rank=np.where(rng.random(n) < right, 0, rng.integers(1, 9, n)),
        confidence=rng.random(n) * 0.5 + 0.5,
        accepted=rng.random(n) < accepted,
        out_of_scope=np.zeros(n, dtype=np.bool_),
        changed=np.ones(n, dtype=np.bool_),
    )


CLEAN = judged(0.8, 1)


def study(**changes: Any) -> Study:
    early = np.arange(N) < N // 2
    values: dict[str, Any] = {
        "model": ModelRef("fast", "1.0", "d" * 64),
        "dataset_digest": "e" * 64,
        "split": "test",
        "generated": False,
        "clean": CLEAN,
        "perturbed": {
            "typos": {"2 %": CLEAN, "20 %": judged(0.5, 2)},
            "case": {"upper": judged(0.8, 3, accepted=0.0)},
        },
        "other_texts": {"non-papers": {"English prose": judged(0, 4, n=20, accepted=0.1)}},
        "slices": {"later-years": {"until-2017": early, "2018-2019": ~early}},
    }
    return Study(**{**values, **changes})


def measured(draws: int = 200, **changes: Any) -> RobustnessReport:
    config = RobustnessConfig(papers=N, measurement=EvaluationConfig(draws=draws))
    return measure_robustness(study(**changes), config=config, command="classmark evaluate ...")


@pytest.fixture(scope="module")
def report() -> RobustnessReport:
    return measured()


def level(report: RobustnessReport, kind: str, name: str) -> Any:
    found = {(k.name, part.name): part for k in report.kinds for part in k.levels}
    return found[kind, name]


def test_clean_metrics_are_those_of_the_clean_papers(report: RobustnessReport) -> None:
    metrics = report.clean.metrics
    right = CLEAN.rank < 1
    assert metrics["top_1"].value == pytest.approx(right.mean())
    assert metrics["top_5"].value == pytest.approx((CLEAN.rank < 5).mean())
    assert metrics["confidence"].value == pytest.approx(CLEAN.confidence.mean())
    assert metrics["abstained"].value == pytest.approx(1 - CLEAN.accepted.mean())
    assert metrics["accepted_accuracy"].value == pytest.approx(right[CLEAN.accepted].mean())
    assert report.clean.differences == {}
    assert report.clean.changed is None


def test_every_accuracy_has_an_interval_around_its_value(report: RobustnessReport) -> None:
    for part in (report.clean, *(part for kind in report.kinds for part in kind.levels)):
        for name in ("top_1", "top_5", "accepted_accuracy"):
            if name in part.metrics:
                metric = part.metrics[name]
                assert metric.low is not None
                assert metric.low <= metric.value <= metric.high


def test_a_difference_is_paired_so_a_level_that_changes_nothing_has_none(
    report: RobustnessReport,
) -> None:
    same = level(report, "typos", "2 %")
    assert same.metrics["top_1"].value == report.clean.metrics["top_1"].value
    worse = level(report, "typos", "20 %").differences["top_1"]
    assert worse.difference == pytest.approx(worse.b - worse.a)
    assert worse.high < 0


def test_abstention_is_the_sum_of_both_reasons() -> None:
    odd = np.arange(N) % 2 == 0
    part = replace(CLEAN, accepted=np.zeros(N, dtype=np.bool_), out_of_scope=odd)
    metrics = level(measured(perturbed={"typos": {"2 %": part}}), "typos", "2 %").metrics
    assert metrics["below_threshold"].value == metrics["out_of_scope"].value == 0.5
    assert metrics["abstained"].value == 1.0


def test_a_level_at_which_nothing_is_accepted_has_no_accuracy_of_the_accepted(
    report: RobustnessReport,
) -> None:
    assert "accepted_accuracy" not in level(report, "case", "upper").metrics


def test_periods_are_measured_on_their_own_papers(report: RobustnessReport) -> None:
    early = level(report, "later-years", "until-2017")
    assert early.n == N // 2
    assert early.metrics["top_1"].value == pytest.approx((CLEAN.rank[: N // 2] < 1).mean())
    assert early.differences["top_1"].a == report.clean.metrics["top_1"].value
    assert "agreement" not in early.metrics


def test_other_texts_have_no_accuracy_but_abstention_with_an_interval(
    report: RobustnessReport,
) -> None:
    metrics = level(report, "non-papers", "English prose").metrics
    assert "top_1" not in metrics
    assert metrics["abstained"].low < metrics["abstained"].value


def test_without_resamples_there_are_no_intervals() -> None:
    report = measured(draws=0)
    assert report.clean.metrics["top_1"].low is None
    assert level(report, "typos", "20 %").differences["top_1"].low is None
    assert "  2 %" in robustness_text(report)
    assert "<svg" in robustness_page(report)


def test_no_papers_are_refused() -> None:
    empty = judged(1, 1, n=0)
    with pytest.raises(EmptyEvaluation, match="no papers to evaluate"):
        measured(clean=empty, perturbed={}, slices={})


def test_a_report_comes_back_from_json(report: RobustnessReport) -> None:
    assert RobustnessReport.from_dict(json.loads(json.dumps(report.to_dict()))) == report


def test_a_report_of_another_format_or_shape_is_refused(report: RobustnessReport) -> None:
    with pytest.raises(InvalidReport, match="format version is 9"):
        RobustnessReport.from_dict({**report.to_dict(), "format_version": 9})
    with pytest.raises(InvalidReport, match="'sort' is not a field"):
        RobustnessReport.from_dict({**report.to_dict(), "sort": 1})


# Gates


def test_gates_are_the_values_less_the_margin_rounded_down(report: RobustnessReport) -> None:
    gates = make_gates(report, 0.02)
    value = report.clean.metrics["top_1"].value
    assert value - 0.0201 <= gates.minimum["clean"]["clean"]["top_1"] <= value - 0.02
    assert set(gates.minimum["non-papers"]["English prose"]) == {"abstained"}
    assert count_gates(gates) == sum(len(m) for k in gates.minimum.values() for m in k.values())


def test_a_report_holds_its_own_gates_even_without_a_margin(report: RobustnessReport) -> None:
    assert check_gates(report, make_gates(report, 0.0)) == ()


def test_a_failed_gate_names_kind_level_metric_value_and_minimum(report: RobustnessReport) -> None:
    gates = make_gates(report)
    gates.minimum["typos"]["20 %"]["top_1"] = 0.9
    (failure,) = check_gates(report, gates)
    value = level(report, "typos", "20 %").metrics["top_1"].value
    assert str(failure) == f"typos, 20 %: top_1 is {value:.4f}, below 0.9000"


def test_a_gate_on_what_could_not_be_measured_fails(report: RobustnessReport) -> None:
    gates = make_gates(report)
    gates.minimum["case"]["upper"]["accepted_accuracy"] = 0.5
    assert [str(f) for f in check_gates(report, gates)] == [
        "case, upper: accepted_accuracy has no value, the minimum is 0.5000"
    ]


def test_a_measured_kind_without_a_minimum_is_an_error(report: RobustnessReport) -> None:
    gates = make_gates(report)
    del gates.minimum["typos"]
    with pytest.raises(InvalidGates, match=r"no minimum for typos, 2 % and 1 more \(kinds: t"):
        check_gates(report, gates)


def test_a_minimum_for_what_was_not_measured_is_an_error(report: RobustnessReport) -> None:
    gates = make_gates(report)
    gates.minimum["smell"] = {"strong": {"top_1": 0.1}}
    with pytest.raises(InvalidGates, match="asks for smell, strong, which was not measured"):
        check_gates(report, gates)


def test_a_gate_on_an_unknown_metric_is_an_error(report: RobustnessReport) -> None:
    gates = make_gates(report)
    gates.minimum["clean"]["clean"]["top_9"] = 0.1
    with pytest.raises(InvalidGates, match="'top_9', which is not a metric"):
        check_gates(report, gates)


@pytest.mark.parametrize("margin", [-0.1, 1.0, float("nan")])
def test_a_margin_out_of_range_is_refused(report: RobustnessReport, margin: float) -> None:
    with pytest.raises(InvalidConfig, match="margin must be from 0 to below 1"):
        make_gates(report, margin)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ([], "format version is None"),
        ({"format_version": 2}, "format version is 2"),
        ({"format_version": 1}, "missing"),
        ({"minimum": []}, "not of format 1"),
        ({"minimum": {"typos": {"2 %": {"top_1": float("nan")}}}}, "is nan, it must be a number"),
        ({"minimum": {"typos": {"2 %": {"top_1": "high"}}}}, "'high', it must be a number"),
        ({"minimum": {"typos": {"2 %": {"top_1": True}}}}, "True, it must be a number"),
    ],
)
def test_damaged_gates_are_refused(report: RobustnessReport, damage: Any, message: str) -> None:
    value = damage if "minimum" not in damage else {**make_gates(report).to_dict(), **damage}
    with pytest.raises(InvalidGates, match=message):
        RobustnessGates.from_dict(value)


def test_gates_of_other_papers_are_noticed(report: RobustnessReport) -> None:
    gates = make_gates(report)
    assert other_papers(report, gates) == ""
    assert other_papers(report, replace(gates, seed=8, papers=5000)) == (
        "papers 400 not 5,000, seed 7 not 8"
    )


# For people


def test_the_table_shows_every_level_within_100_columns(report: RobustnessReport) -> None:
    lines = robustness_text(report).split("\n")
    assert max(map(len, lines)) <= 100
    for words in ("clean ", "  20 %", "  upper", "  English prose", "  2018-2019"):
        assert any(line.startswith(words) for line in lines), words
    assert "typos: share of words with a letter swapped" in "\n".join(lines)


def test_invented_papers_are_said_to_be_so_first() -> None:
    report = measured(generated=True)
    assert robustness_text(report).startswith("invented sample papers")
    page = robustness_page(report)
    assert page.index("Invented sample papers") < page.index("<h1>")


class Balance(HTMLParser):
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


def test_the_page_is_whole_html_that_loads_and_runs_nothing(report: RobustnessReport) -> None:
    page = robustness_page(report)
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    assert not parser.seen & {"script", "link", "img", "iframe", "object", "image", "use"}
    assert not re.search(r"https?:|url\(|@import|\bon\w+=", page)


def test_the_page_has_a_plot_a_kind_and_says_where_the_numbers_come_from(
    report: RobustnessReport,
) -> None:
    page = robustness_page(report)
    assert page.count("<figcaption>") == len(report.kinds)
    for fact in ("d" * 64, "e" * 64, "classmark evaluate ...", "seed 7, 200 resamples"):
        assert fact in page


def test_the_page_joins_levels_only_where_their_order_means_something(
    report: RobustnessReport,
) -> None:
    page = robustness_page(report)
    typos, case = (re.search(rf"<h3>{k}</h3>.*?</figure>", page) for k in ("typos", "case"))
    assert typos is not None
    assert case is not None
    assert "curve" in typos[0]
    assert "curve" not in case[0]


def test_the_names_of_many_years_do_not_run_into_each_other() -> None:
    parts = {str(2000 + i): np.arange(N) % 20 == i for i in range(20)}
    page = robustness_page(measured(perturbed={}, slices={"later-years": parts}))
    plot = re.search(r"<h3>later-years</h3>.*?</figure>", page)
    assert plot is not None
    assert re.findall(r">(20\d\d)</text>", plot[0]) == ["2000", "2004", "2008", "2012", "2016"]


def test_nothing_from_outside_is_markup(report: RobustnessReport) -> None:
    evil = "<script>alert(1)</script>"
    page = robustness_page(replace(report, split=evil, command=evil))
    assert "<script" not in page


def test_the_page_of_other_texts_alone_has_no_losses_and_no_examples() -> None:
    page = robustness_page(measured(perturbed={}, slices={}))
    for absent in ("What hurts most", "What it looks like"):
        assert absent not in page
