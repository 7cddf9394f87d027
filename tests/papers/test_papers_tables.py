from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classmark.errors import UnreadableSource, UsageError, WrongColumns
from classmark.papers import read_papers, read_stream, without_markup
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
            authors=("M. L. Ginsberg",),
        )
    ]


def test_an_empty_cell_gives_way_to_the_next_column_of_its_field() -> None:
    header = "DOI,Title,Abstract,Summary,Date,Year,Abstract\n"
    rows = ",A,,We sum up.,,2021,\n10.1/x,B, ,,2022-05-04,2021,We repeat.\n,C,,,,,\n"
    assert read(header + rows, format="csv") == [
        Paper(id="2", title="A", abstract="We sum up.", published_date="2021-01-01"),
        Paper(id="10.1/x", title="B", abstract="We repeat.", published_date="2022-05-04"),
        Paper(id="4", title="C"),
    ]
    # A column that somebody names is that of the field, and no other one.
    papers = read(header + rows, format="csv", columns={"abstract": "Summary"})
    abstracts = [paper.abstract for paper in papers if isinstance(paper, Paper)]
    assert abstracts == ["We sum up.", "", ""]


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_a_heading_above_the_header_is_passed_over(delimiter: str) -> None:
    heading = '"About the data: exported on May 4, 2021. Criteria: graphs; colours"\n\nMy list\n'
    rows = "Rank,Title,Abstract\n1,A,We colour\n2,B,We sum\n".replace(",", delimiter)
    papers = read(heading + rows, format="csv")
    assert papers == [
        Paper(id="5", title="A", abstract="We colour"),
        Paper(id="6", title="B", abstract="We sum"),
    ]
    with pytest.raises(WrongColumns, match=r"columns seen: About the data.*2021"):
        read(heading + "Rank,Name\n1,A\n" * 20, format="csv")


def test_an_export_of_dspace_is_read_in_whichever_language_a_paper_has() -> None:
    header = "id,collection,dc.contributor.author[],dc.date.issued[],dc.title[],dc.title[en_US],"
    header += "dc.description.abstract[de],dc.description.abstract[en_US]\n"
    rows = '7a,1/2,"Muster, Ada||Beispiel, B.",2021-05-04,,Graphs,,We colour.\n'
    rows += '7b,1/2,"Muster, Ada",2021,Graphen,,Wir malen.,\n'
    one, other = read(header + rows)
    authors = ("Muster, Ada", "Beispiel, B.")
    assert one == Paper(
        id="7a", title="Graphs", abstract="We colour.", authors=authors, published_date="2021-05-04"
    )
    assert isinstance(other, Paper)
    assert (other.title, other.abstract, other.authors) == ("Graphen", "Wir malen.", authors[:1])
    named = {"title": "dc.title[en_US]"}
    assert isinstance(first := read(header + rows, columns=named)[0], Paper)
    assert first.title == "Graphs"


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
        match=r"t\.csv has no column 'title' or 'abstract'; columns seen: name, text\. "
        r"Name yours with columns=\{'title': …, 'abstract': …\}",
    ):
        list(read_papers(path))


def test_a_long_header_is_listed_in_part(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", ",".join(f"c{i}" for i in range(30)) + "\n")
    with pytest.raises(WrongColumns, match=r"c11 and 18 more\. Name"):
        list(read_papers(path))


def test_titles_alone_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "title,text\na,b\n")
    assert list(read_papers(path)) == [Paper(id="2", title="a")]


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


def test_a_quote_that_never_ends_is_bad_and_every_further_row_is_read() -> None:
    rest = "".join(f"{i},{'word ' * 100}\n" for i in range(400))
    bad, *papers = read('title,abstract\nA,"never ends\n' + rest)
    assert bad == BadRecord(
        id="2",
        kind="broken_csv",
        message="line 2: a field or its quotes cannot be read (a quote is opened, and not closed "
        "before the next row)",
    )
    assert [paper.id for paper in papers] == [str(line) for line in range(3, 403)]


def paper(id: str, title: str = "A planet", abstract: str = "We wait.", **more: str) -> Paper:
    return Paper(id=id, title=title, abstract=abstract, **more)  # type: ignore[arg-type]


def rows_of(n: int, delimiter: str = "\t") -> list[str]:
    return [delimiter.join([str(i), f"Warm planet {i}", "We time its transits."]) for i in range(n)]


