"""``classmark train``: fit a model on a dataset; the run folder is the last line on stdout."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperCommand

from classmark.cli.output import print_error
from classmark.errors import MissingExtra

if TYPE_CHECKING:
    from typer._click import Context, HelpFormatter

    from classmark.pipeline.keys import ConfigKey

_RESULTS = {
    "top_1": "top-1",
    "top_5": "top-5",
    "macro_f1": "macro-F1",
    "ece": "ECE as fitted",
    "ece_calibrated": "calibrated",
}
# A line with \b alone keeps the lines of its paragraph as they are.
_HELP = """Fit a model on a dataset that `classmark dataset build` or `sample` wrote.

Three kinds of model: linear (the default; any CPU, minutes), transformer (a fine-tuned
encoder; needs the extra deep), cascade (a linear model first, a transformer where it is unsure):

\b
  classmark train dataset.path=DIR
  classmark train model=transformer dataset.path=DIR
  classmark train model=cascade model.deep=BUNDLE dataset.path=DIR

Resume the fit of a transformer that was stopped or killed, or choose keys by experiment:

\b
  classmark train resume=runs/transformer-STAMP.unfinished
  classmark train experiment=fast dataset.path=DIR

Resume a job that its platform has restarted with the same command; do nothing if it has finished:

\b
  classmark train --once model=transformer dataset.path=DIR runs_dir=runs/mine

Fit a transformer with several processes of this machine, or of several machines:

\b
  classmark train model=transformer model.devices=2 dataset.path=DIR
  torchrun --nnodes 2 ... -m classmark train model=transformer dataset.path=DIR

Choices: tracker=auto|csv|mlflow|wandb, several as tracker=[csv,mlflow,wandb]; experiment=wheel
or debug (linear), fast, balanced, optimized_distilbert, frozen_head, debug/overfit, debug/limit or
debug/profiler (transformer).
--show-config prints all keys with their values.
"""


class KeysCommand(TyperCommand):
    """Lists the keys of the configuration below the options."""

    @staticmethod
    def keys() -> dict[str, list[ConfigKey]]:
        """Return the keys by group."""
        from classmark.pipeline.keys import describe_keys

        return describe_keys()

    def format_epilog(self, ctx: Context, formatter: HelpFormatter) -> None:  # noqa: ARG002
        """Write the keys of each kind, with default and meaning."""
        try:
            require_training()
        except MissingExtra as error:
            formatter.write_paragraph()
            formatter.write_text(f"The keys are listed once the extra is installed: {error}")
            return
        for kind, keys in self.keys().items():
            with formatter.section(f"Keys of {kind}"):
                formatter.write_dl([(_key(key), key.meaning) for key in keys])


def _key(key: ConfigKey) -> str:
    return f"{key.name}={key.default}" if key.default else key.name


def register(app: typer.Typer) -> None:
    """Add the command ``train`` to an app."""
    app.command(name="train", help=_HELP, cls=KeysCommand)(train)


def train(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE...",
            help="Hydra overrides, e.g. model=transformer dataset.path=DIR model.epochs=3.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a line.")] = False,
    show: Annotated[
        bool, typer.Option("--show-config", help="Print the composed configuration and stop.")
    ] = False,
    once: Annotated[
        bool,
        typer.Option(
            "--once",
            help="Resume this fit if runs_dir has it unfinished; do nothing if it has finished.",
        ),
    ] = False,
) -> None:
    """Compose the configuration, fit, and print the run folder."""
    require_training()
    from classmark.cli.progress import StepLines
    from classmark.pipeline import compose_config, is_first_process, train_once
    from classmark.pipeline import train as fit
    from classmark.tracking.runs import read_summary

    words = overrides or []
    config = compose_config(words)
    if show:
        typer.echo(json.dumps(config.composed, indent=2))
        return
    with StepLines() as progress:
        command = shlex.join(["classmark", "train", *words])
        folder = (train_once if once else fit)(config, command=command, progress=progress)
    if not is_first_process():  # the first one writes the run, maybe on another machine
        return
    metrics = read_summary(folder).metrics
    if as_json:
        typer.echo(json.dumps({"run": str(folder), "metrics": metrics}))
        return
    for line in _results(metrics):
        print_error(line)
    typer.echo(str(folder))


def _results(metrics: Mapping[str, float]) -> list[str]:
    """Return the main numbers of a run, a line a split."""
    lines = []
    for split in ("valid", "test"):
        found = [
            f"{words} {metrics[f'{split}/{name}']:.3f}"
            for name, words in _RESULTS.items()
            if f"{split}/{name}" in metrics
        ]
        if found:
            lines.append(f"{split}: {', '.join(found)}")
    return lines


def require_training() -> None:
    """Check that the packages of the extra are installed.

    Raises:
        MissingExtra: names the command that installs them.
    """
    if any(find_spec(name) is None for name in ("polars", "pyarrow", "hydra", "scipy")):
        raise MissingExtra("training", "train")
