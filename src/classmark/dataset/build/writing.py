"""The split files: papers and their texts together again in Parquet, then checked for leaks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from classmark import taxonomy
from classmark.dataset.build.intake import TextStore, system_errors
from classmark.dataset.config import DatasetConfig
from classmark.dataset.digest import rows_digest
from classmark.dataset.folder import (
    SPLITS,
    TEXT_COLUMNS,
    WRITTEN_COLUMNS,
    categories_separator,
)
from classmark.errors import LeakFound
from classmark.papers import abstract_fingerprint, canonical_id
from classmark.records import Paper, SplitFile
from classmark.storage import sha256_file

MAX_WHOLE_PAPERS = 200_000
"""So many papers are written from memory, with row groups as polars likes; more are streamed."""

_GROUP_PAPERS = 100_000


def write_splits(
    folder: Path, papers: pl.DataFrame, texts: TextStore, config: DatasetConfig
) -> dict[str, SplitFile]:
    """Write one Parquet file a split, papers in their order, and return the files by split.

    Args:
        folder: where they go.
        papers: what is known but the texts, with ``row`` and ``split``.
        texts: abstracts and authors by row.
        config: says what categories are called, and how they are parted.
    """
    files = {}
    for split in SPLITS:
        rows = papers.filter(pl.col("split") == split)
        path = folder / f"{split}.parquet"
        with system_errors():
            _write_split(path, rows, texts, config)
        files[split] = _split_file(path, rows.height)
    return files


def append_splits(
    folder: Path, before: Mapping[str, Path], new: Path, period: pl.Expr
) -> dict[str, SplitFile]:
    """Write the papers of one dataset and then those of another, and return the files by split.

    They are streamed, so that memory does not grow with them.

    Args:
        folder: where they go.
        before: files of the first dataset by split.
        new: folder that ``write_splits`` filled.
        period: of the papers before.
    """
    files = {}
    for split, path in before.items():
        added, whole = new / f"{split}.parquet", folder / f"{split}.parquet"
        old = pl.scan_parquet(path, glob=False).with_columns(period=period)
        parts = [
            old.select(WRITTEN_COLUMNS).cast(pl.Schema(pl.read_parquet_schema(added))),
            pl.scan_parquet(added, glob=False),
        ]
        with system_errors():
            pl.concat(parts).sink_parquet(whole, compression="zstd", row_group_size=_GROUP_PAPERS)
        with pq.ParquetFile(whole) as file:
            files[split] = _split_file(whole, file.metadata.num_rows)
    return files


def _split_file(path: Path, papers: int) -> SplitFile:
    return SplitFile(
        file=path.name, sha256=sha256_file(path), papers=papers, rows_sha256=rows_digest(path)
    )


def _write_split(path: Path, rows: pl.DataFrame, texts: TextStore, config: DatasetConfig) -> None:
    parts: list[Path] = []
    first = 0
    for part in texts.in_order(rows["row"].to_numpy().astype(np.int64)):
        whole = rows.slice(first, part.height).hstack(part)
        parts.append(path.with_suffix(f".{len(parts)}"))
        _written_columns(whole, config).write_ipc(parts[-1], compression="lz4")
        first += part.height
    if rows.height <= MAX_WHOLE_PAPERS:
        frames = [pl.read_ipc(part) for part in parts]
        none = _written_columns(rows.head(0).with_columns(_NO_TEXTS), config)
        pl.concat([none, *frames], rechunk=True).write_parquet(path, compression="zstd")
    else:
        stream = pl.scan_ipc(parts)
        stream.sink_parquet(path, compression="zstd", row_group_size=_GROUP_PAPERS)
    for part_file in parts:
        part_file.unlink()


_NO_TEXTS = [pl.lit("").alias(name) for name in TEXT_COLUMNS]


def _written_columns(papers: pl.DataFrame, config: DatasetConfig) -> pl.DataFrame:
    """Return the Kaggle columns, the categories and the period."""
    label = pl.col("category_code")
    names = {c.code: c.name for c in taxonomy.categories()} if config.labels == "arxiv" else {}
    return papers.with_columns(
        label.replace(names).alias("category"),
        pl.col("published_date").fill_null(""),
        pl.coalesce("updated_date", "published_date").fill_null("").alias("updated_date"),
        _first_author().alias("first_author"),
        pl.col("categories").list.join(categories_separator(config.labels)),
    ).select(WRITTEN_COLUMNS)


def _first_author() -> pl.Expr:
    """Return the first of a Python list as text, quotes kept as in the Kaggle file."""
    first = pl.col("authors").str.extract(r"""^\[("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""")
    return first.fill_null("")


_MAX_NAMED_LEAKS = 3
_BATCH_PAPERS = 10_000


def check_leaks(files: Mapping[str, Path]) -> None:
    """Check written Parquet files; ids and fingerprints are computed again from the files.

    Args:
        files: Parquet file by name of the split.

    Raises:
        LeakFound: an id or an abstract is in two splits; the message names the first papers.
    """
    papers = pl.concat([identities(split, path) for split, path in files.items()])
    for key, noun in (("canonical", "id"), ("fingerprint", "abstract")):
        leaks = (
            papers.filter(pl.col(key).is_duplicated())
            .group_by(key)
            .agg(pl.col("split").n_unique().alias("n_splits"), pl.col("id"), pl.col("split"))
            .filter(pl.col("n_splits") > 1)
            .sort(key)
        )
        if leaks.height:
            raise LeakFound(
                f"{leaks.height} papers are in two splits, by {noun}: {_named(leaks)}. "
                "Remove the duplicates before you split."
            )


def count_leaks(papers: Path, fitted: Sequence[Path]) -> int:
    """Return how many papers of a written Parquet file are in others too, by id or abstract."""
    ours = identities("", papers)
    theirs = pl.concat([identities("", path) for path in fitted])
    shared = [pl.col(key).is_in(theirs[key].implode()) for key in ("canonical", "fingerprint")]
    return ours.filter(pl.any_horizontal(shared)).height


def identities(split: str, path: Path) -> pl.DataFrame:
    """Return ``id``, ``canonical``, ``fingerprint`` and ``split`` of a written Parquet file."""
    with pq.ParquetFile(path) as file:
        parts = [
            _identities_of(batch.to_pydict())
            for batch in file.iter_batches(_BATCH_PAPERS, columns=["id", "summary"])
        ]
    schema = dict.fromkeys(("id", "canonical", "fingerprint"), pl.String)
    whole = pl.concat([pl.DataFrame(schema=schema), *parts], rechunk=True)
    return whole.with_columns(split=pl.lit(split))


def _identities_of(papers: dict[str, list[str]]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "id": papers["id"],
            "canonical": [canonical_id(i) for i in papers["id"]],
            "fingerprint": [abstract_fingerprint(Paper(abstract=a)) for a in papers["summary"]],
        }
    )


def _named(leaks: pl.DataFrame) -> str:
    shown = [
        " and ".join(f"{i!r} ({split})" for i, split in zip(ids, splits, strict=True))
        for ids, splits in leaks.head(_MAX_NAMED_LEAKS).select("id", "split").iter_rows()
    ]
    rest = leaks.height - len(shown)
    return "; ".join(shown) + (f" and {rest} more" if rest else "")
