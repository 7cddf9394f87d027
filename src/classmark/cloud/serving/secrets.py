"""Secrets: API keys, passwords, the key of W&B. A value leaves this machine in one request only."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from classmark.cloud.google import Google, google_errors
from classmark.errors import UsageError

ROLE = "roles/secretmanager.admin"
NAMES = ("api-keys", "journal-password", "wandb-key")


def set_secret(google: Google, name: str, value: bytes) -> str:
    """Add a version to a secret, which is made if it does not exist; returns the version's number.

    Raises:
        UsageError: the name is unknown, or the value empty.
    """
    from google.api_core.exceptions import AlreadyExists
    from google.cloud import secretmanager_v1 as manager

    if name not in NAMES:
        raise UsageError(f"there is no secret {name!r}. Give {', '.join(NAMES)}.")
    if not value:
        raise UsageError(f"the value of {name} is empty. Give it on standard input or as a file.")
    environment = google.environment
    client = google.client(manager.SecretManagerServiceClient)
    parent, own = f"projects/{environment.project}", environment.secret(name)
    automatic = manager.Replication(automatic=manager.Replication.Automatic())
    secret = manager.Secret(labels=environment.labels, replication=automatic)
    with google_errors(f"setting the secret {name}", role=ROLE):
        with suppress(AlreadyExists):  # a further version: rotation
            client.create_secret(parent=parent, secret_id=own, secret=secret)
        payload = manager.SecretPayload(data=value)
        version = client.add_secret_version(parent=f"{parent}/secrets/{own}", payload=payload)
    return str(version.name.rpartition("/")[2])


def list_secrets(google: Google) -> list[Any]:
    """Return the secrets of the environment, without values."""
    from google.cloud import secretmanager_v1 as manager

    client = google.client(manager.SecretManagerServiceClient)
    with google_errors("listing the secrets", role="roles/secretmanager.viewer"):
        found = client.list_secrets(parent=f"projects/{google.environment.project}")
        return [secret for secret in found if is_own(google, secret)]


def is_own(google: Google, made: Any) -> bool:  # noqa: ANN401 - a message of Google's
    """Return whether something carries the labels of the environment."""
    labels = google.environment.labels
    return all(made.labels.get(key) == value for key, value in labels.items())
