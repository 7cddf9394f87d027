"""Jobs of Cloud Run that Cloud Scheduler starts: the monitor and retraining."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from classmark.cloud.environment import name_of
from classmark.cloud.google import Google, google_errors
from classmark.cloud.serving.manifests import Wanted, filled
from classmark.cloud.serving.secrets import is_own

_DEPLOY_S = 300.0
_RUN = "https://run.googleapis.com/v2"


def deploy_job(google: Google, wanted: Wanted, schedule: str) -> Any:  # noqa: ANN401
    """Create or change a job and what starts it; returns the job.

    Args:
        google: clients.
        wanted: what is deployed.
        schedule: five fields of cron, in UTC.
    """
    from google.api_core.exceptions import NotFound
    from google.cloud import run_v2

    client = google.client(run_v2.JobsClient)
    environment, name = google.environment, name_of(wanted.kind)
    made = filled(environment, wanted, run_v2.Job)
    with google_errors(f"deploying the {wanted.kind}", role="roles/run.developer"):
        try:
            made.name = f"{environment.parent}/jobs/{name}"
            made.etag = client.get_job(name=made.name).etag
            operation = client.update_job(job=made)
        except NotFound:
            made.name = ""
            operation = client.create_job(parent=environment.parent, job_id=name, job=made)
        job = operation.result(timeout=_DEPLOY_S)
    _schedule(google, job.name, name, schedule)
    return job


@dataclass(frozen=True)
class Scheduled:
    """A job and what starts it.

    Attributes:
        name: of the job.
        schedule: five fields of cron, in UTC; "" if nothing starts it.
        next_utc: when it is started next, ISO 8601; "" if never.
        last: ``succeeded``, ``failed``, ``running``, ``cancelled``, or "" if it never ran.
        last_utc: when that began, ISO 8601; "" if it never ran.
    """

    name: str
    schedule: str
    next_utc: str
    last: str
    last_utc: str


def scheduled_jobs(google: Google) -> list[Scheduled]:
    """Return the jobs of the environment, by name."""
    from google.cloud import run_v2, scheduler_v1

    parent = google.environment.parent
    with google_errors("reading the jobs", role="roles/run.viewer"):
        found = google.client(run_v2.JobsClient).list_jobs(parent=parent)
        jobs = [job for job in found if is_own(google, job)]
    with google_errors("reading the schedules", role="roles/cloudscheduler.viewer"):
        timers = {
            timer.name: timer
            for timer in google.client(scheduler_v1.CloudSchedulerClient).list_jobs(parent=parent)
        }
    return sorted(
        (_scheduled(job, timers.get(job.name)) for job in jobs), key=lambda line: line.name
    )


def _scheduled(job: Any, timer: Any) -> Scheduled:  # noqa: ANN401 - messages of Google's
    last = job.latest_created_execution
    word = last.completion_status.name.removeprefix("EXECUTION_").lower()
    return Scheduled(
        name=job.name.rpartition("/")[2],
        schedule=timer.schedule if timer else "",
        next_utc=_time(timer.schedule_time) if timer and "schedule_time" in timer else "",
        last=word if last.name else "",
        last_utc=_time(last.create_time) if last.name else "",
    )


def _time(stamp: Any) -> str:  # noqa: ANN401 - a time of Google's
    return str(stamp.isoformat(timespec="seconds").replace("+00:00", "Z"))


def _schedule(google: Google, job: str, name: str, schedule: str) -> None:
    from google.api_core.exceptions import NotFound
    from google.cloud import scheduler_v1

    environment = google.environment
    client = google.client(scheduler_v1.CloudSchedulerClient)
    token = scheduler_v1.OAuthToken(service_account_email=environment.account("watch"))
    made = scheduler_v1.Job(
        name=f"{environment.parent}/jobs/{name}",
        schedule=schedule,
        time_zone="Etc/UTC",
        http_target=scheduler_v1.HttpTarget(
            uri=f"{_RUN}/{job}:run", http_method=scheduler_v1.HttpMethod.POST, oauth_token=token
        ),
    )
    with google_errors(f"scheduling {name}", role="roles/cloudscheduler.admin"):
        try:
            client.update_job(job=made)
        except NotFound:
            client.create_job(parent=environment.parent, job=made)
