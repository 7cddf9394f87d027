"""Records in JSON as well-known services write them; every text is invented."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from json_samples import ABSTRACT, CROSSREF, DATACITE, KNOWN, TITLE, paper

from classmark.papers import read_stream
from classmark.records import BadRecord, Paper


def read(value: Any) -> list[Paper | BadRecord]:
    return list(read_stream(io.BytesIO(json.dumps(value).encode())))


@pytest.mark.parametrize(("record", "expected"), KNOWN.values(), ids=KNOWN)
def test_a_record_of_a_known_service_is_read(record: Any, expected: Paper) -> None:
    assert read(record) == [expected]
    assert read([record]) == [expected]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda records: {"meta": {"count": 2}, "results": records},
        lambda records: {"total": 2, "data": records},
        lambda records: {"items": records},
        lambda records: {"features": [], "rows": records},
        lambda records: {"status": "ok", "message": {"items": records}},
        lambda records: {"hits": {"total": 2, "hits": records}},
        lambda records: {"responseHeader": {"status": 0}, "response": {"docs": records}},
        lambda records: {"result": {"status": {}, "hits": {"@total": "2", "hit": records}}},
        lambda records: {"hitCount": 2, "resultList": {"result": records}},
        lambda records: {"messages": [{"status": "ok"}], "collection": records},
        lambda records: {"papers": records},
        lambda records: {"search-results": {"opensearch:totalResults": "2", "entry": records}},
        lambda records: {"notes": records, "count": 2},
        lambda records: {"records": records, "facets": [{"name": "x"}]},
    ],
)
@pytest.mark.parametrize("indent", [None, 1])
def test_a_list_that_a_service_wraps_is_read_record_by_record(wrap: Any, indent: Any) -> None:
    records = [{"title": "A"}, {"nothing": 1}, {"title": "B", "results": [1]}]
    found = list(read_stream(io.BytesIO(json.dumps(wrap(records), indent=indent).encode())))
    assert [getattr(record, "title", None) for record in found] == ["A", None, "B"]
    bad = found[1]
    assert isinstance(bad, BadRecord)
    assert bad.message.startswith(f"{'line 1' if indent is None else 'item 1'}, item 2: no 'title'")


def test_a_blank_value_gives_way_to_the_next_key_of_its_field() -> None:
    record = {"title": "A", "abstract": " ", "summary": "We sum up.", "date": "", "year": 2021}
    assert read([record, {"title": " ", "abstract": "x"}]) == [
        Paper(id="1", title="A", abstract="We sum up.", published_date="2021-01-01"),
        Paper(id="2", title=" ", abstract="x"),
    ]


@pytest.mark.parametrize("between", ["\n", "\n\n", "\n ", " , "])
def test_papers_without_ids_of_several_pages_have_different_ones(between: str) -> None:
    pages = [{"results": [{"title": f"{page}{i}"} for i in (1, 2)]} for page in "ABC"]
    text = between.join(json.dumps(page, indent=1 if between == "\n " else None) for page in pages)
    is_array = "," in between
    content = f"[{text}]" if is_array else text
    found = list(read_stream(io.BytesIO(content.encode())))
    second, third = (3, 5) if between == "\n\n" else (2, 3)
    assert found == [
        *(Paper(id="1", title="A1"), Paper(id="2", title="A2")),
        *(Paper(id=f"{second}:1", title="B1"), Paper(id=f"{second}:2", title="B2")),
        *(Paper(id=f"{third}:1", title="C1"), Paper(id=f"{third}:2", title="C2")),
    ]


@pytest.mark.parametrize("wrap", [lambda records: records, lambda records: {"data": records}])
@pytest.mark.parametrize("indent", [None, 1])
def test_a_record_that_a_service_did_not_find_costs_no_other(wrap: Any, indent: Any) -> None:
    records = wrap([None, {"title": "A"}, None, {"title": "B"}])
    found = list(read_stream(io.BytesIO(json.dumps(records, indent=indent).encode())))
    assert [getattr(record, "title", None) for record in found] == [None, "A", None, "B"]
    bad = found[2]
    assert isinstance(bad, BadRecord)
    assert bad.message.endswith("item 3: a JSON object was expected, got None")


@pytest.mark.parametrize(
    "table",
    [
        {"title": {"0": "A", "1": None}, "abstract": {"0": "X", "1": "Y"}, "id": {"0": 7}},
        {"columns": ["title", "abstract", "id"], "data": [["A", "X", 7], [None, "Y"]]},
        {"0": {"title": "A", "abstract": "X", "id": 7}, "2": {"title": None, "abstract": "Y"}},
    ],
)
@pytest.mark.parametrize("indent", [None, 1])
def test_tables_as_pandas_writes_them_are_read(table: Any, indent: Any) -> None:
    found = list(read_stream(io.BytesIO(json.dumps(table, indent=indent).encode())))
    assert found == [
        Paper(id="7", title="A", abstract="X"),
        Paper(id="2", abstract="Y"),
    ]


def test_papers_under_their_ids_keep_them() -> None:
    papers = {
        "2101.99901": {"title": "A"},
        "hep-1": {"title": "B"},
        "x": {"doi": "y", "title": "C"},
    }
    expected = {"2101.99901": "A", "hep-1": "B", "y": "C"}
    assert read(papers) == [Paper(id=id, title=title) for id, title in expected.items()]


@pytest.mark.parametrize(
    "value",
    [
        {"title": {"0": "A"}, "abstract": "X"},
        {"title": {"en": ["A"]}, "year": 2021},
        {"columns": ["title"], "data": ["A"]},
        {"columns": [["title"]], "data": [["A"]]},
    ],
)
def test_what_only_looks_like_a_table_is_one_error(value: Any) -> None:
    (bad,) = read(value)
    assert isinstance(bad, BadRecord)


def test_a_single_record_in_a_message_is_read() -> None:
    assert read({"status": "ok", "message": CROSSREF})[0].id == "10.99999/1"
    assert read({"data": DATACITE}) == read(DATACITE)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"title": [TITLE], "pubdate": "2021-00-00"}, {"published_date": "2021-01-01"}),
        ({"title": [TITLE], "abstract": [], "doi": ["10.9/1", "10.9/2"]}, {"id": "10.9/1"}),
        ({"title_s": [TITLE], "halId_s": "hal-9"}, {"id": "hal-9"}),
        ({"title_s": ["Un"], "en_title_s": [TITLE], "docid": 7}, {"id": "7"}),
        ({"attributes": {"titles": [{"title": TITLE}], "descriptions": []}}, {}),
        ({"attributes": {"titles": [{"title": TITLE}], "descriptions": None, "dates": 1}}, {}),
        ({"info": {"title": TITLE, "authors": {"author": {"text": "Al"}}}}, {"authors": ("Al",)}),
        ({"title": TITLE, "authorList": {}, "authorString": ""}, {}),
        ({"title": TITLE, "abstract": "", "published": "NA"}, {}),
        ({"title": TITLE, "authors": [], "yearPublished": None}, {}),
    ],
)
def test_what_a_service_does_not_know_of_a_paper_costs_nothing_else(
    record: Any, expected: Any
) -> None:
    assert read(record) == [Paper(**{"id": "1", "title": TITLE, **expected})]


def test_the_date_of_issue_in_datacite_is_better_than_its_year() -> None:
    dates = [
        {"date": "2021-07-01T12:00:00Z", "dateType": "Updated"},
        {"date": "2021-05", "dateType": "Issued"},
    ]
    record = {"attributes": {"titles": [{"title": "A"}], "dates": dates, "publicationYear": 2021}}
    assert read(record) == [Paper(id="1", title="A", published_date="2021-05-01")]


def test_names_of_a_service_are_columns_of_a_table_too() -> None:
    table = f"halId_s,title_s,abstract_s,producedDate_s\nhal-9,{TITLE},{ABSTRACT},2021\n"
    (found,) = read_stream(io.BytesIO(table.encode()))
    assert found == paper("hal-9", published_date="2021-01-01")


def test_an_object_without_records_is_one_error() -> None:
    (bad,) = read({"results": [1, 2], "data": {"a": {"b": {"items": [{"title": "A"}]}}}})
    assert isinstance(bad, BadRecord)
    assert bad.kind == "missing_field"


@pytest.mark.parametrize("index", [{}, [], {"a": "b", "c": ["x"]}, None])
def test_an_inverted_abstract_without_words_leaves_the_title(index: Any) -> None:
    (found,) = read({"title": TITLE, "abstract_inverted_index": index})
    assert found == Paper(id="1", title=TITLE)


@pytest.mark.parametrize(
    "issued", [{}, {"date-parts": []}, {"date-parts": [[None]]}, {"date-parts": [["x"]]}, "x"]
)
def test_a_date_that_is_not_known_is_none(issued: Any) -> None:
    (found,) = read({"title": TITLE, "issued": issued})
    assert found == Paper(id="1", title=TITLE)


@pytest.mark.parametrize("values", [{"title": None}, {"Abstract": None, "titles": None}])
def test_a_record_whose_texts_are_null_is_said_to_be_empty(values: Any) -> None:
    (bad,) = read({"id": "k", **values})
    assert isinstance(bad, BadRecord)
    assert (bad.kind, bad.id) == ("missing_text", "k")
    assert bad.message == "line 1: title and abstract are empty"
    assert not bad.columns_seen


def test_nan_is_a_missing_value() -> None:
    lines = b'{"id": NaN, "title": "A", "abstract": NaN, "categories": NaN, "date": NaN}\n'
    assert list(read_stream(io.BytesIO(lines))) == [Paper(id="1", title="A")]


def test_a_title_that_lists_other_things_than_texts_is_bad() -> None:
    (bad,) = read({"title": [1], "abstract": ABSTRACT})
    assert isinstance(bad, BadRecord)
    assert bad.kind == "wrong_type"
    assert read({"title": [], "abstract": ABSTRACT}) == [Paper(id="1", abstract=ABSTRACT)]


@pytest.mark.parametrize(
    ("parsed", "seen"),
    [(5, "int 5"), ([["A"], [1]], "list [1]"), ({"a": 1}, "dict {'a': 1}")],
)
def test_parsed_authors_that_are_not_names_are_an_error_unless_others_are_given(
    parsed: Any, seen: str
) -> None:
    (found,) = read({"title": TITLE, "authors_parsed": parsed})
    assert isinstance(found, BadRecord)
    assert found.kind == "wrong_type"
    assert found.message.endswith(f"got {seen}")
    (other,) = read({"title": TITLE, "authors_parsed": parsed, "authors": "Bo Graph"})
    assert other == Paper(id="1", title=TITLE, authors=("Bo Graph",))


def test_parsed_authors_may_be_texts_too() -> None:
    (found,) = read({"title": TITLE, "authors_parsed": ["Ada Sieve", ["Graph", "Bo", ""]]})
    assert found == Paper(id="1", title=TITLE, authors=("Ada Sieve", "Bo Graph"))


@pytest.mark.parametrize("parsed", [None, [], float("nan")])
def test_missing_parsed_authors_leave_the_others(parsed: Any) -> None:
    (found,) = read({"title": TITLE, "authors_parsed": parsed, "authors": ["Bo Graph"]})
    assert found == Paper(id="1", title=TITLE, authors=("Bo Graph",))
    assert read({"title": TITLE, "authors_parsed": parsed}) == [Paper(id="1", title=TITLE)]


def test_terms_that_are_no_categories_do_not_cost_the_record() -> None:
    assert read({"title": TITLE, "terms": {"licence": 1}}) == [Paper(id="1", title=TITLE)]


def test_markup_in_texts_is_taken_out_in_every_format() -> None:
    marked = {"title": "On <i>E. coli</i>", "abstract": "<jats:p>We &amp; H<sub>2</sub>O</jats:p>"}
    expected = [Paper(id="1", title="On E. coli", abstract=" We & H_{2}O ")]
    assert read(marked) == expected
    table = f"id,title,abstract\n1,{marked['title']},{marked['abstract']}\n"
    assert list(read_stream(io.BytesIO(table.encode()))) == expected


def test_markup_alone_is_no_text() -> None:
    (bad,) = read({"title": "<p></p>"})
    assert isinstance(bad, BadRecord)
    assert bad.kind == "missing_text"
