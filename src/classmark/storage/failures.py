"""What the system says when a file cannot be written, as one line that names the file."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from classmark.errors import StorageFailed

_OTHER_OUTPUT = "Choose another output."
_REMEDIES = {
    errno.ENOSPC: "the disk is full. Free some space, or choose another output.",
    errno.EDQUOT: "the disk quota is used up. Free some space, or choose another output.",
    errno.EFBIG: "the file would be larger than is allowed here. Raise the limit (`ulimit -f`).",
    errno.EROFS: f"the file system is read-only. {_OTHER_OUTPUT}",
    errno.EACCES: f"permission denied. {_OTHER_OUTPUT}",
    errno.EPERM: f"permission denied. {_OTHER_OUTPUT}",
    errno.EEXIST: f"a part of the path is a file. {_OTHER_OUTPUT}",
    errno.ENOTDIR: f"a part of the path is a file. {_OTHER_OUTPUT}",
    errno.EISDIR: f"it is a folder. {_OTHER_OUTPUT}",
    errno.ENAMETOOLONG: "the name is too long. Choose a shorter one.",
    errno.ELOOP: f"its links lead in a circle. {_OTHER_OUTPUT}",
    errno.EBUSY: "it is in use, for example as a mount point. Choose a place inside it.",
    errno.EIO: "the disk reported an error. Check the disk, or choose another output.",
    errno.EMFILE: "too many files are open. Raise the limit (`ulimit -n`).",
    errno.ENFILE: "too many files are open on this machine. Close other programs.",
    errno.ENOMEM: "out of memory. Close other programs.",
}


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn what the system reports while ``path`` is written into one error that names it.

    An error that names another file passes through, and so does a reader who has left a pipe.

    Raises:
        StorageFailed: says why, and what to do.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.errno is None or _names_another_file(error, path):
            raise
        raise StorageFailed(f"cannot write {path}: {_reason(error)}") from error


def system_error(number: int) -> OSError:
    """Return the error that the system would raise."""
    return OSError(number, os.strerror(number))


def _reason(error: OSError) -> str:
    return _REMEDIES.get(error.errno or 0) or (
        f"{os.strerror(error.errno or 0)}. Check the path and the disk, or choose another output."
    )


def _names_another_file(error: OSError, path: Path) -> bool:
    """Tell whether an error is about a file that is not ``path``, nor above, below or beside it."""
    if not isinstance(error.filename, str | bytes | os.PathLike):
        return False
    named = Path(os.path.realpath(os.fsdecode(error.filename)))
    target = Path(os.path.realpath(path))
    if target.is_relative_to(named) or named.is_relative_to(target):
        return False
    if not named.is_relative_to(target.parent):
        return True
    return not named.relative_to(target.parent).parts[0].startswith(".")
