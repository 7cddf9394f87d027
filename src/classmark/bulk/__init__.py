"""Classification of files by the million: local processes, resumable."""

from classmark.bulk.config import (
    LAYOUTS,
    BulkConfig,
    BulkJob,
    BulkLayout,
    BulkReport,
)
from classmark.bulk.run import classify_files

__all__ = [
    "LAYOUTS",
    "BulkConfig",
    "BulkJob",
    "BulkLayout",
    "BulkReport",
    "classify_files",
]
