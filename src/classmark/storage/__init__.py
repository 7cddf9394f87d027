"""Files and folders that are either whole or not there: temporary name, fsync, rename."""

from classmark.storage.atomic import atomic_file, atomic_folder, sha256_file, write_json, write_text

__all__ = ["atomic_file", "atomic_folder", "sha256_file", "write_json", "write_text"]
