"""``registry.json`` and ``pointer.json``: JSON with a digest, whole or refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from classmark.errors import RegistryCorrupt, RegistryNotFound, RegistryTooNew, unreadable
from classmark.records import Pointer
from classmark.records.fields import WrongField
from classmark.records.registry import FORMAT_VERSION, canonical
from classmark.storage import write_text

REGISTRY_FILE, POINTER_FILE = "registry.json", "pointer.json"
_DIGEST = "digest"
_RESTORE = "Restore it from a copy of the registry"


def render(value: dict[str, Any]) -> str:
    """Return the one spelling of a document, with the digest of what it says."""
    digest = hashlib.sha256(canonical(value)).hexdigest()
    whole = {**value, _DIGEST: digest}
    return json.dumps(whole, sort_keys=True, indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def write_pointer(path: Path, pointer: Pointer) -> None:
    """Replace the pointer: the one step that makes a change happen.

    Raises:
        StorageFailed: it cannot be written; the old one is unharmed.
    """
    write_text(path, render(pointer.to_dict()))


def read_pointer(path: Path) -> Pointer:
    """Return the state of a registry.

    Raises:
        RegistryCorrupt: it is missing, or not what a change wrote.
        RegistryTooNew: a newer classmark wrote it.
    """
    value = read_document(path)
    try:
        return Pointer.from_dict(value)
    except WrongField as error:
        raise damaged(path, str(error)) from error


def read_document(path: Path) -> dict[str, Any]:
    """Return what a document says, after comparing its digest and its spelling.

    Raises:
        RegistryNotFound: the registry has no ``registry.json``, or is not a folder.
        RegistryCorrupt, RegistryTooNew: as ``read_pointer``.
    """
    try:
        content = path.read_bytes()
        value = json.loads(content)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _missing(path) from error
    except OSError as error:
        raise RegistryCorrupt(f"{path} {unreadable(error, _RESTORE)}") from error
    except (ValueError, RecursionError) as error:
        raise damaged(path, "it is not JSON") from error
    _check_version(path, value)
    try:
        stated = value.pop(_DIGEST, None)
        is_unchanged = isinstance(stated, str) and content == render(value).encode()
    except (ValueError, RecursionError):  # a number that is not finite
        is_unchanged = False
    if not is_unchanged:
        raise damaged(path, "its content does not match its digest")
    return dict(value)


def damaged(path: Path, problem: str) -> RegistryCorrupt:
    """Return the error of a file of a registry."""
    return RegistryCorrupt(
        f"{path} is not what the registry wrote: {problem}. {_RESTORE}; "
        "`classmark registry verify` checks the other files."
    )


def _missing(path: Path) -> Exception:
    if path.name != REGISTRY_FILE and (path.parent / REGISTRY_FILE).is_file():
        return RegistryCorrupt(f"{path} is missing. {_RESTORE}.")
    folder = path.parent
    problem = f"it holds no {path.name}" if folder.is_dir() else "there is no such folder"
    return RegistryNotFound(
        f"{folder} is not a registry: {problem}. Check the path, or create one with "
        f"`classmark registry init --registry {folder}`."
    )


def _check_version(path: Path, value: object) -> None:
    """Refuse a newer format first of all: it may spell and digest itself in another way."""
    version = value.get("format_version") if isinstance(value, dict) else None
    if type(version) is not int:
        raise damaged(path, "it states no format version")
    if version > FORMAT_VERSION:
        raise RegistryTooNew(
            f"{path} has format version {version}, this classmark reads up to {FORMAT_VERSION}. "
            "Install the classmark that wrote it, or a newer one."
        )
