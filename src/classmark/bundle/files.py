"""Reads the files of a bundle: regular files only, bounded in size, each read once.

Standard library only: ``--version`` runs it.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from classmark.errors import BundleCorrupt, unreadable

MANIFEST_FILE = "bundle.json"
CARD_FILE = "CARD.md"
MOST_MANIFEST_BYTES = 4 << 20
"""The manifest of 10,000 labels takes a tenth of it."""

# A link could lead out of the bundle, and opening a pipe waits for its writer.
_FLAGS = os.O_RDONLY | sum(
    getattr(os, name, 0) for name in ("O_BINARY", "O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK")
)

_AGAIN = "Install or export the model again"
_LINK = "is a symbolic link; a bundle holds regular files only"


@contextmanager
def opened(path: Path) -> Iterator[tuple[io.RawIOBase, int]]:
    """Yield an open file and its size in bytes.

    Raises:
        FileNotFoundError: it does not exist.
        BundleCorrupt: it is a link, a folder or a device, or cannot be read.
    """
    with io.FileIO(_open(path), "rb") as file:
        yield file, os.fstat(file.fileno()).st_size


def _open(path: Path) -> int:
    try:
        is_link, handle = path.is_symlink(), os.open(path, _FLAGS)
    except OSError as error:
        if path.is_symlink():
            raise corrupt(path, _LINK) from error
        if isinstance(error, FileNotFoundError):
            raise
        raise unread(path, error) from error
    is_regular = stat.S_ISREG(os.fstat(handle).st_mode)
    if is_link or not is_regular:
        os.close(handle)
        raise corrupt(path, _LINK if is_link else "cannot be read (it is not a regular file)")
    return handle


def read_manifest_bytes(folder: Path) -> bytes:
    """Return the content of ``bundle.json``; raises what ``read_small`` does."""
    return read_small(folder / MANIFEST_FILE)


def read_small(path: Path) -> bytes:
    """Return the content of a JSON file of a bundle.

    Raises:
        FileNotFoundError: it does not exist.
        BundleCorrupt: it is too large, not a regular file, or cannot be read.
    """
    with opened(path) as (file, n_bytes):
        if n_bytes > MOST_MANIFEST_BYTES:
            raise corrupt(path, f"has {n_bytes:,} bytes, more than {MOST_MANIFEST_BYTES:,}")
        try:
            return file.read(n_bytes) or b""
        except OSError as error:
            raise unread(path, error) from error


def refuse_unknown_files(folder: Path, known: Collection[str]) -> None:
    """Check that a folder holds nothing but known regular files; hidden files count too.

    Args:
        folder: of a bundle.
        known: relative paths of its files.

    Raises:
        BundleCorrupt: names the first file that does not belong.
    """

    def fail(error: OSError) -> None:
        raise unread(Path(error.filename or folder), error)

    # os.walk, because rglob fails where a folder vanishes under it.
    for root, folders, names in os.walk(folder, onerror=fail):
        folders.sort()
        for name in sorted([*folders, *names]):
            path = Path(root, name)
            if name.startswith("."):
                raise corrupt(
                    path,
                    "is hidden and does not belong to the bundle. Delete it (file managers and "
                    "editors leave such files behind) and try again",
                )
            if path.is_symlink():
                raise corrupt(path, _LINK)
            if name in names and path.relative_to(folder).as_posix() not in known:
                raise corrupt(path, "does not belong to the bundle")


def corrupt(path: Path, problem: str) -> BundleCorrupt:
    """Return the error of a file of a bundle."""
    return BundleCorrupt(f"{path} {problem}. {_AGAIN}.")


def unread(path: Path, error: OSError) -> BundleCorrupt:
    """Return the error of a file of a bundle that the system does not read."""
    return BundleCorrupt(f"{path} {unreadable(error, _AGAIN)}")
