"""Invented papers in JSON as well-known services write them, and what is read of each."""

from __future__ import annotations

from typing import Any

from classmark.records import Paper

TITLE, ABSTRACT = "A slow planet", "We time transits of a planet."
INVERTED = {"We": [0], "time": [1], "transits": [2], "of": [3], "a": [4], "planet.": [5]}


def paper(id: str, **more: Any) -> Paper:
    return Paper(**{"id": id, "title": TITLE, "abstract": ABSTRACT, **more})


CROSSREF = {
    "DOI": "10.99999/1",
    "title": [TITLE, "Ein langsamer Planet"],
    "abstract": ABSTRACT,
    "author": [{"given": "A.", "family": "Muster"}, {"name": "A Collaboration"}],
    "issued": {"date-parts": [[2021, 5]]},
}
OPENALEX = {
    "id": "https://openalex.org/W1",
    "display_name": TITLE,
    "abstract_inverted_index": INVERTED,
    "publication_date": "2021-05-04",
    "authorships": [{"author": {"display_name": "A. Muster"}}],
}
SEMANTIC_SCHOLAR = {
    "paperId": "p1",
    "title": TITLE,
    "abstract": ABSTRACT,
    "externalIds": {"ArXiv": "2101.99901"},
    "authors": [{"authorId": "1", "name": "A. Muster"}],
    "year": 2021,
}
INSPIRE = {
    "id": "77",
    "metadata": {
        "titles": [{"title": TITLE}],
        "abstracts": [{"value": ABSTRACT, "source": "arXiv"}],
        "arxiv_eprints": [{"value": "2101.99901", "categories": ["hep-th", "gr-qc"]}],
        "authors": [{"full_name": "Muster, A."}],
        "preprint_date": "2021-01-02",
    },
}
HUGGING_FACE = {"row_idx": 0, "row": {"id": "r1", "title": TITLE, "abstract": ABSTRACT}}
ZOTERO = {
    "itemKey": "AB12",
    "title": TITLE,
    "abstractNote": ABSTRACT,
    "date": "2021",
    "creators": [{"firstName": "A.", "lastName": "Muster"}],
}
ZOTERO_SERVER = {"key": "AB12", "version": 7, "meta": {}, "data": {"key": "AB12", **ZOTERO}}
CSL = {"id": "muster2021", "title": TITLE, "abstract": ABSTRACT, "issued": {"date-parts": [[2021]]}}
ADS = {
    "bibcode": "2021Test...12..345M",
    "title": [TITLE],
    "abstract": ABSTRACT,
    "author": ["Muster, Ada", "Beispiel, B. C."],
    "pubdate": "2021-05-00",
    "arxiv_class": ["astro-ph.EP", "physics.data-an"],
    "doi": ["10.99999/1", "10.99999/2"],
}
HAL = {
    "docid": "7",
    "halId_s": "hal-99999999",
    "arxivId_s": "2101.99901",
    "title_s": [TITLE, "Une planète lente"],
    "abstract_s": [ABSTRACT, "Nous chronométrons des transits."],
    "authFullName_s": ["Ada Muster", "B. C. Beispiel"],
    "producedDate_s": "2021-05",
}
DATACITE = {
    "id": "10.99999/1",
    "type": "dois",
    "attributes": {
        "doi": "10.99999/1",
        "creators": [
            {"name": "Muster, Ada", "givenName": "Ada", "familyName": "Muster"},
            {"name": "A Collaboration", "nameType": "Organizational"},
        ],
        "titles": [{"title": TITLE, "lang": "en"}, {"title": "x", "titleType": "Subtitle"}],
        "descriptions": [
            {"description": "9 pages", "descriptionType": "Other"},
            {"description": ABSTRACT, "descriptionType": "Abstract"},
        ],
        "subjects": [
            {"subject": "Earth and Planets (astro-ph.EP)", "subjectScheme": "arXiv"},
            {"subject": "FOS: Physical sciences"},
        ],
        "publicationYear": 2021,
        "published": None,
    },
    "relationships": {"client": {"data": {"id": "x", "type": "clients"}}},
}
DBLP = {
    "@score": "3",
    "@id": "77",
    "info": {
        "authors": {"author": [{"@pid": "1", "text": "Ada Muster"}, {"text": "B. Beispiel"}]},
        "title": TITLE,
        "year": "2021",
        "key": "journals/test/Muster21",
    },
    "url": "URL#77",
}
EUROPE_PMC = {
    "id": "999",
    "source": "MED",
    "title": TITLE,
    "authorString": "Muster A, Beispiel BC.",
    "pubYear": "2021",
    "abstractText": f"<h4>{ABSTRACT}</h4>",
}
EUROPE_PMC_CORE = {
    **EUROPE_PMC,
    "authorList": {
        "author": [
            {"fullName": "Muster A", "firstName": "Ada", "lastName": "Muster", "initials": "A"},
            {"collectiveName": "The Group"},
        ]
    },
    "firstPublicationDate": "2021-05-04",
}
CORE = {
    "id": 999,
    "arxivId": None,
    "title": TITLE,
    "abstract": ABSTRACT,
    "authors": [{"name": "Muster, Ada"}],
    "yearPublished": 2021,
    "publishedDate": "2021-05-04T00:00:00",
}
BIORXIV = {
    "doi": "10.99999/2021.05.04.1",
    "title": TITLE,
    "authors": "Muster, A.; Beispiel, B. C.",
    "date": "2021-05-04",
    "category": "biophysics",
    "abstract": ABSTRACT,
    "published": "10.99999/1",
}
BIORXIV_PUBLISHED = {
    "biorxiv_doi": "10.99999/2021.05.04.1",
    "preprint_title": TITLE,
    "preprint_authors": "Muster, A.; Beispiel, B. C.",
    "preprint_date": "2021-05-04",
    "preprint_abstract": ABSTRACT,
}

