"""Jobs of Cloud Run that Cloud Scheduler starts: the monitor and retraining."""

from __future__ import annotations

from typing import Any

from classmark.cloud.environment import name_of
from classmark.cloud.google import Google, google_errors
from classmark.cloud.serving.manifests import Wanted, filled

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
