from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from classmark.dataset import DatasetConfig, build_dataset, iter_texts, load_manifest, read_split
from classmark.errors import InvalidDataset
from dataset_records import WriteSource, record, records


@pytest.fixture
def folder(write_source: WriteSource) -> Path:
    """A dataset whose test split holds exactly three known papers."""
    known = [
        record(901, "math.CO", categories="math.CO cs.LG hep-th", published_date="2015-01-01"),
        record(902, "cs.LG", categories="cs.LG", published_date="2016-01-01"),
        record(903, "cs.LG", categories="stat.ML cs.LG", published_date="2017-01-01"),
    ]
    source = write_source([*records({"cs.LG": 9, "math.CO": 9}), *known])
    ids = source.with_name("test.txt")
    ids.write_text("1607.00901\n1607.00902\n1607.00903\n")
    config = DatasetConfig(split="ids", test_ids=ids, min_papers=2, periods=("2015-12-31",))
    path = source.with_name("dataset")
    build_dataset([source], path, config)
    return path


def test_read_split_gives_texts_in_the_order_of_the_file(folder: Path) -> None:
    split = read_split(folder, "test")
    assert len(split) == 3
    assert split.ids == ("1607.00901", "1607.00902", "1607.00903")
    assert split.titles == ["Title 901", "Title 902", "Title 903"]
    assert split.abstracts[0] == "We study example number 901 in depth."
    assert split.periods == ("until-2015", "from-2016", "from-2016")


def test_texts_are_streamed_in_the_order_of_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("classmark.dataset.folder._STREAMED_PAPERS", 2)
    split = read_split(folder, "test")
    streamed = list(iter_texts(folder, "test", load_manifest(folder)))
    assert streamed == list(zip(split.titles, split.abstracts, strict=True))


@pytest.mark.slow
def test_a_split_is_read_without_its_texts(folder: Path) -> None:
    whole, split = read_split(folder, "test"), read_split(folder, "test", texts=False)
    assert (split.titles, split.abstracts) == ([], [])
    assert (split.ids, split.periods) == (whole.ids, whole.periods)
    assert split.labels.tolist() == whole.labels.tolist()


def test_texts_that_cannot_be_streamed_are_refused(folder: Path) -> None:
    manifest = load_manifest(folder)
    with pytest.raises(InvalidDataset, match=r"has no split 'dev'. Choose one of: train, valid"):
        next(iter_texts(folder, "dev", manifest))
    (folder / "test.parquet").write_bytes(b"PAR1")
    with pytest.raises(InvalidDataset, match=r"test.parquet cannot be read: .* Build the dataset"):
        next(iter_texts(folder, "test", manifest))


def test_read_split_gives_labels_and_listed_categories_as_columns(folder: Path) -> None:
    split = read_split(folder, "test")
    assert load_manifest(folder).labels == ("cs.LG", "math.CO")
    assert split.labels.tolist() == [1, 0, 0]
    assert split.listed_indptr.tolist() == [0, 2, 3, 4]
    assert split.listed_indices.tolist() == [1, 0, 0, 0]
    assert split.listed_count.tolist() == [3, 1, 2]
    assert split.years.tolist() == [2015, 2016, 2017]


def test_arrays_of_a_split_have_the_documented_types(folder: Path) -> None:
    split = read_split(folder, "train", load_manifest(folder))
    types = [a.dtype for a in (split.labels, split.listed_indices, split.listed_count, split.years)]
    assert set(types) == {np.dtype(np.int16)}
    assert split.listed_indptr.dtype == np.int64
    assert split.labels.flags.writeable


def test_an_empty_split_is_read_as_empty(folder: Path) -> None:
    split = read_split(folder, "valid")
    assert len(split) == 0
    assert split.listed_indptr.tolist() == [0]


def test_papers_without_date_are_of_year_zero(write_source: WriteSource) -> None:
    rows = [{**row, "published_date": None} for row in records({"cs.LG": 3, "math.CO": 3})]
    source = write_source(rows)
    build_dataset([source], source.with_name("d"), DatasetConfig(min_papers=2))
    assert set(read_split(source.with_name("d"), "train").years.tolist()) == {0}


def test_free_labels_with_blanks_are_listed_whole(write_source: WriteSource) -> None:
    rows = [
        {**row, "category_code": f"a {row['category_code']}"} for row in records({"x": 3, "y": 3})
    ]
    source = write_source(rows)
    config = DatasetConfig(labels="free", min_papers=2)
    build_dataset([source], source.with_name("d"), config)
    split = read_split(source.with_name("d"), "train")
    assert split.listed_count.tolist() == [1] * 6
    assert split.listed_indices.tolist() == split.labels.tolist()


def test_an_unknown_split_is_answered_with_those_that_are_there(folder: Path) -> None:
    with pytest.raises(InvalidDataset, match=r"no split 'dev'. Choose one of: train, valid, test"):
        read_split(folder, "dev")


def test_a_folder_without_manifest_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataset, match=r"is not a dataset folder.*classmark dataset build"):
        load_manifest(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff"])
def test_a_manifest_that_cannot_be_read_is_named(folder: Path, content: bytes) -> None:
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(InvalidDataset, match=r"manifest.json cannot be read"):
        load_manifest(folder)


def test_a_changed_byte_of_a_split_is_refused_and_the_file_named(folder: Path) -> None:
    path = folder / "train.parquet"
    changed = bytearray(path.read_bytes())
    changed[60] ^= 1  # in the ids
    path.write_bytes(changed)
    with pytest.raises(InvalidDataset, match=r"train.parquet, the train split, has changed"):
        load_manifest(folder)
    assert load_manifest(folder, verify=False).kept == 21


def test_a_missing_split_file_is_named(folder: Path) -> None:
    (folder / "train.parquet").unlink()
    with pytest.raises(InvalidDataset, match=r"train.parquet, the train split, is missing"):
        load_manifest(folder)
    with pytest.raises(InvalidDataset, match=r"train.parquet cannot be read"):
        read_split(folder, "train")


def test_a_changed_list_of_labels_is_refused(folder: Path) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["labels"] = ["cs.LG", "hep-th"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(InvalidDataset, match=r"manifest.json has changed since it was written"):
        load_manifest(folder)
    with pytest.raises(InvalidDataset, match=r"holds the label 'math.CO'"):
        read_split(folder, "train")
