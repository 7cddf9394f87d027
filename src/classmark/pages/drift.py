"""What a look at the journal found: for the terminal, and as a page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from html import escape

from classmark.pages.charts import Moments, Series, TimeForm, bars, changes, over_time
from classmark.pages.frame import render, with_note, wrapped
from classmark.pages.svg import Markup
from classmark.pages.text import aligned
from classmark.records import MetricValue
from classmark.records.drift import (
    DriftReport,
    LiveAccuracy,
    LiveScore,
    PartTest,
    Shift,
    Size,
    TextsBehind,
)
from classmark.records.evaluation import AccuracyEstimate

_SHOWN = 8
_ON_PAGE = 12
_MOST_LOOKS = 200
_TESTS = {
    "window": "the window",
    "stream": "the continuous watch",
    "client": "one API key",
    "accuracy": "the accuracy",
}
_VERDICTS = {
    "none": "Nothing is beyond chance.",
    "report": "Something has changed beyond chance; it is too little to act on.",
    "retrain": "The policy asks for a new model.",
    "page": "The policy calls somebody.",
}


def drift_text(report: DriftReport) -> str:
    """Return a report as lines, no wider than 100 columns."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: DriftReport) -> Iterator[str]:
    c = report.counts
    yield f"{report.of_whom}, {c.compared:,} papers compared with {report.reference}"
    if report.since_utc:
        yield f"from {report.since_utc} to {report.until_utc}"
    yield (
        f"{c.read:,} predictions read: {c.repeated:,} of papers that were asked before, "
        f"{c.without_features:,} without features, {c.left_out:,} beyond the largest window"
    )
    yield ""
    yield from _window_lines(report)
    for title, parts in (("keys", report.clients), ("papers ranked first in", report.parts)):
        yield from _part_lines(title, parts, report.alpha)
    if report.live is not None:
        live = report.live
        yield (
            f"live accuracy {live.top1.value:.1%} ({live.top1.low:.1%} to {live.top1.high:.1%}) "
            f"of {live.n:,} papers with feedback, of {live.name}"
        )
    if report.stream is not None:
        s = report.stream
        yield (
            f"stream of {s.n:,} predictions since {s.begun_at_utc}: martingale {s.martingale:.3g}, "
            f"p = {s.p_value:.3g}"
        )
    yield from _label_lines(report)
    yield from report.notes
    yield ""
    if not report.alarms:
        yield f"nothing is beyond chance (alpha {report.alpha:g})"
    for alarm in report.alarms:
        yield f"{alarm.action}: {alarm.text} (p = {alarm.p_value:.3g})"


def _window_lines(report: DriftReport) -> Iterator[str]:
    if report.window is None or report.size is None:
        return
    test = report.window
    yield f"p = {test.p_value:.3g} for the whole, size {size_words(report.size)}"
    rows = [
        (name, *(f"{share:.1%}" for share in pair))
        for name, pair in (
            ("mean confidence", report.confidence),
            ("abstained", report.abstained),
        )
    ]
    rows += [
        (f"ranked first: {code}", *(f"{share:.1%}" for share in pair))
        for code, pair in list(report.categories.items())[:_SHOWN]
    ]
    yield aligned([("", "window", "reference"), *rows], left=(0,))
    if report.accuracy is not None:
        a = report.accuracy
        yield (
            f"estimated accuracy of the text alone {_share_of(a)}, {a.reference:.1%} on the "
            "reference"
        )
    named = [s for s in test.shifts if s.p_value <= report.alpha][:_SHOWN]
    if named:
        yield ""
        table = [(s.name, f"{s.standardised:+.1f}", f"{s.p_value:.3g}") for s in named]
        yield aligned([("carried by", "standardised", "p"), *table], left=(0,))
    yield ""


def _part_lines(title: str, parts: tuple[PartTest, ...], alpha: float) -> Iterator[str]:
    found = [part for part in parts if part.p_value <= alpha][:_SHOWN]
    if found:
        rows = [(p.part, f"{p.n:,}", size_words(p.size), f"{p.p_value:.3g}") for p in found]
        yield aligned([(title, "papers", "size", "p"), *rows], left=(0,))
        yield ""


def _label_lines(report: DriftReport) -> Iterator[str]:
    found = report.labelled
    if found is None:
        return
    yield f"{found.labels:,} papers of the window have a label ({found.sources})"
    if found.estimate is not None:
        yield f"accuracy of the answers by these and all estimates {_share_of(found.estimate)}"
    if found.watch is not None and found.watch.n:
        w = found.watch
        yield (
            f"{w.n:,} labels since {w.begun_at_utc}: {w.right / w.n:.1%} right by the text alone "
            f"({w.low:.1%} to {w.high:.1%}),"
        )
        yield f"{w.tolerated:.1%} is tolerated, p = {w.p_value:.3g}"


