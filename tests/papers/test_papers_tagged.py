"""RIS, MEDLINE, Web of Science and EndNote: every record is a paper or an error; all invented."""

from __future__ import annotations

import io
import random
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classmark.errors import UnreadableSource
from classmark.papers import FORMATS, detect_format, read_papers, read_stream
from classmark.papers.dates import most_precise_date
from classmark.papers.files.tagged import DIALECTS, MAX_LINES
from classmark.records import BadRecord, Paper

RIS = """TY  - JOUR
AU  - Muster, A.
A2  - Redaktion, R.
AU  - Beispiel, B.
TI  - A slow planet
T2  - Journal of invented things
AB  - We time forty transits
of a warm Jupiter.
PY  - 2021
DA  - 2021/05/04/
DO  - 10.99999/1
KW  - planets; tides
KW  - astro-ph.EP
ER  -
"""
NBIB = """PMID- 99999991
OWN - NLM
DP  - 2021 May-Jun
TI  - A slow
      planet
LID - 10.99999/1 [doi]
AB  - We time forty transits
      of a warm Jupiter.
FAU - Muster, Anna
AU  - Muster A
OT  - planets
AD  - TI  - Department of invented things
"""
WOS = """FN Clarivate Analytics Web of Science
VR 1.0
PT J
AU Muster, A
   Beispiel, B
TI A slow
   planet
ID STARS; PLANETS
AB We time forty transits
   of a warm Jupiter.
PD MAY 4
PY 2021
UT WOS:000000000000001
ER

EF
"""
ENW = """%0 Journal Article
%A Muster, A.
%A Beispiel, B.
%T A slow planet
%J Journal of invented things
%X We time forty transits
of a warm Jupiter.
%D 2021
%8 May 4
%F muster2021
%K hep-th
"""
TITLE, ABSTRACT = "A slow planet", "We time forty transits of a warm Jupiter."
KNOWN = {
    "ris": (
        RIS,
        Paper(
            id="10.99999/1",
            title=TITLE,
            abstract=ABSTRACT,
            category_code="astro-ph.EP",
            categories=("astro-ph.EP",),
            published_date="2021-05-04",
            authors=("Muster, A.", "Beispiel, B."),
        ),
    ),
    "nbib": (
        NBIB,
        Paper(
            id="99999991",
            title=TITLE,
            abstract=ABSTRACT,
            published_date="2021-05-01",
            authors=("Muster, Anna",),
        ),
    ),
    "wos": (
        WOS,
        Paper(
            id="WOS:000000000000001",
            title=TITLE,
            abstract=ABSTRACT,
            published_date="2021-05-04",
            authors=("Muster, A", "Beispiel, B"),
        ),
    ),
    "enw": (
        ENW,
        Paper(
            id="muster2021",
            title=TITLE,
            abstract=ABSTRACT,
            category_code="hep-th",
            categories=("hep-th",),
            published_date="2021-05-04",
            authors=("Muster, A.", "Beispiel, B."),
        ),
    ),
}
EACH = pytest.mark.parametrize("format", KNOWN)


def read(content: str | bytes, **options: object) -> list[Paper | BadRecord]:
    raw = content.encode() if isinstance(content, str) else content
    return list(read_stream(io.BytesIO(raw), **options))  # type: ignore[arg-type]


def titles(content: str | bytes, **options: object) -> list[str]:
    """Return the title of each paper, and the kind of each error."""
    found = read(content, **options)
    return [record.title if isinstance(record, Paper) else record.kind for record in found]


@EACH
def test_a_record_is_read_with_all_that_is_known_of_it(format: str) -> None:
    content, expected = KNOWN[format]
    assert read(content) == [expected]
    assert read(content, format=format) == [expected]


@EACH
@pytest.mark.parametrize(
    "spell",
    [
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.replace("\n", "\r").encode(),
        lambda text: text.replace("\n", "\r\r\n").encode(),
        lambda text: text.replace("\n", "\n\n").encode(),
        lambda text: f"\ufeff{text}".encode(),
        lambda text: f"\n \n{text}\n\n".encode(),
        lambda text: text.encode("utf-16"),
        lambda text: text.encode("utf-16-be"),
        lambda text: text.rstrip().encode(),
    ],
)
def test_line_ends_marks_and_blank_lines_change_nothing(
    format: str, spell: Callable[[str], bytes]
) -> None:
    content, expected = KNOWN[format]
    assert read(spell(content)) == [expected]


