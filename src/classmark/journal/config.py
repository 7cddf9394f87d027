"""Configuration and status of a journal; all defaults of the journal are here."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from classmark.bundle.find import home_folder
from classmark.errors import InvalidConfig
from classmark.journal.place import Address, Place

LOGGER_NAME = "classmark.journal"
_SMALLEST_FILE_BYTES = 64 * 1024
_FILES_IN_BOUND, _FILES_IN_PERIOD = 8, 30
"""Approximate maximum number of files of a journal with a limit, by size and by age."""


def default_journal_path() -> Path:
    """Return ``$CLASSMARK_HOME/journal/journal.sqlite``; it need not exist.

    Raises:
        NoHomeFolder: there is no such folder; says which settings give a place.
    """
    return home_folder("the journal", "its file with --journal") / "journal" / "journal.sqlite"


@dataclass(frozen=True, kw_only=True)
class JournalConfig:
    """How a journal is kept.

    Attributes:
        path: the first file; later ones are stored beside it as ``NAME.000002.sqlite`` and so on.
            Or the address of a database; the attributes about files have no effect then.
        keep_text: write the texts of papers, not only their fingerprints and features.
        capacity_events: events that may wait in memory; further ones are dropped and counted.
        capacity_bytes: the same for the sum of them as they are passed to the writer, in bytes.
        flush_window_ms: a process that is killed loses at most the newest events of this time.
        rotate_bytes: a file that has grown to this is closed for good and a new one begun.
        rotate_days: the same for its age; None means that only the size counts.
        keep_days: predictions and feedback are deleted this long after they were written, or up to
            a fifteenth of it later; None keeps them. Files are closed after a thirtieth of it.
        max_bytes: the oldest files are deleted while all of them take more; None sets no bound.
            Files are closed at an eighth of it. Not for a database.
        busy_timeout_ms: how long the writer waits for another process to finish.
    """

    path: Place = field(default_factory=default_journal_path)
    keep_text: bool = False
    capacity_events: int = 16_384
    capacity_bytes: int = 32 * 1024 * 1024
    flush_window_ms: int = 250
    rotate_bytes: int = 256 * 1024 * 1024
    rotate_days: float | None = None
    keep_days: float | None = None
    max_bytes: int | None = None
    busy_timeout_ms: int = 2_000

    def __post_init__(self) -> None:
        lowest = {
            "capacity_events": 1,
            "capacity_bytes": 1,
            "flush_window_ms": 1,
            "rotate_bytes": _SMALLEST_FILE_BYTES,
            "rotate_days": 0,
            "keep_days": 0,
            "max_bytes": _FILES_IN_BOUND * _SMALLEST_FILE_BYTES,
            "busy_timeout_ms": 0,
        }
        for name, least in lowest.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise InvalidConfig(f"journal: {name} must be at least {least}, got {value}.")
        if isinstance(self.path, Address) and self.max_bytes is not None:
            raise InvalidConfig(
                f"a journal in PostgreSQL has no largest size (got {self.max_bytes:,} bytes). "
                "Use --journal-keep-days instead of --journal-max-mb."
            )

    @property
    def first_file(self) -> Path:
        """The first file.

        Raises:
            InvalidConfig: the journal is in a database, which has none.
        """
        if isinstance(self.path, Address):
            raise InvalidConfig(f"{self.path} is a database. Give the file of a journal.")
        return self.path

    @property
    def file_bytes(self) -> int:
        """Size at which a file is closed: so small that there are some to delete."""
        bound = self.rotate_bytes if self.max_bytes is None else self.max_bytes // _FILES_IN_BOUND
        return min(self.rotate_bytes, bound)

    @property
    def file_days(self) -> float | None:
        """Age at which a file is closed, None for any."""
        if self.keep_days is None:
            return self.rotate_days
        days = self.keep_days / _FILES_IN_PERIOD
        return days if self.rotate_days is None else min(days, self.rotate_days)


@dataclass(frozen=True, kw_only=True, slots=True)
class JournalStatus:
    """Counts and health of the journal of one process.

    Every call of ``record`` is in one of the three counts: written + dropped + queued.

    Attributes:
        written: events that the database has.
        dropped: events that were lost, because too many waited or the database refused them.
        queued: events that wait to be written.
        failing: the last attempt to write did not succeed; it is made again.
        last_error: what went wrong last, also after recovery; None if nothing ever did.
    """

    written: int
    dropped: int
    queued: int
    failing: bool
    last_error: str | None
