"""When a model is worth fitting again: rules, shares, and a replay of a few months."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from classmark.monitor.policy import WatchPolicy
from classmark.retrain import RetrainPolicy
from decay import read_papers
from retrain_fits import Timeline, make_timeline
from retrain_looks import Monitor, alarms_of
from retrain_policy import Run, recovered, replay
from retrain_rules import (
    Moment,
    every,
    first_moment_after,
    last_day,
    never,
    on_alarm,
    on_decision,
    on_estimate,
)
from retrain_warm import SETTINGS, WarmTimeline, measure_continued

RunBenchmark = Callable[..., dict[str, Any]]
MONTHS = ("2009-11", "2009-12", "2010-01", "2010-02", "2010-03")


@pytest.fixture(scope="module")
def timeline(invented: Path, tmp_path_factory: pytest.TempPathFactory) -> Timeline:
    """The 2,500 invented papers as if they were of five months; a fit takes 500 and 250."""
    papers = read_papers(invented)
    of_month = np.arange(len(papers)) * len(MONTHS) // len(papers)
    days = pl.Series("published_date", [f"{MONTHS[i]}-01" for i in of_month])
    folder = tmp_path_factory.mktemp("timeline")
    return make_timeline(papers.with_columns(days), "arxiv", folder, 500, 250)


@pytest.fixture(scope="module")
def monitor(timeline: Timeline) -> Monitor:
    return Monitor(timeline, timeline.kept, 120)


def test_a_fit_takes_the_newest_papers_up_to_its_month(timeline: Timeline) -> None:
    train, valid = timeline.newest("2009-12")
    assert (len(train), len(valid)) == (500, 250)
    newest = [timeline.papers(month).labels for month in MONTHS[:2]]
    wanted = np.concatenate(newest)[-750:]
    assert sorted([*train.labels, *valid.labels]) == sorted(wanted)


def test_a_look_is_what_the_monitor_says_and_is_kept(monitor: Monitor) -> None:
    report = monitor.report("2009-12", "2010-02")
    assert report.window is not None
    assert report.accuracy is not None
    assert report.counts.compared == 120
    assert report.stream is not None
    assert report.stream.n == 240  # the month before is in the stream, too
    assert report.alarms == alarms_of(report, WatchPolicy())
    assert monitor.report("2009-12", "2010-02") == report
    assert monitor.has_report("2009-12", "2010-02")
    assert not monitor.has_report("2009-12", "2010-01")


def test_the_right_answers_of_a_month_are_the_same_each_time(monitor: Monitor) -> None:
    first, again = (monitor.hits("2009-12", "2010-01") for _ in range(2))
    assert len(first) == 120
    assert (first == again).all()


def test_a_replay_changes_the_model_in_the_month_after(monitor: Monitor) -> None:
    run = replay(monitor, every(2), MONTHS[2:])
    assert run.champions == ("2009-12", "2009-12", "2010-02")
    assert run.retrains == ("2010-02",)
    assert replay(monitor, never(), MONTHS[2:]).retrains == ()


def test_the_rules_ask_the_monitor_and_the_retrain_room(monitor: Monitor) -> None:
    moment = Moment(monitor, MONTHS.index("2010-02"), MONTHS.index("2009-12"))
    lost = moment.report.accuracy
    assert lost is not None
    gap = lost.reference - lost.value
    assert not on_estimate(abs(gap) + 0.01)(moment)
    assert on_estimate(max(0.0, gap) - 0.01)(moment)
    assert not on_estimate(-1.0, pause=3)(moment)
    asks = any(alarm.action in ("retrain", "page") for alarm in moment.report.alarms)
    assert on_alarm(WatchPolicy())(moment) == asks
    by_age = RetrainPolicy(most_age_days=31, least_papers=100, least_gain=0.0)
    assert on_decision(by_age, WatchPolicy())(moment)
    assert not on_decision(replace(by_age, least_papers=1_000_000), WatchPolicy())(moment)


def test_an_order_that_ended_lately_holds_the_next_one_back(monitor: Monitor) -> None:
    policy = RetrainPolicy(most_age_days=1, least_papers=1, least_gain=0.0, cooldown_days=32)
    run = replay(monitor, on_decision(policy, WatchPolicy()), MONTHS[2:])
    assert run == Run(MONTHS[2:], ("2009-12", "2010-01", "2010-01"))


def test_a_month_ends_where_the_next_one_begins() -> None:
    assert last_day("2012-02") == "2012-02-29"
    assert first_moment_after("2012-02") == "2012-03-01T00:00:00.000Z"
    assert first_moment_after("2012-12") == "2013-01-01T00:00:00.000Z"


def test_the_share_recovered_lies_between_never_and_the_most_retrains() -> None:
    stale, best = ([np.arange(8) < n] * 50 for n in (2, 6))
    half = [np.arange(8) < n for n in [2, 6] * 25]
    assert recovered(stale, stale, best) == {"value": 0.0, "low": 0.0, "high": 0.0}
    found = recovered(stale, half, best)
    assert found is not None
    assert found["low"] < found["value"] == 0.5 < found["high"]
    assert recovered(best, half, stale) is None


def test_a_continued_fit_begins_with_the_weights_of_the_champion(timeline: Timeline) -> None:
    warm = WarmTimeline(**vars(timeline), base=timeline, first="2009-12", gap=1, chained=True,
                        setting="1 pass at 0.05")  # fmt: skip
    assert warm.start_of("2009-12") is None
    assert warm.kept != timeline.kept
    champion = timeline.model("2009-12").weights
    start = warm.start_of("2010-01")
    assert start is not None
    assert (start.keys == champion.keys).all()
    continued, full = (one.model("2010-01").weights for one in (warm, timeline))
    assert (continued.keys == full.keys).all()
    assert (continued.head != full.head).any()


def test_continued_fits_are_measured_beside_full_ones_on_the_same_papers(monitor: Monitor) -> None:
    found = measure_continued(monitor, ["2010-01"], [(1, False)])
    assert [row["setting"] for row in found["warm"]] == list(SETTINGS)
    for row in found["warm"]:
        assert row["over_full"]["value"] == pytest.approx(row["accuracy"] - row["full"], abs=2e-4)
        assert row["cpu_s"] > 0


@pytest.mark.slow  # a dozen fits, each of a second
def test_the_benchmark_replays_its_policies_and_a_second_run_fits_nothing(
    invented: Path, tmp_path: Path, run_benchmark: RunBenchmark
) -> None:
    plot = tmp_path / "retrain.svg"
    words = ("--dataset", invented, "--work", tmp_path / "work", "--plot", plot, "--tiny")
    first = run_benchmark("retrain_policy.py", *words)
    assert "fitting until 2012-12" in first["stderr"]
    assert len(first["months"]) == len(first["policies"]["never"]["by_month"]) == 8
    assert first["policies"]["monthly"]["retrains"] == 7
    assert first["policies"]["monthly"]["cost_share"] == 1.0
    assert first["policies"]["never"]["cpu_hours"] == 0.0
    assert plot.read_text().startswith("<?xml")
    again = run_benchmark("retrain_policy.py", *words)
    assert "fitting" not in again["stderr"]
    assert again["policies"] == first["policies"]
