"""Google's own clients against the local server, and what their errors become."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.cloud import run_v2
from google_server import Call, GoogleServer, Refusal

from classmark.cloud.environment import CloudEnvironment, read_environment
from classmark.cloud.google import GRPC_VARIABLE, Google, google_errors
from classmark.errors import (
    ClassmarkError,
    CloudFailed,
    CloudNotFound,
    CloudRefused,
    UsageError,
)

ENVIRONMENT = CloudEnvironment(
    project="papers-test-1", region="europe-west4", bucket="papers-test-1-classmark"
)
_PARENT = ENVIRONMENT.parent
_CODE = grpc.StatusCode


class Services:
    """Services of Cloud Run that only remember what they were given."""

    def __init__(self) -> None:
        self.kept: dict[str, run_v2.Service] = {}
        self.server: GoogleServer | None = None

    def create_service(self, request: run_v2.CreateServiceRequest, _: Call) -> Any:
        name = f"{request.parent}/services/{request.service_id}"
        if name in self.kept:
            raise Refusal(_CODE.ALREADY_EXISTS, f"{name} already exists")
        self.kept[name] = run_v2.Service(request.service, name=name)
        assert self.server is not None
        return self.server.operation(self.kept[name], self.kept[name])

    def get_service(self, request: run_v2.GetServiceRequest, _: Call) -> run_v2.Service:
        if request.name not in self.kept:
            raise Refusal(_CODE.NOT_FOUND, f"{request.name} does not exist")
        return self.kept[request.name]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[GoogleServer]:
    services = Services()
    server = GoogleServer({run_v2.ServicesClient: services})
    services.server = server
    with server.running() as address:
        monkeypatch.setenv(GRPC_VARIABLE, address)
        yield server


def _create(image: str = "image@sha256:0") -> run_v2.Service:
    client = Google(ENVIRONMENT).client(run_v2.ServicesClient)
    template = run_v2.RevisionTemplate(containers=[run_v2.Container(image=image)])
    with google_errors("deploying", role="roles/run.developer"):
        return client.create_service(
            parent=_PARENT,
            service_id="classmark",
            service=run_v2.Service(template=template),
        ).result(timeout=30)


def test_a_request_of_googles_client_arrives_as_it_was_made(server: GoogleServer) -> None:
    server.operation_s = 0.2

    made = _create()

    assert made.name == f"{_PARENT}/services/classmark"
    assert server.called("CreateService")[0].service_id == "classmark"


def test_a_deployment_has_two_minutes_to_be_accepted(server: GoogleServer) -> None:
    _create()  # Google's default is 15 s

    (call,) = [call for call in server.calls if call.method == "CreateService"]
    assert call.deadline_s > 60


def test_a_required_field_that_is_missing_is_refused_with_its_path(server: GoogleServer) -> None:
    with pytest.raises(CloudRefused, match=r"deploying was refused.*containers\.image is required"):
        _create(image="")


@pytest.mark.parametrize(
    ("code", "error", "says"),
    [
        (_CODE.PERMISSION_DENIED, CloudRefused, "not allowed.*Give the account roles/run.develop"),
        (_CODE.RESOURCE_EXHAUSTED, CloudRefused, "exceeds a quota.*Quotas"),
        (_CODE.NOT_FOUND, CloudNotFound, "Check the project, region"),
        (_CODE.ALREADY_EXISTS, CloudRefused, "met another change"),
        (_CODE.ABORTED, CloudRefused, "met another change"),
        (_CODE.UNAVAILABLE, CloudFailed, "safe to repeat"),
        (_CODE.UNAUTHENTICATED, CloudRefused, "not allowed"),
    ],
)
def test_each_refusal_of_google_says_what_to_do(
    server: GoogleServer, code: grpc.StatusCode, error: type[ClassmarkError], says: str
) -> None:
    server.fail("CreateService", code, times=99)

    with pytest.raises(error, match=says):
        _create()


def test_a_call_whose_answer_was_lost_meets_what_it_made(server: GoogleServer) -> None:
    server.fail("CreateService", _CODE.INTERNAL, after=True)
    with pytest.raises(CloudFailed):
        _create()

    with pytest.raises(CloudRefused, match="already exists"):
        _create()


def test_nobody_signed_in_is_said_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")

    with pytest.raises(CloudFailed, match="gcloud auth application-default login"):
        Google(ENVIRONMENT).client(run_v2.ServicesClient)


def test_an_environment_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "cloud.yaml"
    path.write_text("project: papers-test-1\nregion: europe-west4\nbucket: papers\nname: staging\n")

    found = read_environment(path)

    assert found.labels == {"app": "classmark", "environment": "staging"}
    assert found.images == "europe-west4-docker.pkg.dev/papers-test-1/classmark"
    assert found.address("registry") == "gs://papers/registry"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("project: P\nregion: europe-west4\nbucket: papers\n", "project.*'P'.*a project ID"),
        ("project: papers-1\nregion: europe\nbucket: papers\n", "region.*'europe'"),
        ("project: papers-1\nregion: europe-west4\nbucket: gs://papers\n", "without gs://"),
        ("project: papers-1\nregion: europe-west4\n", "bucket"),
        ("project: papers-1\nregion: europe-west4\nbucket: b12\nzone: a\n", "zone"),
        ("[", "not YAML"),
        ("- 1", "names and values"),
    ],
)
def test_an_environment_that_cannot_be_used_is_refused(
    tmp_path: Path, text: str, says: str
) -> None:
    path = tmp_path / "cloud.yaml"
    path.write_text(text)

    with pytest.raises(UsageError, match=says):
        read_environment(path)


def test_a_missing_environment_names_the_page_that_shows_one(tmp_path: Path) -> None:
    with pytest.raises(CloudNotFound, match="google-cloud"):
        read_environment(tmp_path / "cloud.yaml")


@pytest.mark.parametrize("code", [_CODE.UNAVAILABLE, _CODE.RESOURCE_EXHAUSTED, _CODE.INTERNAL])
def test_what_only_reads_is_asked_again_and_what_writes_is_not(
    server: GoogleServer, code: grpc.StatusCode
) -> None:
    made = _create()
    client = Google(ENVIRONMENT).client(run_v2.ServicesClient)
    server.fail("GetService", code, times=2)
    with google_errors("reading"):
        assert client.get_service(name=made.name) == made
    assert len(server.called("GetService")) == 3
    server.fail("CreateService", code)
    with pytest.raises(ClassmarkError):
        _create()
    assert len(server.called("CreateService")) == 2