def _share_of(estimate: AccuracyEstimate) -> str:
    return f"{estimate.value:.1%} ({estimate.low:.1%} to {estimate.high:.1%})"


def size_words(size: Size) -> str:
    """Return a size with its interval."""
    return f"{size.share:.1%} ({size.low:.1%} to {size.high:.1%})"


def accuracy_text(found: LiveAccuracy) -> str:
    """Return a live accuracy as lines, no wider than 100 columns."""
    counts = (
        (found.n_harvested, "known from papers"),
        (found.n_feedback, "from feedback"),
        (found.n_unlabelled, "not known"),
        (found.n_duplicates, "asked before"),
        (found.n_ambiguous, "with as many for one category as for another"),
        (found.n_retired, "of a retired category"),
    )
    named = ", ".join(f"{n:,} {words}" for n, words in counts)
    lines = [f"{found.n_predictions:,} predictions: {named}"]
    if found.overall is None:
        lines.append("No category is known yet. Give files of papers, or ask for feedback.")
        return "\n".join(lines) + "\n"
    lines += ["", _score_table([found.overall, *found.versions, *found.months, *found.categories])]
    if found.lasting:
        low, high = found.lasting
        lines += [
            "",
            f"top-1 is {low:.1%} to {high:.1%} however often you look, if the labels are of papers "
            "drawn at",
            "random and it stays the same. Feedback on wrong answers is not random.",
        ]
    if found.joined is not None:
        j = found.joined
        lines.append(
            f"by {j.labels:,} labels and the estimates for all {j.papers:,} papers: {_share_of(j)}"
        )
    if found.by_author is not None:
        lines += [
            "",
            "as the authors filed them, a weaker source:",
            _score_table([found.by_author]),
        ]
    return "\n".join(lines) + "\n"


def _score_table(scores: Iterable[LiveScore]) -> str:
    head = ("", "papers", "top-1", "95 %", "top-5", "accepted", "abstained", "sets cover")
    rows = [
        (
            *(score.name, f"{score.n:,}", f"{score.top1.value:.1%}"),
            f"{score.top1.low:.1%} to {score.top1.high:.1%}",
            *(f"{m.value:.1%}" if m else "-" for m in (score.top5, score.accepted)),
            f"{score.abstained:.1%}",
            f"{score.covered.value:.1%}" if score.covered else "-",
        )
        for score in scores
    ]
    return aligned([head, *rows], left=(0,))


def drift_page(
    report: DriftReport,
    *,
    history: Sequence[DriftReport] = (),
    texts: TextsBehind | None = None,
) -> str:
    """Return the report as one HTML file that needs nothing else.

    Args:
        report: of a look.
        history: reports of any model, the oldest first; those of this model are drawn.
        texts: words and titles to show; a page without them holds no text of a paper.

    Raises:
        MissingExtra: jinja2 is not installed.
    """
    carried = [shift for shift in _shifts(report) if shift.p_value <= report.alpha]
    return render(
        "drift.html",
        title=f"Drift of {report.of_whom}",
        lead=_VERDICTS[report.action],
        generated=False,
        report=report,
        tiles=list(_tiles(report)),
        alarms=[
            (alarm.action, _TESTS[alarm.kind], _p(alarm.p_value), wrapped(alarm.text))
            for alarm in report.alarms
        ],
        over_time=_over_time(report, history),
        most=_ON_PAGE,
        shares=_shares_figure(report),
        shares_table=list(_shares(report)),
        carried=_carried_figure(carried[:_ON_PAGE]),
        n_carried=len(carried),
        shifts=list(_shift_rows((carried or _shifts(report))[:_ON_PAGE])),
        parts=list(_parts(report)),
        leading=[
            (name, f"{wealth:.2f}")
            for name, wealth in (report.stream.leading if report.stream else {}).items()
        ],
        texts=texts,
        **_texts(texts),
        origin=_origin(report),
    )


def _texts(texts: TextsBehind | None) -> dict[str, list[tuple[str, ...]]]:
    if texts is None:
        return {"words": [], "papers": []}
    words = [(rise.word, f"{rise.window:.1%}", f"{rise.before:.1%}") for rise in texts.words]
    papers = [
        (wrapped(p.title), p.primary or "not accepted", f"{p.distance:+.2f}", p.prediction_id)
        for p in texts.papers
    ]
    return {"words": [*words], "papers": [*papers]}


def _shifts(report: DriftReport) -> Sequence[Shift]:
    return report.window.shifts if report.window else ()


def _shift_rows(shifts: Iterable[Shift]) -> Iterator[tuple[str, ...]]:
    for s in shifts:
        means = f"{s.window:.4g}", f"{s.reference:.4g}"
        yield (s.name, *means, f"{s.standardised:+.1f}", _p(s.p_value))


def _shares(report: DriftReport) -> Iterator[tuple[str, ...]]:
    pairs = {"mean confidence": report.confidence, "without an accepted category": report.abstained}
    for name, pair in (*pairs.items(), *report.categories.items()):
        if pair:
            yield (name, *(f"{share:.1%}" for share in pair))