def table_of(rows: list[str], delimiter: str = "\t") -> str:
    return "\n".join([delimiter.join(["id", "title", "abstract"]), *rows]) + "\n"


@pytest.mark.parametrize("strays", [[3], [3, 10], [0, 1, 2], [9]])
def test_a_stray_quote_in_a_tsv_is_a_character_and_no_row_is_lost(strays: list[int]) -> None:
    rows = rows_of(12)
    for i in strays:
        rows[i] = rows[i].replace("\tWarm", '\t"Warm')
    papers = read(table_of(rows))
    assert [paper.id for paper in papers] == [str(i) for i in range(12)]
    assert [i for i, p in enumerate(papers) if isinstance(p, Paper) and '"' in p.title] == strays


@pytest.mark.parametrize("closed", ['"Warm planet 7', 'Warm planet 7"', "Warm planet 7"])
def test_a_stray_quote_in_a_csv_costs_its_own_row_alone(closed: str) -> None:
    rows = rows_of(12, ",")
    rows[3] = rows[3].replace(",Warm", ',"Warm')
    rows[7] = rows[7].replace("Warm planet 7", closed)
    found = read(table_of(rows, ","))
    assert len(found) == 12
    bad = [record for record in found if isinstance(record, BadRecord)]
    assert [record.kind for record in bad] == ["broken_csv"] * (1 + closed.startswith('"'))
    assert bad[0].message.startswith("line 5: ")
    good = [record.id for record in found if isinstance(record, Paper)]
    assert good == [str(i) for i in range(12) if i != 3 and not (i == 7 and closed[0] == '"')]


@settings(max_examples=60)
@given(
    st.sampled_from(["\t", ",", ";"]),
    # One a row: with two, a row can end a field that the row before has opened, and begin another.
    st.lists(
        st.tuples(st.integers(0, 19), st.integers(0, 2), st.booleans()),
        max_size=6,
        unique_by=lambda stray: stray[0],
    ),
)
def test_every_row_is_an_answer_or_an_error_wherever_quotes_stray(
    delimiter: str, strays: list[tuple[int, int, bool]]
) -> None:
    rows = [row.split(delimiter) for row in rows_of(20, delimiter)]
    for i, column, at_start in strays:
        rows[i][column] = f'"{rows[i][column]}' if at_start else f'{rows[i][column]}"'
    found = read(table_of([delimiter.join(row) for row in rows], delimiter))
    assert len(found) == 20
    lines = [r.message.split(":")[0] if isinstance(r, BadRecord) else None for r in found]
    assert [line for line in lines if line] == [
        f"line {i + 2}" for i, line in enumerate(lines) if line
    ]
    for i in set(range(20)) - {i for i, _, _ in strays}:
        assert found[i] == paper(str(i), f"Warm planet {i}", "We time its transits.")


def test_a_quoted_text_over_several_lines_is_one_field_in_a_tsv_too() -> None:
    content = 'id\ttitle\tabstract\n1\tA\t"We time\nits transits."\n2\tB\tC\n'
    assert [(p.id, p.abstract) for p in read(content) if isinstance(p, Paper)] == [
        ("1", "We time\nits transits."),
        ("2", "C"),
    ]


def test_a_long_column_that_nobody_reads_costs_nothing() -> None:
    references = "Muster 2021; " * 20_000
    rows = f'1,A,B,"{references}"\n2,C,D,\n3,E,F,"x\ny"\n'
    papers = read("id,title,abstract,references\n" + rows)
    assert [paper.id for paper in papers] == ["1", "2", "3"]
    long, *others = read("id,title,abstract,references\n" + rows, max_record_bytes=1_000)
    assert (isinstance(long, BadRecord) and long.kind) == "too_long"
    assert [paper.id for paper in others] == ["2", "3"]


def test_one_empty_field_more_than_the_header_is_passed_over() -> None:
    content = (
        "\ufeffPT\tAU\tTI\tSO\tAB\tUT\tDA\r\nJ\tX, A\tA slow planet\tJ\tWe wait.\tWOS:1\t\t\r\n"
    )
    (paper,) = read(content)
    assert paper == Paper(id="WOS:1", title="A slow planet", abstract="We wait.", authors=("X, A",))
    (bad,) = read("title,abstract\nA,B,C\n")
    assert isinstance(bad, BadRecord)


