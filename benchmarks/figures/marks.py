"""What the figures of the path are drawn with: the marks and colours of the evaluation page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from classmark.pages.svg import style_sheet

WIDTH = 720
_STYLE = style_sheet()
_PALETTE = re.compile(r"^ *(--page: .*\n.*)$", re.MULTILINE)
_OWN_RULES = """
.figure { font-family: "Avenir Next", "Segoe UI", "Noto Sans", Cantarell, system-ui, sans-serif; }
.figure text { stroke: none; }
.figure .head { font-size: 13px; font-weight: 600; }
.figure .code { font: 11px ui-monospace, "SF Mono", "DejaVu Sans Mono", Consolas, monospace; }
.figure .card { fill: var(--sheet); stroke: var(--line); }
.figure .result { fill: var(--sheet); stroke: var(--first); stroke-width: 1.5; }
.figure .arrow { fill: none; stroke: var(--edge); stroke-width: 1.5; }
.figure .mark { stroke: var(--second); stroke-width: 2; }
.figure .cut { stroke: var(--second); stroke-dasharray: 4 3; }
.figure .full { fill: var(--first); }
.figure .half { fill: var(--first); opacity: 0.45; }
.figure .against { fill: var(--second); }
.figure .against-half { fill: var(--second); opacity: 0.45; }
.figure .key-first { fill: var(--first); }
.figure .key-second { fill: var(--second); }
"""


def style() -> str:
    """Return the style of a figure that stands alone, or in a page with a switch for dark."""
    light, dark = _PALETTE.findall(_STYLE)[:2]
    rules = "\n".join(
        line.replace("svg ", ".figure ") for line in _STYLE.splitlines() if line.startswith("svg ")
    )
    return (
        f".figure {{ {light.strip()} }}\n"
        f"@media (prefers-color-scheme: dark) {{ .figure {{ {dark.strip()} }} }}\n"
        f'[data-md-color-scheme="default"] .figure {{ {light.strip()} }}\n'
        f'[data-md-color-scheme="slate"] .figure {{ {dark.strip()} }}\n{rules}{_OWN_RULES}'
    )


def document(label: str, height: int, marks: Sequence[str], width: int = WIDTH) -> str:
    """Return a whole SVG file; ``label`` is what a screen reader says."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="figure" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-label="{escape(label)}">\n'
        f"<style>\n{style()}</style>\n" + "\n".join(marks) + "\n</svg>\n"
    )


def words(x: float, y: float, content: str, css: str = "", anchor: str = "start") -> str:
    """Return words at a point, white space kept."""
    return (
        f'<text class="{css}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" '
        f'xml:space="preserve">{escape(content, quote=False)}</text>'
    )


def lines(x: float, y: float, content: Sequence[str], css: str, step: float = 15) -> list[str]:
    """Return lines of words below one another."""
    return [words(x, y + i * step, line, css) for i, line in enumerate(content)]


def box(x: float, y: float, width: float, height: float, css: str = "card") -> str:
    """Return a rectangle with round corners."""
    return (
        f'<rect class="{css}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
        f'height="{height:.1f}" rx="5"/>'
    )


def arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    """Return an arrow from one point to another, level or upright."""
    tip = (
        f"M{x2 - 6:.1f} {y2 - 4:.1f} L{x2:.1f} {y2:.1f} L{x2 - 6:.1f} {y2 + 4:.1f}"
        if x2 != x1
        else f"M{x2 - 4:.1f} {y2 - 6:.1f} L{x2:.1f} {y2:.1f} L{x2 + 4:.1f} {y2 - 6:.1f}"
    )
    return f'<path class="arrow" d="M{x1:.1f} {y1:.1f} L{x2:.1f} {y2:.1f} {tip}"/>'
