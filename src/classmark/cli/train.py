"""``classmark train``: fit a model on a dataset; the run folder is the last line on stdout."""

from __future__ import annotations

import json
import shlex
from importlib.util import find_spec
from typing import Annotated

import typer

from classmark.errors import MissingExtra

# A line with \b alone keeps the lines of its paragraph as they are.
_HELP = """Fit a model on a dataset that `classmark dataset build` or `sample` wrote.

Three kinds of model: linear (the default; any CPU, minutes), transformer (a fine-tuned
encoder; needs the extra deep), cascade (the fast model first, a deep bundle where it is unsure):

\b
  classmark train dataset.path=DIR
  classmark train model=transformer dataset.path=DIR
  classmark train model=cascade model.deep=BUNDLE dataset.path=DIR

Go on with a fit of the transformer that was stopped or killed, and choose keys by experiment:

\b
  classmark train resume=runs/transformer-STAMP.unfinished
  classmark train experiment=fast dataset.path=DIR

Keys: dataset.path, seed, runs_dir, resume, tracker=auto|csv|mlflow, model.KEY of the kind,
model.period_weights.PERIOD of the linear one. Experiments: wheel and debug of the linear one;
fast, balanced, optimized_distilbert, frozen_head, debug/overfit, debug/limit and
debug/profiler of the transformer. --show-config prints all keys with their values.
"""


def register(app: typer.Typer) -> None:
    """Add the command ``train`` to an app."""
    app.command(name="train", help=_HELP)(train)


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
) -> None:
    """Compose the configuration, fit, and print the run folder."""
    require_training()
    from classmark.cli.steps import Steps
    from classmark.pipeline import compose_config
    from classmark.pipeline import train as fit

    words = overrides or []
    config = compose_config(words)
    if show:
        typer.echo(json.dumps(config.composed, indent=2))
        return
    with Steps() as steps:
        folder = fit(
            config,
            command=shlex.join(["classmark", "train", *words]),
            on_step=steps.step,
            on_progress=steps.advance,
            on_note=steps.note,
            on_warning=steps.warn,
        )
    typer.echo(json.dumps({"run": str(folder)}) if as_json else str(folder))


def require_training() -> None:
    """Refuse at once where the packages of the extra are missing.

    Raises:
        MissingExtra: names the command that installs them.
    """
    if any(find_spec(name) is None for name in ("polars", "pyarrow", "hydra", "scipy")):
        raise MissingExtra("training", "train")
