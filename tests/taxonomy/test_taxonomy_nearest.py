"""The error for a code that does not exist names the nearest ones."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from classmark import taxonomy
from classmark.errors import UnknownCategory


def message_for(code: str) -> str:
    with pytest.raises(UnknownCategory) as raised:
        taxonomy.canonical(code)
    return str(raised.value)


def suggested(code: str) -> list[str]:
    nearest = message_for(code).partition("the nearest are ")[2]
    return re.findall(r"([\w.-]+) \(", nearest)


def test_message_quotes_the_code_and_names_three_categories() -> None:
    assert re.fullmatch(
        r"unknown arXiv category 'cs\.ML'\. Use an arXiv code; the nearest are "
        r"cs\.LG \(Machine Learning\), stat\.ML \(Machine Learning\), cs\.\w\w \(.*\)\.",
        message_for("cs.ML"),
    )


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("cs.ML", "cs.LG"),
        ("cs.CVPR", "cs.CV"),
        ("cs.SWE", "cs.SE"),
        ("eess.CV", "cs.CV"),
        ("stat.LG", "cs.LG"),
        ("physics.atom", "physics.atom-ph"),
        ("condmat.soft", "cond-mat.soft"),
        ("hepth", "hep-th"),
        ("Robotics", "cs.RO"),
        ("number theory", "math.NT"),
        ("Computer vision", "cs.CV"),
    ],
)
def test_nearest_categories_hold_the_one_that_was_meant(wrong: str, meant: str) -> None:
    assert meant in suggested(wrong)


@pytest.mark.parametrize("archive", ["cs", "math", "physics", "q-fin", "econ", "eess"])
def test_an_archive_alone_is_unknown_and_its_categories_are_near(archive: str) -> None:
    assert {taxonomy.parent(code) for code in suggested(archive)} == {archive}


def test_retired_categories_are_never_suggested() -> None:
    assert all(taxonomy.is_active(code) for code in suggested("astroph"))


def test_an_empty_code_is_refused_like_any_other() -> None:
    assert len(suggested(" ")) == 3


def test_a_long_code_is_quoted_only_in_part() -> None:
    assert len(message_for("x" * 100_000)) < 400


@pytest.mark.parametrize("ask", [taxonomy.get, taxonomy.parent, taxonomy.group, taxonomy.name])
def test_every_question_about_an_unknown_code_is_refused_alike(
    ask: Callable[[str], object],
) -> None:
    with pytest.raises(UnknownCategory, match=r"unknown arXiv category 'no\.SUCH'"):
        ask("no.SUCH")
