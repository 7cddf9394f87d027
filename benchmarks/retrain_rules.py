"""When a model is fitted again: rules that are asked at the end of every month of a replay."""

from __future__ import annotations

import calendar
from collections.abc import Callable
from dataclasses import dataclass, replace

from classmark.monitor.policy import WatchPolicy
from classmark.records import RetrainEvent, RetrainOrder, RetrainState
from classmark.records.drift import DriftReport
from classmark.retrain import RetrainEvidence, RetrainPolicy, decide
from retrain_looks import Monitor, alarms_of

_ASKS = ("retrain", "page")


@dataclass(frozen=True, eq=False)
class Moment:
    """The end of a month, when a rule is asked.

    Attributes:
        monitor: has the papers and looks at the champion.
        place: of the month among those of the timeline.
        fitted: of the month at whose end the champion was fitted.
        orders: that there were, the oldest first.
    """

    monitor: Monitor
    place: int
    fitted: int
    orders: tuple[RetrainState, ...] = ()

    @property
    def age(self) -> int:
        """Months since the newest paper of the champion."""
        return self.place - self.fitted

    @property
    def report(self) -> DriftReport:
        """Return the monitor's look at the month that has ended."""
        months = self.monitor.timeline.months
        return self.monitor.report(months[self.fitted], months[self.place])

    def evidence(self, watch: WatchPolicy | None) -> RetrainEvidence:
        """Return what `classmark retrain` would know; the labels come with the papers.

        Args:
            watch: what is an alarm; None: without a look at the papers.
        """
        timeline = self.monitor.timeline
        reports: tuple[DriftReport, ...] = ()
        if watch is not None:
            reports = (replace(self.report, alarms=alarms_of(self.report, watch)),)
        return RetrainEvidence(
            at_utc=first_moment_after(timeline.months[self.place]),
            champion=timeline.months[self.fitted],
            fitted_until=last_day(timeline.months[self.fitted]),
            new_papers=sum(timeline.sizes[self.fitted + 1 : self.place + 1]),
            newest_paper=last_day(timeline.months[self.place]),
            reports=reports,
            orders=self.orders,
        )


Rule = Callable[[Moment], bool]


def never() -> Rule:
    """Return the rule that a model is never replaced."""
    return lambda _: False


def every(months: int) -> Rule:
    """Return the rule that a model is replaced at an age."""
    return lambda moment: moment.age >= months


def on_alarm(watch: WatchPolicy, pause: int = 1) -> Rule:
    """Return the rule that an alarm of the monitor asks for a new model.

    Args:
        watch: what is an alarm.
        pause: months that a model serves at least.
    """

    def rule(moment: Moment) -> bool:
        if moment.age < pause:
            return False
        return any(alarm.action in _ASKS for alarm in alarms_of(moment.report, watch))

    return rule


def on_estimate(tolerance: float, pause: int = 1) -> Rule:
    """Return the rule that the estimated accuracy is so far below that of the reference.

    Args:
        tolerance: accuracy, 0..1.
        pause: months that a model serves at least.
    """

    def rule(moment: Moment) -> bool:
        if moment.age < pause:
            return False
        found = moment.report.accuracy
        return found is not None and found.reference - found.value > tolerance

    return rule


def on_decision(policy: RetrainPolicy, watch: WatchPolicy) -> Rule:
    """Return the rule of ``classmark.retrain``: alarms, age, cooldown, papers, gain and budget."""

    def rule(moment: Moment) -> bool:
        # No report helps against these, and a look takes a second.
        against = {reason.kind for reason in decide(moment.evidence(None), policy).reasons}
        if against & {"cooldown", "few papers", "budget"}:
            return False
        return decide(moment.evidence(watch), policy).order is not None

    return rule


def ended_order(champion: str, at_utc: str, cpu_s: float) -> RetrainState:
    """Return an order that was promoted at once: a fit takes minutes, a month is the step here."""
    order = RetrainOrder(
        id=at_utc, created_at_utc=at_utc, champion=champion, start="full", reasons=()
    )
    event = RetrainEvent(step="promoted", at_utc=at_utc, cpu_s=cpu_s)
    return RetrainState(order=order, events=(event,))


def last_day(month: str) -> str:
    """Return the last day of a month, ``2010-01-31``."""
    year, number = map(int, month.split("-"))
    return f"{month}-{calendar.monthrange(year, number)[1]:02}"


def first_moment_after(month: str) -> str:
    """Return when the month after begins, in UTC."""
    year, number = map(int, month.split("-"))
    year, number = (year + 1, 1) if number == len(calendar.month_name) - 1 else (year, number + 1)
    return f"{year}-{number:02}-01T00:00:00.000Z"
