"""Records in JSON as well-known services write them; every text is invented."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from classmark.papers import read_stream
from classmark.records import BadRecord, Paper

TITLE, ABSTRACT = "A slow planet", "We time transits of a planet."
INVERTED = {"We": [0], "time": [1], "transits": [2], "of": [3], "a": [4], "planet.": [5]}


def read(value: Any) -> list[Paper | BadRecord]:
    return list(read_stream(io.BytesIO(json.dumps(value).encode())))


def paper(id: str, **more: Any) -> Paper:
    return Paper(**{"id": id, "title": TITLE, "abstract": ABSTRACT, **more})


CROSSREF = {
    "DOI": "10.99999/1",
    "title": [TITLE, "Ein langsamer Planet"],
    "abstract": ABSTRACT,
    "author": [{"given": "A.", "family": "Muster"}, {"name": "A Collaboration"}],
    "issued": {"date-parts": [[2021, 5]]},
}
OPENALEX = {
    "id": "https://openalex.org/W1",
    "display_name": TITLE,
    "abstract_inverted_index": INVERTED,
    "publication_date": "2021-05-04",
    "authorships": [{"author": {"display_name": "A. Muster"}}],
}
SEMANTIC_SCHOLAR = {
    "paperId": "p1",
    "title": TITLE,
    "abstract": ABSTRACT,
    "externalIds": {"ArXiv": "2101.99901"},
    "authors": [{"authorId": "1", "name": "A. Muster"}],
    "year": 2021,
}
INSPIRE = {
    "id": "77",
    "metadata": {
        "titles": [{"title": TITLE}],
        "abstracts": [{"value": ABSTRACT, "source": "arXiv"}],
        "arxiv_eprints": [{"value": "2101.99901", "categories": ["hep-th", "gr-qc"]}],
        "authors": [{"full_name": "Muster, A."}],
        "preprint_date": "2021-01-02",
    },
}
HUGGING_FACE = {"row_idx": 0, "row": {"id": "r1", "title": TITLE, "abstract": ABSTRACT}}
ZOTERO = {
    "itemKey": "AB12",
    "title": TITLE,
    "abstractNote": ABSTRACT,
    "date": "2021",
    "creators": [{"firstName": "A.", "lastName": "Muster"}],
}
ZOTERO_SERVER = {"key": "AB12", "version": 7, "meta": {}, "data": {"key": "AB12", **ZOTERO}}
CSL = {"id": "muster2021", "title": TITLE, "abstract": ABSTRACT, "issued": {"date-parts": [[2021]]}}

KNOWN = {
    "Crossref": (
        CROSSREF,
        paper("10.99999/1", authors=("A. Muster", "A Collaboration"), published_date="2021-05-01"),
    ),
    "OpenAlex": (
        OPENALEX,
        paper(str(OPENALEX["id"]), authors=("A. Muster",), published_date="2021-05-04"),
    ),
    "Semantic Scholar": (
        SEMANTIC_SCHOLAR,
        paper("2101.99901", authors=("A. Muster",), published_date="2021-01-01"),
    ),
    "Inspire": (
        INSPIRE,
        paper(
            "2101.99901",
            category_code="hep-th",
            categories=("hep-th", "gr-qc"),
            authors=("Muster, A.",),
            published_date="2021-01-02",
        ),
    ),
    "Hugging Face": (HUGGING_FACE, paper("r1")),
    "Zotero": (ZOTERO, paper("AB12", authors=("A. Muster",), published_date="2021-01-01")),
    "Zotero's server": (
        ZOTERO_SERVER,
        paper("AB12", authors=("A. Muster",), published_date="2021-01-01"),
    ),
    "CSL-JSON": (CSL, paper("muster2021", published_date="2021-01-01")),
}


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


@pytest.mark.parametrize("wrap", [lambda records: records, lambda records: {"data": records}])
@pytest.mark.parametrize("indent", [None, 1])
def test_a_record_that_a_service_did_not_find_costs_no_other(wrap: Any, indent: Any) -> None:
    records = wrap([None, {"title": "A"}, None, {"title": "B"}])
    found = list(read_stream(io.BytesIO(json.dumps(records, indent=indent).encode())))
    assert [getattr(record, "title", None) for record in found] == [None, "A", None, "B"]
    bad = found[2]
    assert isinstance(bad, BadRecord)
    assert bad.message.endswith("item 3: a JSON object was expected, got None")


def test_a_single_record_in_a_message_is_read() -> None:
    assert read({"status": "ok", "message": CROSSREF})[0].id == "10.99999/1"


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
