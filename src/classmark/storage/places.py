"""Where an output may go: checked before any work is done for it."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from itertools import combinations
from pathlib import Path
from typing import NoReturn

from classmark.errors import NoHomeFolder, StorageFailed, UsageError
from classmark.storage.bucket import BucketPath
from classmark.storage.failures import storage_errors, system_error
from classmark.storage.leftovers import recover


def check_file_place(path: Path) -> None:
    """Refuse, before any work is done for it, a file that could not be written; leaves no trace.

    Raises:
        StorageFailed: says why.
    """
    if isinstance(path, BucketPath):
        _check_bucket(path)
        return
    with storage_errors(path):
        if path.is_dir():
            raise system_error(errno.EISDIR)
        if not is_stream(path):
            _try_to_write(path)


def check_folder_place(path: Path, *, overwrite: bool = False) -> None:
    """Refuse, before any work is done for it, a folder that could not be made; leaves no trace.

    Raises:
        StorageFailed: something is there already and may not be replaced, or the reason of the
            file system.
    """
    with storage_errors(path):
        recover(target_of(path))
        if path.is_file() or (not overwrite and path.is_dir() and any(path.iterdir())):
            refuse_existing(path)
        _try_to_write(path)


def check_apart(outputs: Iterable[Path | None], inputs: Iterable[Path | None]) -> None:
    """Refuse an output that would harm an input, or another output, before any work is done.

    An output may not be an input, under whatever name, nor replace anything in a folder that is
    one, nor be a folder that holds one. Two outputs may not be the same, nor one inside the other.
    Devices and pipes do not count.

    Raises:
        StorageFailed: names the two.
    """
    wanted = [path for path in outputs if path is not None and not is_stream(path)]
    given = [path for path in inputs if path is not None and (path.is_file() or path.is_dir())]
    for output in filter(_is_here, wanted):
        for source in given:
            _refuse_meeting(output, source)
    for one, other in combinations(wanted, 2):
        if _are_in_the_way(one, other):
            raise StorageFailed(
                f"the outputs {one} and {other} are in each other's way. Choose another place for "
                "one of them."
            )


def is_stream(path: Path) -> bool:
    """Tell a device or a pipe, which is written into and never replaced."""
    if isinstance(path, BucketPath):
        return False
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def target_of(path: Path) -> Path:
    """Return where a path leads: what is replaced is what a link points to, never the link."""
    return Path(os.path.realpath(path))


def recover_output(path: Path) -> None:
    """Put right what killed runs have left of an output, before anybody looks at it."""
    if isinstance(path, BucketPath):  # the next upload replaces what they left
        return
    recover(target_of(path))


def refuse_existing(path: Path) -> NoReturn:
    """Refuse to replace what is there.

    Raises:
        StorageFailed: always.
    """
    raise StorageFailed(
        f"{path} already exists. Choose another output, or replace it with --overwrite."
    )


def refuse_other_things(path: Path, last: str) -> NoReturn:
    """Refuse to replace a folder without the file that makes it one of classmark's.

    Raises:
        StorageFailed: always.
    """
    raise StorageFailed(
        f"{path} holds other things: it has no {last}. Choose another output, or delete the folder."
    )


def expand_home(path: str) -> Path:
    """Return a path whose first part may be ``~`` or ``~USER``.

    Raises:
        NoHomeFolder: there is no such user, or the user has no home folder.
        UsageError: it is an address in a bucket, which would become a folder ``gs:``.
    """
    if "://" in path:
        raise UsageError(
            f"{path} is in a bucket, but has to be on this machine. Give a path of this machine."
        )
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise NoHomeFolder(
            f"{path!r} cannot be found: that home folder does not exist. Write the path without "
            "'~'."
        ) from error


def _check_bucket(path: BucketPath) -> None:
    """Refuse a place in a bucket that does not exist, or that this account may not look at.

    Raises:
        StorageFailed: says why.
        CloudNotFound: there is no such bucket.
    """
    if not path.key:
        raise StorageFailed(f"{path} is a bucket. Give the name of a file in it: {path}/NAME.")
    path.version()


def _is_here(path: Path) -> bool:
    """Tell whether a path is of this machine: what is in a bucket is read from a copy."""
    return not isinstance(path, BucketPath)


def _are_in_the_way(one: Path, other: Path) -> bool:
    if not (_is_here(one) and _is_here(other)):
        return one == other
    return _is_same(one, other) or _is_inside(one, other) or _is_inside(other, one)


def _refuse_meeting(output: Path, source: Path) -> None:
    if _is_same(output, source):
        raise StorageFailed(
            f"the output {output} is the input {source}, which would be lost. Choose another "
            "output."
        )
    if source.is_dir() and output.exists() and _is_inside(output, source):
        raise StorageFailed(
            f"the output {output} is a part of the input {source}, which would be lost. Choose "
            "another output."
        )
    if output.is_dir() and _is_inside(source, output):
        raise StorageFailed(
            f"the output {output} is a folder that holds the input {source}, which would be lost. "
            "Choose another output."
        )


def _is_same(one: Path, other: Path) -> bool:
    """Tell whether two paths are one file, whichever names lead to it; a missing file has none."""
    try:
        return one.samefile(other)
    except OSError:
        return target_of(one) == target_of(other)


def _is_inside(path: Path, folder: Path) -> bool:
    """Tell whether a path, which need not exist, is below a folder, under whatever name."""
    return any(_is_same(above, folder) for above in target_of(path).parents)


def check_name(target: Path) -> None:
    """Raise what the system says of a name that no file can have; a missing file is fine.

    Args:
        target: as ``target_of`` returns it; a link only where links lead in a circle.
    """
    with suppress(FileNotFoundError):
        if stat.S_ISLNK(target.lstat().st_mode):
            raise system_error(errno.ELOOP)


def _try_to_write(path: Path) -> None:
    """Make and remove a file in the nearest folder that there is."""
    target = target_of(path)
    check_name(target)
    place = target.parent
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise system_error(errno.ENOTDIR)
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise system_error(error.errno or errno.EIO) from error
