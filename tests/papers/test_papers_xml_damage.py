"""XML that is cut, broken, or made to fill the memory: nothing is lost without a word."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xml_samples import (
    ARXIV,
    ATOM,
    RAW,
    read,
    record,
    response,
)

from classmark.errors import UnreadableSource
from classmark.papers import read_papers, read_stream
from classmark.papers.files.xml import documents
from classmark.records import BadRecord, Paper

LAUGHS = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
FILE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
DEFAULTS = f'<!DOCTYPE x [<!ATTLIST a b CDATA "{"x" * 1000}">]>'
PARAMETER = '<!DOCTYPE x [<!ENTITY % p SYSTEM "http://localhost:9/"> %p;]>'


@pytest.mark.parametrize("definitions", [LAUGHS, FILE, DEFAULTS, PARAMETER])
def test_entities_and_own_definitions_are_refused(tmp_path: Path, definitions: str) -> None:
    path = tmp_path / "papers.xml"
    path.write_text(ATOM.replace("<feed", f"{definitions}<feed").replace("Sieves", "&b;"))
    with pytest.raises(
        UnreadableSource,
        match=r"papers\.xml, line 2: the XML has a document type definition of its",
    ):
        list(read_papers(path))


def test_what_precedes_a_refusal_is_given() -> None:
    papers = read_stream(io.BytesIO((ATOM + ATOM.replace("<feed", f"{LAUGHS}<feed")).encode()))
    assert isinstance(next(papers), Paper)
    with pytest.raises(UnreadableSource, match="definition of its own"):
        next(papers)


@pytest.mark.parametrize(
    ("inside", "message"),
    [
        ("<a>" * 300, r"line 6: the XML nests elements more than 200 deep, which no"),
        (
            "<a " + " ".join(f'b{i}="1"' for i in range(300)) + "/>",
            r"gives an element 300 attributes",
        ),
    ],
)
def test_absurd_structure_is_refused(inside: str, message: str) -> None:
    content = ATOM.replace("<entry>", f"<entry>\n{inside}")
    with pytest.raises(UnreadableSource, match=message):
        read(content)


@pytest.mark.slow
@pytest.mark.parametrize("opening", ['<a b="', "<!-- ", "<?pi "])
def test_a_tag_or_comment_without_end_is_refused_in_bounded_memory(opening: str) -> None:
    head = ATOM.partition("<entry>")[0] + opening

    tracemalloc.start()
    with pytest.raises(UnreadableSource, match=r"a tag or comment of more than 1,048,576 bytes"):
        list(read_stream(Endless(head.encode(), b"x" * 65_536, 1_000), format="xml"))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 16_000_000


class Endless(io.RawIOBase):
    """A stream of a head, and one piece many times over."""

    def __init__(self, head: bytes, piece: bytes, times: int, tail: bytes = b"") -> None:
        self._pieces: Iterator[bytes] = iter([head, *[piece] * times, tail])
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._rest and (more := next(self._pieces, None)) is not None:
            self._rest = more
        chunk, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(chunk)] = chunk
        return len(chunk)


def test_a_record_over_the_limit_is_one_error_and_reading_goes_on() -> None:
    long = record(ARXIV.replace("We study", "We " + "study " * 40_000))
    one, bad, two = read(response(record(ARXIV), long, record(RAW)), max_record_bytes=100_000)
    assert isinstance(bad, BadRecord)
    assert bad.kind == "too_long"
    assert "more than the limit of 100,000" in bad.message
    assert (one.id, two.id) == ("2401.00011", "2401.00012")


def test_a_record_of_too_many_elements_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_ELEMENTS", 100)
    many = record(ARXIV.replace("<title>", "<x/>" * 100 + "<title>"))
    bad, paper = read(response(many, record(RAW)))
    assert isinstance(bad, BadRecord)
    assert bad.message == "line 3: holds more than 100 elements"
    assert paper.id == "2401.00012"


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file() -> None:
    head, tail = response("").split("<resumptionToken>")
    stream = Endless(head.encode(), (record(ARXIV) * 100).encode(), 30, tail.encode())
    tracemalloc.start()
    n_papers = sum(isinstance(paper, Paper) for paper in read_stream(stream, format="xml"))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert n_papers == 3_000
    assert peak_bytes < 2_000_000


def test_broken_xml_gives_what_precedes_and_one_error() -> None:
    one = record(ARXIV)
    content = response(one, one, one.replace("</title>", "</titel>"), one)
    first, second, bad = read(content)
    assert isinstance(first, Paper)
    assert isinstance(second, Paper)
    assert isinstance(bad, BadRecord)
    begins = content[: content.rindex("<record>", 0, content.index("</titel>"))].count("\n") + 1
    breaks = content[: content.index("</titel>")].count("\n") + 1
    assert bad.kind == "broken_xml"
    assert bad.message.startswith(f"line {breaks}: the XML is broken or cut short (mismatched tag")
    assert bad.message.endswith(f"in the record of line {begins}); what follows was not read")


def test_junk_behind_a_document_is_an_error() -> None:
    paper, bad = read(ATOM + "and more")
    assert isinstance(paper, Paper)
    assert isinstance(bad, BadRecord)
    assert bad.kind == "broken_xml"


TEXTS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Co", "Cn"]), max_size=30
)
WRITTEN = st.lists(st.tuples(TEXTS.filter(str.strip), TEXTS), min_size=1, max_size=5)


def written(records: list[tuple[str, str]], kind: str) -> str:
    items = [
        (str(i), escape(title, {"\r": "&#13;"}), escape(abstract))
        for i, (title, abstract) in enumerate(records, 1)
    ]
    if kind == "atom":
        entries = [
            f"<entry><id>{i}</id><title>{t}</title><summary>{a}</summary></entry>\n"
            for i, t, a in items
        ]
        return f'<feed xmlns="http://www.w3.org/2005/Atom">{"".join(entries)}</feed>'
    if kind == "endnote":
        entries = [
            f"<record><rec-number>{i}</rec-number><titles><title><style>{t}</style></title>"
            f"</titles><abstract>{a}</abstract></record>\n"
            for i, t, a in items
        ]
        return f"<xml><records>{''.join(entries)}</records></xml>"
    return response(
        *(
            record(f"<arXiv><id>{i}</id><title>{t}</title><abstract>{a}</abstract></arXiv>")
            for i, t, a in items
        )
    )


KINDS = st.sampled_from(["atom", "endnote", "oai"])


@settings(max_examples=60)
@given(WRITTEN, KINDS)
def test_whatever_is_written_as_xml_is_read_back(records: list[tuple[str, str]], kind: str) -> None:
    # Letters only: what looks like markup or an entity is taken out, which other tests look at.
    # The x: an abstract such as "N/A" is none.
    plain = str.maketrans("", "", "<&")
    records = [(f"x{t}".translate(plain), f"x{a}".translate(plain)) for t, a in records]
    papers = read(written(records, kind), format="xml")
    assert [(p.title, p.abstract) for p in papers] == [(t.strip(), a.strip()) for t, a in records]
    assert [p.id for p in papers] == [str(i) for i in range(1, len(records) + 1)]


@settings(max_examples=80)
@given(WRITTEN, KINDS, st.data())
def test_cut_anywhere_each_record_is_an_answer_or_there_is_an_error(
    records: list[tuple[str, str]], kind: str, data: st.DataObject
) -> None:
    whole = written(records, kind).strip().encode()
    cut = data.draw(st.integers(1, len(whole) - 1))
    found = read(whole[:cut], format="xml")
    *papers, last = found
    assert isinstance(last, BadRecord)
    assert last.kind == "broken_xml"
    n_whole = whole[:cut].count(b"</entry>" if kind == "atom" else b"</record>")
    assert len(papers) == n_whole
