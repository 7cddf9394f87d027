"""A paper as it passes through walls, and a record that could not be read as one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from classmark.errors import InvalidPaper


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

        ``id`` and ``category_code`` are read too.

        Raises:
            InvalidPaper: neither key is there, or a value is not a string.
        """
        abstract = record.get("abstract", record.get("summary"))
        title = record.get("title")
        if title is None and abstract is None:
            seen = ", ".join(sorted(map(str, record))) or "none"
            raise InvalidPaper(
                f"a paper needs 'title' and/or 'abstract' (or 'summary'); keys seen: {seen}"
            )
        for key, value in (("title", title), ("abstract", abstract)):
            if value is not None and not isinstance(value, str):
                raise InvalidPaper(f"{key} must be a string, got {type(value).__name__}")
        identifier, category = record.get("id"), record.get("category_code")
        return cls(
            id=None if identifier is None else str(identifier),
            title=title or "",
            abstract=abstract or "",
            category_code=category if isinstance(category, str) else None,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class BadRecord:
    """One input record that cannot be read: its id or line number, and what was wrong."""

    id: str | None
    kind: str
    message: str

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

    def to_dict(self) -> dict[str, Any]:
        """Return the published form, ``{"id", "error": {"kind", "message"}}``."""
        return {"id": self.id, "error": {"kind": self.kind, "message": self.message}}
