"""What is in a bucket, as files of this machine: fetched once, and again when it has changed."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from classmark.errors import HOME_VARIABLE, CloudNotFound, OutputChanged, StorageFailed
from classmark.storage.atomic import atomic_folder, discard
from classmark.storage.bucket import BucketPath, Version, crc32c_of
from classmark.storage.failures import storage_errors

_MOST_TRIES = 5
_KEPT_DAYS = 30.0
_KEY_DIGITS = 32


def local_copy(place: Path | BucketPath) -> Path:
    """Return a path of this machine that holds what a place does; a local path as it is.

    What is in a bucket is fetched into a cache, whole or not at all, under a name that its objects
    and their generations make: as long as nothing changes there, it is fetched once. Copies that
    were not used for 30 days go.

    Raises:
        CloudNotFound: nothing is there.
        OutputChanged: it changes all the time.
        StorageFailed: the bucket does not answer or refuses it, or the cache cannot be written.
    """
    if not isinstance(place, BucketPath):
        return place
    for _ in range(_MOST_TRIES):
        found = objects_of(place)
        folder = cache_folder() / _key_of(place, found)
        kept = folder / place.name
        if kept.exists():
            os.utime(folder)
            return kept
        try:
            _fetch(place, found, folder)
        except FileNotFoundError:  # replaced since it was listed
            continue
        except StorageFailed:
            if not kept.exists():  # else another process fetched the same
                raise
        _forget_unused()
        return kept
    raise OutputChanged(f"{place} changes while it is read. Wait until it is written, then repeat.")


def objects_of(place: BucketPath) -> list[Version]:
    """Return the object of a path, or those below it.

    Raises:
        CloudNotFound: there is none.
        StorageFailed: the bucket does not answer, or refuses it.
    """
    found = place.below()
    if not found and place.key:
        found = [now for now in [place.version()] if now.generation]
    if not found:
        raise CloudNotFound(f"{place} is not there: nothing has that name. Check the address.")
    return found


def cache_folder() -> Path:
    """Return where copies are kept: ``$CLASSMARK_HOME/cache/buckets``, or the user's cache."""
    home = os.environ.get(HOME_VARIABLE)
    if home:
        return Path(home, "cache", "buckets")
    from platformdirs import user_cache_path

    return user_cache_path("classmark", appauthor=False) / "buckets"


def working_folder(place: BucketPath) -> Path:
    """Return the folder of this machine, made if need be, for what is on its way into a bucket."""
    folder = cache_folder().with_name("work") / _key_of(place, ())
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def _fetch(place: BucketPath, objects: Iterable[Version], folder: Path) -> None:
    with atomic_folder(folder) as made:
        for version in objects:
            target = Path(made, place.name, version.key[len(place.key) :].strip("/"))
            target.parent.mkdir(parents=True, exist_ok=True)
            source = BucketPath(place.bucket, version.key)
            source.fetch_to(version, target)
            _check(source, version, target)


def _check(source: BucketPath, version: Version, file: Path) -> None:
    """Compare a file with what the bucket says of the object.

    Raises:
        StorageFailed: it is another.
    """
    n_bytes, checksum = file.stat().st_size, crc32c_of(file)
    if (n_bytes, checksum) != (version.n_bytes, version.crc32c):
        raise StorageFailed(
            f"{source} arrived damaged: {n_bytes} bytes with the checksum {checksum}, but the "
            f"bucket has {version.n_bytes} with {version.crc32c}. Repeat it."
        )


def _key_of(place: BucketPath, objects: Iterable[Version]) -> str:
    listed = [[v.key, v.generation, v.n_bytes, v.crc32c] for v in objects]
    text = json.dumps([place.bucket, place.key, listed])
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY_DIGITS]


def _forget_unused() -> None:
    oldest = time.time() - _KEPT_DAYS * 86400
    with suppress(OSError, StorageFailed):
        for folder in cache_folder().iterdir():
            if not folder.name.startswith(".") and folder.stat().st_mtime < oldest:
                discard(folder)