@pytest.mark.parametrize("line", ["sep=;", "SEP=;\r", '"sep=;"'])
def test_a_line_that_states_the_delimiter_is_obeyed(line: str) -> None:
    assert read(f"{line}\nid;title;abstract\n1;A, b;C\n") == [
        Paper(id="1", title="A, b", abstract="C")
    ]


def test_carriage_returns_end_lines_where_there_are_no_line_feeds() -> None:
    papers = read("id,title,abstract\r1,A,B\r2,C,D\r")
    assert [paper.id for paper in papers] == ["1", "2"]


def test_rows_whose_lines_end_in_different_ways_are_all_read() -> None:
    content = 'id,title,abstract\r\n1,A,B\r2,"C\rc",D\r\n3,E,F\n4,G,H\r5,I,J\r6,K\r7,L,M\n'
    records = read(content)
    assert [record.id for record in records] == ["1", "2", "3", "4", "5", "4", "7"]
    assert [type(record) for record in records].count(BadRecord) == 1


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_utf_16_is_read_with_a_mark_and_without(encoding: str) -> None:
    content = "id,title,abstract\n" + "".join(f"{i},Égalité,We draw.\n" for i in range(3000))
    papers = read(content.encode(encoding))
    assert len(papers) == 3000
    assert papers[-1] == Paper(id="2999", title="Égalité", abstract="We draw.")


@pytest.mark.parametrize(
    ("header", "row", "expected"),
    [
        (
            "Key,Item Type,Publication Year,Author,Title,Publication Title,Abstract Note,Date",
            'AB12,journalArticle,2021,"X, A",A planet,J,We wait.,2021-05',
            Paper(
                id="AB12",
                title="A planet",
                abstract="We wait.",
                published_date="2021-05-01",
                authors=("X, A",),
            ),
        ),
        (
            "Authors,Title,Year,Source title,DOI,Abstract,EID",
            '"X, A",A planet,2021,J,10.1/x,We wait.,2-s2.0-1',
            Paper(
                id="2-s2.0-1",
                title="A planet",
                abstract="We wait.",
                published_date="2021-01-01",
                authors=("X, A",),
            ),
        ),
        (
            "Publication Type,Authors,Article Title,Abstract,UT (Unique WOS ID)",
            'J,"X, A",A planet,We wait.,WOS:1',
            paper("WOS:1", authors=("X, A",)),
        ),
        (
            "PMID,Title,Authors,Citation,Publication Year,DOI",
            "7,A planet,X A,J 2021,2021,10.1/x",
            paper("7", abstract="", authors=("X A",), published_date="2021-01-01"),
        ),
    ],
    ids=["Zotero", "Scopus", "Web of Science", "PubMed"],
)
def test_columns_of_well_known_exports_need_no_mapping(
    header: str, row: str, expected: Paper
) -> None:
    assert read(f"{header}\n{row}\n") == [expected]


@pytest.mark.parametrize(
    "cell",
    ["cs.LG stat.ML", "cs.LG, stat.ML", "cs.LG;stat.ML", "['cs.LG', 'stat.ML']", "cs.LG|stat.ML"],
)
def test_categories_are_parted_however_they_are_written(cell: str) -> None:
    (paper,) = read(f'title,abstract,categories\nA,B,"{cell}"\n')
    assert isinstance(paper, Paper)
    assert (paper.category_code, paper.categories) == ("cs.LG", ("cs.LG", "stat.ML"))


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
        (b'"title" x" \n', r"the first line names no columns \(a field or its quotes"),
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


# Not what stands for a missing abstract, such as "N/A".
ABSTRACT = FIELD.map(lambda text: f"x{text}") | FIELD.map(lambda text: f"{text} x")


@settings(max_examples=60)
@given(st.lists(st.tuples(FIELD, ABSTRACT), max_size=6))
def test_what_a_csv_writer_wrote_is_read_back(rows: list[tuple[str, str]]) -> None:
    file = io.StringIO(newline="")
    csv.writer(file).writerows([("title", "abstract"), *rows])
    papers = read(file.getvalue())
    expected = [(without_markup(title), without_markup(abstract)) for title, abstract in rows]
    found = [(paper.title, paper.abstract) for paper in papers if isinstance(paper, Paper)]
    assert found == expected


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
