"""How a JSON body is bounded and taken apart, and that this changes nothing of what it says."""

from __future__ import annotations

import json
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter

from classmark.service.http.classify import may_be_parsed_at_once
from classmark.service.problems import Problem
from classmark.service.requests.scan import Elements, find_arrays, validate, without

MIB = 1 << 20
LONG, NAMES = b"l" * 70_000, b'"",' * 9_000
ANY: TypeAdapter[list[Any]] = TypeAdapter(list[Any])
TEXTS = st.text(alphabet=st.sampled_from('ab"\\[]{},: é\n'), max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


class Item(BaseModel, extra="forbid"):
    name: str


ITEMS: TypeAdapter[list[Item]] = TypeAdapter(Annotated[list[Item], Field(fail_fast=True)])


def rules(adapter: TypeAdapter[list[Any]], most_bytes: int = MIB) -> Elements[Any]:
    return Elements(adapter, ("items",), most_bytes, lambda: "too long")


def read(body: bytes, adapter: TypeAdapter[list[Any]] = ITEMS, most_bytes: int = MIB) -> list[Any]:
    [array] = find_arrays(body, [b"items"], 1000)
    return rules(adapter, most_bytes).validate(body, array, lambda: None)


@pytest.mark.slow
@given(st.lists(VALUES, max_size=200), VALUES, st.booleans(), st.sampled_from([None, 1]))
def test_what_is_cut_out_and_what_is_left_are_the_document(
    items: list[Any], other: Any, ascii_only: bool, indent: int | None
) -> None:
    document = {"before": other, "items": items, "after": {"items": [1, 2]}}
    body = json.dumps(document, ensure_ascii=ascii_only, indent=indent).encode()
    [array] = find_arrays(body, [b"items"], 1000)
    assert len(array.elements) == len(items)
    assert rules(ANY).validate(body, array, lambda: None) == items
    assert json.loads(without(body, [array], [b'"here"'])) == {**document, "items": "here"}


@pytest.mark.parametrize("text", ["short", "l" * 70_000], ids=["short", "long"])
@pytest.mark.parametrize("name", ['Ada ["\\,]} Sieve', {"name": "A, B", "ids": "[1]"}])
def test_lists_of_authors_may_be_long_wherever_they_are(name: Any, text: str) -> None:
    names = [name] * 5_000 + [{"name": "nested", "ids": [{"a": 1}]}] * 100
    item = {"text": text, "authors": names, "after": ["x", {"y": []}]}
    body = json.dumps({"items": [item, item, 3], "authors": [name] * 70}).encode()
    assert read(body, ANY) == [item, item, 3]


def test_arrays_deep_in_a_document_are_found() -> None:
    body = b'{"inputs": [{"data": [1]}, {"name": ["data"], "data": ["a", [2]]}], "data": [3]}'
    found = find_arrays(body, [b"inputs", None, b"data"], 1000)
    assert [body[array.start : array.end] for array in found] == [b"[1]", b'["a", [2]]']
    assert [len(array.elements) for array in found] == [1, 2]


@pytest.mark.parametrize(
    "quotes", ['"', '\\"', '\\\\"', "\\", "\\\\\\", '"' * 70_000, "\\" * 70_001]
)
def test_strings_end_where_they_end(quotes: str) -> None:
    items = [f"{quotes},]}}", "b" * 200_000, f"[{quotes}"]
    body = json.dumps({"items": items}).encode()
    assert read(body, ANY) == items


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"items":[' + b"1," * 4 * MIB, "too_many_papers"),
        (b'{"items":[' + b"," * 8 * MIB, "too_many_papers"),
        (b'{"other":[' + b"1," * 4 * MIB, "invalid_request"),
        (b"[" + b"{}," * 2 * MIB, "invalid_request"),
        (b"{" + b'"a":1,' * MIB, "invalid_request"),
        (b'{"items":[' + (b"[" + b"1," * 60 + b"1],") * 999, "invalid_request"),
        (b'{"items":[{"authors":[' + b'"",' * 10_000 + b'""]}]}', "invalid_request"),
        (b'{"items":[{"a":[' + b'"",' * MIB, "invalid_request"),
        (
            b'{"items":[' + (b'{"a":"%b","authors":[' % LONG + NAMES + b'""]},') * 25,
            "invalid_request",
        ),
        (b'"' * 8 * MIB, "invalid_request"),
        (b"[" * 8 * MIB, "malformed_json"),
        (b'{"a":' * MIB, "malformed_json"),
    ],
    ids=[
        *("elements", "commas", "another array", "an array at the top", "keys", "parts"),
        *("authors", "no authors", "authors of all", "strings"),
        *("arrays in arrays", "objects in objects"),
    ],
)
def test_a_document_is_bounded_in_its_structure(body: bytes, kind: str) -> None:
    with pytest.raises(Problem) as raised:
        find_arrays(body, [b"items"], 1000)
    assert raised.value.kind == kind
    assert len(raised.value.body("id")) < 500


