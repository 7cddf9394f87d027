"""XML as libraries and publishers write it; every text is invented."""

from __future__ import annotations

import re

import pytest
from xml_samples import LIBRARIES, MARC, MODS, only, read, record, response

from classmark.records import Paper


def fields_of(paper: Paper) -> tuple[str | None, ...]:
    return paper.id, paper.title.strip(), paper.abstract.strip(), *paper.authors


@pytest.mark.parametrize(("content", "fields"), LIBRARIES.values(), ids=LIBRARIES)
def test_what_libraries_and_publishers_write_is_read(content: str, fields: tuple[str, ...]) -> None:
    for document in (content, f"<?xml version='1.0'?>\n{content}\n"):
        paper = only(document)
        assert fields_of(paper) == fields
        assert str(paper.published_date)[:4] == "2021"


@pytest.mark.parametrize("name", ["MODS", "MARC", "DataCite"])
def test_oai_pmh_of_other_archives_is_read(name: str) -> None:
    content, fields = LIBRARIES[name]
    paper = only(response(record(content)))
    assert fields_of(paper) == fields
    wrapped = f"<oai_datacite xmlns='http://x.org'><payload>{content}</payload></oai_datacite>"
    assert only(response(record(wrapped))) == paper


def test_collections_are_read_with_and_without_namespaces() -> None:
    for content, name in ((MODS, "modsCollection"), (MARC, "collection")):
        bare = re.sub(' xmlns="[^"]*"', "", content)
        for each in (content, bare):
            found = read(f"<{name}>{each}\n{each}</{name}>")
            assert [getattr(paper, "title", None) for paper in found] == [only(content).title] * 2
