"""The fields of a paper in one XML record of a known kind."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element

from classmark import taxonomy
from classmark.errors import InvalidPaper, UnknownCategory
from classmark.papers.authors import from_medline
from classmark.papers.dates import parse_date
from classmark.papers.markup import TAGS

Values = dict[str, Any]
Reader = Callable[[Element], Values]

_ATOM = "{http://www.w3.org/2005/Atom"
_OAI = "{http://www.openarchives.org/OAI/2.0/"
_ARXIV = "{http://arxiv.org/schemas/atom}"
_OAI_PREFIX = "oai:arXiv.org:"
_ADDRESS = re.compile(r"https?://arxiv\.org/abs/")
_ANNOUNCED = re.compile(r"\AarXiv:\S++\s++Announce Type:\s++[\w-]++\s++Abstract:\s*+")
"""What arXiv's feed of new papers writes before each abstract."""
_CATEGORY = re.compile(r"[a-z]+(?:-[a-z]+)?(?:\.[A-Za-z-]+)?")
DELETED = "deleted"
"""The kind of a record that its archive has deleted."""
_IDENTIFIERS = ("arxiv", "pmid", "pmc", "doi")
"""Kinds that JATS has, best first."""


class NoPaper(Exception):
    """A record without a paper: the kind of the problem, and the record's own identifier."""

    def __init__(self, kind: str, message: str, id: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.id = id


def reader_of(tag: str, parent: str) -> Reader | None:
    """Return what reads an element if it is a record, else None.

    Args:
        tag: of the element, as ``{namespace}name``.
        parent: name of the element around it.
    """
    namespace, _, name = tag.rpartition("}")
    return (
        _BY_NAME.get(name)
        or _BY_NAMESPACE.get((namespace, name))
        or _BY_PARENT.get((parent, name))
        or (None if namespace else _PLAIN_BY_PARENT.get((parent, name)))
    )


def _feed(entry: Element) -> Values:
    """Return the fields of an entry of Atom, or of an item of RSS."""
    id = _at(entry, "id", "guid", "link")
    if "/api/errors" in id:
        raise NoPaper("api_error", f"arXiv answered with an error: {_at(entry, 'summary')}")
    primary = entry.find(f"{_ARXIV}primary_category")
    codes = [element.get("term") or _inner(element) for element in _every(entry, "category")]
    codes = list(filter(_CATEGORY.fullmatch, codes))  # not the classes of the MSC and the ACM
    first = "" if primary is None else primary.get("term", "")
    return {
        "id": _ADDRESS.sub("", id).removeprefix(_OAI_PREFIX),
        "title": _at(entry, "title"),
        "abstract": _ANNOUNCED.sub("", _at(entry, "summary", "content", "description")),
        "categories": [first, *(code for code in codes if code != first)] if first else codes,
        "published_date": _at(entry, "published", "pubDate"),
        "updated_date": _at(entry, "updated"),
        "authors": _all(entry, "author/name") or _at(entry, "creator"),
    }


class OaiHeader(NamedTuple):
    """The header of a record of OAI-PMH, "" for what it does not say."""

    identifier: str
    datestamp: str
    is_deleted: bool


def oai_header(record: Element) -> OaiHeader:
    """Return the header of a record of OAI-PMH."""
    header = next(iter(_every(record, "header")), None)
    return OaiHeader(
        identifier=_at(record, "header/identifier"),
        datestamp=_at(record, "header/datestamp"),
        is_deleted=header is not None and header.get("status") == "deleted",
    )


def oai_values(record: Element) -> Values:
    """Return the fields of a record of OAI-PMH.

    Raises:
        NoPaper: it is deleted, or has no metadata that is read.
    """
    header = oai_header(record)
    id = header.identifier.removeprefix(_OAI_PREFIX)
    if header.is_deleted:
        raise NoPaper(DELETED, "the record has been deleted in its archive", id)
    metadata = next(iter(_every(record, "metadata/*")), None)
    if metadata is None:
        raise NoPaper("no_metadata", "the record has no metadata", id)
    name = local_name(metadata.tag)
    front = next(iter(_every(metadata, "front")), None)
    read = _jats if front is not None else _METADATA.get(name)
    if read is None:
        message = f"metadata in <{name[:60]}> is not read. Harvest it as arXiv, arXivRaw or oai_dc"
        raise NoPaper("unknown_metadata", message, id)
    values = read(metadata if front is None else front)
    sets = list(filter(None, map(_code_of_set, _all(record, "header/setSpec"))))
    # The order of sets says nothing: of several, none is known to be the primary category.
    values["categories"] = values.get("categories") or (sets if len(sets) == 1 else None)
    return {**values, "id": id if name == "dc" else values["id"] or id}


def _oai_without_metadata(element: Element) -> Values:
    if local_name(element.tag) == "error":
        raise NoPaper("api_error", f"the archive answered {element.get('code')}: {_inner(element)}")
    message = "only the header of a record is here. Harvest with verb=ListRecords"
    raise NoPaper("no_metadata", message, _at(element, "identifier"))


def _arxiv(metadata: Element) -> Values:
    return {
        "id": _at(metadata, "id"),
        "title": _at(metadata, "title"),
        "abstract": _at(metadata, "abstract"),
        "categories": _at(metadata, "categories"),
        "published_date": _at(metadata, "created"),
        "updated_date": _at(metadata, "updated"),
        "authors": [
            f"{_at(author, 'forenames')} {_at(author, 'keyname')}".strip()
            for author in _every(metadata, "authors/author")
        ],
    }


def _arxiv_raw(metadata: Element) -> Values:
    versions = _all(metadata, "version/date")
    dates = {"published_date": versions[0], "updated_date": versions[-1]} if versions else {}
    return {**_arxiv(metadata), **dates, "authors": _at(metadata, "authors")}


def _dublin_core(metadata: Element) -> Values:
    dates = sorted(_all(metadata, "date"))
    # Other archives describe more than arXiv does: audience, number of pages, language.
    texts = [t for t in _all(metadata, "description") if not t.startswith("Comment:")]
    codes = _codes_by_name()
    return {
        "id": next(iter(_all(metadata, "identifier")), ""),
        "title": _at(metadata, "title"),
        "abstract": max(texts, key=len, default=""),
        "categories": [codes[name] for name in _all(metadata, "subject") if name in codes],
        "published_date": next(iter(dates), None),
        "updated_date": next(reversed(dates), None),
        "authors": _all(metadata, "creator"),
    }


_METADATA: dict[str, Reader] = {
    "arXiv": _arxiv,
    "arXivRaw": _arxiv_raw,
    "dc": _dublin_core,
}


def _endnote(record: Element) -> Values:
    return {
        "id": _at(record, "accession-num", "electronic-resource-num", "rec-number"),
        "title": _at(record, "titles/title"),
        "abstract": _at(record, "abstract"),
        "published_date": _first_date(
            _at(record, "dates/pub-dates/date"), _at(record, "dates/year")
        ),
        "authors": _all(record, "contributors/authors/author"),
    }


def _pubmed(article: Element) -> Values:
    parts = _every(article, ".//Abstract/AbstractText")
    labelled = ((part.get("Label"), _inner(part)) for part in parts)
    dates = [*_every(article, ".//ArticleDate"), *_every(article, ".//PubDate")]
    return {
        "id": _at(article, ".//PMID"),
        "title": _at(article, ".//ArticleTitle", ".//VernacularTitle", ".//BookTitle"),
        "abstract": "\n".join(f"{label}: {text}" if label else text for label, text in labelled),
        "published_date": next(filter(None, map(_date_of, dates)), None),
        "authors": [_name(author) for author in _every(article, ".//Author")],
    }


def _deleted_citations(element: Element) -> Values:
    raise NoPaper(DELETED, f"{len(element)} records are deleted in PubMed")


def _jats(front: Element) -> Values:
    ids = {id.get("pub-id-type"): _inner(id) for id in _every(front, "article-meta/article-id")}
    abstracts = _every(front, "article-meta/abstract")
    abstracts.sort(key=lambda element: "abstract-type" in element.attrib)  # the main one first
    dates = map(_date_of, _every(front, "article-meta/pub-date"))
    people = _every(front, "article-meta/contrib-group/contrib")
    return {
        "id": next((ids[kind] for kind in _IDENTIFIERS if kind in ids), ""),
        "title": _at(front, "article-meta/title-group/article-title"),
        "abstract": next(map(_inner, abstracts), ""),
        "published_date": min(filter(None, dates), default=None),
        "authors": [_name(p) for p in people if p.get("contrib-type", "author") == "author"],
    }


def _name(person: Element) -> str:
    """Return the name of an author in PubMed or JATS."""
    given = _at(person, "ForeName", "name/given-names", "string-name/given-names")
    family = _at(person, "LastName", "name/surname", "string-name/surname")
    initials = "" if given else _at(person, "Initials")
    whole = from_medline(f"{family} {initials}") if initials else f"{given} {family}"
    whole = whole.strip()
    return whole or _at(person, "CollectiveName", "collab", "string-name")


def _date_of(element: Element) -> str | None:
    """Return a date whose year, month and day are elements, as in PubMed and JATS."""
    parts = {local_name(part.tag).lower(): _inner(part).strip() for part in element}
    year = parts.get("year") or parts.get("medlinedate", "")[:4]
    month, day = parts.get("month", "")[:3], parts.get("day") or "1"
    if month.isdigit() and day.isdigit():
        return _first_date(f"{year}-{int(month):02d}-{int(day):02d}", year)
    return _first_date(f"{day} {month} {year}", year)


def _first_date(*texts: str) -> str | None:
    """Return the first text that is a date; else the last one, for what reads it to judge."""
    for text in texts:
        with suppress(InvalidPaper):
            return parse_date(text)
    return texts[-1] or None


def _code_of_set(name: str) -> str | None:
    """Return the category of a set of arXiv: ``cs:cs:LG`` is cs.LG, ``physics:hep-th`` hep-th."""
    parts = name.split(":")
    for code in (".".join(parts[-2:]), parts[-1]):
        with suppress(UnknownCategory):
            taxonomy.canonical(code)
            return code
    return None


@cache
def _codes_by_name() -> dict[str, str]:
    """Return the categories by their names in Dublin Core: Computer Science - Machine Learning."""
    names = {}
    for category in taxonomy.categories(active_only=False):
        is_archive = category.code == category.archive
        archive = "" if is_archive else f"{taxonomy.archive_name(category.archive)} - "
        names[f"{archive}{category.name}"] = category.code
    return names


def local_name(tag: str) -> str:
    """Return the name in a tag without its namespace."""
    return tag.rpartition("}")[2]


def _at(element: Element, *paths: str) -> str:
    """Return the text at the first path that has one, "" if none has."""
    return next((text for path in paths for text in _all(element, path)), "")


def _all(element: Element, path: str) -> list[str]:
    """Return the texts at a path, without empty ones and blanks around."""
    return list(filter(None, (_inner(found).strip() for found in _every(element, path))))


def _every(element: Element, path: str) -> list[Element]:
    """Return the elements at a path, whatever their namespaces."""
    return element.findall(_in_any_namespace(path))


@cache
def _in_any_namespace(path: str) -> str:
    return "/".join(step if step in ("", ".", "*") else f"{{*}}{step}" for step in path.split("/"))


def _inner(element: Element) -> str:
    """Return the text of an element; markup in it is spelled out, for all sources alike.

    Unknown tags, such as the fonts of EndNote, are left out.
    """
    parts = [element.text or ""]
    for child in element:
        name, inner = local_name(child.tag), _inner(child)
        encoding = child.get("encoding")  # tells the TeX in MathML
        attribute = f' encoding="{encoding}"' if encoding == "application/x-tex" else ""
        parts.append(f"<{name}{attribute}>{inner}</{name}>" if name.lower() in TAGS else inner)
        parts.append(child.tail or "")
    return "".join(parts)


_BY_NAME: dict[str, Reader] = {
    **_METADATA,
    **dict.fromkeys(("PubmedArticle", "PubmedBookArticle"), _pubmed),
    "DeleteCitation": _deleted_citations,
}
_BY_NAMESPACE: dict[tuple[str, str], Reader] = {
    (_ATOM, "entry"): _feed,
    (_OAI, "record"): oai_values,
    (_OAI, "error"): _oai_without_metadata,
    (_OAI, "header"): _oai_without_metadata,
}
_BY_PARENT: dict[tuple[str, str], Reader] = {
    ("ListRecords", "record"): oai_values,
    ("GetRecord", "record"): oai_values,
    ("article", "front"): _jats,
}
_PLAIN_BY_PARENT: dict[tuple[str, str], Reader] = {
    ("feed", "entry"): _feed,
    ("channel", "item"): _feed,
    ("records", "record"): _endnote,
}
"""Only without a namespace."""
