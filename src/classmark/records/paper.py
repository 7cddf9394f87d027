"""A paper, and a record that could not be read as one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from classmark import wire
from classmark.errors import InvalidPaper
from classmark.records.values import author_names, is_missing, text_of, text_of_date, text_of_id

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
        authors: names as the record writes them; empty if unknown.
        place: number of its line, row or item in the file it comes from, 0 if it comes from none.
    """

    id: str | None = None
    title: str = ""
    abstract: str = ""
    category_code: str | None = None
    categories: tuple[str, ...] = ()
    published_date: str | None = None
    updated_date: str | None = None
    authors: tuple[str, ...] = ()
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
        texts = (self.id or "", self.title, self.abstract, self.category_code or "")
        return sum(map(len, (*texts, *self.categories, *self.authors)))

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

        ``id``, ``category_code``, ``published_date`` and ``authors`` (as ``author_names`` says) are
        read too; a value may be missing as ``is_missing`` tells.

        Raises:
            InvalidPaper: neither key is there with a value, or a value is not a string.
        """
        abstract = record.get("abstract")
        abstract = record.get("summary") if is_missing(abstract) else abstract
        title = record.get("title")
        if is_missing(title) and is_missing(abstract):
            seen = ", ".join(sorted(map(str, record))) or "none"
            raise InvalidPaper(
                "a paper needs a text as 'title' and/or 'abstract' (or 'summary'); keys seen: "
                f"{seen}"
            )
        category = record.get("category_code")
        return cls(
            id=text_of_id(record.get("id")),
            title=text_of(title, "title"),
            abstract=text_of(abstract, "abstract"),
            category_code=category if isinstance(category, str) else None,
            published_date=text_of_date(record.get("published_date")),
            authors=author_names(record.get("authors")),
        )


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
