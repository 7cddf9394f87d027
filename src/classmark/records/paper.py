"""A paper, and a record that could not be read as one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Number
from typing import Any

from classmark import wire
from classmark.errors import InvalidPaper

_MISSING_OF_PANDAS = ("NAType", "NaTType")
"""Recognised by name, so that pandas need not be installed."""
MAX_SHOWN_TITLE_CHARS = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Paper:
    """One paper: what it is classified from, and what is known of it.

    Attributes:
        id: identifier from the record, else None.
        title: raw title, may contain LaTeX.
        abstract: raw abstract, may contain LaTeX.
        category_code: primary category (the label), else None.
        categories: all listed categories, primary first; empty if unknown.
        published_date: ISO date of the first version, else None.
        updated_date: ISO date of the newest version, else None.
        authors: the authors as one string.
        place: number of its line, row or item in the file it comes from, 0 if it comes from none.
    """

    id: str | None = None
    title: str = ""
    abstract: str = ""
    category_code: str | None = None
    categories: tuple[str, ...] = ()
    published_date: str | None = None
    updated_date: str | None = None
    authors: str = ""
    place: int = field(default=0, compare=False, repr=False)

    @property
    def title_line(self) -> str:
        """The title on one line, cut to ``MAX_SHOWN_TITLE_CHARS``: to tell papers apart by."""
        line = " ".join(self.title.split())
        most = MAX_SHOWN_TITLE_CHARS
        return line if len(line) <= most else f"{line[: most - 1]}…"

    @property
    def size_chars(self) -> int:
        """Characters of all its texts: what counts where papers are held in memory."""
        texts = (self.id or "", self.title, self.abstract, self.category_code or "", self.authors)
        return sum(map(len, (*texts, *self.categories)))

    @classmethod
    def from_text(cls, text: str, id: str | None = None) -> Paper:
        """Read a plain string: title and abstract if it has a newline, else an abstract."""
        title, newline, abstract = text.strip().partition("\n")
        if not newline:
            return cls(id=id, abstract=title)
        return cls(id=id, title=title.strip(), abstract=abstract.strip())

    @classmethod
    def from_mapping(cls, record: Mapping[str, Any]) -> Paper:
        """Read a mapping with ``title`` and/or ``abstract`` (or ``summary``).

        ``id`` and ``category_code`` are read too; a value may be missing as ``is_missing`` tells.

        Raises:
            InvalidPaper: neither key is there with a value, or a value is not a string.
        """
        abstract = record.get("abstract")
        abstract = record.get("summary") if is_missing(abstract) else abstract
        title = record.get("title")
        if is_missing(title) and is_missing(abstract):
            seen = ", ".join(sorted(map(str, record))) or "none"
            raise InvalidPaper(
                f"a paper needs 'title' and/or 'abstract' (or 'summary'); keys seen: {seen}"
            )
        category = record.get("category_code")
        return cls(
            id=text_of_id(record.get("id")),
            title=text_of(title, "title"),
            abstract=text_of(abstract, "abstract"),
            category_code=category if isinstance(category, str) else None,
        )


def is_missing(value: object) -> bool:
    """Tell whether a value stands for none: None, or the NaN, NA or NaT that tables have for it."""
    if isinstance(value, str):
        return False
    if value is None or type(value).__name__ in _MISSING_OF_PANDAS:
        return True
    return isinstance(value, Number) and bool(value != value)  # noqa: PLR0124 - true of a NaN


def text_of(value: object, name: str) -> str:
    """Return a text, "" for a missing one.

    Args:
        value: of a field; of a list of strings (Crossref lists titles) the first counts.
        name: of the field, for the error.

    Raises:
        InvalidPaper: it is anything else.
    """
    if isinstance(value, str):
        return value
    if is_missing(value):
        return ""
    if name == "title" and isinstance(value, list) and all(isinstance(v, str) for v in value):
        return value[0] if value else ""
    raise InvalidPaper(f"{name} must be a string, got {type(value).__name__}")


def text_of_id(value: object) -> str | None:
    """Return an identifier, which may be a number, as a text; None for a missing one."""
    return None if is_missing(value) else str(value)


@dataclass(frozen=True, kw_only=True, slots=True)
class BadRecord:
    """One input record that cannot be read.

    Attributes:
        id: its own, or the number of its line.
        kind: stable name of what was wrong.
        message: what was wrong, in a sentence.
        columns_seen: keys of a record that has none of those that papers are read from.
    """

    id: str | None
    kind: str
    message: str
    columns_seen: tuple[str, ...] = ()

    @property
    def size_chars(self) -> int:
        """Nothing: readers cut its texts short."""
        return 0

    def line(self, source: str) -> str:
        """Return what was wrong as one line that names the source and the record."""
        # A record without an id has the number of its line for one, and the message begins with it.
        is_line = self.message.startswith(f"line {self.id}:")
        record = f", record {self.id}" if self.id and not is_line else ""
        return f"{source}{record}: {self.message}"

    def published(self) -> wire.BadRecord:
        """Return the published object, which takes the place of the answer."""
        return wire.BadRecord(self.id, wire.RecordError(self.kind, self.message, self.columns_seen))

    def to_dict(self) -> dict[str, Any]:
        """Return the published object, ``{"id", "error": {"kind", "message"}}``."""
        return self.published().to_dict()
