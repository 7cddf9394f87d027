from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import pytest

from classmark.pages import gate_page, gate_text
from classmark.records import GateCheck, GateReport
from classmark.wire import ModelRef

HOLDS = GateCheck(group="metrics", name="top_1", value=0.6, limit=0.5, outcome="passed")
FALLS = GateCheck(
    group="categories",
    name="fall of f1",
    scope="category",
    part="cs.LG",
    bound="at_most",
    value=0.08,
    limit=0.05,
    outcome="failed",
    champion=0.7,
    candidate=0.58,
    low=0.08,
    high=0.16,
)
MISSING = GateCheck(
    group="signature", name="signed by a trusted key", outcome="failed", note="<b>nobody</b>"
)
OPEN = GateCheck(
    group="categories",
    name="all limits",
    scope="category",
    part="cs.OS",
    outcome="not_checked",
    note="12 test papers, fewer than 200",
)


def report_of(checks: Sequence[GateCheck]) -> GateReport:
    return GateReport(
        candidate=ModelRef("mine", "1.1", "c" * 64),
        champion=ModelRef("mine", "1.0", "a" * 64),
        dataset_digest="d" * 64,
        split="test",
        generated=False,
        n=3000,
        date="2026-01-01T00:00:00+00:00",
        machine="a machine",
        command="classmark registry gate mine@1.1",
        rules={},
        left_out=("goldens",),
        checks=tuple(checks),
    )


REFUSED = report_of([HOLDS, FALLS, OPEN, MISSING])


def test_the_text_counts_by_group_and_names_each_line_that_fails_with_how_far() -> None:
    text = gate_text(REFUSED)
    assert re.search(r"^categories +0 +1 +1$", text, re.MULTILINE)
    assert re.search(r"^metrics +1 +0 +0$", text, re.MULTILINE)
    assert (
        "categories, category cs.LG: fall of f1 is 0.0800, at most 0.0500, over by 0.0300" in text
    )
    assert "signature: signed by a trusted key: <b>nobody</b>" in text
    assert text.endswith("refused: 2 of 3 checks fail")
    assert "left out   goldens: the rules do not ask for them" in text


@pytest.mark.parametrize(
    ("checks", "words"),
    [
        ([HOLDS, OPEN], "passed: the only check holds"),
        ([HOLDS, HOLDS], "passed: all 2 checks hold"),
        ([OPEN], "refused: nothing could be checked"),
    ],
)
def test_the_last_line_is_the_verdict(checks: list[GateCheck], words: str) -> None:
    assert gate_text(report_of(checks)).split("\n")[-1] == words


def test_the_page_shows_what_refuses_first_and_every_line() -> None:
    page = gate_page(REFUSED)
    assert page.startswith("<!doctype html>")
    assert "May mine 1.1 replace mine 1.0?" in page
    assert page.index("What refuses it") < page.index("What was checked") < page.index("Every line")
    for words in ("12 test papers, fewer than 200", "at most 0.0500", "0.0300", "c" * 64):
        assert words in page
    assert "&lt;b&gt;nobody&lt;/b&gt;" in page
    assert "<script" not in page
    assert "//" not in page.replace("http://www.w3.org", "")


def test_the_page_shows_the_worst_lines_of_each_group_first_and_the_others_below() -> None:
    many = [replace(FALLS, part=f"cs.A{n:02}", value=0.06 + n / 100, low=0.1) for n in range(30)]
    page = gate_page(report_of([*many, MISSING]))
    first, _, rest = page.partition("What was checked")
    assert "11 of 31; the others are below" in first
    assert "cs.A29" in first
    assert "cs.A19" not in first
    assert "nobody" in first
    assert "cs.A00" in rest
    assert "24 of 30" in rest


def test_the_page_of_a_candidate_that_passes_has_no_refusals_and_no_losses() -> None:
    page = gate_page(replace(report_of([HOLDS]), champion=None, left_out=()))
    assert "May mine 1.1 be promoted?" in page
    assert "What refuses it" not in page
    assert "Losses against the champion" not in page
    assert "The rules ask for everything" in page


def test_pages_and_texts_of_invented_papers_say_so() -> None:
    invented = replace(REFUSED, generated=True)
    assert gate_text(invented).startswith("invented sample papers")
    assert "Invented sample papers" in gate_page(invented)
    assert "nvented sample papers" not in gate_page(REFUSED)
