from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classmark.errors import UnreadableSource, UsageError, WrongColumns
from classmark.papers import read_papers, read_stream
from classmark.records import BadRecord, Paper

KAGGLE_HEADER = (
    "id,title,category,category_code,published_date,updated_date,authors,first_author,summary,"
    "summary_word_count\n"
)


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(content: str | bytes, **options: object) -> list[Paper | BadRecord]:
    raw = content if isinstance(content, bytes) else content.encode()
    return list(read_stream(io.BytesIO(raw), **options))  # type: ignore[arg-type]


def test_a_kaggle_row_becomes_a_paper_with_iso_dates(tmp_path: Path) -> None:
    row = (
        'cs-9308101v1,"On, dynamic\nbacktracking",Artificial Intelligence,cs.AI,8/1/93,9/2/03,'
        '"[\'M. L. Ginsberg\']",\'M. L. Ginsberg\',"Because of ""depth"",\r\nwe study.",5\n'
    )
    path = write(tmp_path / "arXiv_scientific dataset.csv", "\ufeff" + KAGGLE_HEADER + row)
    assert list(read_papers(path)) == [
        Paper(
            id="cs-9308101v1",
            title="On, dynamic\nbacktracking",
            abstract='Because of "depth",\r\nwe study.',
            category_code="cs.AI",
            published_date="1993-08-01",
            updated_date="2003-09-02",
            authors="['M. L. Ginsberg']",
        )
    ]


def test_columns_are_found_by_mapping_whatever_their_case(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "Nr;Titel;Text;Fach\n7;A;B;x y\n")
    columns = {"title": "titel", "abstract": "Text", "id": "NR", "categories": "Fach"}
    assert list(read_papers(path, columns=columns)) == [
        Paper(id="7", title="A", abstract="B", category_code="x", categories=("x", "y"))
    ]


def test_a_mapped_column_counts_before_the_usual_one() -> None:
    content = "title,abstract,summary,text\nA,usual,second,mapped\n"
    columns = {"abstract": "text"}
    assert read(content, columns=columns) == [Paper(id="2", title="A", abstract="mapped")]
    assert read(content) == [Paper(id="2", title="A", abstract="usual")]


def test_tabs_separate_the_columns_of_a_tsv(tmp_path: Path) -> None:
    path = write(tmp_path / "t.tsv", "title\tabstract\nA\tB, C\n")
    assert list(read_papers(path)) == [Paper(id="2", title="A", abstract="B, C")]
    assert list(read_papers(path, format="tsv")) == list(read_papers(path))


def test_a_record_without_id_is_named_by_its_first_line() -> None:
    papers = read('title,abstract\nA,"b\nb"\n\nC,D\n')
    assert [paper.id for paper in papers] == ["2", "5"]


def test_the_first_of_two_columns_with_the_same_name_counts() -> None:
    assert read("title,abstract,title\nA,B,C\n") == [Paper(id="2", title="A", abstract="B")]


def test_wrong_columns_are_named_with_the_remedy(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "name,text\na,b\n")
    with pytest.raises(
        WrongColumns,
        match=r"t\.csv has no column 'abstract' or 'summary'; columns seen: name, text\. "
        r"Name yours with --columns title=…,abstract=…",
    ):
        list(read_papers(path))


def test_a_long_header_is_listed_in_part(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", ",".join(f"c{i}" for i in range(30)) + "\n")
    with pytest.raises(WrongColumns, match=r"c11 and 18 more\. Name"):
        list(read_papers(path))


def test_titles_alone_are_read_only_if_they_are_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "title,text\na,b\n")
    with pytest.raises(WrongColumns):
        list(read_papers(path))
    assert list(read_papers(path, columns={"title": "title"})) == [Paper(id="2", title="a")]


def test_a_mapped_column_that_is_missing_is_named() -> None:
    with pytest.raises(
        WrongColumns, match=r"no column 'Texxt' for abstract; columns seen: title, Text"
    ):
        read("title,Text\na,b\n", columns={"abstract": "Texxt"}, format="csv")


def test_an_unknown_field_in_the_mapping_is_a_usage_error_at_once() -> None:
    with pytest.raises(
        UsageError, match=r"the field 'titel', which papers do not have\. Fields: id"
    ):
        read_stream(io.BytesIO(b""), columns={"titel": "title"})


def test_a_row_of_the_wrong_length_is_bad_and_the_next_is_read() -> None:
    bad, good = read("id,title,abstract\n1,A\n2,B,C\n")
    assert bad == BadRecord(
        id="2",
        kind="wrong_field_count",
        message="line 2: 2 fields, the header has 3 (first field: '1')",
    )
    assert good == Paper(id="2", title="B", abstract="C")


