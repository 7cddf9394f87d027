"""Cloud Run, Scheduler, Secret Manager and Artifact Registry: state, etags, operations."""

from __future__ import annotations

from typing import Any

import grpc
from google.cloud import artifactregistry_v1 as registry
from google.cloud import run_v2, scheduler_v1
from google.cloud import secretmanager_v1 as manager
from google.protobuf import empty_pb2
from google_server import Call, GoogleServer, Refusal

CODE = grpc.StatusCode


class Kept:
    """Things by name."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}
        self.server: GoogleServer | None = None
        self._changes = 0

    def _get(self, name: str) -> Any:
        if name not in self.kept:
            raise Refusal(CODE.NOT_FOUND, f"{name} does not exist")
        return self.kept[name]

    def _new(self, name: str, made: Any) -> Any:
        if name in self.kept:
            raise Refusal(CODE.ALREADY_EXISTS, f"{name} already exists")
        return self._put(name, made)

    def _put(self, name: str, made: Any) -> Any:
        self._changes += 1
        made.name = name
        made.etag = f'"{self._changes}"'
        self.kept[name] = made
        return made

    def _changed(self, made: Any) -> Any:
        if made.etag and made.etag != self._get(made.name).etag:
            raise Refusal(CODE.ABORTED, f"{made.name} was changed: the etag does not match")
        return self._put(made.name, made)

    def _operation(self, made: Any) -> Any:
        assert self.server is not None
        return self.server.operation(made, made)


class Services(Kept):
    """Services of Cloud Run.

    Attributes:
        broken: images whose container does not become ready.
        revisions: those that were ever made, by name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.broken: set[str] = set()
        self.revisions: dict[str, run_v2.Revision] = {}

    def create_service(self, request: run_v2.CreateServiceRequest, _: Call) -> Any:
        made = run_v2.Service(request.service, uri=f"https://{request.service_id}.run.app")
        return self._done(self._new(f"{request.parent}/services/{request.service_id}", made))

    def get_service(self, request: run_v2.GetServiceRequest, _: Call) -> Any:
        return self._get(request.name)

    def list_services(self, request: run_v2.ListServicesRequest, _: Call) -> Any:
        return run_v2.ListServicesResponse(services=list(self.kept.values()))

    def update_service(self, request: run_v2.UpdateServiceRequest, _: Call) -> Any:
        return self._done(self._changed(request.service))

    def delete_service(self, request: run_v2.DeleteServiceRequest, _: Call) -> Any:
        self._get(request.name)
        return self._operation(self.kept.pop(request.name))

    def get_revision(self, request: run_v2.GetRevisionRequest, _: Call) -> Any:
        if request.name not in self.revisions:
            raise Refusal(CODE.NOT_FOUND, f"{request.name} does not exist")
        return self.revisions[request.name]

    def _done(self, made: Any) -> Any:
        assert self.server is not None
        name = f"{made.name}/revisions/{made.template.revision}"
        self.revisions[name] = run_v2.Revision(name=name)
        image = made.template.containers[0].image
        failed = Refusal(CODE.FAILED_PRECONDITION, f"the container of {image} did not become ready")
        return self.server.operation(made, made, lambda: failed if image in self.broken else made)


class Jobs(Kept):
    """Jobs of Cloud Run."""

    def create_job(self, request: run_v2.CreateJobRequest, _: Call) -> Any:
        return self._operation(self._new(f"{request.parent}/jobs/{request.job_id}", request.job))

    def get_job(self, request: run_v2.GetJobRequest, _: Call) -> Any:
        return self._get(request.name)

    def list_jobs(self, request: run_v2.ListJobsRequest, _: Call) -> Any:
        return run_v2.ListJobsResponse(jobs=list(self.kept.values()))

    def update_job(self, request: run_v2.UpdateJobRequest, _: Call) -> Any:
        return self._operation(self._changed(request.job))

    def delete_job(self, request: run_v2.DeleteJobRequest, _: Call) -> Any:
        self._get(request.name)
        return self._operation(self.kept.pop(request.name))


class Scheduler(Kept):
    """Schedules; they have no etags."""

    def create_job(self, request: scheduler_v1.CreateJobRequest, _: Call) -> Any:
        return self.kept.setdefault(request.job.name, request.job)

    def update_job(self, request: scheduler_v1.UpdateJobRequest, _: Call) -> Any:
        self._get(request.job.name)
        self.kept[request.job.name] = request.job
        return request.job

    def list_jobs(self, request: scheduler_v1.ListJobsRequest, _: Call) -> Any:
        return scheduler_v1.ListJobsResponse(jobs=list(self.kept.values()))

    def delete_job(self, request: scheduler_v1.DeleteJobRequest, _: Call) -> Any:
        self._get(request.name)
        del self.kept[request.name]
        return empty_pb2.Empty()


class Secrets(Kept):
    """Secrets with versions."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, list[bytes]] = {}

    def create_secret(self, request: manager.CreateSecretRequest, _: Call) -> Any:
        return self._new(f"{request.parent}/secrets/{request.secret_id}", request.secret)

    def add_secret_version(self, request: manager.AddSecretVersionRequest, _: Call) -> Any:
        self._get(request.parent)
        values = self.values.setdefault(request.parent, [])
        values.append(request.payload.data)
        return manager.SecretVersion(name=f"{request.parent}/versions/{len(values)}")

    def access_secret_version(self, request: manager.AccessSecretVersionRequest, _: Call) -> Any:
        secret, _, number = request.name.partition("/versions/")
        values = self.values.get(secret, [])
        place = len(values) if number == "latest" else int(number)
        if not 0 < place <= len(values):
            raise Refusal(CODE.NOT_FOUND, f"{request.name} does not exist")
        payload = manager.SecretPayload(data=values[place - 1])
        return manager.AccessSecretVersionResponse(
            name=f"{secret}/versions/{place}", payload=payload
        )

    def list_secrets(self, request: manager.ListSecretsRequest, _: Call) -> Any:
        return manager.ListSecretsResponse(secrets=list(self.kept.values()))

    def delete_secret(self, request: manager.DeleteSecretRequest, _: Call) -> Any:
        self._get(request.name)
        del self.kept[request.name]
        return empty_pb2.Empty()


class Images(Kept):
    """Artifact Registry: what ``kept`` has by name, tags with the version that they name."""

    def get_tag(self, request: registry.GetTagRequest, _: Call) -> Any:
        return self._get(request.name)

    def get_version(self, request: registry.GetVersionRequest, _: Call) -> Any:
        return self._get(request.name)

    def push(self, repository: str, package: str, tag: str, digest: str) -> None:
        """Add an image."""
        parent = f"{repository}/packages/{package}"
        version = f"{parent}/versions/{digest}"
        self.kept[version] = registry.Version(name=version)
        self.kept[f"{parent}/tags/{tag}"] = registry.Tag(
            name=f"{parent}/tags/{tag}", version=version
        )
