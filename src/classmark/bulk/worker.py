"""A process that reads and classifies chunks, and writes each as a part."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from operator import attrgetter
from pathlib import Path
from typing import IO

from classmark.bulk.config import BulkConfig, BulkJob
from classmark.bulk.encode import make_encoder
from classmark.bulk.parts import Parts, PartSummary, end_part, part_number
from classmark.errors import BundleCorrupt, ClassmarkError, IndexCorrupt
from classmark.neighbours import Index
from classmark.neighbours.index import MANIFEST_FILE
from classmark.papers import Chunk, ChunkSize, Columns, ReadOptions, papers_of, read_chunks
from classmark.records import BadRecord
from classmark.runtime import Classifier, in_batches
from classmark.storage import sha256_file

MAX_SHOWN_BAD = 20
"""How many bad records of a run are shown, one a line; the others are counted."""


@dataclass(frozen=True, slots=True)
class Task:
    """A chunk to work on.

    Attributes:
        index: number of its part.
        source: name of its file, for messages.
        chunk: what to classify.
        input_bytes: how much of the input it covers, in bytes on disk.
    """

    index: int
    source: str
    chunk: Chunk
    input_bytes: int


@dataclass(frozen=True, slots=True)
class Done:
    """A part that was written."""

    index: int
    records: int
    input_bytes: int


class Division:
    """How the inputs are cut: the same job and sizes give the same chunks on any machine.

    Attributes:
        n_chunks: of the files that have been divided to their end, by number of the file.
    """

    def __init__(self, job: BulkJob, config: BulkConfig, done: frozenset[int]) -> None:
        """Divide the inputs of a job but for the parts that are done."""
        self._job = job
        self._size = ChunkSize(config.chunk_bytes, config.chunk_records)
        self._done = done
        self.n_chunks: dict[int, int] = {}

    def tasks(self) -> Iterator[Task]:
        """Yield the chunks of all files whose parts are not done."""
        for number in range(len(self._job.inputs)):
            yield from self.tasks_of(number)

    def tasks_of(self, number: int) -> Iterator[Task]:
        """Yield the chunks of one file whose parts are not done."""
        path, job = self._job.inputs[number], self._job
        before = n_chunks = 0
        for chunk in read_chunks(path, self._size, format=job.format, options=_options(job)):
            index = part_number(number, n_chunks)
            n_chunks += 1
            if index not in self._done:
                yield Task(index, str(path), chunk, chunk.end_byte - before)
            before = chunk.end_byte
        self.n_chunks[number] = n_chunks


@dataclass(frozen=True)
class WorkPlan:
    """What every worker of a run knows.

    Attributes:
        job: with the folder of a bundle for its model.
        parts: where parts are written.
        model_digest: of that bundle, which has been verified.
        index_mark: of the job's index, by ``mark_of_index``; "" without one.
    """

    job: BulkJob
    parts: Parts
    model_digest: str
    index_mark: str = ""


def work(connection: Connection, plan: WorkPlan) -> None:
    """Work on tasks until there are no more, or until the parent process is gone.

    Args:
        connection: gives a ``Task`` and takes ``Done``, or why it cannot continue: a sentence.
        plan: of the run.
    """
    # Ctrl-C reaches every process of the terminal; the one that gives the tasks decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _work(connection, plan)
    except (EOFError, ConnectionError):
        return
    except Exception as error:  # noqa: BLE001 - the parent is waiting for an answer
        own = isinstance(error, ClassmarkError)
        with suppress(ConnectionError):  # the parent process has ended
            connection.send(str(error) if own else f"{type(error).__name__}: {error}")


def _work(connection: Connection, plan: WorkPlan) -> None:
    classifier = open_model(plan.job.model, plan)
    while True:
        task: Task = connection.recv()
        summary = write_part(task, classifier, plan)
        connection.send(Done(task.index, summary.records, task.input_bytes))


def _options(job: BulkJob) -> ReadOptions:
    return ReadOptions(name="", columns=Columns.of(job.columns))


def open_model(folder: str | Path | None, plan: WorkPlan) -> Classifier:
    """Return the model of a run.

    Raises:
        BundleCorrupt, IndexCorrupt: it, or its index, is another one by now.
    """
    index = None if plan.job.index is None else Index.open(plan.job.index)
    if index is not None and mark_of_index(index) != plan.index_mark:
        raise IndexCorrupt(f"{index.path} was replaced during the run. Start the run again.")
    classifier = Classifier(folder, index=index)
    if classifier.model.digest != plan.model_digest:
        raise BundleCorrupt(f"{plan.job.model} was replaced during the run. Start the run again.")
    return classifier


def mark_of_index(index: Index) -> str:
    """Return what another content or another weight of an index changes."""
    return sha256_file(index.path / MANIFEST_FILE)


def write_part(task: Task, classifier: Classifier, plan: WorkPlan) -> PartSummary:
    """Read and classify a chunk, write its part into its place, and return what it holds."""
    with plan.parts.writing(task.index) as part:
        return fill_part(part, task, classifier, plan.job)


def fill_part(part: IO[bytes], task: Task, classifier: Classifier, job: BulkJob) -> PartSummary:
    """Read and classify a chunk, write its part into a file, and return what it holds."""
    size_chars = attrgetter("size_chars")
    n_records = n_bad = 0
    bad_lines: list[str] = []
    encoder = make_encoder(part, classifier, job)
    for batch in in_batches(papers_of(task.chunk, _options(job)), size_chars):
        encoder.write(batch)
        n_records += len(batch)
        bad = [record for record in batch if isinstance(record, BadRecord)]
        n_bad += len(bad)
        missing = MAX_SHOWN_BAD - len(bad_lines)
        bad_lines += [record.line("") for record in bad[:missing]]
    encoder.close()
    summary = PartSummary(n_records, n_bad, tuple(bad_lines), task.input_bytes)
    end_part(part, summary)
    return summary
