from __future__ import annotations

import datetime
import gzip
import io
import sys
from pathlib import Path

import pytest

from classmark.errors import MissingExtra, UnreadableSource, WrongColumns
from classmark.papers import read_papers, read_stream
from classmark.records import BadRecord, Paper

pa = pytest.importorskip("pyarrow", reason="needs classmark[data]")
pq = pytest.importorskip("pyarrow.parquet", reason="needs classmark[data]")


def write(path: Path, columns: dict[str, list[object]]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_rows_become_papers_whatever_the_types_of_their_columns(tmp_path: Path) -> None:
    columns: dict[str, list[object]] = {
        "id": ["a", None],
        "title": ["A", None],
        "summary": ["B", "C"],
        "category_code": ["cs.LG", None],
        "categories": ["cs.LG stat.ML", None],
        "published_date": [datetime.date(2017, 1, 2), None],
        "updated_date": [datetime.datetime(2018, 1, 2, 3, 4), None],
        "ignored": [1, 2],
    }
    assert list(read_papers(write(tmp_path / "p.parquet", columns))) == [
        Paper(
            id="a",
            title="A",
            abstract="B",
            category_code="cs.LG",
            categories=("cs.LG", "stat.ML"),
            published_date="2017-01-02",
            updated_date="2018-01-02",
        ),
        Paper(id="2", abstract="C"),
    ]


def test_lists_of_categories_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "p.parquet", {"abstract": ["A"], "categories": [["cs.LG", "cs.AI"]]})
    (paper,) = read_papers(path)
    assert isinstance(paper, Paper)
    assert paper.categories == ("cs.LG", "cs.AI")


def test_many_rows_are_read_in_order(tmp_path: Path) -> None:
    path = write(tmp_path / "p", {"Text": [f"t{i}" for i in range(5000)]})
    papers = list(read_papers(path, columns={"abstract": "text"}))
    assert [paper.abstract for paper in papers if isinstance(paper, Paper)] == [
        f"t{i}" for i in range(5000)
    ]


def test_a_bad_row_is_named_by_its_number(tmp_path: Path) -> None:
    path = write(tmp_path / "p.parquet", {"abstract": ["A", None], "title": ["B", ""]})
    assert list(read_papers(path))[1] == BadRecord(
        id="2", kind="missing_text", message="row 2: title and abstract are empty"
    )


def test_wrong_columns_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "p.parquet", {"text": ["A"]})
    with pytest.raises(WrongColumns, match=r"p\.parquet has no column .*; columns seen: text\."):
        list(read_papers(path))


def test_a_file_that_is_only_named_parquet_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    path.write_text("plain text")
    with pytest.raises(UnreadableSource, match=r"p\.parquet is not a readable Parquet file \("):
        list(read_papers(path))


def test_a_damaged_file_is_unreadable(tmp_path: Path) -> None:
    path = write(tmp_path / "p.parquet", {"abstract": ["A" * 100]})
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UnreadableSource, match=r"is not a readable Parquet file"):
        list(read_papers(path))


def test_parquet_in_a_stream_that_can_be_sought_is_read(tmp_path: Path) -> None:
    raw = write(tmp_path / "p.parquet", {"abstract": ["A"]}).read_bytes()
    assert list(read_stream(io.BytesIO(raw))) == [Paper(id="1", abstract="A")]


def test_parquet_from_a_pipe_or_in_gzip_is_unreadable(tmp_path: Path) -> None:
    raw = write(tmp_path / "p.parquet", {"abstract": ["A"]}).read_bytes()

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    for stream in (Pipe(raw), io.BytesIO(gzip.compress(raw))):
        with pytest.raises(
            UnreadableSource,
            match=r"is Parquet from a pipe or in gzip, which cannot be read\. Give",
        ):
            list(read_stream(stream))


def test_without_pyarrow_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "p.parquet", {"abstract": ["A"]})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        MissingExtra, match=r"reading Parquet files needs .*pip install 'classmark\[data\]'"
    ):
        list(read_papers(path))
