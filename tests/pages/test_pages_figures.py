"""The figures of a score table as files of their own."""

from __future__ import annotations

import csv
from collections.abc import Callable
from xml.etree import ElementTree

import numpy as np
import pytest

from classmark.errors import EmptyEvaluation
from classmark.pages import render_figures
from classmark.pages.files import N_SHOWN, confusion_matrix
from classmark.records import ScoreTable

SVG = "{http://www.w3.org/2000/svg}"


def test_the_table_counts_every_pair(make_table: Callable[..., ScoreTable]) -> None:
    scores = [[9, 0, 0, 0], [0, 9, 0, 0], [0, 9, 0, 0], [0, 0, 0, 9]]
    rows = list(
        csv.reader(render_figures(make_table(scores, [0, 1, 0, -1]))["confusion.csv"].splitlines())
    )
    assert rows[0] == ["true", "cs.AI", "cs.LG", "math.CO", "hep-th"]
    assert rows[1] == ["cs.AI", "1", "1", "0", "0"]
    assert rows[2] == ["cs.LG", "0", "1", "0", "0"]
    assert rows[4] == ["hep-th", "0", "0", "0", "0"]


def test_the_figures_are_files_with_their_own_colours(random_table: ScoreTable) -> None:
    files = render_figures(random_table)
    assert sorted(files) == ["confusion.csv", "confusion.svg", "reliability.svg"]
    for name in ("confusion.svg", "reliability.svg"):
        root = ElementTree.fromstring(files[name])
        assert root.tag == f"{SVG}svg"
        style = root.findtext(f"{SVG}style") or ""
        assert "--sheet: #fff" in style
        assert "prefers-color-scheme: dark" in style
        assert "svg .first.interval" in style


def test_a_cell_tells_its_pair(random_table: ScoreTable) -> None:
    seen = render_figures(random_table)["confusion.svg"]
    right = int(((random_table.scores.argmax(axis=1) == 0) & (random_table.primary == 0)).sum())
    assert f"<title>cs.AI gets cs.AI: {right}</title>" in seen
    assert "the 4 largest of 4 categories" in seen


def test_only_the_largest_categories_are_drawn() -> None:
    counts = np.diag(np.arange(N_SHOWN + 20))
    drawn = confusion_matrix(counts, [f"<c{i}>" for i in range(len(counts))])
    assert f"the {N_SHOWN} largest of {N_SHOWN + 19} categories" in drawn
    assert "&lt;c59&gt; gets" in drawn
    assert "c19&gt;" not in drawn


def test_no_paper_is_no_figure(make_table: Callable[..., ScoreTable]) -> None:
    with pytest.raises(EmptyEvaluation):
        render_figures(make_table([], []))
