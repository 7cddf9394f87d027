"""``classmark similar``: the papers of an index that are most similar to others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from classmark.cli.options import ColumnsOption, IndexedModel, TextsOrFiles, columns_option
from classmark.cli.output import open_sink, print_error, printable, stdout_encoding
from classmark.cli.places import COPY
from classmark.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from classmark.cli.classify.sources import Source
    from classmark.cli.output import Write
    from classmark.records import BadRecord, Paper
    from classmark.wire import Similar

_NONE = "no similar paper. The text has nothing in common with the index that the model knows."

Row = tuple["Paper | BadRecord", "tuple[Similar, ...] | None"]


def register(app: typer.Typer) -> None:
    """Add the command ``similar`` to an app."""
    app.command(name="similar")(similar)


def similar(
    ctx: typer.Context,
    inputs: TextsOrFiles = None,
    *,
    index: Annotated[
        Path,
        typer.Option(
            click_type=COPY, metavar="INDEX", help="Folder that `classmark index build` wrote."
        ),
    ],
    model: IndexedModel = None,
    top: Annotated[int, typer.Option(metavar="K", help="How many papers to find.")] = 5,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="One JSON object per line.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    columns: ColumnsOption = None,
) -> None:
    """Find the papers of an index that are most similar to a text, or to each paper of files.

    Exit code 1 if a record could not be read.
    """
    from classmark.cli.classify.sources import read_arguments
    from classmark.neighbours.index import MOST_SIMILAR

    if not 1 <= top <= MOST_SIMILAR:
        raise UsageError(f"--top must be within 1..{MOST_SIMILAR}, got {top}.")
    if jsonl and as_json:
        raise UsageError("--jsonl and --json exclude each other. Choose one.")
    sources = read_arguments(inputs or [])
    if not sources:
        typer.echo(ctx.get_help(), err=True)
        raise typer.Exit(2)
    rows, n_bad = _find(sources, index, model, top=top, columns=columns)
    with open_sink(None, encoding=stdout_encoding(for_people=not (jsonl or as_json))) as write:
        _write(rows, write, jsonl=jsonl, as_json=as_json)
    if n_bad:
        print_error(f"{n_bad} of {len(rows)} records could not be read.")
        raise typer.Exit(1)


def _find(
    sources: Sequence[Source], place: Path, model: str | None, *, top: int, columns: str | None
) -> tuple[list[Row], int]:
    """Return each record with its similar papers, and how many could not be read."""
    from classmark.cli.classify.command import CommandOptions
    from classmark.cli.classify.sources import read_records
    from classmark.cli.index.command import model_of
    from classmark.neighbours import Index
    from classmark.records import Paper

    found = Index.open(place)
    classifier = model_of(found.manifest, place, model)
    options = CommandOptions(
        top=top,
        threshold=None,
        explain=False,
        strict=False,
        layout="jsonl",
        columns=classifier.columns.overruled_by(columns_option(columns)),
        format="auto",
    )
    whole_labels = classifier.categories.space == "free"
    records = list(read_records(sources, options, _report, whole_labels=whole_labels))
    papers = [record for record in records if isinstance(record, Paper)]
    answers = iter(found.similar(classifier.vectors(papers), top))
    rows = [(r, next(answers) if isinstance(r, Paper) else None) for r in records]
    return rows, len(records) - len(papers)


def _report(line: str) -> None:
    print_error(f"error: {line}")


def _write(rows: Sequence[Row], write: Write, *, jsonl: bool, as_json: bool) -> None:
    from classmark.wire import to_json

    if as_json or jsonl:
        objects = [_published(record, papers) for record, papers in rows]
        lines = [to_json(value).decode() for value in objects]
        write(f"[{', '.join(lines)}]\n" if as_json else "".join(f"{line}\n" for line in lines))
        return
    for i, (record, papers) in enumerate(rows):
        if papers is None:
            continue
        if len(rows) > 1:
            gap = "\n" if i else ""
            write(printable(f"{record.id or i + 1}").join((gap, "\n")))
        write(_table(papers))


def _published(record: Paper | BadRecord, papers: tuple[Similar, ...] | None) -> object:
    if papers is None:
        return record.published()  # type: ignore[union-attr]
    return {"id": record.id, "similar": papers}


def _table(papers: Sequence[Similar]) -> str:
    """Return aligned lines: similarity, id, year, categories, title."""
    if not papers:
        return f"{_NONE}\n"
    cells = [
        (
            f"{p.similarity:.3f}",
            printable(p.id),
            str(p.year or ""),
            printable(" ".join(p.categories)),
        )
        for p in papers
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row, paper in zip(cells, papers, strict=True):
        aligned = "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        lines.append(f"{aligned}  {printable(paper.title or '')}".rstrip())
    return "\n".join(lines) + "\n"
