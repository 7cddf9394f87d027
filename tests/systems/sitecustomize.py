"""Lets classmark, in every process that has this folder in PYTHONPATH, see another system.

``CLASSMARK_TEST_SYSTEM`` is ``win32`` or ``darwin``. What classmark's own modules import is a view
of the real module without what that system lacks; libraries keep the real one, because theirs are
other builds there. Of Windows, what files do is imitated as well:

- an open or mapped file can be neither renamed, replaced nor deleted, nor can a folder that holds
  one; a folder cannot be opened, and nothing is renamed onto an existing name;
- nothing has a name with ``<>:"|?*``, a reserved one, or one that ends in a dot or a space;
- a byte that another handle has locked cannot be read; here, such a file cannot be opened to read.
"""

from __future__ import annotations

import builtins
import os
import re
import shutil
import signal
import socket
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SYSTEM = os.environ.get("CLASSMARK_TEST_SYSTEM", "")
_MISSING_MODULES = {
    "win32": {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "posix", "uvloop"},
    "darwin": {"msvcrt", "winreg"},
}
_MISSING_NAMES = {
    "win32": {
        "os": "fork forkpty register_at_fork geteuid getuid getgid getegid fchmod fchown chown "
        "killpg getpgid setsid setpgrp waitstatus_to_exitcode wait wait3 wait4 pread pwrite preadv "
        "posix_fallocate posix_fadvise sched_getaffinity sched_setaffinity sysconf statvfs uname "
        "getloadavg openpty mkfifo mknod nice sync fdatasync pathconf confstr WNOHANG O_NONBLOCK "
        "O_NOCTTY O_DIRECTORY O_NOFOLLOW O_CLOEXEC O_SYNC O_TMPFILE set_blocking get_blocking",
        "signal": "SIGHUP SIGKILL SIGALRM SIGUSR1 SIGUSR2 SIGCHLD SIGPIPE SIGQUIT SIGSTOP SIGCONT "
        "alarm setitimer pthread_sigmask pthread_kill sigwait sigpending SIG_BLOCK SIG_SETMASK "
        "SIG_UNBLOCK siginterrupt",
        "socket": "AF_UNIX SO_REUSEPORT MSG_DONTWAIT MSG_NOSIGNAL",
        "mmap": "MADV_DONTNEED MADV_WILLNEED MAP_SHARED MAP_PRIVATE PROT_READ",
    },
    "darwin": {
        "os": "sched_getaffinity sched_setaffinity posix_fallocate posix_fadvise fdatasync",
        "mmap": "MAP_POPULATE",
    },
}
_BAD_CHARACTERS = re.compile(r'[<>:"|?*\x00-\x1f]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com[1-9]|lpt[1-9])(\..*)?", re.IGNORECASE)
_SHARING, _TEXT = 32, "The process cannot access the file because another process is using it"


class View(types.ModuleType):
    """A module without some of its names, and with other values of some."""

    def __init__(self, real: types.ModuleType, missing: set[str], **other: object) -> None:
        super().__init__(real.__name__)
        self.__dict__.update(_real=real, _missing=missing, _other=other)

    def __getattr__(self, name: str) -> Any:
        if name in self._missing:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r} on {SYSTEM}")
        return self._other[name] if name in self._other else getattr(self._real, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._real, name, value)


def _missing(module: str) -> set[str]:
    return set(_MISSING_NAMES[SYSTEM].get(module, "").split())


def _views() -> dict[str, types.ModuleType]:
    import mmap

    views: dict[str, types.ModuleType] = {
        "sys": View(sys, set(), platform=SYSTEM),
        "signal": View(signal, _missing("signal")),
        "socket": View(socket, _missing("socket")),
        "mmap": View(mmap, _missing("mmap")),
        "os": View(os, _missing("os")),
    }
    if SYSTEM == "win32":
        views["os"] = View(os, _missing("os"), name="nt", O_BINARY=0, open=_opened)
        views["msvcrt"] = _msvcrt()
    return views


def _msvcrt() -> types.ModuleType:
    import fcntl

    module = types.ModuleType("msvcrt")

    def locking(handle: int, _mode: int, _n_bytes: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)

    module.__dict__.update(locking=locking, LK_NBLCK=2, LK_UNLCK=0)
    return module


def _opened(path: Any, flags: int, mode: int = 0o777) -> int:
    _check_name(path)
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", os.fspath(path))
    return _REAL["open"](path, flags, mode)


