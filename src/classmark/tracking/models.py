"""MLflow's model registry, kept equal to ours: a version a bundle, an alias a channel.

MLflow is imported in a process of its own, as for a fit.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict, cast

from classmark.errors import MissingExtra
from classmark.records import Pointer
from classmark.tracking.config import has_mlflow
from classmark.tracking.mlflow import answer_parent, ask_child
from classmark.tracking.mlflow_writer import check_sqlite

_DIGEST = "digest"


class Mirrored(TypedDict):
    """What was done: versions added and deleted, and the version of each alias now."""

    added: int
    deleted: int
    aliases: dict[str, str]


def mirror_models(uri: str, name: str, pointer: Pointer, folder: Path) -> Mirrored:
    """Make a model of MLflow's registry equal to a registry of ours.

    Args:
        uri: of MLflow's store or server.
        name: of the model there, made if there is none.
        pointer: the state of our registry.
        folder: of our registry; versions name the folders of bundles in it.

    Raises:
        MissingExtra: MLflow is not installed.
        TrackerDown: it cannot be used.
    """
    if not has_mlflow():
        raise MissingExtra("mirroring a registry", "track")
    channels = asdict(pointer.channels)
    bundles = {
        digest: {
            "source": (folder.resolve() / "bundles" / digest).as_uri(),
            "tags": {
                _DIGEST: digest,
                "seal": known.seal,
                "classmark_version": known.version,
                "classmark_name": known.name,
                "archived": str(digest in pointer.archived).lower(),
            },
        }
        for digest, known in pointer.bundles.items()
    }
    aliases = {channel: digest for channel, digest in channels.items() if digest in bundles}
    asked = {"uri": uri, "name": name, "bundles": bundles, "aliases": aliases}
    said = ask_child(__name__, uri, asked)
    return cast(Mirrored, json.loads(said))


def _mirror(
    uri: str, name: str, bundles: dict[str, dict[str, Any]], aliases: dict[str, str]
) -> Mirrored:
    check_sqlite(uri)
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    _make_model(client, name)
    there = dict(_versions(client, name))
    gone = [digest for digest in there if digest not in bundles]
    for alias in client.get_registered_model(name).aliases:
        if alias not in aliases:
            client.delete_registered_model_alias(name, alias)
    for digest in gone:
        client.delete_model_version(name, there.pop(digest))
    added = [digest for digest in bundles if digest not in there]
    for digest in added:
        bundle = bundles[digest]
        made = client.create_model_version(name, bundle["source"], tags=bundle["tags"])
        there[digest] = str(made.version)
    for digest in bundles.keys() - set(added):
        archived = bundles[digest]["tags"]["archived"]
        client.set_model_version_tag(name, there[digest], "archived", archived)
    for alias, digest in aliases.items():
        client.set_registered_model_alias(name, alias, there[digest])
    versions = {alias: there[digest] for alias, digest in aliases.items()}
    return Mirrored(added=len(added), deleted=len(gone), aliases=versions)


def _make_model(client: Any, name: str) -> None:  # noqa: ANN401 - of MLflow
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _versions(client: Any, name: str) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - of MLflow
    """Yield (digest, version) of the versions of a model that are of a registry of ours."""
    for version in client.search_model_versions(f"name = '{name}'"):
        if _DIGEST in version.tags:
            yield version.tags[_DIGEST], str(version.version)


def main() -> int:
    """Mirror what stdin asks for; print what was done, or what failed in one line and return 1."""
    return answer_parent(lambda **asked: json.dumps(_mirror(**asked)))


if __name__ == "__main__":
    sys.exit(main())
