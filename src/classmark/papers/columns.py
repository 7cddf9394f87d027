"""Which columns or keys papers are read from, and how they are named in messages."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

from classmark.errors import UsageError, WrongColumns
from classmark.records import is_missing

T = TypeVar("T")

DEFAULT_MAX_RECORD_BYTES = 32 * 1024 * 1024

COLUMN_NAMES: dict[str, tuple[str, ...]] = {
    "id": (
        *("id", "arxiv_id", "arxivid_s", "key", "ut", "ut (unique wos id)", "eid", "pmid"),
        *("paperid", "bibcode", "halid_s", "docid", "lens_id", "corpusid", "biorxiv_doi", "doi"),
        "dc:identifier",
    ),
    "title": (
        *("title", "titles", "article title", "document title", "ti"),
        *("en_title_s", "title_s", "preprint_title", "dc.title", "dc:title"),
        *("item title", "paper title", "display_name"),
    ),
    "abstract": (
        *("abstract", "summary", "summaries", "abstract note", "abstractnote", "ab"),
        *("abstracttext", "en_abstract_s", "abstract_s", "preprint_abstract"),
        *("dc.description.abstract", "dc:description"),
        *("article abstract", "paper abstract", "description"),
    ),
    "category_code": ("category_code", "primary_category"),
    "categories": ("categories", "terms", "arxiv_class"),
    "published_date": (
        *("published_date", "published", "date", "publication date", "publication year"),
        *("firstpublicationdate", "pubdate", "produceddate_s", "publisheddate", "year", "py"),
        *("publicationyear", "pubyear", "yearpublished", "year_published"),
        *("dc.date.issued", "prism:coverdate", "date published", "published year"),
        "date posted",
    ),
    "updated_date": ("updated_date", "update_date", "updated"),
    "authors": (
        *("author full names", "af", "authors", "author", "au", "authfullname_s"),
        "preprint_authors",
        *("dc.contributor.author", "dc:creator", "author/s", "author names"),
        "paper authors",
        "authorships.author.display_name",
    ),
}
"""Fields of a paper, each with the columns or keys it is sought under, best first, in lower case.

Beside arXiv's and Kaggle's names these are those that Zotero, Web of Science (short and full),
Scopus, PubMed, Semantic Scholar, OpenAlex, Lens, Covidence, SpringerLink, ADS, HAL, DataCite,
Europe PMC, CORE, bioRxiv and DSpace export. In tables a blank and an underscore are the same.
"""

MAX_HEADING_ROWS = 10
"""So many rows may be above the header of a table, such as its title or when it was exported."""
SEEN_COLUMNS, SEEN_KEYS = 300, 30
"""How many names an error offers: of a table, and of a record, which may be one of thousands."""
MAX_SEEN_CHARS = 200
"""A longer name is not offered: cut, it would not be that of the column."""
MAX_MAPPING_CHARS = 10_000
TEXTS = ("title", "abstract")
"""Fields, one of which every paper has."""

_LANGUAGE = re.compile(r"\[[a-z_]*\]\Z")
"""What DSpace adds to the name of a column: ``dc.title[en_US]``, in lower case."""
_SHOWN_NAMES = 12
_SHOWN_CHARACTERS = 60


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
        return self.given or {name: expected[name] for name in TEXTS if name in expected}

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


def column_name(text: str) -> str:
    """Return the name of a column as it is compared, without the mark that a file begins with."""
    return text.removeprefix("\ufeff").strip().lower()


def column_names(text: str) -> set[str]:
    """Return the names under which a column of a table is found."""
    name = column_name(text)
    plain = _LANGUAGE.sub("", name)
    return {name, plain, plain.replace("_", " "), plain.replace(" ", "_")}


def locate_columns(header: Iterable[str], options: ReadOptions) -> dict[str, tuple[int, ...]]:
    """Return the positions of each field that a table has, best first, see ``first_value``.

    A field whose column is given is read from that column alone.

    Raises:
        WrongColumns: a given column is missing, or there is neither a title nor an abstract.
    """
    seen = [name.strip() for name in header]
    index: dict[str, list[int]] = {}
    for i, name in enumerate(seen):
        for known_as in column_names(name):
            index.setdefault(known_as, []).append(i)
    given = options.columns.given
    for field_name, column in given.items():
        if column_name(column) not in index:
            raise _wrong_columns(f"no column {shown(column)} for {field_name}", seen, options)
    positions: dict[str, tuple[int, ...]] = {}
    for field_name, names in options.sought.items():
        places = [
            i for name in names[: 1 if field_name in given else None] for i in index.get(name, ())
        ]
        if places:
            positions[field_name] = tuple(dict.fromkeys(places))
    if "abstract" not in positions and "title" not in positions:
        raise _wrong_columns(f"no column {texts_sought(options)}", seen, options)
    return positions


def first_value(get: Callable[[T], Any], places: Iterable[T]) -> Any:  # noqa: ANN401
    """Return the first value of a record that is not blank, else the first, else None.

    Args:
        get: returns the value at a place, such as a column.
        places: best first.
    """
    found = None
    for place in places:
        value = get(place)
        if value is None:
            continue
        if value.strip() if isinstance(value, str) else not is_missing(value):
            return value
        found = value if found is None else found
    return found


def _wrong_columns(what: str, seen: list[str], options: ReadOptions) -> WrongColumns:
    return WrongColumns(
        f"{options.name} has {what}; columns seen: {listed([name for name in seen if name])}. "
        f"{options.columns.advice}",
        offered(seen, SEEN_COLUMNS),
    )


def texts_sought(options: ReadOptions) -> str:
    """Return the names of title and abstract, those that are expected here first."""
    own = (options.columns.expected.get(name, name) for name in TEXTS)
    *names, last = map(shown, dict.fromkeys((*own, *TEXTS)))
    return f"{', '.join(names)} or {last}"


def offered(names: Iterable[str], most: int) -> tuple[str, ...]:
    """Return the names of columns or keys that somebody may choose from, each once."""
    choice = (name for name in names if 0 < len(name) <= MAX_SEEN_CHARS)
    return tuple(itertools.islice(dict.fromkeys(choice), most))


def shown(value: object) -> str:
    """Return a value for a message, cut to a readable length."""
    if isinstance(value, str | bytes):
        value = value[: _SHOWN_CHARACTERS + 1]  # of a long one there is no need to spell the rest
    try:
        text = repr(value)
    except RecursionError:  # lists in lists in lists
        text = type(value).__name__
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"


def listed(names: list[str]) -> str:
    """Return the first names of columns or keys for a message, and how many more there are."""
    listed = ", ".join(shown(name).strip("'\"") for name in names[:_SHOWN_NAMES]) or "none"
    more = len(names) - _SHOWN_NAMES
    return f"{listed} and {more} more" if more > 0 else listed
