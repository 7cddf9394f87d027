"""The fields of a paper in XML of libraries and publishers."""

from __future__ import annotations

import re
from contextlib import suppress
from xml.etree.ElementTree import Element

from classmark.errors import InvalidPaper
from classmark.papers.authors import from_medline, medline_authors
from classmark.papers.dates import parse_date
from classmark.papers.files.xml.tree import (
    Values,
    elements_at,
    inner_text,
    local_name,
    text_at,
    texts_at,
)

_IDENTIFIERS = ("arxiv", "pmid", "pmc", "doi")
"""Kinds that JATS has, best first."""
_AUTHORS = frozenset(("author", "aut", "creator", "cre"))
"""Roles as MODS and MARC write them."""
_YEAR = re.compile(r"[12][0-9]{3}")


def endnote(record: Element) -> Values:
    """Return the fields of a record of EndNote."""
    return {
        "id": text_at(record, "accession-num", "electronic-resource-num", "rec-number"),
        "title": text_at(record, "titles/title"),
        "abstract": text_at(record, "abstract"),
        "published_date": _first_date(
            text_at(record, "dates/pub-dates/date"), text_at(record, "dates/year")
        ),
        "authors": texts_at(record, "contributors/authors/author"),
    }


def pubmed(article: Element) -> Values:
    """Return the fields of an article or a chapter of PubMed."""
    parts = elements_at(article, ".//Abstract/AbstractText")
    labelled = ((part.get("Label"), inner_text(part)) for part in parts)
    dates = [*elements_at(article, ".//ArticleDate"), *elements_at(article, ".//PubDate")]
    return {
        "id": text_at(article, ".//PMID"),
        "title": text_at(article, ".//ArticleTitle", ".//VernacularTitle", ".//BookTitle"),
        "abstract": "\n".join(f"{label}: {text}" if label else text for label, text in labelled),
        "published_date": next(filter(None, map(_date_of, dates)), None),
        "authors": [_name(author) for author in elements_at(article, ".//Author")],
    }


def jats(front: Element) -> Values:
    """Return the fields of the front matter of an article in JATS."""
    ids = {
        id.get("pub-id-type"): inner_text(id)
        for id in elements_at(front, "article-meta/article-id")
    }
    abstracts = elements_at(front, "article-meta/abstract")
    abstracts.sort(key=lambda element: "abstract-type" in element.attrib)  # the main one first
    dates = map(_date_of, elements_at(front, "article-meta/pub-date"))
    people = elements_at(front, "article-meta/contrib-group/contrib")
    return {
        "id": next((ids[kind] for kind in _IDENTIFIERS if kind in ids), ""),
        "title": text_at(front, "article-meta/title-group/article-title"),
        "abstract": next(map(inner_text, abstracts), ""),
        "published_date": min(filter(None, dates), default=None),
        "authors": [_name(p) for p in people if p.get("contrib-type", "author") == "author"],
    }


def mods(record: Element) -> Values:
    """Return the fields of a record of MODS."""
    titles = [t for t in elements_at(record, "titleInfo") if "type" not in t.attrib]
    parts = [texts_at(title, part) for title in titles[:1] for part in ("nonSort", "title")]
    title = " ".join(text for texts in parts for text in texts)
    under = text_at(titles[0], "subTitle") if titles else ""
    people = elements_at(record, "name")
    return {
        "id": text_at(record, "identifier", "recordInfo/recordIdentifier"),
        "title": f"{title}: {under}" if under else title,
        "abstract": text_at(record, "abstract"),
        "published_date": _first_date(
            *texts_at(record, "originInfo/dateIssued"), *texts_at(record, "originInfo/dateCreated")
        ),
        "authors": [_name_of_mods(p) for p in people if _wrote(texts_at(p, "role/roleTerm"))],
    }


def _name_of_mods(person: Element) -> str:
    given, family = (text_at(person, f"namePart[@type='{kind}']") for kind in ("given", "family"))
    plain = [inner_text(p) for p in elements_at(person, "namePart") if "type" not in p.attrib]
    return f"{given} {family}".strip() or " ".join(plain)


def marc(record: Element) -> Values:
    """Return the fields of a record of MARC 21."""
    people = [p for tag in ("100", "110", "700", "710") for p in _fields_of_marc(record, tag)]
    dates = [
        _subfields(field, "c") for tag in ("264", "260") for field in _fields_of_marc(record, tag)
    ]
    years = [year[0] for date in dates if (year := _YEAR.search(date))]
    return {
        "id": text_at(record, "controlfield[@tag='001']"),
        "title": _first_of_marc(record, "245", "abnp").rstrip(" /:;,="),
        "abstract": _first_of_marc(record, "520", "ab"),
        "published_date": next(iter(years), None),
        "authors": [
            _subfields(person, "a").rstrip(" ,;:.")
            for person in people
            if _wrote([*_subfields(person, "e").split(), *_subfields(person, "4").split()])
        ],
    }


