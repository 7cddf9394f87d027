"""Classification of files by the million: local processes, resumable."""

from classmark.bulk.config import (
    LAYOUTS,
    BulkConfig,
    BulkJob,
    BulkLayout,
    BulkReport,
    Listener,
)
from classmark.bulk.run import classify_files

__all__ = [
    "LAYOUTS",
    "BulkConfig",
    "BulkJob",
    "BulkLayout",
    "BulkReport",
    "Listener",
    "classify_files",
]
