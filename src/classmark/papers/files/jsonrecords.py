"""How well-known sources write a paper in JSON, put into the keys that papers are read from.

Known: the arXiv dump, Crossref and CSL-JSON, OpenAlex, Semantic Scholar, Inspire, ADS, HAL,
DataCite, DBLP, Europe PMC, CORE, bioRxiv and medRxiv, Zenodo, Figshare, Lens, Scopus, DSpace,
OpenReview, rows of Hugging Face, tables of pandas, Zotero and Better BibTeX. Whatever a record has
under a usual key already stays as it is. Here is what has a structure of its own; names of other
keys are in ``columns.COLUMN_NAMES``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from classmark.papers.authors import medline_authors
from classmark.papers.columns import COLUMN_NAMES

Record = dict[str, Any]

_LISTS = (
    *("results", "data", "items", "message", "rows", "hits", "hit", "response", "docs"),
    *("resultList", "result", "collection", "records", "papers", "articles", "publications"),
    *("search-results", "entry", "notes"),
)
"""Keys under which services wrap the list of what they found; three of them may be nested."""
_NESTED = ("metadata", "row", "message", "data", "attributes", "info", "content")
"""Keys under which one record is wrapped, also by Zenodo, Zotero's server, DataCite, DBLP, DSpace
and OpenReview; two may be nested."""
_MISUSED = ("terms", "published", "description")
"""Usual keys under which some sources have something else."""
_DEEPEST = 3
_MAX_ABSTRACT_WORDS = 50_000
_TEXTS = {*COLUMN_NAMES["title"], *COLUMN_NAMES["abstract"], "abstract_inverted_index"} - {
    *("display_name", "description"),
}
"""Keys that only a record has, and no list of records."""
_IDS = frozenset(COLUMN_NAMES["id"])


def wrapped_records(value: object, depth: int = 0) -> list[Any] | None:
    """Return the list of records that an answer of a service wraps, None if it wraps none.

    An object with a title or an abstract is a record itself, whatever lists it has.
    """
    if not isinstance(value, dict) or depth == _DEEPEST:
        return None
    if isinstance(value.get("title"), str) and "columns" not in value:  # as most are
        return None
    if (rows := _rows_of_pandas(value)) is not None:
        return rows
    if _is_record(value):
        return None
    for key in _LISTS:
        inner = value.get(key)
        if isinstance(inner, list) and _are_records(inner):
            return inner
        found = wrapped_records(inner, depth + 1)
        if found is not None:
            return found
    return None


def _rows_of_pandas(value: Record) -> list[Any] | None:
    """Return the rows of a table that pandas wrote by columns or by rows; None of anything else."""
    names, rows = value.get("columns"), value.get("data")
    if isinstance(names, list) and isinstance(rows, list):
        is_table = all(isinstance(name, str) for name in names)
        is_table = is_table and all(isinstance(row, list) for row in rows)
        return [dict(zip(names, row, strict=False)) for row in rows] if is_table else None
    if not value or not all(isinstance(part, dict) for part in value.values()):
        return None
    parts = list(value.values())
    if all(map(_is_record, parts)) and value.keys().isdisjoint(_NESTED):
        return [_with_id(record, id) for id, record in value.items()]
    if not _is_record(value) or any(isinstance(v, list | dict) for v in parts[0].values()):
        return None
    rows_of = dict.fromkeys(row for part in parts for row in part)
    return [{name: part.get(row) for name, part in value.items()} for row in rows_of]


def _with_id(record: Record, id: str) -> Record:
    """Return a record with the key it stands under, unless it has an identifier or that counts."""
    has_own = not _IDS.isdisjoint(str(key).strip().lower() for key in record)
    return record if has_own or id.isdecimal() else {"id": id, **record}


def _are_records(items: list[Any]) -> bool:
    """Tell whether a list holds objects, or nothing; null is a record that was not found."""
    found = [item for item in items if item is not None]
    return all(isinstance(item, dict) for item in found) and (bool(found) or not items)


def with_usual_keys(record: Record) -> Record:
    """Return a record with its title, abstract, identifier, ... under the usual keys.

    Args:
        record: its keys in lower case.
    """
    outer, record = record, _unwrapped(_unwrapped(record))
    found = {name: read(record) for name, read in _READERS.items() if record.get(name) is None}
    found["authors"] = _authors(record)
    for name in _MISUSED:
        if _is_other(name, record.get(name)):
            record = {**record, name: None}
    merged = {**record, **{name: value for name, value in found.items() if value is not None}}
    outer_id = outer.get("id", outer.get("uuid"))
    if merged.get("id") is None and outer_id is not None:
        merged["id"] = outer_id
    return merged


def _unwrapped(record: Record) -> Record:
    """Return the record that is wrapped in an object, or the object itself."""
    if not _TEXTS.isdisjoint(record):
        return record
    inner = next((record[key] for key in _NESTED if isinstance(record.get(key), dict)), None)
    if inner is None:
        return record
    names = {key: str(key).strip().lower() for key in inner}
    return {name: _bare(name, inner[key]) for key, name in names.items()}


def _bare(name: str, value: object) -> object:
    """Return what DSpace and OpenReview wrap in objects with a value."""
    if isinstance(value, dict):
        return value["value"] if value.keys() == {"value"} else value
    if not (name.startswith("dc.") and isinstance(value, list)):
        return value
    values = [item.get("value") if isinstance(item, dict) else item for item in value]
    return values[0] if len(values) == 1 else values


def _is_record(value: Mapping[str, Any]) -> bool:
    return not _TEXTS.isdisjoint(str(key).strip().lower() for key in value)


def _is_other(name: str, value: object) -> bool:
    """Tell whether one of ``_MISUSED`` holds what some sources have there."""
    if name == "terms":
        return not isinstance(value, str | list | None)
    if name == "description":
        return not isinstance(value, str | None)
    # bioRxiv: the DOI of the article that a preprint became.
    return isinstance(value, str) and value.startswith(("10.", "NA"))


def _title(record: Record) -> str | None:
    return _first_text(record.get("titles"), "title")


def _abstract(record: Record) -> str | None:
    return (
        _in_order(record.get("abstract_inverted_index"))
        or _first_text(record.get("abstracts"), "value")
        or next(iter(_of_kind(record, "description", "Abstract")), None)
    )


def _in_order(index: object) -> str | None:
    """Return the words of an inverted abstract (word -> its positions) in their order."""
    if not isinstance(index, dict):
        return None
    places = [
        (place, word)
        for word, found in index.items()
        if isinstance(found, list)
        for place in found
        if isinstance(place, int)
    ]
    return " ".join(word for _, word in sorted(places)[:_MAX_ABSTRACT_WORDS]) or None


def _id(record: Record) -> str | None:
    external = record.get("externalids")
    arxiv = external.get("ArXiv") if isinstance(external, dict) else None
    return (
        _text(arxiv)
        or _first_text(record.get("arxiv_eprints"), "value")
        or _text(record.get("itemkey"))
    )


def _categories(record: Record) -> object:
    eprints = record.get("arxiv_eprints")
    first = eprints[0] if isinstance(eprints, list) and eprints else None
    if isinstance(first, dict):
        return first.get("categories")
    return _of_kind(record, "subject", "arXiv", kind="subjectScheme") or None


def _published(record: Record) -> object:
    return (
        record.get("publication_date")
        or record.get("publicationdate")
        or record.get("preprint_date")
        or _first_text(record.get("versions"), "created")
        or _date_parts(record.get("issued"))
        or next(iter(_of_kind(record, "date", "Issued")), None)
        or record.get("publication_year")
    )


def _date_parts(issued: object) -> str | None:
    """Return the date of Crossref and CSL: ``{"date-parts": [[2021, 5]]}``."""
    if not isinstance(issued, dict):
        return None
    try:
        parts = [int(part) for part in issued["date-parts"][0]][:3]
    except (KeyError, IndexError, TypeError, ValueError):
        return None
    return "-".join([f"{parts[0]:04d}", *(f"{part:02d}" for part in parts[1:])]) if parts else None


def _authors(record: Record) -> object:
    """Return what is to be read as the authors; names that are parsed already come first.

    Parsed names of another form count only where nothing else names the authors, and are judged
    as ``authors`` are.
    """
    parsed = record.get("authors_parsed")
    if isinstance(parsed, list):
        if parsed and all(map(_is_parsed, parsed)):
            return list(map(_spelled, parsed))
        parsed = [_spelled(name) if _is_parsed(name) else name for name in parsed]
    for key in ("authorlist", "authors", "authorships", "author", "creators"):
        people = record.get(key)
        if isinstance(people, dict):  # DBLP and Europe PMC list them one level below
            people = people.get("author", people or None)
        if isinstance(people, list):  # Zotero's editors are creators too
            return [p for p in people if _role(p) in (None, "author")]
        if people is not None:
            return people
    names = _text(record.get("authorstring"))  # of Europe PMC
    return medline_authors(names) if names else parsed


def _spelled(name: list[str]) -> str:
    return " ".join(filter(None, (*name[1:2], name[0], *name[2:3])))


def _is_parsed(name: object) -> bool:
    """Tell whether a name is a list of surname, first name and suffix, as in arXiv's dump."""
    return isinstance(name, list) and bool(name) and all(isinstance(part, str) for part in name)


def _role(person: object) -> object:
    return person.get("creatorType") if isinstance(person, dict) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


def _first_text(items: object, key: str) -> str | None:
    """Return the text under a key of the first item of a list."""
    first = items[0] if isinstance(items, list) and items else None
    return _text(first.get(key)) if isinstance(first, dict) else None


def _of_kind(record: Record, name: str, value: str, *, kind: str = "") -> list[str]:
    """Return the texts of DataCite that are of a kind: ``descriptions``, each with its type."""
    items = record.get(f"{name}s")
    kind = kind or f"{name}Type"
    found = [i for i in items if isinstance(i, dict)] if isinstance(items, list) else []
    return [text for i in found if i.get(kind) == value and (text := _text(i.get(name)))]


_READERS: dict[str, Callable[[Record], object]] = {
    "id": _id,
    "title": _title,
    "abstract": _abstract,
    "categories": _categories,
    "published_date": _published,
}
