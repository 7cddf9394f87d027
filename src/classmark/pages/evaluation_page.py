"""The page of one evaluation: headline, calibration, years, sets, slices, categories, errors."""

from __future__ import annotations

from html import escape

from classmark.pages import figures
from classmark.pages.document import document, facts, pair, section
from classmark.pages.render import METRIC_TITLES
from classmark.pages.tables import (
    Markup,
    interval,
    number,
    table,
    with_interval,
)
from classmark.records import (
    EvaluationDetails,
    EvaluationReport,
    MetricValue,
    SliceReport,
)
from classmark.records.evaluation import FEW_PAPERS

N_NEVER = 30
_TILES = ("top_1", "top_5", "macro_f1", "ece", "set_coverage", "set_size")
_TILE_NAMES = {
    "top_1": "Top-1 accuracy",
    "top_5": "Top-5 accuracy",
    "macro_f1": "Macro-F1",
    "ece": "Calibration error",
    "set_coverage": "Coverage of sets",
    "set_size": "Categories in a set",
}


def render_page(report: EvaluationReport, details: EvaluationDetails) -> str:
    """Return the report as one HTML file that needs nothing else.

    Args:
        report: what was measured.
        details: of the same table; with titles only where the caller has the papers.
    """
    model = f"{report.model.name} {report.model.version}"
    where = f", split {report.split}" if report.split else ""
    left_out = report.n_unknown
    lead = f"Evaluated on {report.n:,} papers{where}."
    if left_out:
        lead += f" {left_out:,} more have no primary category that the model knows."
    sections = [
        _tiles(report),
        pair(_reliability(report, details), _years(report)),
        pair(_sets(report), _all_metrics(report)),
        _slices(report, details),
        _pairs(report, details),
        _categories(report, details),
        _errors(details),
        _year_table(report),
        _origin(report),
    ]
    return document(f"How good is {model}?", lead, sections, generated=report.generated)


def _tiles(report: EvaluationReport) -> str:
    tiles = ""
    for name in _TILES:
        if name in report.metrics:
            metric, digits = report.metrics[name], _digits(name)
            note = interval(metric, digits)
            tiles += (
                f"<div><dt>{_TILE_NAMES[name]}</dt><dd><span class=value>"
                f"{number(metric, digits)}</span><small>{note}</small>{_tile_note(report, name)}"
                "</dd></div>"
            )
    return f'<dl class="tiles">{tiles}</dl>\n<p class="hint">{escape(_level_note(report))}</p>'


def _tile_note(report: EvaluationReport, name: str) -> str:
    if name == "ece" and "ece_floor" in report.metrics:
        floor = report.metrics["ece_floor"].value
        return f"<small>by chance {floor:.3f}</small>"
    if name == "set_coverage":
        return f"<small>built for {report.config['set_coverage']:g}</small>"
    return ""


def _level_note(report: EvaluationReport) -> str:
    if not report.config["draws"]:
        return "No intervals were drawn for the metrics; those of shares are Wilson's."
    return (
        f"Below each value its {_level(report)} interval: the papers were drawn anew "
        f"{report.config['draws']:,} times (bootstrap). Shares in bins, years, slices, categories "
        "and pairs have Wilson's interval. They tell of the choice of papers, not of other data."
    )


def _reliability(report: EvaluationReport, details: EvaluationDetails) -> str:
    ece, floor = report.metrics["ece"].value, report.metrics["ece_floor"].value
    hint = (
        "Of the papers that the model gives about this probability, how many are right? Below the "
        f"dashed line it claims too much. The mean gap (ECE) is {ece:.3f}; a perfectly calibrated "
        f"model would show {floor:.3f} by chance."
    )
    return section("Does 80 % mean 80 %?", hint, _figure(figures.reliability(details.bins)))


def _years(report: EvaluationReport) -> str:
    least = figures.LEAST_PAPERS_OF_YEAR
    hint = f"Accuracy by year. Years of fewer than {least} papers stand in the table only."
    return section("Over the years", hint, _figure(figures.by_year(report)))


def _sets(report: EvaluationReport) -> str:
    hint = (
        "How often the prediction set holds the true category. The dashed line is what it was "
        "built for, on average over papers like the validation papers; a period may lie below. The "
        "smaller the sets at the same coverage, the better."
    )
    whole = SliceReport(name="all papers", n=report.n, metrics=report.metrics)
    rows = [
        (
            *(part.name, with_interval(part.metrics.get("set_coverage"))),
            with_interval(part.metrics.get("set_size"), 2),
        )
        for part in (whole, *report.periods)
    ]
    numbers = table(("", "coverage", "categories in a set"), rows)
    figure = _figure(figures.sets_by_period(report))
    return section("Prediction sets by period", hint, figure, numbers)


def _all_metrics(report: EvaluationReport) -> str:
    rows = [
        (title, number(metric, _digits(name)), interval(metric, _digits(name)))
        for name, title in METRIC_TITLES.items()
        if (metric := report.metrics.get(name)) is not None
    ]
    level = f"{_level(report)} interval" if report.config["draws"] else ""
    return section("Every metric", "Over all papers.", table(("metric", "value", level), rows))


def _slices(report: EvaluationReport, details: EvaluationDetails) -> str:
    overall, level = report.metrics["top_1"].value, float(report.config["level"])
    low, high = _span(
        [figures.share_of(s, "top_1", level) for g in details.groups for s in g.slices]
    )
    heads = ["", "papers", "top-1", Markup(figures.forest_head(low, high)), "top-5", "ECE"]
    heads += ["by chance", "coverage", "set size"]
    rows: list[tuple[str, ...]] = []
    for group in details.groups:
        rows.append((Markup(f"{escape(group.title)} <small>{escape(group.note)}</small>"),))
        rows += [_slice_row(part, level, low, high, overall) for part in group.slices]
    hint = (
        "Where the model is better and worse. The dashed line is its top-1 accuracy over all "
        "papers. ECE by chance is what a perfectly calibrated model would show on as many papers."
    )
    return section("Slices", hint, table(heads, rows))


