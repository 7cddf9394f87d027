from __future__ import annotations

import io
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from classmark.errors import UnreadableSource
from classmark.papers import read_papers, read_stream
from classmark.records import BadRecord, Paper

BIBLIOGRAPHY = r"""% exported
@string{jul = "July"}
@comment{not an entry}
@article{author2020,
  title         = {On {DNA} and $\alpha$},
  abstract      = "We study {\"o}, at length",
  eprint        = {2001.01234},
  archivePrefix = {arXiv},
  PrimaryClass  = {q-bio.GN},
  author        = {Author, A. and Other, B.},
  year          = 2020,
  month         = jul
}

@misc{second, title = {{Doubly braced}}, year = {1999}}
"""


def read(content: str | bytes, **options: object) -> list[Paper | BadRecord]:
    raw = content if isinstance(content, bytes) else content.encode()
    return list(read_stream(io.BytesIO(raw), **options))  # type: ignore[arg-type]


def test_entries_become_papers(tmp_path: Path) -> None:
    path = tmp_path / "library.bib"
    path.write_text(BIBLIOGRAPHY)
    assert list(read_papers(path)) == [
        Paper(
            id="2001.01234",
            title=r"On {DNA} and $\alpha$",
            abstract=r"We study {\"o}, at length",
            category_code="q-bio.GN",
            published_date="2020-07-01",
            authors=("Author, A.", "Other, B."),
        ),
        Paper(id="second", title="{Doubly braced}", published_date="1999-01-01"),
    ]


def test_a_repeated_key_is_still_a_paper() -> None:
    papers = read('@misc{k, title={A} }\n@misc{k, title={{B} and {C}}, abstract = "D"}\n')
    assert papers == [Paper(id="k", title="A"), Paper(id="k", title="{B} and {C}", abstract="D")]


def test_a_broken_entry_is_bad_and_the_next_is_read() -> None:
    bad, good = read("@article{a, title = {never closed,\n year=2020\n@misc{b, title={B}}\n")
    assert isinstance(bad, BadRecord)
    assert (bad.id, bad.kind) == ("1", "broken_bibtex")
    assert bad.message.startswith("line 1: the entry cannot be read (Unexpected block start")
    assert good == Paper(id="b", title="B")


def test_an_entry_with_a_field_twice_is_bad() -> None:
    assert read("@misc{c, title={x}, title={y}}") == [
        BadRecord(
            id="1",
            kind="broken_bibtex",
            message="line 1: the entry cannot be read (Duplicate field keys on entry: 'title'.)",
        )
    ]


@pytest.mark.parametrize("value", ["{Slow moons}", '"Slow moons"', "2021", "jan", '"x" # jan'])
@pytest.mark.parametrize("field", ["title", "journal"])
def test_a_missing_comma_is_an_error_and_never_costs_a_text(field: str, value: str) -> None:
    entry = f"@misc{{a, {field} = {value}\n  abstract = {{We count}},\n  year = 2021\n}}\n"
    bad, other = read(entry + "@misc{b, title = {B}}")
    assert isinstance(bad, BadRecord)
    assert (bad.id, bad.kind) == ("a", "broken_bibtex")
    assert bad.message == (
        f"line 1: there is no comma between the fields '{field}' and 'abstract'. Add it"
    )
    assert other == Paper(id="b", title="B")


@pytest.mark.parametrize("value", ["{x = {1} y = {2}}", '"x = {"} y = "', '"x = " # {y = 1}'])
def test_a_sign_of_equality_in_a_value_is_text(value: str) -> None:
    (paper,) = read(f"@misc{{a, title = {value}, url = http://x.y/?z=1, abstract = {{B}}}}")
    assert isinstance(paper, Paper)
    assert paper.title.startswith("x = ")
    assert paper.abstract == "B"


@pytest.mark.parametrize("comment", ["", " % mine", "\n  % mine\n  % abstract = {Old},"])
def test_a_comment_before_a_field_costs_nothing(comment: str) -> None:
    entry = f"@misc{{a,{comment}\n  title = {{Slow}},{comment}\n  abstract = {{We}}\n}}\n"
    assert read(entry) == [Paper(id="a", title="Slow", abstract="We")]


def test_a_field_twice_that_nobody_reads_costs_nothing() -> None:
    content = '@misc{k, title={A}, keywords = "x", Keywords = "y", keywords={z}}'
    assert read(content) == [Paper(id="k", title="A")]
    (bad,) = read(content, columns={"abstract": "keywords"})
    assert isinstance(bad, BadRecord)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ('"Decay of a " # jup', "Decay of a warm Jupiter"),
        ("{Decay of } # {a } # JUP", "Decay of a warm Jupiter"),
        ('both # " and " # 2', "a warm Jupiter and 2"),
        ('"C# and {#} of " # jup', "C# and {#} of warm Jupiter"),
        ("jup", "warm Jupiter"),
    ],
)
def test_joined_parts_and_macros_become_the_text_they_stand_for(value: str, text: str) -> None:
    macros = '@string{jup = "warm Jupiter"}\n@string{both = "a " # jup}\n'
    assert read(f"{macros}@misc{{k, title = {value}}}") == [Paper(id="k", title=text)]


def test_a_macro_that_is_not_defined_is_an_error_and_never_source_text() -> None:
    (bad,) = read('@misc{k, title = "Decay of a " # jup}')
    assert bad == BadRecord(
        id="k",
        kind="broken_bibtex",
        message="line 1: 'jup' is joined with # but is neither quoted nor defined by an @string",
    )


