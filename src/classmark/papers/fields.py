"""Which columns or keys a paper is read from, and how one record becomes a paper."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from classmark.errors import InvalidPaper, UsageError, WrongColumns
from classmark.papers.dates import parse_date
from classmark.papers.markup import without_markup
from classmark.records import BadRecord, Paper, is_missing

DEFAULT_MAX_RECORD_BYTES = 32 * 1024 * 1024
MAX_ID_CHARS = 1000
"""A longer identifier makes a bad record: answers, logs and error lines repeat it."""

COLUMN_NAMES: dict[str, tuple[str, ...]] = {
    "id": ("id", "arxiv_id", "key", "ut", "ut (unique wos id)", "eid", "pmid", "paperid", "doi"),
    "title": ("title", "titles", "article title", "document title", "ti"),
    "abstract": ("abstract", "summary", "summaries", "abstract note", "abstractnote", "ab"),
    "category_code": ("category_code", "primary_category"),
    "categories": ("categories", "terms"),
    "published_date": (
        *("published_date", "published", "date", "publication date", "publication year", "year"),
        *("py",),
    ),
    "updated_date": ("updated_date", "update_date", "updated"),
    "authors": ("authors", "author", "au"),
}
"""Fields of a paper, each with the columns or keys it is sought under, best first, in lower case.

