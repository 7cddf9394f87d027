from __future__ import annotations

import polars as pl
import pytest

from classmark.dataset.build.cleaning import drop_duplicates, drop_empty, drop_withdrawn
from classmark.dataset.build.intake import judge_texts
from classmark.dataset.build.ledger import Ledger
from classmark.errors import ContractViolation

ABSTRACT = "We prove a bound on the number of edges. " * 4


def frame(*summaries: str, **columns: list[str]) -> pl.DataFrame:
    count = len(summaries)
    values: dict[str, list[str]] = {
        "id": [f"p{n}" for n in range(count)],
        "title": ["A title"] * count,
        "category_code": ["math.CO"] * count,
        "published_date": ["2016-07-01"] * count,
        "summary": list(summaries),
        "fingerprint": list(summaries),
    }
    return judge_texts(pl.DataFrame({**values, **columns}))


@pytest.mark.parametrize(
    "notice",
    [
        "This paper has been withdrawn by the author due to an error in Lemma 2.",
        "Withdrawn.",
        "the present article was withdrawn; see the journal version",
        "Paper withdrawn - lemma 4.1 was false.",
        "The authors have withdrawn this submission.",
        "I withdraw this paper for now.",
        "Removed at the request of the author.",
        "We show a small thing. This note is being withdrawn since the proof has a gap.",
        "This manuscript has been retracted.",
    ],
)
def test_withdrawal_notices_are_dropped_and_counted(notice: str) -> None:
    ledger = Ledger(1)
    assert drop_withdrawn(frame(notice), ledger).is_empty()
    assert ledger.dropped == {"withdrawn": 1}


@pytest.mark.parametrize(
    "summary",
    [
        "We ask how often a paper has been withdrawn after acceptance, and by whom it was read.",
        "When a plate is withdrawn from a bath of liquid, a film of finite thickness forms on it.",
        "Optimal withdrawal from pension savings is found by dynamic programming.",
        "Bids that are withdrawn by bidders change the outcome of an auction.",
        "This paper has been withdrawn by the author. " + "But it still holds an abstract. " * 20,
    ],
)
def test_papers_about_withdrawal_are_kept(summary: str) -> None:
    assert drop_withdrawn(frame(summary), Ledger(1)).height == 1


@pytest.mark.parametrize("summary", ["", ".", "12 + 3", "No abstract available.", "n/a"])
def test_abstracts_without_content_are_dropped(summary: str) -> None:
    ledger = Ledger(2)
    assert drop_empty(frame(summary, ABSTRACT), ledger)["summary"].to_list() == [ABSTRACT]
    assert ledger.dropped == {"empty_abstract": 1}


def test_an_abstract_that_normalises_to_nothing_is_empty() -> None:
    nothing = frame(r"\cite{somebody}", fingerprint=[""])
    assert drop_empty(nothing, Ledger(1)).is_empty()


def test_of_duplicates_the_earliest_stays() -> None:
    papers = frame(
        "one abstract",
        "one abstract",
        "another",
        "a later version",
        id=["b", "a", "c", "c"],
        published_date=["2016-07-02", "2016-07-03", "2016-07-01", "2016-07-04"],
    )
    ledger = Ledger(4)
    kept = drop_duplicates(papers, ledger)
    assert kept["id"].to_list() == ["c", "b"]
    assert kept["summary"].to_list() == ["another", "one abstract"]
    assert ledger.dropped == {"duplicate_id": 1, "duplicate_text": 1}


def test_an_undated_duplicate_goes_before_a_dated_one() -> None:
    papers = frame("same", "same", id=["a", "b"]).with_columns(
        published_date=pl.Series([None, "2016-07-01"])
    )
    assert drop_duplicates(papers, Ledger(2))["id"].to_list() == ["b"]


def test_ledger_refuses_sums_that_differ() -> None:
    ledger = Ledger(10, {"bad_date": 2})
    ledger.check(8)
    with pytest.raises(ContractViolation, match=r"10 rows were read, but 7 kept and 2 dropped"):
        ledger.check(7)
