"""The part of ``classmark classify`` that works with several processes, and writes Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from classmark.cli.options import parse_place, parse_source
from classmark.cli.output import print_error
from classmark.cli.progress import progress_bar
from classmark.errors import UsageError

if TYPE_CHECKING:
    from classmark.bulk import BulkConfig, BulkLayout, BulkReport
    from classmark.cli.classify.command import CommandOptions, Layout
    from classmark.cli.classify.sources import Source
    from classmark.cluster import Engine

_MAX_SHOWN_CHARS = 60


@dataclass(frozen=True)
class Work:
    """Who classifies; see ``BulkConfig``."""

    engine: Engine
    address: str | None
    workers: int | None

    @property
    def in_bulk(self) -> bool:
        """Whether files are divided, so that only files can be classified."""
        return self.engine != "local" or self.workers is not None


def bulk_layout(layout: Layout, output: Path | None) -> BulkLayout:
    """Return the layout of an output that is written in parts.

    Raises:
        UsageError: there is no output or layout, or it cannot be written in parts.
    """
    if output is None:
        raise UsageError(
            "--workers and --engine ray need --output FILE that ends in .parquet, .jsonl or .csv."
        )
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
    options: CommandOptions,
    *,
    model: str | None,
    output: Path | None,
    work: Work,
) -> tuple[int, int]:
    """Classify files in bulk; return (bad records, records)."""
    from classmark.bulk import BulkConfig, BulkJob, classify_files
    from classmark.storage import files_of, is_remote

    if work.workers is not None and work.workers < 1:
        raise UsageError(f"--workers must be at least 1, got {work.workers}.")
    if options.check_category:
        raise UsageError("--check-category is for one process. Leave --workers out.")
    config = BulkConfig(engine=work.engine, address=work.address, workers=work.workers)
    parse = parse_place if config.engine == "ray" else parse_source
    inputs = [parse(_file_of(source)) for source in sources]
    output = output or Path()
    if config.engine == "local" and is_remote(output):
        raise UsageError(
            f"--output {output}: --workers and Parquet write into a bucket with --engine ray only."
        )
    job = BulkJob(
        inputs=tuple(files_of(inputs) if config.engine == "ray" else inputs),
        output=Path(output.name) if is_remote(output) else output,
        upload_to=output if is_remote(output) else None,
        layout=cast("BulkLayout", options.layout),
        model=model,
        index=options.index,
        top=options.top,
        threshold=options.threshold,
        explain=options.explain,
        authors=options.authors,
        strict=options.strict,
        format=options.format,
        columns=options.columns,
        raw_cells=options.raw_cells,
    )
    with progress_bar("classifying") as progress:
        report = classify_files(job, config, progress)
    print_error(_closing_line(report, config))
    return report.bad, report.records


def _file_of(source: Source) -> str:
    if source.kind == "file":
        return source.value
    what = source.value if source.kind == "stdin" else f"the text {source.value!r}"
    shown = what if len(what) <= _MAX_SHOWN_CHARS else f"{what[: _MAX_SHOWN_CHARS - 1]}…"
    raise UsageError(
        f"--workers and Parquet are for files, not for {shown}. Write it into a file first."
    )


def _closing_line(report: BulkReport, config: BulkConfig) -> str:
    n_now = report.records - report.before
    rate = n_now / report.seconds if report.seconds else 0.0
    before = f" ({report.before:,} were done before)" if report.before else ""
    workers = config.workers or (1 if config.engine == "local" else None)
    who = "a cluster" if workers is None else f"{workers} worker{'' if workers == 1 else 's'}"
    return f"{n_now:,} papers in {report.seconds:,.1f} s, {rate:,.0f} papers/s, {who}{before}"
