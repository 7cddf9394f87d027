"""Files and folders in a bucket, named ``gs://BUCKET/PATH`` or by another scheme that fsspec knows.

They are read as paths; what is written goes up whole, from a file of this machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from classmark.errors import MissingExtra, StorageFailed, UnreadableSource
from classmark.storage.atomic import sha256_file
from classmark.storage.bucket import SCHEME, BucketPath
from classmark.storage.failures import storage_errors
from classmark.storage.google import client
from classmark.storage.places import expand_home, refuse_existing, refuse_other_things
from classmark.storage.upload import bucket_folder

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://")
_CHECKSUMS = ("md5Hash", "crc32c", "ETag", "etag")
"""What stores say of the content of an object, the most exact first."""


def is_remote(path: Path | str) -> bool:
    """Tell whether a path, or the text of one, is an address in a bucket."""
    return _ADDRESS.match(str(path)) is not None


def locate(text: str) -> Path:
    """Return the path that a text names: of this machine, or in a bucket.

    Raises:
        MissingExtra: what reads buckets is not installed.
        UnreadableSource: no store has such addresses.
    """
    if not is_remote(text):
        return Path(text)
    try:
        from upath import UPath

        return cast(Path, UPath(text))
    except (ImportError, ValueError) as error:
        scheme = text.partition("://")[0]
        if scheme in ("gs", "gcs") or "upath" in str(error):
            raise MissingExtra("reading and writing buckets", "ray") from error
        raise UnreadableSource(
            f"{text} cannot be reached: {error}. Give gs://BUCKET/PATH, or install the package of "
            f"fsspec for {scheme}://."
        ) from error


def folder_place(text: str | Path) -> Path:
    """Return the path of a folder that a text names: of this machine, or in a bucket.

    Raises:
        MissingExtra: what reads buckets is not installed.
        UsageError: it is not an address of Google Cloud Storage.
    """
    if not is_remote(text):
        return Path(text)
    path = BucketPath.parse(str(text))
    client()
    return cast(Path, path)


def named_place(text: str) -> Path:
    """Return the path that a setting names: it may begin with ``~``, or be in a bucket.

    Raises:
        MissingExtra, UsageError: as ``folder_place``.
        NoHomeFolder: as ``expand_home``.
    """
    return folder_place(text) if is_remote(text) else expand_home(text)


def files_of(paths: Sequence[Path]) -> list[Path]:
    """Return files as they are, and for each folder the visible files in it, by name.

    Raises:
        UnreadableSource: a path cannot be looked at, or a folder is empty.
    """
    found: list[Path] = []
    for path in paths:
        try:
            if not path.is_dir():
                found.append(path)
                continue
            inside = [file for file in sorted(path.iterdir(), key=str) if _is_visible_file(file)]
        except Exception as error:
            raise UnreadableSource(f"{path} cannot be read: {error}.") from error
        if not inside:
            raise UnreadableSource(f"the folder {path} holds no files. Check the name.")
        found += inside
    return found


def content_mark(path: Path) -> str:
    """Return what changes with the content of a file: its SHA-256, or the checksum of its store."""
    if is_remote(path):
        info: dict[str, Any] = cast(Any, path).fs.info(cast(Any, path).path)
        for name in _CHECKSUMS:
            if info.get(name):
                return f"{name}:{info[name]}"
    return sha256_file(path)


def upload(file: Path, target: Path) -> None:
    """Put a file of this machine into a bucket, where it appears when all of it has arrived.

    Raises:
        StorageFailed: it cannot be written there.
    """
    try:
        store = cast(Any, target)
        store.fs.put_file(str(file), store.path)
    except Exception as error:
        raise StorageFailed(f"{target} cannot be written: {error}.") from error


@contextmanager
def staged_folder(output: Path, *, last: str, overwrite: bool = False) -> Iterator[Path]:
    """Yield the folder to write: the output, or for one in a bucket a folder that goes up.

    Args:
        output: the folder.
        last: the file that goes up after the others: without it the folder counts as unfinished.
        overwrite: write into a folder that has this file already.

    Raises:
        StorageFailed: the folder holds other things, or one in a bucket holds anything or cannot
            be written.
    """
    if not is_remote(output):
        if overwrite and _holds_other_things(output, last):
            refuse_other_things(output, last)
        yield output
        return
    if str(output).startswith(SCHEME):
        with bucket_folder(BucketPath.parse(str(output)), last=last, overwrite=overwrite) as folder:
            yield folder
        return
    try:
        is_taken = output.is_dir() and any(output.iterdir())
    except Exception as error:
        raise StorageFailed(f"{output} cannot be written: {error}.") from error
    if is_taken and not overwrite:
        refuse_existing(output)
    with TemporaryDirectory(prefix="classmark-") as place:
        folder = Path(place, output.name)
        yield folder
        for file in sorted(folder.iterdir(), key=lambda file: (file.name == last, file.name)):
            upload(file, output / file.name)


def _holds_other_things(folder: Path, last: str) -> bool:
    with storage_errors(folder):
        return folder.is_dir() and any(folder.iterdir()) and not (folder / last).is_file()


def _is_visible_file(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".")
