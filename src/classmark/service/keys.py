"""API keys: who may do what. A file holds their hashes; a key itself is shown once."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import stat
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from classmark.bundle.find import home_folder
from classmark.errors import InvalidKeys, UsageError, unreadable
from classmark.records import utc_text
from classmark.service.logs import log
from classmark.storage import atomic_file, locked_file

SCOPES = ("classify", "feedback", "admin")
PREFIX = "cmk"
LOOK_AGAIN_S = 1.0
"""A key that is revoked is refused after at most as long."""
LOG_AGAIN_S = 60.0
"""A file that stays unreadable is logged as often."""
_ID_BYTES, _SECRET_BYTES = 5, 24
_KEY = re.compile(rf"{PREFIX}_([0-9a-f]{{{2 * _ID_BYTES}}})_([0-9a-f]{{{2 * _SECRET_BYTES}}})")
_SHA256 = re.compile("[0-9a-f]{64}")
_TEXTS = ("id", "name", "created_at_utc", "sha256")
_FORMAT_VERSION = 1
_MAX_NAME_CHARS = 80
_NO_HASH = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class Key:
    """An API key as it is kept.

    Attributes:
        id: names it in logs and for ``keys revoke``.
        name: for whom it is.
        scopes: what it allows.
        created_at_utc: when it was made.
        sha256: of the whole key.
    """

    id: str
    name: str
    scopes: tuple[str, ...]
    created_at_utc: str
    sha256: str


def default_keys_path() -> Path:
    """Return ``$CLASSMARK_HOME/keys.json``; it need not exist.

    Raises:
        NoHomeFolder: there is no such folder; says which settings give a place.
    """
    return home_folder("API keys", "their file with --file") / "keys.json"


def create_key(path: Path, name: str, scopes: Iterable[str]) -> tuple[Key, str]:
    """Add a key to the file; returns it, and the text that the client sends.

    Raises:
        UsageError: the name is empty or too long, or a scope is unknown.
        InvalidKeys: the file cannot be read.
        StorageFailed: the file cannot be written.
    """
    wanted = tuple(dict.fromkeys(scopes))
    unknown = [scope for scope in wanted if scope not in SCOPES]
    if unknown or not wanted:
        seen = repr(unknown[0]) if unknown else "none"
        raise UsageError(f"unknown scope {seen}. Use one or more of {', '.join(SCOPES)}.")
    if not 0 < len(name.strip()) <= _MAX_NAME_CHARS:
        raise UsageError(f"the name of a key needs 1 to {_MAX_NAME_CHARS} characters.")
    identifier = secrets.token_hex(_ID_BYTES)
    text = f"{PREFIX}_{identifier}_{secrets.token_hex(_SECRET_BYTES)}"
    key = Key(identifier, name.strip(), wanted, utc_text(), _hash(text))
    with locked_file(path):
        _write(path, [*(read_keys(path) if path.exists() and path.stat().st_size else ()), key])
    return key, text


def revoke_key(path: Path, identifier: str) -> Key:
    """Take a key out of the file; returns it.

    Raises:
        InvalidKeys: the file cannot be read, or has no such key.
        StorageFailed: the file cannot be written.
    """
    read_keys(path)  # a lock would make a file where there is none
    with locked_file(path):
        keys = read_keys(path)
        gone = next((key for key in keys if key.id == identifier), None)
        if gone is None:
            there = ", ".join(key.id for key in keys) or "none"
            raise InvalidKeys(f"{path} has no key {identifier!r}; there is {there}.")
        _write(path, [key for key in keys if key.id != identifier])
    return gone


def read_keys(path: Path) -> tuple[Key, ...]:
    """Return the keys of a file, oldest first.

    Raises:
        InvalidKeys: it is missing, damaged or of another version.
    """
    try:
        content = _content(path)
        if not content:
            raise InvalidKeys(
                f"there are no API keys at {path}. Make one with `classmark keys create`."
            )
        document = json.loads(content)
        if document["version"] != _FORMAT_VERSION:
            raise InvalidKeys(f"{path} is of version {document['version']}, not {_FORMAT_VERSION}.")
        return tuple(_key_of(row) for row in document["keys"])
    except OSError as error:
        raise InvalidKeys(
            f"the file of API keys {path} "
            + unreadable(error, "Let the user that this runs as read the file")
        ) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidKeys(
            f"{path} does not hold API keys, or is damaged ({type(error).__name__}). Restore it, "
            "or delete it and create new keys."
        ) from error


def _content(path: Path) -> bytes:
    """Return what the file holds, nothing if there is none.

    It is opened without waiting: a pipe in its place would hold up the event loop for ever.

    Raises:
        InvalidKeys: it is a pipe, a folder or a device.
    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        return b""
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise InvalidKeys(f"{path} is not a regular file. Give the path of a file of keys.")
        with os.fdopen(handle, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(handle)


def _key_of(row: dict[str, Any]) -> Key:
    key = Key(**{**row, "scopes": tuple(row["scopes"])})
    if not (
        all(isinstance(getattr(key, name), str) for name in _TEXTS)
        and _SHA256.fullmatch(key.sha256)
        and set(key.scopes) <= set(SCOPES)
    ):
        raise ValueError("a value of a key is invalid")
    return key


class KeyRing:
    """The keys that a worker knows; looks at the file again when it has changed.

    While the file cannot be read there are no keys: one that was revoked meanwhile would still be
    taken otherwise.
    """

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            InvalidKeys: it cannot be read.
        """
        self._path = path
        self._keys: dict[str, Key] = {}
        self._error: InvalidKeys | None = None
        self._log_error_at = 0.0
        self._read()
        self._look_at = time.monotonic() + LOOK_AGAIN_S

    def find(self, text: str) -> Key | None:
        """Return the key that a client sent, None if it is not known.

        The time it takes does not depend on how much of the text is right.

        Raises:
            InvalidKeys: the file cannot be read at the moment.
        """
        self._look()
        if self._error is not None:
            raise InvalidKeys(str(self._error))
        match = _KEY.fullmatch(text)
        key = self._keys.get(match[1]) if match else None
        is_right = hmac.compare_digest(_hash(text), key.sha256 if key else _NO_HASH)
        return key if is_right else None

    def _look(self) -> None:
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_AGAIN_S
        if self._error is None and self._state() == self._seen:
            return
        try:
            self._read()
        except InvalidKeys as error:
            self._error, self._keys = error, {}
            if now >= self._log_error_at:
                self._log_error_at = now + LOG_AGAIN_S
                log("API keys unreadable: no key is accepted", logging.ERROR, detail=str(error))
            return
        if self._error is not None:
            self._error, self._log_error_at = None, 0.0
            log("API keys readable again", keys=len(self._keys))

    def _read(self) -> None:
        self._seen = self._state()
        self._keys = {key.id: key for key in read_keys(self._path)}
        if self._seen is not None and self._seen.st_mode & stat.S_IRWXO:
            detail = f"others may read or write {self._path}. Run `chmod o= {self._path}`."
            log("API keys open to others", logging.WARNING, detail=detail)

    def _state(self) -> _State | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return _State(
            found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_mode
        )


class _State(NamedTuple):
    """What changes when a file, its owner or its mode does."""

    st_ino: int
    st_mtime_ns: int
    st_ctime_ns: int
    st_size: int
    st_mode: int


def _hash(text: str) -> str:
    # A key is 192 random bits, so that a fast hash keeps it as well as a slow one would.
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _write(path: Path, keys: Iterable[Key]) -> None:
    document = {"version": _FORMAT_VERSION, "keys": [asdict(key) for key in keys]}
    with atomic_file(path, private=True) as file:
        file.write(json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n")
