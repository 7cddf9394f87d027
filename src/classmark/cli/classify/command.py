"""``classmark classify``: papers in, one line or object for each out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from classmark.cli.classify.bulk import Work, bulk_layout, run_bulk
from classmark.cli.options import (
    AddressOption,
    ColumnsOption,
    EngineOption,
    RawCells,
    TextsOrFiles,
    columns_option,
    complete_model,
    parse_output,
    parse_place,
    refuse_buckets,
)
from classmark.cli.output import (
    check_ending,
    file_or_stdout,
    open_sink,
    print_error,
    stdout_encoding,
)
from classmark.cli.places import COPY
from classmark.cli.progress import progress_bar
from classmark.cluster import check_engine
from classmark.errors import InvalidPaper, UsageError

if TYPE_CHECKING:
    from classmark.cli.classify.sources import Source
    from classmark.papers import Columns

DEFAULT_TOP = 5

Layout = Literal["human", "jsonl", "json", "csv", "parquet"]

_LAYOUTS: dict[str, Layout] = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
}
"""By the ending of the output."""


def choose_layout(output: Path | None, **wanted: bool) -> Layout:
    """Return the layout that an option names, else that of the output's ending.

    Raises:
        UsageError: two options, or option and ending, contradict each other; or what the ending
            stands for cannot be written.
    """
    chosen = [name for name, is_wanted in wanted.items() if is_wanted]
    if len(chosen) > 1:
        raise UsageError(f"--{' and --'.join(chosen)} exclude each other. Choose one.")
    ending = check_ending("--output", output, _LAYOUTS)
    named = _LAYOUTS.get(ending, "human")
    if chosen and ending and named != chosen[0]:
        raise UsageError(
            f"--{chosen[0]} is not the format of --output {output}, which ends in {ending}. "
            "Leave the option out, or rename the file."
        )
    return cast("Layout", chosen[0]) if chosen else named


@dataclass(frozen=True, kw_only=True)
class CommandOptions:
    """How to read, to answer and to write; checked before anything is loaded."""

    top: int
    threshold: float | None
    explain: bool
    strict: bool
    layout: Layout
    columns: Columns
    format: str
    raw_cells: bool = False
    check_category: bool = False
    authors: bool = True
    index: Path | None = None

    def __post_init__(self) -> None:
        if self.top < 1:
            raise UsageError(f"--top must be at least 1, got {self.top}.")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise UsageError(f"--threshold must be within 0..1, got {self.threshold}.")
        if self.check_category and self.layout not in ("json", "jsonl"):
            raise UsageError("--check-category works only with JSON. Use --jsonl or --json.")
        if self.explain and self.layout in ("csv", "parquet"):
            name = "--csv" if self.layout == "csv" else "Parquet"
            raise UsageError(f"--explain does not work with {name}. Use --jsonl or --json with it.")
        if self.raw_cells and self.layout != "csv":
            raise UsageError("--raw-cells is for CSV only. Use --csv with it.")


def register(app: typer.Typer) -> None:
    """Add the command ``classify`` to an app."""
    app.command(name="classify")(classify)


def classify(
    ctx: typer.Context,
    inputs: TextsOrFiles = None,
    *,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="M",
            help="NAME, NAME@VERSION or PATH; the newest `fast` if not given.",
            autocompletion=complete_model,
        ),
    ] = None,
    top: Annotated[int, typer.Option(metavar="K", help="How many categories to rank.")] = (
        DEFAULT_TOP
    ),
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="P",
            help="Accept this probability or more, instead of the model's own thresholds.",
        ),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="List the terms that decided.")
    ] = False,
    check_category: Annotated[
        bool,
        typer.Option("--check-category", help="In JSON, judge the category that a record has."),
    ] = False,
    no_authors: Annotated[
        bool,
        typer.Option("--no-authors", help="Use the text alone, not what is known of the authors."),
    ] = False,
    index: Annotated[
        Path | None,
        typer.Option(
            click_type=COPY,
            metavar="INDEX",
            help="Use similar papers of a calibrated index too; `arxiv` is that of the package "
            "classmark-neighbours.",
        ),
    ] = None,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="One JSON object per line.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    as_csv: Annotated[
        bool,
        typer.Option(
            "--csv", help="One row per paper: id, title, primary, name, ... top1, top1_name"
        ),
    ] = False,
    raw_cells: RawCells = False,
    output: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Write this file completely or not at all, in the format of its extension: .csv "
            ".jsonl .json .parquet; aligned lines if it has none.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", help="Classify large files with N processes; needs --output."),
    ] = None,
    engine: EngineOption = "local",
    address: AddressOption = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first bad record.")] = False,
    columns: ColumnsOption = None,
    format: Annotated[
        str,
        typer.Option(
            metavar="F",
            help="Format of the input: csv, tsv, jsonl, json, parquet, bibtex, ris, nbib, wos, "
            "enw, xml, xlsx or text; auto looks at the content.",
        ),
    ] = "auto",
) -> None:
    """Classify papers: a text, files, or standard input.

    An argument with a known suffix (.csv .jsonl .bib .xml .xlsx .gz ...) or a path separator is a
    file; anything else is a text. Exit code 1 if a record could not be read.
    """
    parse = parse_place if engine == "ray" else parse_output
    target = file_or_stdout(None if output is None else parse(output))
    layout = choose_layout(target, jsonl=jsonl, json=as_json, csv=as_csv)
    check_engine(engine, address)
    work = Work(engine, address, workers)
    in_bulk = work.in_bulk or layout == "parquet"
    options = CommandOptions(
        top=top,
        threshold=threshold,
        explain=explain,
        strict=strict,
        layout=bulk_layout(layout, target) if in_bulk else layout,
        columns=columns_option(columns),
        format=format,
        raw_cells=raw_cells,
        check_category=check_category,
        authors=not no_authors,
        index=index,
    )
    from classmark.cli.classify.sources import read_arguments

    sources = read_arguments(inputs or [])
    if not sources:
        typer.echo(ctx.get_help(), err=True)
        raise typer.Exit(2)
    if engine == "local":
        refuse_buckets(target, *(source.value for source in sources if source.kind == "file"))
    if in_bulk:
        n_bad, n_records = run_bulk(sources, options, model=model, output=target, work=work)
    else:
        n_bad, n_records = run(sources, options, model=model, output=target)
    if n_bad:
        print_error(f"{n_bad} of {n_records} records could not be read.")
        raise typer.Exit(1)


def run(
    sources: Sequence[Source], options: CommandOptions, *, model: str | None, output: Path | None
) -> tuple[int, int]:
    """Classify everything and write it; return (bad records, records)."""
    from classmark.bundle import find_bundle
    from classmark.cli.classify.sources import read_records
    from classmark.cli.classify.writers import make_writer
    from classmark.runtime import Classifier, in_batches
    from classmark.storage import check_apart, check_file_place

    if output is not None:
        check_file_place(output)
    folder = find_bundle(model)
    check_apart((output,), (folder, *(source.path for source in sources)))
    classifier = Classifier(folder, index=options.index)
    options = replace(options, columns=classifier.columns.overruled_by(options.columns))
    whole_labels = classifier.categories.space == "free"
    n_bad = n_records = 0
    with open_sink(output, encoding=stdout_encoding(for_people=options.layout == "human")) as write:
        writer = make_writer(write, options, classifier, sources, output)

        def report(line: str) -> None:
            if options.strict:
                raise InvalidPaper(line)
            if not writer.shows_errors:
                print_error(f"error: {line}")

        records = read_records(sources, options, report, whole_labels=whole_labels)
        with progress_bar("classifying", shown=_shows_progress(sources, output)) as progress:
            for batch in in_batches(records, lambda record: record.size_chars):
                results = classifier.classify(
                    batch,
                    top=options.top,
                    threshold=options.threshold,
                    explain=options.explain,
                    check_category=options.check_category,
                    authors=options.authors,
                    errors="return",
                )
                writer.write(batch, results)
                n_records += len(batch)
                n_bad += results.n_bad
                progress.advance(len(batch))
        writer.close()
    return n_bad, n_records


def _shows_progress(sources: Sequence[Source], output: Path | None) -> bool:
    """Tell whether to show progress: not over a text, nor among the lines of results."""
    reads_files = any(source.kind == "file" for source in sources)
    return reads_files and (output is not None or not sys.stdout.isatty())
