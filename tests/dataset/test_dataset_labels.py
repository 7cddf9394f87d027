from __future__ import annotations

import polars as pl
import pytest

from classmark.bundle.check import is_safe_text
from classmark.dataset.build.cleaning import (
    canonical_labels,
    drop_retired,
    keep_contract,
    settle_small,
)
from classmark.dataset.build.intake import judge_texts
from classmark.dataset.build.ledger import Ledger
from classmark.dataset.config import DatasetConfig
from classmark.errors import ContractViolation, UnknownCategory

ARXIV, FREE = DatasetConfig(), DatasetConfig(labels="free")


def frame(*rows: tuple[str | None, list[str]], **columns: list[str]) -> pl.DataFrame:
    values: dict[str, list[str]] = {
        "id": [f"p{n}" for n in range(len(rows))],
        "title": ["A title"] * len(rows),
        "summary": ["An abstract."] * len(rows),
        "fingerprint": ["an abstract"] * len(rows),
        "published_date": ["2016-07-01"] * len(rows),
        "updated_date": ["2016-07-01"] * len(rows),
    }
    labels = pl.DataFrame(
        {"category_code": [row[0] for row in rows], "categories": [row[1] for row in rows]},
        schema={"category_code": pl.String, "categories": pl.List(pl.String)},
    )
    return judge_texts(pl.DataFrame({**values, **columns}).hstack(labels))


def listed(papers: pl.DataFrame) -> list[tuple[str, list[str]]]:
    return list(papers.select("category_code", "categories").iter_rows())


def test_aliases_become_todays_codes_and_the_label_comes_first_once() -> None:
    papers = canonical_labels(
        frame(("cmp-lg", ["cs.AI", "cs.CL"]), ("CS.lg", [])), ARXIV, Ledger(2)
    )
    assert listed(papers) == [("cs.CL", ["cs.CL", "cs.AI"]), ("cs.LG", ["cs.LG"])]


def test_unknown_cross_lists_are_left_out_and_noted() -> None:
    ledger = Ledger(1)
    papers = canonical_labels(frame(("cs.LG", ["cs.LG", "cs.XX"])), ARXIV, ledger)
    assert listed(papers) == [("cs.LG", ["cs.LG"])]
    assert ledger.notes["unknown_cross_lists"] == {"cs.XX": 1}


def test_retired_archives_are_dropped_and_counted_only_among_arxiv_labels() -> None:
    papers = frame(("astro-ph", []), ("cond-mat", []), ("cs.LG", []))
    ledger = Ledger(3)
    assert drop_retired(papers, ARXIV, ledger)["category_code"].to_list() == ["cs.LG"]
    assert ledger.dropped == {"retired_category": 2}
    assert drop_retired(papers, FREE, Ledger(3)).height == 3


def test_free_labels_keep_their_spelling_and_lose_superfluous_white_space() -> None:
    papers = canonical_labels(
        frame((" Deep  Sea ", ["Deep", "Sea"]), ("b", ["a", "b"])), FREE, Ledger(2)
    )
    assert listed(papers) == [("Deep Sea", ["Deep Sea"]), ("b", ["b", "a"])]


def small_papers() -> pl.DataFrame:
    return frame(
        ("cs.LG", ["cs.LG"]),
        ("cs.LG", ["cs.LG"]),
        ("cs.CL", ["cs.CL", "cs.AI", "cs.LG"]),
        ("hep-th", ["hep-th"]),
    )


@pytest.mark.parametrize(
    ("small", "labels", "dropped"),
    [
        ("drop", ["cs.LG", "cs.LG"], {"small_category": 2}),
        ("merge", ["cs.LG", "cs.LG", "cs.LG"], {"small_category": 1}),
        ("keep", ["cs.LG", "cs.LG", "cs.CL", "hep-th"], {}),
    ],
)
def test_small_categories_are_dropped_merged_or_kept(
    small: str, labels: list[str], dropped: dict[str, int]
) -> None:
    ledger = Ledger(4)
    config = DatasetConfig(min_papers=2, small=small)  # type: ignore[arg-type]
    kept = settle_small(small_papers(), config, ledger)
    assert kept["category_code"].to_list() == labels
    assert ledger.dropped == dropped
    assert ledger.notes["small_categories"] == {"cs.CL": 1, "hep-th": 1}


def test_a_merged_paper_lists_its_new_label_first() -> None:
    ledger = Ledger(4)
    kept = settle_small(small_papers(), DatasetConfig(min_papers=2, small="merge"), ledger)
    assert kept["categories"].to_list()[-1] == ["cs.LG", "cs.CL", "cs.AI"]
    assert ledger.notes["merged_papers"] == 1


BROKEN = {
    "no_id": frame(("cs.LG", ["cs.LG"]), id=[""]),
    "no_text": frame(("cs.LG", ["cs.LG"]), title=[""], summary=[""]),
    "no_category": frame((None, [])),
    "unknown_category": frame(("cs.XX", ["cs.XX"])),
    "bad_date": frame(("cs.LG", ["cs.LG"]), published_date=["2016-02-30"]),
    "label_not_listed": frame(("cs.LG", ["cs.CL"])),
}


@pytest.mark.parametrize("reason", BROKEN)
def test_rows_that_break_the_contract_are_dropped_under_the_check_they_break(reason: str) -> None:
    ledger = Ledger(2)
    good = frame(("cs.LG", ["cs.LG"]), id=["good"])
    kept = keep_contract(pl.concat([BROKEN[reason], good]), ARXIV, ledger)
    assert kept["id"].to_list() == ["good"]
    assert ledger.dropped == {reason: 1}


def test_a_row_that_breaks_several_checks_counts_once() -> None:
    ledger = Ledger(1)
    keep_contract(frame(("cs.XX", []), id=[""], updated_date=["soon"]), ARXIV, ledger)
    assert ledger.dropped == {"no_id": 1}


def test_a_strict_contract_names_paper_and_fault() -> None:
    strict = DatasetConfig(strict=True)
    with pytest.raises(ContractViolation, match=r"paper 'p0'.*2016-02-30.*or does not exist"):
        keep_contract(BROKEN["bad_date"], strict, Ledger(1))
    with pytest.raises(UnknownCategory, match=r"unknown arXiv category 'cs.XX'"):
        keep_contract(BROKEN["unknown_category"], strict, Ledger(1))


def test_free_labels_need_no_taxonomy() -> None:
    papers = frame(("cookery", ["cookery"]))
    assert keep_contract(papers, FREE, Ledger(1)).height == 1


def test_free_labels_lose_what_no_bundle_may_have_in_a_label() -> None:
    papers = canonical_labels(frame(("Law\x1b[2J \u202eand\u00a0order\x07", [])), FREE, Ledger(1))
    assert listed(papers) == [("Law [2J and order", ["Law [2J and order"])]
    assert is_safe_text(papers["category_code"][0], 100)
