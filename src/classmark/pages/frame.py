"""The frame of every page: one file with its style inside, that may load nothing."""

from __future__ import annotations

from functools import lru_cache
from html import escape
from typing import TYPE_CHECKING

from classmark.errors import MissingExtra
from classmark.pages.svg import TEMPLATES, Markup, style_sheet
from classmark.pages.text import GENERATED_WARNING, signed
from classmark.records import EvaluationReport, MetricValue, RobustnessReport

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, **values: object) -> str:
    """Return a page.

    Args:
        template: file in ``templates``; it extends ``page.html``.
        values: what the template shows, escaped unless it is ``Markup``. Every page needs
            ``title``, ``lead`` (one line below it) and ``generated`` (the papers are invented; the
            page says so before anything else).

    Raises:
        MissingExtra: jinja2 is not installed.
    """
    return _environment().get_template(template).render(values)


def origin(report: EvaluationReport | RobustnessReport, **more: str) -> dict[str, str]:
    """Return where the numbers of a report of one model come from, by name.

    Args:
        report: what was measured.
        more: facts to state before date, machine and command.
    """
    config, model = report.config, report.model
    drawn = f"{config['draws']:,} resamples, {config['n_bins']} bins"
    return {
        "model": f"{model.name} {model.version}",
        "model digest": model.digest,
        "dataset digest": report.dataset_digest,
        "split": report.split,
        "papers": "invented by the sample generator" if report.generated else "as given",
        **({"authors": f"used for {config['authors']:,} papers"} if "authors" in config else {}),
        **more,
        "measured": f"{report.date}; seed {config['seed']}, {drawn}",
        "machine": report.machine,
        "command": report.command,
    }


def number(metric: MetricValue | None, digits: int = 3) -> str:
    """Return a value, or a dash."""
    return "\u2013" if metric is None else f"{metric.value:.{digits}f}"


def interval(metric: MetricValue | None, digits: int = 3, *, with_sign: bool = False) -> str:
    """Return both ends of an interval, or nothing."""
    if metric is None or metric.low is None or metric.high is None:
        return ""
    if with_sign:
        return f"{signed(metric.low)} to {signed(metric.high)}"
    return f"{metric.low:.{digits}f} to {metric.high:.{digits}f}"


def with_interval(metric: MetricValue | None, digits: int = 3) -> Markup:
    """Return a value with its interval small beside it."""
    ends = interval(metric, digits)
    return with_note(number(metric, digits), ends)


def with_note(words: str, note: str) -> Markup:
    """Return words with a note small beside them."""
    return Markup(escape(words) + (f" <small>{escape(note)}</small>" if note else ""))


def wrapped(words: str) -> Markup:
    """Return words for a cell of a table in which lines may break."""
    return Markup(f"<span class=title>{escape(words)}</span>")


@lru_cache(maxsize=1)
def _environment() -> Environment:
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        raise MissingExtra("writing HTML pages", "data") from error
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        style=Markup(style_sheet()), warning=f"{GENERATED_WARNING.capitalize()}."
    )
    environment.filters["number"] = number
    environment.filters["grouped"] = "{:,}".format
    return environment
