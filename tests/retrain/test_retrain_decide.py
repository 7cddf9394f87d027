"""An order comes of causes, and of nothing that speaks against it; each reason is said."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classmark.errors import UsageError
from classmark.records import MetricValue, RetrainEvent, RetrainOrder, RetrainState, utc_text
from classmark.records.drift import Action, Alarm, AlarmKind, Counts, DriftReport, LiveScore, Size
from classmark.records.evaluation import AccuracyEstimate
from classmark.records.registry import RetrainStep
from classmark.retrain import (
    LOST_WITH_AGE,
    RetrainEvidence,
    RetrainPolicy,
    decide,
    expected_gain,
    lost_with_age,
)
from classmark.wire import ModelRef

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
POLICY = RetrainPolicy(
    cooldown_days=100, least_papers=500, least_gain=0.01, most_age_days=365, budget_hours=10
)
ESTIMATE = AccuracyEstimate(
    papers=1000, labels=0, value=0.55, low=0.53, high=0.57, level=0.95, reference=0.63
)


def at(days_ago: float) -> str:
    return utc_text(round((NOW - timedelta(days=days_ago)).timestamp() * 1000))


def day(days_ago: float) -> str:
    return at(days_ago)[:10]


def report(
    action: Action = "retrain",
    *,
    kind: AlarmKind = "window",
    share: float = 0.2,
    accuracy: AccuracyEstimate | None = None,
    live: LiveScore | None = None,
) -> DriftReport:
    alarm = Alarm(kind=kind, action=action, p_value=0.001, text="the papers differ")
    return DriftReport(
        model=ModelRef(name="fast", version="2.0", digest="a" * 64),
        reference="validation papers",
        created_at_utc=at(0),
        since_utc=at(1),
        until_utc=at(0),
        counts=Counts(read=1000, compared=1000, repeated=0, without_features=0, left_out=0),
        alpha=0.01,
        window=None,
        size=Size(share=share, low=share / 2, high=share * 2),
        accuracy=accuracy,
        live=live,
        alarms=() if action == "none" else (alarm,),
    )


def live(top1: float, half: float = 0.02) -> LiveScore:
    value = MetricValue(value=top1, low=top1 - half, high=top1 + half)
    return LiveScore(
        name="30 days",
        n=2000,
        top1=value,
        top5=value,
        n_accepted=0,
        accepted=None,
        abstained=0.0,
        n_sets=0,
        covered=None,
    )


def order(ended: RetrainStep | None, *, days_ago: float, cpu_hours: float = 1.0) -> RetrainState:
    made = RetrainOrder(
        id=f"order-{days_ago}",
        created_at_utc=at(days_ago),
        champion="b" * 64,
        start="full",
        reasons=(),
    )
    steps = [RetrainEvent(step="trained", at_utc=at(days_ago), cpu_s=3600 * cpu_hours)]
    if ended is not None:
        steps.append(RetrainEvent(step=ended, at_utc=at(days_ago)))
    return RetrainState(order=made, events=tuple(steps))


ALARMED = RetrainEvidence(
    at_utc=at(0),
    champion="a" * 64,
    fitted_until=day(200),
    new_papers=5000,
    newest_paper=day(1),
    reports=(report(),),
)
QUIET = replace(ALARMED, reports=(report("none"),))


def kinds(evidence: RetrainEvidence, policy: RetrainPolicy = POLICY) -> list[str]:
    return [reason.kind for reason in decide(evidence, policy).reasons]


def test_an_alarm_that_asks_for_a_model_gives_an_order_with_its_reason() -> None:
    decision = decide(ALARMED, POLICY)
    assert decision.order is not None
    assert decision.order.champion == "a" * 64
    assert [reason.text for reason in decision.order.reasons] == ["the papers differ"]
    assert decision.order.id.startswith("20261128T120000Z-")
    assert decision.order.expected_gain == pytest.approx(0.2)


@pytest.mark.parametrize("action", ["none", "report"])
def test_an_alarm_that_is_only_reported_is_no_cause(action: Action) -> None:
    assert kinds(replace(ALARMED, reports=(report(action),))) == ["no cause"]


def test_only_the_newest_report_counts() -> None:
    assert kinds(replace(ALARMED, reports=(report(), report("none")))) == ["no cause"]


def test_without_a_report_and_without_age_there_is_no_cause() -> None:
    reasons = decide(replace(ALARMED, reports=()), POLICY).reasons
    assert "no report of the monitor" in reasons[0].text


def test_old_papers_are_a_cause_without_any_alarm() -> None:
    decision = decide(replace(QUIET, fitted_until=day(366)), POLICY)
    assert decision.order is not None
    assert "366 days ago (365 are allowed)" in decision.order.reasons[0].text
    assert kinds(replace(QUIET, fitted_until=day(364))) == ["no cause"]


def test_an_estimated_loss_of_accuracy_is_a_cause_and_its_size_the_gain() -> None:
    found = report(kind="accuracy", share=0.0, accuracy=ESTIMATE)
    decision = decide(replace(ALARMED, reports=(found,)), POLICY)
    assert decision.order is not None
    assert decision.order.reasons[0].kind == "accuracy"
    assert decision.order.expected_gain == pytest.approx(0.08)


@pytest.mark.parametrize(("top1", "expected"), [(0.55, ["accuracy"]), (0.61, ["no cause"])])
def test_feedback_that_shows_a_loss_is_a_cause(top1: float, expected: list[str]) -> None:
    found = report("none", accuracy=replace(ESTIMATE, value=0.63), live=live(top1))
    assert kinds(replace(ALARMED, reports=(found,))) == expected


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"orders": (order("promoted", days_ago=99),)}, "cooldown"),
        ({"orders": (order("refused", days_ago=1),)}, "cooldown"),
        ({"orders": (order(None, days_ago=1),)}, "open order"),
        ({"new_papers": 499}, "few papers"),
        ({"orders": (order("promoted", days_ago=200, cpu_hours=5.1),)}, "budget"),
    ],
)
def test_something_speaks_against_an_order(changed: dict[str, object], expected: str) -> None:
    decision = decide(replace(ALARMED, **changed), POLICY)  # type: ignore[arg-type]
    assert decision.order is None
    assert [reason.kind for reason in decision.reasons] == ["alarm", expected]


def test_an_old_order_neither_costs_nor_waits() -> None:
    earlier = (order("promoted", days_ago=400, cpu_hours=9.0), order("promoted", days_ago=101))
    assert decide(replace(ALARMED, orders=earlier), POLICY).order is not None


def test_papers_as_old_as_those_of_the_model_promise_no_gain() -> None:
    aged = replace(QUIET, fitted_until=day(400), newest_paper=day(390))
    assert kinds(aged) == ["age", "no gain"]


def test_a_person_needs_no_cause_no_gain_and_no_cooldown_but_papers_and_budget() -> None:
    asked = replace(
        *(QUIET,), asked="a category was split", orders=(order("promoted", days_ago=1),)
    )
    assert decide(asked, POLICY).order is not None
    assert kinds(replace(asked, new_papers=0)) == ["asked", "few papers"]
    assert kinds(asked, replace(POLICY, budget_hours=1.5)) == ["asked", "budget"]


def test_an_unknown_age_is_no_cause_and_promises_nothing() -> None:
    unknown = replace(QUIET, fitted_until="", newest_paper="")
    assert expected_gain(unknown) is None
    assert kinds(unknown) == ["no cause"]


def test_a_clock_that_was_set_back_is_as_if_no_time_had_passed() -> None:
    assert kinds(replace(ALARMED, orders=(order("promoted", days_ago=-5),))) == [
        "alarm",
        "cooldown",
    ]


def test_a_budget_of_zero_says_that_no_fit_keeps_to_it() -> None:
    with pytest.raises(
        UsageError, match=r"budget_hours of the policy is 0, and no fit stays within that"
    ):
        RetrainPolicy(budget_hours=0)


def test_an_unknown_name_of_the_policy_is_named() -> None:
    with pytest.raises(UsageError, match=r"cooldown_day.*It may have cooldown_days, least_papers"):
        RetrainPolicy.from_dict({"cooldown_day": 3})


@given(days=st.floats(0, 5000), more=st.floats(0, 2000))
def test_a_model_never_gets_better_with_age(days: float, more: float) -> None:
    assert 0 <= lost_with_age(days) <= lost_with_age(days + more) <= LOST_WITH_AGE[-1]


def test_the_curve_of_age_is_that_of_the_committed_report() -> None:
    path = Path(__file__).parents[2] / "benchmarks/reports/decay.json"
    measured = json.loads(path.read_text())["lost_by_age"]["recent"]
    assert [one["lost"]["value"] for one in measured] == list(LOST_WITH_AGE)


@given(
    new_papers=st.integers(0, 2000),
    aged=st.integers(0, 800),
    spent=st.floats(0, 20),
    ended=st.one_of(st.none(), st.floats(0, 300)),
    asked=st.sampled_from(["", "please"]),
    alarm=st.sampled_from(["none", "report", "retrain", "page"]),
)
def test_there_is_an_order_exactly_if_nothing_speaks_against_it(
    *, new_papers: int, aged: int, spent: float, ended: float | None, asked: str, alarm: Action
) -> None:
    orders = () if ended is None else (order("promoted", days_ago=ended, cpu_hours=spent),)
    evidence = replace(
        ALARMED,
        reports=(report(alarm),),
        new_papers=new_papers,
        fitted_until=day(aged),
        orders=orders,
        asked=asked,
    )
    decision = decide(evidence, POLICY)
    against = [reason for reason in decision.reasons if not reason.speaks_for]
    assert (decision.order is None) == bool(against)
    if decision.order is not None:
        assert new_papers >= POLICY.least_papers
        assert decision.order.reasons == decision.reasons
        assert asked or any(reason.speaks_for for reason in decision.reasons)


def test_an_order_survives_its_file() -> None:
    decided = decide(ALARMED, POLICY).order
    assert decided is not None
    state = replace(order("promoted", days_ago=3), order=decided)
    assert RetrainState.from_dict(json.loads(json.dumps(state.to_dict()))) == state
    assert state.outcome == "promoted"
    assert state.cpu_hours == pytest.approx(1.0)
