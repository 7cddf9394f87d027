"""`make deploy` and `make rollback` as the workflow calls them, against Google's protocols."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.cloud import artifactregistry_v1, run_v2
from google_server import GoogleServer
from serving_service import Images, Services

from bucket_server import BucketServer
from classmark.cloud.environment import CloudEnvironment
from classmark.cloud.google import GRPC_VARIABLE
from make_targets import ROOT, make, needs_make

pytestmark = needs_make
ENVIRONMENT = CloudEnvironment(project="papers-test-1", region="europe-west4", bucket="papers")


@dataclass
class Target:
    """A project that targets deploy to.

    Attributes:
        services: those of Cloud Run.
        variables: of the environment of a workflow.
    """

    services: Services
    variables: dict[str, Any]

    def make(self, target: str, image: str = "", **variables: str) -> Any:
        """Return the finished process of a target."""
        return make(target, **self.variables, IMAGE=image, **variables)

    def image(self) -> str:
        """Return the image that gets all requests."""
        (service,) = self.services.kept.values()
        (share,) = [t for t in service.traffic if t.percent == 100]
        return self.images[share.revision]

    @property
    def images(self) -> dict[str, str]:
        """Images by their revisions, as requests have sent them."""
        assert self.services.server is not None
        calls = self.services.server.calls
        made = [getattr(call.request, "service", None) for call in calls]
        return {s.template.revision: s.template.containers[0].image for s in made if s}


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    services, images, bucket = Services(), Images(), BucketServer()
    kinds = {run_v2.ServicesClient: services, run_v2.RevisionsClient: services}
    server = GoogleServer({**kinds, artifactregistry_v1.ArtifactRegistryClient: images})
    services.server = server
    for number in (1, 2):
        parent = f"{ENVIRONMENT.parent}/repositories/classmark"
        images.push(parent, "service", f"v{number}", f"sha256:{number}{number}")
    file = tmp_path / "cloud.yaml"
    file.write_text("project: papers-test-1\nregion: europe-west4\nbucket: papers\n")
    source = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    with bucket.running(), server.running() as address:
        where = {"CLASSMARK_CLOUD": str(file), GRPC_VARIABLE: address, "PYTHONPATH": source}
        yield Target(services, {**where, **bucket.variables})


def test_a_release_is_deployed_and_the_one_before_put_back(target: Target) -> None:
    for tag, digest in (("v1", "sha256:11"), ("v2", "sha256:22")):
        done = target.make("deploy", tag)
        assert done.returncode == 0, done.stderr
        assert target.image() == f"{ENVIRONMENT.images}/service@{digest}"
    done = target.make("rollback")
    assert done.returncode == 0, done.stderr
    assert target.image() == f"{ENVIRONMENT.images}/service@sha256:11"


def test_a_service_with_keys_is_replaced_by_one_with_keys(target: Target) -> None:
    asked = []
    for keys in ("yes", ""):
        done = target.make("deploy", "v1", CLOUD_KEYS=keys)
        assert done.returncode == 0, done.stderr
        (service,) = target.services.kept.values()
        asked.append("keys" in {volume.name for volume in service.template.volumes})
    assert asked == [True, False]


def test_an_image_is_a_value_and_not_a_command(target: Target, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    for image in (f"v1$(touch {witness})", f"v1`touch {witness}`", f'v1"; touch {witness}; "', ""):
        done = target.make("deploy", image)
        assert done.returncode == 2
        assert "is not an address of Artifact Registry" in done.stderr
    assert not witness.exists()
    assert target.services.kept == {}
