"""An image of Artifact Registry, by its digest."""

from __future__ import annotations

import re
from typing import Any

from classmark.cloud.google import Google, google_errors
from classmark.errors import UsageError

_ADDRESS = re.compile(
    r"(?P<region>[a-z0-9-]+)-docker\.pkg\.dev/(?P<project>[^/]+)/(?P<repository>[^/]+)/"
    r"(?P<package>[^@:]+)(?:@(?P<digest>sha256:[0-9a-f]+)|:(?P<tag>[\w.-]+))"
)


def full_address(google: Google, image: str, package: str) -> str:
    """Return the address of an image that is given as tag, digest or address."""
    if "/" in image:
        return image
    separator = "@" if image.startswith("sha256:") else ":"
    return f"{google.environment.images}/{package}{separator}{image}"


def resolve(google: Google, image: str, package: str) -> str:
    """Return the address of an image with its digest, after asking whether it exists.

    Raises:
        CloudNotFound: the registry does not have it.
        UsageError: the address is not one of Artifact Registry.
    """
    from google.cloud import artifactregistry_v1 as registry

    address = full_address(google, image, package)
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise UsageError(
            f"the image {address!r} is not an address of Artifact Registry with a tag or digest. "
            f"Give a tag, sha256:..., or {google.environment.images}/{package}:TAG."
        )
    parent = "projects/{project}/locations/{region}/repositories/{repository}/packages/".format(
        **found.groupdict()
    ) + found["package"].replace("/", "%2F")
    client: Any = google.client(registry.ArtifactRegistryClient)
    with google_errors(f"finding the image {address}", role="roles/artifactregistry.reader"):
        if found["digest"]:
            client.get_version(name=f"{parent}/versions/{found['digest']}")
            return address
        tag = client.get_tag(name=f"{parent}/tags/{found['tag']}")
    return f"{address.rpartition(':')[0]}@{tag.version.rpartition('/')[2]}"
