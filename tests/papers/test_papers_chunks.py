"""Chunks of a file: read elsewhere, they give what the whole file gives."""

from __future__ import annotations

import bz2
import gzip
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classmark.errors import UnreadableSource, UsageError
from classmark.papers import ChunkSize, Columns, ReadOptions, papers_of, read_chunks, read_papers
from classmark.records import BadRecord, Paper

PAPER = json.dumps({"title": "Naïve graphs", "abstract": "Wörter."}, ensure_ascii=False).encode()
LINES = st.sampled_from(
    [
        PAPER,
        b'{"id": "a", "title": "t", "abstract": "b"}',
        b'  {"title": "spaced"}  ',
        b"",
        b"   ",
        b"\r",
        b"{broken",
        b'{"title": 7}',
        b"[1]",
        b'{"title": "nul \0"}',
        b'{"title": "bad \xff"}',
        b'{"title": "\\ud800 half"}',
        b'{"title": "long ' + b"x" * 200 + b'"}',
    ]
)


@st.composite
def dumps(draw: st.DrawFn) -> bytes:
    """Draw a dump that begins with a paper, so that it is known for JSON lines."""
    lines = [PAPER, *draw(st.lists(LINES, max_size=12))]
    ends = draw(st.lists(st.sampled_from([b"\n", b"\r\n"]), min_size=13, max_size=13))
    raw = b"".join(line + end for line, end in zip(lines, ends, strict=False))
    bom = draw(st.sampled_from([b"", b"\xef\xbb\xbf"]))
    return bom + (raw if draw(st.booleans()) else raw.removesuffix(b"\n"))


def chunked(path: Path, size: ChunkSize, **options: int) -> list[Paper | BadRecord]:
    given = ReadOptions(name="", **options)  # type: ignore[arg-type]
    chunks = read_chunks(path, size, options=given)
    return [record for chunk in chunks for record in papers_of(chunk, given)]


@pytest.mark.slow
@settings(max_examples=300)
@given(dumps(), st.integers(1, 400), st.sampled_from([60, 130, 1 << 20]))
def test_chunks_of_any_size_give_the_records_of_the_whole(
    dump: bytes, n_bytes: int, max_record_bytes: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "dump.jsonl")
        path.write_bytes(dump)
        whole = list(read_papers(path, max_record_bytes=max_record_bytes))
        size = ChunkSize(n_bytes, 10)
        assert chunked(path, size, max_record_bytes=max_record_bytes) == whole


def test_a_line_over_the_limit_is_not_held(tmp_path: Path) -> None:
    path = tmp_path / "dump.jsonl"
    path.write_bytes(PAPER + b"\n" + PAPER + b'\n{"title": "' + b"x" * 99_999 + b'"}\n' + PAPER)
    chunks = list(
        read_chunks(path, ChunkSize(100, 10), options=ReadOptions(name="", max_record_bytes=1_000))
    )
    assert max(len(chunk.content) for chunk in chunks) < 1_200
    records = chunked(path, ChunkSize(100, 10), max_record_bytes=1_000)
    assert [record.id for record in records] == ["1", "2", "3", "4"]
    assert isinstance(records[2], BadRecord)
    assert records[2].message.startswith("line 3: 100,013 bytes, more than the limit of 1,000")


def test_gzip_is_read_as_what_is_in_it_and_counts_its_bytes_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "dump.jsonl.gz"
    path.write_bytes(gzip.compress((PAPER + b"\n") * 50))
    chunks = list(read_chunks(path, ChunkSize(300, 10)))
    assert len(chunks) > 5
    assert chunks[-1].end_byte == path.stat().st_size
    assert chunked(path, ChunkSize(300, 10)) == list(read_papers(path))


@pytest.mark.parametrize("size", [ChunkSize(10_000, 2), ChunkSize(1, 100)])
def test_other_formats_give_records(tmp_path: Path, size: ChunkSize) -> None:
    path = tmp_path / "papers.csv"
    path.write_text("id,title,abstract\n" + 'a,t,"two\nlines"\nb,,\n' * 3)
    chunks = list(read_chunks(path, size))
    assert len(chunks) == (3 if size.records == 2 else 4)
    assert chunked(path, size) == list(read_papers(path))


@pytest.mark.parametrize("size", [ChunkSize(10_000, 2), ChunkSize(1, 100)])
def test_xml_and_workbooks_give_records(tmp_path: Path, size: ChunkSize) -> None:
    entries = "".join(
        f"<entry><id>{i}</id><title>t{i}</title></entry>\n" if i % 3 else "<entry/>\n"
        for i in range(9)
    )
    feed = f'<feed xmlns="http://www.w3.org/2005/Atom">{entries}</feed>\n'
    path = tmp_path / "papers.xml.bz2"
    path.write_bytes(bz2.compress((feed * 2).encode()))
    assert len(list(read_papers(path))) == 18
    assert chunked(path, size) == list(read_papers(path))
    openpyxl = pytest.importorskip("openpyxl", reason="needs classmark[xlsx]")
    book = openpyxl.Workbook()
    for row in [("title", "abstract"), *[("t", "a"), (None, " ")] * 3]:
        book.active.append(row)
    book.save(path := tmp_path / "papers.xlsx")
    assert len(list(read_papers(path))) == 6
    assert chunked(path, size) == list(read_papers(path))


def test_json_arrays_and_mapped_columns(tmp_path: Path) -> None:
    path = tmp_path / "papers.json"
    path.write_text(json.dumps([{"Titel": "graph"}, {"Titel": "string"}]))
    (chunk,) = read_chunks(
        path,
        ChunkSize(1000, 10),
        options=ReadOptions(name="", columns=Columns(given={"title": "Titel"})),
    )
    assert [getattr(record, "title", None) for record in papers_of(chunk)] == ["graph", "string"]


def test_unknown_formats_and_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown format 'docx'"):
        list(read_chunks(tmp_path / "a.jsonl", ChunkSize(1, 1), format="docx"))
    with pytest.raises(UnreadableSource, match="does not exist"):
        list(read_chunks(tmp_path / "a.jsonl", ChunkSize(1, 1)))


def test_a_chunk_of_records_is_full_by_all_of_their_texts(tmp_path: Path) -> None:
    path = tmp_path / "papers.csv"
    path.write_text("abstract,authors\n" + f"A,{'x' * 1000}\n" * 10)
    chunks = list(read_chunks(path, ChunkSize(bytes=2000, records=100)))
    assert [len(chunk.content) for chunk in chunks] == [2] * 5
