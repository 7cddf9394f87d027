"""API keys: who may do what. A file holds their hashes; a key itself is shown once."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from classmark.bundle.find import home_folder
from classmark.errors import ClassmarkError, InvalidKeys, UsageError
from classmark.records import utc_text
from classmark.storage import write_json

SCOPES = ("classify", "feedback", "admin")
PREFIX = "cmk"
LOOK_AGAIN_S = 1.0
"""A key that is revoked is refused after at most as long."""
_ID_BYTES, _SECRET_BYTES = 5, 24
_KEY = re.compile(rf"{PREFIX}_([0-9a-f]{{{2 * _ID_BYTES}}})_([0-9a-f]{{{2 * _SECRET_BYTES}}})")
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
    """Return ``$CLASSMARK_HOME/keys.json``; it need not exist."""
    return home_folder() / "keys.json"


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
    _write(path, [*(read_keys(path) if path.exists() else ()), key])
    return key, text


def revoke_key(path: Path, identifier: str) -> Key:
    """Take a key out of the file; returns it.

    Raises:
        InvalidKeys: the file cannot be read, or has no such key.
        StorageFailed: the file cannot be written.
    """
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
        document = json.loads(path.read_bytes())
        if document["version"] != _FORMAT_VERSION:
            raise InvalidKeys(f"{path} is of version {document['version']}, not {_FORMAT_VERSION}.")
        return tuple(Key(**{**row, "scopes": tuple(row["scopes"])}) for row in document["keys"])
    except FileNotFoundError as error:
        raise InvalidKeys(
            f"there are no API keys at {path}. Make one with `classmark keys create`."
        ) from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidKeys(
            f"{path} is no readable file of API keys ({type(error).__name__}). Restore it, or "
            "delete it and create keys anew."
        ) from error


class KeyRing:
    """The keys that a worker knows; looks at the file again when it has changed.

    A file that cannot be read any more leaves the keys as they were.
    """

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            InvalidKeys: it cannot be read.
        """
        self._path = path
        self._seen = self._state()
        self._keys = {key.id: key for key in read_keys(path)}
        self._look_at = time.monotonic() + LOOK_AGAIN_S

    def find(self, text: str) -> Key | None:
        """Return the key that a client sent, None if it is not known.

        The time it takes does not depend on how much of the text is right.
        """
        self._look()
        match = _KEY.fullmatch(text)
        key = self._keys.get(match[1]) if match else None
        is_right = hmac.compare_digest(_hash(text), key.sha256 if key else _NO_HASH)
        return key if is_right else None

    def _look(self) -> None:
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_AGAIN_S
        state = self._state()
        if state == self._seen:
            return
        try:
            self._keys = {key.id: key for key in read_keys(self._path)}
            self._seen = state
        except ClassmarkError:
            return  # looked at again in a second

    def _state(self) -> tuple[int, int, int] | None:
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _hash(text: str) -> str:
    # A key is 192 random bits, so that a fast hash keeps it as well as a slow one would.
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _write(path: Path, keys: Iterable[Key]) -> None:
    write_json(path, {"version": _FORMAT_VERSION, "keys": [asdict(key) for key in keys]})
    path.chmod(0o600)
