"""Files and folders that are whole or not there, and folders that one process holds alone."""

from classmark.storage.atomic import (
    atomic_file,
    atomic_folder,
    check_file_place,
    check_folder_place,
    restored_on_failure,
    sha256_file,
    storage_errors,
    write_json,
    write_text,
)
from classmark.storage.lock import LOCK_FILE, locked_file, locked_folder

__all__ = [
    "LOCK_FILE",
    "atomic_file",
    "atomic_folder",
    "check_file_place",
    "check_folder_place",
    "locked_file",
    "locked_folder",
    "restored_on_failure",
    "sha256_file",
    "storage_errors",
    "write_json",
    "write_text",
]
