"""``classmark profile``: run a command under a profiler, and write what it found into a folder."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from classmark.cli.output import print_error
from classmark.cli.places import COPY
from classmark.errors import Interrupted, UsageError

if TYPE_CHECKING:
    pass

_SHOWN = 8
_OUTPUT_FILE = "output.txt"

app = typer.Typer(
    name="profile",
    help="Run a command under a profiler: flame graph, functions by cost, peak memory.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)

Arguments = Annotated[
    list[str],
    typer.Argument(metavar="[--] ARGUMENTS...", help="Of the command; after -- options too."),
]
Output = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder to write; profiles/COMMAND-TIME if not given."),
]
Rate = Annotated[int, typer.Option(metavar="N", help="Samples a second (cpu).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print profile.json instead of the folder.")]
What = Annotated[
    Literal["cpu", "memory"],
    typer.Option(help="cpu: what runs. memory: what uses the memory at its peak."),
]
WhatOfFit = Annotated[
    Literal["cpu", "memory", "torch"],
    typer.Option(help="As of classify; torch: the operations of a transformer's steps."),
]
_RATE = 100
_STDERR = 2


@app.command()
def classify(
    arguments: Arguments,
    *,
    profiler: What = "cpu",
    rate: Rate = _RATE,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Classify papers under a profiler: classmark profile classify -- FILES --output FILE.

    Without --output FILE the answers are in output.txt of the folder. Ctrl-C ends the command, and
    what was found until then is written.
    """
    with _folder_for("classify", output) as folder:
        outcome = _run_here(folder, ["classify", *arguments], profiler, rate)
    _show(folder, as_json=as_json)
    if outcome is not None:
        raise outcome


@app.command()
def train(
    arguments: Arguments,
    *,
    profiler: WhatOfFit = "cpu",
    rate: Rate = _RATE,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Fit a model under a profiler: classmark profile train dataset.path=DIR.

    The same as classmark train profiler=cpu profiler.folder=DIR ...; the folder of the run is named
    on stderr. Ctrl-C ends the fit, and what was found until then is written.
    """
    from classmark.cli.train import require_training

    require_training()
    with _folder_for("train", output) as folder:
        chosen = [f"profiler={profiler}", f"profiler.rate={rate}", f"profiler.folder={folder}"]
        outcome: BaseException | None = None
        try:
            with _stdout_to(_STDERR):
                _run_verb("train", [*arguments, *chosen])
        except (KeyboardInterrupt, Interrupted) as error:
            outcome = error
    _show(folder, as_json=as_json)
    if outcome is not None:
        raise outcome


@app.command()
def serve(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- OPTIONS...]", help="Options of serve, e.g. -- --model deep."),
    ] = None,
    *,
    papers: Annotated[
        Path | None,
        typer.Option(
            click_type=COPY, metavar="FILE", help="Papers to send; invented ones if not given."
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(metavar="S", help="How long to send.")] = 10.0,
    connections: Annotated[
        int, typer.Option(metavar="N", help="Connections, each with one request at a time.")
    ] = 8,
    batch: Annotated[int, typer.Option(metavar="N", help="Papers in a request.")] = 1,
    rate: Rate = _RATE,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Start the service, put it under load, and profile its processes.

    One worker, unless the options say how many. Predictions go to a journal that is removed at the
    end. Ctrl-C ends the load, and what was found until then is written.
    """
    if seconds <= 0 or connections < 1 or batch < 1:
        raise UsageError("--seconds must be above 0, --connections and --batch at least 1.")
    from classmark.cli.profile.service import Load, bodies_of, profile_service

    load = Load(bodies=bodies_of(papers, batch), connections=connections, seconds=seconds)
    with _folder_for("serve", output) as folder:
        interrupted = profile_service(folder, arguments or [], load, rate)
    _show(folder, as_json=as_json)
    if interrupted:
        raise KeyboardInterrupt


@contextmanager
def _folder_for(verb: str, output: Path | None) -> Iterator[Path]:
    """Yield the folder to write, which no other process may write meanwhile.

    Raises:
        StorageFailed: it cannot be written, or is there already.
        OutputBusy: another process writes it.
        MissingExtra: pages cannot be written.
    """
    from classmark.profiling import check_folder, check_profiler
    from classmark.storage import locked_folder

    check_profiler("cpu")
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    folder = output or Path("profiles") / f"{verb}-{stamp}"
    check_folder(folder)
    is_first = not folder.parent.exists()
    try:
        with locked_folder(folder.with_name(f".{folder.name}.profiling")):
            yield folder
    finally:
        if is_first:
            with suppress(OSError):  # it holds the profile
                folder.parent.rmdir()


def _run_here(
    folder: Path, words: list[str], kind: Literal["cpu", "memory"], rate: int
) -> BaseException | None:
    """Run a command in this process; return how it ended, None if well.

    Raises:
        ClassmarkError: of the command; nothing is written then.
    """
    from classmark.journal.place import without_passwords
    from classmark.pages.profile import write_profile
    from classmark.profiling import Profiler
    from classmark.profiling.config import ProfilerConfig
    from classmark.storage import atomic_folder

    config = ProfilerConfig(kind=kind, rate=rate, folder=None)
    command = without_passwords(shlex.join(["classmark", *words]))
    profiler = Profiler(kind, config.rate, command)
    outcome: BaseException | None = None
    with atomic_folder(folder) as temporary:
        with (temporary / _OUTPUT_FILE).open("wb") as file, _stdout_to(file.fileno()):
            try:
                with profiler:
                    _run_verb(words[0], words[1:])
            except (typer.Exit, KeyboardInterrupt, Interrupted) as error:
                outcome = error
        interrupted = outcome is not None and not isinstance(outcome, typer.Exit)
        write_profile(temporary, profiler.profile(interrupted=interrupted))
    return outcome


def _run_verb(verb: str, arguments: list[str]) -> None:
    from classmark.cli.app import load_verb

    command = load_verb(verb)
    # Not `command.main`: it makes an exit code of Ctrl-C.
    with command.make_context(f"classmark {verb}", arguments) as context:
        command.invoke(context)


@contextmanager
def _stdout_to(handle: int) -> Iterator[None]:
    """Send what the block prints to another open file."""
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(handle, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(saved, 1)
        os.close(saved)


def _show(folder: Path, *, as_json: bool) -> None:
    """Print the functions that cost most to stderr, and the folder or its JSON to stdout."""
    from classmark.records.experiments import ProfileReport

    path = folder / ProfileReport.FILE
    report: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    for line in _lines(report) if report else ():
        print_error(line)
    typer.echo(json.dumps({"folder": str(folder), **report}) if as_json else str(folder))


def _lines(report: dict[str, Any]) -> Iterator[str]:
    total = report["total"] or 1
    state = "stopped" if report["interrupted"] else "done"
    yield (
        f"{state} after {report['seconds']:.1f} s: {report['cpu_seconds']:.1f} CPU s, at most "
        f"{report['peak_mb']:.0f} MB resident"
    )
    if report["load"]:
        yield ", ".join(f"{k.replace('_', ' ')}: {v}" for k, v in report["load"].items())
    yield f"{'own':>7} {'total':>7}  function"
    for cost in report["functions"][:_SHOWN]:
        own, all_of_it = 100 * cost["own"] / total, 100 * cost["total"] / total
        yield f"{own:5.1f} % {all_of_it:5.1f} %  {cost['name']}  {cost['file']}"
