"""One run from beginning to end: divide, classify, join."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from classmark import __version__
from classmark.bulk.config import BulkConfig, BulkJob, BulkReport
from classmark.bulk.encode import arrow, write_parquet
from classmark.bulk.parts import (
    Parts,
    folder_of,
    open_results,
    part_number,
    prepare,
    read_summary,
    remove_parts,
)
from classmark.bulk.pool import Pool
from classmark.bulk.worker import MAX_SHOWN_BAD, Division, Done, WorkPlan, mark_of_index
from classmark.bundle import find_bundle
from classmark.errors import InvalidPaper, StorageFailed, UnreadableSource, UsageError
from classmark.neighbours import Index
from classmark.papers import RECIPE_VERSION, Columns
from classmark.records import CSV_MARK, Progress, csv_header
from classmark.runtime import Classifier
from classmark.storage import (
    atomic_file,
    check_apart,
    check_file_place,
    content_mark,
    is_remote,
    locked_folder,
    publish,
    upload,
)

_FORMAT_VERSION = 3
_JOINED_FILE = "joined"
_COPIED_BYTES = 1 << 20


def classify_files(job: BulkJob, config: BulkConfig, progress: Progress) -> BulkReport:
    """Classify files into one file, with as many processes as wanted.

    A run that is stopped, however, leaves the parts that are done in ``OUTPUT.parts``; the same
    job resumes from them. The number of workers changes nothing in the output.

    Raises:
        OutputBusy: another run writes this output.
        UnreadableSource: an input is missing, or cannot be read.
        InvalidPaper: the first bad record of a strict job.
        MissingExtra: Parquet without pyarrow.
        WorkerFailed: a worker met an error, or died twice over the same papers.
        StorageFailed: the output or its parts cannot be written, or it is an input.
    """
    # Absolute, as the folder of the parts is: a worker may start in another folder.
    job = replace(job, model=find_bundle(job.model).absolute())
    _check_output(job)
    index = _index_of(job, config)
    classifier = Classifier(job.model, index=index)
    columns = classifier.columns.overruled_by(Columns.of(job.columns))
    job = replace(job, columns=columns, index=index.path.absolute() if index else None)
    index_mark = mark_of_index(index) if index else ""
    manifest = {**_manifest(job, config, classifier), "the index": index_mark}
    folder = folder_of(job.output)
    with locked_folder(folder):
        parts = prepare(folder, manifest, progress)
        run = _Run(job, config, parts, progress)
        try:
            report = run.classify(classifier, index_mark)
        except BaseException:
            run.keep()
            raise
        remove_parts(folder)
    return report


class _Run:
    """What is done so far, reported in the order of the input."""

    def __init__(self, job: BulkJob, config: BulkConfig, parts: Parts, progress: Progress) -> None:
        self._job = job
        self._config = config
        self._parts = parts
        self._progress = progress
        self._total_bytes = sum(path.stat().st_size for path in job.inputs)
        self._done_bytes = 0
        self._n_before = self._n_done = 0
        self._reported = (0, 0)
        self._n_chunks: Mapping[int, int] = {}
        self._n_records = self._n_bad = 0

    def classify(self, classifier: Classifier, index_mark: str) -> BulkReport:
        """Classify what is not done yet, and join all."""
        started = time.perf_counter()
        self._count_what_is_done()
        division = Division(self._job, self._config, self._parts.numbers())
        self._n_chunks = division.n_chunks
        plan = WorkPlan(self._job, self._parts, classifier.model.digest, index_mark)
        with closing(_run_tasks(plan, division, self._config)) as finished:
            for done in finished:
                self._advance(done.records, done.input_bytes)
                self._report_in_order()
        self._report_in_order()
        if self._n_bad > MAX_SHOWN_BAD and self._reports_bad:
            self._progress.warn(f"... and {self._n_bad - MAX_SHOWN_BAD:,} more bad records.")
        paths = [
            self._parts.path(part_number(source, chunk))
            for source, n_chunks in sorted(self._n_chunks.items())
            for chunk in range(n_chunks)
        ]
        join_parts(paths, self._job, classifier, row_group=self._config.row_group)
        return BulkReport(
            records=self._n_records,
            bad=self._n_bad,
            before=self._n_before,
            seconds=time.perf_counter() - started,
        )

    def keep(self) -> None:
        """Say what is kept of a run that stops; of one that has done nothing, nothing is."""
        if self._n_done:
            self._progress.warn(
                f"{self._n_done:,} papers are done and kept in {_shown(self._parts.folder)}: "
                "run the same command to resume."
            )
        else:
            remove_parts(self._parts.folder)

    @property
    def _reports_bad(self) -> bool:
        return self._job.layout != "jsonl"

    def _count_what_is_done(self) -> None:
        for summary in self._parts.summaries():
            self._n_before += summary.records
            self._done_bytes += summary.input_bytes
        if self._n_before:
            share = self._share()
            self._progress.warn(
                f"resuming: {self._n_before:,} papers are done, {share:.0%} of the input."
            )
            self._n_done = self._n_before
        self._progress.step("classifying", done=self._n_before, share=self._share())

    def _advance(self, n_records: int, n_bytes: int) -> None:
        self._n_done += n_records
        self._done_bytes += n_bytes
        self._progress.advance(n_records, share=self._share())

    def _share(self) -> float:
        return min(1.0, self._done_bytes / max(1, self._total_bytes))

    def _report_in_order(self) -> None:
        """Report bad records of every part that has all parts before it."""
        while (part := self._next_to_report()) is not None:
            source, chunk = self._reported
            self._reported = source, chunk + 1
            summary = read_summary(part)
            name = self._job.inputs[source]
            if summary.bad and self._job.strict:
                raise InvalidPaper(f"{name}{summary.bad_lines[0]}")
            if self._reports_bad:
                for line in summary.bad_lines[: max(0, MAX_SHOWN_BAD - self._n_bad)]:
                    self._progress.warn(f"error: {name}{line}")
            self._n_records += summary.records
            self._n_bad += summary.bad

    def _next_to_report(self) -> Path | None:
        source, chunk = self._reported
        while chunk == self._n_chunks.get(source):
            source, chunk = self._reported = source + 1, 0
        index = part_number(source, chunk)
        return self._parts.path(index) if self._parts.has(index) else None


def _run_tasks(plan: WorkPlan, division: Division, config: BulkConfig) -> Generator[Done]:
    if config.engine == "local":
        return Pool(plan, config.workers or 1).run(division.tasks())
    from classmark.bulk.cluster import run_on_cluster

    return run_on_cluster(plan, division, config)


def _check_output(job: BulkJob) -> None:
    if job.output.exists() and not (job.output.is_file() or job.output.is_dir()):
        raise StorageFailed(
            f"{job.output} is a device or a pipe; bulk joins its parts into a file. Choose a file."
        )
    check_file_place(job.output)
    inputs = [path for path in job.inputs if not is_remote(path)]
    check_apart((job.output, folder_of(job.output)), (*inputs, Path(job.model or "")))
    if job.layout == "parquet":
        arrow()  # says so now if it is missing


def _index_of(job: BulkJob, config: BulkConfig) -> Index | None:
    """Return the index of a job, if it has one.

    Raises:
        IndexCorrupt, IndexIncompatible: it cannot be read.
        UsageError: it would have to be on every machine of a cluster.
    """
    if job.index is None:
        return None
    if config.engine == "ray":
        raise UsageError("--index is read on this machine only. Leave --engine ray out.")
    return Index.open(job.index)


def _manifest(job: BulkJob, config: BulkConfig, classifier: Classifier) -> dict[str, Any]:
    """Return what the parts are made from, by topic."""
    reading = (job.format, dict(Columns.of(job.columns).given))
    answering = (job.top, job.threshold, job.explain, job.authors)
    options = (job.layout, *answering, *reading, job.raw_cells)
    return {
        "the input": [_read_content(path) for path in job.inputs],
        "the model": classifier.model.digest,
        "the options": list(options),
        "classmark": [__version__, RECIPE_VERSION, _FORMAT_VERSION],
        "the size of parts": [config.chunk_bytes, config.chunk_records],
    }


def _read_content(path: Path) -> list[str]:
    """Return the mark of the content of a file, and the suffixes that its format may follow from.

    Size and time of change may stay as they are where the content changes.
    """
    try:
        return [content_mark(path), *path.suffixes[-2:]]
    except OSError as error:
        raise UnreadableSource(f"{path} cannot be opened: {error.strerror or error}.") from error


def _shown(folder: Path) -> Path:
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder


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
    if job.upload_to is not None:
        upload(joined, job.upload_to)
    else:
        publish(joined, job.output)


def _copy(path: Path, file: IO[bytes]) -> None:
    with open_results(path) as (results, n_bytes):
        while n_bytes:
            piece = results.read(min(n_bytes, _COPIED_BYTES))
            file.write(piece)
            n_bytes -= len(piece)
