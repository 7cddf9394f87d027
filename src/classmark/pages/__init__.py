"""Every page, plot and aligned table of reports.

A page is one HTML file: no script, no font, no request. Its figures are inline SVG, written by hand
and not by matplotlib: so they take the page's colours in light, dark and print, keep their text as
text, weigh a tenth, and the page needs numpy alone.
"""

from classmark.pages.comparison import render_comparison_page
from classmark.pages.evaluation_page import render_page
from classmark.pages.files import render_figures
from classmark.pages.render import render_table
from classmark.pages.render_comparison import render_comparison
from classmark.pages.render_robustness import render_robustness
from classmark.pages.robustness import render_robustness_page

__all__ = [
    "render_comparison",
    "render_comparison_page",
    "render_figures",
    "render_page",
    "render_robustness",
    "render_robustness_page",
    "render_table",
]
