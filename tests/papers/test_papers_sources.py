from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import random
import subprocess
import sys
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classmark.errors import ClassmarkError, UnreadableSource, UsageError
from classmark.papers import FORMATS, detect_format, read_papers, read_stream
from classmark.papers.files import sources as sources_module
from classmark.records import BadRecord, Paper

CSV = b"title,abstract\nA,B\n"
PAPERS = [Paper(id="2", title="A", abstract="B")]
PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": lambda content: bz2.compress(content, 1),  # blocks of 100 kB
    ".xz": lzma.compress,
}


ENDED_BY_DOS = {
    "csv": b"title,abstract\r\nA,B\r\n",
    "jsonl": b'{"title": "A"}\n{"title": "B"}\n',
    "json": b'[{"title": "A"},\n {"title": "B"}]',
    "xml": b'<?xml version="1.0"?><feed><entry><title>A</title></entry></feed>',
    "bib": b"@article{a, title = {A}}\n",
    "ris": b"TY  - JOUR\nTI  - A\nER  - \n",
    "txt": b"A\nWe sort graphs.",
    "old.csv": b"title,abstract\rA,B\r",
}


def zip_of(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


class Pipe(io.BufferedIOBase):
    """A binary stream as a pipe gives it: no seeking, a few bytes at a time."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        return True

    def read1(self, size: int = -1) -> bytes:
        self._rest = self._rest or next(self._chunks, b"")
        size = len(self._rest) if size < 0 else size
        chunk, self._rest = self._rest[:size], self._rest[size:]
        return chunk

    def read(self, size: int | None = -1) -> bytes:
        raise AssertionError("a pipe is read as far as there is something, never waited for")


@pytest.mark.parametrize("suffix", PACK)
def test_a_packed_file_is_read_as_what_is_in_it(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"papers.jsonl{suffix}"
    path.write_bytes(PACK[suffix](CSV))
    assert list(read_papers(path)) == PAPERS
    assert list(read_stream(Pipe(iter([path.read_bytes()])))) == PAPERS
    path.write_bytes(PACK[suffix](b'["x"]'))
    assert detect_format(path) == "jsonl"  # by the name within the name


@pytest.mark.parametrize("suffix", PACK)
def test_packed_files_one_after_the_other_are_one(tmp_path: Path, suffix: str) -> None:
    pack = PACK[suffix]
    path = tmp_path / f"papers.csv{suffix}"
    path.write_bytes(pack(CSV) + pack(b"") + bytes(8) + pack(b"C,D\n") + bytes(200_000))
    assert list(read_papers(path)) == [*PAPERS, Paper(id="3", title="C", abstract="D")]


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("rest", [b"x", b"title", bytes(8) + b"x"])
def test_what_follows_a_packed_file_is_damage(tmp_path: Path, suffix: str, rest: bytes) -> None:
    path = tmp_path / f"papers.csv{suffix}"
    path.write_bytes(PACK[suffix](CSV) + rest)
    with pytest.raises(UnreadableSource, match=r"is damaged or cut short"):
        list(read_papers(path))


@pytest.mark.parametrize("suffix", PACK)
def test_a_packed_file_that_is_cut_anywhere_is_damaged(tmp_path: Path, suffix: str) -> None:
    packed = PACK[suffix](CSV * 30)
    path = tmp_path / f"papers.csv{suffix}"
    for n_bytes in range(8, len(packed)):
        path.write_bytes(packed[:n_bytes])
        with pytest.raises(UnreadableSource, match=r"is damaged or cut short|is empty"):
            list(read_papers(path))


@pytest.mark.slow
@pytest.mark.parametrize("suffix", PACK)
def test_a_packed_bomb_is_refused_when_it_is_far_larger_than_its_bytes(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"bomb.csv{suffix}"
    path.write_bytes(PACK[suffix](CSV + bytes(40_000_000)))
    tracemalloc.start()
    with pytest.raises(
        UnreadableSource, match=r"unpacks to more than \d+ bytes, \d{3,} times its size, which no"
    ):
        list(read_papers(path, max_record_bytes=4_000_000))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 30_000_000


def test_an_xz_file_that_asks_for_too_much_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "papers.csv.xz"
    dictionary = {"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 4096}
    packed = bytearray(lzma.compress(CSV, filters=[dictionary]))
    # The size of the dictionary stands in the header of the block, with a checksum over it.
    header = bytearray(packed[12 : 12 + 4 * (packed[12] + 1) - 4])
    header[header.index(b"\x21\x01") + 2] = 39  # 3 GiB
    packed[12 : 12 + len(header) + 4] = header + zlib.crc32(header).to_bytes(4, "little")
    path.write_bytes(packed)
    with pytest.raises(UnreadableSource, match=r"Memory usage limit exceeded"):
        list(read_papers(path))
    path.write_bytes(lzma.compress(CSV, preset=9))
    assert list(read_papers(path)) == PAPERS


def test_a_zip_of_one_file_is_read_as_what_is_in_it(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "download.zip", {"folder/": b"", "folder/p.csv": CSV})
    assert list(read_papers(path)) == PAPERS
    assert list(read_stream(io.BytesIO(path.read_bytes()))) == PAPERS


def test_what_a_mac_adds_to_a_zip_does_not_count(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "m.zip", {"p.csv": CSV, "__MACOSX/._p.csv": b"\0\5"})
    assert list(read_papers(path)) == PAPERS


def test_a_zip_of_several_files_names_them(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "two.zip", {"a.csv": CSV, "b.csv": CSV})
    with pytest.raises(
        UnreadableSource, match=r"two\.zip holds 2 files \('a\.csv', 'b\.csv'\), not one\. Unzip it"
    ):
        list(read_papers(path))


def test_an_empty_zip_is_unreadable(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "none.zip", {"folder/": b""})
    with pytest.raises(UnreadableSource, match=r"holds 0 files \(none\), not one"):
        list(read_papers(path))


def test_a_zip_in_a_zip_is_not_followed(tmp_path: Path) -> None:
    inner = zip_of(tmp_path / "inner.zip", {"p.csv": CSV}).read_bytes()
    path = zip_of(tmp_path / "outer.zip", {"inner.zip": inner})
    with pytest.raises(UnreadableSource, match=r"outer\.zip is a zip archive inside an archive"):
        list(read_papers(path))


def test_a_zip_bomb_is_refused_by_its_declared_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources_module, "_SMALL_BYTES", 100_000)
    path = zip_of(tmp_path / "bomb.zip", {"p.csv": CSV + b"\n" * 1_000_000})
    with pytest.raises(
        UnreadableSource, match=r"bomb\.zip would unzip to 1000019 bytes, \d{3} times its size"
    ):
        list(read_papers(path))


def test_an_encrypted_zip_is_unreadable(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "p.zip", {"p.csv": CSV})
    raw = bytearray(path.read_bytes())
    raw[6] |= 1  # the flag of encryption, in the member's header ...
    raw[raw.rindex(b"PK\x01\x02") + 8] |= 1  # ... and in the directory
    path.write_bytes(raw)
    with pytest.raises(UnreadableSource, match=r"p\.zip cannot be unzipped here \(.*encrypted"):
        list(read_papers(path))


def test_a_zip_from_a_pipe_is_unreadable(tmp_path: Path) -> None:
    raw = zip_of(tmp_path / "p.zip", {"p.csv": CSV}).read_bytes()
    with pytest.raises(UnreadableSource, match=r"a zip, which cannot be read from a pipe\. Unzip"):
        list(read_stream(Pipe(iter([raw]))))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zip"])
def test_a_damaged_archive_gives_what_precedes_the_damage(tmp_path: Path, kind: str) -> None:
    rows = "".join(f"t{i},{random.Random(i).randbytes(40).hex()}\n" for i in range(5000))
    content = CSV + rows.encode()
    path = tmp_path / f"cut.{kind}"
    if kind != "zip":
        path.write_bytes(PACK[f".{kind}"](content)[:-5000])
    else:
        raw = bytearray(zip_of(path, {"p.csv": content}).read_bytes())
        raw[150_000:150_100] = bytes(100)
        path.write_bytes(raw)
    papers = read_papers(path)
    assert next(papers) == PAPERS[0]
    with pytest.raises(
        UnreadableSource, match=r"cut\.\w+ is damaged or cut short \(.*\)\. Copy or"
    ):
        list(papers)


def test_a_damaged_zip_directory_is_unreadable(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "p.zip", {"p.csv": CSV})
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UnreadableSource, match=r"p\.zip is damaged or cut short"):
        list(read_papers(path))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.csv", r"missing\.csv does not exist\. Check the name"),
        (".", r"is a folder\. Give the files in it"),
        ("file.csv/inner.csv", r"cannot be opened: Not a directory"),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="other error numbers")
def test_a_path_that_cannot_be_opened_is_named(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "file.csv").write_bytes(CSV)
    with pytest.raises(UnreadableSource, match=message):
        list(read_papers(tmp_path / name))


def test_nothing_is_opened_before_the_first_paper_is_asked_for(tmp_path: Path) -> None:
    papers = read_papers(tmp_path / "missing.csv")
    with pytest.raises(UnreadableSource):
        next(papers)


def test_the_first_json_line_of_a_live_pipe_is_answered_before_the_second_is_written() -> None:
    def chunks() -> Iterator[bytes]:
        yield b'{"abstract"'
        yield b': "A"}\n'
        raise AssertionError("the second line was waited for")

    assert next(read_stream(Pipe(chunks()))) == Paper(id="1", abstract="A")


def test_a_pipe_in_pieces_is_read_as_a_whole() -> None:
    pieces = (bytes([byte]) for byte in CSV)
    assert list(read_stream(Pipe(pieces))) == PAPERS


def test_a_stream_stays_open() -> None:
    stream = io.BytesIO(gzip.compress(CSV))
    assert list(read_stream(stream)) == PAPERS
    assert not stream.closed


@pytest.mark.slow  # 100 MB go through the line reader
def test_a_line_of_100_mb_is_skipped_in_bounded_memory() -> None:
    def chunks() -> Iterator[bytes]:
        yield b'{"abstract": "first"}\n{"abstract": "'
        yield from [b"x" * 65_536] * 1_600
        yield b'"}\n{"abstract": "last"}\n'

    tracemalloc.start()
    first, bad, last = read_stream(Pipe(chunks()), max_record_bytes=4_000_000)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (first, last) == (Paper(id="1", abstract="first"), Paper(id="3", abstract="last"))
    assert isinstance(bad, BadRecord)
    assert bad.message == ("line 2: 104,857,617 bytes, more than the limit of 4,000,000; skipped")
    assert peak_bytes < 16_000_000


def test_an_unknown_format_is_a_usage_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown format 'xls'\. Choose one of auto, csv, tsv"):
        read_papers(tmp_path / "p.xls", format="xls")


@pytest.mark.parametrize("wrong", [io.StringIO("title\nGraphs"), None, b"title", ["papers.csv"]])
def test_what_is_neither_a_path_nor_a_binary_stream_is_a_usage_error_at_once(wrong: Any) -> None:
    kind = type(wrong).__name__
    with pytest.raises(UsageError, match=rf"from a {kind}\. Give the path of a file, or a binary"):
        read_papers(wrong)


@settings(max_examples=150)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.builds(
            bytes.__add__,
            st.sampled_from(
                [
                    b"{",
                    b"[{",
                    b"@misc{a,",
                    CSV,
                    b"\x1f\x8b\x08",
                    b"PK\x03\x04",
                    b"PAR1",
                    b"\xff\xfe",
                    b"BZh91AY&SY",
                    b"\xfd7zXZ\x00\x00\x04",
                    b"<?xml version='1.0'?><feed xmlns='http://www.w3.org/2005/Atom'><entry>",
                    b"<!DOCTYPE x [",
                ]
            ),
            st.binary(max_size=120),
        ),
    ),
    st.sampled_from(["auto", *FORMATS]),
)
def test_arbitrary_bytes_give_records_or_one_of_our_errors(raw: bytes, format: str) -> None:
    records: list[object] = []
    with contextlib.suppress(ClassmarkError):
        records.extend(read_stream(io.BytesIO(raw), format=format))
    assert all(isinstance(record, Paper | BadRecord) for record in records)


@pytest.mark.slow
def test_importing_the_room_loads_no_parser_of_a_format() -> None:
    code = (
        "import sys, classmark.papers; "
        "print(sorted({'pyarrow', 'bibtexparser', 'sklearn', 'polars'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_zip_that_cannot_be_unpacked_piece_by_piece_is_refused(
    tmp_path: Path, method: int
) -> None:
    path = tmp_path / "p.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("p.csv", CSV)
    with pytest.raises(
        UnreadableSource,
        match=rf"p\.zip cannot be unzipped here \(compression method {method} is not",
    ):
        list(read_papers(path))


def test_a_path_may_be_a_string(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_bytes(CSV)
    assert list(read_papers(str(path))) == PAPERS
    with pytest.raises(UnreadableSource, match=r"gone\.csv"):
        list(read_papers(str(tmp_path / "gone.csv")))


class OneByOne(io.BytesIO):
    """A stream that gives a byte at a time."""

    def read1(self, _size: int | None = -1) -> bytes:
        return self.read(1)


@pytest.mark.parametrize("suffix", ENDED_BY_DOS)
def test_the_mark_by_which_dos_ends_a_text_is_passed_over(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"p.{suffix}"
    path.write_bytes(ENDED_BY_DOS[suffix])
    expected = list(read_papers(path))
    assert all(isinstance(record, Paper) for record in expected)
    for marks in (b"\x1a", b"\x1a\x1a\x1a"):
        path.write_bytes(ENDED_BY_DOS[suffix] + marks)
        assert list(read_papers(path)) == expected
        packed = gzip.compress(path.read_bytes())
        assert list(read_stream(io.BytesIO(packed))) == expected


def test_the_mark_of_dos_amid_a_text_stays_and_a_packed_file_may_end_with_it() -> None:
    lines = b'{"title": "A"}\n' * 10_000 + b'{"title": "B"}\x1a'
    expected = list(read_stream(io.BytesIO(lines[:-1])))
    assert list(read_stream(io.BytesIO(lines))) == expected
    assert list(read_stream(OneByOne(lines + b"\x1a"))) == expected
    (paper,) = read_stream(io.BytesIO(b"title\tabstract\nA\x1aB\tC\n"))
    assert paper == Paper(id="2", title="A\x1aB", abstract="C")
    text = "title,abstract\nA,\u011a".encode("utf-16-be")
    (paper,) = read_stream(io.BytesIO(b"\xfe\xff" + text))
    assert paper == Paper(id="2", title="A", abstract="\u011a")