@EACH
@pytest.mark.parametrize("between", ["", "\n", "\n\n2. \n", "\ufeff", "\r"])
def test_records_follow_each_other_with_or_without_blank_lines(format: str, between: str) -> None:
    content, expected = KNOWN[format]
    assert read(between.join([content] * 3)) == [expected] * 3


@EACH
def test_records_below_a_heading_are_read(tmp_path: Path, format: str) -> None:
    content, expected = KNOWN[format]
    heading = "Provider: Invented\nDatabase: nothing,\n\n"
    (found,) = read(heading + content)
    assert found == expected
    path = tmp_path / "export"
    path.write_text(heading + content)
    assert detect_format(path) == format
    # A name may be that of the neighbour's program.
    assert detect_format(path.rename(tmp_path / "export.ris")) == format


@pytest.mark.parametrize(
    ("content", "format"),
    [
        ("TY  - \n", "ris"),
        ("TY  - A type that nobody knows\nlost\nTI  - A\n", "ris"),
        ("TY - JOUR\nTI - A\n", "ris"),
        ("AU  - A\nTI  - B\nER  - \n", "ris"),
        ("PMID- 1", "nbib"),
        ("OWN - NLM\nSTAT- MEDLINE\nTI  - A\n", "nbib"),
        ("UI  - 1\nTI  - A\n\nPMID- 2\nTI  - B\n", "nbib"),
        ("PT J\nTI A\n", "wos"),
        ("FN Invented Export Format\nVR 1.0\nPT J\n", "wos"),
        ("%0 Journal Article\nlost\n%T A\n", "enw"),
        ("%A Muster, A.\n%T A\n", "enw"),
        ("% a comment\n%A b\n@article{a, title={A}}", "bibtex"),
        ("PT\tAU\tTI\tAB\nJ\tM\tA\tB\n", "tsv"),
        ("PMID,Title,Abstract\n1,A,B\n", "csv"),
        ("TY, the title\nAB - we study it.\nTI - a symbol.\n", "text"),
        ("PMID-12 is a paper\nAB  - it is.", "text"),
        ("FN is a function.\nVR 1 is another.", "text"),
        ("PT J is a name.\nTI is another.", "text"),
        ("AI  - a title\nWe study it.", "text"),
        ("%0 of all\n%1 of some.", "text"),
        ("A title\nTY  - is what RIS begins with, we say.", "text"),
    ],
)
def test_the_content_tells_tagged_records_from_the_rest(
    tmp_path: Path, content: str, format: str
) -> None:
    path = tmp_path / "refs"
    path.write_text(content)
    assert detect_format(path) == format


@pytest.mark.parametrize(
    ("name", "format"), [("a.ris", "ris"), ("a.NBIB", "nbib"), ("a.ciw", "wos"), ("a.enw", "enw")]
)
def test_a_file_without_records_says_what_they_begin_with(
    tmp_path: Path, name: str, format: str
) -> None:
    path = tmp_path / name
    path.write_text("nothing that is known")
    assert detect_format(path) == format
    with pytest.raises(UnreadableSource, match=r"holds no .* record\. Records begin with a line"):
        list(read_papers(path))