@pytest.mark.parametrize(
    "body",
    [b"", b" " * 200_000, b"]", b"1,2", b'{"items":[1]}]', b'{"items":[', b'{"items":["a', b"\\"],
)
def test_what_is_not_json_is_left_to_the_parser(body: bytes) -> None:
    find_arrays(body, [b"items"], 1000)


def test_the_first_errors_are_named_with_their_places() -> None:
    items: list[Any] = [{"name": "a"}] * 300
    items[7], items[8], items[250] = {"name": 1, "x": 2}, 3, {}
    with pytest.raises(Problem) as raised:
        read(json.dumps({"items": items}).encode())
    assert [error["field"] for error in raised.value.errors] == [
        *("items.7.name", "items.7.x", "items.8", "items.250.name"),
    ]


def test_there_is_an_end_to_errors() -> None:
    with pytest.raises(Problem) as raised:
        read(b'{"items":[' + b",".join([b"1"] * 1000) + b"]}")
    assert len(raised.value.errors) == 20


def test_many_unknown_fields_of_many_elements_are_few_errors() -> None:
    item = {f"key_{n}": "x" for n in range(30)}
    with pytest.raises(Problem) as raised:
        read(json.dumps({"items": [item] * 1000}).encode())
    assert [error["field"] for error in raised.value.errors[:2]] == [
        "items.0.name",
        "items.0.key_0",
    ]
    assert len(raised.value.errors) == 20


@pytest.mark.parametrize("broken", [b"{", b"", b"nul", b'{"name": "a"} {}', b'"\\ud800"', b"[}"])
def test_an_element_that_is_not_json_is_named(broken: bytes) -> None:
    elements = [b'{"name": "a"}'] * 20
    elements[11] = broken
    with pytest.raises(Problem) as raised:
        read(b'{"items":[%s]}' % b",".join(elements))
    assert raised.value.kind == "malformed_json"
    assert " in items.11. Send one JSON object" in raised.value.detail
    assert "column" not in raised.value.detail


@pytest.mark.parametrize("n", [1, 63, 64, 65])
def test_a_last_comma_is_not_json(n: int) -> None:
    with pytest.raises(Problem, match=rf"in items\.{n}\."):
        read(b'{"items":[%s]}' % (b'{"name": "a"},' * n))


def test_an_element_that_is_too_long_is_not_parsed() -> None:
    items = [{"name": "a"}, {"name": "b" * 5000}, {"name": "c"}]
    found = read(json.dumps({"items": items}).encode(), most_bytes=1000)
    assert found == [Item(name="a"), "too long", Item(name="c")]


def test_between_pieces_the_deadline_is_looked_at() -> None:
    checks = []
    body = json.dumps({"items": [{"name": "a"}] * 640}).encode()
    [array] = find_arrays(body, [b"items"], 1000)
    rules(ITEMS).validate(body, array, lambda: checks.append(1))
    assert len(checks) == 10


def test_a_whole_document_keeps_the_position_of_an_error_and_a_cut_one_does_not() -> None:
    adapter = TypeAdapter(Item)
    with pytest.raises(Problem, match="line 1 column 8"):
        validate(adapter, b'{"name"}')
    with pytest.raises(Problem) as raised:
        validate(adapter, b'{"name"}', is_whole=False)
    assert "column" not in raised.value.detail


def test_what_takes_the_parser_long_is_not_parsed_in_the_event_loop() -> None:
    assert may_be_parsed_at_once(b'{"title":"a","abstract":"b"}')
    for many in (b"{},", b'{"a":1},', b'"a":1,'):
        assert not may_be_parsed_at_once(b'{"papers":[%b{}]}' % (many * 300))
