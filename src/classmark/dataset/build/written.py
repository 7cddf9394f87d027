"""The split files: papers and their texts together again, in Parquet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from classmark import taxonomy
from classmark.dataset.config import DatasetConfig
from classmark.dataset.schema import (
    SPLITS,
    TEXT_COLUMNS,
    WRITTEN_COLUMNS,
    categories_separator,
    word_count,
)
from classmark.dataset.build.texts import TextStore, system_errors
from classmark.records import SplitFile
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
        files[split] = SplitFile(file=path.name, sha256=sha256_file(path), papers=rows.height)
    return files


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
        word_count("summary").alias("summary_word_count"),
        pl.col("categories").list.join(categories_separator(config.labels)),
    ).select(WRITTEN_COLUMNS)


def _first_author() -> pl.Expr:
    """Return the first of a Python list as text, quotes kept as in the Kaggle file, or of names."""
    authors = pl.col("authors").str.strip_chars()
    quoted = authors.str.extract(r"""^\[\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""")
    plain = authors.str.extract(r"^(.+?)(?:\s+and\s|;|,|$)").str.strip_chars()
    is_list = authors.str.starts_with("[")
    return pl.when(is_list).then(quoted).otherwise(pl.format("'{}'", plain)).fill_null("")
