"""Parquet files of papers; needs pyarrow, imported only here and only when one is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from classmark.errors import MissingExtra, UnreadableSource
from classmark.papers.fields import Place, ReadOptions, build_paper, locate_columns
from classmark.records import BadRecord, Paper

_BATCH_ROWS = 2048


def read_parquet(file: BinaryIO, options: ReadOptions) -> Iterator[Paper | BadRecord]:
    """Yield the papers of a Parquet file, a batch of rows at a time.

    Args:
        file: seekable, from its start.
        options: how to read.

    Raises:
        MissingExtra: pyarrow is not installed.
        UnreadableSource: it is not a Parquet file, or damaged.
        WrongColumns: it lacks the columns that papers are read from.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtra("reading Parquet files", "data") from error
    try:
        table = pq.ParquetFile(file)
        names = table.schema_arrow.names
        columns = {name: names[i] for name, i in locate_columns(names, options).items()}
        number = 0
        for batch in table.iter_batches(_BATCH_ROWS, columns=sorted(set(columns.values()))):
            for row in batch.to_pylist():
                number += 1
                values = {name: row[column] for name, column in columns.items()}
                yield build_paper(values, Place("row", number), strict_dates=options.strict_dates)
    except (pa.ArrowException, OSError) as error:
        first_line = str(error).partition("\n")[0]
        raise UnreadableSource(
            f"{options.name} is not a readable Parquet file ({first_line}). Write or copy it again."
        ) from error
