"""Where a journal is: a file, or a database of PostgreSQL, whose password is never shown."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

from classmark.errors import InvalidConfig, InvalidJournal, MissingExtra
from classmark.storage import folder_place

PASSWORD_VARIABLE = "CLASSMARK_JOURNAL_PASSWORD_FILE"  # noqa: S105 - of a file
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_DATABASES = ("postgresql", "postgres")
_BUCKETS = "gs"
_FORM = "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
# Parameters of libpq. A password among them would be shown where only that of USER is hidden, and
# `options` would meet our own settings of the session.
_PARAMETERS = {
    *("application_name", "channel_binding", "connect_timeout", "gssencmode", "host", "keepalives"),
    *("keepalives_count", "keepalives_idle", "keepalives_interval", "passfile", "port"),
    *("require_auth", "service", "sslcert", "sslcrl", "sslkey", "sslmode", "sslrootcert"),
    *("target_session_attrs", "tcp_user_timeout"),
}
_PASSWORD = re.compile(r"((?i:postgres(?:ql)?(?:\+\w+)?)://[^:/?#\s]*:)\S*(?=@)")
_ARGUMENTS_BEGIN, _ARGUMENTS_END = 48 - 3, 49 - 3  # fields of /proc/self/stat after the name


class Cursor(Protocol):
    """Rows that a statement gives."""

    @property
    def rowcount(self) -> int:
        """Rows that the statement changed."""
        ...

    def fetchone(self) -> Any:  # noqa: ANN401 - a column has any type
        """Return the next row, None if there is none."""
        ...

    def fetchall(self) -> list[Any]:
        """Return all rows that are left."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """Yield the rows that are left."""
        ...

    def executemany(self, sql: str, parameters: Sequence[Sequence[Any]], /) -> object:
        """Run a statement for each of some lists of values."""
        ...


class Connection(Protocol):
    """What a connection to SQLite and one to PostgreSQL have in common; ``?`` is a value."""

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Cursor:
        """Run a statement."""
        ...

    def cursor(self) -> Cursor:
        """Return what runs statements."""
        ...


class Address:
    """A database of PostgreSQL. As text it has neither the password nor the parameters.

    Attributes:
        parameters: what the driver connects with, the password among it.
    """

    __slots__ = ("_shown", "parameters", "url")

    def __init__(self, url: str) -> None:
        """Parse an address.

        Raises:
            InvalidConfig: it is not an address; the message has no part of it, because any part of
                a malformed one may be the password.
        """
        try:
            parts = urlsplit(url)
            port, query = parts.port, parse_qsl(parts.query, strict_parsing=bool(parts.query))
        except ValueError:  # not `from` it: its words may be a part of the password
            raise _invalid("its port or a parameter cannot be read") from None
        database = unquote(parts.path[1:])
        if not database or parts.fragment or any(sign in database for sign in "@/"):
            raise _invalid("the name of the database cannot be read")
        if unknown := len(dict(query).keys() - _PARAMETERS):
            raise _invalid(f"{unknown} of its parameters cannot be used")
        host = unquote(parts.hostname or "")
        named = {
            "user": unquote(parts.username or ""),
            "password": unquote(parts.password or ""),
            "host": host,
            "port": str(port or ""),
            "dbname": database,
        }
        self.url = url
        self.parameters = {**{key: value for key, value in named.items() if value}, **dict(query)}
        if any("\0" in value for value in self.parameters.values()):
            raise _invalid("a part of it has a character 0")
        user = f"{parts.username}@" if parts.username else ""
        self._shown = f"postgresql://{user}{host}{f':{port}' if port else ''}/{database}"

    def login(self) -> dict[str, str]:
        """Return what a connection begins with now: the parameters, with the password.

        An address without one takes it from the file that ``CLASSMARK_JOURNAL_PASSWORD_FILE``
        names, each time, so that a password is changed without a restart.

        Raises:
            InvalidJournal: the file cannot be read.
        """
        file = os.environ.get(PASSWORD_VARIABLE)
        if not file or "password" in self.parameters:
            return self.parameters
        try:
            return {**self.parameters, "password": Path(file).read_text("utf-8").rstrip("\r\n")}
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidJournal(
                f"journal {self}: the password in {file}, which {PASSWORD_VARIABLE} names, cannot "
                f"be read ({error}). Correct the path, or who may read it."
            ) from error

    def __str__(self) -> str:
        """Return the address without the password and the parameters."""
        return self._shown

    def __repr__(self) -> str:
        """Return the address without the password and the parameters."""
        return f"Address({self._shown!r})"

    def __eq__(self, other: object) -> bool:
        """Return whether the other is the same address, with the same password."""
        return isinstance(other, Address) and other.url == self.url

    def __hash__(self) -> int:
        """Return the same for the same address."""
        return hash(self.url)


Place = Path | Address


def place_of(text: str | Path) -> Place:
    """Return the place that a setting or an option names: a database, else a file or a folder.

    Raises:
        InvalidConfig: it begins like the address of a database, but cannot be read as one, or as
            that of something else; the message has no more of it than how it begins.
        MissingExtra: it is in a bucket, and what reads buckets is not installed.
        UsageError: it begins like the address of a bucket, but cannot be read as one.
    """
    found = _SCHEME.match(text) if isinstance(text, str) else None
    scheme = found[1].lower() if found else ""
    if scheme in _DATABASES:
        return Address(str(text))
    if scheme not in ("", _BUCKETS):
        raise InvalidConfig(
            f"a journal cannot be at an address that begins with {scheme[:40]}://. Give a file, or "
            f"{_FORM}."
        )
    return folder_place(text)


def in_clear(place: Place) -> str:
    """Return what ``place_of`` makes the place of again, with its password: for a pipe only."""
    return place.url if isinstance(place, Address) else str(place)


def postgres() -> ModuleType:
    """Return the module that knows PostgreSQL's driver.

    Raises:
        MissingExtra: that is not installed.
    """
    try:
        from classmark.journal import postgres
    except ImportError as error:
        raise MissingExtra("a journal in PostgreSQL", "postgres") from error
    return postgres


def without_passwords(text: str) -> str:
    """Return a text with asterisks for the password of every address in it."""
    return _PASSWORD.sub(r"\1***", text)


def hide_password(text: str | None) -> None:
    """Overwrite the password of an address in the command line of this process.

    Every user of a machine can read the command lines of all processes. Only Linux lets a process
    change its own; elsewhere, and in the history of a shell, the password stays.
    """
    found = _PASSWORD.match(text or "")
    if not text or not found or not sys.platform.startswith("linux"):
        return
    import ctypes

    before, argument = os.fsencode(found[1]), os.fsencode(text)
    with suppress(OSError, ValueError, IndexError):
        fields = Path("/proc/self/stat").read_text("ascii", "replace").rpartition(")")[2].split()
        begin, end = int(fields[_ARGUMENTS_BEGIN]), int(fields[_ARGUMENTS_END])
        if begin:
            at = ctypes.string_at(begin, end - begin).index(argument) + len(before)
            ctypes.memset(begin + at, ord("*"), len(os.fsencode(found[0])) - len(before))


def _invalid(why: str) -> InvalidConfig:
    return InvalidConfig(
        f"the address of the journal's database is invalid: {why}. Give {_FORM}, with special "
        "characters in the password percent-encoded (%2F for /)."
    )
