"""API keys: who may do what. A file holds their hashes; a key itself is shown once."""

from __future__ import annotations

import hashlib
import hmac
import logging
import math
import os
import re
import secrets
import stat
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal, cast, get_args

import msgspec
from msgspec import Meta

from classmark.bundle.find import home_folder
from classmark.errors import ClassmarkError, InvalidKeys, UsageError, unreadable
from classmark.records import utc_text
from classmark.service.logs import log
from classmark.storage import locked_file, write_json

Scope = Literal["classify", "feedback", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
PREFIX = "cmk"
LOOK_AGAIN_S = 1.0
"""A revoked key is refused after at most this time."""
SLOWEST_RATE = 0.001
"""Requests a minute; a slower rate is a mistake, and its waiting times overflow."""
LOG_AGAIN_S = 60.0
"""Interval between two log lines about a file that stays unreadable."""
_ID_BYTES, _SECRET_BYTES = 5, 24
_KEY = re.compile(rf"{PREFIX}_([0-9a-f]{{{2 * _ID_BYTES}}})_([0-9a-f]{{{2 * _SECRET_BYTES}}})")
_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$"
_FORMAT_VERSION, _PLAIN_VERSION = 2, 1
"""A file whose keys neither expire nor have a rate is readable by versions that know neither."""
_USES_FILE, _USES_VERSION = "keys-used.json", 1
_MAX_NAME_CHARS = 80
_NO_HASH = hashlib.sha256(b"").hexdigest()


class Key(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """An API key as it is kept.

    Attributes:
        id: names it in logs and for ``keys revoke``.
        name: for whom it is.
        scopes: what it allows.
        created_at_utc: when it was made.
        sha256: of the whole key.
        expires_at_utc: from then on it is refused; None for never.
        rate_per_minute: requests that its holder may make a minute, 0 for any number; None for
            the rate of the service.
    """

    id: str
    name: str
    scopes: tuple[Scope, ...]
    created_at_utc: str
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    expires_at_utc: Annotated[str, Meta(pattern=_TIME)] | None = None
    rate_per_minute: float | None = None

    def __post_init__(self) -> None:
        if self.rate_per_minute is not None and not is_rate(self.rate_per_minute):
            raise ValueError(f"{self.rate_per_minute} is not a rate")

    @property
    def has_expired(self) -> bool:
        """Whether its time is over."""
        return self.expires_at_utc is not None and self.expires_at_utc <= utc_text()


def is_rate(per_minute: float) -> bool:
    """Return whether a number is a valid rate: 0 for no limit, or a request in 17 hours or more."""
    return per_minute == 0 or SLOWEST_RATE <= per_minute < math.inf


def default_keys_path() -> Path:
    """Return ``$CLASSMARK_HOME/keys.json``; it need not exist.

    Raises:
        NoHomeFolder: there is no such folder; says which settings give a place.
    """
    return home_folder("API keys", "their file with --file") / "keys.json"


def create_key(
    path: Path,
    name: str,
    scopes: Iterable[str],
    *,
    expires_at_utc: str | None = None,
    rate_per_minute: float | None = None,
) -> tuple[Key, str]:
    """Add a key to the file; returns it, and the text that the client sends.

    Raises:
        UsageError: the name is empty or too long, a scope is unknown, the expiry is in the past,
            or the rate is negative.
        InvalidKeys: the file cannot be read.
        StorageFailed: the file cannot be written.
    """
    wanted = cast(tuple[Scope, ...], tuple(dict.fromkeys(scopes)))
    unknown = [scope for scope in wanted if scope not in SCOPES]
    if unknown or not wanted:
        seen = repr(unknown[0]) if unknown else "none"
        raise UsageError(f"unknown scope {seen}. Use one or more of {', '.join(SCOPES)}.")
    if not 0 < len(name.strip()) <= _MAX_NAME_CHARS:
        raise UsageError(f"the name of a key needs 1 to {_MAX_NAME_CHARS} characters.")
    if expires_at_utc is not None and expires_at_utc <= utc_text():
        raise UsageError(
            f"the key would expire at {expires_at_utc}, which is in the past. Give a later time."
        )
    if rate_per_minute is not None and not is_rate(rate_per_minute):
        raise UsageError(
            f"the rate of a key cannot be {rate_per_minute:g} a minute. Give {SLOWEST_RATE:g} or "
            "more, or 0 for any number of requests."
        )
    identifier = secrets.token_hex(_ID_BYTES)
    text = f"{PREFIX}_{identifier}_{secrets.token_hex(_SECRET_BYTES)}"
    now, sha256 = utc_text(), _hash(text)
    key = Key(identifier, name.strip(), wanted, now, sha256, expires_at_utc, rate_per_minute)
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
        document = msgspec.json.decode(content, type=_KeysFile)
        if document.version not in (_PLAIN_VERSION, _FORMAT_VERSION):
            raise InvalidKeys(
                f"{path} is of version {document.version}, not {_PLAIN_VERSION} or "
                f"{_FORMAT_VERSION}. Install the classmark that wrote it, or a newer one."
            )
        return msgspec.json.decode(document.keys, type=tuple[Key, ...])
    except OSError as error:
        raise InvalidKeys(
            f"the file of API keys {path} "
            + unreadable(error, "Let the user that this runs as read the file")
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidKeys(
            f"{path} does not hold API keys, or is damaged ({error}). Restore it, or delete it and "
            "create new keys."
        ) from error


def _content(path: Path) -> bytes:
    """Return what the file holds, nothing if there is none.

    It is opened without waiting: a pipe in its place would block the event loop forever.

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


class _KeysFile(msgspec.Struct):
    version: int
    keys: msgspec.Raw


class KeyRing:
    """The keys that a worker knows; looks at the file again when it has changed.

    While the file cannot be read, no key is accepted: otherwise one that was revoked in the
    meantime would still work.
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
        self._load()
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

    def look_now(self) -> None:
        """Look at the file, however short a time ago that was."""
        self._look_at = 0.0
        self._look()

    def _look(self) -> None:
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_AGAIN_S
        if self._error is None and self._state() == self._seen:
            return
        try:
            self._load()
        except InvalidKeys as error:
            self._error, self._keys = error, {}
            if now >= self._log_error_at:
                self._log_error_at = now + LOG_AGAIN_S
                log("API keys unreadable: no key is accepted", logging.ERROR, detail=str(error))
            return
        if self._error is not None:
            self._error, self._log_error_at = None, 0.0
            log("API keys readable again", keys=len(self._keys))

    def _load(self) -> None:
        self._seen = self._state()
        self._keys = {key.id: key for key in read_keys(self._path)}
        if self._seen is not None and self._seen[0] & stat.S_IRWXO:
            detail = f"others may read or write {self._path}. Run `chmod o= {self._path}`."
            log("API keys open to others", logging.WARNING, detail=detail)

    def _state(self) -> tuple[int, ...] | None:
        """Return what changes when the file, its owner or its mode does."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        times = found.st_mtime_ns, found.st_ctime_ns
        return found.st_mode, found.st_ino, found.st_size, *times


def _hash(text: str) -> str:
    # A key is 192 random bits, so that a fast hash keeps it as well as a slow one would.
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _write(path: Path, keys: Iterable[Key]) -> None:
    rows = [msgspec.to_builtins(key) for key in keys]
    is_plain = all("expires_at_utc" not in r and "rate_per_minute" not in r for r in rows)
    document = {"version": _PLAIN_VERSION if is_plain else _FORMAT_VERSION, "keys": rows}
    write_json(path, document, private=True)


class _LastUses(msgspec.Struct):
    version: int
    last_used_at_utc: dict[str, str]


def read_last_uses() -> dict[str, str]:
    """Return when each key was last used, to the minute, by id; see ``write_last_uses``.

    An unreadable file counts as missing: it grants no access.
    """
    try:
        uses = msgspec.json.decode(_uses_path().read_bytes(), type=_LastUses)
    except (ClassmarkError, OSError, RuntimeError, msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return uses.last_used_at_utc if uses.version == _USES_VERSION else {}


def write_last_uses(uses: Mapping[str, str]) -> None:
    """Add to ``$CLASSMARK_HOME/keys-used.json`` when keys were last used.

    It is a file of its own, since the service need not be allowed to write that of the keys.

    Args:
        uses: times by the ids of keys.

    Raises:
        StorageFailed, OutputBusy: it cannot be written.
    """
    path = _uses_path()
    with locked_file(path):
        before = read_last_uses()
        newest = {k: max(uses.get(k, ""), before.get(k, "")) for k in {*uses, *before}}
        uses_file = _LastUses(_USES_VERSION, dict(sorted(newest.items())))
        write_json(path, msgspec.to_builtins(uses_file), private=True)


def _uses_path() -> Path:
    return home_folder("the times when API keys were used", "no --api-keys") / _USES_FILE
