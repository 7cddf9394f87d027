"""Atomic writes: a reader sees the old content or the new one, never a part."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO

from classmark.errors import StorageFailed
from classmark.storage.bucket import BucketPath
from classmark.storage.durable import sync_folder, sync_tree
from classmark.storage.failures import storage_errors
from classmark.storage.leftovers import (
    HALF_MADE,
    IN_WORK,
    SET_ASIDE,
    Temporary,
    close,
    closed_to_change,
    hold,
    make_file,
    make_folder,
    new_name,
    open_folder,
    recover,
    remove,
)
from classmark.storage.places import (
    check_folder_place,
    check_name,
    is_stream,
    refuse_existing,
    target_of,
)
from classmark.storage.upload import bucket_file, bucket_folder

_CHUNK_BYTES = 1 << 20
_SHARED, _PRIVATE = 0o666, 0o600
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # Linux
_RENAME_SWAP = 2  # macOS
_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EXDEV}


@contextmanager
def atomic_file(path: Path, *, private: bool = False) -> Iterator[IO[bytes]]:
    """Yield a binary file that replaces ``path`` at the end of the block, or not at all.

    A device or a pipe is never replaced: what is written goes into it as it comes.

    Args:
        path: the file.
        private: from the first byte on, nobody but its owner, and its group if that may already,
            can read it; owner, group and mode of a file that is replaced are kept.

    Raises:
        StorageFailed: the folder cannot be made or written (read-only, full disk ...), or the
            owner of a private file cannot be kept.
    """
    if isinstance(path, BucketPath):
        with bucket_file(path) as file:
            yield file
        return
    if is_stream(path):
        with storage_errors(path), _closed_at_the_end(path.open("wb")) as file:
            yield file
        return
    target = target_of(path)
    with storage_errors(path):
        check_name(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        recover(target)
        temporary = make_file(target, _PRIVATE if private else _SHARED)
    try:
        with storage_errors(path), _closed_at_the_end(os.fdopen(temporary.handle, "wb")) as file:
            yield file
            file.flush()
            if private:
                _keep_owner(file.fileno(), target)
            os.fsync(file.fileno())
            if os.name != "nt":  # an open file cannot be renamed there
                temporary.path.replace(target)
        with storage_errors(path):
            if os.name == "nt":  # pragma: no cover - not on this system
                temporary.path.replace(target)
            sync_folder(target.parent)
    finally:
        remove(temporary.path)


def publish(file: Path, path: Path) -> None:
    """Let a file that is whole replace another one of the same disk, for good.

    Raises:
        StorageFailed: it cannot be moved there.
    """
    target = target_of(path)
    with storage_errors(path):
        file.replace(target)
        sync_folder(target.parent)


@contextmanager
def atomic_folder(
    path: Path, *, overwrite: bool = False, last: str | None = None
) -> Iterator[Path]:
    """Yield an empty folder that becomes ``path`` at the end of the block, or vanishes.

    Args:
        path: the final folder.
        overwrite: replace what is there; else a non-empty folder is an error.
        last: the file that goes up last into a bucket, as ``bucket_folder`` has it.

    Raises:
        StorageFailed: something is in the way, or it cannot be written.
    """
    if isinstance(path, BucketPath):
        with bucket_folder(path, last=last, overwrite=overwrite) as folder:
            yield folder
        return
    check_folder_place(path, overwrite=overwrite)
    target = target_of(path)
    with storage_errors(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = make_folder(target)
    try:
        with storage_errors(path):
            yield temporary.path
            sync_tree(temporary.path)
            _put(temporary.path, target, path, overwrite=overwrite)
            sync_folder(target.parent)
    finally:
        remove(temporary.path)
        close(temporary.handle)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield an empty folder for intermediate files, which goes at the end of the block.

    It is in the system's folder for temporary files (``TMPDIR``). What a killed run left there goes
    first.

    Raises:
        StorageFailed: it cannot be made (no such folder, full disk ...).
    """
    target = Path(tempfile.gettempdir(), "classmark")
    with storage_errors(target):
        recover(target)
        temporary = make_folder(target)
    try:
        yield temporary.path
    finally:
        remove(temporary.path)
        close(temporary.handle)


