"""Which columns or keys a paper is read from, and how one record becomes a paper."""

from __future__ import annotations

import ast
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from classmark.errors import InvalidPaper, UsageError, WrongColumns
from classmark.papers.dates import parse_date
from classmark.papers.ids import codes_among
from classmark.papers.markup import without_markup
from classmark.records import BadRecord, Paper, author_names, is_missing

DEFAULT_MAX_RECORD_BYTES = 32 * 1024 * 1024
MAX_ID_CHARS = 1000
"""A longer identifier makes a bad record: answers, logs and error lines repeat it."""

COLUMN_NAMES: dict[str, tuple[str, ...]] = {
    "id": (
        *("id", "arxiv_id", "arxivid_s", "key", "ut", "ut (unique wos id)", "eid", "pmid"),
        *("paperid", "bibcode", "halid_s", "docid", "lens_id", "corpusid", "biorxiv_doi", "doi"),
    ),
    "title": (
        *("title", "titles", "article title", "document title", "ti"),
        *("en_title_s", "title_s", "preprint_title"),
    ),
    "abstract": (
        *("abstract", "summary", "summaries", "abstract note", "abstractnote", "ab"),
        *("abstracttext", "en_abstract_s", "abstract_s", "preprint_abstract"),
    ),
    "category_code": ("category_code", "primary_category"),
    "categories": ("categories", "terms", "arxiv_class"),
    "published_date": (
        *("published_date", "published", "date", "publication date", "publication year"),
        *("firstpublicationdate", "pubdate", "produceddate_s", "publisheddate", "year", "py"),
        *("publicationyear", "pubyear", "yearpublished", "year_published"),
    ),
    "updated_date": ("updated_date", "update_date", "updated"),
    "authors": ("authors", "author", "au", "authfullname_s", "preprint_authors"),
}
"""Fields of a paper, each with the columns or keys it is sought under, best first, in lower case.

Beside arXiv's and Kaggle's names these are those that Zotero, Web of Science (short and full),
Scopus, PubMed, Semantic Scholar, ADS, HAL, DataCite, Europe PMC, CORE and bioRxiv export.
"""

TEXT_FIELDS = ("title", "abstract", "category_code", "categories")
"""A value of another type makes a bad record; in other fields it is unknown."""

SEEN_COLUMNS, SEEN_KEYS = 300, 30
"""How many names an error offers: of a table, and of a record, which may be one of thousands."""
MAX_SEEN_CHARS = 200
"""A longer name is not offered: cut, it would not be that of the column."""
MAX_MAPPING_CHARS = 10_000

_TEXTS = ("title", "abstract")
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
_SHOWN_NAMES = 12
_SHOWN_CHARACTERS = 60
_MAX_MESSAGE_CHARS = 2000


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Columns or keys that papers are read from beside the usual ones: field of a paper -> name.

    Attributes:
        given: they must be in the header of a table.
        expected: sought after those that are given and before the usual ones, and may be missing;
            for example those that a model was trained on.
        advice: how columns are named in this place, for messages.
    """

    given: Mapping[str, str] = field(default_factory=dict)
    expected: Mapping[str, str] = field(default_factory=dict)
    advice: str = "Name yours with columns={'title': …, 'abstract': …}"

    def __post_init__(self) -> None:
        _check_fields((*self.given, *self.expected), "columns names")

    @classmethod
    def of(cls, columns: Mapping[str, str] | Columns | None) -> Columns:
        """Return what a caller gave: nothing, a mapping, or this already."""
        return columns if isinstance(columns, Columns) else cls(given=columns or {})

    @property
    def marks(self) -> Mapping[str, str]:
        """Columns that a header is known by: the given ones, else the expected texts."""
        expected = self.expected
        return self.given or {name: expected[name] for name in _TEXTS if name in expected}

    def overruled_by(self, asked: Columns) -> Columns:
        """Return these columns as the expected ones beside those that somebody asks for."""
        return replace(asked, expected={**self.expected, **asked.expected})

    def names_of(self, field_name: str) -> tuple[str, ...]:
        """Return the column names, in lower case, that a field is sought under, best first."""
        own = (names.get(field_name) for names in (self.given, self.expected))
        return (*(name.strip().lower() for name in own if name), *COLUMN_NAMES[field_name])


def parse_columns(text: str) -> dict[str, str]:
    """Return the mapping that a person writes: FIELD=COLUMN,... or, for any name, a JSON object.

    Raises:
        UsageError: it is neither, or names a field that papers do not have.
    """
    if len(text) > MAX_MAPPING_CHARS:
        raise UsageError(f"{len(text):,} characters are more than {MAX_MAPPING_CHARS:,}")
    pairs = _json_pairs(text) if text.lstrip().startswith("{") else _pairs(text)
    columns: dict[str, str] = {}
    for field_name, column in pairs:
        if field_name in columns:
            raise UsageError(f"names {shown(field_name)} twice")
        columns[field_name] = column
    _check_fields(columns, "names")
    return columns


def _check_fields(field_names: Iterable[str], who_names: str) -> None:
    unknown = sorted(set(field_names) - set(COLUMN_NAMES))
    if unknown:
        raise UsageError(
            f"{who_names} the field {shown(unknown[0])}, which papers do not have. "
            f"Fields: {', '.join(COLUMN_NAMES)}"
        )


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for part in text.split(",") if text.strip() else []:
        field_name, equals, column = (piece.strip() for piece in part.partition("="))
        if not (field_name and equals and column):
            raise UsageError(f"{shown(part)} is not FIELD=COLUMN")
        yield field_name, column


def _json_pairs(text: str) -> Iterator[tuple[str, str]]:
    try:
        pairs = json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{shown(text)} is not a JSON object") from error
    for field_name, column in pairs:
        if not (isinstance(column, str) and column.strip()):
            raise UsageError(f"{shown(field_name)} must be the name of a column")
        yield field_name.strip(), column


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How a source is read.

    Attributes:
        name: the source in messages: its path, or "standard input".
        columns: columns or keys that papers are read from beside the usual ones.
        max_record_bytes: a longer record is skipped, without holding it in memory.
        strict_dates: an unreadable date makes a bad record; else the date is unknown (None).
        whole_labels: categories are the user's own labels, which may hold blanks and commas.
    """

    name: str
    columns: Columns = field(default_factory=Columns)
    max_record_bytes: int = DEFAULT_MAX_RECORD_BYTES
    strict_dates: bool = False
    whole_labels: bool = False

    @cached_property
    def sought(self) -> dict[str, tuple[str, ...]]:
        """Return what ``names_of`` gives for every field of a paper."""
        return {field_name: self.columns.names_of(field_name) for field_name in COLUMN_NAMES}


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


