"""Parts joined in their order into the output, which is whole or not there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO

from classmark.bulk.columns import write_parquet
from classmark.bulk.config import BulkJob
from classmark.bulk.parts import folder_of, open_results
from classmark.records import CSV_MARK, csv_header
from classmark.runtime import Classifier
from classmark.storage import atomic_file, publish

_JOINED_FILE = "joined"
_COPIED_BYTES = 1 << 20


def join_parts(
    parts: Sequence[Path], job: BulkJob, classifier: Classifier, *, row_group: int
) -> None:
    """Write the output of a job from its parts, in memory that does not grow with them.

    Raises:
        StorageFailed: the output cannot be written.
    """
    # First into the work folder: what a kill leaves behind is cleaned up with it.
    joined = folder_of(job.output) / _JOINED_FILE
    with atomic_file(joined) as file:
        if job.layout == "parquet":
            write_parquet(file, parts, classifier.model, row_group=row_group)
        else:
            if job.layout == "csv":
                mark = "" if job.raw_cells else CSV_MARK
                header = csv_header(min(job.top, len(classifier.labels)))
                file.write(f"{mark}{header}".encode())
            for path in parts:
                _copy(path, file)
    publish(joined, job.output)


def _copy(path: Path, file: IO[bytes]) -> None:
    with open_results(path) as (results, n_bytes):
        while n_bytes:
            piece = results.read(min(n_bytes, _COPIED_BYTES))
            file.write(piece)
            n_bytes -= len(piece)
