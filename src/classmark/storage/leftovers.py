"""Temporary files and folders beside an output, and what a killed run leaves of them.

``.NAME.xxxxxxxx.classmark-tmp`` is an output that is being written, or one that is being removed.
``.NAME.xxxxxxxx.classmark-old`` is a folder that was set aside while its successor is made.
Its maker holds a lock on it, which ends with the process. A killed run leaves one without a lock:
the next run that writes NAME removes it, or brings the old folder back.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import shutil
import stat
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from classmark.storage.lock import is_same, try_lock

IN_WORK, SET_ASIDE = ".classmark-tmp", ".classmark-old"
HALF_MADE = ".classmark-unfinished"
"""File in a folder that is made under its final name; held while that is done."""

_TOKEN_BYTES = 4
_MAX_STEM_BYTES = 255 - len(f"..{'x' * 2 * _TOKEN_BYTES}{IN_WORK}")
_NAMES = re.compile(rf"\.(.*)\.[0-9a-f]{{{2 * _TOKEN_BYTES}}}({IN_WORK}|{SET_ASIDE})", re.DOTALL)
_FOLDER_FLAGS = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
_FILE_FLAGS = os.O_RDWR | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
_log = logging.getLogger("classmark.storage")


class Temporary(NamedTuple):
    """A temporary file or folder, and the open file that holds its lock."""

    path: Path
    handle: int


def new_name(target: Path, suffix: str) -> Path:
    """Return a name beside an output that nothing has."""
    token = secrets.token_hex(_TOKEN_BYTES)
    return target.with_name(f".{_stem(target)}.{token}{suffix}")


def make_file(target: Path, mode: int) -> Temporary:
    """Make an empty file beside an output, open for writing and held.

    Args:
        target: the output.
        mode: of the file; the umask applies.
    """
    while True:
        path = new_name(target, IN_WORK)
        handle = os.open(path, _FILE_FLAGS | os.O_CREAT | os.O_EXCL, mode)
        if hold(handle, path):
            return Temporary(path, handle)
        os.close(handle)  # somebody who looks for leftovers was faster


def make_folder(target: Path) -> Temporary:
    """Make an empty folder beside an output, and hold it."""
    while True:
        path = new_name(target, IN_WORK)
        path.mkdir()
        try:
            handle = open_folder(path)
        except BaseException:
            path.rmdir()
            raise
        if hold(handle, path):
            return Temporary(path, handle)
        close(handle)


def open_folder(path: Path) -> int:
    """Return an open folder that can be held; -1 where folders cannot be opened."""
    return -1 if os.name == "nt" else os.open(path, _FOLDER_FLAGS)


def close(handle: int) -> None:
    """Close an open file or folder, which ends its lock."""
    if handle >= 0:
        os.close(handle)


def closed_to_change(handle: int) -> int:
    """Close a file that is to be renamed or removed, on Windows only; returns what is still open.

    There an open file can be neither renamed nor removed. Elsewhere it stays held, so that no
    other run takes it for its own in between.
    """
    if os.name != "nt":
        return handle
    close(handle)
    return -1


def hold(handle: int, path: Path) -> bool:
    """Hold an open file or folder until it is closed; False if somebody else does, or it is gone.

    Where the file system has no locks, nobody removes leftovers either.
    """
    if handle < 0:
        return True
    try:
        if not try_lock(handle):
            return False
    except OSError:
        return True
    return is_same(handle, path)


def remove(path: Path) -> None:
    """Remove a file or a folder that has served; say so if something of it stays."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except FileNotFoundError:  # another run removes it, too
        shutil.rmtree(path, ignore_errors=True)
    except OSError as error:
        _log.warning("cannot remove %s: %s. Remove it yourself.", path, error.strerror)


def recover(target: Path) -> None:
    """Put right what killed runs have left of an output; what a run holds that is alive stays.

    Args:
        target: the output; no link.
    """
    _remove_half_made(target)
    for path, stem in _leftovers(target.parent):
        if stem == _stem(target):
            _settle(path, target)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed runs have left in a folder whose outputs have new names in every run."""
    for path, _ in _leftovers(folder):
        if path.name.endswith(IN_WORK):
            _settle(path, path)


def _leftovers(folder: Path) -> list[tuple[Path, str]]:
    """Return the temporary files and folders in a folder, each with the name it belongs to."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 - a folder may be large
    except OSError:
        return []
    found = [_NAMES.fullmatch(name) for name in sorted(names)]
    return [(folder / match[0], match[1]) for match in found if match]


def _settle(path: Path, target: Path) -> None:
    """Remove a leftover, or bring it back if it is the old folder and there is no new one."""
    with suppress(OSError):  # another user's, or on a disk without locks
        handle = os.open(path, _FILE_FLAGS if path.is_file() else _FOLDER_FLAGS)
        try:
            if not _was_left(handle, path):
                return
            handle = closed_to_change(handle)
            if path.name.endswith(SET_ASIDE) and not os.path.lexists(target):
                path.rename(target)
            else:
                remove(path)
        finally:
            close(handle)


def _remove_half_made(target: Path) -> None:
    """Remove a folder whose making under its final name was cut off by a kill."""
    mark = target / HALF_MADE
    with suppress(OSError):
        handle = os.open(mark, _FILE_FLAGS)
        try:
            if _was_left(handle, mark):
                handle = closed_to_change(handle)
                aside = new_name(target, IN_WORK)
                target.rename(aside)
                remove(aside)
        finally:
            close(handle)


def _was_left(handle: int, path: Path) -> bool:
    """Tell whether a file or folder is ours to remove: made by this user, and held by nobody."""
    found = os.fstat(handle)
    if hasattr(os, "geteuid") and found.st_uid != os.geteuid():
        return False
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        return False
    return try_lock(handle) and is_same(handle, path)


def _stem(target: Path) -> str:
    """Return as much of a name as leaves room for what is added to it."""
    raw = os.fsencode(target.name)
    if len(raw) <= _MAX_STEM_BYTES:
        return target.name
    return raw[:_MAX_STEM_BYTES].decode("utf-8", "ignore")
