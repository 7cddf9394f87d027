"""One run a folder: a lock that ends with the process, however it ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from classmark.errors import OutputBusy
from classmark.storage.failures import storage_errors

LOCK_FILE = "lock"


@contextmanager
def locked_folder(folder: Path, otherwise: str = "choose another output") -> Iterator[None]:
    """Make a folder if there is none, and hold it for the block; at the end an empty one goes.

    The file of the lock stays in a folder that holds anything else.

    Args:
        folder: to hold. It may be removed meanwhile.
        otherwise: what one can do but wait while another process holds it.

    Raises:
        OutputBusy: another process holds it.
        StorageFailed: it cannot be written.
    """
    handle = _acquire(folder, otherwise)
    try:
        yield
    finally:
        _release(folder, handle)


def _acquire(folder: Path, otherwise: str) -> int:
    path = folder / LOCK_FILE
    while True:
        with storage_errors(folder):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            except (FileNotFoundError, FileExistsError):
                if folder.is_file() or folder.is_symlink():
                    raise
                continue  # the run before has just removed the folder
        if not _locked(handle, folder):
            os.close(handle)
            raise OutputBusy(f"another run is at work in {folder}. Wait for it, or {otherwise}.")
        if is_same(handle, path):
            return handle
        os.close(handle)  # the run before removed it between our opening and our locking


def _locked(handle: int, folder: Path) -> bool:
    try:
        with storage_errors(folder):
            return try_lock(handle)
    except BaseException:
        os.close(handle)
        raise


def is_same(handle: int, path: Path) -> bool:
    """Tell whether an open file is still the one that a path names."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _release(folder: Path, handle: int) -> None:
    is_ours = is_same(handle, folder / LOCK_FILE)  # the folder may be another run's by now
    if os.name == "nt":  # pragma: no cover - an open file cannot be removed there
        os.close(handle)
    # What is removed while it is held cannot be another run's; that one finds out in is_same.
    with suppress(OSError):
        if is_ours and [entry.name for entry in folder.iterdir()] == [LOCK_FILE]:
            (folder / LOCK_FILE).unlink()
            folder.rmdir()
    if os.name != "nt":
        os.close(handle)


if sys.platform == "win32":  # pragma: no cover - not on this system

    def try_lock(handle: int) -> bool:
        """Hold an open file until it is closed; False if somebody else does.

        Raises:
            OSError: the file system has no locks.
        """
        import msvcrt

        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:

    def try_lock(handle: int) -> bool:
        """Hold an open file until it is closed; False if somebody else does.

        Raises:
            OSError: the file system has no locks.
        """
        import fcntl

        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
