"""Files and folders that are either whole or not there: temporary name, fsync, rename."""

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

__all__ = [
    "atomic_file",
    "atomic_folder",
    "check_file_place",
    "check_folder_place",
    "restored_on_failure",
    "sha256_file",
    "storage_errors",
    "write_json",
    "write_text",
]
