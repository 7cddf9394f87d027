"""``classmark cloud deploy``, ``canary``, ``promote``, ``rollback`` and ``status``."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from classmark.cli.cloud.options import DryRun, Environment, google_of
from classmark.cli.options import AsJson

Tag = Annotated[str, typer.Option(metavar="NAME", help="Tag of the revision.")]
_PACKAGES = {"retrain-job": "train"}


def deploy(
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help="service, monitor, monitor-job or retrain-job.")
    ],
    *,
    image: Annotated[
        str, typer.Option(metavar="TAG|DIGEST|ADDRESS", help="Image of Artifact Registry.")
    ],
    model: Annotated[
        str, typer.Option(metavar="NAME@VERSION", help="This model, not the registry's champion.")
    ] = "",
    registry: Annotated[
        str, typer.Option(metavar="gs://...", help="Registry to follow; that of the bucket.")
    ] = "",
    keys: Annotated[
        bool, typer.Option("--keys", help="Require keys of the secret api-keys.")
    ] = False,
    dataset: Annotated[
        str, typer.Option(metavar="gs://...|NAME", help="Of the champion, for retrain-job.")
    ] = "",
    papers: Annotated[
        list[str] | None,
        typer.Option(metavar="gs://...", help="New papers, for retrain-job; may be repeated."),
    ] = None,
    least: Annotated[int | None, typer.Option("--min", min=0, help="Minimum instances.")] = None,
    most: Annotated[int | None, typer.Option("--max", min=1, help="Maximum instances.")] = None,
    traffic: Annotated[
        bool, typer.Option("--traffic/--no-traffic", help="Give it all requests once ready.")
    ] = True,
    tag: Annotated[str, typer.Option(metavar="NAME", help="Address of its own.")] = "",
    schedule: Annotated[
        str, typer.Option(metavar="CRON", help="When a job runs, in UTC.")
    ] = "0 6 * * *",
    dry_run: DryRun = False,
    environment: Environment = None,
    as_json: AsJson = False,
) -> None:
    """Deploy to Cloud Run: the service, the monitor, or a job on a schedule.

    The image is looked up and named by its digest first. Requests move to the new revision only
    once it is ready. Safe to repeat; of two at once, one is refused.
    """
    from classmark.cloud.environment import check_region
    from classmark.cloud.images import full_address, resolve
    from classmark.cloud.serving.jobs import deploy_job
    from classmark.cloud.serving.manifests import Wanted
    from classmark.cloud.serving.services import deploy as run
    from classmark.cloud.serving.services import request_text

    google = google_of(environment)
    if not dry_run:
        check_region(google.environment)
    package = _PACKAGES.get(kind, "service")
    address = full_address(google, image, package) if dry_run else resolve(google, image, package)
    wanted = Wanted(
        kind=kind,
        image=address,
        model=model,
        registry=registry,
        has_keys=keys,
        dataset=dataset,
        papers=tuple(papers or []),
        least=least,
        most=most,
    )
    if dry_run:
        typer.echo(request_text(google, wanted))
    elif kind.endswith("-job"):
        typer.echo(f"{deploy_job(google, wanted, schedule).name} at {schedule} UTC")
    else:
        _show(run(google, wanted, tag=tag, traffic=traffic), as_json=as_json)


def canary(
    *,
    percent: Annotated[int, typer.Option(metavar="P", help="Share of the requests, 1 to 99.")],
    tag: Tag = "canary",
    environment: Environment = None,
    as_json: AsJson = False,
) -> None:
    """Give the revision with the tag a share of the requests."""
    from classmark.cloud.serving.traffic import canary as run

    _show(run(google_of(environment), percent, tag), as_json=as_json)


def promote(
    *, tag: Tag = "canary", environment: Environment = None, as_json: AsJson = False
) -> None:
    """Give the revision with the tag all requests."""
    from classmark.cloud.serving.traffic import promote as run

    _show(run(google_of(environment), tag), as_json=as_json)


def rollback(
    *, tag: Tag = "canary", environment: Environment = None, as_json: AsJson = False
) -> None:
    """End a canary; without one, go back to the revision before."""
    from classmark.cloud.serving.traffic import rollback as run

    _show(run(google_of(environment), tag), as_json=as_json)


def status(*, environment: Environment = None, as_json: AsJson = False) -> None:
    """Show service, monitor and jobs: addresses, how requests are divided, last and next runs."""
    from dataclasses import asdict

    from classmark.cloud.serving.jobs import scheduled_jobs
    from classmark.cloud.serving.services import find_service, require_service

    google = google_of(environment)
    service, monitor = require_service(google, "service"), find_service(google, "monitor")
    jobs = scheduled_jobs(google)
    if as_json:
        others = {"monitor": monitor and _facts(monitor), "jobs": [asdict(job) for job in jobs]}
        typer.echo(json.dumps({**_facts(service), **others}))
        return
    _show(service, as_json=False)
    if monitor is not None:
        _show(monitor, as_json=False)
    for job in jobs:
        ran = f"{job.last} {job.last_utc}" if job.last else "never ran"
        timer = f"at {job.schedule} UTC, next {job.next_utc or 'never'}" if job.schedule else ""
        typer.echo(f"{job.name}  {ran}  {timer}".rstrip())


def _facts(service: Any) -> dict[str, Any]:  # noqa: ANN401 - a message of Google's
    rows = [{"revision": t.revision, "percent": t.percent, "tag": t.tag} for t in service.traffic]
    return {"name": service.name, "url": service.uri, "traffic": rows}


def _show(service: Any, *, as_json: bool) -> None:  # noqa: ANN401 - a message of Google's
    facts = _facts(service)
    if as_json:
        typer.echo(json.dumps(facts))
        return
    typer.echo(f"{facts['name']}  {facts['url']}")
    for row in facts["traffic"]:
        typer.echo(f"{row['percent']:>3} %  {row['revision']}  {row['tag']}".rstrip())
