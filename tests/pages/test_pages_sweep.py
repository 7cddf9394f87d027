"""The page and the text of a sweep."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from classmark.errors import InvalidReport
from classmark.pages.sweep import sweep_page, sweep_text
from classmark.records import SweepReport, SweepTrial

VALUES = {"model.rate": 0.1, "model.batch_size": 256, "model.dropout": 0.2}
SPACE = {
    "model.rate": {"low": 0.02, "high": 0.5, "log": True},
    "model.batch_size": {"choices": [128, 256]},
    "model.dropout": {"low": 0.0, "high": 0.5},
}


def trial(number: int, value: float | None, **more: object) -> SweepTrial:
    given = {
        "state": "pruned" if value is None else "complete", "values": VALUES, "seconds": 2.0,
        "measured": {"50": 0.31}, "cpu_seconds": 1.5, "is_default": number == 0, "retry_of": None,
        "error": "", **more,
    }  # fmt: skip
    return SweepTrial(number=number, value=value, **given)  # type: ignore[arg-type]


@pytest.fixture
def report() -> SweepReport:
    trials = (
        trial(0, 0.5), trial(1, None), trial(2, 0.75, values={**VALUES, "model.rate": 0.3}),
        trial(3, None, state="failed", error="<b>no two terms</b>"), trial(4, 0.75, retry_of=3),
    )  # fmt: skip
    return SweepReport(
        name="fast", kind="linear", metric="top_1", n_valid=100, n_train=1000, generated=True,
        dataset_digest="d" * 64, budget=5, date="2026-11-27T00:00:00+00:00", machine="Linux",
        command="classmark sweep", packages={"optuna": "5.0.0"}, space=SPACE,
        importance={"model.rate": 0.8, "model.dropout": 0.2}, trials=trials,
    )  # fmt: skip


def test_the_best_is_the_first_of_equals_and_stands_beside_the_default(report: SweepReport) -> None:
    assert report.best is not None
    assert report.best.number == 2
    page = sweep_page(report)
    assert "Trial 2 is the best: 0.7500, +25.00 points against the configuration" in page
    assert "These numbers" in page or "invented" in page
    assert "The test split was not looked at" in page


def test_history_importance_panels_and_every_trial_are_on_the_page(report: SweepReport) -> None:
    page = sweep_page(report)
    history = page[page.index("Value of each trial") : page.index("What mattered")]
    assert history.count('<circle class="first"') == 3
    assert history.count('<circle class="unclear"') == 1  # the pruned one, at its last epoch
    assert page.count("value of each complete trial") == len(SPACE)
    assert len(re.findall(r'<th scope="row">\d</th>', page)) == 5
    assert "ended at 50 %" in page
    assert "trial 3 again" in page
    assert "&lt;b&gt;no two terms&lt;/b&gt;" in page
    assert "<script" not in page


def test_a_sweep_without_a_complete_trial_has_a_page_too(report: SweepReport) -> None:
    none = replace(report, trials=(trial(0, None),), importance={})
    assert "No trial is complete yet" in sweep_page(none)
    assert sweep_text(none) == "trials  1 pruned"
    few = replace(report, importance={})
    assert "Too few trials are complete to tell" in sweep_page(few)


def test_the_text_has_the_best_values_beside_those_before(report: SweepReport) -> None:
    lines = sweep_text(report).splitlines()
    assert lines[0] == "trials            3 complete, 1 pruned, 1 failed"
    assert lines[1] == "best              top_1 0.7500 on valid, trial 2"
    assert lines[2] == "before the sweep  top_1 0.5000 on valid, trial 0"
    assert lines[5].split() == ["model.rate", "0.3", "0.1", "0.80"]


def test_a_report_of_another_version_or_with_a_wrong_field_is_refused(report: SweepReport) -> None:
    with pytest.raises(InvalidReport, match="format version is 9"):
        SweepReport.from_dict({**report.to_dict(), "format_version": 9})
    with pytest.raises(InvalidReport, match="'metric' is 3"):
        SweepReport.from_dict({**report.to_dict(), "metric": 3})
