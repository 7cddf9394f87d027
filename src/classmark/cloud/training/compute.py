"""Training jobs on machines of Compute Engine, which delete themselves."""

from __future__ import annotations

import json
import shlex
import time
import uuid
from contextlib import suppress
from functools import cached_property
from typing import Any

from classmark.cloud.google import Google, google_errors
from classmark.cloud.retries import TRIES, lost_answers, patient
from classmark.cloud.training.job import (
    JOB_LABEL,
    Job,
    JobState,
    message_text,
    read_request,
    run_place,
)
from classmark.cloud.training.places import place_of, read_exit, write_exit
from classmark.cloud.training.vertex import machine_type
from classmark.errors import CloudNotFound, CloudRefused

ROLE = "roles/compute.instanceAdmin.v1"
_CALL_S = 60.0
_GONE = "GONE"
_STATES = {"PROVISIONING": "PENDING", "STAGING": "PENDING", "RUNNING": "RUNNING"}
_SPARE_S, _SPARE_SHARE = 600, 0.1
"""The unit ends this much before Compute Engine deletes the machine, so that its files arrive."""
_TAKEN = "compute.instances.preempted"
_ENDINGS = {"0": "SUCCEEDED", "cancelled": "CANCELLED"}


class Compute:
    """Runs jobs on machines of Compute Engine; see ``Engine``."""

    def __init__(self, google: Google) -> None:
        self._google = google
        self._environment = google.environment
        self._project = google.environment.project

    def request_text(self, job: Job) -> str:
        """Return the request as JSON."""
        return message_text(self._insert(job, ""))

    def submit(self, job: Job) -> JobState:
        """Make the machine of a job; its name and the ID of the request make it once only."""
        account = self._environment.account("train")
        roles = f"{ROLE}, and roles/iam.serviceAccountUser on {account}"
        with google_errors("submitting the training job", role=roles):
            operation = self._create(job)
            if operation is not None:
                self._wait(job.zone, operation)
            return self._get(job.zone, job.name)

    def find(self, name: str) -> JobState:
        """Return a job: its machine, or what it has left in the bucket."""
        for state in self._machines(f'(labels.{JOB_LABEL}="{name}")'):
            return state
        state = self._after_end(JobState(name=name, state=_GONE, path="", created=""))
        if state.state == "FAILED" and not place_of(run_place(self._environment, name)).names():
            raise CloudNotFound(f"no job {name} is in {self._project}. See `classmark cloud jobs`.")
        return state

    def refresh(self, state: JobState) -> JobState:
        """Return a job as it is now."""
        from google.api_core.exceptions import NotFound

        _, _, _, zone, _, name = state.path.split("/")
        with google_errors("reading the job", role=ROLE), suppress(NotFound):
            return self._get(zone, name)
        return self._after_end(state)

    def jobs(self) -> list[JobState]:
        """Return the machines of jobs that exist; a job that has ended has none."""
        labels = self._environment.labels.items()
        own = (f'(labels.{key}="{value}")' for key, value in labels)
        found = self._machines(" AND ".join([*own, f"(labels.{JOB_LABEL}:*)"]))
        return sorted(found, key=lambda state: state.created, reverse=True)

    def cancel(self, state: JobState) -> None:
        """Delete the machine of a job."""
        write_exit(run_place(self._environment, state.name), "cancelled")
        if state.path:
            self.remove(state.path)

    def remove(self, path: str) -> None:
        """Delete a machine; the run folder of its job stays."""
        from google.api_core.exceptions import NotFound

        _, _, _, zone, _, name = path.split("/")
        with google_errors("deleting the machine", role=ROLE):
            try:
                self._instances.delete_unary(project=self._project, zone=zone, instance=name)
            except NotFound:
                return

    def log_filter(self, state: JobState) -> str:
        """Return the filter of its log: the container is named as the job."""
        field = 'jsonPayload."cos.googleapis.com/container_name"'
        log = f'logName="projects/{self._project}/logs/cos_containers"'
        return f'resource.type="gce_instance" AND {log} AND {field}="{state.name}"'

    @cached_property
    def _instances(self) -> Any:  # noqa: ANN401 - a client of Google's
        from google.cloud import compute_v1

        return self._google.rest_client(compute_v1.InstancesClient)

    @cached_property
    def _operations(self) -> Any:  # noqa: ANN401 - a client of Google's
        from google.cloud import compute_v1

        return self._google.rest_client(compute_v1.ZoneOperationsClient)

    def _insert(self, job: Job, request_id: str) -> Any:  # noqa: ANN401 - a message of Google's
        from google.cloud import compute_v1

        fields = read_request("compute.yaml", self._values(job))
        content = json.dumps(fields)
        return compute_v1.InsertInstanceRequest(
            project=self._project,
            zone=job.zone,
            request_id=request_id or None,
            instance_resource=compute_v1.Instance.from_json(content, ignore_unknown_fields=False),
        )

    def _values(self, job: Job) -> dict[str, Any]:
        return {
            "name": job.name,
            "labels": job.labels(self._environment),
            "zone": job.zone,
            "machineType": machine_type(job.machine),
            "account": self._environment.account("train"),
            "provisioning": "SPOT" if job.is_spot else "STANDARD",
            "timeout": str(job.seconds),
            "startup": self._startup(job),
        }

    def _startup(self, job: Job) -> str:
        spare = min(_SPARE_S, round(_SPARE_SHARE * job.seconds))
        values = {
            "name": job.name,
            "machine": job.machine,
            "registry": job.image.partition("/")[0],
            "container": shlex.join([job.image, *job.arguments(self._environment)]),
            "limit": str(job.seconds - spare),
        }
        fields = read_request("cloud-init.yaml", values)
        return "#cloud-config\n" + json.dumps(fields, indent=1)  # which is YAML too

    def _create(self, job: Job) -> str | None:
        """Return the name of the operation that makes the machine; None if it is there already."""
        from google.api_core.exceptions import Conflict

        request, has_lost = self._insert(job, str(uuid.uuid4())), False
        for attempt in range(1, TRIES + 1):
            try:
                made = self._instances.insert_unary(request=request, timeout=_CALL_S)
                return str(made.name)
            except Conflict:
                if not has_lost:
                    raise
                return None
            except lost_answers():
                has_lost = True
                if attempt == TRIES:
                    raise
                time.sleep(0.5 * attempt)
        raise AssertionError("the last attempt returns or raises")  # pragma: no cover

    def _wait(self, zone: str, operation: str) -> None:
        """Wait until a machine is there.

        Raises:
            CloudRefused: it cannot be made, for example because the zone has none left.
        """
        while True:
            found = self._operations.wait(
                project=self._project,
                zone=zone,
                operation=operation,
                retry=patient(),
                timeout=2 * _CALL_S,
            )
            if found.error.errors:
                said = "; ".join(error.message or error.code for error in found.error.errors)
                raise CloudRefused(
                    f"the machine cannot be made in {zone}: {said.rstrip('.')}. Try another "
                    "--zone, another --machine, or later."
                )
            if found.status.name == "DONE":
                return

    def _get(self, zone: str, name: str) -> JobState:
        found = self._instances.get(
            project=self._project, zone=zone, instance=name, timeout=_CALL_S
        )
        return self._state_of(found, zone)

    def _machines(self, wanted: str) -> list[JobState]:
        request = {"project": self._project, "filter": wanted}
        with google_errors("listing the jobs", role=ROLE):
            pages = self._instances.aggregated_list(request=request, timeout=_CALL_S)
            return [
                self._state_of(machine, scope.removeprefix("zones/"))
                for scope, inside in pages
                for machine in inside.instances
            ]

    def _state_of(self, machine: Any, zone: str) -> JobState:  # noqa: ANN401
        return JobState(
            name=machine.name,
            state=_STATES.get(machine.status, "ENDING"),
            path=f"projects/{self._project}/zones/{zone}/instances/{machine.name}",
            created=machine.creation_timestamp,
        )

    def _after_end(self, state: JobState) -> JobState:
        """Return the state of a job whose machine has gone."""
        ending = read_exit(run_place(self._environment, state.name))
        message = f"its command ended with {ending}" if ending not in ("", *_ENDINGS) else ""
        kind = _ENDINGS.get(ending, "FAILED")
        if not ending and self._was_taken(state):
            kind = "PREEMPTED"
        elif not ending:
            message = "its machine was deleted at its limit, or before its container ran"
        return JobState(
            name=state.name, state=kind, path=state.path, created=state.created, message=message
        )

    def _was_taken(self, state: JobState) -> bool:
        if not state.path:
            return False
        zone = state.path.split("/")[3]
        target = f"/instances/{state.name}"
        wanted = f'(operationType="{_TAKEN}") AND (targetLink:"{target}")'
        request = {"project": self._project, "zone": zone, "filter": wanted}
        with google_errors("reading what happened to the machine", role=ROLE):
            found = self._operations.list(request=request, timeout=_CALL_S)
            return any(True for _ in found)
