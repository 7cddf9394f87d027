"""A project with a bucket, in which training jobs run; and the command that submits them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from compute_service import Machines
from google.cloud import aiplatform_v1, artifactregistry_v1, secretmanager_v1
from google.cloud.logging_v2.services.logging_service_v2 import LoggingServiceV2Client
from google_server import GoogleServer
from serving_service import Images, Secrets
from training_service import Log, Mount, TrainingJobs
from typer.testing import CliRunner, Result

from bucket_server import NAME, BucketServer
from classmark.cli.cloud.command import app
from classmark.cloud.environment import CloudEnvironment
from classmark.cloud.google import GRPC_VARIABLE, HTTP_VARIABLE, Google
from classmark.storage import BucketPath

ENVIRONMENT = CloudEnvironment(project="papers-test-1", region="europe-west4", bucket=NAME)
DIGEST = "sha256:" + "a1" * 32


@dataclass
class Project:
    """What is in it.

    Attributes:
        server: that speaks gRPC.
        bucket: server of buckets.
        file: of the environment.
    """

    server: GoogleServer
    bucket: BucketServer
    file: Path
    jobs: TrainingJobs
    machines: Machines
    log: Log
    secrets: Secrets
    images: Images
    google: Google = field(init=False)

    def __post_init__(self) -> None:
        self.google = Google(ENVIRONMENT)

    def run(self, *words: str | Path) -> Result:
        """Run a command of ``classmark cloud``."""
        return CliRunner().invoke(app, [*map(str, words), "--environment", str(self.file)])

    def train(self, *words: str | Path, dataset: str = "sample") -> Result:
        """Run ``classmark cloud train``, which looks at its job all the time."""
        return self.run("train", "--image", "v1", "--dataset", dataset, "--poll", "0.05", *words)

    def upload(self, folder: Path, name: str = "datasets/sample") -> None:
        """Copy a folder to the bucket."""
        for path in folder.rglob("*"):
            if path.is_file():
                inside = path.relative_to(folder).as_posix()
                (BucketPath(NAME, name) / inside).write(path)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    with running_project(tmp_path, monkeypatch, {}) as made:
        yield made


@contextmanager
def running_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: Mapping[type, Any]
) -> Iterator[Project]:
    """Run a project, with more services than those of training, by the clients that call them."""
    log, jobs, secrets, images = Log(), TrainingJobs(), Secrets(), Images()
    jobs.log, machines = log, Machines(log=log)
    server = GoogleServer(
        {
            aiplatform_v1.JobServiceClient: jobs,
            LoggingServiceV2Client: log,
            secretmanager_v1.SecretManagerServiceClient: secrets,
            artifactregistry_v1.ArtifactRegistryClient: images,
            **more,
        }
    )
    jobs.server = server
    images.push(f"{ENVIRONMENT.parent}/repositories/classmark", "train", "v1", DIGEST)
    file = tmp_path / "cloud.yaml"
    file.write_text(f"project: papers-test-1\nregion: europe-west4\nbucket: {NAME}\n")
    bucket = BucketServer()
    with bucket.running(), server.running() as grpc_at, machines.running() as http_at:
        for name, value in bucket.variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("CLASSMARK_HOME", str(tmp_path / "home"))
        monkeypatch.setenv(GRPC_VARIABLE, grpc_at)
        monkeypatch.setenv(HTTP_VARIABLE, http_at)
        try:
            yield Project(server, bucket, file, jobs, machines, log, secrets, images)
        finally:
            jobs.finish()


def mounted(project: Project, folder: Path) -> Mount:
    """Let the commands of jobs run, with the buckets below a folder."""
    project.jobs.mount = Mount(folder)
    return project.jobs.mount
