"""The part of ``classmark classify`` that works with several processes, and writes Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from classmark.cli.output import print_error
from classmark.cli.progress import progress_bar
from classmark.errors import UsageError

if TYPE_CHECKING:
    from classmark.bulk import BulkLayout
    from classmark.cli.classify.command import Layout, Options
    from classmark.cli.classify.sources import Source

_MAX_SHOWN_CHARS = 60


def bulk_layout(layout: Layout, output: Path | None) -> BulkLayout:
    """Return the layout of an output that is written in parts.

    Raises:
        UsageError: there is no output or layout, or it cannot be written in parts.
    """
    if output is None:
        raise UsageError("--workers needs --output FILE that ends in .parquet, .jsonl or .csv.")
    if layout == "json":
        raise UsageError("JSON is one document, which is not written in parts. Use JSON lines.")
    if layout == "human":
        raise UsageError(
            f"--output {output} does not end in .parquet, .jsonl or .csv. Give it such a name, "
            "or choose --jsonl or --csv."
        )
    return layout


def run_bulk(
    sources: Sequence[Source],
    options: Options,
    *,
    model: str | None,
    output: Path | None,
    workers: int | None,
) -> tuple[int, int]:
    """Classify files in bulk; return (bad records, records)."""
    from classmark.bulk import BulkConfig, BulkJob, classify_files

    if workers is not None and workers < 1:
        raise UsageError(f"--workers must be at least 1, got {workers}.")
    if options.check_category:
        raise UsageError("--check-category is for one process. Leave --workers out.")
    config = BulkConfig(workers=workers or 1)
    job = BulkJob(
        inputs=tuple(map(_path, sources)),
        output=output or Path(),
        layout=cast("BulkLayout", options.layout),
        model=model,
        top=options.top,
        threshold=options.threshold,
        explain=options.explain,
        strict=options.strict,
        format=options.format,
        columns=options.columns,
        raw_cells=options.raw_cells,
    )
    with progress_bar("classifying") as progress:
        report = classify_files(job, config, progress)
    print_error(_closing_line(report.records, report.before, report.seconds, config.workers))
    return report.bad, report.records


def _path(source: Source) -> Path:
    if source.kind == "file":
        return Path(source.value)
    what = source.value if source.kind == "stdin" else f"the text {source.value!r}"
    shown = what if len(what) <= _MAX_SHOWN_CHARS else f"{what[: _MAX_SHOWN_CHARS - 1]}…"
    raise UsageError(
        f"--workers and Parquet are for files, not for {shown}. Write it into a file first."
    )


def _closing_line(n_records: int, n_before: int, seconds: float, workers: int) -> str:
    n_now = n_records - n_before
    rate = n_now / seconds if seconds else 0.0
    before = f" ({n_before:,} were done before)" if n_before else ""
    noun = "worker" if workers == 1 else "workers"
    return f"{n_now:,} papers in {seconds:,.1f} s, {rate:,.0f} papers/s, {workers} {noun}{before}"
