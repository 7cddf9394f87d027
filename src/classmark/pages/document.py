"""The frame of a page: one file with its style inside, that may load nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from classmark.pages.render import GENERATED_WARNING

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def document(title: str, lead: str, sections: Sequence[str], *, generated: bool) -> str:
    """Return the whole page.

    Args:
        title: in the tab and on top.
        lead: one line below it.
        sections: HTML, in order; empty ones are left out.
        generated: the papers are invented; the page says so before anything else.
    """
    style = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
    warning = f'<p class="warning">{GENERATED_WARNING.capitalize()}.</p>' if generated else ""
    body = "\n".join(part for part in sections if part)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        f'<header>\n{warning}\n<h1>{escape(title)}</h1>\n<p class="lead">{escape(lead)}</p>\n'
        f"</header>\n{body}\n</main>\n</body>\n</html>\n"
    )


def section(title: str, hint: str, *parts: str) -> str:
    """Return a section; "" if it has nothing to show."""
    content = "".join(parts)
    if not content:
        return ""
    head = f'<h2>{escape(title)}</h2>\n<p class="hint">{escape(hint)}</p>'
    return f"<section>\n{head}\n{content}\n</section>"


def pair(left: str, right: str) -> str:
    """Return two sections side by side where there is room."""
    return f'<div class="pair">\n{left}\n{right}\n</div>' if left and right else left + right


def facts(values: Mapping[str, str], code: Sequence[str] = ()) -> str:
    """Return a list of names and values; empty ones are left out, ``code`` are set as such."""
    rows = ""
    for name, value in values.items():
        if value:
            inner = f"<code>{escape(value)}</code>" if name in code else escape(value)
            rows += f"<dt>{escape(name)}</dt><dd>{inner}</dd>"
    return f'<dl class="facts">{rows}</dl>'
