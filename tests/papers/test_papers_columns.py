"""Columns that people name, those that a model expects, and what an error says of them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from classmark.errors import UsageError, WrongColumns
from classmark.papers import Columns, detect_format, parse_columns, read_papers, read_stream
from classmark.papers.columns import MAX_SEEN_CHARS, SEEN_COLUMNS, SEEN_KEYS
from classmark.records import BadRecord, Paper

OWN = {"id": "Nr", "title": "Titel", "abstract": "Text", "category_code": "Fach"}
EXPECTED = Columns(expected=OWN, advice="Ask a friend")


def read(content: str, columns: Columns, format: str = "auto") -> list[Paper | BadRecord]:
    return list(read_stream(io.BytesIO(content.encode()), columns=columns, format=format))


@pytest.mark.parametrize(
    "header",
    [
        "Article Title,Article Abstract,Author Full Names,Publication Year",
        "Title,Abstract,Author/s,Date Published",
        "Title,Abstract,Authors,Published Year",
        "Paper Title,Paper Abstract,Author Names,Date Posted",
        "paper_title,paper_abstract,paper_authors,year",
        "Document Title,Abstract,Authors,Publication_Year",
        "display_name,description,authorships.author.display_name,publication_date",
        "title,abstract_note,author,publication year",
        "Item Title,Summary,Authors,Publication Year",
    ],
)
def test_headers_of_many_exports_are_known(header: str) -> None:
    assert read(f"{header}\nGraphs,We colour.,A. One; B. Two,2021\n", {}) == [
        Paper(
            id="2",
            title="Graphs",
            abstract="We colour.",
            authors=("A. One", "B. Two"),
            published_date="2021-01-01",
        )
    ]


def test_full_names_come_before_those_with_initials() -> None:
    header = "Authors,Author full names,Author(s) ID,Title\n"
    rows = (
        '"Muster A.","Muster, Ada (572); Beispiel, Bo (573)",572,Graphs\n"Muster, A.",,572,Sums\n'
    )
    first, second = read(header + rows, Columns())
    assert isinstance(first, Paper)
    assert isinstance(second, Paper)
    assert (first.authors, second.authors) == (("Muster, Ada", "Beispiel, Bo"), ("Muster, A.",))


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("", {}),
        ("title=Titel, abstract = Text", {"title": "Titel", "abstract": "Text"}),
        ('{"title": "Titel, deutsch = kurz"}', {"title": "Titel, deutsch = kurz"}),
        (' {"id": " Nr "}', {"id": " Nr "}),
        ("{}", {}),
    ],
)
def test_columns_are_written_as_pairs_or_as_json(text: str, columns: dict[str, str]) -> None:
    assert parse_columns(text) == columns


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title", r"'title' is not FIELD=COLUMN"),
        ("title=A,", r"'' is not FIELD=COLUMN"),
        ("title=A,title=B", r"names 'title' twice"),
        ("titel=A", r"the field 'titel', which papers do not have\. Fields: id, title"),
        ('{"title": "A", "title": "B"}', r"names 'title' twice"),
        ('{"title": 1}', r"'title' must be the name of a column"),
        ('{"title": " "}', r"'title' must be the name of a column"),
        ('{"title": "A"', r"is not a JSON object"),
        ('{"title": ' + "[" * 9_000, r"is not a JSON object"),
        ("title=" + "A" * 10_000, r"10,006 characters are more than 10,000"),
    ],
)
def test_columns_that_cannot_be_are_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_columns(text)


@pytest.mark.parametrize(
    ("content", "paper"),
    [
        ("Nr,Titel,Text\n7,A,B\n", Paper(id="7", title="A", abstract="B")),
        (
            "Nr;Fach;Titel;Text\n7;x;A;B\n",
            Paper(id="7", title="A", abstract="B", category_code="x"),
        ),
        ("title,Titel,Text\nusual,A,B\n", Paper(id="2", title="A", abstract="B")),
        ("id,title,abstract\n7,A,B\n", Paper(id="7", title="A", abstract="B")),
        ("title,Text\nA,B\n", Paper(id="2", title="A", abstract="B")),
        ('{"Titel": "A", "Text": "B"}\n', Paper(id="1", title="A", abstract="B")),
        ('{"title": "A", "abstract": "B"}\n', Paper(id="1", title="A", abstract="B")),
        ("@misc{k, titel={A}, text={B}}", Paper(id="k", title="A", abstract="B")),
    ],
)
def test_expected_columns_are_read_before_the_usual_ones_and_may_be_missing(
    content: str, paper: Paper
) -> None:
    assert read(content, EXPECTED, "csv" if content.startswith("title,Text") else "auto") == [paper]


def test_a_given_column_counts_before_an_expected_one() -> None:
    columns = EXPECTED.overruled_by(Columns(given={"title": "Name"}, advice="Ask"))
    assert read("Name,Titel,Text\nA,B,C\n", columns) == [Paper(id="2", title="A", abstract="C")]
    with pytest.raises(
        WrongColumns, match=r"no column 'Name' for title; columns seen: Titel, Text"
    ):
        read("Titel,Text\nB,C\n", columns, "csv")


def test_a_file_without_the_expected_columns_names_what_was_expected_and_seen(
    tmp_path: Path,
) -> None:
    path = tmp_path / "new.csv"
    path.write_text("Überschrift;Inhalt\na;b\n", encoding="utf-8")
    with pytest.raises(WrongColumns) as caught:
        list(read_papers(path, columns=EXPECTED))
    assert str(caught.value) == (
        f"{path} has no column 'Titel', 'Text', 'title' or 'abstract'; "
        "columns seen: Überschrift, Inhalt. Ask a friend"
    )
    assert caught.value.columns_seen == ("Überschrift", "Inhalt")


def test_columns_without_a_name_are_not_listed() -> None:
    with pytest.raises(WrongColumns, match=r"columns seen: Report of 2021, Nr\. Name yours"):
        read(f"Report of 2021{';' * 900}Nr\n", Columns(), format="csv")


def test_a_header_is_known_by_the_expected_texts(tmp_path: Path) -> None:
    path = tmp_path / "new.txt"
    path.write_text("Titel;Text\na;b\n", encoding="utf-8")
    assert detect_format(path) == "text"
    assert detect_format(path, EXPECTED.marks) == "csv"


def test_keys_that_are_not_understood_are_offered_as_they_are_written() -> None:
    (bad,) = read(json.dumps({"Überschrift": "a", "Nr": 1}), EXPECTED)
    assert isinstance(bad, BadRecord)
    assert bad.message == (
        "line 1: no 'Titel', 'Text', 'title' or 'abstract'; keys seen: Überschrift, Nr. "
        "Ask a friend"
    )
    assert bad.to_dict()["error"]["columns_seen"] == ["Überschrift", "Nr"]


def test_as_many_names_are_offered_as_an_answer_can_hold() -> None:
    names = ["x" * (MAX_SEEN_CHARS + 1), "", "a", "a", *(f"n{i}" for i in range(2 * SEEN_COLUMNS))]
    with pytest.raises(WrongColumns) as caught:
        read(",".join(names) + "\n", Columns(), "csv")
    assert caught.value.columns_seen == ("a", *(f"n{i}" for i in range(SEEN_COLUMNS - 1)))
    (bad,) = read(json.dumps(dict.fromkeys(names, 1)), Columns())
    assert isinstance(bad, BadRecord)
    assert len(bad.columns_seen) == SEEN_KEYS


def test_a_field_that_papers_do_not_have_is_refused_of_a_model_too() -> None:
    with pytest.raises(UsageError, match=r"the field 'colour', which papers do not have"):
        Columns(expected={"colour": "Farbe"})


@pytest.mark.parametrize("columns", [{"title": "Titel"}, Columns(given={"title": "Titel"})])
def test_in_python_the_argument_is_advised(columns: Any) -> None:
    with pytest.raises(WrongColumns, match=r"Name yours with columns=\{'title': …, 'abstract': …"):
        read("a,b\n1,2\n", columns, "csv")


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("columns", [Columns(), Columns(given={"title": "TITLE"}), EXPECTED])
def test_the_header_of_each_joined_table_holds_for_the_rows_below_it(
    mark: str, columns: Columns
) -> None:
    first = '\ufeffid,title,abstract\na,"Slow\nmoons",We\nb,Abstract,Title\n'
    same = f"{mark}id,title,abstract\nc,Cores,They\n"
    other = f"{mark}Title,ID,Abstract\nSieves,d,You\n"
    assert read(first + same + other + same.replace("c,", "e,"), columns) == [
        Paper(id="a", title="Slow\nmoons", abstract="We"),
        Paper(id="b", title="Abstract", abstract="Title"),
        Paper(id="c", title="Cores", abstract="They"),
        Paper(id="d", title="Sieves", abstract="You"),
        Paper(id="e", title="Cores", abstract="They"),
    ]


@pytest.mark.parametrize("empty", [",,", ",", ' , ,""', ",,,,,,", ""])
def test_a_row_without_a_value_is_passed_over_like_an_empty_line(empty: str) -> None:
    rows = f"id,title,abstract\n{empty}\na,A,B\n{empty}\n{empty}\nb,,\n{empty}\n"
    paper, bad = read(rows, Columns())
    assert paper == Paper(id="a", title="A", abstract="B")
    assert isinstance(bad, BadRecord)
    assert (bad.id, bad.message) == ("b", "line 6: title and abstract are empty")


@pytest.mark.parametrize(
    "table",
    [
        "| title | abstract |\n|:-----|-----:|\n| A | B |\n",
        "| title | abstract |\n|-------+----------|\n| A | B |\n",
        " title | abstract\n-------+---------\n A | B\n",
        "title,abstract\n-----,--------\nA,B\n",
    ],
)
def test_the_line_below_a_header_is_no_paper(table: str) -> None:
    (paper,) = read_stream(io.BytesIO(table.encode()))
    assert isinstance(paper, Paper)
    assert (paper.title.strip(), paper.abstract.strip()) == ("A", "B")
