"""Atomic writes: a reader sees the old content or the new one, never a part."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from classmark.errors import StorageFailed

_CHUNK_BYTES = 1 << 20
_REMEDIES = {
    errno.ENOSPC: "the disk is full. Free some space, or choose another output.",
    errno.EDQUOT: "the disk quota is used up. Free some space, or choose another output.",
    errno.EROFS: "the file system is read-only. Choose another output.",
    errno.EACCES: "permission denied. Choose another output.",
    errno.EPERM: "permission denied. Choose another output.",
    errno.EEXIST: "a part of the path is a file. Choose another output.",
    errno.ENOTDIR: "a part of the path is a file. Choose another output.",
    errno.EISDIR: "it is a folder. Choose another output.",
}


@contextmanager
def atomic_file(path: Path, *, private: bool = False) -> Iterator[IO[bytes]]:
    """Yield a binary file that replaces ``path`` at the end of the block, or not at all.

    A device or a pipe is never replaced: what is written goes into it as it comes.

    Args:
        path: the final file.
        private: nobody but its owner, and its group if that may already, can ever read it; owner,
            group and mode of a file that is replaced are kept.

    Raises:
        StorageFailed: the folder cannot be made or written (read-only, full disk ...), or the
            owner of a private file cannot be kept.
    """
    if _is_stream(path):
        with storage_errors(path), path.open("wb") as file:
            yield file
        return
    target = _target(path)
    with storage_errors(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    temporary = Path(name)
    try:
        with storage_errors(path), os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            if private:
                _keep_owner(file.fileno(), target)
            os.fsync(file.fileno())
            if not private:
                _apply_umask(temporary)
        with storage_errors(path):
            temporary.replace(target)
            _sync_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty folder that becomes ``path`` at the end of the block, or vanishes.

    Args:
        path: the final folder.
        overwrite: replace what is there; else a non-empty folder is an error.

    Raises:
        StorageFailed: something is in the way, or it cannot be written.
    """
    check_folder_place(path, overwrite=overwrite)
    target = _target(path)
    with storage_errors(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        with storage_errors(path):
            yield temporary
            for file in sorted(temporary.rglob("*")):
                if file.is_file():
                    _sync_file(file)
            _apply_umask(temporary, folder=True)
            _swap_folder(temporary, target)
            _sync_folder(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_file_place(path: Path) -> None:
    """Refuse, before any work is done for it, a file that could not be written; leaves no trace.

    Raises:
        StorageFailed: says why.
    """
    with storage_errors(path):
        if path.is_dir():
            raise _system_error(errno.EISDIR)
        if not _is_stream(path):
            _try_to_write(path)


def check_folder_place(path: Path, *, overwrite: bool = False) -> None:
    """Refuse, before any work is done for it, a folder that could not be made; leaves no trace.

    Raises:
        StorageFailed: something is there already and may not be replaced, or the reason of the
            file system.
    """
    if path.is_file() or (not overwrite and path.is_dir() and any(path.iterdir())):
        raise StorageFailed(
            f"{path} already exists. Choose another output, or replace it with --overwrite."
        )
    with storage_errors(path):
        _try_to_write(path)


@contextmanager
def restored_on_failure(path: Path) -> Iterator[None]:
    """Set a folder aside while a new one is made in its place; a failure brings it back.

    For folders whose content must know its final path while it is made; else ``atomic_folder``.

    Raises:
        StorageFailed: the folder cannot be moved (read-only ...).
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
    try:
        if path.exists():
            with storage_errors(path):
                path.replace(aside / path.name)
        yield
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        if (aside / path.name).exists():
            (aside / path.name).replace(path)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_file(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write a JSON document atomically, indented, with a final newline."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _is_stream(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()


def _target(path: Path) -> Path:
    """Return where a link leads: what is replaced is what it points to, never the link."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _try_to_write(path: Path) -> None:
    """Make and remove a file in the nearest folder that there is."""
    target = _target(path)
    place = target.parent
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise _system_error(errno.ENOTDIR)
    with tempfile.NamedTemporaryFile(prefix=f".{target.name}.", dir=place):
        pass


def _system_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the errors of writing ``path`` that have a remedy into one that names it.

    Raises:
        StorageFailed: full disk, read-only, not permitted, in the way.
    """
    try:
        yield
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0)
        if remedy is None:
            raise
        raise StorageFailed(f"cannot write {path}: {remedy}") from error


def _swap_folder(temporary: Path, path: Path) -> None:
    if not path.exists():
        temporary.replace(path)
        return
    retired = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
    path.replace(retired / path.name)
    temporary.replace(path)
    shutil.rmtree(retired, ignore_errors=True)


def _apply_umask(path: Path, *, folder: bool = False) -> None:
    umask = os.umask(0)
    os.umask(umask)
    path.chmod((0o777 if folder else 0o666) & ~umask)


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


def _sync_file(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    if os.name == "nt":  # pragma: no cover - folders cannot be synced there
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