@contextmanager
def restored_on_failure(path: Path) -> Iterator[None]:
    """Set a folder aside while a new one is made in its place; a failure brings it back.

    After a kill, the next call of this or of ``recover_output`` brings it back. For folders whose
    content must know its final path while it is made; else ``atomic_folder``.

    Raises:
        StorageFailed: the folder cannot be moved (read-only ...).
    """
    target = target_of(path)
    with storage_errors(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        recover(target)
        old = _set_aside(target)
    try:
        with storage_errors(path), _half_made(target):
            yield
        remove(old.path)
    except BaseException:
        _bring_back(old.path, target)
        raise
    finally:
        close(old.handle)


def write_text(path: Path, text: str, *, private: bool = False) -> None:
    """Write UTF-8 text atomically."""
    with atomic_file(path, private=private) as file:
        file.write(text.encode())


def write_json(path: Path, value: object, *, private: bool = False) -> None:
    """Write a JSON document atomically, indented, with a final newline."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n", private=private)


def discard(path: Path) -> None:
    """Remove a folder in one step: after a kill it is whole, or no longer under its name.

    What a kill leaves of it goes with ``recover_output`` of the same path.

    Raises:
        StorageFailed: it cannot be moved.
    """
    target = target_of(path)
    with storage_errors(path):
        aside = new_name(target, IN_WORK)
        target.rename(aside)
        sync_folder(target.parent)
    remove(aside)


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def _closed_at_the_end(opened: IO[bytes]) -> Iterator[IO[bytes]]:
    """Yield an open file; that it cannot be closed never hides an earlier error."""
    with opened as file:
        try:
            yield file
        except BaseException:
            with suppress(OSError):
                file.close()
            raise


def _keep_owner(handle: int, target: Path) -> None:
    """Give a new file, which is its owner's alone, the owner, group and mode of another.

    Raises:
        StorageFailed: only root and, for its groups, the owner may do that.
    """
    if os.name == "nt" or not target.exists():  # no owners there; or nothing to keep
        return
    there, new = target.stat(), os.fstat(handle)
    if (there.st_uid, there.st_gid) != (new.st_uid, new.st_gid):
        try:
            os.fchown(handle, there.st_uid, there.st_gid)
        except OSError as error:
            raise StorageFailed(
                f"cannot write {target}: it belongs to user {_user(there.st_uid)} and group "
                f"{there.st_gid}, which user {_user(os.geteuid())} cannot keep so. Run the same as "
                f"{_user(there.st_uid)} or root."
            ) from error
    os.fchmod(handle, there.st_mode & (stat.S_IRWXU | stat.S_IRWXG))


def _user(uid: int) -> str:
    import pwd  # not on Windows

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _put(temporary: Path, target: Path, path: Path, *, overwrite: bool) -> None:
    """Give a folder its name; what had the name before is left under that of the temporary one."""
    try:
        if not overwrite or not target.exists():
            if os.name == "nt":  # an empty folder is in the way there
                with suppress(OSError):
                    target.rmdir()
            temporary.rename(target)
            return
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        if not overwrite:  # another run was faster
            refuse_existing(path)
    if not _exchange(temporary, target):
        _swap_in_two_steps(temporary, target)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two paths in one step; return False if the system or the disk cannot.

    Raises:
        OSError: one of them is missing, or may not be renamed.
    """
    call = _system_call()
    if call is None:
        return False
    if call(os.fsencode(first), os.fsencode(second)) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), str(first), None, str(second))


@cache
def _system_call() -> Callable[[bytes, bytes], int] | None:
    """Return the function of the C library; None where there is none."""
    name = {"linux": "renameat2", "darwin": "renamex_np"}.get(sys.platform)
    if name is None:  # pragma: no cover - not on this system
        return None
    function = getattr(ctypes.CDLL(None, use_errno=True), name, None)
    if function is None:  # pragma: no cover - an older C library
        return None
    function.restype = ctypes.c_int
    if sys.platform == "darwin":  # pragma: no cover - not on this system
        function.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_uint]
        return lambda first, second: function(first, second, _RENAME_SWAP)
    places = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    function.argtypes = places
    return lambda a, b: function(_AT_FDCWD, a, _AT_FDCWD, b, _RENAME_EXCHANGE)


def _swap_in_two_steps(temporary: Path, target: Path) -> None:
    """Replace a folder where names cannot be exchanged; a kill in between is put right later."""
    old = _set_aside(target)
    try:
        temporary.rename(target)
    except BaseException:
        old.path.rename(target)
        raise
    else:
        remove(old.path)
    finally:
        close(old.handle)


def _set_aside(target: Path) -> Temporary:
    """Rename a folder, if there is one, so that the next run brings it back; it is held."""
    aside = new_name(target, SET_ASIDE)
    if not target.exists():
        return Temporary(aside, -1)
    handle = open_folder(target)
    try:
        hold(handle, target)
        target.rename(aside)
    except BaseException:
        close(handle)
        raise
    return Temporary(aside, handle)


@contextmanager
def _half_made(target: Path) -> Iterator[None]:
    """Make an empty folder; for the block it is marked as half-made, and held."""
    temporary = make_folder(target)
    handle = -1
    try:
        handle = _held_mark(temporary.path)
        handle = closed_to_change(handle)
        temporary.path.rename(target)
        if handle < 0:
            handle = _held_mark(target)
        yield
        handle = closed_to_change(handle)
        (target / HALF_MADE).unlink(missing_ok=True)
    finally:
        remove(temporary.path)
        close(handle)
        close(temporary.handle)


def _held_mark(folder: Path) -> int:
    """Return the open file that marks a folder as half-made, and holds it."""
    mark = folder / HALF_MADE
    handle = os.open(mark, os.O_RDWR | os.O_CREAT, _SHARED)
    hold(handle, mark)
    return handle


def _bring_back(old: Path, target: Path) -> None:
    """Replace a half-made folder by the one that was set aside, if there was one."""
    half = new_name(target, IN_WORK)
    if target.exists():
        target.rename(half)
    if old.exists():
        old.rename(target)
    remove(half)
