"""Evaluation as one HTML file: no script, no font, no request; figures are inline SVG.

The SVG is written by hand, not by matplotlib: so it takes the page's colours in light, dark and
print, keeps its text as text, weighs a tenth, and the page needs numpy alone.
"""

from classmark.evaluation.page.comparison import render_comparison_page
from classmark.evaluation.page.evaluation import render_page
from classmark.evaluation.page.files import render_figures

__all__ = ["render_comparison_page", "render_figures", "render_page"]