def _fields_of_marc(record: Element, tag: str) -> list[Element]:
    return elements_at(record, f"datafield[@tag='{tag}']")


def _first_of_marc(record: Element, tag: str, codes: str) -> str:
    return next((_subfields(field, codes) for field in _fields_of_marc(record, tag)), "")


def _subfields(field: Element, codes: str) -> str:
    """Return the texts of the subfields with these codes, in their order."""
    found = [s for s in elements_at(field, "subfield") if s.get("code", " ") in codes]
    return " ".join(inner_text(subfield).strip() for subfield in found)


def _wrote(roles: list[str]) -> bool:
    """Tell whether somebody with these roles is an author; without a role everybody is."""
    return not roles or not _AUTHORS.isdisjoint(role.lower().strip(" .,") for role in roles)


def datacite(resource: Element) -> Values:
    """Return the fields of a resource of DataCite."""
    people = elements_at(resource, "creators/creator")
    return {
        "id": text_at(resource, "identifier"),
        "title": text_at(resource, "titles/title"),
        "abstract": text_at(resource, "descriptions/description[@descriptionType='Abstract']"),
        "published_date": _first_date(
            *texts_at(resource, "dates/date[@dateType='Issued']"),
            text_at(resource, "publicationYear"),
        ),
        "authors": [text_at(person, "creatorName") for person in people],
    }


def europe_pmc(result: Element) -> Values:
    """Return the fields of a result of Europe PMC."""
    return {
        "id": text_at(result, "id"),
        "title": text_at(result, "title"),
        "abstract": text_at(result, "abstractText"),
        "published_date": _first_date(
            text_at(result, "firstPublicationDate"), text_at(result, "pubYear")
        ),
        "authors": [_name(author) for author in elements_at(result, "authorList/author")]
        or medline_authors(text_at(result, "authorString")),
    }


def dblp(entry: Element) -> Values:
    """Return the fields of an entry of DBLP, which has no abstracts."""
    return {
        "id": entry.get("key") or text_at(entry, "key"),
        "title": text_at(entry, "title"),
        "published_date": text_at(entry, "year"),
        "authors": texts_at(entry, "author") or texts_at(entry, "authors/author"),
    }


def is_about_file(header: Element) -> bool:
    """Tell whether an element is a header of TEI that describes its file, as in those of HAL."""
    is_paper = elements_at(header, ".//analytic") or elements_at(header, ".//abstract")
    return local_name(header.tag) == "teiHeader" and not is_paper


def tei(header: Element) -> Values:
    """Return the fields of a header of TEI as GROBID writes it, or of a record of HAL."""
    people = elements_at(header, ".//analytic/author/persName")
    people = people or elements_at(header, ".//titleStmt/author/persName")
    for sentence in elements_at(header, ".//abstract//s"):  # GROBID writes no blank between two
        sentence.tail = f" {sentence.tail or ''}"
    dates = elements_at(header, ".//publicationStmt/date") + elements_at(header, ".//imprint/date")
    return {
        "id": text_at(header, ".//idno[@type='arXiv']", ".//idno[@type='DOI']", ".//idno"),
        "title": text_at(header, ".//titleStmt/title", ".//analytic/title"),
        "abstract": text_at(header, ".//profileDesc/abstract"),
        "published_date": _first_date(*(date.get("when") or inner_text(date) for date in dates)),
        "authors": [
            " ".join((*texts_at(person, "forename"), *texts_at(person, "surname")))
            for person in people
        ],
    }


def _name(person: Element) -> str:
    """Return the name of an author in PubMed, Europe PMC or JATS."""
    given = text_at(person, "ForeName", "firstName", "name/given-names", "string-name/given-names")
    family = text_at(person, "LastName", "lastName", "name/surname", "string-name/surname")
    initials = "" if given else text_at(person, "Initials")
    whole = from_medline(f"{family} {initials}") if initials else f"{given} {family}"
    whole = whole.strip()
    return whole or text_at(person, "CollectiveName", "collectiveName", "collab", "string-name")


def _date_of(element: Element) -> str | None:
    """Return a date whose year, month and day are elements, as in PubMed and JATS."""
    parts = {local_name(part.tag).lower(): inner_text(part).strip() for part in element}
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
    return next(reversed(texts), None)
