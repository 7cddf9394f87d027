"""What became of a served model: accuracy, alarms, orders and versions over time, as a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from classmark.pages.charts import Moments, TimeForm, over_time
from classmark.pages.frame import interval, render, wrapped
from classmark.pages.svg import Markup
from classmark.records import MetricValue, PromotionEvent, RetrainState
from classmark.records.drift import DriftReport, LiveScore

_WIDTH = 860
_COLOURS = ("first", "second")
_ALARM = "alarm"
_ASKS = ("retrain", "page")
_QUIET = ("create", "collect", "trust", "revoke")


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """What is drawn; all in the order of time.

    Attributes:
        scores: times, and how right a version was on papers whose category became known.
        reports: of the monitor.
        changes: of the registry.
        orders: to retrain.
        names: what people call a bundle, by digest.
        generated: the papers are invented.
        origin: where the numbers come from.
    """

    scores: Sequence[tuple[str, LiveScore]] = ()
    reports: Sequence[DriftReport] = ()
    changes: Sequence[PromotionEvent] = ()
    orders: Sequence[RetrainState] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    generated: bool = False
    origin: Mapping[str, str] = field(default_factory=dict)


def timeline_page(timeline: Timeline) -> str:
    """Return the timeline as one HTML file that needs nothing else.

    Raises:
        MissingExtra: jinja2 is not installed.
    """
    return render(
        "timeline.html",
        title="What became of the model",
        lead=_lead(timeline),
        generated=timeline.generated,
        tiles=list(_tiles(timeline)),
        accuracy=_accuracy(timeline),
        sizes=_sizes(timeline),
        rows=sorted(_rows(timeline), key=lambda row: row[0]),
        origin=dict(timeline.origin),
    )


def _lead(timeline: Timeline) -> str:
    champions = [c for c in timeline.changes if c.made_champion]
    alarms = sum(report.action in _ASKS for report in timeline.reports)
    return (
        f"{alarms:,} alarms that ask for a new model, {len(timeline.orders):,} orders, "
        f"{len(champions):,} champions."
    )


def _tiles(timeline: Timeline) -> Iterator[tuple[str, str, str]]:
    """Yield the accuracy at first, at its lowest and at last, and what the orders took."""
    if timeline.scores:
        first, last = timeline.scores[0][1], timeline.scores[-1][1]
        lowest = min((score for _, score in timeline.scores), key=lambda s: s.top1.value)
        for name, score in (("at first", first), ("at its lowest", lowest), ("at last", last)):
            note = f"{interval(score.top1)}; {score.name}, {score.n:,} papers"
            yield f"accuracy {name}", f"{score.top1.value:.1%}", note
    for order in timeline.orders[-1:]:
        said = (order.outcome or order.events[-1].step).replace("_", " ")
        yield "last order", said, f"{order.cpu_hours * 60:.1f} CPU-minutes"


def _seconds(at_utc: str) -> float:
    return datetime.fromisoformat(at_utc).timestamp()


def _flags(timeline: Timeline) -> list[tuple[float, str]]:
    """Return the times of alarms and of new champions; each name is shown at its first time."""
    alarms = [r.created_at_utc for r in timeline.reports if r.action in _ASKS]
    flags = [(_seconds(at), _ALARM) for at in alarms[:1]]
    for change in timeline.changes:
        if digest := change.made_champion:
            flags.append((_seconds(change.at_utc), _name(timeline, digest).rpartition("@")[2]))
    begun = _seconds(timeline.scores[0][0])
    return sorted((max(at, begun), name) for at, name in flags)


def _accuracy(timeline: Timeline) -> Markup:
    """Return the accuracy over time, one line a version, with alarms and new champions."""
    if not timeline.scores:
        return Markup()
    by_version: dict[str, list[tuple[float, MetricValue]]] = {}
    for at, score in timeline.scores:
        by_version.setdefault(score.name, []).append((_seconds(at), score.top1))
    series = [
        Moments(name=name, css=_COLOURS[number % len(_COLOURS)], points=points)
        for number, (name, points) in enumerate(by_version.items())
    ]
    form = TimeForm(flags=_flags(timeline), width=_WIDTH)
    return over_time(series, "Accuracy over time by version, with intervals", "accuracy", form)


def _sizes(timeline: Timeline) -> Markup:
    """Return the size of the shift over the looks of the monitor."""
    points = [
        (_seconds(r.created_at_utc), MetricValue(value=s.share, low=s.low, high=s.high))
        for r, s in ((r, r.size) for r in timeline.reports)
        if s is not None
    ]
    if not points:
        return Markup()
    series = [Moments(name="size of the shift", css="second", points=points)]
    return over_time(series, "Drift over time", "share of papers", TimeForm(width=_WIDTH))


def _name(timeline: Timeline, digest: str | None) -> str:
    return timeline.names.get(digest or "", (digest or "")[:12])


def _rows(timeline: Timeline) -> Iterator[tuple[str, str, Markup]]:
    """Yield what happened: when, what, and in words."""
    for report in timeline.reports:
        said = "; ".join(alarm.text for alarm in report.alarms) or "nothing is beyond chance"
        yield _moment(report.created_at_utc), f"monitor: {report.action}", wrapped(said)
    for state in timeline.orders:
        for event in state.events:
            causes = "; ".join(reason.text for reason in state.order.reasons)
            said = causes if event.step == "ordered" else str(event.facts.get("why", ""))
            yield _moment(event.at_utc), f"order: {event.step.replace('_', ' ')}", wrapped(said)
    for change in timeline.changes:
        if change.action not in _QUIET:
            said = " ".join(filter(None, (_name(timeline, change.to_digest), change.why)))
            words = f"registry: {change.action.replace('_', ' ')}"
            yield _moment(change.at_utc), words, wrapped(said)


def _moment(at_utc: str) -> str:
    return at_utc[:19].replace("T", " ")
