"""The fields of a paper in one XML record of a known kind."""

from __future__ import annotations

import re
from contextlib import suppress
from functools import cache
from typing import NamedTuple
from xml.etree.ElementTree import Element

from classmark import taxonomy
from classmark.errors import UnknownCategory
from classmark.papers.files.xml.libraries import (
    datacite,
    dblp,
    endnote,
    europe_pmc,
    jats,
    marc,
    mods,
    pubmed,
    tei,
)
from classmark.papers.files.xml.tree import (
    Reader,
    Values,
    elements_at,
    inner_text,
    local_name,
    text_at,
    texts_at,
)

_ATOM = "{http://www.w3.org/2005/Atom"
_OAI = "{http://www.openarchives.org/OAI/2.0/"
_MARC = "{http://www.loc.gov/MARC21/slim"
_ARXIV = "{http://arxiv.org/schemas/atom}"
_OAI_PREFIX = "oai:arXiv.org:"
_ADDRESS = re.compile(r"https?://arxiv\.org/abs/")
_ANNOUNCED = re.compile(r"\AarXiv:\S++\s++Announce Type:\s++[\w-]++\s++Abstract:\s*+")
"""What arXiv's feed of new papers writes before each abstract."""
_CATEGORY = re.compile(r"[a-z]+(?:-[a-z]+)?(?:\.[A-Za-z-]+)?")
DELETED = "deleted"
"""The kind of a record that its archive has deleted."""


_KINDS_OF_DBLP = (
    *("article", "inproceedings", "incollection", "book", "phdthesis", "mastersthesis", "data"),
)


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
    id = text_at(entry, "id", "guid", "link")
    if "/api/errors" in id:
        raise NoPaper("api_error", f"arXiv answered with an error: {text_at(entry, 'summary')}")
    primary = entry.find(f"{_ARXIV}primary_category")
    codes = [
        element.get("term") or inner_text(element) for element in elements_at(entry, "category")
    ]
    codes = list(filter(_CATEGORY.fullmatch, codes))  # not the classes of the MSC and the ACM
    first = "" if primary is None else primary.get("term", "")
    return {
        "id": _ADDRESS.sub("", id).removeprefix(_OAI_PREFIX),
        "title": text_at(entry, "title"),
        "abstract": _ANNOUNCED.sub("", text_at(entry, "summary", "content", "description")),
        "categories": [first, *(code for code in codes if code != first)] if first else codes,
        "published_date": text_at(entry, "published", "pubDate"),
        "updated_date": text_at(entry, "updated"),
        "authors": texts_at(entry, "author/name") or text_at(entry, "creator"),
    }


class OaiHeader(NamedTuple):
    """The header of a record of OAI-PMH, "" for what it does not say."""

    identifier: str
    datestamp: str
    is_deleted: bool


def oai_header(record: Element) -> OaiHeader:
    """Return the header of a record of OAI-PMH."""
    header = next(iter(elements_at(record, "header")), None)
    return OaiHeader(
        identifier=text_at(record, "header/identifier"),
        datestamp=text_at(record, "header/datestamp"),
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
    metadata = next(iter(elements_at(record, "metadata/*")), None)
    if metadata is None:
        raise NoPaper("no_metadata", "the record has no metadata", id)
    name = local_name(metadata.tag)
    # JATS and ``oai_datacite`` have the record one or two levels below.
    around = (metadata, *elements_at(metadata, "*"), *elements_at(metadata, "*/*"))
    found = next((e for e in around if local_name(e.tag) in _IN_OAI), None)
    if found is None:
        message = f"metadata in <{name[:60]}> is not read. Harvest it as arXiv, arXivRaw or oai_dc"
        raise NoPaper("unknown_metadata", message, id)
    values = _IN_OAI[local_name(found.tag)](found)
    sets = list(filter(None, map(_code_of_set, texts_at(record, "header/setSpec"))))
    # The order of sets says nothing: of several, none is known to be the primary category.
    values["categories"] = values.get("categories") or (sets if len(sets) == 1 else None)
    return {**values, "id": id if name == "dc" else values["id"] or id}


def _oai_without_metadata(element: Element) -> Values:
    if local_name(element.tag) == "error":
        raise NoPaper(
            "api_error", f"the archive answered {element.get('code')}: {inner_text(element)}"
        )
    message = "only the header of a record is here. Harvest with verb=ListRecords"
    raise NoPaper("no_metadata", message, text_at(element, "identifier"))


def _arxiv(metadata: Element) -> Values:
    return {
        "id": text_at(metadata, "id"),
        "title": text_at(metadata, "title"),
        "abstract": text_at(metadata, "abstract"),
        "categories": text_at(metadata, "categories"),
        "published_date": text_at(metadata, "created"),
        "updated_date": text_at(metadata, "updated"),
        "authors": [
            f"{text_at(author, 'forenames')} {text_at(author, 'keyname')}".strip()
            for author in elements_at(metadata, "authors/author")
        ],
    }


def _arxiv_raw(metadata: Element) -> Values:
    versions = texts_at(metadata, "version/date")
    dates = {"published_date": versions[0], "updated_date": versions[-1]} if versions else {}
    return {**_arxiv(metadata), **dates, "authors": text_at(metadata, "authors")}


def _dublin_core(metadata: Element) -> Values:
    dates = sorted(texts_at(metadata, "date"))
    # Other archives describe more than arXiv does: audience, number of pages, language.
    texts = [t for t in texts_at(metadata, "description") if not t.startswith("Comment:")]
    codes = _codes_by_name()
    return {
        "id": next(iter(texts_at(metadata, "identifier")), ""),
        "title": text_at(metadata, "title"),
        "abstract": max(texts, key=len, default=""),
        "categories": [codes[name] for name in texts_at(metadata, "subject") if name in codes],
        "published_date": next(iter(dates), None),
        "updated_date": next(reversed(dates), None),
        "authors": texts_at(metadata, "creator"),
    }


_METADATA: dict[str, Reader] = {
    "arXiv": _arxiv,
    "arXivRaw": _arxiv_raw,
    "dc": _dublin_core,
    "mods": mods,
}
_IN_OAI = {**_METADATA, "front": jats, "resource": datacite, "record": marc}


def _deleted_citations(element: Element) -> Values:
    raise NoPaper(DELETED, f"{len(element)} records are deleted in PubMed")


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


_BY_NAME: dict[str, Reader] = {
    **_METADATA,
    **dict.fromkeys(("PubmedArticle", "PubmedBookArticle"), pubmed),
    "DeleteCitation": _deleted_citations,
}
_BY_NAMESPACE: dict[tuple[str, str], Reader] = {
    (_ATOM, "entry"): _feed,
    (_MARC, "record"): marc,
    (_OAI, "record"): oai_values,
    (_OAI, "error"): _oai_without_metadata,
    (_OAI, "header"): _oai_without_metadata,
}
_BY_PARENT: dict[tuple[str, str], Reader] = {
    ("ListRecords", "record"): oai_values,
    ("GetRecord", "record"): oai_values,
    ("article", "front"): jats,
    ("", "resource"): datacite,
    ("resultList", "result"): europe_pmc,
    ("hit", "info"): dblp,
    **{("dblp", kind): dblp for kind in _KINDS_OF_DBLP},
    ("TEI", "teiHeader"): tei,
    ("listBibl", "biblFull"): tei,
}
_PLAIN_BY_PARENT: dict[tuple[str, str], Reader] = {
    ("feed", "entry"): _feed,
    ("channel", "item"): _feed,
    ("records", "record"): endnote,
    ("collection", "record"): marc,
}
"""Only without a namespace."""
