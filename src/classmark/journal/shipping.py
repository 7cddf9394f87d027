"""Copies of the files of a journal in a bucket, for a machine whose disk goes with it.

Each file is copied as a whole, consistent database, so that what is in the bucket can be read at
any time. A closed file is copied once more after it was closed, and never again.
"""

from __future__ import annotations

import sqlite3
import tempfile
import threading
import uuid
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from classmark.errors import ClassmarkError, InvalidJournal
from classmark.journal.database import in_words, journal_files, with_logs
from classmark.storage import atomic_file

_State = tuple[tuple[int, int], ...]


def instance_name() -> str:
    """Return a name that no other machine has, and that sorts by the time of its start."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}"


class Shipper:
    """Copies what has changed of a journal into a folder of a bucket.

    Attributes:
        target: the folder of this journal there.
    """

    def __init__(self, journal: Path, target: Path) -> None:
        """Ship a journal, which need not exist yet.

        Args:
            journal: its first file.
            target: folder in the bucket that this journal has for itself.
        """
        self.target = target
        self._journal = journal
        self._shipped: dict[Path, _State] = {}

    def ship(self) -> int:
        """Copy each file that has changed since its last copy; returns how many.

        Raises:
            StorageFailed: the bucket cannot be written; what was not copied is tried again.
        """
        changed = [
            (part, state)
            for part in journal_files(self._journal)
            if (state := _state_of(part)) != self._shipped.get(part)
        ]
        for part, state in changed:
            self._copy(part)
            self._shipped[part] = state
        return len(changed)

    def run(
        self, stop: threading.Event, every_s: float, failed: Callable[[ClassmarkError], None]
    ) -> None:
        """Ship again and again until an event, and once more after it.

        Args:
            stop: ends it.
            every_s: time between two copies of a file that changes, in seconds.
            failed: is given each error but that of the last copy.

        Raises:
            StorageFailed: the last copy failed.
        """
        while not stop.wait(every_s):
            try:
                self.ship()
            except ClassmarkError as error:
                failed(error)
        self.ship()

    def _copy(self, part: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="classmark-") as folder:
            copy = Path(folder, part.name)
            try:
                _back_up(part, copy)
            except sqlite3.Error as error:
                raise InvalidJournal(f"journal {part}: {in_words(error)}") from error
            with atomic_file(self.target / part.name) as file:
                file.write(copy.read_bytes())


def _back_up(part: Path, copy: Path) -> None:
    with closing(sqlite3.connect(part)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
        target.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it


def _state_of(part: Path) -> _State:
    """Return what changes with every write into a file or its log."""
    found = [file.stat() for file in with_logs(part)[:2] if file.exists()]
    return tuple([(stat.st_mtime_ns, stat.st_size) for stat in found])