def _check_name(path: Any) -> None:
    if isinstance(path, int) or str(path).startswith(("/dev/", "/proc/")):
        return
    for part in Path(os.fsdecode(path)).parts:
        is_bad = _BAD_CHARACTERS.search(part) or _RESERVED.fullmatch(part)
        if is_bad or (part not in (".", "..") and part.endswith((".", " "))):
            raise OSError(22, "Invalid argument", os.fspath(path))


def _in_use() -> Iterator[str]:
    """Yield the files that this process has open or mapped."""
    for handle in _REAL["listdir"]("/proc/self/fd"):
        try:
            yield os.readlink(f"/proc/self/fd/{handle}")
        except OSError:
            continue
    with _REAL["open_file"]("/proc/self/maps", encoding="utf-8") as lines:
        yield from (line.split(maxsplit=5)[5].rstrip() for line in lines if "/" in line)


def _refuse_in_use(path: Any, *, whole: bool) -> None:
    """Raise what Windows does for a file that is open, or a folder with one."""
    real = os.path.realpath(os.path.dirname(os.fspath(path)) or ".")
    real = os.path.join(real, os.path.basename(os.fspath(path)))
    for used in _in_use():
        if used == real or (whole and used.startswith(real + os.sep)):
            raise PermissionError(13, f"{_TEXT} ({used})", os.fspath(path))


_REAL: dict[str, Callable[..., Any]] = {
    "open": os.open,
    "rename": os.rename,
    "replace": os.replace,
    "unlink": os.unlink,
    "rmdir": os.rmdir,
    "mkdir": os.mkdir,
    "listdir": os.listdir,
    "open_file": builtins.open,
    "import": builtins.__import__,
}


def _rename(source: Any, target: Any, **options: Any) -> None:
    _check_name(target)
    _refuse_in_use(source, whole=True)
    if os.path.lexists(target):
        raise FileExistsError(17, "Cannot create a file when that file already exists", target)
    _REAL["rename"](source, target, **options)


def _replace(source: Any, target: Any, **options: Any) -> None:
    _check_name(target)
    _refuse_in_use(source, whole=True)
    if os.path.isdir(target):
        raise PermissionError(13, "Access is denied", os.fspath(target))
    if os.path.lexists(target):
        _refuse_in_use(target, whole=False)
    _REAL["replace"](source, target, **options)


def _unlink(path: Any, **options: Any) -> None:
    if "dir_fd" not in options or options["dir_fd"] is None:
        _refuse_in_use(path, whole=False)
    _REAL["unlink"](path, **options)


def _mkdir(path: Any, *arguments: Any, **options: Any) -> None:
    _check_name(path)
    _REAL["mkdir"](path, *arguments, **options)


def _open_file(file: Any, *arguments: Any, **options: Any) -> Any:
    if not isinstance(file, str | os.PathLike):
        return _REAL["open_file"](file, *arguments, **options)
    _check_name(file)
    opened = _REAL["open_file"](file, *arguments, **options)
    if opened.readable() and os.path.isfile(file):
        _refuse_locked(opened)
    return opened


def _refuse_locked(opened: Any) -> None:
    """Raise what Windows does when a byte is read that another handle has locked."""
    import fcntl

    try:
        fcntl.flock(opened.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        opened.close()
        raise PermissionError(13, "Permission denied", str(opened.name)) from None
    fcntl.flock(opened.fileno(), fcntl.LOCK_UN)


def _is_own(module: dict[str, Any] | None) -> bool:
    """Tell whether a module is classmark's; ``python -m`` calls the first one ``__main__``."""
    name, package = (str((module or {}).get(key) or "") for key in ("__name__", "__package__"))
    return f"{package or name}.".startswith("classmark.")


def _imitate() -> None:
    views, missing = _views(), _MISSING_MODULES[SYSTEM]

    def import_module(name: str, globals: Any = None, *more: Any, **options: Any) -> Any:
        if _is_own(globals):
            if name in missing:
                raise ModuleNotFoundError(f"No module named {name!r} on {SYSTEM}", name=name)
            if name in views:
                return views[name]
        return _REAL["import"](name, globals, *more, **options)

    builtins.__import__ = import_module
    if SYSTEM != "win32":
        return
    shutil._use_fd_functions = False  # type: ignore[attr-defined]
    os.rename, os.replace = _rename, _replace  # type: ignore[assignment]
    os.unlink = os.remove = _unlink  # type: ignore[assignment]
    os.mkdir = _mkdir  # type: ignore[assignment]
    builtins.open = _open_file  # type: ignore[assignment]
    import io

    io.open = _open_file  # type: ignore[assignment]


if SYSTEM:
    _imitate()
