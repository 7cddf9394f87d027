"""``classmark classify``: papers in, one line or object for each out."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeGuard

import typer

from classmark.cli.bulk import bulk_layout, is_bulk, run_bulk
from classmark.cli.output import (
    CsvWriter,
    FirstDecides,
    JsonLinesWriter,
    JsonWriter,
    LineWriter,
    TableWriter,
    Write,
    Writer,
    is_answer,
    open_sink,
    print_error,
)
from classmark.cli.progress import progress
from classmark.errors import InvalidPaper, UnreadableSource, UsageError

if TYPE_CHECKING:
    from classmark.records import Answer, BadRecord, Paper
    from classmark.runtime import Classifier

DEFAULT_TOP = 5
STDIN = "-"
_STDIN_FILE = Path("/dev/stdin")
_BAR = "█"
_MAX_SHOWN_CHARS = 60
_LONGEST_PATH_CHARS = 4096
_OTHER_SUFFIXES = (
    *(".ris", ".nbib", ".enw", ".ciw", ".xml", ".rdf", ".html", ".htm", ".tex", ".md"),
    *(".pdf", ".ps", ".doc", ".docx", ".odt", ".rtf", ".epub", ".xls", ".xlsx", ".ods"),
    *(".db", ".sqlite", ".feather", ".arrow", ".bz2", ".xz", ".zst", ".7z", ".tar", ".tgz"),
)
"""Endings that a word has only as the name of a file, whether or not such files are read."""

Layout = Literal["human", "jsonl", "json", "csv", "parquet"]


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
    columns: dict[str, str]
    format: str
    raw_cells: bool = False

    def __post_init__(self) -> None:
        if self.top < 1:
            raise UsageError(f"--top must be at least 1, got {self.top}.")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise UsageError(f"--threshold must be within 0..1, got {self.threshold}.")
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
    jsonl: Annotated[bool, typer.Option("--jsonl", help="One JSON object a line.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Columns id, primary, reason, probability, top1 ...")
    ] = False,
    raw_cells: Annotated[
        bool,
        typer.Option(
            "--raw-cells",
            help="In CSV, do not put an apostrophe before texts that a spreadsheet would run.",
        ),
    ] = False,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write here, whole or not at all.")
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
        typer.Option(metavar="title=T,abstract=A", help="Names of the columns or keys to read."),
    ] = None,
    format: Annotated[
        str, typer.Option(metavar="F", help="Format of the input; auto finds it out.")
    ] = "auto",
) -> None:
    """Classify papers: a text, files, or standard input.

    An argument with a known suffix (.csv .jsonl .parquet .bib .gz ...) or a path separator is a
    file; anything else is a text. Exit code 1 if a record could not be read.
    """
    layout = _layout(jsonl=jsonl, json=as_json, csv=as_csv)
    in_bulk = is_bulk(workers, output)
    options = Options(
        top=top,
        threshold=threshold,
        explain=explain,
        strict=strict,
        layout=bulk_layout(layout, output) if in_bulk else layout,
        columns=_columns(columns),
        format=format,
        raw_cells=raw_cells,
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
    n_bad = n_records = 0
    with open_sink(output, encoding=_stdout_encoding(options)) as write:
        writer = _make_writer(write, options, classifier, sources, to_file=output is not None)
        with progress("classifying", shown=_shows_progress(sources, output)) as advance:
            for batch in _answers(sources, options, classifier, writer):
                writer.write(batch)
                n_records += len(batch)
                n_bad += sum(not is_answer(result) for result in batch)
                advance(len(batch))
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


def _layout(**wanted: bool) -> Layout:
    chosen = [name for name, is_wanted in wanted.items() if is_wanted]
    if len(chosen) > 1:
        raise UsageError(f"--{' and --'.join(chosen)} exclude each other. Choose one.")
    layouts: tuple[Layout, ...] = ("jsonl", "json", "csv")
    return next((layout for layout in layouts if layout in chosen), "human")


def _columns(text: str | None) -> dict[str, str]:
    columns = {}
    for part in (text or "").split(",") if text else []:
        field, equals, column = (piece.strip() for piece in part.partition("="))
        if not (field and equals and column):
            raise UsageError(
                f"--columns {text!r}: {part!r} is not FIELD=COLUMN. "
                "Write for example --columns title=Headline,abstract=Text."
            )
        columns[field] = column
    return columns


def _answers(
    sources: Sequence[Source], options: Options, classifier: Classifier, writer: Writer
) -> Iterator[list[Answer | BadRecord]]:
    """Yield results in batches, in the order of the records, and report bad ones."""
    from classmark.records import BadRecord
    from classmark.runtime import in_batches

    for batch in in_batches(_records(sources, options, writer), _size_chars):
        answers = classifier.classify(
            [item for item in batch if _is_paper(item)],
            top=options.top,
            threshold=options.threshold,
            explain=options.explain,
        )
        in_order = iter(answers)
        yield [item if isinstance(item, BadRecord) else next(in_order) for item in batch]


def _records(
    sources: Sequence[Source], options: Options, writer: Writer
) -> Iterator[Paper | BadRecord]:
    from classmark.records import BadRecord

    for source in sources:
        for record in _read(source, options):
            checked = _checked(record)
            if isinstance(checked, BadRecord):
                _report(checked, source, options, writer)
            yield checked


def _read(source: Source, options: Options) -> Iterable[Paper | BadRecord]:
    from classmark.papers import read_papers, read_stream
    from classmark.records import Paper

    if source.kind == "text":
        return [Paper.from_text(source.value)]
    if source.kind == "stdin":
        return read_stream(sys.stdin.buffer, format=options.format, columns=options.columns)
    return read_papers(Path(source.value), format=options.format, columns=options.columns)


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
    *,
    to_file: bool,
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
        return CsvWriter(
            write, top=min(options.top, len(classifier.labels)), raw_cells=options.raw_cells
        )
    bar = _BAR if to_file else _spelled(_BAR, _stdout_encoding(options))
    table = TableWriter(write, threshold_of, classifier.set_coverage, bar)
    if single or options.explain:
        return table
    lines = LineWriter(write, threshold_of)
    return FirstDecides(table, lines) if sources[0].kind == "stdin" else lines


def _stdout_encoding(options: Options) -> str:
    """Return UTF-8 for what programs read, the terminal's own for what people read."""
    return (sys.stdout.encoding or "utf-8") if options.layout == "human" else "utf-8"


def _spelled(text: str, encoding: str) -> str:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return "#"
    return text
