"""Files and folders that go up into a bucket: each object whole, and what makes it count last."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, cast

from classmark.errors import OutputChanged
from classmark.storage.bucket import BucketPath, Version, changed
from classmark.storage.places import refuse_existing, refuse_other_things

_YOUNG_NS = 24 * 3600 * 10**9
"""What nothing names may belong to a run that is still writing, for so long."""


@contextmanager
def bucket_file(path: BucketPath) -> Iterator[IO[bytes]]:
    """Yield a binary file that replaces an object at the end of the block, or not at all.

    Raises:
        OutputChanged: the path is pinned, and another version is there.
        StorageFailed: it cannot be written.
    """
    file = io.BytesIO()
    yield file
    path.write(file.getvalue())


@contextmanager
def bucket_folder(
    output: BucketPath, *, last: str | None = None, overwrite: bool = False
) -> Iterator[Path]:
    """Yield an empty folder of this machine whose files go up at the end of the block.

    Each object is replaced only if it is as it was at the beginning, so that of two runs that write
    the same folder one gives up. What an interrupted run left there is replaced.

    Args:
        output: the folder in the bucket.
        last: the file that goes up after the others, and that goes first when they are replaced:
            without it the folder counts as unfinished.
        overwrite: replace a folder that is finished; without ``last``, whatever it holds.

    Raises:
        OutputChanged: another run wrote it meanwhile.
        StorageFailed: something is there already, or it cannot be written.
    """
    from classmark.storage.atomic import scratch_folder  # which uses this module

    there = {version.key: version for version in output.below()}
    if there and not _is_unfinished(output, last, there):
        if not overwrite:
            refuse_existing(cast(Path, output))
        if last is not None and (output / last).key not in there:
            refuse_other_things(cast(Path, output), last)
    with scratch_folder() as scratch:
        folder = scratch / output.name
        folder.mkdir()
        yield folder
        _replace(folder, output, last, there)


def append_object(path: BucketPath, content: bytes, *, after: int) -> None:
    """Write an object again with more bytes after those that it has.

    Args:
        path: of the object.
        content: what is appended.
        after: bytes that it has; with another number it is left as it is.

    Raises:
        OutputChanged: it has another number of bytes, or was changed meanwhile.
        StorageFailed: it cannot be written.
    """
    old, version = path.read()
    if len(old) != after:
        raise changed(path)
    path.write(old + content, before=version)


def discard_old(place: Path | BucketPath, *, first: str = "") -> bool:
    """Delete an object, or those of a folder, unless somebody wrote it in the last day.

    Args:
        place: in the bucket.
        first: the file that goes first: without it the folder counts as unfinished.

    Returns:
        Whether all of it went.

    Raises:
        StorageFailed: it cannot be deleted.
    """
    folder = cast(BucketPath, place)
    found = folder.below() or [folder.version()]
    if max(version.updated_ns for version in found) > time.time_ns() - _YOUNG_NS:
        return False
    with suppress(OutputChanged):
        for version in sorted(found, key=lambda v: (v.key != (folder / first).key, v.key)):
            BucketPath(folder.bucket, version.key).unlink(before=version)
        return True
    return False


def _is_unfinished(output: BucketPath, last: str | None, there: dict[str, Version]) -> bool:
    """Tell whether a folder is what an interrupted run of classmark left."""
    if last is None or (output / last).key in there:
        return False
    return all(version.writes for version in there.values())


def _replace(folder: Path, output: BucketPath, last: str | None, there: dict[str, Version]) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    targets = {output / path.relative_to(folder).as_posix(): path for path in files}
    end = output / last if last else None
    if end is not None and end.key in there:
        end.unlink(before=there.pop(end.key))
    for target, file in targets.items():
        if target != end:
            target.write(file, before=there.pop(target.key, Version(target.key)))
    for version in there.values():
        BucketPath(output.bucket, version.key).unlink(before=version)
    if end is not None and end in targets:
        end.write(targets[end], before=Version(end.key))
