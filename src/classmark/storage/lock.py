"""One run a folder, one writer a file: locks that end with the process, leases that run out."""

from __future__ import annotations

import _thread
import os
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

from classmark.errors import ClassmarkError, OutputBusy, OutputChanged, StorageFailed
from classmark.storage.bucket import BucketPath, PinnedPath, Version
from classmark.storage.failures import storage_errors

LOCK_FILE = "lock"
LOCK_WAIT_S = 60.0
LEASE_S = 300.0
_LOOK_AGAIN_S = 0.02
_MOST_TRIES = 1_000
_MOST_SHOWN = 200
_RENEWALS = 5
"""How often a lease is renewed in the time that it lasts."""


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


@contextmanager
def locked_file(path: Path, wait_s: float = LOCK_WAIT_S) -> Iterator[None]:
    """Hold a file for the block, to read and then replace it; if there is none, make an empty one.

    The file itself is the lock, so that who may read it may hold it, and nothing stays beside it.
    On Windows, where a file that is held could not be replaced, ``.NAME.lock`` beside it is.

    Args:
        path: the file.
        wait_s: seconds to wait for another process.

    Raises:
        OutputBusy: another process still holds it after that time.
        StorageFailed: it cannot be made or opened.
    """
    target = Path(os.path.realpath(path))
    if os.name == "nt":
        target = target.with_name(f".{target.name}.lock")
    with storage_errors(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle = _hold(target, wait_s)
    try:
        yield
    finally:
        os.close(handle)


@contextmanager
def replaceable(path: Path, *, lock: Path, wait_s: float = LOCK_WAIT_S) -> Iterator[Path]:
    """Yield the path of a file to read and then replace, with no change by others in between.

    A file of this machine is held by a lock; no process waits for another at a bucket, where the
    object is replaced only while it is the version that was read.

    Args:
        path: the file.
        lock: the file that is held.
        wait_s: seconds to wait for another process of this machine.

    Raises:
        OutputBusy, StorageFailed: as ``locked_file``; replacing an object may also raise
            ``OutputChanged``.
    """
    if isinstance(path, BucketPath):
        yield cast(Path, PinnedPath(path.bucket, path.key))
        return
    with locked_file(lock, wait_s):
        yield path


@contextmanager
def leased(path: Path | BucketPath, lasts_s: float = LEASE_S) -> Iterator[None]:
    """Hold an object in a bucket for the block, which the main thread runs; delete it at the end.

    No lock reaches from one machine to another, so the object counts as held while somebody has
    written it in the last ``lasts_s`` seconds. Its holder writes it more often than that; if it was
    taken away all the same, because this process stood still, the block is interrupted.

    Args:
        path: of the object, in a bucket.
        lasts_s: seconds for which the lease of a process that vanished lasts.

    Raises:
        OutputBusy: another process holds it, or took it away.
        StorageFailed: it cannot be written.
    """
    lease = _Lease(cast(BucketPath, path), lasts_s)
    lease.take()
    renewing = threading.Thread(target=lease.keep, daemon=True)
    renewing.start()
    try:
        yield
    except KeyboardInterrupt:
        if lease.is_lost:
            raise OutputBusy(
                f"another run holds {path}, because this one did not renew it for too long. "
                "Start this one again when the other has ended."
            ) from None
        raise
    finally:
        lease.end()
        renewing.join()
        lease.give_back()


class _Lease:
    """An object in a bucket that one process at a time keeps writing."""

    def __init__(self, path: BucketPath, lasts_s: float) -> None:
        self.is_lost = False
        self._path = path
        self._lasts_s = lasts_s
        self._version = Version(path.key)
        self._ended = threading.Event()
        self._ending = threading.Lock()

    def take(self) -> None:
        """Hold it, if nobody does.

        Raises:
            OutputBusy: another process does.
        """
        found = self._path.version()
        age_s = (time.time_ns() - found.updated_ns) / 1e9
        if found.generation and age_s < self._lasts_s:
            raise self._busy()
        try:
            self._write(found)
        except OutputChanged as error:
            raise self._busy() from error

    def keep(self) -> None:
        """Write it again and again until the end; interrupt the main thread when it is lost."""
        try:
            self._renew()
        finally:
            with self._ending:
                if not self._ended.is_set():
                    self.is_lost = True
                    _interrupt_main()

    def end(self) -> None:
        """Stop writing it."""
        with self._ending:
            self._ended.set()

    def give_back(self) -> None:
        """Delete it, unless it is another's by now."""
        with suppress(ClassmarkError):
            self._path.unlink(before=self._version)

    def _renew(self) -> None:
        renewed = time.monotonic()
        while not self._ended.wait(self._lasts_s / _RENEWALS):
            began = time.monotonic()
            try:
                self._write(self._version)
                renewed = began
            except OutputChanged:
                return
            except ClassmarkError:  # the bucket does not answer; perhaps it will
                # Half, because the next attempt takes its time too and must end within the lease.
                if time.monotonic() - renewed > self._lasts_s / 2:
                    return

    def _write(self, before: Version) -> None:
        holder = f"process {os.getpid()} of {socket.gethostname()}"
        self._version = self._path.write(holder.encode(), before=before)

    def _busy(self) -> OutputBusy:
        holder = "another run"
        with suppress(FileNotFoundError, UnicodeDecodeError, ClassmarkError):
            holder = f"{self._path.read_text()[:_MOST_SHOWN]!r}"
        return OutputBusy(
            f"{self._path} is held by {holder}. Wait for it; if it vanished, its lease runs out "
            f"{self._lasts_s:g} s after it last wrote there."
        )


def _interrupt_main() -> None:
    """Raise KeyboardInterrupt in the main thread; while it waits too, except on Windows."""
    main = threading.main_thread().ident
    if sys.platform == "win32" or main is None:
        _thread.interrupt_main()
    else:
        signal.pthread_kill(main, signal.SIGINT)


def _hold(path: Path, wait_s: float) -> int:
    until = time.monotonic() + wait_s
    while True:
        handle = _open_or_make(path)
        is_ours = try_lock(handle)
        if is_ours and is_same(handle, path):
            return handle
        os.close(handle)  # held by another process, or replaced by it before we held it
        if not is_ours:
            if time.monotonic() > until:
                waited = f" for {wait_s:g} s" if wait_s else ""
                finder = "" if os.name == "nt" else f" (`fuser {path}` names it)"
                raise OutputBusy(
                    f"another process has held {path}{waited}. Wait for it, or end it{finder}, "
                    "then try again."
                )
            time.sleep(_LOOK_AGAIN_S)


def _open_or_make(path: Path) -> int:
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        return os.open(path, os.O_RDONLY | os.O_CREAT, 0o600)
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return handle
    os.close(handle)  # nothing can be read from a pipe and put back
    raise StorageFailed(f"cannot write {path}: it is not a regular file. Choose another path.")


def _acquire(folder: Path, otherwise: str) -> int:
    path = folder / LOCK_FILE
    for tries_left in reversed(range(_MOST_TRIES)):
        with storage_errors(folder):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            except (FileNotFoundError, FileExistsError):
                if not tries_left:
                    raise
                continue  # the run before may have just removed the folder
        if not _locked(handle, folder):
            os.close(handle)
            raise OutputBusy(f"another run is at work in {folder}. Wait for it, or {otherwise}.")
        if is_same(handle, path):
            return handle
        os.close(handle)  # the run before removed it between our opening and our locking
    raise OutputBusy(f"other runs make and remove {folder} all the time. Try again.")


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
