"""The folder of a job in the bucket: through the bucket's API, or where the job has it mounted."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Protocol

from classmark.errors import CloudNotFound
from classmark.records import RunRecord
from classmark.storage import BucketPath, atomic_folder, folder_place

EXIT_FILE = "exit"
"""In the folder of a job's runs: how its last start ended, a number, or ``cancelled``."""
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
        """Delete a file, if it exists."""


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
    """What a bucket has below a path; see ``Place``."""

    def __init__(self, path: BucketPath) -> None:
        self._path = path

    def names(self) -> list[str]:
        """Return the names of its files."""
        return [found.key.removeprefix(f"{self._path.key}/") for found in self._path.below()]

    def fetch(self, name: str, target: Path) -> None:
        """Copy a file to this machine."""
        target.parent.mkdir(parents=True, exist_ok=True)
        source = self._path / name
        source.fetch_to(source.version(), target)

    def put(self, source: Path, name: str) -> None:
        """Copy a file here."""
        (self._path / name).write(source)

    def remove(self, name: str) -> None:
        """Delete a file."""
        (self._path / name).unlink()


def place_of(text: str) -> Place:
    """Return the folder of an address or a path.

    Raises:
        UsageError: it is not an address in a bucket.
        MissingExtra: what reads buckets is not installed.
    """
    found = folder_place(text)
    return BucketPlace(found) if isinstance(found, BucketPath) else FolderPlace(found)


def read_exit(address: str) -> str:
    """Return how the last start of a job ended, "" if it has not."""
    try:
        return (BucketPath.parse(address) / EXIT_FILE).read_text().strip()
    except FileNotFoundError:
        return ""


def write_exit(address: str, ending: str) -> None:
    """Write how a job ended."""
    (BucketPath.parse(address) / EXIT_FILE).write(f"{ending}\n".encode())


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
