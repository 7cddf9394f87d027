"""``classmark classify``: papers in, one line or object for each out."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeGuard

import typer

from classmark.cli.classify.bulk import bulk_layout, run_bulk
from classmark.cli.columns import METAVAR, columns_option
from classmark.cli.output import (
    CsvWriter,
    FirstDecides,
    JsonLinesWriter,
    JsonWriter,
    Layout,
    LineWriter,
    Results,
    TableWriter,
    Write,
    Writer,
    choose_layout,
    csv_mark,
    file_or_stdout,
    is_answer,
    open_sink,
    print_error,
    spelled,
)
from classmark.cli.progress import progress_bar
from classmark.errors import InvalidPaper, UnreadableSource, UsageError

if TYPE_CHECKING:
    from classmark.papers import Columns
    from classmark.records import BadRecord, Paper
    from classmark.runtime import Classifier

DEFAULT_TOP = 5
STDIN = "-"
_STDIN_FILE = Path("/dev/stdin")
_BAR = "█"
_MAX_SHOWN_CHARS = 60
_LONGEST_PATH_CHARS = 4096
_OTHER_SUFFIXES = (
    *(".rdf", ".html", ".htm", ".tex", ".md"),
    *(".pdf", ".ps", ".doc", ".docx", ".odt", ".rtf", ".epub", ".xls", ".ods"),
    *(".db", ".sqlite", ".feather", ".arrow", ".zst", ".7z", ".tar", ".tgz"),
)
"""Endings that a word has only as the name of a file, whether or not such files are read."""


@dataclass(frozen=True)
class Source:
    """One argument: a text to classify, a file of papers, or standard input."""

    kind: Literal["text", "file", "stdin"]
    value: str

    @classmethod
    def from_argument(cls, argument: str) -> Source:
        """Tell what an argument is.

        Raises:
            UnreadableSource: it must be a file but is none.
        """
        if argument == STDIN:
            return cls("stdin", "standard input")
        if not is_file_argument(argument):
            return cls("text", _as_text(argument))
        if not os.path.lexists(argument):
            raise UnreadableSource(
                f"no file {_as_text(argument)[:_MAX_SHOWN_CHARS]!r}. Check the path; if it is a "
                "text, end it with a full stop or pass it on standard input."
            )
        return cls("file", argument)


@dataclass(frozen=True, kw_only=True)
class Options:
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

    def __post_init__(self) -> None:
        if self.top < 1:
            raise UsageError(f"--top must be at least 1, got {self.top}.")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise UsageError(f"--threshold must be within 0..1, got {self.threshold}.")
        if self.check_category and self.layout not in ("json", "jsonl"):
            raise UsageError("--check-category has a place only in JSON. Use --jsonl or --json.")
        if self.explain and self.layout in ("csv", "parquet"):
            name = "--csv" if self.layout == "csv" else "Parquet"
            raise UsageError(f"--explain has no place in {name}. Use --jsonl or --json with it.")
        if self.raw_cells and self.layout != "csv":
            raise UsageError("--raw-cells is about the cells of CSV. Use --csv with it.")


def register(app: typer.Typer) -> None:
    """Add the command ``classify`` to an app."""
    app.command(name="classify")(classify)


def classify(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXT|FILES|-",
            help="A text (title, newline, abstract; or an abstract), files of papers, or - for "
            "standard input.",
        ),
    ] = None,
    *,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="M", help="NAME, NAME@VERSION or PATH; the newest `fast` if not given."
        ),
    ] = None,
    top: Annotated[int, typer.Option(metavar="K", help="How many categories to rank.")] = (
        DEFAULT_TOP
    ),
    threshold: Annotated[
        float | None,
        typer.Option(metavar="P", help="Accept from this probability, not from the model's own."),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="List the terms that decided.")
    ] = False,
    check_category: Annotated[
        bool,
        typer.Option("--check-category", help="In JSON, judge the category a record has."),
    ] = False,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="One JSON object a line.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    as_csv: Annotated[
        bool,
        typer.Option("--csv", help="A row a paper: id, title, primary, name, ... top1, top1_name"),
    ] = False,
    raw_cells: Annotated[
        bool,
        typer.Option(
            "--raw-cells",
            help="CSV for programs: no apostrophe before formulas, no byte order mark.",
        ),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write here, whole or not at all, in the format of its ending: .csv .jsonl .json "
            ".parquet; lines for people if it has none.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Classify files by the million with N processes; needs --output."
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first bad record.")] = False,
    columns: Annotated[
        str | None,
        typer.Option(metavar=METAVAR, help="Columns or keys to read, if they have other names."),
    ] = None,
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
    output = file_or_stdout(output)
    layout = choose_layout(output, jsonl=jsonl, json=as_json, csv=as_csv)
    in_bulk = workers is not None or layout == "parquet"
    options = Options(
        top=top,
        threshold=threshold,
        explain=explain,
        strict=strict,
        layout=bulk_layout(layout, output) if in_bulk else layout,
        columns=columns_option(columns),
        format=format,
        raw_cells=raw_cells,
        check_category=check_category,
    )
    sources = _sources(inputs or [])
    if not sources:
        typer.echo(ctx.get_help(), err=True)
        raise typer.Exit(2)
    if in_bulk:
        n_bad, n_records = run_bulk(sources, options, model=model, output=output, workers=workers)
    else:
        n_bad, n_records = run(sources, options, model=model, output=output)
    if n_bad:
        print_error(f"{n_bad} of {n_records} records could not be read.")
        raise typer.Exit(1)


def run(
    sources: Sequence[Source], options: Options, *, model: str | None, output: Path | None
) -> tuple[int, int]:
    """Classify everything and write it; return (bad records, records)."""
    from classmark.bundle import find_bundle
    from classmark.runtime import Classifier
    from classmark.storage import check_apart, check_file_place

    if output is not None:
        check_file_place(output)
    check_apart((output,), (find_bundle(model), *map(_path, sources)))
    classifier = Classifier(model)
    options = replace(options, columns=classifier.columns.overruled_by(options.columns))
    n_bad = n_records = 0
    with open_sink(output, encoding=_stdout_encoding(options)) as write:
        writer = _make_writer(write, options, classifier, sources, output)
        with progress_bar("classifying", shown=_shows_progress(sources, output)) as progress:
            for batch in _answers(sources, options, classifier, writer):
                writer.write(batch)
                n_records += len(batch)
                n_bad += sum(not is_answer(result) for _, result in batch)
                progress.advance(len(batch))
        writer.close()
    return n_bad, n_records


def is_file_argument(argument: str) -> bool:
    """Tell whether an argument names a file: it is one, or looks like the name of one.

    A separator in a text with white space (``TCP/IP networks``) makes no file of it, unless there
    is one.
    """
    from classmark.papers import KNOWN_SUFFIXES

    if "\n" in argument or len(argument) > _LONGEST_PATH_CHARS:
        return False
    if os.path.isfile(argument) or argument.lower().endswith(KNOWN_SUFFIXES):  # noqa: PTH113
        return True
    if any(character.isspace() for character in argument):
        return ("/" in argument or os.sep in argument) and os.path.lexists(argument)
    return "/" in argument or os.sep in argument or argument.lower().endswith(_OTHER_SUFFIXES)


def _sources(arguments: Sequence[str]) -> list[Source]:
    if not arguments and not sys.stdin.isatty():
        arguments = [STDIN]
    return [Source.from_argument(argument) for argument in arguments]


def _as_text(argument: str) -> str:
    """Return an argument as UTF-8 where the locale has no such characters, as ``C`` has none."""
    if any("\udc80" <= character <= "\udcff" for character in argument):  # bytes as they came
        return os.fsencode(argument).decode("utf-8", "replace")
    return argument


def _path(source: Source) -> Path | None:
    """Return the file that a source is read from; that of standard input may be one, too."""
    if source.kind == "stdin":
        return _STDIN_FILE
    return Path(source.value) if source.kind == "file" else None


def _shows_progress(sources: Sequence[Source], output: Path | None) -> bool:
    """Tell whether to show progress: not over a text, nor among the lines of results."""
    reads_files = any(source.kind == "file" for source in sources)
    return reads_files and (output is not None or not sys.stdout.isatty())


def _is_paper(record: Paper | BadRecord) -> TypeGuard[Paper]:
    # Told by an attribute: to import the records here would import numpy for `--help`.
    return hasattr(record, "abstract")


def _size_chars(record: Paper | BadRecord) -> int:
    return record.size_chars


def _answers(
    sources: Sequence[Source], options: Options, classifier: Classifier, writer: Writer
) -> Iterator[Results]:
    """Yield records with their results in batches, in order, and report bad ones."""
    from classmark.records import BadRecord
    from classmark.runtime import in_batches

    for batch in in_batches(_records(sources, options, classifier, writer), _size_chars):
        answers = classifier.classify(
            [item for item in batch if _is_paper(item)],
            top=options.top,
            threshold=options.threshold,
            explain=options.explain,
            check_category=options.check_category,
        )
        in_order = iter(answers)
        yield [(item, item if isinstance(item, BadRecord) else next(in_order)) for item in batch]


def _records(
    sources: Sequence[Source], options: Options, classifier: Classifier, writer: Writer
) -> Iterator[Paper | BadRecord]:
    from classmark.records import BadRecord

    for source in sources:
        for record in _read(source, options, whole_labels=classifier.categories.space == "free"):
            checked = _checked(record)
            if isinstance(checked, BadRecord):
                _report(checked, source, options, writer)
            yield checked


def _read(source: Source, options: Options, *, whole_labels: bool) -> Iterable[Paper | BadRecord]:
    from classmark.papers import read_papers
    from classmark.records import Paper

    if source.kind == "text":
        return [Paper.from_text(source.value)]
    return read_papers(
        sys.stdin.buffer if source.kind == "stdin" else Path(source.value),
        format=options.format,
        columns=options.columns,
        whole_labels=whole_labels,
    )


def _checked(record: Paper | BadRecord) -> Paper | BadRecord:
    """Return the record, or a bad one if there is nothing to classify it from."""
    from classmark.records import BadRecord, Paper
    from classmark.runtime import check_paper

    if not isinstance(record, Paper):
        return record
    try:
        return check_paper(record)
    except InvalidPaper as error:
        return BadRecord(id=record.id, kind=error.kind, message=str(error))


def _report(bad: BadRecord, source: Source, options: Options, writer: Writer) -> None:
    where = source.value if source.kind != "text" else "text"
    line = bad.line(where)
    if options.strict:
        raise InvalidPaper(line)
    if not writer.shows_errors:
        print_error(f"error: {line}")


def _make_writer(
    write: Write,
    options: Options,
    classifier: Classifier,
    sources: Sequence[Source],
    output: Path | None,
) -> Writer:
    single = len(sources) == 1 and sources[0].kind == "text"
    own = dict(zip(classifier.labels, classifier.thresholds, strict=True))

    def threshold_of(code: str) -> float:
        return own[code] if options.threshold is None else options.threshold

    if options.layout == "jsonl":
        return JsonLinesWriter(write)
    if options.layout == "json":
        return JsonWriter(write, single=single)
    if options.layout == "csv":
        top, raw_cells = min(options.top, len(classifier.labels)), options.raw_cells
        mark = csv_mark(output, raw_cells=raw_cells)
        return CsvWriter(write, top=top, raw_cells=raw_cells, mark=mark)
    bar = _BAR if output else spelled(_BAR, _stdout_encoding(options))
    table = TableWriter(write, threshold_of, classifier.set_coverage, bar)
    if single or options.explain:
        return table
    lines = LineWriter(write, threshold_of)
    return FirstDecides(table, lines) if sources[0].kind == "stdin" else lines


def _stdout_encoding(options: Options) -> str:
    """Return UTF-8 for what programs read, the terminal's own for what people read."""
    return (sys.stdout.encoding or "utf-8") if options.layout == "human" else "utf-8"
