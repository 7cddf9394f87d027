"""``classmark runs``: what was trained, with which result; MLflow's page, uploads to W&B."""

from __future__ import annotations

import json
import os
import signal
import sys
import webbrowser
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from classmark.cli.options import AsJson
from classmark.cli.output import print_error, table
from classmark.cli.places import ANYWHERE, COPY, AnyPlace
from classmark.errors import ClassmarkError, InvalidScores, OutputBusy, TrackerDown, UsageError

if TYPE_CHECKING:
    from classmark.tracking.runs import RunSummary

app = typer.Typer(
    help="Show what was trained: MLflow's page, or lists that need none.",
    invoke_without_command=True,
    rich_markup_mode=None,
    add_completion=False,
)

RUNS_DIR = AnyPlace(Path("runs"))
_PORT = 5000
_SCORES = {"valid": "scores/model-valid.npz", "test": "scores/model-test.npz"}
_COLUMNS = ("name", "kind", "date", "dataset", "top-1", "raw ECE", "ECE", "seconds", "folder")

RunsDir = Annotated[
    Path, typer.Option("--runs-dir", metavar="DIR", help="Folder of runs, as `train` has it.")
]
AnyRunsDir = Annotated[
    AnyPlace,
    typer.Option(
        "--runs-dir", click_type=ANYWHERE, metavar="DIR", help="Folder of runs, as `train` has it."
    ),
]
Run = Annotated[str, typer.Argument(metavar="RUN", help="Name of a run's folder, or its path.")]
Port = Annotated[
    int, typer.Option(metavar="P", min=0, max=65535, help="Port of the page; 0 takes a free one.")
]
Browser = Annotated[
    bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")
]


@app.callback()
def open_by_default(context: typer.Context) -> None:
    """Show what was trained; without a command, `open`."""
    if context.invoked_subcommand is None:
        open_page()


@app.command("open", short_help="Open MLflow's page over the runs.")
def open_page(runs_dir: RunsDir = RUNS_DIR, port: Port = _PORT, browser: Browser = True) -> None:
    """Open MLflow's page over the runs, on this machine only, until Ctrl-C."""
    from classmark.tracking.page import serve_page

    before = signal.signal(signal.SIGTERM, _stop)
    try:
        with serve_page(runs_dir, port, _say_starting) as (address, process):
            typer.echo(f"{address} (Ctrl-C ends it)")
            sys.stdout.flush()
            if browser:
                webbrowser.open(address)
            process.wait()
    except KeyboardInterrupt:
        return
    finally:
        signal.signal(signal.SIGTERM, before)


def _say_starting() -> None:
    typer.echo("starting MLflow's page ...", err=True)


@app.command("list", short_help="List the finished runs.")
def list_all(runs_dir: AnyRunsDir = RUNS_DIR, as_json: AsJson = False) -> None:
    """List the finished runs, the newest first.

    top-1 and ECE are of the test split: raw ECE as the model was fitted, ECE as `classmark export`
    calibrates it. A run that cannot be read is one line on stderr, and the exit code is 1.
    """
    from classmark.tracking.runs import list_runs

    found, damaged = list_runs(runs_dir)
    runs: list[RunSummary] = []
    problems: list[ClassmarkError] = [*damaged]
    for run in found:
        try:
            runs.append(_measured(run))
        except InvalidScores as error:
            problems.append(error)
    if as_json:
        typer.echo(json.dumps([run.to_dict() for run in runs], indent=2))
    elif runs:
        typer.echo(table([_COLUMNS, *map(_row, runs)]))
    elif not problems:
        typer.echo(f"no run in {runs_dir}.", err=True)
    for problem in problems:
        print_error(f"error: {problem}")
    if problems:
        raise typer.Exit(1)


@app.command("show", short_help="Show one run.")
def show(run: Run, runs_dir: AnyRunsDir = RUNS_DIR, as_json: AsJson = False) -> None:
    """Show the settings and results of a run."""
    from classmark.tracking.runs import find_run

    found = _measured(find_run(run, runs_dir))
    config = found.config()
    if as_json:
        typer.echo(json.dumps({**found.to_dict(), "config": config}, indent=2))
        return
    facts = found.to_dict()
    metrics = facts.pop("metrics")
    rows = [
        *facts.items(),
        *((f"config.{key}", value) for key, value in config.items()),
        *((name, _number(value)) for name, value in metrics.items()),
    ]
    typer.echo(table((name, str(value)) for name, value in rows))


