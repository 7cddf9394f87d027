"""``classmark cloud train``, and ``work``, which a job runs."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from classmark.cli.cloud.options import DryRun, Environment, google_of
from classmark.cli.options import AsJson

if TYPE_CHECKING:
    from classmark.cloud.google import Google
    from classmark.cloud.training.follow import Follow
    from classmark.cloud.training.job import Engine, Job, JobState
    from classmark.cloud.training.prices import PriceRange

Poll = Annotated[
    float, typer.Option("--poll", min=0.0, metavar="S", help="Seconds between two looks.")
]
Output = Annotated[
    Path, typer.Option(metavar="DIR", help="Folder that the run's folder is fetched into.")
]


def train(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE...",
            help="What `classmark train` takes, e.g. experiment=fast model.epochs=3.",
        ),
    ] = None,
    *,
    dataset: Annotated[
        str,
        typer.Option(
            metavar="gs://...|NAME", help="Dataset in a bucket, or its name below datasets/."
        ),
    ],
    engine: Annotated[
        str, typer.Option(metavar="vertex|compute", help="Who runs the job.")
    ] = "vertex",
    machine: Annotated[
        str, typer.Option(metavar="cpu|gpu", help="8 processors, or an L4 with 8 processors.")
    ] = "cpu",
    spot: Annotated[
        bool,
        typer.Option("--spot", help="Cheaper; if it is taken away, the job starts again."),
    ] = False,
    image: Annotated[
        str,
        typer.Option(
            metavar="TAG|DIGEST|ADDRESS", help="Image train; that of this version if not given."
        ),
    ] = "",
    budget: Annotated[
        float | None,
        typer.Option(min=0.0, metavar="USD", help="Refuse a job that may cost more."),
    ] = None,
    timeout: Annotated[
        float, typer.Option(metavar="HOURS", help="After which the job is ended.")
    ] = 12.0,
    zone: Annotated[
        str, typer.Option(metavar="ZONE", help="Of Compute Engine; zone b of the region.")
    ] = "",
    wait: Annotated[
        bool,
        typer.Option("--wait/--no-wait", help="Show its log, and fetch its run at the end."),
    ] = True,
    output: Output = Path("runs"),
    poll: Poll = 5.0,
    dry_run: DryRun = False,
    environment: Environment = None,
    as_json: AsJson = False,
) -> None:
    """Train on Google Cloud: a job on Vertex AI, or a machine that deletes itself.

    The dataset is in the bucket, and the run is kept there while it is fitted, so that a job that
    was interrupted resumes. The last line on stdout is the run's folder, or with --no-wait the job.
    """
    from classmark.cloud.environment import check_region
    from classmark.cloud.images import full_address, resolve
    from classmark.cloud.training.follow import engine_for
    from classmark.cloud.training.job import Job, new_name
    from classmark.cloud.training.places import require_dataset
    from classmark.cloud.training.prices import check_budget, price_of

    _check_overrides(overrides or [])
    google = google_of(environment)
    places = google.environment
    address = full_address(google, image or _own_tag(), "train")
    job = Job(
        name=new_name(engine),
        machine=machine,
        is_spot=spot,
        image=address,
        dataset=dataset if "/" in dataset else places.address("datasets", dataset),
        hours=timeout,
        overrides=tuple(overrides or []),
        zone=zone or f"{places.region}-b",
    )
    price = price_of(job)
    runner = engine_for(google, job.name)
    if dry_run:
        return _show_request(runner, job, price, as_json=as_json)
    check_budget(price, budget)
    check_region(places)
    job = _with_image(job, resolve(google, address, "train"))
    require_dataset(job.dataset)
    _require_secret(google, job)
    _say(f"{job.name}: {price}")
    state = runner.submit(job)
    if not wait:
        typer.echo(json.dumps(asdict(state)) if as_json else state.name)
        return None
    state = follow_to_end(_following(google, runner, poll), state, job)
    return show_runs(google, state, output, as_json=as_json)


def work(
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE...", help="Of `classmark train`.")
    ] = None,
    *,
    dataset: Annotated[str, typer.Option(metavar="DIR|gs://...", help="Dataset to fit on.")],
    run: Annotated[str, typer.Option(metavar="DIR|gs://...", help="Where its runs are kept.")],
    secret: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=projects/...", help="Variable that a version of a secret is read into."
        ),
    ] = None,
    every: Annotated[
        float, typer.Option(min=0.05, metavar="S", help="Seconds between two copies of the run.")
    ] = 15.0,
) -> None:
    """Fit inside a job, as `cloud train` submits it: the same command resumes after a restart."""
    from classmark.cloud.training.work import Work, do_work, parse_secrets

    code = do_work(
        Work(
            dataset=dataset,
            run=run,
            overrides=overrides or [],
            secrets=parse_secrets(secret or []),
            every_s=every,
            say=_say,
        )
    )
    raise typer.Exit(code)


def follow_to_end(follow: Follow, state: JobState, job: Job | None = None) -> JobState:
    """Return a job that has succeeded, after its log was shown.

    Raises:
        Interrupted: Ctrl-C; the job keeps running.
        CloudFailed: it has failed.
    """
    from classmark.cloud.training.follow import require_success
    from classmark.errors import Interrupted

    try:
        ended = follow.to_the_end(state, job)
    except KeyboardInterrupt as error:
        raise Interrupted(
            f"interrupted: the job {state.name} keeps running. Follow it with `classmark cloud "
            f"logs {state.name} --follow`, or end it with `classmark cloud cancel {state.name}`."
        ) from error
    require_success(ended)
    return ended


def show_runs(google: Google, state: JobState, output: Path, *, as_json: bool) -> None:
    """Fetch the runs of a job, and print their folders."""
    from classmark.cloud.training.job import run_place
    from classmark.cloud.training.places import fetch_runs

    runs = fetch_runs(run_place(google.environment, state.name), output)
    if as_json:
        typer.echo(json.dumps({**asdict(state), "runs": [str(run) for run in runs]}))
        return
    for run in runs:
        typer.echo(str(run))


def _following(google: Google, engine: Engine, poll: float) -> Follow:
    from classmark.cloud.training.follow import Follow

    return Follow(google=google, engine=engine, say=_say, every_s=poll)


def _say(line: str) -> None:
    from classmark.cli.output import print_error

    print_error(line)


def _own_tag() -> str:
    from classmark import __version__

    return f"v{__version__}"


def _with_image(job: Job, image: str) -> Job:
    from dataclasses import replace

    return replace(job, image=image)


def _show_request(engine: Engine, job: Job, price: PriceRange, *, as_json: bool) -> None:
    text = engine.request_text(job)
    if as_json:
        request: Any = json.loads(text)
        typer.echo(json.dumps({"request": request, "price": asdict(price)}))
        return
    typer.echo(text)
    _say(str(price))


def _require_secret(google: Google, job: Job) -> None:
    """Check that the key of W&B is there, if the job wants it."""
    from classmark.cloud.serving.secrets import list_secrets
    from classmark.cloud.training.job import wandb_secret
    from classmark.errors import CloudNotFound

    if not job.has_wandb:
        return
    wanted = google.environment.secret("wandb-key")
    if not any(found.name.endswith(f"/{wanted}") for found in list_secrets(google)):
        raise CloudNotFound(
            f"the secret {wandb_secret(google.environment)} is not set. Run `classmark cloud "
            "secret set wandb-key`."
        )


def _check_overrides(overrides: list[str]) -> None:
    """Refuse a key that is unknown before a job is paid for; where Hydra is not installed, later.

    Raises:
        InvalidConfig: a key is unknown, or a value is missing.
    """
    if find_spec("hydra") is None:
        return
    from classmark.pipeline.config import compose

    compose("train", [*overrides, "dataset.path=dataset"])
