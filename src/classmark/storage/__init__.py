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
from classmark.storage.bucket import BucketPath, Version
from classmark.storage.cache import local_copy, working_folder
from classmark.storage.durable import append
from classmark.storage.failures import storage_errors
from classmark.storage.google import SIGN_IN
from classmark.storage.leftovers import remove, remove_leftovers
from classmark.storage.lock import LOCK_FILE, leased, locked_file, locked_folder, replaceable
from classmark.storage.places import (
    check_apart,
    check_file_place,
    check_folder_place,
    expand_home,
    is_stream,
    recover_output,
    target_of,
)
from classmark.storage.remote import (
    content_mark,
    files_of,
    folder_place,
    is_remote,
    locate,
    named_place,
    staged_folder,
    upload,
)
from classmark.storage.upload import discard_old

__all__ = [
    "LOCK_FILE",
    "SIGN_IN",
    "BucketPath",
    "Version",
    "append",
    "atomic_file",
    "atomic_folder",
    "check_apart",
    "check_file_place",
    "check_folder_place",
    "content_mark",
    "discard",
    "discard_old",
    "expand_home",
    "files_of",
    "folder_place",
    "is_remote",
    "is_stream",
    "leased",
    "local_copy",
    "locate",
    "locked_file",
    "locked_folder",
    "named_place",
    "publish",
    "recover_output",
    "remove",
    "remove_leftovers",
    "replaceable",
    "restored_on_failure",
    "scratch_folder",
    "sha256_file",
    "staged_folder",
    "storage_errors",
    "target_of",
    "upload",
    "working_folder",
    "write_json",
    "write_text",
]
