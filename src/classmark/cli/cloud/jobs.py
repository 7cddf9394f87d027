"""``classmark cloud jobs``, ``logs``, ``fetch`` and ``cancel``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from classmark.cli.cloud.options import Environment, google_of
from classmark.cli.cloud.train import Output, Poll, follow_to_end, show_runs
from classmark.cli.options import AsJson

if TYPE_CHECKING:
    from classmark.cloud.google import Google
    from classmark.cloud.training.follow import Follow
    from classmark.cloud.training.job import JobState

Name = Annotated[str, typer.Argument(metavar="JOB", help="Name of a job.")]


def jobs(
    *,
    engine: Annotated[
        str, typer.Option(metavar="vertex|compute|all", help="Of whom; all asks both.")
    ] = "all",
    environment: Environment = None,
    as_json: AsJson = False,
) -> None:
    """List the training jobs, the newest first; of Compute Engine, those that have a machine."""
    from classmark.cloud.training.follow import engine_for
    from classmark.cloud.training.job import ENGINES, new_name

    google = google_of(environment)
    engines = ENGINES if engine == "all" else (engine,)
    found = [state for name in engines for state in engine_for(google, new_name(name)).jobs()]
    if as_json:
        typer.echo(json.dumps([asdict(state) for state in found]))
        return
    for state in found:
        typer.echo(f"{state.name:<29} {state.state:<10} {state.message}".rstrip())


def logs(
    name: Name,
    *,
    follow: Annotated[bool, typer.Option("--follow", help="Until the job has ended.")] = False,
    poll: Poll = 5.0,
    environment: Environment = None,
) -> None:
    """Print what a job has written; with --follow, until it has ended."""
    google = google_of(environment)
    state = _find(google, name)
    following = _follow(google, name, poll)
    if follow:
        follow_to_end(following, state)
    else:
        following.lines(state)


def fetch(
    name: Name,
    *,
    output: Output = Path("runs"),
    environment: Environment = None,
    as_json: AsJson = False,
) -> None:
    """Fetch the run of a job: finished, or to be resumed with `classmark train resume=DIR`."""
    google = google_of(environment)
    show_runs(google, _find(google, name), output, as_json=as_json)


def cancel(name: Name, *, environment: Environment = None) -> None:
    """End a job; what it has fitted stays in the bucket. Safe to repeat."""
    from classmark.cloud.training.follow import engine_for

    google = google_of(environment)
    state = _find(google, name)
    if not state.has_ended:
        engine_for(google, name).cancel(state)
    typer.echo(f"{name} {state.state if state.has_ended else 'CANCELLING'}")


def _find(google: Google, name: str) -> JobState:
    from classmark.cloud.training.follow import engine_for

    return engine_for(google, name).find(name)


def _follow(google: Google, name: str, poll: float) -> Follow:
    from classmark.cloud.training.follow import Follow, engine_for

    def say(line: str) -> None:
        typer.echo(line)

    return Follow(google=google, engine=engine_for(google, name), say=say, every_s=poll)
