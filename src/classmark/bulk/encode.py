"""Results in the layout of the output: what a worker writes into a part, and the Parquet file.

Parquet results go from arrays to Arrow without an object for each answer. Parts hold an Arrow
stream; only the whole is Parquet. Needs pyarrow, imported only when Parquet is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from classmark.bulk.config import BulkJob
from classmark.bulk.parts import open_results
from classmark.errors import MissingExtra
from classmark.records import BadRecord, Paper, csv_lines
from classmark.runtime import REASONS, Classifier
from classmark.wire import ModelRef

Records = Sequence[Paper | BadRecord]
_COMPRESSION = "zstd"


class TextEncoder:
    """JSON lines or CSV.

    A line is one published object, also for a bad record. Rows have no header, and bad records have
    no row.
    """

    def __init__(self, file: IO[bytes], classifier: Classifier, job: BulkJob) -> None:
        self._file = file
        self._classifier = classifier
        self._job = job

    def write(self, records: Records) -> None:
        """Write a batch."""
        job = self._job
        job = self._job
        answers = self._classifier.classify(
            records,
            top=job.top,
            threshold=job.threshold,
            explain=job.explain,
            authors=job.authors,
            errors="return",
        )
        if job.layout == "csv":
            pairs = zip(records, answers, strict=True)
            text = csv_lines(pairs, raw_cells=job.raw_cells)
            self._file.write(text.encode("utf-8", "replace"))
        else:
            self._file.writelines(line + b"\n" for line in answers.json_objects())

    def close(self) -> None:
        """Nothing comes after the last line."""


def make_encoder(
    file: IO[bytes], classifier: Classifier, job: BulkJob
) -> TextEncoder | ColumnsEncoder:
    """Return the encoder of the layout of a job."""
    return (ColumnsEncoder if job.layout == "parquet" else TextEncoder)(file, classifier, job)


def arrow() -> Any:
    """Return pyarrow, its Parquet writer loaded.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("writing Parquet", "data") from error
    return pa


def parquet_schema() -> Any:
    """Return the columns of the output: a row for each record, bad ones too."""
    pa = arrow()
    texts = pa.list_(pa.string())
    return pa.schema(
        {
            "id": pa.string(),
            "primary": pa.string(),
            "reason": pa.string(),
            "probability": pa.float32(),
            "ranked": texts,
            "ranked_probabilities": pa.list_(pa.float32()),
            "cross_lists": texts,
            "set": texts,
            "set_reason": pa.string(),
            "error": pa.string(),
        }
    )


class ColumnsEncoder:
    """A row for each record; of a bad one all is null but ``id`` and ``error``."""

    def __init__(self, file: IO[bytes], classifier: Classifier, job: BulkJob) -> None:
        self._pa = arrow()
        self._schema = parquet_schema()
        self._classifier = classifier
        self._threshold = job.threshold
        self._authors = job.authors
        self._top = min(job.top, len(classifier.labels))
        self._labels = self._texts(classifier.labels)
        self._reasons = self._texts(REASONS)
        self._stream = self._pa.ipc.new_stream(file, self._schema)

    def write(self, records: Sequence[Paper | BadRecord]) -> None:
        """Write a batch."""
        papers = [record for record in records if isinstance(record, Paper)]
        ids, errors = self._texts([r.id for r in records]), self._texts(map(_error, records))
        columns = list(self._columns(papers))
        if len(papers) < len(records):
            rows = self._pa.array(_row_numbers(records), self._pa.int64())
            columns = [column.take(rows) for column in columns]
        batch = self._pa.RecordBatch.from_arrays([ids, *columns, errors], schema=self._schema)
        self._stream.write_batch(batch)

    def close(self) -> None:
        """End the stream."""
        self._stream.close()

    def _columns(self, papers: Sequence[Paper]) -> Iterator[Any]:
        """Yield the columns between id and error."""
        array = self._pa.array
        raw = self._classifier.score(papers, authors=self._authors)
        decisions = self._classifier.decide(raw, top=self._top, threshold=self._threshold)
        ranked = decisions.ranked(self._top)
        falling = decisions.falling[ranked].astype(np.float32)
        yield self._labels.take(array(decisions.first, mask=~decisions.accepted))
        yield self._reasons.take(array(decisions.reasons))
        yield array(falling[:, 0])
        ends = np.arange(1, len(papers) + 1) * self._top
        yield self._code_lists(decisions.columns[ranked].ravel(), ends)
        yield self._lists(array(falling.ravel()), ends)
        yield self._code_lists(*decisions.selected(decisions.cross_listed))
        # Parquet takes no list that is null and yet holds something.
        columns, ends = decisions.selected(decisions.published_set)
        yield self._lists(self._labels.take(array(columns)), ends, array(~decisions.has_set))
        yield self._texts(decisions.no_set_reasons())

    def _code_lists(self, columns: NDArray[np.intp], ends: NDArray[np.intp]) -> Any:
        return self._lists(self._labels.take(self._pa.array(columns)), ends)

    def _lists(self, values: Any, ends: NDArray[np.intp], nulls: Any = None) -> Any:
        offsets = self._pa.array(np.concatenate(([0], ends)).astype(np.int32))
        return self._pa.ListArray.from_arrays(offsets, values, mask=nulls)

    def _texts(self, texts: Iterable[str | None]) -> Any:
        return self._pa.array(list(texts), self._pa.string())


def write_parquet(
    file: IO[bytes], parts: Iterable[Path], model: ModelRef, *, row_group: int
) -> None:
    """Join parts into one Parquet file, a row group at a time.

    Args:
        file: open for writing.
        parts: files of ``ColumnsEncoder``, in order.
        model: written into the metadata of the file.
        row_group: how many rows make a group.
    """
    pa = arrow()
    about = {"model_name": model.name, "model_version": model.version, "model_digest": model.digest}
    schema = parquet_schema().with_metadata(
        {f"classmark.{key}": value for key, value in about.items()}
    )
    with pa.parquet.ParquetWriter(file, schema, compression=_COMPRESSION) as writer:
        batches: list[Any] = []
        n_rows = 0
        for batch in _batches(parts):
            batches.append(batch)
            n_rows += len(batch)
            if n_rows >= row_group:
                writer.write_table(pa.Table.from_batches(batches), row_group_size=n_rows)
                batches, n_rows = [], 0
        if batches:
            writer.write_table(pa.Table.from_batches(batches), row_group_size=n_rows)


def _batches(parts: Iterable[Path]) -> Iterator[Any]:
    for path in parts:
        with open_results(path) as (file, _), arrow().ipc.open_stream(file) as stream:
            yield from stream


def _error(record: Paper | BadRecord) -> str | None:
    return f"{record.kind}: {record.message}" if isinstance(record, BadRecord) else None


def _row_numbers(records: Sequence[Paper | BadRecord]) -> list[int | None]:
    """Return the number of each paper among the papers, None for a bad record."""
    numbers = count()
    return [next(numbers) if isinstance(record, Paper) else None for record in records]
