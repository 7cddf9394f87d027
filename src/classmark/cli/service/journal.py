"""``classmark journal``: what was predicted, where it is kept, and how to take it away."""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from classmark.cli.options import AsJson, RawCells
from classmark.cli.output import (
    check_ending,
    csv_mark,
    file_or_stdout,
    open_sink,
    print_error,
    printable,
)
from classmark.cli.places import ANYWHERE, AnyPlace
from classmark.cli.progress import progress_bar
from classmark.errors import ClassmarkError, InvalidJournal, UsageError

if TYPE_CHECKING:
    from classmark.journal import Place
    from classmark.journal.export import Format
    from classmark.journal.forget import Forgotten
    from classmark.journal.reading import JournalSummary, PredictionFilter

app = typer.Typer(
    help="Show, export and delete what the service predicted.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)

_FORMAT_OF: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
}

File = Annotated[
    str | None,
    typer.Option(
        "--journal",
        metavar="FILE|ADDRESS",
        help="First file of the journal, or a database: postgresql://USER@HOST/NAME.",
        show_default="CLASSMARK_HOME/journal/journal.sqlite",
    ),
]

Since = Annotated[
    str | None, typer.Option(metavar="T", help="From this time on: 2026-11-24, or an age: 7d.")
]
Until = Annotated[
    str | None, typer.Option(metavar="T", help="Before this time: 2026-11-24, or an age: 1d.")
]


@app.command("path")
def print_path(file: File = None, as_json: AsJson = False) -> None:
    """Print the file that the next prediction goes into; it need not exist yet.

    A database is printed without its password.
    """
    from classmark.journal.database import journal_files, live_file

    place = journal_place(file)
    files = journal_files(place) if isinstance(place, Path) else []
    live = live_file(place) if isinstance(place, Path) else place
    facts = {"path": str(live), "files": [str(file) for file in files]}
    typer.echo(json.dumps(facts) if as_json else facts["path"])


@app.command("status")
def show_status(file: File = None, as_json: AsJson = False) -> None:
    """Count what is in the journal."""
    from classmark.journal.reading import summarise

    summary = summarise(journal_place(file))
    typer.echo(json.dumps(asdict(summary), indent=2) if as_json else _as_text(summary))


@app.command("export")
def export(
    *,
    file: File = None,
    output: Annotated[
        AnyPlace | None,
        typer.Option(
            click_type=ANYWHERE, metavar="FILE", help="Write this file, completely or not at all."
        ),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(metavar="F", help="jsonl, csv or parquet; by the ending of FILE, else jsonl."),
    ] = None,
    raw_cells: RawCells = False,
    since: Since = None,
    until: Until = None,
    model: Annotated[
        str | None, typer.Option(metavar="M", help="Only of this model: NAME or NAME@VERSION.")
    ] = None,
) -> None:
    """Write the predictions with their feedback to a file, or to standard output.

    JSON lines hold all feedback, the columns of CSV and Parquet the latest. Times are UTC.
    """
    from classmark.journal.database import parts_of, with_logs
    from classmark.storage import check_apart

    path, target = existing_journal(file), file_or_stdout(output)
    files = [part for part in parts_of(path) if isinstance(part, Path)]
    check_apart((target,), [f for database in files for f in with_logs(database)])
    chosen = _format(format, target)
    wanted = filter_of(since, until, model)
    if raw_cells and chosen != "csv":
        raise UsageError("--raw-cells is for CSV only. Use --format csv with it.")
    n_written = _export(path, wanted, chosen, target, raw_cells=raw_cells)
    noun = "prediction" if n_written == 1 else "predictions"
    print_error(f"exported {n_written:,} {noun} to {output or 'standard output'}.")


@app.command("ship")
def ship(
    target: Annotated[
        str,
        typer.Argument(
            metavar="gs://BUCKET/PATH", help="Folder in a bucket that this journal has for itself."
        ),
    ],
    *,
    file: File = None,
    every_s: Annotated[
        float | None,
        typer.Option(
            metavar="S", min=0.1, help="Copy again and again, every S seconds, until SIGTERM."
        ),
    ] = None,
    until_eof: Annotated[
        bool, typer.Option("--until-eof", help="Stop when standard input ends, too.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write problems as JSON lines, like the service's log.")
    ] = False,
) -> None:
    """Copy the files of a journal into a bucket, once or until stopped.

    Only what has changed is copied, and once more when it is stopped. `classmark serve
    --journal-copies` runs this beside a service.
    """
    from classmark.journal.shipping import Shipper
    from classmark.storage import folder_place, is_remote

    place = journal_place(file)
    if not isinstance(place, Path):
        raise UsageError(f"{place} is a database, which has no files. Give the file of a journal.")
    if not is_remote(target):
        raise UsageError(f"{target} is not in a bucket. Give gs://BUCKET/PATH.")
    shipper = Shipper(place, folder_place(target))
    if every_s is None:
        if not place.is_file():
            raise InvalidJournal(f"there is no journal at {place}. Check --journal.")
        typer.echo(f"copied {shipper.ship()} files to {target}")
        return
    stop = stop_event(until_eof=until_eof)
    shipper.run(stop, every_s, log_problem if as_json else print_problem)


