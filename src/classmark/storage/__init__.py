"""Files and folders that are whole or not there, and folders that one process holds alone."""

from classmark.storage.atomic import (
    atomic_file,
    atomic_folder,
    discard,
    publish,
    restored_on_failure,
    scratch_folder,
    sha256_file,
    write_json,
    write_text,
)
from classmark.storage.durable import append
from classmark.storage.failures import storage_errors
from classmark.storage.leftovers import remove, remove_leftovers
from classmark.storage.lock import LOCK_FILE, locked_file, locked_folder
from classmark.storage.places import (
    check_apart,
    check_file_place,
    check_folder_place,
    expand_home,
    is_stream,
    recover_output,
)
from classmark.storage.remote import (
    content_mark,
    files_of,
    is_remote,
    locate,
    staged_folder,
    upload,
)

__all__ = [
    "LOCK_FILE",
    "append",
    "atomic_file",
    "atomic_folder",
    "check_apart",
    "check_file_place",
    "check_folder_place",
    "content_mark",
    "discard",
    "expand_home",
    "files_of",
    "is_remote",
    "is_stream",
    "locate",
    "locked_file",
    "locked_folder",
    "publish",
    "recover_output",
    "remove",
    "remove_leftovers",
    "restored_on_failure",
    "scratch_folder",
    "sha256_file",
    "staged_folder",
    "storage_errors",
    "upload",
    "write_json",
    "write_text",
]
