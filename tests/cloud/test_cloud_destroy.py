"""``classmark cloud destroy --data``: the objects of the environment, and no others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from compute_service import Machines
from google.cloud import aiplatform_v1, run_v2, scheduler_v1, secretmanager_v1
from google_server import GoogleServer
from serving_service import Jobs, Scheduler, Secrets, Services
from training_service import TrainingJobs
from typer.testing import CliRunner, Result
from watch_service import WatchService

from bucket_server import BucketServer
from classmark.cli.cloud.command import app
from classmark.cloud.environment import CloudEnvironment
from classmark.cloud.google import GRPC_VARIABLE, HTTP_VARIABLE
from classmark.cloud.serving.destroy import DATA
from classmark.cloud.serving.manifests import KINDS, Wanted, filled
from classmark.errors import StorageFailed, UsageError
from classmark.storage import BucketPath

OTHERS = "other-team/table"
OWN = ["journal/a/0.sqlite", "registry/events/1.json", "registry/pointer.json"]
Run = tuple[BucketServer, Path]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    watch, bucket = WatchService(), BucketServer()
    kinds = {
        run_v2.ServicesClient: Services(),
        run_v2.JobsClient: Jobs(),
        scheduler_v1.CloudSchedulerClient: Scheduler(),
        secretmanager_v1.SecretManagerServiceClient: Secrets(),
        aiplatform_v1.JobServiceClient: TrainingJobs(),
    }
    server = GoogleServer({**kinds, **watch.clients()})
    watch.server = server
    file = tmp_path / "cloud.yaml"
    file.write_text("project: papers-test-1\nregion: europe-west4\nbucket: papers\n")
    with bucket.running(), server.running() as address, Machines().running() as machines:
        for name, value in bucket.variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv(GRPC_VARIABLE, address)
        monkeypatch.setenv(HTTP_VARIABLE, machines)
        for name in (*OWN, OTHERS):
            BucketPath("papers", name).write(b"x")
        yield bucket, file


def destroy(project: Run, *words: str, given: str | None = None) -> Result:
    words = ("destroy", *words, "--environment", str(project[1]))
    return CliRunner().invoke(app, [*words], input=given)


def test_data_stays_unless_it_is_asked_for(project: Run) -> None:
    assert destroy(project, "--yes").output == ""
    done = destroy(project, "--data", "--dry-run")
    assert done.output.split() == ["data", "gs://papers/journal", "data", "gs://papers/registry"]
    assert project[0].names() == sorted([*OWN, OTHERS])


def test_data_goes_and_what_is_of_others_stays_however_often(project: Run) -> None:
    for _ in range(2):
        assert destroy(project, "--data", "--yes").exit_code == 0
        assert project[0].names() == [OTHERS]


def test_the_name_of_the_bucket_must_be_typed(project: Run) -> None:
    done = destroy(project, "--data", given="y\n")
    assert isinstance(done.exception, UsageError)
    assert "'y' is not the name of the bucket. Nothing was removed: type papers" in str(
        done.exception
    )
    assert project[0].names() == sorted([*OWN, OTHERS])
    assert destroy(project, "--data", given="papers\n").exit_code == 0
    assert project[0].names() == [OTHERS]


def test_what_could_not_be_removed_is_removed_by_the_next_call(project: Run) -> None:
    project[0].fail("DELETE", r"pointer", 403, times=1)
    done = destroy(project, "--data", "--yes")
    assert done.exit_code == 1
    assert "roles/storage.objectUser" in done.output
    assert destroy(project, "--data", "--yes").exit_code == 0
    assert project[0].names() == [OTHERS]


def test_a_bucket_that_may_not_be_read_ends_it_before_anything_is_removed(project: Run) -> None:
    project[0].fail("GET", r"/o\?", 403)
    assert isinstance(destroy(project, "--data", "--yes").exception, StorageFailed)
    assert project[0].names() == sorted([*OWN, OTHERS])


def test_a_bucket_that_is_gone_has_no_data(project: Run) -> None:
    project[1].write_text("project: papers-test-1\nregion: europe-west4\nbucket: gone\n")
    done = destroy(project, "--data", "--yes")
    assert (done.exit_code, done.output) == (0, "")


@pytest.mark.parametrize("kind", KINDS)
def test_every_folder_that_a_manifest_names_is_one_of_the_data(kind: str) -> None:
    environment = CloudEnvironment(project="papers-test-1", region="europe-west4", bucket="papers")
    message = run_v2.Job if kind.endswith("-job") else run_v2.Service
    wanted = Wanted(kind=kind, image="i@sha256:1", dataset="arxiv")
    text = message.to_json(filled(environment, wanted, message))
    named = set(re.findall(r'(?:gs://papers|"/bucket)/([a-z]+)', text))
    assert named
    assert named <= set(DATA)
