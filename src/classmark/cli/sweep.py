"""``classmark sweep``: many fits with other options; the study's folder is the last line."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer.core import TyperGroup

from classmark.cli.options import AsJson, Overrides
from classmark.cli.output import file_or_stdout, open_sink, print_error
from classmark.cli.places import ANYWHERE, COPY, AnyPlace
from classmark.cli.train import KeysCommand, require_training
from classmark.errors import MissingExtra

if TYPE_CHECKING:
    from typer._click import Context

    from classmark.pipeline.keys import ConfigKey
    from classmark.pipeline.sweep import SweepPlan
    from classmark.records import SweepReport

_HELP = """Search the options of a fit; `classmark sweep KEY=VALUE...` is `classmark sweep run`.

The values are compared on the valid split, never on the test split.
"""
_RUN_HELP = """Fit trial after trial until the budget is used; resume a study that exists.

\b
  classmark sweep sweep=fast dataset.path=DIR
  classmark sweep sweep=transformer sweep.trials=20 sweep.minutes=120 dataset.path=DIR
  classmark sweep sweep.space.model.rate.high=1.0 sweep.name=wider dataset.path=DIR

The study is a folder in runs_dir. Run the same command again to resume it, and `classmark sweep
agent` to work on it with several processes. best.yaml in it is an experiment:

\b
  classmark train experiment=runs/sweep-fast/best.yaml dataset.path=DIR
"""


class _Group(TyperGroup):
    """Runs one of its commands if the first word does not name one."""

    default_command = "run"

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Put the command before overrides and options."""
        if args and args[0] not in {*self.commands, "--help", "-h"}:
            args = [self.default_command, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Group,
    name="sweep",
    help=_HELP,
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)


class _Command(KeysCommand):
    """Lists the keys of a sweep below the options."""

    @staticmethod
    def keys() -> dict[str, list[ConfigKey]]:
        """Return the keys by group."""
        from classmark.pipeline.sweep import describe_sweep_keys

        return describe_sweep_keys()


Study = Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of the study.")]
Dataset = Annotated[
    Path | None,
    typer.Option(
        click_type=COPY,
        metavar="DIR",
        help="The study's dataset, if it is elsewhere on this machine.",
    ),
]


@app.command(help=_RUN_HELP, cls=_Command)
def run(
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Begin a study, or resume it."""
    _require_sweep()
    from classmark.pipeline.sweep import compose_sweep

    words = overrides or []
    plan = compose_sweep(words)
    _print(plan, _work(plan, shlex.join(["classmark", "sweep", *words])), as_json=as_json)


@app.command()
def agent(
    study: Study,
    dataset: Dataset = None,
    trials: Annotated[
        int | None, typer.Option(metavar="N", help="Trials of the study by all processes.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(metavar="N", help="Minutes after which no trial is begun.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Work on a study that `classmark sweep` began, with it or after it.

    Any number of processes may do so, also on other machines that see the folder.
    """
    _require_sweep()
    from classmark.pipeline.sweep import read_study_plan

    plan = read_study_plan(study, dataset)
    budget = replace(
        plan.sweep,
        trials=plan.sweep.trials if trials is None else trials,
        minutes=plan.sweep.minutes if minutes is None else minutes,
    )
    plan = replace(plan, sweep=budget)
    command = shlex.join(["classmark", "sweep", "agent", str(study)])
    _print(plan, _work(plan, command, joins=True), as_json=as_json)


@app.command()
def report(
    study: Study,
    dataset: Dataset = None,
    as_json: AsJson = False,
) -> None:
    """Show what a study found, and write its sweep.json, report.html and best.yaml."""
    _require_sweep()
    from classmark.pages.sweep import sweep_text
    from classmark.pipeline.sweep import read_study_plan
    from classmark.pipeline.sweep.run import report_study

    plan = read_study_plan(study, dataset)
    found = report_study(plan)
    if as_json:
        _print(plan, found, as_json=True)
    else:
        typer.echo(sweep_text(found))


@app.command(cls=_Command)
def export(
    overrides: Overrides = None,
    format_: Annotated[
        Literal["wandb"], typer.Option("--format", help="wandb: a file for `wandb sweep`.")
    ] = "wandb",
    output: Annotated[
        AnyPlace | None,
        typer.Option(click_type=ANYWHERE, metavar="FILE", help="File to write.  [default: stdout]"),
    ] = None,
) -> None:
    """Write the space for another program that chooses the values.

    W&B's own agents then call `classmark train` with them.
    """
    del format_
    require_training()
    from classmark.pipeline.sweep import compose_sweep
    from classmark.pipeline.sweep.experiment import wandb_text
    from classmark.storage import check_apart

    given = dict(override.partition("=")[::2] for override in overrides or ())
    if output and "experiment" in given:
        check_apart((output,), (Path(given["experiment"]),))
    text = wandb_text(compose_sweep(overrides or []))
    with open_sink(file_or_stdout(output)) as write:
        write(text)


def _work(plan: SweepPlan, command: str, *, joins: bool = False) -> SweepReport:
    from classmark.cli.progress import StepLines
    from classmark.pipeline.sweep.run import sweep

    with StepLines() as progress:
        return sweep(plan, command=command, joins=joins, progress=progress)


def _print(plan: SweepPlan, found: SweepReport, *, as_json: bool) -> None:
    from classmark.pipeline.sweep.experiment import BEST_FILE

    best = found.best
    experiment = None if best is None else str(plan.folder / BEST_FILE)
    if as_json:
        about = {"study": str(plan.folder), "experiment": experiment}
        typer.echo(json.dumps({**about, **found.to_dict()}))
        return
    if best is not None:
        than = "" if found.default is None else f", before the sweep {found.default.value:.4f}"
        print_error(f"best: {found.metric} {best.value:.4f} on valid (trial {best.number}){than}")
        print_error(f"classmark train experiment={shlex.quote(str(experiment))} dataset.path=DIR")
    typer.echo(str(plan.folder))


def _require_sweep() -> None:
    """Check that the packages of the extra are installed.

    Raises:
        MissingExtra: names the command that installs them.
    """
    require_training()
    if find_spec("optuna") is None:
        raise MissingExtra("classmark sweep", "sweep")
