"""Google's client for buckets, signed in, and its errors as ours."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from classmark.errors import ClassmarkError, CloudNotFound, MissingExtra, StorageFailed

READ_ROLE, WRITE_ROLE = "roles/storage.objectViewer", "roles/storage.objectUser"
BUCKET_ROLE = "roles/storage.bucketViewer"
SIGN_IN = (
    "Run `gcloud auth application-default login`, or run it where a service account is attached"
)
_PATIENCE_S = 60.0
"""How long a request is repeated that Google answers with 429 or 5xx, or not at all."""
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.2, 10.0
_REQUEST = re.compile(r"^[A-Z]+ https?://\S+: ")
_clients = threading.local()


def client() -> Any:  # noqa: ANN401 - Google's client
    """Return the client of this thread, signed in as applications are by default.

    Raises:
        MissingExtra: Google's library is not installed.
        StorageFailed: nobody is signed in.
    """
    # A fork may not share connections.
    wanted = os.getpid(), os.environ.get("STORAGE_EMULATOR_HOST")
    if getattr(_clients, "made_for", None) != wanted:
        try:
            from google.cloud.storage import Client
        except ImportError as error:
            raise MissingExtra("reading and writing gs:// addresses", "gcp") from error
        with bucket_errors("Google Cloud Storage", READ_ROLE):
            _clients.client = Client(project=None)  # no request of ours needs one
        _clients.made_for = wanted
    return _clients.client


@contextmanager
def bucket_errors(place: str, role: str) -> Iterator[None]:
    """Turn what Google's client reports into one error that says what to do.

    Args:
        place: address that is read or written.
        role: that the account needs for it.

    Raises:
        FileNotFoundError: the object is not there.
        CloudNotFound: the bucket is not there.
        StorageFailed: nobody is signed in, a role is missing, or the bucket does not answer.
    """
    try:
        yield
    except (ClassmarkError, FileNotFoundError):
        raise
    except Exception as error:
        raise _ours(error, place, role) from error


def _ours(error: Exception, place: str, role: str) -> Exception:
    from google.api_core import exceptions as api
    from google.auth import exceptions as auth

    said = _message_of(error)
    if isinstance(error, api.NotFound):
        return _not_found(place, said, role)
    verb = "written" if role == WRITE_ROLE else "read"
    if isinstance(error, auth.DefaultCredentialsError):
        return StorageFailed(f"{place} needs credentials of Google Cloud. {SIGN_IN}.")
    if isinstance(error, auth.GoogleAuthError):
        return StorageFailed(f"signing in for {place} failed: {said}. {SIGN_IN}.")
    if isinstance(error, (api.Forbidden, api.Unauthorized)):
        return StorageFailed(
            f"{place} cannot be {verb}: permission denied ({said}). Give the account {role} on the "
            "bucket."
        )
    return StorageFailed(f"{place} cannot be {verb}: {said}. It is safe to repeat it.")


def _message_of(error: Exception) -> str:
    """Return what Google says, without the request that it answers."""
    said = str(getattr(error, "message", None) or error)
    in_body = re.search(r'"message":\s*"((?:[^"\\]|\\.)*)"', said)
    return (in_body[1] if in_body else _REQUEST.sub("", said)).rstrip(".")


def _not_found(place: str, said: str, role: str) -> Exception:
    """Return the error of a missing object, or of its bucket: that is never written."""
    has_bucket = role == READ_ROLE and "bucket does not exist" not in said
    bucket, _, key = place.removeprefix("gs://").partition("/")
    if key and has_bucket:
        return FileNotFoundError(place)
    return CloudNotFound(
        f"there is no bucket {bucket!r} that this account may see. Check the name, or create it: "
        f"`gcloud storage buckets create gs://{bucket}`."
    )


def bucket_regions(name: str) -> tuple[str, ...]:
    """Return where a bucket is, in lower case: its location, and the regions of a dual region.

    Raises:
        CloudNotFound: it is not there.
        StorageFailed: nobody is signed in, a role is missing, or the bucket does not answer.
    """
    with bucket_errors(f"gs://{name}", BUCKET_ROLE):
        found = client().get_bucket(name)
        return tuple(str(p).lower() for p in (found.location, *(found.data_locations or ())) if p)


def retry() -> Any:  # noqa: ANN401 - Google's object
    """Return how requests are repeated: also writes, which their sender can recognise."""
    from google.cloud.storage.retry import DEFAULT_RETRY

    patient = DEFAULT_RETRY.with_timeout(_PATIENCE_S)
    return patient.with_delay(initial=_FIRST_DELAY_S, maximum=_LONGEST_DELAY_S, multiplier=2.0)
