"""``classmark demo``: the whole path on a generated corpus, each command printed before it runs."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from classmark.cli.train import require_training
from classmark.errors import InvalidJournal, ListenFailed, StorageFailed, UsageError
from classmark.storage import recover_output, restored_on_failure, write_text

LEAST_PAPERS = 2_000
_MARK = ".classmark-demo"
_SENT = 400
_PATIENCE_S = 60.0
_EXAMPLE = (
    "Contrastive pretraining for low-resource speech recognition\n"
    "We pretrain an acoustic encoder on unlabelled audio with a contrastive objective and "
    "fine-tune it on ten minutes of transcribed speech. The word error rate falls by a third."
)


def register(app: typer.Typer) -> None:
    """Add the command ``demo`` to an app."""
    app.command(name="demo")(demo)


def demo(
    output: Annotated[
        Path, typer.Option("--output", metavar="DIR", help="Folder for everything it makes.")
    ] = Path("demo"),
    papers: Annotated[int, typer.Option("--papers", metavar="N", help="Papers to invent.")] = 6_000,
) -> None:
    """Invent papers, build a dataset, train, export, evaluate, classify, serve and watch.

    Takes a minute or so. The corpus is generated, so its numbers say nothing about real papers.
    """
    require_training()
    if papers < LEAST_PAPERS:
        raise UsageError(
            f"--papers {papers} is too few to learn from. Give at least {LEAST_PAPERS}."
        )
    recover_output(output)
    _refuse_what_others_made(output)
    with restored_on_failure(output):
        _make(output, papers)
    typer.echo(f"\nThe demo is complete. Everything it made is in {output}.")


def _make(output: Path, papers: int) -> None:
    """Run every verb of the path, and leave a mark that the folder is the demo's own."""
    write_text(output / _MARK, "")
    csv, dataset, bundle = output / "papers.csv", output / "dataset", output / "models" / "demo-1.0"
    run = _Runner()
    run("dataset", "sample", "--papers", str(papers), "--csv", str(csv))
    run("dataset", "build", str(csv), "--output", str(dataset))
    runs = f"runs_dir={output / 'runs'}"
    run("train", "model=linear", f"dataset.path={dataset}", runs, "tracker=csv")
    newest = max((output / "runs").iterdir())
    report = output / "report.json"
    run("export", str(newest), "--output", str(bundle))
    run("evaluate", "--model", str(bundle), "--dataset", str(dataset), "--output", str(report))
    run("classify", "--model", str(bundle), "--explain", _EXAMPLE)
    if find_spec("uvicorn") is None or find_spec("fastapi") is None:
        typer.echo("\nTo see it served and watched too, install classmark[serve].")
        return
    if not hasattr(os, "fork"):
        typer.echo("\nIt can be served and watched on Linux and macOS, and in WSL.")
        return
    _watch(run, output, bundle)


def _watch(run: _Runner, output: Path, bundle: Path) -> None:
    """Look at what a service is asked: papers like those of the dataset, then other ones."""
    folder = output / "watch"
    shutil.rmtree(folder, ignore_errors=True)  # of an earlier demo
    folder.mkdir()
    journal, kept = folder / "journal.sqlite", str(folder / "monitor.sqlite")
    look = ["monitor", "run", "--model", str(bundle), "--journal", str(journal)]
    look += ["--history", kept, "--newest", str(_SENT), "--no-stream", "--fail-on", "never"]
    page = ["--html", str(output / "drift.html")]
    with _serving(bundle, journal) as url:
        send = ("dataset", "sample", "--send", url, "--rate", "1000")
        run(*send, "--papers", str(_SENT), "--seed", "51")
        _wait_for(journal, _SENT)
        run(*look)
        # The oldest come first, and drift grows with time: the later half is looked at.
        run(*send, "--papers", str(2 * _SENT), "--seed", "12", "--drift", "1")
        _wait_for(journal, 3 * _SENT)
        run(*look, *page)


@contextmanager
def _serving(bundle: Path, journal: Path) -> Iterator[str]:
    """Yield the address of a service on a free port, which is stopped at the end."""
    words = ["serve", "--model", str(bundle), "--journal", str(journal)]
    words += ["--port", "0", "--workers", "1"]
    typer.echo(f"\n$ classmark {shlex.join(words)} &")
    # Other settings of a service on this machine would make this one another.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CLASSMARK_SERVE_")}
    command = [sys.executable, "-m", "classmark", *words, "--no-access-log"]
    with (
        (journal.parent / "serve.log").open("wb") as log,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        ) as process,
    ):
        try:
            line = process.stdout.readline() if process.stdout else ""
            found = re.search(r"http://\S+:\d+", line)
            if found is None:
                raise ListenFailed(f"the service does not start. See {log.name}.")
            typer.echo(line.rstrip())
            yield found[0]
        finally:
            process.terminate()
            process.wait()


def _wait_for(journal: Path, n: int) -> None:
    """Wait until a journal has so many predictions: a service writes them a moment later."""
    from classmark.journal.reading import summarise

    end = time.monotonic() + _PATIENCE_S
    while (found := summarise(journal).predictions) < n:
        if time.monotonic() > end:
            raise InvalidJournal(f"{journal} has {found} of {n} predictions. See serve.log.")
        time.sleep(0.05)


class _Runner:
    """Runs a verb in this process, as a user would type it."""

    def __call__(self, *arguments: str) -> None:
        from classmark.cli.app import load_verb

        typer.echo(f"\n$ classmark {shlex.join(arguments)}")
        verb, *rest = arguments
        command = load_verb(verb)
        # Not `command.main`: it makes an exit code of Ctrl-C, and the next verb would begin.
        with command.make_context(f"classmark {verb}", rest) as context:
            command.invoke(context)


def _refuse_what_others_made(output: Path) -> None:
    """Raise an error for a folder that the demo did not make, and for a file."""
    theirs = output.is_file() or (output.is_dir() and any(output.iterdir()))
    if theirs and not (output / _MARK).exists():
        raise StorageFailed(
            f"{output} exists and was not made by the demo. Choose another --output."
        )