def test_all_formats_have_a_name_for_the_option() -> None:
    assert set(DIALECTS) == set(KNOWN) <= set(FORMATS)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("TY  - JOUR\nTI  - A\nTY  - JOUR\nTI  - B\n", ["A", "B"]),  # no end
        ("TI  - A\nER  - \nAU  - M\nTI  - B\nER  - \n", ["A", "B"]),  # no beginning
        ("TY  - J\nTI  - A\n\nAU  - M\nTI  - B\nER  - \n", ["A", "B"]),  # neither, a blank line
        ("TY  - J\nTI  - A\nAU  - M\nTI  - B\nER  - \n", ["broken_record"]),  # not even that
        ("TY  - J\nTI  - A\nER  - \nER  - \n", ["A", "broken_record"]),
        ("TY  - J\nER  - \n", ["missing_text"]),
        ("TY  - J\nTI  - A\nTI  - A\nER  - \n", ["A"]),
        ("TY  - J\nTI  - \nT1  - A\nER  - \n", ["A"]),
        ("TY  - J\nT1  - B\nTI  - A\nER  - \n", ["A"]),
        ("TY  -J\nTI  -A\nER  -\n", ["A"]),
        ("TY - J\nTI - A\nTY  - J\nTI  - B - C\nER  - \n", ["A", "B - C"]),
        ("TY - JOUR\nTI - A\nTYpe of it\nER - \nTY - J\nTI - B\n", ["A TYpe of it", "B"]),
        ("TY  - J\nTI  - A\nlost - line\nER  - \n", ["A lost - line"]),
        ("TY  - J\nTI  - A\nJO  - B\nmore of B\nER  - \n", ["A"]),
        ("PMID- 1\nTI  - A\n\n\nTI  - B\n\nPMID- 3\nTI  - C\n", ["A", "B", "C"]),
        ("PT J\nTI A\nPT J\nTI B\nER\nEF\nFN X\nVR 1.0\nPT J\nTI C\nEF\n", ["A", "B", "C"]),
        ("%A X\n%T A\n\n%A Y\n%T B\n\n%A Z\n%T C\n", ["A", "B", "C"]),
    ],
)
def test_damaged_borders_cost_no_record(content: str, expected: list[str]) -> None:
    assert titles(content) == expected


def test_the_number_of_pubmed_central_above_that_of_pubmed_is_no_record() -> None:
    records = [f"PMC - PMC{n}\nPMID- {n}\nIS  - 0\nTI  - T{n}\n" for n in (1, 2)]
    assert read("\n".join(records)) == [Paper(id=str(n), title=f"T{n}") for n in (1, 2)]
    without = "PMC - PMC3\nIS  - 0\nTI  - T3\n"
    assert titles("\n".join([without, *records, without])) == ["T3", "T1", "T2", "T3"]


def test_two_titles_in_one_record_are_an_error_that_names_them() -> None:
    (bad,) = read("\nTY  - J\nID  - k\nTI  - A\nTI  - B\nER  - \n")
    assert bad == BadRecord(
        id="k",
        kind="broken_record",
        message="line 2: the record has two titles, 'A' and 'B'. "
        "Start the second record with a line such as 'TY  - JOUR'",
    )


def test_an_abstract_in_several_fields_is_joined() -> None:
    (found,) = read("TY  - J\nTI  - A\nN2  - We see.\nN2  - We win.\nER  - \n")
    assert found == Paper(id="1", title="A", abstract="We see.\nWe win.")


def test_text_that_is_not_utf_8_costs_the_record_whose_text_it_is() -> None:
    content = "TY  - J\nAD  - Zürich\nTI  - A\nER  - \nTY  - J\nTI  - B\nTI  - Zürich\nER  - \n"
    good, bad = read(content.encode("latin-1") + b"TY  - J\nTI  - A\0\nER  - \n")[:2]
    assert good == Paper(id="1", title="A")
    assert isinstance(bad, BadRecord)
    assert bad.kind == "bad_encoding"
    assert bad.message.startswith("line 5: its line 7 is not UTF-8: byte 0xfc at position 8. Conv")
    assert titles(content.encode("latin-1") + b"TY  - J\nTI  - A\0\nER  - ")[2] == "nul_byte"


