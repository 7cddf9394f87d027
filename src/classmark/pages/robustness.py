"""The page of one robustness report: small plots by kind, what hurts most, every number."""

from __future__ import annotations

from html import escape

from classmark.evaluation.robustness import KINDS, OTHER_KINDS, perturb
from classmark.pages.document import document, facts, section
from classmark.pages.render_robustness import points
from classmark.pages.robustness_figures import SERIES, kind_figure, loss_figure
from classmark.pages.tables import Markup, number, table, with_interval
from classmark.records import RobustnessKind, RobustnessLevel, RobustnessReport

_MOST_LOSSES = 20
# Invented: a page must not hold the text of anybody's papers.
EXAMPLE = (
    "Efficient search for hidden defects",
    r"We find that fields of strength $H_{c} \sim 10^{3}$ confine the flow, and that clusters of "
    r"modern cells, here called \emph{floes}, grow within minutes.",
)
_EXAMPLE_SEED = 7
_VISIBLE = str.maketrans({"\n": "\u23ce", "\t": "\u21e5", "\u00a0": "\u237d", "\u2009": "\u237d"})


def render_robustness_page(report: RobustnessReport) -> str:
    """Return the report as one HTML file that needs nothing else, and holds no text of a paper."""
    model = f"{report.model.name} {report.model.version}"
    lead = (
        f"{report.n:,} papers of split {report.split} as they are and perturbed, and texts that "
        "are no papers."
    )
    sections = [
        _plots(report),
        _losses(report),
        _numbers(report),
        _examples(report),
        _origin(report),
    ]
    return document(f"How robust is {model}?", lead, sections, generated=report.generated)


def _plots(report: RobustnessReport) -> str:
    keys = "".join(
        f'<span class="legend"><span class="key {css}"></span>{words}</span>'
        for _, words, css in SERIES
    )
    plots = "".join(
        f"<figure><h3>{escape(kind.name)}</h3><figcaption>{escape(kind.unit)}</figcaption>"
        f"{kind_figure(kind, report.clean if kind.name in KINDS else None)}</figure>"
        for kind in report.kinds
    )
    hint = (
        "A robust model keeps its accuracy; where it cannot, its probability should fall as far, "
        "and it should abstain more. A probability far above accuracy claims too much. Texts that "
        "are no papers have no accuracy: there the model should abstain."
    )
    panels = f'<p>{keys}</p><div class="panels">{plots}</div>' if plots else ""
    return section("By kind and level", hint, panels)


def _losses(report: RobustnessReport) -> str:
    rows = [
        (f"{kind.name}, {level.name}", level.differences["top_1"])
        for kind in report.kinds
        for level in kind.levels
        if kind.name in KINDS
        and "top_1" in level.differences
        and level.differences["top_1"].difference < 0.0
    ]
    rows.sort(key=lambda row: row[1].difference)
    hint = (
        f"The {min(_MOST_LOSSES, len(rows))} largest losses. The same papers are compared, so the "
        "intervals are narrow."
    )
    svg = f"<figure>{loss_figure(rows[:_MOST_LOSSES])}</figure>" if rows else ""
    return section("What hurts most", hint, svg)


def _numbers(report: RobustnessReport) -> str:
    heads = ["", "texts", "changed", "top-1", "+/\u2212 clean, points", "top-5", "probability"]
    heads += ["ECE", "below threshold", "out of scope", "accepted right", "as clean"]
    rows: list[tuple[str, ...]] = [_row(report.clean)]
    for kind in report.kinds:
        rows.append((Markup(f"{escape(kind.name)} <small>{escape(kind.unit)}</small>"),))
        rows += [_row(level) for level in kind.levels]
    hint = (
        "Changed: share of the papers whose text differs at all; without LaTeX none can be lost. "
        "Accepted right: accuracy of the papers that got an answer. As clean: share whose top "
        "category is that of the clean paper, right or wrong."
    )
    return section("Every number", hint, table(heads, rows))


def _row(level: RobustnessLevel) -> tuple[str, ...]:
    get = level.metrics.get
    changed = "\u2013" if level.changed is None else f"{level.changed:.3f}"
    return (
        *(level.name, f"{level.n:,}", changed, with_interval(get("top_1"))),
        *(points(level.differences.get("top_1")), number(get("top_5")), number(get("confidence"))),
        *(number(get("ece")), number(get("below_threshold")), number(get("out_of_scope"))),
        *(with_interval(get("accepted_accuracy")), number(get("agreement"))),
    )


def _examples(report: RobustnessReport) -> str:
    kinds = [kind for kind in report.kinds if kind.name in KINDS]
    rows = [(kind.name, kind.levels[-1].name, _shown(kind)) for kind in kinds]
    hint = (
        "The last level of each kind, on an invented title and sentence. \u23ce is a line end, "
        "\u21e5 a tab, \u237d a blank of another kind."
    )
    whole = ("clean", "", Markup(f"<span class=title>{escape(' / '.join(EXAMPLE))}</span>"))
    cells = table(("kind", "level", "text"), [whole, *rows], words=(0, 1, 2)) if rows else ""
    return section("What it looks like", hint, cells)


def _shown(kind: RobustnessKind) -> Markup:
    level = kind.levels[-1].name
    text = perturb(KINDS[kind.name], level, EXAMPLE, identifier="example", seed=_EXAMPLE_SEED)
    words = " / ".join(part for part in text if part).translate(_VISIBLE)
    return Markup(f"<span class=title>{escape(words)}</span>")


def _origin(report: RobustnessReport) -> str:
    config = report.config
    strange = any(kind.name in OTHER_KINDS for kind in report.kinds)
    values = {
        "model": f"{report.model.name} {report.model.version}",
        "model digest": report.model.digest,
        "dataset digest": report.dataset_digest,
        "split": report.split,
        "papers": "invented by the sample generator" if report.generated else "as given",
        "other texts": "invented, in the package" if strange else "",
        "measured": f"{report.date}; seed {config['seed']}, {config['draws']:,} resamples, "
        f"{config['n_bins']} bins",
        "machine": report.machine,
        "command": report.command,
    }
    code = ("model digest", "dataset digest", "command")
    return section("Where the numbers come from", "Enough to get them again.", facts(values, code))