ZENODO = {
    "id": 999,
    "doi": "10.99999/1",
    "metadata": {
        "title": TITLE,
        "description": f"<p>{ABSTRACT}</p>",
        "creators": [{"name": "Muster, Ada"}],
        "publication_date": "2021-05-04",
    },
}
FIGSHARE = {
    "id": 999,
    "title": TITLE,
    "description": f"<p>{ABSTRACT}</p>",
    "authors": [{"full_name": "Ada Muster", "id": 1}],
    "published_date": "2021-05-04T10:00:00Z",
}
LENS = {
    "lens_id": "009-999",
    "title": TITLE,
    "abstract": ABSTRACT,
    "authors": [{"first_name": "Ada", "last_name": "Muster"}, {"collective_name": "A Group"}],
    "year_published": 2021,
}

SCOPUS = {
    "dc:identifier": "SCOPUS_ID:99",
    "eid": "2-s2.0-99",
    "dc:title": TITLE,
    "dc:creator": "Muster A.",
    "dc:description": ABSTRACT,
    "prism:coverDate": "2021-05-04",
    "author": [{"authname": "Muster A.", "surname": "Muster", "given-name": "Ada"}],
}
DSPACE = {
    "uuid": "7a1",
    "name": TITLE,
    "metadata": {
        "dc.title": [{"value": TITLE, "language": "en"}],
        "dc.description.abstract": [{"value": ABSTRACT, "language": "en"}],
        "dc.contributor.author": [{"value": "Muster, Ada"}, {"value": "Beispiel, B."}],
        "dc.date.issued": [{"value": "2021-05-04", "language": None}],
    },
}
OPENREVIEW = {
    "id": "xYz",
    "forum": "xYz",
    "content": {
        "title": {"value": TITLE},
        "abstract": {"value": ABSTRACT},
        "authors": {"value": ["Ada Muster"]},
        "keywords": {"value": ["graphs"]},
    },
}
KNOWN = {
    "Crossref": (
        CROSSREF,
        paper("10.99999/1", authors=("A. Muster", "A Collaboration"), published_date="2021-05-01"),
    ),
    "OpenAlex": (
        OPENALEX,
        paper(str(OPENALEX["id"]), authors=("A. Muster",), published_date="2021-05-04"),
    ),
    "Semantic Scholar": (
        SEMANTIC_SCHOLAR,
        paper("2101.99901", authors=("A. Muster",), published_date="2021-01-01"),
    ),
    "Inspire": (
        INSPIRE,
        paper(
            "2101.99901",
            category_code="hep-th",
            categories=("hep-th", "gr-qc"),
            authors=("Muster, A.",),
            published_date="2021-01-02",
        ),
    ),
    "Hugging Face": (HUGGING_FACE, paper("r1")),
    "Zotero": (ZOTERO, paper("AB12", authors=("A. Muster",), published_date="2021-01-01")),
    "Zotero's server": (
        ZOTERO_SERVER,
        paper("AB12", authors=("A. Muster",), published_date="2021-01-01"),
    ),
    "CSL-JSON": (CSL, paper("muster2021", published_date="2021-01-01")),
    "ADS": (
        ADS,
        paper(
            "2021Test...12..345M",
            category_code="astro-ph.EP",
            categories=("astro-ph.EP", "physics.data-an"),
            authors=("Muster, Ada", "Beispiel, B. C."),
            published_date="2021-05-01",
        ),
    ),
    "HAL": (
        HAL,
        paper(
            "2101.99901",
            authors=("Ada Muster", "B. C. Beispiel"),
            published_date="2021-05-01",
        ),
    ),
    "DataCite": (
        DATACITE,
        paper(
            "10.99999/1",
            category_code="astro-ph.EP",
            categories=("astro-ph.EP",),
            authors=("Muster, Ada", "A Collaboration"),
            published_date="2021-01-01",
        ),
    ),
    "DBLP": (
        DBLP,
        Paper(
            id="journals/test/Muster21",
            title=TITLE,
            authors=("Ada Muster", "B. Beispiel"),
            published_date="2021-01-01",
        ),
    ),
    "Europe PMC": (
        EUROPE_PMC,
        paper(
            "999",
            abstract=f" {ABSTRACT} ",
            authors=("A. Muster", "B. C. Beispiel"),
            published_date="2021-01-01",
        ),
    ),
    "Europe PMC in full": (
        EUROPE_PMC_CORE,
        paper(
            "999",
            abstract=f" {ABSTRACT} ",
            authors=("Ada Muster", "The Group"),
            published_date="2021-05-04",
        ),
    ),
    "Zenodo": (
        ZENODO,
        paper(
            "999", abstract=f" {ABSTRACT} ", authors=("Muster, Ada",), published_date="2021-05-04"
        ),
    ),
    "Figshare": (
        FIGSHARE,
        paper(
            "999", abstract=f" {ABSTRACT} ", authors=("Ada Muster",), published_date="2021-05-04"
        ),
    ),
    "Lens": (
        LENS,
        paper("009-999", authors=("Ada Muster", "A Group"), published_date="2021-01-01"),
    ),
    "CORE": (CORE, paper("999", authors=("Muster, Ada",), published_date="2021-05-04")),
    "bioRxiv": (
        BIORXIV,
        paper(
            "10.99999/2021.05.04.1",
            authors=("Muster, A.", "Beispiel, B. C."),
            published_date="2021-05-04",
        ),
    ),
    "bioRxiv, published": (
        BIORXIV_PUBLISHED,
        paper(
            "10.99999/2021.05.04.1",
            authors=("Muster, A.", "Beispiel, B. C."),
            published_date="2021-05-04",
        ),
    ),
    "Scopus": (SCOPUS, paper("2-s2.0-99", authors=("Ada Muster",), published_date="2021-05-04")),
    "DSpace": (
        DSPACE,
        paper("7a1", authors=("Muster, Ada", "Beispiel, B."), published_date="2021-05-04"),
    ),
    "OpenReview": (OPENREVIEW, paper("xYz", authors=("Ada Muster",))),
}