Beside arXiv's and Kaggle's names these are those that Zotero, Web of Science (short and full),
Scopus, PubMed and Semantic Scholar export.
"""

_BETWEEN_CATEGORIES = re.compile(r"[\s,;|\[\]()'\"]+")
_SHOWN_NAMES = 12
_SHOWN_CHARACTERS = 60
_MAX_MESSAGE_CHARS = 2000


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How a source is read.

    Attributes:
        name: the source in messages: its path, or "standard input".
        columns: field of a paper -> column or key it is read from, before the usual names.
        max_record_bytes: a longer record is skipped, without holding it in memory.
        strict_dates: an unreadable date makes a bad record; else the date is unknown (None).
    """

    name: str
    columns: Mapping[str, str] = field(default_factory=dict)
    max_record_bytes: int = DEFAULT_MAX_RECORD_BYTES
    strict_dates: bool = False

    def __post_init__(self) -> None:
        unknown = sorted(set(self.columns) - set(COLUMN_NAMES))
        if unknown:
            raise UsageError(
                f"columns names the field {unknown[0]!r}, which papers do not have. "
                f"Fields: {', '.join(COLUMN_NAMES)}"
            )

    @cached_property
    def sought(self) -> dict[str, tuple[str, ...]]:
        """Return what ``names_of`` gives for every field of a paper."""
        return {field_name: self.names_of(field_name) for field_name in COLUMN_NAMES}

    def names_of(self, field_name: str) -> tuple[str, ...]:
        """Return the column names, in lower case, that a field is sought under, best first."""
        mapped = self.columns.get(field_name)
        usual = COLUMN_NAMES[field_name]
        return usual if mapped is None else (mapped.strip().lower(), *usual)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record stands: "line 7" in messages, "7" as identifier if it has none of its own."""

    unit: str
    number: int

    def bad(self, kind: str, message: str, id: str | None = None) -> BadRecord:
        """Return the record that could not be read, its message led by the place; both are cut."""
        known_id = (id or str(self.number))[:MAX_ID_CHARS]
        return BadRecord(id=known_id, kind=kind, message=f"{self}: {message}"[:_MAX_MESSAGE_CHARS])

    def __str__(self) -> str:
        return f"{self.unit} {self.number}"


def locate_columns(header: Iterable[str], options: ReadOptions) -> dict[str, int]:
    """Return the position of each field that a table has.

    Raises:
        WrongColumns: a mapped column is missing, or there is neither a title nor an abstract.
    """
    seen = [name.strip() for name in header]
    index = {name.lower(): i for i, name in reversed(list(enumerate(seen)))}
    for field_name, column in options.columns.items():
        if column.strip().lower() not in index:
            raise WrongColumns(
                f"{options.name} has no column {column!r} for {field_name}; columns seen: "
                f"{_listed(seen)}. Name one of them with --columns {field_name}=…"
            )
    positions = {
        field_name: index[name]
        for field_name in COLUMN_NAMES
        for name in reversed(options.names_of(field_name))
        if name in index
    }
    if "abstract" not in positions and "title" not in positions:
        raise WrongColumns(
            f"{options.name} has no column 'title' or 'abstract'; columns seen: {_listed(seen)}. "
            "Name yours with --columns title=…,abstract=…"
        )
    return positions


def build_paper(
    values: Mapping[str, Any], place: Place, *, strict_dates: bool = False
) -> Paper | BadRecord:
    """Return the paper of one record, or what was wrong with it.

    Args:
        values: field name -> value; absent and None are the same.
        place: where the record stands.
        strict_dates: an unreadable date makes a bad record; else it is unknown.
    """
    identifier = values.get("id")
    known_id = str(identifier).strip() if isinstance(identifier, str | int | float) else ""
    known_id = "" if is_missing(identifier) else known_id
    if len(known_id) > MAX_ID_CHARS:
        message = f"id has {len(known_id):,} characters, more than {MAX_ID_CHARS:,}"
        return place.bad("too_long", f"{message}: {shown(known_id)}")
    try:
        title, abstract = (without_markup(_text(values, name)) for name in ("title", "abstract"))
        categories = _categories(values.get("categories"))
        code = _text(values, "category_code").strip() or (categories[0] if categories else None)
    except InvalidPaper as error:
        return place.bad("wrong_type", str(error), known_id)
    if not title.strip() and not abstract.strip():
        return place.bad("missing_text", "title and abstract are empty", known_id)
    try:
        published = _date(values.get("published_date"), strict=strict_dates)
        updated = _date(values.get("updated_date"), strict=strict_dates)
    except InvalidPaper as error:
        return place.bad("bad_date", str(error), known_id)
    return Paper(
        id=known_id or str(place.number),
        title=title,
        abstract=abstract,
        category_code=code,
        categories=categories,
        published_date=published,
        updated_date=updated,
        authors=_authors(values.get("authors")),
    )


def shown(value: object) -> str:
    """Return a value for a message, cut to a readable length."""
    if isinstance(value, str | bytes):
        value = value[: _SHOWN_CHARACTERS + 1]  # of a long one there is no need to spell the rest
    try:
        text = repr(value)
    except RecursionError:  # lists in lists in lists
        text = type(value).__name__
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    if is_missing(value):
        return ""
    if name == "title" and isinstance(value, list) and all(isinstance(v, str) for v in value):
        return value[0] if value else ""  # Crossref lists titles, the main one first
    if not isinstance(value, str):
        raise InvalidPaper(f"{name} must be a string, got {type(value).__name__} {shown(value)}")
    return value


def _categories(value: Any) -> tuple[str, ...]:
    """Return the codes of a list, of a text, of a list as a text, or of a list of such texts."""
    if is_missing(value):
        return ()
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise InvalidPaper(
            f"categories must be codes separated by blanks, commas or semicolons, or a list of "
            f"codes, got {shown(value)}"
        )
    return tuple(code for text in texts for code in _BETWEEN_CATEGORIES.split(text) if code)


def _date(value: Any, *, strict: bool) -> str | None:
    text = value.isoformat() if hasattr(value, "isoformat") else value
    if is_missing(text) or not str(text).strip():
        return None
    try:
        return parse_date(str(text))
    except InvalidPaper:
        if strict:
            raise
        return None


def _authors(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return value if isinstance(value, str) else ""


def _listed(names: list[str]) -> str:
    listed = ", ".join(shown(name).strip("'\"") for name in names[:_SHOWN_NAMES]) or "none"
    more = len(names) - _SHOWN_NAMES
    return f"{listed} and {more} more" if more > 0 else listed