def _slice_row(
    part: SliceReport, level: float, low: float, high: float, mark: float
) -> tuple[str, ...]:
    get = part.metrics.get
    share = figures.share_of(part, "top_1", level)
    cell = Markup(figures.forest_cell(share, low, high, mark))
    return (
        *(part.name, f"{part.n:,}", with_interval(share), cell, number(get("top_5"))),
        *(number(get("ece")), number(get("ece_floor"))),
        *(number(get("set_coverage")), number(get("set_size"), 2)),
    )


def _pairs(report: EvaluationReport, details: EvaluationDetails) -> str:
    high = max((p.share.high or p.share.value for p in details.pairs), default=1.0)
    rows = [
        (
            *(p.truth, p.predicted, f"{p.n:,}", with_interval(p.share)),
            Markup(figures.forest_cell(p.share, 0.0, high, 0.0)),
        )
        for p in details.pairs
    ]
    axis = Markup(figures.forest_head(0.0, round(high, 2)))
    heads = ("true", "taken for", "papers", "share of the true ones", axis)
    errors = round(report.n * (1.0 - report.metrics["top_1"].value))
    told = sum(p.n for p in details.pairs)
    hint = f"The most frequent of all confusions: {told:,} of {errors:,} errors."
    return section("What is taken for what", hint, table(heads, rows, words=(0, 1)) if rows else "")


def _categories(report: EvaluationReport, details: EvaluationDetails) -> str:
    macro = report.metrics["macro_f1"].value
    rows = [
        (
            *(c.code, _papers(c.n), with_interval(c.f1)),
            Markup(figures.forest_cell(c.f1, 0.0, 1.0, macro)),
            *(with_interval(c.precision), with_interval(c.recall)),
        )
        for c in details.categories
    ]
    hint = (
        f"Largest first. Those with fewer than {FEW_PAPERS} papers are uncertain, as their wide "
        f"intervals say. The dashed line is macro-F1, {macro:.3f}."
    )
    never = [f"{c.code} ({c.n:,})" for c in details.categories if c.n and not c.f1.value]
    if never:
        more = ", ..." if len(never) > N_NEVER else "."
        hint += f" Never right, with their papers: {', '.join(never[:N_NEVER])}{more}"
    axis = Markup(figures.forest_head(0.0, 1.0))
    heads = ("category", "papers", "F1", axis, "precision", "recall")
    return section(f"{len(rows)} categories", hint, table(heads, rows))


def _papers(n: int) -> Markup:
    return Markup(f"{n:,}" if n >= FEW_PAPERS else f"{n:,} <small>uncertain</small>")


def _errors(details: EvaluationDetails) -> str:
    titled = any(error.title for error in details.errors)
    heads = ["id", *(["title"] if titled else []), "true", "answered", "probability"]
    rows = [
        [
            *(e.id, *([Markup(f"<span class=title>{escape(e.title)}</span>")] if titled else [])),
            *(e.truth, e.predicted, f"{e.probability:.3f}"),
        ]
        for e in details.errors
    ]
    words = range(len(heads) - 1)
    hint = (
        "The errors it was surest of, at most two of each pair. Is the model wrong, or the label?"
    )
    return section("Confident errors", hint, table(heads, rows, words=words) if rows else "")


def _year_table(report: EvaluationReport) -> str:
    names = ("top_1", "top_5", "macro_f1", "ece", "ece_floor", "set_coverage")
    rows = [
        (part.name, f"{part.n:,}", *(number(part.metrics.get(name)) for name in names))
        for part in (*report.periods, *report.years)
    ]
    heads = ("", "papers", "top-1", "top-5", "macro-F1", "ECE", "by chance", "coverage")
    hint = "ECE of few papers is mostly chance: compare it with the column beside it."
    return section("Periods and years", hint, table(heads, rows) if rows else "")


def _origin(report: EvaluationReport) -> str:
    config = report.config
    drawn = f"{config['draws']:,} resamples, seed {config['seed']}, {config['n_bins']} bins"
    values = {
        "model": f"{report.model.name} {report.model.version}",
        "model digest": report.model.digest,
        "dataset digest": report.dataset_digest,
        "split": report.split,
        "papers": "invented by the sample generator" if report.generated else "as given",
        "temperature": f"{config['temperature']:.4g}",
        "measured": f"{report.date}; {drawn}",
        "machine": report.machine,
        "command": report.command,
    }
    code = ("model digest", "dataset digest", "command")
    return section("Where the numbers come from", "Enough to get them again.", facts(values, code))


def _figure(svg: str) -> str:
    return f"<figure>{svg}</figure>" if svg else ""


def _digits(name: str) -> int:
    return 2 if name == "set_size" else 3


def _level(report: EvaluationReport) -> str:
    return f"{100 * report.config['level']:g} %"


def _span(metrics: list[MetricValue]) -> tuple[float, float]:
    """Return a range of tenths that holds all intervals."""
    ends = [e for m in metrics for e in (m.low, m.value, m.high) if e is not None] or [0.0, 1.0]
    low, high = int(min(ends) * 10) / 10, -int(-max(ends) * 10 // 1) / 10
    return low, max(high, low + 0.1)
