"""The work folder: parts that are whole or not there, and what they were made from."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec

from classmark.errors import StorageFailed
from classmark.records import Progress
from classmark.storage import LOCK_FILE, storage_errors, write_json
from classmark.wire import to_json

FOLDER_SUFFIX = ".parts"
MANIFEST_FILE = "manifest.json"
_PART_SUFFIX = ".part"
_DIGITS_IN_NAMES = 16
_MOST_CHUNKS = 10**8
"""Of a file: 400 TB of lines."""
_END = struct.Struct("<Q8s")
_MAGIC = b"cmpart01"


@dataclass(frozen=True)
class PartSummary:
    """What a part holds; written as JSON behind the results.

    Attributes:
        records: papers and bad records.
        bad: records that could not be read.
        bad_lines: the first of them, as lines for people, without the name of the input.
        input_bytes: how much of the input it covers, in bytes on disk.
    """

    records: int
    bad: int
    bad_lines: tuple[str, ...]
    input_bytes: int


def part_number(source: int, chunk: int) -> int:
    """Return the number of a part: by file and chunk, so that files can be divided apart."""
    return source * _MOST_CHUNKS + chunk


class Parts:
    """The parts of one run, by their number.

    The name of a part begins with the digest of what it was made from, so that a part of another
    run, written by a worker that outlived it, is never taken for one of this run.
    """

    def __init__(self, folder: Path, digest: str) -> None:
        self.folder = folder
        self._prefix = digest[:_DIGITS_IN_NAMES]

    def path(self, index: int) -> Path:
        """Return where a part lies, or will."""
        return self.folder / f"{self._prefix}-{index:014d}{_PART_SUFFIX}"

    def has(self, index: int) -> bool:
        """Return whether a part is done."""
        return self.path(index).exists()

    def numbers(self) -> frozenset[int]:
        """Return the numbers of the existing parts."""
        return frozenset(int(path.stem.rpartition("-")[2]) for path in self._existing())

    def summaries(self) -> Iterator[PartSummary]:
        """Yield what each existing part holds; parts that a power failure cut short are removed."""
        for path in self._existing():
            try:
                yield read_summary(path)
            except StorageFailed:
                path.unlink()

    def _existing(self) -> list[Path]:
        return sorted(self.folder.glob(f"{self._prefix}-*{_PART_SUFFIX}"))

    @contextmanager
    def writing(self, index: int) -> Iterator[IO[bytes]]:
        """Yield the file of a part, which is in its place at the end of the block, or not at all.

        Raises:
            StorageFailed: full disk, read-only ...
        """
        path = self.path(index)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with storage_errors(path):
                with temporary.open("wb") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def end_part(file: IO[bytes], summary: PartSummary) -> None:
    """Write the summary behind the results of a part."""
    raw = to_json(summary)
    file.write(raw + _END.pack(len(raw), _MAGIC))


def read_summary(path: Path) -> PartSummary:
    """Return what a part holds.

    Raises:
        StorageFailed: it is not a part, or is cut short.
    """
    with path.open("rb") as file:
        return _read_end(file, path)[0]


@contextmanager
def open_results(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """Yield a part from the start of its results, and how many bytes they are.

    Raises:
        StorageFailed: it is not a part, or is cut short.
    """
    with path.open("rb") as file:
        _, n_bytes = _read_end(file, path)
        file.seek(0)
        yield file, n_bytes


def _read_end(file: IO[bytes], path: Path) -> tuple[PartSummary, int]:
    size = os.fstat(file.fileno()).st_size
    file.seek(max(0, size - _END.size))
    end = file.read(_END.size)
    if len(end) < _END.size or not end.endswith(_MAGIC):
        raise StorageFailed(f"{path} is damaged. Remove it; the same command writes it again.")
    n_bytes = size - _END.size - _END.unpack(end)[0]
    file.seek(n_bytes)
    raw = file.read(size - _END.size - n_bytes)
    return msgspec.json.decode(raw, type=PartSummary), n_bytes


def folder_of(output: Path) -> Path:
    """Return the work folder of an output: beside the file that a link leads to."""
    target = Path(os.path.realpath(output))
    return target.with_name(target.name + FOLDER_SUFFIX)


def prepare(folder: Path, manifest: dict[str, Any], progress: Progress) -> Parts:
    """Return the parts of a run: the existing ones if they belong to the same run, else none.

    Args:
        folder: held by ``locked_folder``.
        manifest: what the parts are made from, by topic; plain JSON.
        progress: warns why the parts of another run are not used.

    Raises:
        StorageFailed: the folder is not one of a bulk run, or cannot be written.
    """
    found = _read_manifest(folder)
    if found != manifest:
        if found is not None:
            changed = [topic for topic in manifest if manifest[topic] != found.get(topic)]
            progress.warn(f"{' and '.join(changed)} changed since the run before: starting over.")
        _remove_all_but(folder, {LOCK_FILE, MANIFEST_FILE})
        write_json(folder / MANIFEST_FILE, manifest)
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    return Parts(folder, digest)


def remove_parts(folder: Path) -> None:
    """Remove what a run has left, the manifest last; the lock stays until it is released."""
    _remove_all_but(folder, {LOCK_FILE, MANIFEST_FILE})
    _remove_all_but(folder, {LOCK_FILE})


def _remove_all_but(folder: Path, kept: set[str]) -> None:
    with storage_errors(folder):
        for entry in folder.iterdir():
            if entry.name not in kept:
                # A worker that outlived its run may be faster.
                entry.unlink(missing_ok=True)


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of a run before, None if there was none."""
    with suppress(FileNotFoundError):
        try:
            found = json.loads((folder / MANIFEST_FILE).read_bytes())
        except ValueError:
            found = None
        return found if isinstance(found, dict) else {}
    strange = [e.name for e in folder.iterdir() if e.name != LOCK_FILE and e.name[0] != "."]
    if strange:
        raise StorageFailed(
            f"{folder} holds {strange[0]!r}, which does not belong to a run. Move it away, or "
            "choose another output."
        )
    return None
