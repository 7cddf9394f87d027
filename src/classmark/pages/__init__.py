"""Pages, figures and aligned tables of reports; that of a dataset is imported from ``dataset``.

A page is one HTML file: no script, no font, no request. Pages are jinja2 templates (extra ``data``)
that escape all values; figures are inline SVG, so they take the page's colours in light, dark and
print, keep their text as text, and need numpy alone, as the aligned tables do.
"""

from classmark.pages.comparison import comparison_page
from classmark.pages.evaluation import evaluation_page
from classmark.pages.files import draw_cascade, render_figures
from classmark.pages.frame import render
from classmark.pages.gate import gate_page
from classmark.pages.robustness import robustness_page
from classmark.pages.text import comparison_text, evaluation_text, gate_text, robustness_text

__all__ = [
    "comparison_page",
    "comparison_text",
    "draw_cascade",
    "evaluation_page",
    "evaluation_text",
    "gate_page",
    "gate_text",
    "render",
    "render_figures",
    "robustness_page",
    "robustness_text",
]