@app.command("compare", short_help="Show two runs side by side.")
def compare(
    run_a: Annotated[str, typer.Argument(metavar="A", help="A run: name or path.")],
    run_b: Annotated[str, typer.Argument(metavar="B", help="The other run.")],
    runs_dir: AnyRunsDir = RUNS_DIR,
    as_json: AsJson = False,
) -> None:
    """Show where the configurations of two runs differ, and their metrics side by side.

    `classmark evaluate compare` says whether a difference is more than chance.
    """
    from classmark.tracking.runs import find_run

    runs = [_measured(find_run(run, runs_dir)) for run in (run_a, run_b)]
    configs = [{**run.config(), "dataset_digest": run.record.dataset_digest} for run in runs]
    differs = {
        key: both
        for key, both in _pairs(*configs).items()
        if both[0] != both[1] and not key.startswith("tracker.")
    }
    metrics = _pairs(*(run.metrics for run in runs))
    if as_json:
        names = [run.name for run in runs]
        typer.echo(json.dumps({"runs": names, "config": differs, "metrics": metrics}, indent=2))
        return
    rows = [("", runs[0].name, runs[1].name, "B - A")]
    rows += [(key, _shown(a), _shown(b), "") for key, (a, b) in differs.items()]
    rows += [(key, _number(a), _number(b), _difference(a, b)) for key, (a, b) in metrics.items()]
    typer.echo(table(rows))


@app.command("sync", short_help="Upload the runs that W&B keeps on this machine.")
def sync(runs_dir: RunsDir = RUNS_DIR) -> None:
    """Upload the runs that Weights & Biases keeps on this machine, the oldest first.

    These are the runs that were made offline, and those that a server did not take whole. The API
    key is WANDB_API_KEY or what `wandb login` stored. A run that is not taken is one line on
    stderr, and the exit code is 1.
    """
    from classmark.tracking.wandb import WandbPlace, run_name, sync_run, waiting_runs

    waiting = waiting_runs(runs_dir)
    place = WandbPlace.beside(runs_dir, os.environ.get("WANDB_BASE_URL", ""))
    failed = False
    for folder in waiting:
        try:
            sync_run(place, folder)
        except (TrackerDown, OutputBusy) as error:
            failed = True
            print_error(f"error: {error}")
        else:
            typer.echo(f"{run_name(folder)} uploaded to {place.name}")
    if not waiting:
        typer.echo(f"no run in {runs_dir} waits to be uploaded.", err=True)
    if failed:
        raise typer.Exit(1)


@app.command("log-model", short_help="Log the bundle of a run as a model of MLflow.")
def log_model(
    run: Run,
    bundle: Annotated[
        Path, typer.Argument(click_type=COPY, metavar="BUNDLE", help="What `export` made of it.")
    ],
    runs_dir: RunsDir = RUNS_DIR,
    mlflow_uri: Annotated[
        str, typer.Option("--mlflow-uri", metavar="URI", help="MLflow, if not beside the runs.")
    ] = "",
) -> None:
    """Log the bundle of a run as a model of MLflow, and print its address.

    `mlflow models serve -m ADDRESS --env-manager local` then answers like `classmark serve`.
    """
    from classmark.storage import is_remote
    from classmark.tracking import MlflowStore
    from classmark.tracking.pyfunc import log_model as log
    from classmark.tracking.runs import find_run

    found = find_run(run, runs_dir)
    if is_remote(found.place) and not mlflow_uri:
        raise UsageError(f"{run} is in a bucket, where MLflow cannot be. Give --mlflow-uri URI.")
    store = (
        MlflowStore(mlflow_uri, "", "")
        if mlflow_uri
        else MlflowStore.beside(found.folder.resolve().parent, "")
    )
    typer.echo(log(store, found.name, found.record, bundle))


def _stop(signum: int, _frame: object) -> None:
    signal.signal(signum, signal.SIG_IGN)  # once is enough: what follows is the cleaning
    raise KeyboardInterrupt


def _measured(run: RunSummary) -> RunSummary:
    """Return a run with metrics: older ones have no ``metrics.csv``, only their scores."""
    if run.metrics:
        return run
    from classmark.evaluation import EvaluationConfig, evaluate_table
    from classmark.records import ScoreTable

    metrics: dict[str, float] = {}
    for split, name in _SCORES.items():
        if (run.folder / name).is_file():
            report = evaluate_table(
                ScoreTable.read(run.folder / name), config=EvaluationConfig(draws=0)
            )
            metrics |= {f"{split}/{key}": value.value for key, value in report.metrics.items()}
    return replace(run, metrics=metrics)


def _row(run: RunSummary) -> tuple[str, ...]:
    return (
        run.name,
        run.record.kind,
        run.record.date[:16],
        Path(run.record.dataset).name,
        _number(run.metrics.get("test/top_1")),
        _number(run.metrics.get("test/ece")),
        _number(run.metrics.get("test/ece_calibrated")),
        "-" if run.record.fit_seconds is None else f"{run.record.fit_seconds:.0f}",
        run.place,
    )


def _pairs(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {key: (a.get(key), b.get(key)) for key in {**a, **b}}


def _shown(value: object) -> str:
    return "-" if value is None else str(value)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _difference(a: float | None, b: float | None) -> str:
    return "" if a is None or b is None else f"{b - a:+.4f}"
