"""Results in the layout of the output: what a worker writes into a part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, Protocol

from classmark.bulk.columns import ColumnsEncoder
from classmark.bulk.config import BulkJob
from classmark.records import BadRecord, Paper, csv_lines, json_line
from classmark.runtime import Classifier
from classmark.wire import Answer

Records = Sequence[Paper | BadRecord]


class Encoder(Protocol):
    """Writes the answers to records into one file, batch after batch."""

    def write(self, records: Records) -> None:
        """Classify and write a batch; a bad record is written too if it has a place."""
        ...

    def close(self) -> None:
        """Write what comes after the last batch."""
        ...


class JsonLinesEncoder:
    """One published object a line, also for a bad record."""

    def __init__(self, file: IO[bytes], classifier: Classifier, job: BulkJob) -> None:
        self._file = file
        self._classifier = classifier
        self._job = job

    def write(self, records: Records) -> None:
        """Write a batch."""
        answers = iter(_answers(self._classifier, records, self._job))
        results = (record if isinstance(record, BadRecord) else next(answers) for record in records)
        text = "".join(json_line(result) + "\n" for result in results)
        self._file.write(text.encode("utf-8", "replace"))

    def close(self) -> None:
        """Nothing comes after the last line."""


class CsvEncoder:
    """Rows without their header; bad records have no row."""

    def __init__(self, file: IO[bytes], classifier: Classifier, job: BulkJob) -> None:
        self._file = file
        self._classifier = classifier
        self._job = job

    def write(self, records: Records) -> None:
        """Write a batch."""
        answers = _answers(self._classifier, records, self._job)
        papers = (record for record in records if isinstance(record, Paper))
        text = csv_lines(zip(papers, answers, strict=True), raw_cells=self._job.raw_cells)
        self._file.write(text.encode("utf-8", "replace"))

    def close(self) -> None:
        """Nothing comes after the last row."""


def make_encoder(file: IO[bytes], classifier: Classifier, job: BulkJob) -> Encoder:
    """Return the encoder of the layout of a job."""
    if job.layout == "jsonl":
        return JsonLinesEncoder(file, classifier, job)
    if job.layout == "csv":
        return CsvEncoder(file, classifier, job)
    return ColumnsEncoder(file, classifier, job)


def _answers(classifier: Classifier, records: Records, job: BulkJob) -> list[Answer]:
    return classifier.classify(
        [record for record in records if isinstance(record, Paper)],
        top=job.top,
        threshold=job.threshold,
        explain=job.explain,
    )
