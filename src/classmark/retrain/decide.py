"""From what is known to an order for a new model, or to the reasons why there is none."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from classmark.records import (
    RetrainDecision,
    RetrainOrder,
    RetrainReason,
    RetrainState,
)
from classmark.records.drift import Alarm, DriftReport
from classmark.records.registry import RetrainKind
from classmark.retrain.policy import RetrainPolicy, lost_with_age

_SECONDS_OF_DAY = 86_400
_ASKS = ("retrain", "page")


@dataclass(frozen=True, kw_only=True)
class RetrainEvidence:
    """What is known when the decision is made. Days are ``2026-11-28``, times as ``utc_text``.

    Attributes:
        at_utc: the time of the decision.
        champion: digest of the bundle that serves.
        fitted_until: day of the newest paper of its dataset; "" if unknown.
        new_papers: papers with a label that its dataset lacks.
        newest_paper: day of the newest of them; "" if unknown or none.
        reports: what the monitor found about the champion, the oldest first.
        orders: that there were so far, the oldest first.
        asked: the reason of a person who wants a new model; "" if nobody does.
    """

    at_utc: str
    champion: str
    fitted_until: str = ""
    new_papers: int = 0
    newest_paper: str = ""
    reports: tuple[DriftReport, ...] = ()
    orders: tuple[RetrainState, ...] = ()
    asked: str = ""


def decide(evidence: RetrainEvidence, policy: RetrainPolicy) -> RetrainDecision:
    """Return an order, or why there is none.

    A person who asks for a model needs no cause, no gain and no cooldown, but papers and budget.

    Args:
        evidence: what is known.
        policy: how much of it is enough.
    """
    causes = tuple(_causes(evidence, policy))
    against = tuple(_hindrances(evidence, policy, causes))
    order = None
    if not against:
        gain = expected_gain(evidence)
        order = RetrainOrder(
            id=f"{_seconds_of(evidence.at_utc)}-{secrets.token_hex(3)}",
            created_at_utc=evidence.at_utc,
            champion=evidence.champion,
            start=policy.start,
            reasons=causes,
            expected_gain=None if gain is None else round(gain, 4),
        )
    return RetrainDecision(order=order, reasons=causes + against)


def expected_gain(evidence: RetrainEvidence) -> float | None:
    """Return the accuracy, 0..1, that a new model may win; None if nothing says how much.

    The largest of: what a model loses between the newest fitted paper and the newest labelled one
    (``lost_with_age``), what the monitor estimates to be lost, what feedback shows to be lost, and
    the share of the papers that are of another field.
    """
    known = []
    if evidence.fitted_until and evidence.newest_paper:
        known.append(lost_with_age(_days_between(evidence.fitted_until, evidence.newest_paper)))
    if evidence.reports:
        known += _lost_by(evidence.reports[-1])
    return max(known, default=None)


def _lost_by(report: DriftReport) -> Iterator[float]:
    """Yield what a report says may be lost, 0..1."""
    if _asks(report):
        if report.size is not None:
            yield report.size.share
        if report.accuracy is not None:
            yield report.accuracy.reference - report.accuracy.value
    if (lost := _lost_by_feedback(report)) is not None:
        yield lost


def _lost_by_feedback(report: DriftReport) -> float | None:
    """Return how far the whole interval of the live accuracy is below the reference."""
    if report.live is None or report.accuracy is None:
        return None
    high = report.live.top1.high
    return None if high is None else report.accuracy.reference - high


def _causes(evidence: RetrainEvidence, policy: RetrainPolicy) -> Iterator[RetrainReason]:
    if evidence.reports:
        newest = evidence.reports[-1]
        for alarm in newest.alarms:
            if alarm.action in _ASKS:
                yield RetrainReason(kind=_kind_of(alarm), text=alarm.text)
        lost = _lost_by_feedback(newest)
        if lost is not None and newest.live is not None and lost > policy.least_gain:
            yield RetrainReason(
                kind="accuracy",
                text=f"the answers are right for {newest.live.top1.value:.1%} of {newest.live.n:,} "
                f"papers with feedback, at least {lost:.1%} less than on the reference",
            )
    if evidence.fitted_until:
        age = _days_between(evidence.fitted_until, evidence.at_utc)
        if age >= policy.most_age_days:
            yield RetrainReason(
                kind="age",
                text=f"the newest fitted paper is of {evidence.fitted_until}, {age:.0f} days ago "
                f"({policy.most_age_days:g} are allowed); {lost_with_age(age):.1%} of accuracy are "
                "usually lost by then",
            )
    if evidence.asked:
        yield RetrainReason(kind="asked", text=evidence.asked)


def _kind_of(alarm: Alarm) -> RetrainKind:
    return "accuracy" if alarm.kind == "accuracy" else "alarm"


def _hindrances(
    evidence: RetrainEvidence, policy: RetrainPolicy, causes: tuple[RetrainReason, ...]
) -> Iterator[RetrainReason]:
    """Yield what speaks against an order; with a person behind it, only what forbids it."""
    ended = [state for state in evidence.orders if state.outcome]
    if len(ended) < len(evidence.orders):
        open_one = next(state for state in evidence.orders if not state.outcome)
        yield RetrainReason(
            kind="open order",
            text=f"order {open_one.order.id} is open; `classmark retrain run` resumes it",
        )
    if evidence.new_papers < policy.least_papers:
        yield RetrainReason(
            kind="few papers",
            text=f"{evidence.new_papers:,} new papers have a label, {policy.least_papers:,} are "
            "needed",
        )
    yield from _over_budget(evidence, policy, ended)
    if evidence.asked:
        return
    if not causes:
        yield RetrainReason(kind="no cause", text=_nothing_wrong(evidence))
    yield from _too_soon(evidence, policy, ended)
    gain = expected_gain(evidence)
    if gain is not None and gain < policy.least_gain:
        yield RetrainReason(
            kind="no gain",
            text=f"a new model is expected to win {max(gain, 0):.1%} of accuracy, "
            f"{policy.least_gain:.1%} is wanted",
        )


def _nothing_wrong(evidence: RetrainEvidence) -> str:
    if not evidence.reports:
        return "no report of the monitor is about the champion, and it is not too old"
    found = evidence.reports[-1]
    return f"the report of {found.created_at_utc} asks for no new model, and it is not too old"


def _too_soon(
    evidence: RetrainEvidence, policy: RetrainPolicy, ended: list[RetrainState]
) -> Iterator[RetrainReason]:
    if not ended:
        return
    last = ended[-1]
    days = _days_between(last.events[-1].at_utc, evidence.at_utc)
    if days < policy.cooldown_days:
        yield RetrainReason(
            kind="cooldown",
            text=f"the last order ended {days:.1f} days ago ({last.outcome}), and "
            f"{policy.cooldown_days:g} days must pass",
        )


def spent_hours(orders: Iterable[RetrainState], policy: RetrainPolicy, at_utc: str) -> float:
    """Return the CPU-hours that the orders of the span of the budget have taken.

    Args:
        orders: of any age.
        policy: has the span.
        at_utc: its end.
    """
    return sum(
        state.cpu_hours
        for state in orders
        if _days_between(state.order.created_at_utc, at_utc) < policy.budget_days
    )


def _over_budget(
    evidence: RetrainEvidence, policy: RetrainPolicy, ended: list[RetrainState]
) -> Iterator[RetrainReason]:
    """Yield that what was spent, and what the last fit took, is more than the budget."""
    spent = spent_hours(ended, policy, evidence.at_utc)
    next_one = ended[-1].cpu_hours if ended else 0.0
    if spent + next_one > policy.budget_hours:
        yield RetrainReason(
            kind="budget",
            text=f"orders of the last {policy.budget_days:g} days took {spent:.1f} CPU-hours, the "
            f"next may take {next_one:.1f}, and {policy.budget_hours:g} are allowed",
        )


def _asks(report: DriftReport) -> bool:
    return report.action in _ASKS


def _moment(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _days_between(earlier: str, later: str) -> float:
    """Return days from one time to another, 0 if a clock was set back."""
    return max(0.0, (_moment(later) - _moment(earlier)).total_seconds() / _SECONDS_OF_DAY)


def _seconds_of(at_utc: str) -> str:
    return _moment(at_utc).strftime("%Y%m%dT%H%M%SZ")
