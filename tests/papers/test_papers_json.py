from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classmark.errors import UnreadableSource
from classmark.papers import read_papers, read_stream
from classmark.papers.columns import shown
from classmark.records import BadRecord, Paper

DUMP_RECORD = {
    "id": "0704.0001",
    "submitter": "A. Author",
    "authors": "A. Author, B. Author",
    "title": "Invented cross\n  sections",
    "categories": "hep-ph hep-th",
    "abstract": "  We invent.\n",
    "versions": [
        {"version": "v1", "created": "Mon, 2 Apr 2007 19:18:42 GMT"},
        {"version": "v2", "created": "Tue, 24 Jul 2007 20:10:27 GMT"},
    ],
    "update_date": "2008-11-26",
    "authors_parsed": [["Author", "A.", ""]],
}


def read(content: str | bytes, **options: object) -> list[Paper | BadRecord]:
    raw = content if isinstance(content, bytes) else content.encode()
    return list(read_stream(io.BytesIO(raw), **options))  # type: ignore[arg-type]


def only_bad(content: str | bytes, **options: object) -> BadRecord:
    (record,) = read(content, **options)
    assert isinstance(record, BadRecord)
    return record


def test_a_line_of_the_arxiv_dump_becomes_a_paper(tmp_path: Path) -> None:
    path = tmp_path / "arxiv-metadata-oai-snapshot.json"
    path.write_text(json.dumps(DUMP_RECORD) + "\n")
    assert list(read_papers(path)) == [
        Paper(
            id="0704.0001",
            title="Invented cross\n  sections",
            abstract="  We invent.\n",
            category_code="hep-ph",
            categories=("hep-ph", "hep-th"),
            published_date="2007-04-02",
            updated_date="2008-11-26",
            authors=("A. Author",),
        )
    ]


def test_the_dump_is_known_even_if_it_breaks_off_in_its_first_line() -> None:
    record = only_bad(json.dumps(DUMP_RECORD)[:-30])
    assert record.kind == "broken_json"
    assert record.message.startswith("line 1: not JSON (")


def test_keys_are_found_by_mapping_before_the_usual_ones() -> None:
    line = json.dumps({"Titel": "A", "abstract": "usual", "Text": "mapped", "ID": 7})
    assert read(line, columns={"title": "Titel", "abstract": "Text"}) == [
        Paper(id="7", title="A", abstract="mapped")
    ]


def test_lists_of_categories_and_authors_are_read() -> None:
    line = json.dumps({"abstract": "A", "categories": ["cs.LG", "stat.ML"], "authors": ["X", "Y"]})
    assert read(line) == [
        Paper(
            id="1",
            abstract="A",
            category_code="cs.LG",
            categories=("cs.LG", "stat.ML"),
            authors=("X", "Y"),
        )
    ]


@pytest.mark.parametrize(
    "categories",
    [
        *("cs.LG stat.ML", ["cs.LG stat.ML"], ["cs.LG, stat.ML"], "['cs.LG', 'stat.ML']"),
        "Machine Learning (cs.LG); Machine Learning (stat.ML)",
        ["Machine Learning (cs.LG)", "Machine Learning (stat.ML)"],
    ],
)
def test_categories_are_parted_however_they_are_written(categories: object) -> None:
    (paper,) = read(json.dumps({"abstract": "A", "categories": categories}))
    assert isinstance(paper, Paper)
    assert (paper.category_code, paper.categories) == ("cs.LG", ("cs.LG", "stat.ML"))


def test_what_is_in_parentheses_is_a_category_only_if_it_is_one_of_arxiv() -> None:
    (paper,) = read(json.dumps({"abstract": "A", "categories": "cs.LG (primary) hep-th (cross)"}))
    assert isinstance(paper, Paper)
    assert paper.categories == ("cs.LG", "primary", "hep-th", "cross")


def test_blank_lines_count_but_hold_no_record() -> None:
    assert [p.id for p in read('\ufeff{"abstract": "A"}\n\n  \r\n{"abstract": "B"}')] == ["1", "4"]


