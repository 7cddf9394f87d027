from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classmark.errors import InvalidGates, InvalidReport
from classmark.records import GateCheck, GateReport, GoldenAnswer, GoldenAnswers
from classmark.wire import ModelRef

NUMBERS = st.floats(-1e6, 1e6) | st.integers(-5, 5).map(float)


@st.composite
def checks(draw: st.DrawFn) -> GateCheck:
    """Return a check that makes sense, of any kind."""
    value, limit = draw(st.none() | NUMBERS), draw(st.none() | NUMBERS)
    bound = draw(st.sampled_from(["at_least", "at_most"]))
    outcome = draw(st.sampled_from(["passed", "failed", "not_checked"]))
    if value is not None and limit is not None and outcome != "not_checked":
        holds = value >= limit if bound == "at_least" else value <= limit
        outcome = "passed" if holds else "failed"
    return GateCheck(
        group=draw(st.text(max_size=8)),
        name=draw(st.text(max_size=8)),
        scope=draw(st.sampled_from(["all", "period", "category"])),
        part=draw(st.text(max_size=8)),
        bound=bound,
        value=value,
        limit=limit,
        outcome=outcome,
        champion=draw(st.none() | NUMBERS),
        low=draw(st.none() | NUMBERS),
        note=draw(st.text(max_size=20)),
    )


def gate_report(*found: GateCheck, **changes: Any) -> GateReport:
    values: dict[str, Any] = {
        "candidate": ModelRef("mine", "1.1", "c" * 64),
        "champion": ModelRef("mine", "1.0", "a" * 64),
        "dataset_digest": "d" * 64,
        "split": "test",
        "generated": True,
        "n": 300,
        "date": "2026-01-01T00:00:00+00:00",
        "machine": "a machine",
        "command": "classmark registry gate",
        "rules": {"metrics": {"minimum": {"top_1": 0.5}}},
        "left_out": ("signature",),
        "checks": found,
    }
    return GateReport(**{**values, **changes})


def as_json(report: GateReport) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(json.dumps(report.to_dict()))
    return value


HOLDS = GateCheck(group="metrics", name="top_1", value=0.6, limit=0.5, outcome="passed")
FAILS = GateCheck(
    group="metrics", name="ece", bound="at_most", value=0.3, limit=0.1, outcome="failed"
)
OPEN = GateCheck(group="metrics", name="f1", scope="category", part="cs.LG", outcome="not_checked")


@given(st.lists(checks(), max_size=5))
def test_a_report_is_the_same_after_json(found: list[GateCheck]) -> None:
    report = gate_report(*found)
    again = GateReport.from_dict(as_json(report))
    assert again == report


def test_one_failed_line_refuses_and_says_by_how_much() -> None:
    report = gate_report(HOLDS, FAILS, OPEN)
    assert not report.passed
    assert report.failed == (FAILS,)
    assert FAILS.missed_by == pytest.approx(0.2)
    assert (HOLDS.missed_by, OPEN.missed_by) == (None, None)
    assert gate_report(HOLDS, OPEN).passed


def test_a_gate_that_checked_nothing_has_not_passed() -> None:
    assert not gate_report().passed
    assert not gate_report(OPEN).passed


def test_a_check_whose_outcome_is_not_that_of_its_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match=r"top_1 is 0\.4, limit 0\.5: passed"):
        replace(HOLDS, value=0.4)
    value = as_json(gate_report(HOLDS))
    value["checks"][0]["value"] = 0.1
    with pytest.raises(InvalidReport, match=r"contradicts itself: top_1 is 0\.1"):
        GateReport.from_dict(value)


@pytest.mark.parametrize(
    ("key", "lie"), [("passed", True), ("failed", 0), ("checked", 7), ("digest", "b" * 64)]
)
def test_a_report_that_lies_about_its_checks_is_refused(key: str, lie: object) -> None:
    value = {**as_json(gate_report(HOLDS, FAILS)), key: lie}
    with pytest.raises(InvalidReport, match="not that of its checks"):
        GateReport.from_dict(value)


def test_reports_of_another_format_and_unknown_keys_are_refused() -> None:
    value = as_json(gate_report(HOLDS))
    with pytest.raises(InvalidReport, match="format version is 9"):
        GateReport.from_dict({**value, "format_version": 9})
    with pytest.raises(InvalidReport, match="'sort' is not a field"):
        GateReport.from_dict({**value, "sort": 1})


def test_golden_answers_are_the_same_after_json_and_are_never_none() -> None:
    answer = GoldenAnswer(
        id="1", title="", abstract="We colour.", primary=None, first="math.CO", probability=0.4
    )
    goldens = GoldenAnswers(model=ModelRef("mine", "1.0", "a" * 64), answers=(answer,))
    assert GoldenAnswers.from_dict(json.loads(json.dumps(goldens.to_dict()))) == goldens
    with pytest.raises(InvalidGates, match="it has no answers"):
        GoldenAnswers.from_dict({**goldens.to_dict(), "answers": []})
    with pytest.raises(InvalidGates, match="'model' is missing"):
        GoldenAnswers.from_dict({"format_version": 1, "answers": []})
    for other in ([], {}, None, {"format_version": 2}):
        with pytest.raises(InvalidGates, match="format version is"):
            GoldenAnswers.from_dict(other)