@pytest.mark.parametrize(
    ("month", "date"),
    [("{5}", "2021-05-01"), ("05", "2021-05-01"), ("{12}", "2021-12-01"), ("{may}", "2021-05-01")]
    + [(month, "2021-01-01") for month in ("{}", "{0}", "{13}", "{Winter}")],
)
def test_a_month_is_a_name_or_a_number(month: str, date: str) -> None:
    content = f"@misc{{a, title={{A}}, year = 2021, month = {month}}}"
    assert read(content) == [Paper(id="a", title="A", published_date=date)]


def test_the_eprintclass_of_biblatex_is_the_category() -> None:
    (paper,) = read("@online{k, title={A}, eprint={2001.01234}, eprintclass={math.CO}}")
    assert isinstance(paper, Paper)
    assert paper.category_code == "math.CO"


@pytest.mark.parametrize(
    "heading",
    ["Results of a search\n\n\nRetrieved 1 abstract\n\n", "% saved today\n", "My list:\n"],
)
def test_entries_below_a_heading_are_bibtex(heading: str) -> None:
    entry = (
        '@ARTICLE{2021XYZ...1....1M,\n  title = "{A slow planet}",\n  eprint = {2101.99901}\n}\n'
    )
    expected = [Paper(id="2101.99901", title="{A slow planet}")]
    assert read(heading + entry) == read(f"{heading}  {entry}") == expected


@pytest.mark.parametrize("first", ["", "article{lost,\n", "\ufffd@\ufffdarticle{lost,\n"])
def test_an_entry_that_has_lost_its_first_line_is_an_error(first: str) -> None:
    lost = first + "  title = {Lost},\n  abstract = {Lost.}\n}\n"
    good, bad, last = read("@misc{a, title={A}}\n\n" + lost + "@misc{c, title={C}}\n")
    assert isinstance(good, Paper)
    assert isinstance(last, Paper)
    assert isinstance(bad, BadRecord)
    assert bad.message.startswith("line 3: a title or an abstract is outside of entries. Begin")


def test_an_entry_that_is_commented_out_costs_nothing() -> None:
    comments = "% title = {A},\nMy title = nothing\n@comment{x, title = {A}}\n"
    assert read(comments + "@misc{c, title={C}}") == [Paper(id="c", title="C")]


def test_a_text_that_mentions_bibtex_is_a_text() -> None:
    (paper,) = read("How to cite\nWrite @article{key, and so on, or @misc in your file.")
    assert isinstance(paper, Paper)
    assert paper.title == "How to cite"


def test_an_entry_without_title_and_abstract_is_bad() -> None:
    assert read("@misc{k, year=2020}") == [
        BadRecord(id="k", kind="missing_text", message="line 1: title and abstract are empty")
    ]


def test_the_fields_of_title_and_abstract_can_be_mapped() -> None:
    papers = read("@misc{k, title={A}, annote={B}}", columns={"abstract": "annote"})
    assert papers == [Paper(id="k", title="A", abstract="B")]


@pytest.mark.slow
def test_the_parser_prints_nothing_of_its_own() -> None:
    # In a process of its own: pytest's log handlers would keep the parser quiet anyway.
    code = (
        "import io; from classmark.papers import read_stream; "
        "list(read_stream(io.BytesIO(b'@article{a, title = {open,\\n@misc{b, title={B}}')))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout + run.stderr == ""


def test_a_file_without_entries_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "notes.bib"
    path.write_text("nothing of the kind")
    with pytest.raises(UnreadableSource, match=r"notes\.bib holds no BibTeX entry\. Entries look"):
        list(read_papers(path))


def test_latin_1_is_unreadable_with_the_remedy() -> None:
    with pytest.raises(
        UnreadableSource, match=r"is not UTF-8: byte 0xe9 at 19\. Convert it, e\.g\. with iconv"
    ):
        read("@misc{k, title={Caf\xe9}}".encode("latin-1"))


def test_a_bibliography_over_the_limit_is_unreadable() -> None:
    with pytest.raises(
        UnreadableSource, match=r"standard input is longer than 100 bytes\. Split it"
    ):
        read(BIBLIOGRAPHY, max_record_bytes=100)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"@a{" * 100_001, r"holds 100,001 BibTeX blocks, more than 100,000\. Split it"),
        (b"@a{b}\n@c" + b" " * 10_000, r"holds 10,000 blanks after an @"),
    ],
)
def test_what_would_fill_the_memory_of_the_parser_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(UnreadableSource, match=message):
        list(read_stream(io.BytesIO(content), format="bibtex"))


def test_macros_that_double_each_other_do_not_fill_the_memory() -> None:
    doubled = "".join(f"@string{{a{n} = a{n - 1} # a{n - 1}}}\n" for n in range(1, 26))
    bomb = f'@string{{a0 = "x"}}\n{doubled}@misc{{k, title = a25 # a25}}\n@misc{{b, title={{B}}}}'
    wide = f"@string{{a = {{{'x' * 1_000}}}}}\n@misc{{k, title = {'a # ' * 9_000}a}}\n"
    read("@misc{k, title={The parser is imported}}")
    tracemalloc.start()
    try:
        bad, good = read(bomb, max_record_bytes=1 << 20)
        (too_wide,) = read(wide, max_record_bytes=1 << 20)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(bad, BadRecord)
    assert bad.message.startswith("line 27: 'a25' is joined with # but is neither quoted nor")
    assert good == Paper(id="b", title="B")
    assert isinstance(too_wide, BadRecord)
    assert "what is joined with # has more than 200,000 characters" in too_wide.message
    assert peak_bytes < 10 << 20
