"""What became of a served model: accuracy, alarms, orders and versions over time, as a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from classmark.pages.charts import Moments, TimeForm, over_time
from classmark.pages.frame import render, wrapped
from classmark.pages.svg import Markup
from classmark.records import MetricValue, PromotionEvent, RetrainEvent, RetrainState
from classmark.records.drift import DriftReport, LiveScore

_WIDTH = 860
_COLOURS = ("first", "second")
_ALARM = "alarm"
_ASKS = ("retrain", "page")
_SHOWN_DIGITS = 12
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
    counts = (
        (sum(report.action in _ASKS for report in timeline.reports), "alarm"),
        (len(timeline.orders), "order"),
        (sum(bool(change.made_champion) for change in timeline.changes), "champion"),
    )
    return ", ".join(f"{n:,} {word}{'s' * (n != 1)}" for n, word in counts) + "."


def _tiles(timeline: Timeline) -> Iterator[tuple[str, str, str]]:
    """Yield the accuracy at first, before the latest champion and now, and the last order."""
    scores = [score for _, score in timeline.scores]
    for name, group in (("at first", scores[:1]), *_around_takeover(timeline)):
        if n := sum(score.n for score in group):
            share = sum(score.top1.value * score.n for score in group) / n
            yield f"accuracy {name}", f"{share:.1%}", f"{group[0].name}, {n:,} papers"
    if scores:
        n = sum(score.n for score in scores)
        yield "papers of a known category", f"{n:,}", f"in groups of {scores[0].n:,}"
    for order in timeline.orders[-1:]:
        outcome = (order.outcome or order.events[-1].step).replace("_", " ")
        yield "last order", outcome, f"{order.cpu_hours * 60:.1f} CPU-minutes"
    yield "champion", next(reversed(_champions(timeline)), "none"), "now"


def _around_takeover(timeline: Timeline) -> Iterator[tuple[str, list[LiveScore]]]:
    """Yield the scores between the first alarm and the latest champion, and those after it."""
    taken = [change.at_utc for change in timeline.changes if change.made_champion]
    alarms = [report.created_at_utc for report in timeline.reports if report.action in _ASKS]
    if len(taken) > 1:
        after, champion = taken[-1], _champions(timeline)[-1]
        before = alarms[0] if alarms and alarms[0] < after else ""
        others = [s for at, s in timeline.scores if before <= at < after and s.name != champion]
        yield "before", others
        yield "now", [s for at, s in timeline.scores if at >= after and s.name == champion]


def _champions(timeline: Timeline) -> list[str]:
    made = (change.made_champion for change in timeline.changes)
    return [_name(timeline, digest) for digest in made if digest]


def event_words(event: RetrainEvent) -> str:
    """Return what a step of an order says, in a few words."""
    facts = event.facts
    for key in ("error", "why"):
        if facts.get(key):
            return str(facts[key])
    if event.step == "extended":
        return ", ".join(f"{n:,} new in {split}" for split, n in facts["new"].items())
    if event.step == "evaluated" and "top_1" in facts:
        return f"top-1 {facts['top_1']:.3f} on the test papers"
    if event.step in ("shadow", "canary"):
        return f"{facts['percent']:g} %"
    return str(facts["digest"])[:_SHOWN_DIGITS] if event.step == "registered" else ""


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
        yield _moment(report.created_at_utc), f"monitor: {report.action}", wrapped(_alarms(report))
    for state in timeline.orders:
        for event in state.events:
            causes = "; ".join(reason.text for reason in state.order.reasons)
            words = causes if event.step == "ordered" else event_words(event)
            yield _moment(event.at_utc), f"order: {event.step.replace('_', ' ')}", wrapped(words)
    for change in timeline.changes:
        if change.action not in _QUIET:
            words = ": ".join(filter(None, (_name(timeline, change.to_digest), change.why)))
            what = f"registry: {change.action.replace('_', ' ')}"
            yield _moment(change.at_utc), what, wrapped(words)


def _alarms(report: DriftReport) -> str:
    """Return what the alarms say; of those about single keys, only how many there are."""
    if not report.alarms:
        return "nothing is beyond chance"
    said = [alarm.text for alarm in report.alarms if alarm.kind != "client"]
    if keys := len(report.alarms) - len(said):
        said.append(f"{keys} API key{'s' * (keys > 1)} alone")
    return "; ".join(said)


def _moment(at_utc: str) -> str:
    return at_utc[:19].replace("T", " ")