def test_a_mapped_tag_comes_before_the_usual_ones() -> None:
    content = "TY  - J\nTI  - A\nST  - S\nC1  - cs.LG\nN1  - a note\nER  - \n"
    columns = {"title": "st", "abstract": "N1", "categories": "C1"}
    assert read(content, columns=columns) == [
        Paper(id="1", title="S", abstract="a note", categories=("cs.LG",), category_code="cs.LG")
    ]
    (found,) = read(ENW, columns={"title": "%J"})
    assert found.title == "Journal of invented things"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("TY  - J\nTI  - A\nCR  - {long}\nER  - \n", "line 1: its line 3 has 207 bytes, more than"),
        ("TY  - J\nTI  - A\nAB  - {lines}ER  - \n", "line 1: the record is longer than 100 bytes"),
        ("TY  - J\nTI  - A\nCR  - {lines}ER  - \n", "line 1: the record is longer than 100 bytes"),
        ("TY  - J\nTI  - A\n\nCR  - {lines}\nER  - \n", "line 1: the record is longer than 100"),
        ("{long}\n", "line 1: 201 bytes, more than the limit of 100"),
        ("TI  - A\nAB  - {lines}\n", "line 1: the record is longer than 100 bytes"),
    ],
)
def test_a_record_over_the_limit_is_one_error_and_reading_goes_on(
    content: str, message: str
) -> None:
    content = content.format(long="x" * 200, lines="x y\n" * 50)
    bad, good = read(content + "TY  - J\nTI  - B\n", format="ris", max_record_bytes=100)
    assert isinstance(bad, BadRecord)
    assert bad.kind == "too_long"
    assert bad.message.startswith(message)
    assert isinstance(good, Paper)
    assert good.title == "B"


def test_the_record_after_a_skipped_one_is_read_where_none_has_a_beginning() -> None:
    content = "%A x\n%T A\n%X " + "x y\n" * 50 + "\n%A y\n%T B\n"
    assert titles(content, max_record_bytes=100) == ["too_long", "B"]


@pytest.mark.slow
def test_a_record_of_too_many_lines_is_one_error() -> None:
    content = "TY  - J\nTI  - A\n" + "AU  - \n" * MAX_LINES + "ER  - \nTY  - J\nTI  - B\nER  - \n"
    assert titles(content) == ["too_long", "B"]


def test_a_date_that_cannot_be_read_is_an_error_only_where_dates_count() -> None:
    content = "TY  - J\nTI  - A\nPY  - in press\nER  - \n"
    assert titles(content) == ["A"]
    assert titles(content, strict_dates=True) == ["bad_date"]


@pytest.mark.parametrize(
    ("texts", "date"),
    [
        (["2021"], "2021"),
        (["2021//"], "2021"),
        (["2021/05//"], "2021-05"),
        (["2021/5/4/Spring"], "2021-05-04"),
        (["20210504"], "2021-05-04"),
        (["2021 Sept 4"], "2021-09-04"),
        (["2021 Spring"], "2021"),
        (["2021/13/1"], "2021"),
        (["May 2021"], "2021"),
        (["2021", "JAN-FEB"], "2021-01"),
        (["2021", "2022-05-04", "May 4"], "2021-05-04"),
        (["in press"], "in press"),
        ([], None),
    ],
)
def test_the_most_precise_date_of_a_record_counts(texts: list[str], date: str | None) -> None:
    assert most_precise_date(texts) == date


BEGIN, END = (
    {"ris": "TY  - JOUR", "nbib": "PMID- 1", "wos": "PT J", "enw": "%0 Book"},
    {
        "ris": "ER  - ",
        "nbib": "",
        "wos": "ER",
        "enw": "",
    },
)
FIELD = {"ris": "{}  - {}", "nbib": "{:4}- {}", "wos": "{} {}", "enw": "%{} {}"}
TAGS = {"ris": "TI AB AU KW", "nbib": "TI AB AU OT", "wos": "TI AB AU DE", "enw": "T X A K"}
WORDS = st.text("abcdefghij é%@-", min_size=1, max_size=30).map(lambda text: f"x{text.strip()}")


def write(format: str, number: int, texts: list[str], indent: str) -> list[str]:
    tags = TAGS[format].split()
    title = FIELD[format].format(tags[0], f"record{number}")
    fields = [
        FIELD[format].format(tag, f"\n{indent}".join(text.split()))
        for tag, text in zip(tags[1:], texts, strict=False)
    ]
    lines = (
        [BEGIN[format], title, *"\n".join(fields).split("\n")] if fields else [BEGIN[format], title]
    )
    return [*lines, END[format]]


