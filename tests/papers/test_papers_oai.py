"""Pages of OAI-PMH: what is read of one, and that no part of one counts as a whole page."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classmark.errors import UnreadableSource
from classmark.papers.files.oai import read_page
from oai_server import BOMB, Archive, Entry

ARCHIVE = Archive(date="2024-11-28T01:02:03Z")
PAGE = ARCHIVE.page([Entry(1, "2024-11-11", "Sieves & <more>"), Entry(2, "2024-11-12")], "a&b", 9)


def test_a_page_has_its_records_its_date_and_the_token_of_the_next_one() -> None:
    page = read_page(PAGE, "archive")
    assert (page.token, page.announced, page.response_date) == ("a&b", 9, "2024-11-28T01:02:03Z")
    first, second = page.records
    assert first.paper is not None
    assert (first.identifier, first.datestamp) == ("oai:arXiv.org:2401.00001", "2024-11-11")
    assert first.paper.title == "Sieves & <more>"
    assert (second.paper, second.is_deleted, second.problem) == (None, True, "")


def test_an_error_has_its_code_and_its_words() -> None:
    page = read_page(ARCHIVE.error("badArgument", "from\n  is wrong"), "archive")
    assert (page.error_code, page.error_message) == ("badArgument", "from is wrong")
    assert page.is_whole


def test_a_record_without_an_identifier_is_named_as_unreadable() -> None:
    raw = PAGE.replace(b"<identifier>oai:arXiv.org:2401.00001</identifier>", b"")
    assert read_page(raw, "archive").records[0].problem == "the record has no identifier"


def test_a_number_that_is_none_announces_nothing() -> None:
    for number in (b"many", b"-1", "٣".encode(), b"9" * 40):
        assert read_page(PAGE.replace(b'"9"', b'"' + number + b'"'), "x").announced is None


@given(st.integers(0, len(PAGE) - 1))
def test_a_page_that_is_cut_anywhere_is_not_whole(end: int) -> None:
    assert not read_page(PAGE[:end], "archive").is_whole


@given(
    st.binary()
    | st.text().map(str.encode)
    | st.lists(
        st.sampled_from(
            [PAGE, BOMB, b"<OAI-PMH>", b"</OAI-PMH>", b"<ListRecords>", b"<record>", b"&x;"]
        )
    ).map(b"".join)
)
def test_whatever_comes_is_a_page_or_not(raw: bytes) -> None:
    with suppress(UnreadableSource):
        page = read_page(raw, "archive")
        assert not page.is_whole or raw.lstrip().startswith((b"<", b"\xef", b"\xff", b"\xfe"))


@pytest.mark.parametrize("raw", [BOMB, b"<OAI-PMH>" * 300, b"<a/>"])
def test_attacks_and_other_documents_are_refused(raw: bytes) -> None:
    with pytest.raises(UnreadableSource, match="archive"):
        read_page(raw, "archive")
