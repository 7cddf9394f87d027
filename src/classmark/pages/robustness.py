"""The page of one robustness report: small plots by kind, what hurts most, every number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from classmark.evaluation.robustness import KINDS, OTHER_KINDS, perturb
from classmark.pages.charts import Differences, differences
from classmark.pages.frame import number, origin, render, with_interval, with_note, wrapped
from classmark.pages.svg import (
    Markup,
    Scale,
    figure,
    line,
    path,
    rows_grid,
    text,
    ticks,
    upright_whisker,
)
from classmark.pages.text import points
from classmark.records import (
    Difference,
    MetricValue,
    RobustnessKind,
    RobustnessLevel,
    RobustnessReport,
)

_WIDTH, _HEIGHT = 280, 172
_MOST_NAMES, _MOST_LOSSES = 6, 20
_SERIES = (
    ("top_1", "top-1 accuracy", "first"),
    ("confidence", "mean probability", "second"),
    ("abstained", "abstained", "unclear"),
)
_LOSSES = Differences(
    words="top-1 accuracy minus that of the clean papers, points",
    left=230,
    width=640,
    most_ticks=8,
)
# Invented: a page must not hold the text of anybody's papers.
_EXAMPLE = (
    "Efficient search for hidden defects",
    r"We find that fields of strength $H_{c} \sim 10^{3}$ confine the flow, and that clusters of "
    r"modern cells, here called \emph{floes}, grow within minutes.",
)
_EXAMPLE_SEED = 7
_VISIBLE = str.maketrans({"\n": "\u23ce", "\t": "\u21e5", "\u00a0": "\u237d", "\u2009": "\u237d"})


def robustness_page(report: RobustnessReport) -> str:
    """Return the report as one HTML file that needs nothing else, and holds no text of a paper.

    Raises:
        MissingExtra: jinja2 is not installed.
    """
    losses = _losses(report)
    others = any(kind.name in OTHER_KINDS for kind in report.kinds)
    return render(
        "robustness.html",
        title=f"How robust is {report.model.name} {report.model.version}?",
        lead=f"{report.n:,} papers of split {report.split}, clean and perturbed, and texts that "
        "are not papers.",
        generated=report.generated,
        series=_SERIES,
        plots=[
            (kind, kind_figure(kind, report.clean if kind.name in KINDS else None))
            for kind in report.kinds
        ],
        n_losses=len(losses),
        losses=differences(losses, "What hurts most", _LOSSES) if losses else "",
        rows=_rows(report),
        examples=_examples(report),
        origin=origin(report, **{"other texts": "invented, in the package" if others else ""}),
    )


def kind_figure(kind: RobustnessKind, clean: RobustnessLevel | None) -> Markup:
    """Return accuracy, probability and abstention at each level, from 0 to 1.

    Args:
        kind: its levels are side by side, joined by lines where their order means something.
        clean: comes before them; None where the texts are not the same ones.
    """
    levels = [*([clean] if clean else []), *kind.levels]
    x, y = Scale(-0.5, len(levels) - 0.5, 30, _WIDTH - 10), Scale(0, 1, _HEIGHT - 26, 10)
    marks = [*rows_grid(x, y, ticks(0, 1, 4)), line(x.start, y(0), x.end, y(0), "axis")]
    every = -(-len(levels) // _MOST_NAMES)
    for i, level in list(enumerate(levels))[::every]:
        marks.append(text(x(i), _HEIGHT - 10, level.name.removesuffix(" words")))
    for metric, _, css in _SERIES:
        values = [
            (x(i), level.metrics[metric])
            for i, level in enumerate(levels)
            if metric in level.metrics
        ]
        marks += _series(values, y, css, joined=kind.ordered)
    label = "; ".join(_in_words(level) for level in levels)
    return figure(_WIDTH, _HEIGHT, f"{kind.name}: {label}", marks)


def _series(
    values: Sequence[tuple[float, MetricValue]], y: Scale, css: str, *, joined: bool
) -> Iterator[str]:
    if joined and len(values) > 1:
        yield path([(at, y(m.value)) for at, m in values], f"{css} curve")
    for at, m in values:
        yield upright_whisker(at, y, m, css, 2.5)


def _in_words(level: RobustnessLevel) -> str:
    values = (
        f"{words} {level.metrics[metric].value:.2f}"
        for metric, words, _ in _SERIES
        if metric in level.metrics
    )
    return f"{level.name}: {', '.join(values)}"


def _losses(report: RobustnessReport) -> list[tuple[str, Difference, str]]:
    """Return the largest losses of accuracy: kind and level, difference to clean, colour."""
    rows = [
        (f"{kind.name}, {level.name}", loss, "second")
        for kind in report.kinds
        for level in kind.levels
        if kind.name in KINDS
        and (loss := level.differences.get("top_1")) is not None
        and loss.difference < 0.0
    ]
    return sorted(rows, key=lambda row: row[1].difference)[:_MOST_LOSSES]


def _rows(report: RobustnessReport) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [_row(report.clean)]
    for kind in report.kinds:
        rows.append((with_note(kind.name, kind.unit),))
        rows += [_row(level) for level in kind.levels]
    return rows


def _row(level: RobustnessLevel) -> Sequence[str]:
    get = level.metrics.get
    changed = "\u2013" if level.changed is None else f"{level.changed:.3f}"
    return (
        *(level.name, f"{level.n:,}", changed, with_interval(get("top_1"))),
        *(points(level.differences.get("top_1")), number(get("top_5")), number(get("confidence"))),
        *(number(get("ece")), number(get("below_threshold")), number(get("out_of_scope"))),
        *(with_interval(get("accepted_accuracy")), number(get("agreement"))),
    )


def _examples(report: RobustnessReport) -> list[Sequence[str]]:
    """Return kind, level and text of an invented paper as it is and at the last levels."""
    kinds = [kind for kind in report.kinds if kind.name in KINDS]
    rows = [(kind.name, kind.levels[-1].name, _perturbed(kind)) for kind in kinds]
    return [("clean", "", wrapped(" / ".join(_EXAMPLE))), *rows] if rows else []


def _perturbed(kind: RobustnessKind) -> Markup:
    level = kind.levels[-1].name
    parts = perturb(KINDS[kind.name], level, _EXAMPLE, identifier="example", seed=_EXAMPLE_SEED)
    return wrapped(" / ".join(part for part in parts if part).translate(_VISIBLE))
