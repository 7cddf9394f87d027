"""The folder of a job in the bucket: through the bucket's API, or where the job has it mounted."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from classmark.cloud.google import google_errors
from classmark.errors import CloudNotFound, MissingExtra, UsageError
from classmark.records import RunRecord
from classmark.storage import atomic_folder

READ_ROLE, WRITE_ROLE = "roles/storage.objectViewer", "roles/storage.objectUser"
EXIT_FILE = "exit"
"""In the folder of a job's runs: how its last start ended, a number, or ``cancelled``."""
_SCHEME = "gs://"
_PART = ".part"


class Place(Protocol):
    """A folder that files are copied from and to; names have slashes."""

    def names(self) -> list[str]:
        """Return the names of its files, in order."""

    def fetch(self, name: str, target: Path) -> None:
        """Copy a file to this machine."""

    def put(self, source: Path, name: str) -> None:
        """Copy a file of this machine here, whole or not at all."""

    def remove(self, name: str) -> None:
        """Delete a file; one that is not there is no error."""


class FolderPlace:
    """A folder, for example one that Vertex AI mounts below ``/gcs``; see ``Place``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        """Return the names of its files."""
        found = (path for path in self._folder.rglob("*") if path.is_file())
        names = (path.relative_to(self._folder).as_posix() for path in found)
        return sorted(name for name in names if not name.endswith(_PART))

    def fetch(self, name: str, target: Path) -> None:
        """Copy a file to this machine."""
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self._folder / name, target)

    def put(self, source: Path, name: str) -> None:
        """Copy a file here."""
        target = self._folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + _PART)
        shutil.copyfile(source, part)
        part.replace(target)

    def remove(self, name: str) -> None:
        """Delete a file."""
        (self._folder / name).unlink(missing_ok=True)


class BucketPlace:
    """What a bucket has below an address; see ``Place``."""

    def __init__(self, address: str) -> None:
        self._address = address.rstrip("/")
        self._bucket_name, _, self._prefix = self._address.removeprefix(_SCHEME).partition("/")

    def names(self) -> list[str]:
        """Return the names of its files."""
        start = f"{self._prefix}/"
        with self._errors("listing", READ_ROLE):
            found = [blob.name for blob in self._bucket.list_blobs(prefix=start)]
        return sorted(name.removeprefix(start) for name in found if not name.endswith("/"))

    def fetch(self, name: str, target: Path) -> None:
        """Copy a file to this machine."""
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._errors("reading", READ_ROLE):
            self._blob(name).download_to_filename(str(target))

    def put(self, source: Path, name: str) -> None:
        """Copy a file here."""
        with self._errors("writing", WRITE_ROLE):
            self._blob(name).upload_from_filename(str(source))

    def remove(self, name: str) -> None:
        """Delete a file."""
        from google.api_core.exceptions import NotFound

        with self._errors("writing", WRITE_ROLE):
            try:
                self._blob(name).delete()
            except NotFound:
                return

    def _blob(self, name: str) -> Any:  # noqa: ANN401 - an object of Google's
        return self._bucket.blob(f"{self._prefix}/{name}")

    @cached_property
    def _bucket(self) -> Any:  # noqa: ANN401 - a bucket of Google's
        try:
            from google.cloud.storage import Client
        except ImportError as error:
            raise MissingExtra("reading and writing buckets", "gcp") from error
        return Client(project="none").bucket(self._bucket_name)

    @contextmanager
    def _errors(self, doing: str, role: str) -> Iterator[None]:
        with google_errors(f"{doing} {self._address}", role=role):
            yield


def place_of(text: str) -> Place:
    """Return the folder of an address or a path."""
    if text.startswith(_SCHEME):
        if not text.removeprefix(_SCHEME).strip("/").count("/"):
            raise UsageError(f"{text} is not gs://BUCKET/FOLDER.")
        return BucketPlace(text)
    return FolderPlace(Path(text))


def read_exit(place: Place, scratch: Path) -> str:
    """Return how the last start of a job ended, "" if it has not."""
    if EXIT_FILE not in place.names():
        return ""
    place.fetch(EXIT_FILE, scratch)
    return scratch.read_text("utf-8").strip()


def require_dataset(address: str) -> None:
    """Check that a dataset is in the bucket.

    Raises:
        CloudNotFound: it is not.
    """
    if "manifest.json" not in place_of(address).names():
        raise CloudNotFound(
            f"no dataset is in {address}: it has no manifest.json. Copy one there, for example "
            f"with `gcloud storage cp --recursive DIR/* {address}/`."
        )


def fetch_runs(address: str, output: Path) -> list[Path]:
    """Copy the runs of a job into a folder, each whole or not at all; returns their folders.

    Finished ones only, if there are any; else those that can be resumed.

    Raises:
        CloudNotFound: there is none yet.
        StorageFailed: a folder of that name is there already.
    """
    place = place_of(address)
    names = [name for name in place.names() if "/" in name]
    runs = sorted({name.partition("/")[0] for name in names})
    finished = [run for run in runs if f"{run}/{RunRecord.FILE}" in names]
    if not runs:
        raise CloudNotFound(f"no run is in {address} yet. See `classmark cloud jobs`.")
    folders = []
    for run in finished or runs:
        with atomic_folder(output / run) as folder:
            for name in names:
                if name.startswith(f"{run}/"):
                    place.fetch(name, folder / name.partition("/")[2])
        folders.append(output / run)
    return folders
