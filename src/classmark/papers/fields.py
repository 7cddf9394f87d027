"""How one record becomes a paper."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from classmark.errors import InvalidPaper
from classmark.papers.columns import TEXTS, ReadOptions, shown
from classmark.papers.dates import parse_date
from classmark.papers.ids import codes_among
from classmark.papers.markup import without_markup
from classmark.records import BadRecord, Paper, author_names, is_missing

MAX_ID_CHARS = 1000
"""A longer identifier makes a bad record: answers, logs and error lines repeat it."""

TEXT_FIELDS = ("title", "abstract", "category_code", "categories")
"""A value of another type makes a bad record; in other fields it is unknown."""

_BETWEEN_CATEGORIES = re.compile(r"[\s,;|\[\]()'\"]+")
_NAMED_CODE = re.compile(r"[A-Za-z] \(([a-z]+(?:-[a-z]+)?(?:\.[A-Za-z-]+)?)\)")
"""A category as arXiv's pages write it: ``Machine Learning (cs.LG)``."""
_NO_ABSTRACT = re.compile(
    r"\W*+(?:no abstract(?: (?:is )?(?:available|provided|found|given))?"
    r"|(?:the )?abstract (?:is |was )?(?:missing|unavailable|not (?:available|provided|found))"
    r"|(?-i:NA|(?<=\\)N)|n/a|n\.a|nan|none|null)"
    r"(?: for this (?:article|paper|record|document))?\W*",
    re.IGNORECASE,
)
"""What services and tables write where there is none."""
_FIRST_OF_ARXIV, _FIRST_OF_FIVE_DIGITS = 704, 1501
"""The months in which arXiv's identifiers became numbers, and got a fifth digit."""
_MAX_LIST_CHARS = 10_000
_MAX_MESSAGE_CHARS = 2000


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record is: "line 7" in messages, "7" as identifier if it has none of its own.

    Of a file with several pages, each numbered from 1, those below the first lead: "2:7".
    """

    unit: str
    number: int
    page: int = 1

    @property
    def id(self) -> str:
        """The identifier of a record without one, as ``ids.is_place`` knows it again."""
        return str(self.number) if self.page == 1 else f"{self.page}:{self.number}"

    def bad(self, kind: str, message: str, id: str | None = None) -> BadRecord:
        """Return the record that could not be read, its message led by the place; both are cut."""
        known_id = (id or self.id)[:MAX_ID_CHARS]
        return BadRecord(id=known_id, kind=kind, message=f"{self}: {message}"[:_MAX_MESSAGE_CHARS])

    def __str__(self) -> str:
        return f"{self.unit} {self.number}"


def build_paper(values: Mapping[str, Any], place: Place, options: ReadOptions) -> Paper | BadRecord:
    """Return the paper of one record, or what was wrong with it.

    Args:
        values: field name -> value; absent and None are the same.
        place: where the record is.
        options: how to read dates and categories.
    """
    identifier = values.get("id")
    known_id = _id(identifier)
    if len(known_id) > MAX_ID_CHARS:
        message = f"id has {len(known_id):,} characters, more than {MAX_ID_CHARS:,}"
        return place.bad("too_long", f"{message}: {shown(known_id)}")
    try:
        title, abstract = (without_markup(_text(values, name)) for name in ("title", "abstract"))
        categories = _categories(values.get("categories"), whole=options.whole_labels)
        code = _text(values, "category_code").strip() or (categories[0] if categories else None)
        authors = author_names(values.get("authors"))
    except InvalidPaper as error:
        return place.bad("wrong_type", str(error), known_id)
    if _NO_ABSTRACT.fullmatch(abstract):
        abstract = ""
    if not title.strip() and not abstract.strip():
        return place.bad("missing_text", "title and abstract are empty", known_id)
    try:
        published = _date(values.get("published_date"), strict=options.strict_dates)
        updated = _date(values.get("updated_date"), strict=options.strict_dates)
    except InvalidPaper as error:
        return place.bad("bad_date", str(error), known_id)
    return Paper(
        id=known_id or place.id,
        title=title,
        abstract=abstract,
        category_code=code,
        categories=categories,
        published_date=published,
        updated_date=updated,
        authors=authors,
        place=place.number,
    )


def _id(value: object) -> str:
    """Return an identifier as text; a number that is one of arXiv gets its last zeros back."""
    if isinstance(value, list) and value:
        value = value[0]  # ADS lists all DOIs of a paper
    if is_missing(value) or not isinstance(value, str | int | float):
        return ""
    if not isinstance(value, float):
        return str(value).strip()
    if value.is_integer():
        return str(int(value))
    is_dated = _FIRST_OF_ARXIV <= value < 10_000 and 1 <= int(value) % 100 <= 12
    as_arxiv = f"{value:010.5f}" if value >= _FIRST_OF_FIVE_DIGITS else f"{value:09.4f}"
    return as_arxiv if is_dated and float(as_arxiv) == value else str(value)


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    if is_missing(value):
        return ""
    if name in TEXTS and isinstance(value, list) and all(isinstance(v, str) for v in value):
        return value[0] if value else ""  # Crossref and HAL list them, the main one first
    if not isinstance(value, str):
        hint = ""
        if name == "category_code" and isinstance(value, list):
            hint = ". Give a list of labels as categories, the primary one first"
        got = f"{type(value).__name__} {shown(value)}"
        raise InvalidPaper(f"{name} must be a string, got {got}{hint}")
    return value


def _categories(value: object, *, whole: bool) -> tuple[str, ...]:
    """Return the codes of a list, of a text, of a list as a text, or of a list of such texts.

    The user's own labels are taken as they stand: a text is one label, or a list as a text.
    """
    if is_missing(value):
        return ()
    if whole and isinstance(value, str):
        value = _listed_in_text(value)
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise InvalidPaper(
            f"categories must be codes separated by blanks, commas or semicolons, or a list of "
            f"codes, got {shown(value)}"
        )
    if whole:
        return tuple(text for text in texts if text.strip())
    return tuple(code for text in texts for code in _codes_in(text))


def _codes_in(text: str) -> list[str]:
    named = codes_among(_NAMED_CODE.findall(text)) if "(" in text else []
    return named or [code for code in _BETWEEN_CATEGORIES.split(text) if code]


def _listed_in_text(text: str) -> list[str]:
    """Return the labels of a text: those of a JSON or Python list, between tabs, or itself."""
    if text.lstrip().startswith("[") and len(text) <= _MAX_LIST_CHARS:
        for read in (json.loads, ast.literal_eval):
            with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
                found = read(text.strip())
                if isinstance(found, list) and all(isinstance(item, str) for item in found):
                    return found
    return text.split("\t")  # so the table of a dataset parts them


def _date(value: object, *, strict: bool) -> str | None:
    text = value.isoformat() if hasattr(value, "isoformat") else value
    if is_missing(text) or not str(text).strip():
        return None
    try:
        return parse_date(str(text))
    except InvalidPaper:
        if strict:
            raise
        return None