def test_a_row_without_text_is_bad_under_its_own_id() -> None:
    assert read("id,title,abstract\nx7, , \n") == [
        BadRecord(id="x7", kind="missing_text", message="line 2: title and abstract are empty")
    ]


def test_bytes_that_are_not_utf8_make_that_record_bad_only() -> None:
    bad, good = read(b'title,abstract\nA,"caf\xe9\nx"\nB,C\n')
    assert isinstance(bad, BadRecord)
    assert (bad.id, bad.kind) == ("2", "bad_encoding")
    assert "line 2: is not UTF-8: byte 0xe9 at position 7" in bad.message
    assert good == Paper(id="4", title="B", abstract="C")


def test_nul_bytes_make_that_record_bad_only() -> None:
    filler = "D,E\n" * 20
    papers = read(f"title,abstract\nA,b\0\n{filler}")
    assert papers[0] == BadRecord(id="2", kind="nul_byte", message="line 2: holds NUL bytes")
    assert len(papers) == 21


def test_a_quote_that_never_ends_is_bad_and_reading_goes_on() -> None:
    rest = "".join(f"{i},{'word ' * 100}\n" for i in range(400))
    papers = read('title,abstract\nA,"never ends\n' + rest)
    assert isinstance(papers[0], BadRecord)
    assert papers[0].kind == "broken_csv"
    assert papers[0].message.startswith(
        "line 2: a field or its quotes cannot be read (field larger"
    )
    assert len(papers) > 100
    assert all(isinstance(paper, Paper) for paper in papers[2:])


def test_an_overlong_line_is_skipped() -> None:
    content = "title,abstract\nA," + "x" * 5000 + "\nB,C\n"
    bad, good = read(content, max_record_bytes=1000)
    assert bad == BadRecord(
        id="2",
        kind="too_long",
        message="line 2: 5,003 bytes, more than the limit of 1,000; skipped",
    )
    assert good == Paper(id="3", title="B", abstract="C")


def test_an_overlong_last_line_without_line_end_is_skipped() -> None:
    papers = read("title,abstract\nB,C\nA," + "x" * 5000, max_record_bytes=1000)
    assert [type(paper) for paper in papers] == [Paper, BadRecord]


@pytest.mark.parametrize(("strict", "kind"), [(False, Paper), (True, BadRecord)])
def test_a_bad_date_is_unknown_or_strictly_bad(strict: bool, kind: type) -> None:
    (record,) = read("title,abstract,published_date\nA,B,2/30/99\n", strict_dates=strict)
    assert isinstance(record, kind)
    if isinstance(record, BadRecord):
        assert record.kind == "bad_date"
        assert record.message.startswith("line 2: date '2/30/99' is not a day")
    else:
        assert record.published_date is None


def test_a_header_alone_holds_no_papers() -> None:
    assert read("title,abstract\n") == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"title\rabstract\rA,B\n", r"the first line names no columns \(new-line"),
        (b"t\xeftle,abstract\nA,B\n", r"line 1 is not UTF-8: byte 0xef"),
        (b"\n\n", r"standard input is empty"),
    ],
)
def test_a_table_without_readable_header_is_unreadable(content: bytes, message: str) -> None:
    with pytest.raises(UnreadableSource, match=message):
        read(content, format="csv")


FIELD = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="\0\r"), max_size=40
)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(FIELD, FIELD.filter(str.strip)), max_size=6))
def test_what_a_csv_writer_wrote_is_read_back(rows: list[tuple[str, str]]) -> None:
    file = io.StringIO(newline="")
    csv.writer(file).writerows([("title", "abstract"), *rows])
    papers = read(file.getvalue())
    assert [(paper.title, paper.abstract) for paper in papers if isinstance(paper, Paper)] == rows


def test_a_line_of_too_many_fields_is_not_split() -> None:
    wide = b"," * 100_000
    header, row = b"title,abstract\n", b"A,B\n"
    good, bad, last = read_stream(io.BytesIO(header + row + wide + b"\n" + row), format="csv")
    assert good == Paper(id="2", title="A", abstract="B")
    assert bad == BadRecord(
        id="3", kind="too_long", message="line 3: holds more than 100,000 fields; skipped"
    )
    assert last == Paper(id="4", title="A", abstract="B")
    with pytest.raises(UnreadableSource, match=r"line 1 holds more than 100,000 fields"):
        list(read_stream(io.BytesIO(b"title,abstract" + wide + b"\n" + row), format="csv"))