@pytest.mark.slow
@given(
    st.sampled_from(sorted(KNOWN)),
    st.lists(st.lists(WORDS, max_size=3), min_size=1, max_size=5),
    st.sampled_from(["\n", "\r\n", "\n\n"]),
)
def test_every_record_that_is_written_is_an_answer(
    format: str, records: list[list[str]], end: str
) -> None:
    indent = {"ris": "", "nbib": " " * 6, "wos": "   ", "enw": ""}[format]
    lines = [line for n, texts in enumerate(records) for line in write(format, n, texts, indent)]
    assert titles(end.join(lines), format=format) == [f"record{n}" for n in range(len(records))]


_OF_RECORD = re.compile("record([0-9])")
DAMAGES: list[Callable[[bytes, random.Random], bytes]] = [
    lambda line, _: b"",
    lambda line, _: line[:1] + b"\xff" + line[2:],
    lambda line, _: b"\0" + line,
    lambda line, _: line + line,
    lambda line, _: line.lower(),
    lambda line, _: b"x" * 2000,
    lambda line, _: line.rstrip(b"\n"),
    lambda line, chance: line[: chance.randrange(len(line) + 1)],
    lambda line, _: b"\n\n" + line,
    lambda line, _: b"\xef\xbb\xbf" + line,
]


@pytest.mark.slow
@settings(max_examples=300)
@given(st.sampled_from(sorted(KNOWN)), st.integers(1, 6), st.randoms(use_true_random=False))
def test_whatever_is_damaged_each_record_is_an_answer_or_in_an_error(
    format: str, count: int, chance: random.Random
) -> None:
    """One line of every second record is damaged: the others are answered, none vanishes."""
    lines: list[bytes] = []
    first_lines, first_line = [], 1
    for number in range(count):
        record = [
            f"{line}\n".encode()
            for line in write(format, number, [f"of record{number}", "c d"], "   ")
        ]
        if number % 2:
            place = chance.randrange(len(record))
            record[place] = chance.choice(DAMAGES)(record[place], chance)
        lines += record
        first_lines.append(first_line)
        first_line += sum(line.count(b"\n") for line in record)
    found = read(b"".join(lines), format=format, max_record_bytes=1000)
    papers = [record for record in found if isinstance(record, Paper)]
    answered = [set(_OF_RECORD.findall(f"{p.title} {p.abstract}")) for p in papers]
    assert all(len(numbers) == 1 for numbers in answered), "an answer is made of one record"
    bad_lines = [int(r.message.split()[1].strip(":")) for r in found if isinstance(r, BadRecord)]
    for number in range(count):
        # An error names a line of the record, or of the one that it has run into.
        last = [*first_lines, first_line][number + 1]
        before = first_lines[max(0, number - 1)]
        is_in_error = any(before <= line < last for line in bad_lines)
        assert {str(number)} in answered or is_in_error, (number, found)


@given(st.binary(max_size=300), st.sampled_from(sorted(KNOWN)))
def test_no_bytes_break_the_reading(content: bytes, format: str) -> None:
    with suppress(UnreadableSource):
        assert all(isinstance(r, Paper | BadRecord) for r in read(content, format=format))


@pytest.mark.slow
@given(st.lists(st.text("TYPMIDFNVR%0 -1ae", min_size=1, max_size=20), min_size=1, max_size=4))
def test_sentences_are_never_taken_for_records(lines: list[str]) -> None:
    text = "\n".join(f"We {line}" for line in lines)
    (found,) = read(text)
    assert isinstance(found, Paper)


def test_medline_names_are_full_ones_or_else_turned_round() -> None:
    one = "PMID- 1\nTI  - A\n"
    (full,) = read(f"{one}FAU - Serre, Jean-Pierre\nAU  - Serre JP\n")
    (short,) = read(f"{one}AU  - Serre JP\nAU  - van der Berg J\n")
    assert isinstance(full, Paper)
    assert isinstance(short, Paper)
    assert full.authors == ("Serre, Jean-Pierre",)
    assert short.authors == ("J. P. Serre", "J. van der Berg")
