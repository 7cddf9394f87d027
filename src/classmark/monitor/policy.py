"""What an alarm asks for, by its size: with many papers everything is beyond chance."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from classmark.errors import UsageError
from classmark.records.drift import Action, Alarm, DriftReport, PartTest, Size, WindowTest
from classmark.records.evaluation import AccuracyEstimate
from classmark.records.fields import check_ranges

_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class WatchPolicy:
    """When drift is reported, when it asks for a retrained model, when it pages.

    Attributes:
        alpha: chance of a false alarm, 0..1, of each test of a look (its window; all its clients
            together) and of the whole stream.
        retrain_size: share of papers from which a shift asks for a new model, 0..1.
        page_size: the same, from which somebody is called.
        most_loss: accuracy that may be lost, 0..1: an estimate whose whole interval is further
            below the reference asks for a new model, and so do labels that prove such a loss.
    """

    alpha: float = 0.01
    retrain_size: float = 0.05
    page_size: float = 0.2
    most_loss: float = 0.03

    def __post_init__(self) -> None:
        shares = dict.fromkeys(("retrain_size", "page_size", "most_loss"), (0.0, 1.0))
        check_ranges(self, {"alpha": (0.002, 0.5), **shares}, "the policy")
        if self.page_size < self.retrain_size:
            raise UsageError(
                f"page_size {self.page_size:g} is below retrain_size {self.retrain_size:g}. What "
                "calls somebody must be the larger shift."
            )

    def action_of(self, share: float) -> Action:
        """Return what a shift asks for that is beyond chance.

        Args:
            share: its size, 0..1.
        """
        if share >= self.page_size:
            return "page"
        return "retrain" if share >= self.retrain_size else "report"


def window_alarm(test: WindowTest, size: Size, policy: WatchPolicy) -> tuple[Alarm, ...]:
    """Return the alarm of a window that is beyond chance; the size decides what it asks for."""
    if test.p_value > policy.alpha:
        return ()
    named = [d.name for d in test.shifts if d.p_value <= policy.alpha][:_NAMED]
    carried = f"; most in {', '.join(named)}" if named else ""
    text = (
        f"the papers differ from the reference as if {_share_words(size)} came from another field"
        f"{carried}"
    )
    action = policy.action_of(size.share)
    return (Alarm(kind="window", action=action, p_value=test.p_value, text=text),)


def client_alarms(clients: Iterable[PartTest], policy: WatchPolicy) -> tuple[Alarm, ...]:
    """Return what clients differ; one client is only reported, the others decide."""
    return tuple(
        Alarm(
            kind="client",
            action="report",
            p_value=client.p_value,
            text=f"the papers of key {client.part} differ as if {_share_words(client.size)} came "
            "from another field",
        )
        for client in clients
        if client.p_value <= policy.alpha
    )


def stream_alarm(report: DriftReport, policy: WatchPolicy) -> tuple[Alarm, ...]:
    """Return the alarm of a stream that is beyond chance; the size of the window decides."""
    stream = report.stream
    if stream is None or stream.p_value > policy.alpha:
        return ()
    names = ", ".join(stream.leading)
    text = (
        f"the stream of {stream.n:,} predictions is no longer like its reference; most in {names}"
    )
    action = policy.action_of(report.size.share) if report.size else "report"
    return (Alarm(kind="stream", action=action, p_value=stream.p_value, text=text),)


def labels_alarm(report: DriftReport, policy: WatchPolicy) -> tuple[Alarm, ...]:
    """Return the alarm of labels by which more accuracy is lost than is tolerated."""
    watch = report.labelled.watch if report.labelled else None
    if watch is None or watch.p_value > policy.alpha:
        return ()
    text = (
        f"{watch.right / watch.n:.1%} of {watch.n:,} labels agree with the first category of the "
        f"text alone ({watch.low:.1%} to {watch.high:.1%} at all looks); {watch.tolerated:.1%} is "
        "tolerated"
    )
    return (Alarm(kind="accuracy", action="retrain", p_value=watch.p_value, text=text),)


def _share_words(size: Size) -> str:
    return f"{size.share:.1%} of them ({size.low:.1%} to {size.high:.1%})"


def accuracy_alarm(estimate: AccuracyEstimate | None, policy: WatchPolicy) -> tuple[Alarm, ...]:
    """Return the alarm of an accuracy whose whole interval is too far below the reference."""
    if estimate is None or estimate.reference - estimate.high <= policy.most_loss:
        return ()
    text = (
        f"by the text alone the first category is right for {estimate.value:.1%} of the papers "
        f"({estimate.low:.1%} to {estimate.high:.1%}, estimated without labels); of the reference "
        f"it is for {estimate.reference:.1%}"
    )
    return (Alarm(kind="accuracy", action="retrain", p_value=1 - estimate.level, text=text),)
