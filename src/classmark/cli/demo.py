"""``classmark demo``: the whole path on a generated corpus, each command printed before it runs."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from classmark.cli.train import require_training
from classmark.errors import StorageFailed, UsageError
from classmark.storage import recover_output, restored_on_failure, write_text

LEAST_PAPERS = 1_000
_MARK = ".classmark-demo"
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
    """Invent papers, build a dataset, train, export, evaluate, classify: in a minute or so.

    The corpus is generated, so its numbers say nothing about real papers.
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