def stop_event(*, until_eof: bool) -> threading.Event:
    """Return what is set by a signal to stop, and by the end of standard input if wanted."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    def wait_for_end() -> None:
        sys.stdin.buffer.read()
        stop.set()

    if until_eof:
        threading.Thread(target=wait_for_end, daemon=True).start()
    return stop


def print_problem(error: ClassmarkError) -> None:
    """Say that a copy failed, on stderr."""
    print_error(f"not copied, and tried again: {error}")


def log_problem(error: ClassmarkError) -> None:
    """Say so as a JSON line."""
    from classmark.service.logs import log, set_up_logs

    set_up_logs()
    log("journal not copied", logging.ERROR, problem=str(error))


@app.command("forget")
def forget(
    *,
    file: File = None,
    prediction_id: Annotated[
        list[str] | None, typer.Option("--id", metavar="ID", help="A prediction; may be repeated.")
    ] = None,
    paper_id: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="All predictions of a paper; may be repeated."),
    ] = None,
    older_than: Annotated[
        str | None, typer.Option(metavar="AGE", help="All that is older: 90d, 12h, or a date.")
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Only say what would be deleted.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete predictions with their feedback and texts, at once and for good.

    No byte of them stays in the files of the journal; a database may keep them in its log and its
    backups. The service may run meanwhile.
    """
    from classmark.journal.forget import Forgettable
    from classmark.journal.forget import forget as forget_in
    from classmark.journal.reading import moment_of

    wanted = Forgettable(
        prediction_ids=tuple(prediction_id or ()),
        paper_ids=tuple(paper_id or ()),
        before_utc=None if older_than is None else moment_of(older_than, "--older-than"),
    )
    place = journal_place(file)
    done = forget_in(place, wanted, dry_run=dry_run)
    if as_json:
        typer.echo(json.dumps({"dry_run": dry_run, **asdict(done)}, default=str))
    else:
        typer.echo(_forgotten_in_words(done, place, dry_run=dry_run))


def _export(
    path: Place, wanted: PredictionFilter, chosen: Format, output: Path | None, *, raw_cells: bool
) -> int:
    """Write what is wanted; return how many predictions that were."""
    from classmark.journal import read_predictions
    from classmark.journal.export import text_of, write_parquet
    from classmark.storage import atomic_file

    n_written = 0
    with progress_bar("exporting", shown=output is not None, unit="predictions") as progress:
        if chosen == "parquet" and output is not None:
            with atomic_file(output, private=True) as binary:
                n_written = write_parquet(read_predictions(path, wanted), binary, progress)
        elif chosen != "parquet":
            with open_sink(output, private=True) as write:
                if chosen == "csv":
                    write(csv_mark(output, raw_cells=raw_cells))
                predictions = read_predictions(path, wanted)
                for text, n_predictions in text_of(predictions, chosen, raw_cells=raw_cells):
                    write(text)
                    n_written += n_predictions
                    progress.advance(n_predictions)
    return n_written


def journal_place(file: str | None) -> Place:
    """Return the file or database that --journal names, or the default file."""
    from classmark.journal import default_journal_path, place_of
    from classmark.journal.place import hide_password

    hide_password(file)
    return place_of(file) if file else default_journal_path()


def existing_journal(file: str | None) -> Place:
    """Return the place that --journal names.

    Raises:
        InvalidJournal: there is no journal.
    """
    from classmark.journal.database import parts_of

    path = journal_place(file)
    if not parts_of(path):
        raise InvalidJournal(
            f"there is no journal at {path}. Check --journal, or run `classmark serve` first."
        )
    return path


def _format(given: str | None, output: Path | None) -> Format:
    from classmark.journal.export import FORMATS

    ending = check_ending("--output", output, _FORMAT_OF)
    named = _FORMAT_OF.get(ending)
    wanted = given or named or "jsonl"
    chosen = next((known for known in FORMATS if known == wanted), None)
    if chosen is None:
        raise UsageError(f"unknown format {wanted!r}. Choose one of {', '.join(FORMATS)}.")
    if named not in (None, chosen):
        raise UsageError(
            f"--format {chosen} is not the format of --output {output}, which ends in {ending}. "
            "Leave --format out, or rename the file."
        )
    if chosen == "parquet" and output is None:
        raise UsageError("Parquet needs a file. Name one with --output.")
    return chosen


def filter_of(since: str | None, until: str | None, model: str | None) -> PredictionFilter:
    """Return which predictions --since, --until and --model mean."""
    from classmark.journal.reading import PredictionFilter, times_of

    since_utc, until_utc = times_of(since, until)
    name, _, version = (model or "").partition("@")
    return PredictionFilter(
        since_utc=since_utc,
        until_utc=until_utc,
        model=name or None,
        version=version or None,
    )


def _as_text(summary: JournalSummary) -> str:
    period = f"{summary.oldest_utc} to {summary.newest_utc}" if summary.newest_utc else "none"
    with_text = f", {summary.with_text:,} with their text" if summary.with_text else ""
    waiting = (
        f", {summary.waiting_feedback:,} without prediction" if summary.waiting_feedback else ""
    )
    files = f"{len(summary.files):,}, " if summary.files or not summary.bytes else ""
    rows = [
        ("path", summary.path),
        ("files" if files else "size", f"{files}{summary.bytes / 1e6:.1f} MB"),
        ("predictions", f"{summary.predictions:,}{with_text}"),
        ("feedback", f"{summary.feedback:,}{waiting}"),
        ("period", period),
        *((f"model {name}", f"{count:,}") for name, count in summary.models.items()),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{printable(name):<{width}}  {printable(value)}" for name, value in rows)


def _forgotten_in_words(done: Forgotten, place: Place, *, dry_run: bool) -> str:
    verb = "would forget" if dry_run else "forgot"
    n_files = len(done.files_changed) + len(done.files_deleted)
    where = f"{n_files} files" if isinstance(place, Path) else str(place)
    text = f"{verb} {done.predictions:,} predictions and {done.feedback:,} feedback in {where}"
    if done.files_deleted:
        text += f", {len(done.files_deleted)} of which held nothing else and are deleted"
    return text + "."
