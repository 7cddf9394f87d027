from __future__ import annotations

import datetime
import gzip
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from classmark.errors import MissingExtra, UnreadableSource, WrongColumns
from classmark.papers import read_papers, read_stream
from classmark.records import BadRecord, Paper

pa = pytest.importorskip("pyarrow", reason="needs classmark[data]")
pq = pytest.importorskip("pyarrow.parquet", reason="needs classmark[data]")


def write(path: Path, columns: dict[str, Any]) -> Path:
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


def test_an_empty_value_gives_way_to_the_next_column_of_its_field(tmp_path: Path) -> None:
    columns = {
        "title": ["A", "B"],
        "abstract": [None, "We repeat."],
        "summary": ["We sum up.", "-"],
        "published": [{"at": 1}, {"at": 2}],
        "year": [2021, 2022],
    }
    assert list(read_papers(write(tmp_path / "x.parquet", columns))) == [
        Paper(id="1", title="A", abstract="We sum up.", published_date="2021-01-01"),
        Paper(id="2", title="B", abstract="We repeat.", published_date="2022-01-01"),
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
            match=r"is Parquet from a pipe or in gzip, bzip2 or xz, which cannot be read\. Give",
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


HIGH_WATER = """
import itertools, sys
from pathlib import Path
from typing import Any
from classmark.papers import read_papers

def peak_mib():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) >> 10

list(read_papers(Path(sys.argv[1])))
before = peak_mib()
n = sum(1 for _ in itertools.islice(read_papers(Path(sys.argv[2])), 20))
print(n, peak_mib() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("n_chars", [1_000_000, 24 << 20])
def test_a_dictionary_of_few_bytes_takes_little_memory(tmp_path: Path, n_chars: int) -> None:
    indices = pa.array([0] * 100_000, pa.int32())
    text = pa.DictionaryArray.from_arrays(indices, ["x" * n_chars])
    bomb = tmp_path / "bomb.parquet"
    options: dict[str, Any] = {"compression": "zstd", "dictionary_pagesize_limit": 1 << 30}
    pq.write_table(pa.table({"title": text, "abstract": ["A"] * 100_000}), bomb, **options)
    assert bomb.stat().st_size < 20_000
    small = write(tmp_path / "small.parquet", {"abstract": ["A"]})
    command = [sys.executable, "-c", HIGH_WATER, str(small), str(bomb)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    n_records, grown_mib = map(int, out.split())
    assert n_records == 20
    assert grown_mib < 64 + 8 * (n_chars >> 20)


def test_a_row_of_more_bytes_than_a_record_may_have_is_bad(tmp_path: Path) -> None:
    columns: dict[str, list[object]] = {
        "abstract": ["A", "B" * 3000, "C", "D" * 100],
        "categories": [["cs.LG"], ["cs.AI"], ["x" * 600] * 5, ["cs.LG"] * 2],
    }
    records = list(read_papers(write(tmp_path / "p.parquet", columns), max_record_bytes=2000))
    assert [record.kind for record in records if isinstance(record, BadRecord)] == ["too_long"] * 2
    assert [record.id for record in records] == ["1", "2", "3", "4"]
    assert isinstance(records[1], BadRecord)
    assert "row 2: 3,0" in records[1].message


def test_a_list_of_one_long_text_over_and_over_is_a_bad_record(tmp_path: Path) -> None:
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 10_000, pa.int32()), ["x" * (1 << 20)])
    lists = pa.ListArray.from_arrays(pa.array([0, 10_000, 10_000], pa.int32()), text)
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"abstract": ["A", "B"], "authors": lists}), path, store_schema=False)
    bad, paper = read_papers(path)
    assert isinstance(bad, BadRecord)
    assert (bad.kind, bad.message.partition(" bytes")[0]) == ("too_long", "row 1: 10,485,760,006")
    assert paper == Paper(id="2", abstract="B")


_FAR = 2**55
ODD_DATES = {
    "a nanosecond": (pa.array([1_500_000_000_000_000_001, None], pa.timestamp("ns")), "2017-07-14"),
    "the year 300000": (pa.array([9_405_000_000_000, None], pa.timestamp("s")), None),
    "a day out of range": (pa.array([2**30, None], pa.date32()), None),
    "a zone that is none": (pa.array([1, None], pa.timestamp("us", "Nowhere/At_all")), None),
    "a zone": (pa.array([0, None], pa.timestamp("us", "Asia/Tokyo")), "1970-01-01"),
    "a duration": (pa.array([_FAR, None], pa.duration("us")), None),
    "a time": (pa.array([1, None], pa.time32("s")), None),
    "a year of pandas": (pa.array([2017.0, None]), "2017-01-01"),
    "a number": (pa.array([2017.5, None]), None),
    "a struct": (pa.array([{"year": 2017}, None]), None),
}


@pytest.mark.parametrize("name", ODD_DATES)
def test_a_date_that_python_cannot_hold_is_unknown(tmp_path: Path, name: str) -> None:
    column, day = ODD_DATES[name]
    path = write(tmp_path / "p.parquet", {"abstract": ["A", "B"], "published_date": column})
    assert list(read_papers(path)) == [
        Paper(id="1", abstract="A", published_date=day),
        Paper(id="2", abstract="B"),
    ]


def test_a_date_out_of_range_is_a_bad_record_where_dates_are_strict(tmp_path: Path) -> None:
    column = pa.array([0, 2**30], pa.date32())
    path = write(tmp_path / "p.parquet", {"abstract": ["A", "B"], "published_date": column})
    good, bad = read_papers(path, strict_dates=True)
    assert isinstance(good, Paper)
    assert good.published_date == "1970-01-01"
    assert isinstance(bad, BadRecord)
    assert bad.kind == "bad_date"


def deep(levels: int) -> Any:
    kind = pa.string()
    for _ in range(levels):
        kind = pa.list_(kind)
    return pa.nulls(2, kind)


def test_a_title_in_a_list_is_its_first_and_nan_is_a_missing_one(tmp_path: Path) -> None:
    for titles, expected in (
        (pa.array([["A", "B"], []]), ["A", ""]),
        (pa.array([float("nan"), None]), ["", ""]),
    ):
        path = write(tmp_path / "p.parquet", {"abstract": ["A", "B"], "title": titles})
        assert [p.title for p in read_papers(path) if isinstance(p, Paper)] == expected


WRONG_TITLES = {
    "bytes": (pa.array([b"A\xff", b"B"]), "title must be a string, got bytes b'A\\xff'"),
    "numbers": (pa.array([1.5, 2.5]), "title must be a string, got float 1.5"),
    "structs": (pa.array([{"en": "A"}] * 2), "title is a column of type struct, not of texts"),
    "maps": (
        pa.array([[("en", "A")]] * 2, pa.map_(pa.string(), pa.string())),
        "title is a column of type map, not of texts",
    ),
    "lists of numbers": (pa.array([[1]] * 2), "title is a column of type list, not of texts"),
    "lists in lists": (deep(60), "title is a column of type list, not of texts"),
    "no text in UTF-8": (
        pa.array([b"A\xff", b"B\xff"]).view(pa.string()),
        "title cannot be read ('utf-8' codec can't decode byte 0xff",
    ),
}


@pytest.mark.parametrize("name", WRONG_TITLES)
def test_a_title_of_another_type_costs_its_record(tmp_path: Path, name: str) -> None:
    titles, message = WRONG_TITLES[name]
    path = write(tmp_path / "p.parquet", {"abstract": ["A", "B"], "title": titles})
    first, second = read_papers(path)
    for record in (first, second):
        assert isinstance(record, BadRecord)
        assert record.kind == "wrong_type"
    assert isinstance(first, BadRecord)
    assert first.message.startswith(f"row 1: {message}")


def test_a_text_that_is_not_utf_8_costs_its_record_only(tmp_path: Path) -> None:
    texts = pa.array([b"A", b"B\xff", b"C"]).view(pa.string())
    records = list(read_papers(write(tmp_path / "p.parquet", {"abstract": texts})))
    assert [type(record) for record in records] == [Paper, BadRecord, Paper]


def test_columns_of_other_types_that_no_text_is_read_from_are_passed_over(tmp_path: Path) -> None:
    columns = {
        "abstract": ["A"],
        "id": pa.array([{"a": 1}]),
        "authors": pa.array([[["A"], ["B"]]]),
        "updated_date": pa.array([[1]]),
    }
    assert list(read_papers(write(tmp_path / "p.parquet", columns))) == [
        Paper(id="1", abstract="A")
    ]


def test_dictionaries_and_large_types_are_read_as_their_values(tmp_path: Path) -> None:
    columns = {
        "abstract": pa.array(["A", None, "A"]).dictionary_encode(),
        "title": pa.array(["T", "U", "T"], pa.large_string()),
        "published_date": pa.array([1, 1, None], pa.date32()).dictionary_encode(),
        "categories": pa.array([["cs.LG"], None, ["cs.AI"]], pa.large_list(pa.large_string())),
    }
    day = "1970-01-02"
    assert list(read_papers(write(tmp_path / "p.parquet", columns))) == [
        Paper(
            id="1",
            title="T",
            abstract="A",
            category_code="cs.LG",
            categories=("cs.LG",),
            published_date=day,
        ),
        Paper(id="2", title="U", published_date=day),
        Paper(id="3", title="T", abstract="A", category_code="cs.AI", categories=("cs.AI",)),
    ]


def test_a_file_without_rows_or_of_many_row_groups_is_read(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"abstract": pa.nulls(0, pa.string())}), path)
    assert list(read_papers(path)) == []
    pq.write_table(pa.table({"abstract": list("ABCDE")}), path, row_group_size=2)
    assert [paper.id for paper in read_papers(path)] == ["1", "2", "3", "4", "5"]


def test_a_damaged_page_is_found_by_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    table = pa.table({"abstract": ["A" * 1000]})
    options = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    pq.write_table(table, path, write_page_checksum=True, **options)
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"AAAA", b"ABAA", 1))
    with pytest.raises(UnreadableSource, match=r"is not a readable Parquet file \(.*CRC"):
        list(read_papers(path))
