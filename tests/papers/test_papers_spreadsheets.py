"""Excel workbooks: read like tables, row by row; what is no workbook says what it is."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest

from classmark.errors import MissingExtra, UnreadableSource, WrongColumns
from classmark.papers import detect_format, read_papers, read_stream
from classmark.papers.files import spreadsheets as spreadsheets_module
from classmark.records import BadRecord, Paper

openpyxl = pytest.importorskip("openpyxl", reason="needs classmark[xlsx]")

HEADER = ("Key", "Title", "Abstract Note", "Date")
Rows = Sequence[Sequence[Any]]


def workbook(
    path: Path, sheets: dict[str, Rows], change: Callable[[Any], None] | None = None
) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    if change is not None:
        change(book)
    book.save(path)
    return path


def changed(path: Path, member: str, change: Callable[[str], str]) -> Path:
    """Return a copy of a workbook with one of its members changed."""
    copy = path.with_name(f"changed-{path.name}")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(copy, "w", zipfile.ZIP_DEFLATED) as out:
        for name in source.namelist():
            content = source.read(name).decode()
            out.writestr(name, change(content) if name == member else content)
    return copy


class NoSeeking(io.BytesIO):
    """A stream as a pipe gives it."""

    def seekable(self) -> bool:
        return False


SHEET = "xl/worksheets/sheet1.xml"
STRINGS = "xl/sharedStrings.xml"


def with_shared_strings(path: Path) -> Path:
    """Return a copy whose texts stand in a table of their own, as Excel writes them."""
    texts: list[str] = []

    def share(match: re.Match[str]) -> str:
        texts.append(match[1])
        return f't="s"><v>{len(texts) - 1}</v>'

    pattern = re.compile(r't="inlineStr"><is><t>(.*?)</t></is>')
    copy = changed(path, SHEET, lambda xml: pattern.sub(share, xml))
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"
    part = f'<Override PartName="/{STRINGS}" ContentType="{kind}"/></Types>'
    copy = changed(copy, "[Content_Types].xml", lambda xml: xml.replace("</Types>", part))
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    with zipfile.ZipFile(copy, "a") as archive:
        items = "".join(f"<si><t>{text}</t></si>" for text in texts)
        archive.writestr(STRINGS, f'<sst xmlns="{main}">{items}</sst>')
    return copy


def read(path: Path, **options: Any) -> list[Paper | BadRecord]:
    return list(read_papers(path, **options))


def test_a_header_that_comes_again_is_no_paper(tmp_path: Path) -> None:
    again = tuple(name.upper() for name in HEADER)
    rows = [HEADER, ("K1", HEADER[1], "We sieve.", 2024), again, ("K2", "Cores", "We core.", 2024)]
    found = read(workbook(tmp_path / "papers.xlsx", {"Sheet1": rows}))
    assert [record.id for record in found] == ["K1", "K2"]


def test_a_workbook_is_read_like_a_table(tmp_path: Path) -> None:
    rows = [
        (),
        HEADER,
        ("K1", "Sieves", "We sieve.", date(2024, 1, 5)),
        (None, None, None, None),
        ("K2", 1984, None, 2021),
        (17, "Only a title", None, datetime(2020, 2, 3, 4, 5)),
        ("K4", "Line_x000D_\nend", "Third &amp; last<sub>2</sub>", "2019-07"),
    ]
    path = workbook(tmp_path / "papers.xlsx", {"Sheet1": rows})
    assert detect_format(path) == "xlsx"
    assert read(path) == [
        Paper(id="K1", title="Sieves", abstract="We sieve.", published_date="2024-01-05"),
        Paper(id="K2", title="1984", published_date="2021-01-01"),
        Paper(id="17", title="Only a title", published_date="2020-02-03"),
        Paper(
            id="K4",
            title="Line\n\nend",
            abstract="Third & last_{2}",
            published_date="2019-07-01",
        ),
    ]
    assert list(read_stream(io.BytesIO(path.read_bytes()))) == read(path)
    assert read(with_shared_strings(path)) == read(path)


def test_an_empty_cell_gives_way_to_the_next_column_of_its_field(tmp_path: Path) -> None:
    rows = [["Title", "Abstract", "Summary"], ["A", None, "We sum up."], ["B", "We repeat.", "-"]]
    papers = read(workbook(tmp_path / "x.xlsx", {"Papers": rows}))
    assert [paper.abstract for paper in papers if isinstance(paper, Paper)] == [
        "We sum up.",
        "We repeat.",
    ]


def test_a_heading_above_the_header_is_passed_over(tmp_path: Path) -> None:
    rows = [["About the data: exported", None], [], ["My list"], ["Title", "Abstract"], ["A", "B"]]
    papers = read(workbook(tmp_path / "x.xlsx", {"Papers": rows}))
    assert papers == [Paper(id="5", title="A", abstract="B")]
    with pytest.raises(WrongColumns, match="columns seen: About the data"):
        read(workbook(tmp_path / "y.xlsx", {"Papers": rows[:3]}))


def test_a_bad_row_is_an_error_that_names_it(tmp_path: Path) -> None:
    rows = [HEADER, ("K1", "A", "B"), ("K2", None, None, 2020), ("K3", "#N/A", "x"), ("K4", "C")]

    def spoil(book: Any) -> None:
        book.active["B4"].data_type = "e"

    first, empty, broken, last = read(workbook(tmp_path / "p.xlsx", {"S": rows}, spoil))
    assert isinstance(empty, BadRecord)
    assert isinstance(broken, BadRecord)
    assert empty.message == "row 3: title and abstract are empty"
    assert broken.message == "row 4: title is the error #N/A"
    assert (first.id, last.id) == ("K1", "K4")


def test_a_formula_is_its_saved_value_and_without_one_an_error(tmp_path: Path) -> None:
    rows = [HEADER, ("K1", "=A2", "B"), ("K2", None, "=CONCAT(1)", "=TODAY()"), ("K3", None, "C")]
    path = workbook(tmp_path / "p.xlsx", {"S": rows})
    saved = changed(path, SHEET, lambda xml: xml.replace("<f>A2</f><v />", "<f>A2</f><v>7</v>"))
    assert "<v>7</v>" in zipfile.ZipFile(saved).read(SHEET).decode()
    first, second, third = read(saved)
    assert first == Paper(id="K1", title="7", abstract="B")
    assert isinstance(second, BadRecord)
    assert second.message == "row 3: abstract is a formula whose value is not saved in the file"
    assert third == Paper(id="K3", abstract="C")
    assert isinstance(read(path)[0], BadRecord)


@pytest.mark.parametrize(
    ("number", "id"),
    [
        (2401.0001, "2401.00010"),
        (704.001, "0704.0010"),
        (1412.1, "1412.1000"),
        (1501.1, "1501.10000"),
        (2413.5, "2413.5"),
        (2401.123456, "2401.123456"),
        (12.5, "12.5"),
        (38012345.0, "38012345"),
    ],
)
def test_a_number_of_arxiv_gets_its_zeros_back(tmp_path: Path, number: float, id: str) -> None:
    rows = [("id", "title"), (number, "A title")]
    assert read(workbook(tmp_path / "p.xlsx", {"S": rows}))[0].id == id
    line = f'{{"id": {number}, "title": "A"}}'
    assert [record.id for record in read_stream(io.BytesIO(line.encode()))] == [id]


def test_columns_are_mapped_as_in_tables(tmp_path: Path) -> None:
    path = workbook(tmp_path / "p.xlsx", {"S": [("Nr", "Titel"), (1, "Graphen")]})
    with pytest.raises(
        WrongColumns, match=r"no column 'title' or 'abstract'; columns seen: Nr, Ti"
    ):
        read(path)
    assert read(path, columns={"title": "Titel", "id": "nr"}) == [Paper(id="1", title="Graphen")]


def test_every_sheet_of_papers_is_read_and_another_is_an_error(tmp_path: Path) -> None:
    def hide(book: Any) -> None:
        book["Lists"].sheet_state = "hidden"

    sheets: dict[str, Rows] = {
        "First": [HEADER, ("K1", "A", "B")],
        "Empty": [],
        "Notes": [(), ("To do",), ("call Ada",)],
        "Second": [("title",), ("C",), (None,), ("D",)],
        "Third": [("title", "key"), ("E",), ("F", "K2")],
        "Lists": [("x",), ("y",)],
    }
    records = read(workbook(tmp_path / "p.xlsx", sheets, hide))
    first, notes, *second = records
    assert first == Paper(id="K1", title="A", abstract="B")
    assert isinstance(notes, BadRecord)
    assert notes.kind == "wrong_columns"
    assert notes.message.startswith("sheet 'Notes', row 2: ")
    assert second == [
        *(Paper(id="2:2", title="C"), Paper(id="2:4", title="D")),
        *(Paper(id="3:2", title="E"), Paper(id="K2", title="F")),
    ]


def test_a_workbook_without_a_cell_is_empty(tmp_path: Path) -> None:
    with pytest.raises(UnreadableSource, match=r"p\.xlsx is empty"):
        read(workbook(tmp_path / "p.xlsx", {"S": []}))


def test_what_a_file_says_of_its_size_does_not_cut_it(tmp_path: Path) -> None:
    path = workbook(tmp_path / "p.xlsx", {"S": [HEADER, *[("K", "A", "B")] * 5]})
    path = changed(path, SHEET, lambda xml: xml.replace('ref="A1:D6"', 'ref="A1:B2"'))
    assert [record.id for record in read(path)] == ["K"] * 5


@pytest.mark.parametrize("number", [10_000_000, 10**12])
def test_a_row_that_no_spreadsheet_has_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(spreadsheets_module, "MAX_ROWS", 1000)
    path = workbook(tmp_path / "p.xlsx", {"S": [HEADER, ("K", "A", "B"), ("L", "C", "D")]})
    path = changed(path, SHEET, lambda xml: xml.replace('<row r="3"', f'<row r="{number}"'))
    records = read_papers(path)
    assert next(records).id == "K"
    with pytest.raises(UnreadableSource, match=r"claims more than 1,000 rows in a sheet"):
        next(records)


@pytest.mark.slow
def test_cells_to_the_right_of_the_header_take_no_memory(tmp_path: Path) -> None:
    path = workbook(tmp_path / "p.xlsx", {"S": [HEADER, ("K", "A", "B")]})
    far = '<row r="3"><c r="XFD3"><v>1</v></c></row>'
    path = changed(path, SHEET, lambda xml: xml.replace("</sheetData>", f"{far}</sheetData>"))
    assert read(path) == [Paper(id="K", title="A", abstract="B")]
    book = openpyxl.load_workbook(path)
    book.active["ALM1"] = "far"  # column 1001
    book.save(path)
    assert len(read(path)) == 1
    book.active.delete_cols(1, 4)
    book.save(path)
    with pytest.raises(UnreadableSource, match=r"is empty|no column"):
        read(path)


def test_a_record_over_the_limit_is_one_error(tmp_path: Path) -> None:
    path = workbook(tmp_path / "p.xlsx", {"S": [HEADER, ("K", "A" * 2000), ("L", "C")]})
    bad, paper = read(path, max_record_bytes=1000)
    assert isinstance(bad, BadRecord)
    assert bad.kind == "too_long"
    assert paper.id == "L"


@pytest.mark.parametrize("member", [SHEET, STRINGS, "xl/workbook.xml"])
def test_entities_in_a_workbook_are_refused(tmp_path: Path, member: str) -> None:
    laughs = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>'
    path = with_shared_strings(workbook(tmp_path / "p.xlsx", {"S": [HEADER, ("K", "A", "B")]}))
    path = changed(path, member, lambda xml: laughs + xml[xml.index("<", xml.find("?>") + 1) :])
    with pytest.raises(UnreadableSource, match=r"is not a readable Excel workbook \(EntitiesForb"):
        read(path)


def test_a_workbook_that_unpacks_to_far_too_much_is_refused(tmp_path: Path) -> None:
    path = workbook(tmp_path / "p.xlsx", {"S": [HEADER, ("K", "A", "B")]})
    path = changed(path, SHEET, lambda xml: xml.replace("</sheetData>", " " * 20_000_000))
    with pytest.raises(UnreadableSource, match=r"p\.xlsx would unzip to \d+ bytes, \d+ times"):
        read(path)


def test_a_damaged_workbook_gives_what_precedes_the_damage(tmp_path: Path) -> None:
    path = workbook(tmp_path / "p.xlsx", {"S": [HEADER, *[("K", "A", "B")] * 50]})
    path = changed(path, SHEET, lambda xml: xml[: xml.index('<row r="40"')])
    records = read_papers(path)
    assert [next(records).id for _ in range(38)] == ["K"] * 38
    with pytest.raises(UnreadableSource, match=r"is not a readable Excel workbook \(ParseError"):
        next(records)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UnreadableSource, match="is damaged or cut short"):
        read(path)


def test_a_workbook_in_a_zip_is_read_and_in_gzip_says_what_to_do(tmp_path: Path) -> None:
    import gzip

    path = workbook(tmp_path / "p.xlsx", {"S": [HEADER, ("K", "A", "B")]})
    outer = tmp_path / "outer.zip"
    with zipfile.ZipFile(outer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, "p.xlsx")
    assert read(outer) == read(path)
    packed = tmp_path / "p.xlsx.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(UnreadableSource, match=r"is an Excel workbook from a pipe or in gzip"):
        read(packed)
    piped = io.BufferedReader(NoSeeking(path.read_bytes()))
    with pytest.raises(UnreadableSource, match=r"is an Excel workbook or another document, which"):
        list(read_stream(piped))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("[Content_Types].xml", "word/document.xml"), r"a Word document \(\.docx\), which is not"),
        (("[Content_Types].xml", "ppt/presentation.xml"), r"a PowerPoint presentation"),
        (("[Content_Types].xml", "xl/workbook.bin"), r"\(\.xlsb\), which is not read\. Save it as"),
        (("mimetype", "content.xml"), r"an OpenDocument file \(\.ods, \.odt\), which is not read"),
        (("mimetype", "META-INF/container.xml"), r"a document or package, which is not read"),
    ],
)
def test_other_documents_say_what_they_are(
    tmp_path: Path, names: Sequence[str], message: str
) -> None:
    path = tmp_path / "paper"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    with pytest.raises(UnreadableSource, match=message):
        read(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"%PDF-1.7\n", r"is a PDF file, not papers\. Give its title and abstract as plain text"),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" * 9,
            r"\(\.xls, \.doc\) or one with a password, which",
        ),
        (b"{\\rtf1 Sieves}", r"is an RTF file, which is not read\. Save it as plain text"),
    ],
)
def test_old_documents_say_what_they_are(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "paper.xls"
    path.write_bytes(content)
    with pytest.raises(UnreadableSource, match=message):
        read(path)


def test_what_is_called_a_workbook_and_is_none_is_refused() -> None:
    with pytest.raises(UnreadableSource, match=r"is damaged|is not a readable Excel workbook"):
        list(read_stream(io.BytesIO(b"title,abstract\nA,B\n"), format="xlsx"))


def test_without_the_extra_the_error_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = workbook(tmp_path / "p.xlsx", {"S": [HEADER, ("K", "A", "B")]})
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(
        MissingExtra, match=r"p\.xlsx is an Excel workbook.*pip install 'classmark\[xlsx\]'"
    ):
        read(path)


def test_a_warning_of_the_reader_is_not_shown(tmp_path: Path) -> None:
    path = workbook(tmp_path / "p.xlsx", {"S": [HEADER, ("K", "A", "B", date(2024, 1, 5))]})
    path = changed(path, SHEET, lambda xml: xml.replace("<v>45296</v>", "<v>99999999999</v>"))
    assert read(path) == [Paper(id="K", title="A", abstract="B")]


@pytest.mark.slow
def test_importing_the_room_loads_neither_openpyxl_nor_defusedxml() -> None:
    code = (
        "import sys, classmark.papers; print(sorted({'openpyxl', 'defusedxml'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
