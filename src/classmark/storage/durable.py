"""What was written stays, even after a power cut."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from classmark.storage.bucket import BucketPath
from classmark.storage.failures import storage_errors, system_error
from classmark.storage.upload import append_object


def append(path: Path, content: bytes, *, after: int) -> None:
    """Write bytes after the first ``after`` bytes of a file; what followed them goes.

    A kill may leave a part of them: readers must tell a line that is not whole. In a bucket, the
    object is written again; nothing may follow those first bytes there.

    Raises:
        OutputChanged: an object has another number of bytes.
        StorageFailed: it cannot be written; what was there before may be followed by a part.
    """
    if isinstance(path, BucketPath):
        append_object(path, content, after=after)
        return
    with storage_errors(path), path.open("r+b", buffering=0) as file:
        file.truncate(after)
        file.seek(after)
        if file.write(content) != len(content):
            raise system_error(errno.ENOSPC)
        os.fsync(file.fileno())


def sync_tree(folder: Path) -> None:
    """Make sure that every file and every name in a folder is on the disk."""
    for root, _, names in os.walk(folder):
        for name in names:
            _sync(Path(root, name))
        sync_folder(Path(root))


def sync_folder(path: Path) -> None:
    """Make sure that every name in a folder is on the disk."""
    if os.name != "nt":  # folders cannot be synced there
        _sync(path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
