"""Tables of the page: cells of text and small figures, everything from outside escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from classmark.pages.render_comparison import signed
from classmark.records import MetricValue


class Markup(str):
    """Text that is HTML already and is not escaped again."""

    __slots__ = ()


def table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], *, words: Sequence[int] = (0,)
) -> str:
    """Return a table that scrolls in its own box; its first column stays in sight.

    Args:
        heads: one name a column.
        rows: cells, or one cell that heads those below it; what is no ``Markup`` is escaped.
        words: columns of text, set to the left; the others are numbers, set to the right.
    """
    head = "".join(_cell("th", h, i in words, ' scope="col"') for i, h in enumerate(heads))
    body = "".join(f"<tr>{_row(row, words, len(heads))}</tr>" for row in rows)
    return (
        f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


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
    small = f" <small>{ends}</small>" if ends else ""
    return Markup(number(metric, digits) + small)


def _row(row: Sequence[str], words: Sequence[int], width: int) -> str:
    first, *others = row
    if not others:
        return _cell("th", first, True, f' class=group colspan={width} scope="rowgroup"')
    head = _cell("th", first, 0 in words, ' scope="row"')
    return head + "".join(_cell("td", c, i in words) for i, c in enumerate(others, start=1))


def _cell(tag: str, content: str, is_text: bool, more: str = "") -> str:
    inner = content if isinstance(content, Markup) else escape(content)
    return f"<{tag}{'' if is_text else ' class=n'}{more}>{inner}</{tag}>"
