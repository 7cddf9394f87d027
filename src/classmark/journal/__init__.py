"""LOG: what was predicted and what people said of it, in SQLite, written in the background."""

from classmark.journal.config import JournalConfig, JournalStatus, default_journal_path
from classmark.journal.journal import Journal
from classmark.journal.reading import find_prediction, read_predictions

__all__ = [
    "Journal",
    "JournalConfig",
    "JournalStatus",
    "default_journal_path",
    "find_prediction",
    "read_predictions",
]
