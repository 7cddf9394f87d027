"""Cells of CSV for people: what a spreadsheet would take for a formula is a text."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classmark.records import csv_text


def cell_of(cell: object, **options: bool) -> str:
    (row,) = csv.reader(io.StringIO(csv_text([["id", cell]], **options), newline=""))
    return row[1]


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "\tx",
        "\rx",
        "\nx",
        "\n=1",
        "  =1",
        "\xa0=1",
        "\ufeff=1",
        "\0=1",
        "\uff1d1",
        "\uff0b1",
        "\uff0d1",
        "\uff201",
        '=HYPERLINK("http://a","b")',
    ],
)
def test_a_text_that_a_spreadsheet_would_run_gets_an_apostrophe(text: str) -> None:
    assert cell_of(text) == f"'{text}"
    assert cell_of(text, raw_cells=True) == text


@pytest.mark.parametrize("text", ["", "a=1", "1-1", "'=1", " a", "cs.LG", "2401.00001", "−1"])
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert cell_of(text) == text


@pytest.mark.parametrize("number", [-1, -0.5, 1e-9, float("-inf")])
def test_numbers_stay_numbers(number: float) -> None:
    assert float(cell_of(number)) == number


@pytest.mark.parametrize("text", ["a\r=1", "a\n=1", "a\r\n=1"])
def test_a_line_end_within_a_text_begins_no_row(text: str) -> None:
    assert cell_of(text) == text
    assert csv_text([[text]]) == f'"{text}"\n'


def test_nothing_stays_nothing() -> None:
    assert cell_of(None) == ""


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_no_text_begins_with_what_starts_a_formula(text: str) -> None:
    assert not cell_of(text).strip().startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠"))
    assert cell_of(text) in (text, f"'{text}")
