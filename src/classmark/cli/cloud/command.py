"""``classmark cloud``: the group of its commands."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from classmark.cli.cloud import cost, jobs, watch
from classmark.cli.cloud.options import Environment, environment_of
from classmark.cli.cloud.remove import destroy, secret
from classmark.cli.cloud.serve import canary, deploy, promote, rollback, status
from classmark.cli.cloud.train import train, work
from classmark.cli.options import AsJson

app = typer.Typer(
    name="cloud",
    help="Train, serve and watch on Google Cloud, in the project that cloud.yaml names.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)
for command in (deploy, canary, promote, rollback, status, destroy, watch.alerts, cost.cost):
    app.command(command.__name__)(command)
app.command("train")(train)
app.command("jobs")(jobs.jobs)
app.command("logs")(jobs.logs)
app.command("fetch")(jobs.fetch)
app.command("cancel")(jobs.cancel)
app.command("work")(work)
app.command("alert-test")(watch.alert_test)
app.add_typer(secret)


@app.callback()
def cloud() -> None:
    """Train, serve and watch on Google Cloud, in the project that cloud.yaml names."""


@app.command()
def show(*, environment: Environment = None, as_json: AsJson = False) -> None:
    """Show what the file of the environment says, without asking Google."""
    found = environment_of(environment)
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2))
        return
    for name, value in {**asdict(found), "repository": found.images}.items():
        typer.echo(f"{name:<11} {value or 'none'}")