@pytest.mark.parametrize(
    ("line", "kind", "message"),
    [
        (
            '{"abstract": ',
            "broken_json",
            r"line 1: not JSON \(Expecting value at character 13\): '",
        ),
        ('{"n": "x", "id": "k"}', "missing_field", r"keys seen: n, id\. Name yours with columns="),
        ('{"abstract": 5}', "wrong_type", r"line 1: abstract must be a string, got int 5"),
        (
            '{"title": "A", "category_code": ["cs.LG", "cs.CV"]}',
            "wrong_type",
            r"line 1: category_code must be a string, got list .* list of labels as categories",
        ),
        ('{"abstract": "a", "categories": 5}', "wrong_type", r"categories must be codes .* got 5"),
        ('{"abstract": "a", "categories": [5]}', "wrong_type", r"categories must be codes"),
        ('{"abstract": " "}', "missing_text", r"line 1: title and abstract are empty"),
        ('{"abstract": "a\0"}', "nul_byte", r"line 1: holds NUL bytes"),
        ('{"abstract": ' + "9" * 5000 + "}", "broken_json", r"not readable JSON \(Exceeds"),
        ('{"abstract": ' + "[" * 60_000, "broken_json", r"line 1: not readable JSON"),
    ],
)
def test_a_bad_line_is_named_and_the_next_is_read(line: str, kind: str, message: str) -> None:
    bad, good = read(line + '\n{"abstract": "good"}\n', format="jsonl")
    assert isinstance(bad, BadRecord)
    assert bad.kind == kind
    assert re.search(message, bad.message), bad.message
    assert len(bad.message) < 300
    assert good == Paper(id="2", abstract="good")


def test_a_value_that_is_no_object_is_bad() -> None:
    records = read('{"abstract": "A"}\n[1]\n"x"\n')
    assert [r.kind for r in records if isinstance(r, BadRecord)] == ["wrong_type", "wrong_type"]


def test_a_bad_record_with_an_id_keeps_it() -> None:
    assert only_bad('{"id": "k", "name": "x"}').id == "k"
    assert only_bad('{"id": 12, "abstract": 5}').id == "12"


def test_halves_of_surrogate_pairs_are_replaced_so_that_papers_can_be_written() -> None:
    record = {
        "title": "\ud800 half",
        "abstract": "whole \U0001d49c",
        "authors": ["\udfff"],
        "pages": 3,
    }
    (paper,) = read(json.dumps(record))
    assert isinstance(paper, Paper)
    assert (paper.title, paper.abstract) == ("\ufffd half", "whole \U0001d49c")
    assert paper.authors == ("\ufffd",)


def test_halves_of_surrogate_pairs_in_keys_are_replaced_too() -> None:
    only_bad(json.dumps({"\ud800": "x"})).message.encode()
    (paper,) = read(json.dumps({"\ud800": "x", "abstract": "a"}))
    assert isinstance(paper, Paper)


@pytest.mark.parametrize("versions", [None, [], ["v1"], {"created": "x"}, [{"version": "v1"}]])
def test_versions_without_a_date_leave_the_date_unknown(versions: object) -> None:
    (paper,) = read(json.dumps({"abstract": "a", "versions": versions}))
    assert isinstance(paper, Paper)
    assert paper.published_date is None


def test_a_json_array_is_read_item_by_item(tmp_path: Path) -> None:
    path = tmp_path / "papers.json"
    path.write_text(json.dumps([{"abstract": "A"}, {"id": "k", "abstract": "B"}, 3], indent=1))
    first, second, bad = read_papers(path)
    assert (first, second) == (Paper(id="1", abstract="A"), Paper(id="k", abstract="B"))
    assert isinstance(bad, BadRecord)
    assert bad.message == "item 3: a JSON object was expected, got 3"


def test_one_object_over_several_lines_is_one_paper() -> None:
    assert read(json.dumps({"title": "A", "abstract": "B"}, indent=2)) == [
        Paper(id="1", title="A", abstract="B")
    ]


def test_objects_over_several_lines_are_read_one_after_the_other() -> None:
    lines = [
        json.dumps({"title": "A", "published": year}, indent=2) for year in ("1999", "2001-02")
    ]
    assert read("\n".join(lines)) == [
        Paper(id="1", title="A", published_date="1999-01-01"),
        Paper(id="2", title="A", published_date="2001-02-01"),
    ]


