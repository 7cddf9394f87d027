"""The invented texts themselves are sound: golden papers, non-papers, and the example files.

Nothing here loads a model; what a model answers to these texts is tested beside it.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from classmark import taxonomy
from classmark.evaluation.behaviour import INVENTED_PAPERS_FILE
from classmark.evaluation.robustness import NON_PAPERS_FILE

EXAMPLES = Path(__file__).parents[2] / "examples"

KAGGLE_COLUMNS = [
    "id",
    "title",
    "category",
    "category_code",
    "published_date",
    "updated_date",
    "authors",
    "first_author",
    "summary",
    "summary_word_count",
]
# Scripts without blanks between words: a length in words says nothing there.
UNSPACED = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")
MIN_UNSPACED_CHARS = 90
MIN_WORDS, MAX_WORDS = 30, 150


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def golden_papers() -> list[dict[str, Any]]:
    return read_jsonl(INVENTED_PAPERS_FILE)


@pytest.fixture(scope="module")
def non_papers() -> list[dict[str, Any]]:
    return read_jsonl(NON_PAPERS_FILE)


@pytest.fixture(scope="module")
def example_papers() -> list[dict[str, Any]]:
    return read_jsonl(EXAMPLES / "papers.jsonl")


@pytest.fixture(scope="module")
def kaggle_rows() -> list[dict[str, str]]:
    with (EXAMPLES / "papers.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def repeated(values: list[str]) -> list[str]:
    return [value for value, count in Counter(values).items() if count > 1]


def is_unspaced(text: str) -> bool:
    return len(UNSPACED.findall(text)) > len(text) / 3


def is_known_and_active(code: str) -> bool:
    return taxonomy.canonical(code) == code and taxonomy.is_active(code)


# Golden papers


def test_golden_papers_number_at_least_120_and_each_has_an_id_of_its_own(
    golden_papers: list[dict[str, Any]],
) -> None:
    assert len(golden_papers) >= 120
    assert repeated([paper["id"] for paper in golden_papers]) == []


def test_no_golden_title_or_abstract_is_empty_or_used_twice(
    golden_papers: list[dict[str, Any]],
) -> None:
    for key in ("title", "abstract"):
        texts = [paper[key].strip() for paper in golden_papers]
        assert all(texts)
        assert repeated(texts) == []


def test_golden_papers_expect_at_least_70_categories(golden_papers: list[dict[str, Any]]) -> None:
    assert len({paper["category_code"] for paper in golden_papers}) >= 70


def test_every_code_of_a_golden_paper_is_canonical_and_active(
    golden_papers: list[dict[str, Any]],
) -> None:
    codes = {code for paper in golden_papers for code in (paper["category_code"], *paper["also"])}
    assert [code for code in sorted(codes) if not is_known_and_active(code)] == []


def test_no_golden_paper_lists_its_expected_primary_as_an_alternative(
    golden_papers: list[dict[str, Any]],
) -> None:
    doubled = [p["id"] for p in golden_papers if p["category_code"] in p["also"]]
    assert doubled == []


def test_no_golden_paper_gives_its_category_away(golden_papers: list[dict[str, Any]]) -> None:
    # Archive-only codes such as `quant-ph` count too; no abstract needs to name them.
    telling = [
        paper["id"]
        for paper in golden_papers
        if re.search(
            rf"\b{re.escape(paper['category_code'])}\b", paper["title"] + paper["abstract"]
        )
    ]
    assert telling == []


def test_golden_papers_hold_latex_and_letters_beyond_ascii(
    golden_papers: list[dict[str, Any]],
) -> None:
    texts = [f"{paper['title']}\n{paper['abstract']}" for paper in golden_papers]
    assert sum("$" in text or "\\" in text for text in texts) >= 20
    assert sum(not text.isascii() for text in texts) >= 12


# Non-papers


def test_non_papers_number_at_least_240_and_each_has_an_id_of_its_own(
    non_papers: list[dict[str, Any]],
) -> None:
    assert len(non_papers) >= 240
    assert repeated([item["id"] for item in non_papers]) == []
    assert {tuple(item) for item in non_papers} == {("id", "kind", "split", "text")}


def test_non_papers_are_of_at_least_20_kinds_with_ten_foreign_abstracts(
    non_papers: list[dict[str, Any]],
) -> None:
    kinds = Counter(item["kind"] for item in non_papers)
    assert len(kinds) >= 20
    assert kinds["foreign-abstract"] == 10
    assert max(kinds.values()) <= len(non_papers) / 5


def test_non_papers_of_each_kind_go_alternately_to_fit_and_to_measure(
    non_papers: list[dict[str, Any]],
) -> None:
    # Half of each kind fits the detector, the other half measures it: no text does both.
    for kind in {item["kind"] for item in non_papers}:
        splits = [item["split"] for item in non_papers if item["kind"] == kind]
        assert splits == [("fit", "measure")[i % 2] for i in range(len(splits))], kind
    sizes = Counter(item["split"] for item in non_papers)
    assert min(sizes["fit"], sizes["measure"]) >= 110


def test_non_papers_have_the_length_of_an_abstract(non_papers: list[dict[str, Any]]) -> None:
    unspaced = [item for item in non_papers if is_unspaced(item["text"])]
    spaced = [item for item in non_papers if not is_unspaced(item["text"])]
    words = {item["id"]: len(item["text"].split()) for item in spaced}
    assert {k: n for k, n in words.items() if not MIN_WORDS <= n <= MAX_WORDS} == {}
    assert sum(n >= 50 for n in words.values()) > len(words) * 0.85
    assert [i["id"] for i in unspaced if len(i["text"]) < MIN_UNSPACED_CHARS] == []


def test_no_two_non_papers_share_a_run_of_eight_words(non_papers: list[dict[str, Any]]) -> None:
    # Fitted and measured texts that share phrases would flatter the out-of-scope detector.
    runs: dict[tuple[str, ...], str] = {}
    shared = []
    for item in non_papers:
        words = re.findall(r"[^\W\d_]+", item["text"].lower())
        for run in zip(*(words[i:] for i in range(8)), strict=False):
            if runs.setdefault(run, item["id"]) != item["id"]:
                shared.append((runs[run], item["id"], " ".join(run)))
    assert shared == []


# Example files


def test_the_jsonl_and_the_csv_example_hold_the_same_eight_papers(
    example_papers: list[dict[str, Any]], kaggle_rows: list[dict[str, str]]
) -> None:
    from_jsonl = [(p["id"], p["title"], p["abstract"], p["category_code"]) for p in example_papers]
    from_csv = [(r["id"], r["title"], r["summary"], r["category_code"]) for r in kaggle_rows]
    assert from_jsonl == from_csv
    assert len(from_jsonl) == 8


def test_the_bibtex_example_holds_the_same_papers_in_the_same_order(
    example_papers: list[dict[str, Any]],
) -> None:
    text = (EXAMPLES / "papers.bib").read_text(encoding="utf-8")
    assert re.findall(r"eprint +=\s+\{(.+?)\}", text) == [p["id"] for p in example_papers]
    assert re.findall(r"title +=\s+\{\{(.+)\}\}", text) == [p["title"] for p in example_papers]
    codes = re.findall(r"primaryclass +=\s+\{(.+?)\}", text)
    assert codes == [p["category_code"] for p in example_papers]
    assert text.count("{") == text.count("}")


def test_the_csv_example_is_in_the_kaggle_layout(kaggle_rows: list[dict[str, str]]) -> None:
    assert list(kaggle_rows[0]) == KAGGLE_COLUMNS
    for row in kaggle_rows:
        assert row["category"] == taxonomy.name(row["category_code"])
        assert int(row["summary_word_count"]) == len(row["summary"].split())
        assert row["authors"].startswith(f"[{row['first_author']}")


def test_the_dates_of_the_csv_example_are_written_as_kaggle_writes_them(
    kaggle_rows: list[dict[str, str]], example_papers: list[dict[str, Any]]
) -> None:
    assert all(
        re.fullmatch(r"[1-9]\d?/[1-9]\d?/\d\d", row["published_date"]) for row in kaggle_rows
    )
    iso = [
        datetime.strptime(row["published_date"], "%m/%d/%y").date().isoformat()
        for row in kaggle_rows
    ]
    assert iso == [paper["published_date"] for paper in example_papers]


def test_the_example_papers_spread_over_eight_archives_with_the_primary_listed_first(
    example_papers: list[dict[str, Any]],
) -> None:
    assert len({taxonomy.parent(paper["category_code"]) for paper in example_papers}) == 8
    for paper in example_papers:
        listed = paper["categories"].split()
        assert listed[0] == paper["category_code"]
        assert all(is_known_and_active(code) for code in listed)
