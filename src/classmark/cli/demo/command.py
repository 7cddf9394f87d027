"""``classmark demo``: the whole path on a generated corpus, each command printed before it runs."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from classmark.cli.demo.running import Runner, serving, wait_for
from classmark.cli.demo.story import tell
from classmark.cli.train import require_training
from classmark.errors import StorageFailed, UsageError
from classmark.storage import recover_output, restored_on_failure, write_text

LEAST_PAPERS = 2_000
_MARK = ".classmark-demo"
_SENT = 400
EXAMPLE = (
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
    *,
    short: Annotated[
        bool, typer.Option("--short", help="Stop after the first drift report.")
    ] = False,
) -> None:
    """Invent papers, fit and serve a model, see drift, fit another model, and let it take over.

    Takes two or three minutes; with --short, one. The corpus is generated, so its numbers say
    nothing about real papers.
    """
    require_training()
    if papers < LEAST_PAPERS:
        raise UsageError(
            f"--papers {papers} is too few to learn from. Give at least {LEAST_PAPERS}."
        )
    recover_output(output)
    _refuse_what_others_made(output)
    with restored_on_failure(output):
        write_text(output / _MARK, "")  # the folder is the demo's own
        if short or not _can_serve():
            _make(output, papers)
        else:
            tell(output, papers)
    typer.echo(f"\nThe demo is complete. Everything it made is in {output}.")


def _can_serve() -> bool:
    """Return whether a service can run here; say what is missing if it cannot."""
    if find_spec("uvicorn") is None or find_spec("fastapi") is None:
        typer.echo("\nTo see it served and watched too, install classmark[serve].")
        return False
    if not hasattr(os, "fork"):
        typer.echo("\nIt can be served and watched on Linux and macOS, and in WSL.")
        return False
    return True


def _make(output: Path, papers: int) -> None:
    """Run every verb of the path, one after the other."""
    csv, dataset, bundle = output / "papers.csv", output / "dataset", output / "models" / "demo-1.0"
    run = Runner()
    run("dataset", "sample", "--papers", str(papers), "--csv", str(csv))
    run("dataset", "build", str(csv), "--output", str(dataset))
    runs = f"runs_dir={output / 'runs'}"
    run("train", "model=linear", f"dataset.path={dataset}", runs, "tracker=csv")
    newest = max((output / "runs").iterdir())
    report = output / "report.json"
    run("export", str(newest), "--output", str(bundle))
    run("evaluate", "--model", str(bundle), "--dataset", str(dataset), "--output", str(report))
    run("classify", "--model", str(bundle), "--explain", EXAMPLE)
    if _can_serve():
        _watch(run, output, bundle)


def _watch(run: Runner, output: Path, bundle: Path) -> None:
    """Look at what a service is asked: papers like those of the dataset, then other ones."""
    folder = output / "watch"
    shutil.rmtree(folder, ignore_errors=True)  # of an earlier demo
    folder.mkdir()
    journal, kept = folder / "journal.sqlite", str(folder / "monitor.sqlite")
    look = ["monitor", "run", "--model", str(bundle), "--journal", str(journal)]
    look += ["--history", kept, "--newest", str(_SENT), "--no-stream", "--fail-on", "never"]
    page = ["--html", str(output / "drift.html")]
    with serving(folder, "--model", str(bundle), "--journal", str(journal)) as url:
        send = ("dataset", "sample", "--send", url, "--rate", "1000")
        run(*send, "--papers", str(_SENT), "--seed", "51")
        wait_for(journal, _SENT)
        run(*look)
        # The oldest come first, and drift grows with time: the later half is looked at.
        run(*send, "--papers", str(2 * _SENT), "--seed", "12", "--drift", "1")
        wait_for(journal, 3 * _SENT)
        run(*look, *page)


def _refuse_what_others_made(output: Path) -> None:
    """Raise an error for a folder that the demo did not make, and for a file."""
    theirs = output.is_file() or (output.is_dir() and any(output.iterdir()))
    if theirs and not (output / _MARK).exists():
        raise StorageFailed(
            f"{output} exists and was not made by the demo. Choose another --output."
        )