@pytest.mark.parametrize("between", ["", "\n", "\n\ufeff", "\r\n\r\n"])
def test_documents_that_follow_each_other_are_all_read(between: str) -> None:
    documents = ['[{"title": "A"}, {"title": "B"}]', "[]", '{"title":\n"C"}', '[{"title": "D"}]']
    assert read(between.join(documents)) == [
        Paper(id=str(number), title=title) for number, title in enumerate("ABCD", 1)
    ]


@pytest.mark.parametrize("rest", ["junk", "]", ', {"title": "B"}'])
def test_what_follows_an_array_and_is_no_json_is_an_error(rest: str) -> None:
    paper, bad = read(f'[{{"title": "A"}}]\n{rest}')
    assert paper == Paper(id="1", title="A")
    assert isinstance(bad, BadRecord)
    assert bad.message.startswith("item 2: not JSON (Expecting value at character 1)")


def test_lines_of_joined_files_may_begin_with_the_mark_of_a_file() -> None:
    lines = b'\xef\xbb\xbf{"title": "A"}\n\xef\xbb\xbf{"title": "B"}\n\xef\xbb\xbf\n'
    assert read(lines) == [Paper(id="1", title="A"), Paper(id="2", title="B")]


def test_values_too_deep_to_show_are_bad_records() -> None:
    for depth in (900, 960, 980, 990, 5000):
        value = "[" * depth + r'"\u0041"' + "]" * depth
        for content in (value, f'{{"abstract": {value}}}'):
            assert only_bad(content, format="jsonl").kind in ("wrong_type", "broken_json")
            assert only_bad(f"[{content}]", format="json").kind in ("wrong_type", "broken_json")


def test_a_value_too_deep_for_repr_is_shown_by_its_type() -> None:
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    assert shown(value) == "list"


def test_an_empty_array_holds_no_papers() -> None:
    assert read("[ ]", format="json") == []


def test_items_larger_than_what_is_read_at_once_are_joined() -> None:
    abstracts = ["é" * 70_000, "b" * 140_000]
    papers = read(json.dumps([{"abstract": text} for text in abstracts], ensure_ascii=False))
    assert [paper.abstract for paper in papers if isinstance(paper, Paper)] == abstracts


@pytest.mark.parametrize(
    ("content", "kinds", "message"),
    [
        (
            '[{"abstract": "A"} {"abstract": "B"}]',
            [None, "broken_json"],
            "item 2: ',' or ']' was expected, got '{'; what follows it is not read",
        ),
        (
            '[{"abstract": "A"}, {"abstract": }]',
            [None, "broken_json"],
            "item 2: not JSON (Expecting",
        ),
        ('[{"abstract": "A"}', [None, "broken_json"], "item 2: the array does not end with ']'"),
        ('[{"abstract": ' + "[" * 60_000, ["broken_json"], "item 1: not readable JSON"),
    ],
)
def test_broken_arrays_give_what_precedes_the_break(
    content: str, kinds: list[str | None], message: str
) -> None:
    records = read(content)
    assert [record.kind if isinstance(record, BadRecord) else None for record in records] == kinds
    last = records[-1]
    assert isinstance(last, BadRecord)
    assert last.message.startswith(message)


def test_an_item_over_the_limit_ends_the_array() -> None:
    content = json.dumps([{"abstract": "a" * 200_000}])
    record = only_bad(content, max_record_bytes=100_000)
    assert (record.kind, record.message) == (
        "too_long",
        "item 1: no JSON value ends within the limit of 100000 bytes; what follows it is not read",
    )


def test_an_array_that_is_not_utf8_is_unreadable() -> None:
    with pytest.raises(
        UnreadableSource, match=r"standard input is not UTF-8 near byte 16\. Convert"
    ):
        read(b'[{"abstract": "a\xe9"}]')


# Without "<" and "&": markup is taken out on purpose, and has tests of its own.
TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="<&"), max_size=40)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(TEXT, TEXT.map("x{}".format)), min_size=1, max_size=6),
    st.booleans(),
    st.sampled_from(["jsonl", "json"]),
)
def test_what_json_wrote_is_read_back(
    rows: list[tuple[str, str]], ascii_only: bool, format: str
) -> None:
    records = [{"title": title, "abstract": abstract} for title, abstract in rows]
    lines = [json.dumps(record, ensure_ascii=ascii_only) for record in records]
    content = "\n".join(lines) if format == "jsonl" else f"[{','.join(lines)}]"
    papers = read(content)
    assert [(paper.title, paper.abstract) for paper in papers if isinstance(paper, Paper)] == rows


