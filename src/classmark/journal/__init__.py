"""LOG: what was predicted and what people said of it, in SQLite or PostgreSQL."""

from classmark.journal.config import JournalConfig, JournalStatus, default_journal_path
from classmark.journal.journal import Journal
from classmark.journal.place import Address, Place, place_of
from classmark.journal.reading import find_prediction, read_predictions

__all__ = [
    "Address",
    "Journal",
    "JournalConfig",
    "JournalStatus",
    "Place",
    "default_journal_path",
    "find_prediction",
    "place_of",
    "read_predictions",
]
