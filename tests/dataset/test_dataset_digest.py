"""The digest of a dataset is of its rows and labels, not of the bytes on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classmark.dataset import DatasetConfig, build_dataset, load_manifest
from classmark.dataset.digest import dataset_digest, rows_digest
from classmark.errors import InvalidDataset
from classmark.records import SplitFile
from dataset_records import WriteSource, records

Row = tuple[str, str, str | None, int]
NAMES = ("id", "summary", "period", "summary_word_count")
# Marks of the encoding itself (digits, colon, comma, tilde), NUL and letters of several bytes.
TEXT = st.text(alphabet="a~1:,\0é\U0001d49c ", max_size=6)
ROW = st.tuples(TEXT, TEXT, st.none() | TEXT, st.integers(0, 12))


def write(path: Path, rows: Sequence[Row], group: int = 7, names: Sequence[str] = NAMES) -> Path:
    columns = dict(zip(NAMES, zip(*rows, strict=True), strict=True)) if rows else {}
    types = [pa.int32() if name == NAMES[-1] else pa.string() for name in names]
    arrays = [pa.array(columns.get(n, ()), t) for n, t in zip(names, types, strict=True)]
    pq.write_table(pa.table(dict(zip(names, arrays, strict=True))), path, row_group_size=group)
    return path


@given(st.lists(ROW, min_size=1, max_size=20), st.randoms(), st.integers(1, 9))
def test_layout_does_not_count(rows: list[Row], random: object, group: int) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    with TemporaryDirectory() as folder:
        first = rows_digest(write(Path(folder, "a"), rows))
        assert first == rows_digest(write(Path(folder, "b"), shuffled, group, NAMES[::-1]))
        frame = pl.read_parquet(Path(folder, "b")).cast({NAMES[-1]: pl.Int64})
        frame.write_parquet(Path(folder, "c"), compression="lz4")
        assert first == rows_digest(Path(folder, "c"))


@given(st.lists(ROW, min_size=1, max_size=9), st.data())
def test_every_cell_counts(rows: list[Row], data: st.DataObject) -> None:
    at, column = data.draw(st.integers(0, len(rows) - 1)), data.draw(st.integers(0, 3))
    old: Row = rows[at]
    kind = (TEXT, TEXT, st.none() | TEXT, st.integers(0, 12))[column]
    value = data.draw(kind.filter(lambda v: v != old[column]))  # type: ignore[attr-defined]
    changed = [*rows]
    changed[at] = (*old[:column], value, *old[column + 1 :])  # type: ignore[assignment]
    with TemporaryDirectory() as folder:
        first = rows_digest(write(Path(folder, "a"), rows))
        assert first != rows_digest(write(Path(folder, "b"), changed))
        assert first != rows_digest(write(Path(folder, "c"), [*rows, old]))


def test_the_digest_is_the_documented_one(tmp_path: Path) -> None:
    """Whoever recomputes it needs nothing but the definition in the module."""
    path = write(tmp_path / "s.parquet", [("b", "é", None, 2), ("a", "", "p", 10)])
    rows = [b"1:b,~2:\xc3\xa9,1:2,", b"1:a,1:p,0:,2:10,"]
    digests = sorted(hashlib.sha256(row).digest() for row in rows)
    head = b"2:id,6:period,7:summary,18:summary_word_count,"
    assert rows_digest(path) == hashlib.sha256(head + b"".join(digests)).hexdigest()
    splits = {"train": SplitFile(file="s.parquet", sha256="x", papers=2, rows_sha256="r")}
    facts = '{"labels": ["a", "b"], "splits": {"train": "r"}, "version": 2}'
    assert dataset_digest(splits, ("a", "b")) == hashlib.sha256(facts.encode()).hexdigest()


@pytest.fixture
def folder(write_source: WriteSource) -> Path:
    source = write_source(records({"cs.LG": 9, "math.CO": 9}))
    build_dataset([source], source.with_name("d"), DatasetConfig(min_papers=2))
    return source.with_name("d")


def test_a_split_in_another_layout_is_the_same_dataset(folder: Path) -> None:
    path, before = folder / "train.parquet", load_manifest(folder)
    old = path.read_bytes()
    frame = pl.read_parquet(path)
    frame.reverse().write_parquet(path, row_group_size=3, compression="uncompressed")
    assert path.read_bytes() != old
    assert load_manifest(folder) == before


def test_a_changed_cell_is_refused(folder: Path) -> None:
    path = folder / "train.parquet"
    frame = pl.read_parquet(path)
    frame.with_columns(pl.lit("another").alias("title")).write_parquet(path)
    with pytest.raises(InvalidDataset, match=r"train.parquet, the train split, has changed"):
        load_manifest(folder)


def make_format_1(folder: Path) -> str:
    """Rewrite the manifest as format 1 had it; return its digest."""
    path = folder / "manifest.json"
    value = json.loads(path.read_text("utf-8"))
    for split in value["splits"].values():
        del split["rows_sha256"]
    facts = {
        "splits": {name: split["sha256"] for name, split in value["splits"].items()},
        "labels": value["labels"],
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps({**value, "format_version": 1, "digest": digest}), "utf-8")
    return digest


def test_a_folder_of_format_1_is_read_with_its_digest_of_bytes(folder: Path) -> None:
    digest = make_format_1(folder)
    manifest = load_manifest(folder)
    assert (manifest.format_version, manifest.digest) == (1, digest)
    path = folder / "train.parquet"
    pl.read_parquet(path).write_parquet(path, row_group_size=3, compression="uncompressed")
    with pytest.raises(InvalidDataset, match=r"train.parquet, the train split, has changed"):
        load_manifest(folder)


def test_another_format_is_refused(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "format_version": 3}))
    with pytest.raises(InvalidDataset, match=r"version is 3, this classmark reads 1 and 2\. Build"):
        load_manifest(folder)
