"""A dataset folder: its columns, and how training and evaluation read it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from sys import intern
from typing import cast

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from classmark.dataset.config import LabelSpace
from classmark.dataset.digest import dataset_digest, rows_digest
from classmark.errors import InvalidDataset
from classmark.records import DatasetManifest, SplitFile
from classmark.records.values import author_names
from classmark.storage import sha256_file

SPLITS = ("train", "valid", "test")

INTAKE_SCHEMA: dict[str, pl.DataType] = {
    "id": pl.String(),
    "title": pl.String(),
    "summary": pl.String(),
    "category_code": pl.String(),
    "categories": pl.List(pl.String()),
    "published_date": pl.String(),
    "updated_date": pl.String(),
    "authors": pl.String(),
    "fingerprint": pl.String(),
    "place": pl.UInt32(),
}
"""``categories`` may be empty, dates may be null; ``fingerprint`` is that of the abstract.

``place`` is the line, row or item in the source."""

TEXT_COLUMNS = ("summary", "authors")
"""Columns that nothing is decided on: they wait on disk while the others are in memory."""

KAGGLE_COLUMNS = (
    "id",
    "title",
    "category",
    "category_code",
    "published_date",
    "updated_date",
    "authors",
    "first_author",
    "summary",
    "summary_word_count",
)
INVENTED_ID_PREFIX = "invented-"
"""Begins the id of every paper of the sample generator, so that it is known in other files too."""

WRITTEN_COLUMNS = (*KAGGLE_COLUMNS, "categories", "period")

# A free label may hold blanks, so blanks cannot part free labels; a tab can, since white space
# inside a label is collapsed.
_SEPARATORS: dict[LabelSpace, str] = {"arxiv": " ", "free": "\t"}


def categories_separator(labels: LabelSpace) -> str:
    """Return the character between the categories of one paper in the written column."""
    return _SEPARATORS[labels]


def word_count(column: str) -> pl.Expr:
    """Return the number of blank-separated words, int32."""
    return pl.col(column).str.count_matches(r"\S+").cast(pl.Int32)


MANIFEST_FILE = "manifest.json"
_TEXTS = ("title", "summary")
_STREAMED_PAPERS = 5_000
_READ_COLUMNS = (
    "id",
    "category_code",
    "categories",
    "published_date",
    "period",
)


@dataclass(frozen=True, kw_only=True)
class DatasetSplit:
    """n papers of one split as texts and arrays; columns are those of the manifest's labels.

    Attributes:
        ids: n identifiers.
        titles: n raw titles; none if they were not asked for.
        abstracts: n raw abstracts; none if they were not asked for.
        labels: int16 [n], column of the label.
        listed_indptr: int64 [n + 1]; the listed columns of paper i are
            ``listed_indices[listed_indptr[i]:listed_indptr[i + 1]]``.
        listed_indices: int16 [listed], columns of all listed categories that are labels, the
            primary first; each once per paper.
        listed_count: int16 [n], number of listed categories, labels or not.
        years: int16 [n], year of the first version, 0 if unknown.
        periods: n names of periods, "" if the dataset has none.
    """

    ids: tuple[str, ...]
    titles: list[str]
    abstracts: list[str]
    labels: NDArray[np.int16]
    listed_indptr: NDArray[np.int64]
    listed_indices: NDArray[np.int16]
    listed_count: NDArray[np.int16]
    years: NDArray[np.int16]
    periods: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)


def _is_kept_by_dvc(path: Path) -> bool:
    """Return whether files of DVC beside a path say that its content is elsewhere."""
    lock = path.parent / "dvc.lock"
    try:
        named = f"path: {path.name}\n" in lock.read_text("utf-8") if lock.is_file() else False
    except (OSError, UnicodeDecodeError):
        return False
    return named or path.with_name(f"{path.name}.dvc").is_file()


def load_manifest(directory: Path, *, verify: bool = True) -> DatasetManifest:
    """Read the manifest of a dataset folder.

    Args:
        directory: the folder that ``dataset build`` or ``dataset sample`` wrote.
        verify: compare the digests of the split files, by bytes or else by rows.

    Raises:
        InvalidDataset: no manifest, or one that cannot be read; a split file is missing or has
            changed, it is named.
    """
    path = directory / MANIFEST_FILE
    try:
        manifest = DatasetManifest.from_dict(_json_object(path))
    except (FileNotFoundError, NotADirectoryError) as error:
        is_there, is_folder = directory.exists(), directory.is_dir()
        fault = f"it has no {MANIFEST_FILE}" if is_folder else "it is a file"
        advice = "Write one with `classmark dataset build` or `classmark dataset sample`"
        if _is_kept_by_dvc(directory):
            advice = f"DVC keeps it; get it with `dvc pull {directory.name}` in {directory.parent}"
        raise InvalidDataset(
            f"{directory} is not a dataset folder: {fault if is_there else 'it does not exist'}. "
            f"{advice}."
        ) from error
    except (OSError, ValueError) as error:
        raise InvalidDataset(f"{path} cannot be read: {error}. Build the dataset again.") from error
    if verify:
        _verify(directory, manifest)
    return manifest


def read_split(
    directory: Path, split: str, manifest: DatasetManifest | None = None, *, texts: bool = True
) -> DatasetSplit:
    """Read one split of a dataset folder.

    Args:
        directory: the dataset folder.
        split: ``train``, ``valid`` or ``test``.
        manifest: the folder's manifest if it is already loaded; else it is loaded unverified.
        texts: read titles and abstracts; ``iter_texts`` reads them without keeping them all.

    Raises:
        InvalidDataset: there is no such split, or its file cannot be read.
    """
    manifest = manifest or load_manifest(directory, verify=False)
    frame = read_frame(_split_path(directory, split, manifest), texts=texts)
    labels = _label_columns(frame["category_code"], manifest)
    if labels.null_count():
        unknown = frame.filter(labels.is_null())["category_code"][0]
        raise InvalidDataset(
            f"split {split!r} holds the label {unknown!r}, which the manifest does not list. "
            "Build the dataset again."
        )
    listed = frame["categories"].str.split(categories_separator(_label_space(manifest)))
    indptr, indices = _listed_columns(listed, manifest)
    return DatasetSplit(
        ids=tuple(frame["id"].to_list()),
        titles=frame["title"].to_list() if texts else [],
        abstracts=frame["summary"].to_list() if texts else [],
        labels=labels.to_numpy().astype(np.int16),
        listed_indptr=indptr,
        listed_indices=indices,
        listed_count=listed.list.len().cast(pl.Int16).to_numpy(),
        years=_years(frame["published_date"]),
        periods=tuple(map(intern, frame["period"])),
    )


def iter_texts(directory: Path, split: str, manifest: DatasetManifest) -> Iterator[tuple[str, str]]:
    """Yield raw title and abstract of the papers of a split; memory does not grow with it.

    Raises:
        InvalidDataset: there is no such split, or its file cannot be read.
    """
    path = _split_path(directory, split, manifest)
    with _reading(path), pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_STREAMED_PAPERS, columns=list(_TEXTS)):
            yield from zip(*(batch.column(name).to_pylist() for name in _TEXTS), strict=True)


def iter_authors(
    directory: Path, split: str, manifest: DatasetManifest
) -> Iterator[tuple[str, ...]]:
    """Yield the names of the authors of each paper of a split; memory does not grow with it.

    Raises:
        InvalidDataset: there is no such split, or its file cannot be read.
    """
    path = _split_path(directory, split, manifest)
    with _reading(path), pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_STREAMED_PAPERS, columns=["authors"]):
            yield from map(author_names, batch.column("authors").to_pylist())


def _json_object(path: Path) -> dict[str, object]:
    value = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise ValueError("it holds no JSON object")  # noqa: TRY004 - handled like broken JSON
    return value


def _verify(directory: Path, manifest: DatasetManifest) -> None:
    for name, file in manifest.splits.items():
        path = directory / file.file
        if not path.is_file():
            raise InvalidDataset(f"{path}, the {name} split, is missing. Build the dataset again.")
        if not _holds_the_rows(path, file):
            raise InvalidDataset(
                f"{path}, the {name} split, has changed since it was written. "
                "Build the dataset again, or restore the file."
            )
    digest = dataset_digest(manifest.splits, manifest.labels, manifest.format_version)
    if digest != manifest.digest:
        raise InvalidDataset(
            f"{directory / MANIFEST_FILE} has changed since it was written: its digest is not that "
            "of its splits and labels. Build the dataset again, or restore the file."
        )


def _holds_the_rows(path: Path, file: SplitFile) -> bool:
    """Tell whether a split file has its bytes, or its rows in another layout."""
    if sha256_file(path) == file.sha256:
        return True
    try:
        return rows_digest(path) == file.rows_sha256
    except (OSError, pa.ArrowException, pl.exceptions.PolarsError):
        return False


def read_frame(path: Path, *, texts: bool = True) -> pl.DataFrame:
    """Return the columns of a split file that say what its papers are.

    Raises:
        InvalidDataset: it cannot be read.
    """
    with _reading(path):
        return pl.read_parquet(path, columns=[*_READ_COLUMNS, *(_TEXTS if texts else ())])


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException, pl.exceptions.PolarsError) as error:
        raise InvalidDataset(f"{path} cannot be read: {error}. Build the dataset again.") from error


def _split_path(directory: Path, split: str, manifest: DatasetManifest) -> Path:
    if split not in manifest.splits:
        raise InvalidDataset(
            f"{directory} has no split {split!r}. Choose one of: {', '.join(manifest.splits)}."
        )
    return directory / manifest.splits[split].file


def _label_space(manifest: DatasetManifest) -> LabelSpace:
    return cast("LabelSpace", manifest.label_space)


def _label_columns(codes: pl.Series, manifest: DatasetManifest) -> pl.Series:
    columns = {label: column for column, label in enumerate(manifest.labels)}
    return codes.replace_strict(columns, default=None, return_dtype=pl.Int16)


def _listed_columns(
    listed: pl.Series, manifest: DatasetManifest
) -> tuple[NDArray[np.int64], NDArray[np.int16]]:
    rows = pl.DataFrame({"row": np.arange(len(listed)), "code": listed}).explode("code")
    columns = _label_columns(rows["code"], manifest)
    found = columns.is_not_null()
    per_row = np.bincount(rows.filter(found)["row"].to_numpy(), minlength=len(listed))
    indptr = np.concatenate([[0], np.cumsum(per_row)]).astype(np.int64)
    return indptr, columns.filter(found).to_numpy().astype(np.int16)


def _years(dates: pl.Series) -> NDArray[np.int16]:
    return dates.str.slice(0, 4).cast(pl.Int16, strict=False).fill_null(0).to_numpy()
