"""Training jobs on Vertex AI."""

from __future__ import annotations

import json
import time
from functools import cached_property
from typing import Any

from classmark.cloud.google import Google, google_errors
from classmark.cloud.retries import TRIES, lost_answers, patient
from classmark.cloud.training.job import JOB_LABEL, Job, JobState, message_text, read_request
from classmark.errors import CloudNotFound

ROLE = "roles/aiplatform.user"
_PREFIX = "JOB_STATE_"
_CALL_S = 60.0
_END_S, _LOOK_S = 300.0, 0.5
"""How long the end of a cancelled job is waited for, and between two looks."""


class Vertex:
    """Runs jobs on Vertex AI; see ``Engine``."""

    def __init__(self, google: Google) -> None:
        self._google = google
        self._environment = google.environment

    def request_text(self, job: Job) -> str:
        """Return the request as JSON."""
        from google.cloud import aiplatform_v1

        request = aiplatform_v1.CreateCustomJobRequest(
            parent=self._environment.parent, custom_job=self._request(job)
        )
        return message_text(request)

    def submit(self, job: Job) -> JobState:
        """Submit a job; after a lost answer, one with its label is looked for first."""
        with google_errors("submitting the training job", role=self._roles):
            return self._create(job)

    def find(self, name: str) -> JobState:
        """Return a job."""
        found = self._list(f"labels.{JOB_LABEL}={name}", "reading the job")
        if not found:
            raise CloudNotFound(
                f"no job {name} is in {self._environment.parent}. See `classmark cloud jobs`."
            )
        return found[0]

    def refresh(self, state: JobState) -> JobState:
        """Return a job as it is now."""
        with google_errors("reading the job", role=ROLE):
            found = self._client.get_custom_job(name=state.path, timeout=_CALL_S)
        return _state_of(found)

    def jobs(self) -> list[JobState]:
        """Return the jobs of the environment."""
        labels = self._environment.labels.items()
        own = " AND ".join(f"labels.{key}={value}" for key, value in labels)
        found = self._list(f"{own} AND labels.{JOB_LABEL}:*", "listing the jobs")
        return sorted(found, key=lambda state: state.created, reverse=True)

    def cancel(self, state: JobState) -> None:
        """Ask for the end of a job, which takes a while."""
        with google_errors("cancelling the job", role=ROLE):
            self._client.cancel_custom_job(name=state.path, retry=patient(), timeout=_CALL_S)

    def remove(self, path: str) -> None:
        """End a job and delete it; its run folder stays.

        Raises:
            CloudRefused: it does not end.
        """
        with google_errors("removing the job", role=ROLE):
            state = _state_of(self._client.get_custom_job(name=path))
            if not state.has_ended:
                self._client.cancel_custom_job(name=path, retry=patient(), timeout=_CALL_S)
            deadline = time.monotonic() + _END_S
            while not state.has_ended and time.monotonic() < deadline:
                time.sleep(_LOOK_S)
                state = _state_of(self._client.get_custom_job(name=path))
            self._client.delete_custom_job(name=path, timeout=_CALL_S).result(timeout=_END_S)

    def log_filter(self, state: JobState) -> str:
        """Return the filter of its log."""
        job_id = state.path.rpartition("/")[2]
        return f'resource.type="ml_job" AND resource.labels.job_id="{job_id}"'

    @cached_property
    def _client(self) -> Any:  # noqa: ANN401 - a client of Google's
        from google.cloud import aiplatform_v1

        host = f"{self._environment.region}-aiplatform.googleapis.com"
        return self._google.client(aiplatform_v1.JobServiceClient, host)

    @property
    def _roles(self) -> str:
        account = self._environment.account("train")
        return f"{ROLE}, and roles/iam.serviceAccountUser on {account}"

    def _request(self, job: Job) -> Any:  # noqa: ANN401 - a message of Google's
        from google.cloud import aiplatform_v1

        values = {
            "name": job.name,
            "labels": job.labels(self._environment),
            "image": job.image,
            "arguments": job.arguments(self._environment),
            "timeout": f"{job.seconds}s",
            "strategy": "SPOT" if job.is_spot else "STANDARD",
            "account": self._environment.account("train"),
        }
        fields = read_request(f"vertex-{job.machine}.yaml", values)
        return aiplatform_v1.CustomJob.from_json(json.dumps(fields), ignore_unknown_fields=False)

    def _create(self, job: Job) -> JobState:
        request, parent = self._request(job), self._environment.parent
        for attempt in range(1, TRIES + 1):
            try:
                made = self._client.create_custom_job(
                    parent=parent, custom_job=request, timeout=_CALL_S
                )
                return _state_of(made)
            except lost_answers():
                time.sleep(0.5 * attempt)
                if found := self._list(f"labels.{JOB_LABEL}={job.name}", "reading the job"):
                    return found[0]
                if attempt == TRIES:
                    raise
        raise AssertionError("the last attempt returns or raises")  # pragma: no cover

    def _list(self, wanted: str, doing: str) -> list[JobState]:
        with google_errors(doing, role=ROLE):
            found = self._client.list_custom_jobs(
                request={"parent": self._environment.parent, "filter": wanted},
                timeout=_CALL_S,
            )
            return [_state_of(job) for job in found]


def machine_type(machine: str) -> str:
    """Return the machine type of ``cpu`` or ``gpu``, the same for both engines."""
    names = ("name", "labels", "image", "arguments", "timeout", "strategy", "account")
    fields = read_request(f"vertex-{machine}.yaml", dict.fromkeys(names, ""))
    return str(fields["jobSpec"]["workerPoolSpecs"][0]["machineSpec"]["machineType"])


def _state_of(job: Any) -> JobState:  # noqa: ANN401 - a message of Google's
    return JobState(
        name=job.display_name,
        state=job.state.name.removeprefix(_PREFIX),
        path=job.name,
        created=job.create_time.isoformat() if job.create_time else "",
        message=job.error.message,
    )