READ = """
import io
from classmark.papers import read_stream

first, last = (b'"' + b"a" * (n << 20) + b'"' for n in (17, 14))
document = b"[" + first + b",1" * 200_000 + b"," + last + b"]"
print(sum(1 for _ in read_stream(io.BytesIO(document), format="json")))
"""


CHARACTERS = (
    *"aé日😀\x7f\u2028",
    *(rf"\u{code}" for code in ("d83d", "de00", "00e9", "0000")),
    r"\n",
)
ESCAPED = st.lists(st.sampled_from(CHARACTERS)).map("".join)
NUMBERS = st.from_regex(
    r"\A-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?\Z"
) | st.sampled_from(["NaN", "-Infinity", "null"])


@given(ESCAPED, NUMBERS)
def test_a_line_is_read_as_the_same_record_in_an_array_is(title: str, number: str) -> None:
    record = f'{{"id": {number}, "title": "t{title}", "year": {number}}}'
    (line,), (item,) = read(record, format="jsonl"), read(f"[{record}]", format="json")
    assert isinstance(line, Paper)
    assert line == item


@pytest.mark.slow
def test_small_values_behind_a_large_one_are_read_in_linear_time() -> None:
    # In a process of its own, since nothing else ends what copies 14 MB 200,000 times.
    done = subprocess.run(
        [sys.executable, "-c", READ], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout == "200002\n"


def test_what_broke_is_placed_within_its_own_item() -> None:
    record = read('[{"title": "A"},   {"title": B}]')[1]
    assert isinstance(record, BadRecord)
    assert record.message == (
        "item 2: not JSON (Expecting value at character 11): '{\"title\": B}]'; "
        "what follows it is not read"
    )


def test_what_answers_and_error_lines_repeat_is_bounded() -> None:
    lines = [
        {"id": "x" * 1000, "title": "A"},
        {"id": "x" * 5000, "title": "A"},
        {"id": "x" * 5000, "other": 1},
        {"k" * 5000: 1},
    ]
    paper, *bad = read("\n".join(map(json.dumps, lines)))
    assert paper == Paper(id="x" * 1000, title="A")
    shown_id = f"'{'x' * 58}…"
    assert bad[0] == BadRecord(
        id="2",
        kind="too_long",
        message=f"line 2: id has 5,000 characters, more than 1,000: {shown_id}",
    )
    for record in bad:
        assert isinstance(record, BadRecord)
        assert len(record.id or "") <= 1000
        assert len(record.message) <= 2000


@pytest.mark.parametrize(
    "abstract",
    [
        "[No abstract available]",
        "No abstract available.",
        " no Abstract ",
        "[no abstract]",
        "Abstract not available",
        "The abstract is not available.",
        "abstract is missing",
        "<p>No abstract is available for this article.</p>",
        "N/A",
        "n.a.",
        "NA",
        "\\N",
        "NaN",
        "None",
    ],
)
def test_what_stands_for_a_missing_abstract_is_none(abstract: str) -> None:
    lines = [{"title": "A", "abstract": abstract}, {"id": "k", "abstract": abstract}]
    content = "\n".join(map(json.dumps, lines)).encode()
    paper, bad = read_stream(io.BytesIO(content))
    assert paper == Paper(id="1", title="A")
    assert isinstance(bad, BadRecord)
    assert (bad.kind, bad.id) == ("missing_text", "k")


@pytest.mark.parametrize(
    "abstract",
    [
        "No abstract group acts here.",
        "Abstract not available to machines is written by people.",
        "Na",
        "None of these bounds is sharp.",
        "Nanowires",
        "No abstract. We sort.",
    ],
)
def test_an_abstract_that_begins_like_a_missing_one_is_kept(abstract: str) -> None:
    content = json.dumps({"title": "A", "abstract": abstract}).encode()
    assert list(read_stream(io.BytesIO(content))) == [Paper(id="1", title="A", abstract=abstract)]