def _parts(report: DriftReport) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """Yield the tables of parts: what they are, and their rows."""
    for title, parts in (("API key", report.clients), ("category", report.parts)):
        if parts:
            yield title, [_part_row(part, report.alpha) for part in parts]


def _p(value: float) -> str:
    return f"{value:.3g}"


def _tiles(report: DriftReport) -> Iterator[tuple[str, str, str]]:
    """Yield what a reader looks for first: name, value, and what is below it."""
    yield "action", report.action, f"alpha {report.alpha:g}"
    if report.size is not None:
        s = report.size
        ends = f"{s.low:.1%} to {s.high:.1%} of the papers"
        yield "size, from another field", f"{s.share:.1%}", ends
    if report.window is not None:
        yield "p-value of the window", _p(report.window.p_value), "chance of it without a change"
    c = report.counts
    yield "papers compared", f"{c.compared:,}", f"of {c.read:,} predictions"
    if report.accuracy is not None:
        a = report.accuracy
        ends = f"{a.low:.1%} to {a.high:.1%}; reference {a.reference:.1%}"
        yield "estimated accuracy, text alone", f"{a.value:.1%}", ends
    if report.live is not None:
        top = report.live.top1
        ends = f"{top.low:.1%} to {top.high:.1%}; {report.live.n:,} papers with feedback"
        yield "live accuracy", f"{top.value:.1%}", ends
    if report.labelled is not None and report.labelled.estimate is not None:
        b = report.labelled.estimate
        ends = f"{b.low:.1%} to {b.high:.1%}; {b.labels:,} labels"
        yield "accuracy of the answers", f"{b.value:.1%}", ends
    if report.stream is not None:
        stream = report.stream
        yield (
            "martingale",
            f"{stream.martingale:.3g}",
            f"stream of {stream.n:,}, p {_p(stream.p_value)}",
        )


def _over_time(report: DriftReport, history: Sequence[DriftReport]) -> tuple[Markup, ...]:
    """Return p-values and sizes over the looks of this model; nothing for fewer than two."""
    same = [r for r in history if r.model.digest == report.model.digest]
    if all(r.created_at_utc != report.created_at_utc for r in same):
        same.append(report)
    looks = [(datetime.fromisoformat(r.created_at_utc).timestamp(), r) for r in same]
    looks = looks[-_MOST_LOOKS:]
    window = [(at, MetricValue(value=r.window.p_value)) for at, r in looks if r.window]
    stream = [(at, MetricValue(value=r.stream.p_value)) for at, r in looks if r.stream]
    sizes = [
        (at, MetricValue(value=s.share, low=s.low, high=s.high))
        for at, s in ((at, r.size) for at, r in looks)
        if s is not None
    ]
    if len(window) < 2:
        return ()
    both = [Moments(name="window", css="first", points=window)]
    if len(stream) > 1:
        both.append(Moments(name="stream", css="second", points=stream))
    size = [Moments(name="size", css="first", points=sizes)]
    return (
        over_time(both, "p-values over time", "p-value", TimeForm(mark=report.alpha)),
        over_time(size, "Size over time with intervals", "share of papers"),
    )


def _shares_figure(report: DriftReport) -> Markup:
    shown = dict(list(report.categories.items())[:_ON_PAGE])
    if not shown:
        return Markup()
    window, reference = zip(*((100 * a, 100 * b) for a, b in shown.values()), strict=True)
    series = (
        Series(name="window", css="second", values=window),
        Series(name="reference", css="first", values=reference),
    )
    return bars(list(shown), series, "Categories that moved", "papers ranked first there, %")


def _carried_figure(named: Sequence[Shift]) -> Markup:
    rows = [(shift.name.removeprefix("predicted "), shift.standardised) for shift in named]
    return changes(rows, "What is behind the difference") if rows else Markup()


def _part_row(part: PartTest, alpha: float) -> tuple[str, ...]:
    css = "second" if part.p_value <= alpha else "unclear"
    share = with_note(f"{part.size.share:.1%}", f"{part.size.low:.1%} to {part.size.high:.1%}")
    name = Markup(f'<span class="key {css}"></span>{escape(part.part)}')
    return (name, f"{part.n:,}", share, _p(part.p_value))


def _origin(report: DriftReport) -> dict[str, str]:
    c = report.counts
    return {
        "model": report.of_whom,
        "model digest": report.model.digest,
        "compared with": report.reference,
        "predictions": f"{c.read:,} read: {c.repeated:,} of papers that were asked before, "
        f"{c.without_features:,} without features, {c.left_out:,} beyond the largest window",
        "oldest": report.since_utc,
        "newest": report.until_utc,
        "authors": f"used for {report.used_authors:.1%}" if report.window else "",
        "looked at": report.created_at_utc,
    }
