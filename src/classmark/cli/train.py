"""``classmark train``: fit a model on a dataset; the run folder is the last line on stdout."""

from __future__ import annotations

import json
import shlex
from importlib.util import find_spec
from typing import Annotated

import typer

from classmark.errors import MissingExtra


def register(app: typer.Typer) -> None:
    """Add the command ``train`` to an app."""
    app.command(name="train")(train)


def train(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE...",
            help="Hydra overrides, e.g. dataset.path=DIR model.epochs=3 experiment=wheel.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a line.")] = False,
    show: Annotated[
        bool, typer.Option("--show-config", help="Print the composed configuration and stop.")
    ] = False,
) -> None:
    """Fit a model on a dataset that `classmark dataset build` or `sample` wrote.

    Keys: model=linear|transformer, dataset.path, seed, runs_dir, resume=RUN (goes on with a run of
    the transformer that was broken off), model.KEY, model.period_weights.PERIOD,
    tracker=auto|csv|mlflow, experiment=wheel|debug and, with the transformer, experiment=fast|
    balanced|optimized_distilbert|frozen_head|debug/overfit|debug/limit|debug/profiler;
    --show-config prints all of them with their values.
    """
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