def column_name(text: str) -> str:
    """Return the name of a column as it is compared, without the mark that a file begins with."""
    return text.removeprefix("\ufeff").strip().lower()


def locate_columns(header: Iterable[str], options: ReadOptions) -> dict[str, int]:
    """Return the position of each field that a table has.

    Raises:
        WrongColumns: a given column is missing, or there is neither a title nor an abstract.
    """
    seen = [name.strip() for name in header]
    index = {name.lower(): i for i, name in reversed(list(enumerate(seen)))}
    for field_name, column in options.columns.given.items():
        if column.strip().lower() not in index:
            raise _wrong_columns(f"no column {shown(column)} for {field_name}", seen, options)
    positions = {
        field_name: index[name]
        for field_name, names in options.sought.items()
        for name in reversed(names)
        if name in index
    }
    if "abstract" not in positions and "title" not in positions:
        raise _wrong_columns(f"no column {texts_sought(options)}", seen, options)
    return positions


def _wrong_columns(what: str, seen: list[str], options: ReadOptions) -> WrongColumns:
    return WrongColumns(
        f"{options.name} has {what}; columns seen: {listed([name for name in seen if name])}. "
        f"{options.columns.advice}",
        offered(seen, SEEN_COLUMNS),
    )


def texts_sought(options: ReadOptions) -> str:
    """Return the names of title and abstract, those that are expected here first."""
    own = (options.columns.expected.get(name, name) for name in _TEXTS)
    *names, last = map(shown, dict.fromkeys((*own, *_TEXTS)))
    return f"{', '.join(names)} or {last}"


def offered(names: Iterable[str], most: int) -> tuple[str, ...]:
    """Return the names of columns or keys that somebody may choose from, each once."""
    choice = (name for name in names if 0 < len(name) <= MAX_SEEN_CHARS)
    return tuple(itertools.islice(dict.fromkeys(choice), most))


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


def shown(value: object) -> str:
    """Return a value for a message, cut to a readable length."""
    if isinstance(value, str | bytes):
        value = value[: _SHOWN_CHARACTERS + 1]  # of a long one there is no need to spell the rest
    try:
        text = repr(value)
    except RecursionError:  # lists in lists in lists
        text = type(value).__name__
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"


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
    if name in _TEXTS and isinstance(value, list) and all(isinstance(v, str) for v in value):
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


def listed(names: list[str]) -> str:
    """Return the first names of columns or keys for a message, and how many more there are."""
    listed = ", ".join(shown(name).strip("'\"") for name in names[:_SHOWN_NAMES]) or "none"
    more = len(names) - _SHOWN_NAMES
    return f"{listed} and {more} more" if more > 0 else listed
