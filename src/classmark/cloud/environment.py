"""Where in Google Cloud classmark works: a file, which the stack of deploy/gcp/infra writes."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from classmark.errors import CloudNotFound, UsageError, unreadable
from classmark.records.fields import read_rules

ENVIRONMENT_FILE = "cloud.yaml"
ENVIRONMENT_VARIABLE = "CLASSMARK_CLOUD"
MANAGED = "classmark"
"""Value of the label ``app`` of everything that classmark makes in a project."""
_PATTERNS = {
    "project": (r"[a-z][a-z0-9-]{4,28}[a-z0-9]", "a project ID, such as my-project-123"),
    "region": (r"[a-z]+-[a-z]+[0-9]+", "a region, such as europe-west4"),
    "bucket": (r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]", "the name of a bucket, without gs://"),
    "name": (r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?", "up to 22 lower-case letters, digits, hyphens"),
}


def name_of(kind: str) -> str:
    """Return the name of a service, a job or a schedule; that of the ``service`` is the shortest.

    An environment has a project of its own, so that no name needs the environment; the alerts of
    Prometheus call both services so, too.
    """
    return MANAGED if kind == "service" else f"{MANAGED}-{kind}"


_AREAS = {
    **{"us": ("us",), "eu": ("europe",), "asia": ("asia",)},
    **{"eur4": ("europe-north1", "europe-west4"), "nam4": ("us-central1", "us-east1")},
    "asia1": ("asia-northeast1", "asia-northeast2"),
}
"""Locations of buckets that are more than one region, with what their regions begin with."""


@dataclass(frozen=True, kw_only=True)
class CloudEnvironment:
    """Names of one environment, for example ``production``.

    Attributes:
        project: ID of the project.
        region: where everything runs and lies, the bucket too.
        bucket: holds datasets, runs, the registry, reports and journals.
        name: of the environment: a label of everything in it, and a part of names.
        repository: of Artifact Registry, for images; one named ``classmark`` if empty.
        sql: connection name of the Cloud SQL instance that keeps the journal, "" for none.
        notify: address of mail that alerts are sent to, "" for none.
        docs: where the documentation is served, to which alerts link; "" for no links.
    """

    project: str
    region: str
    bucket: str
    name: str = "production"
    repository: str = ""
    sql: str = ""
    notify: str = ""
    docs: str = ""

    def __post_init__(self) -> None:
        for field, (pattern, form) in _PATTERNS.items():
            value = getattr(self, field)
            if not re.fullmatch(pattern, value):
                raise UsageError(f"{field} of the environment is {value!r}. Give {form}.")

    @property
    def images(self) -> str:
        """Address of the repository of images, without a slash at its end."""
        host = f"{self.region}-docker.pkg.dev"
        return self.repository or f"{host}/{self.project}/{MANAGED}"

    @property
    def labels(self) -> dict[str, str]:
        """Labels of everything that classmark makes here, by which it finds it again."""
        return {"app": MANAGED, "environment": self.name}

    @property
    def parent(self) -> str:
        """Name of the project and region, as most of Google's requests have it."""
        return f"projects/{self.project}/locations/{self.region}"

    def account(self, role: str) -> str:
        """Return the service account of a role: ``train``, ``serve``, ``watch`` or ``build``."""
        return f"{MANAGED}-{role}@{self.project}.iam.gserviceaccount.com"

    def secret(self, name: str) -> str:
        """Return the ID of a secret in the project, e.g. of ``api-keys``."""
        return f"{MANAGED}-{self.name}-{name}"

    def address(self, *parts: str) -> str:
        """Return the ``gs://`` address of a path in the bucket."""
        return "/".join([f"gs://{self.bucket}", *parts])


def check_region(environment: CloudEnvironment) -> None:
    """Refuse a bucket that is elsewhere: every byte between regions costs time and money.

    Raises:
        UsageError: names both places.
        CloudNotFound: the bucket is not there.
        StorageFailed: nobody is signed in, or a role is missing.
    """
    from classmark.storage.google import bucket_regions

    places, region = bucket_regions(environment.bucket), environment.region
    is_near = region in places or any(
        f"{region}-".startswith(f"{area}-") for place in places for area in _AREAS.get(place, ())
    )
    if not is_near:
        raise UsageError(
            f"the bucket gs://{environment.bucket} is in {places[0].upper()}, and the environment "
            f"in {region}. Set region to where the bucket is, or name a bucket in {region}."
        )


def read_environment(path: Path | None = None) -> CloudEnvironment:
    """Return the environment of a file: YAML with the fields of ``CloudEnvironment``.

    Args:
        path: the file; ``$CLASSMARK_CLOUD``, else ``cloud.yaml`` in this folder, if None.

    Raises:
        CloudNotFound: there is no such file, or it cannot be read.
        UsageError: a field is missing, unknown or cannot be used.
    """
    import yaml

    place = path or Path(os.environ.get(ENVIRONMENT_VARIABLE) or ENVIRONMENT_FILE)
    try:
        value: Any = yaml.safe_load(place.read_text("utf-8"))
    except OSError as error:
        what = unreadable(error, "Write it as docs/how-to/google-cloud.md shows")
        raise CloudNotFound(f"the environment {place} {what}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"the environment {place} is not YAML: {error}.") from error
    if not isinstance(value, dict):
        raise UsageError(f"the environment {place} is not YAML with names and values.")
    return read_rules(CloudEnvironment, value, f"the environment {place}")
