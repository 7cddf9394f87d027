"""An invented file of each format that is read, by its row in docs/how-to/classify-a-file.md."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import zipfile
from dataclasses import dataclass
from typing import Any

T1, A1 = "A slow inspiral of a warm giant planet", "We time forty transits of a warm Jupiter."
T2, A2 = "Colouring sparse graphs greedily", "We bound the chromatic number of planar graphs."
FIRST, SECOND = {"title": T1, "abstract": A1}, {"title": T2, "abstract": A2}
NOTHING = {"title": "", "abstract": ""}


@dataclass(frozen=True)
class FormatFile:
    """A file of two papers, then of one record without a text where the format can have one.

    Attributes:
        name: of the file.
        content: its bytes.
        format: what ``detect_format`` says.
        answers: how many of its records are papers.
        errors: how many are not.
        seeks: whether it is read from a file only, not from a pipe.
    """

    name: str
    content: bytes
    format: str
    answers: int = 2
    errors: int = 1
    seeks: bool = False


def _text(name: str, text: str, format: str, **counts: int) -> FormatFile:
    return FormatFile(name, text.encode(), format, **counts)


def _json(value: Any) -> FormatFile:
    return _text("papers.json", json.dumps(value, indent=1), "json")


def _lines(*records: Any) -> FormatFile:
    return _text("papers.jsonl", "".join(f"{json.dumps(r)}\n" for r in records), "jsonl")


def _zip(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def _parquet() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.table({"title": [T1, T2, ""], "abstract": [A1, A2, None]}), buffer)
    return buffer.getvalue()


_CSV = _text("papers.csv", f'id,title,abstract\n1,"{T1}","{A1}"\n2,"{T2}","{A2}"\n3,,\n', "csv")
_TABLES = {
    "CSV": _CSV,
    "TSV": _text(
        "papers.tsv", f"id\ttitle\tabstract\n1\t{T1}\t{A1}\n2\t{T2}\t{A2}\n3\t\t\n", "tsv"
    ),
    "Zotero CSV": _text(
        "zotero.csv",
        '\ufeff"Key","Item Type","Publication Year","Author","Title","Abstract Note","Date"\n'
        f'"AB12","journalArticle","2021","Muster, A","{T1}","{A1}","2021"\n'
        f'"AB13","journalArticle","2021","Muster, A","{T2}","{A2}","2021"\n'
        '"AB14","note","","","","",""\n',
        "csv",
    ),
    "Web of Science table": _text(
        "savedrecs.txt",
        f"\ufeffPT\tAU\tTI\tSO\tAB\tUT\tPY\nJ\tMuster, A\t{T1}\tJ INV\t{A1}\tWOS:1\t2021\t\n"
        f"J\tMuster, A\t{T2}\tJ INV\t{A2}\tWOS:2\t2021\t\nJ\tMuster, A\t\tJ INV\t\tWOS:3\t2021\t\n",
        "tsv",
    ),
    "Scopus CSV": _text(
        "scopus.csv",
        f'\ufeff"Authors","Title","Year","DOI","Abstract","EID"\n"M.","{T1}","2021","","{A1}","2-1"\n'
        f'"M.","{T2}","2021","","{A2}","2-2"\n"M.","","2021","","","2-3"\n',
        "csv",
    ),
    "DSpace CSV": _text(
        "export.csv",
        "id,collection,dc.title[],dc.title[en_US],dc.description.abstract[en_US]\n"
        f"1,1/2,{T1},,{A1}\n2,1/2,,{T2},{A2}\n3,1/2,,,\n",
        "csv",
    ),
    "PubMed CSV": _text(
        "csv-set.csv",
        f"PMID,Title,Authors,Citation,Publication Year,DOI\n1,{T1},M A,J,2021,\n"
        f"2,{T2},M A,J,2021,\n3,,M A,J,2021,\n",
        "csv",
    ),
}
_DUMP = _lines(
    *({"id": f"2101.0000{n}", "categories": "math.CO", **r} for n, r in enumerate((FIRST, SECOND))),
    {"id": "2101.00003", "categories": "math.CO", **NOTHING},
)
_INVERTED = {word: [place] for place, word in enumerate(A2.split())}
_JSON = {
    "JSON lines": _lines(FIRST, SECOND, NOTHING),
    "JSON": _json([FIRST, SECOND, NOTHING]),
    "arXiv metadata dump": FormatFile(
        "archive.zip", _zip("arxiv-metadata.json", _DUMP.content), "jsonl", seeks=True
    ),
    "Crossref JSON": _json(
        {
            "status": "ok",
            "message": {
                "items": [
                    {"DOI": "10.99999/1", "title": [T1], "abstract": f"<jats:p>{A1}</jats:p>"},
                    {"DOI": "10.99999/2", "title": [T2]},
                    {"DOI": "10.99999/3", "title": []},
                ]
            },
        }
    ),
    "CSL-JSON": _json([{"id": "a", **FIRST}, {"id": "b", **SECOND}, {"id": "c", **NOTHING}]),
    "OpenAlex JSON": _json(
        {
            "meta": {"count": 3},
            "results": [
                {"id": "https://openalex.org/W1", "title": T1, "abstract_inverted_index": None},
                {
                    "id": "https://openalex.org/W2",
                    "title": T2,
                    "abstract_inverted_index": _INVERTED,
                },
                {"id": "https://openalex.org/W3", "title": None, "abstract_inverted_index": None},
            ],
        }
    ),
    "Semantic Scholar JSON": _json(
        {
            "total": 3,
            "data": [
                {"paperId": "p1", **FIRST, "externalIds": {"ArXiv": "2101.99901"}},
                {"paperId": "p2", "title": T2, "abstract": None},
                {"paperId": "p3", "title": None, "abstract": None},
            ],
        }
    ),
    "Inspire JSON": _json(
        {
            "hits": {
                "total": 3,
                "hits": [
                    {"metadata": {"titles": [{"title": T1}], "abstracts": [{"value": A1}]}},
                    {"metadata": {"titles": [{"title": T2}], "arxiv_eprints": []}},
                    {"metadata": {"titles": []}},
                ],
            }
        }
    ),
    "ADS JSON": _json(
        {
            "response": {
                "docs": [
                    {"bibcode": "2021Test...1", "title": [T1], "abstract": A1, "author": ["M, A."]},
                    {"bibcode": "2021Test...2", "title": [T2], "pubdate": "2021-05-00"},
                    {"bibcode": "2021Test...3", "title": []},
                ]
            }
        }
    ),
    "HAL JSON": _json(
        {
            "response": {
                "docs": [
                    {"halId_s": "hal-1", "title_s": [T1], "abstract_s": [A1]},
                    {"halId_s": "hal-2", "title_s": [T2], "producedDate_s": "2021-05"},
                    {"halId_s": "hal-3", "title_s": []},
                ]
            }
        }
    ),
    "DataCite JSON": _json(
        {
            "data": [
                {
                    "attributes": {
                        "titles": [{"title": T1}],
                        "descriptions": [{"description": A1, "descriptionType": "Abstract"}],
                    }
                },
                {"attributes": {"titles": [{"title": T2}], "creators": [{"name": "M, A."}]}},
                {"attributes": {"titles": [], "publicationYear": 2021}},
            ]
        }
    ),
    "DBLP JSON": _json(
        {
            "result": {
                "hits": {
                    "hit": [
                        {"info": {"title": T1, "authors": {"author": {"text": "A. M"}}}},
                        {"info": {"title": T2, "year": "2021"}},
                        {"info": {"title": "", "key": "test/3"}},
                    ]
                }
            }
        }
    ),
    "Europe PMC JSON": _json(
        {
            "resultList": {
                "result": [
                    {"id": "1", "title": T1, "abstractText": A1, "authorString": "Muster A."},
                    {"id": "2", "title": T2, "pubYear": "2021"},
                    {"id": "3", "title": ""},
                ]
            }
        }
    ),
    "CORE JSON": _json({"results": [{**FIRST, "yearPublished": 2021}, SECOND, NOTHING]}),
    "bioRxiv and medRxiv JSON": _json(
        {"collection": [{**FIRST, "doi": "10.99999/1", "published": "NA"}, SECOND, NOTHING]}
    ),
    "Zenodo, Figshare and Lens JSON": _json(
        [
            {"id": 1, "metadata": {"title": T1, "description": A1}},
            {"lens_id": "2", **SECOND, "authors": [{"first_name": "A.", "last_name": "M"}]},
            {"id": 3, "title": "", "description": ""},
        ]
    ),
    "Scopus and OpenReview JSON": _json(
        [
            {"eid": "2-1", "dc:title": T1, "dc:description": A1},
            {"id": "x", "content": {"title": {"value": T2}, "abstract": {"value": A2}}},
            {"id": "y", "content": {"title": {"value": ""}, "abstract": {"value": ""}}},
        ]
    ),
    "DSpace JSON": _json(
        [
            {"metadata": {"dc.title": [{"value": t}], "dc.description.abstract": [{"value": a}]}}
            for t, a in ((T1, A1), (T2, A2), ("", ""))
        ]
    ),
    "pandas `to_json`": _json(
        {"title": {"0": T1, "1": T2, "2": None}, "abstract": {"0": A1, "1": A2, "2": None}}
    ),
    "Hugging Face rows": _json(
        {"features": [], "rows": [{"row_idx": 0, "row": r} for r in (FIRST, SECOND, NOTHING)]}
    ),
    "Zotero JSON, Better BibTeX JSON": _json(
        {
            "config": {"id": "Better BibTeX JSON"},
            "items": [
                {"itemKey": "A", "title": T1, "abstractNote": A1, "creators": [{"name": "M"}]},
                {"itemKey": "B", "title": T2, "abstractNote": A2},
                {"itemKey": "C", "title": ""},
            ],
        }
    ),
}
_TAGGED = {
    "BibTeX, BibLaTeX": _text(
        "refs.bib",
        f"@article{{a, title={{{T1}}}, abstract={{{A1}}}}}\n"
        f"@online{{b, title={{{T2}}}, abstract={{{A2}}}}}\n@misc{{c, year=2021}}\n",
        "bibtex",
    ),
    "RIS": _text(
        "refs.ris",
        f"TY  - JOUR\nAU  - Muster, A.\nTI  - {T1}\nAB  - {A1}\nER  - \n\n"
        f"TY  - JOUR\nT1  - {T2}\nN2  - {A2}\nER  - \n\nTY  - JOUR\nER  - \n",
        "ris",
    ),
    "PubMed (MEDLINE)": _text(
        "pubmed.nbib",
        f"PMID- 99999991\nTI  - {T1}\nAB  - {A1}\n\nPMID- 99999992\nTI  - {T2}\nAB  - {A2}\n\n"
        "PMID- 99999993\nDP  - 2021\n",
        "nbib",
    ),
    "Web of Science tagged": _text(
        "savedrecs.ciw",
        f"FN Clarivate\nVR 1.0\nPT J\nTI {T1}\nAB {A1}\nER\n\nPT J\nTI {T2}\nAB {A2}\nER\n\n"
        "PT J\nER\n\nEF\n",
        "wos",
    ),
    "EndNote tagged": _text(
        "refs.enw",
        f"%0 Journal Article\n%T {T1}\n%X {A1}\n\n%0 Journal Article\n%T {T2}\n%X {A2}\n\n"
        "%0 Book\n",
        "enw",
    ),
}


def _workbook() -> bytes:
    import openpyxl

    book = openpyxl.Workbook()
    for row in (("Title", "Abstract Note"), (T1, A1), (T2, A2), (None, " ")):
        book.active.append(row)
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def _xml(name: str, start: str, record: str, end: str) -> FormatFile:
    pairs = ((T1, A1), (T2, A2), ("", ""))
    records = "\n".join(record.format(title=title, abstract=text) for title, text in pairs)
    return _text(name, f'<?xml version="1.0"?>\n{start}\n{records}\n{end}\n', "xml")


_XML = {
    "arXiv Atom": _xml(
        "query.xml",
        '<feed xmlns="http://www.w3.org/2005/Atom">',
        "<entry><title>{title}</title><summary>{abstract}</summary></entry>",
        "</feed>",
    ),
    "arXiv RSS": _xml(
        "rss.xml",
        '<rss version="2.0"><channel><title>updates</title>',
        "<item><title>{title}</title><description>{abstract}</description></item>",
        "</channel></rss>",
    ),
    "OAI-PMH": _xml(
        "harvest.xml",
        '<OAI-PMH xmlns="http://www.openarchives.org/OAI/2.0/"><ListRecords>',
        '<record><metadata><arXiv xmlns="http://arxiv.org/OAI/arXiv/"><title>{title}</title>'
        "<abstract>{abstract}</abstract></arXiv></metadata></record>",
        "</ListRecords></OAI-PMH>",
    ),
    "EndNote XML": _xml(
        "library.xml",
        "<xml><records>",
        "<record><titles><title><style>{title}</style></title></titles>"
        "<abstract>{abstract}</abstract></record>",
        "</records></xml>",
    ),
    "PubMed XML": _xml(
        "pubmed.xml",
        "<PubmedArticleSet>",
        "<PubmedArticle><MedlineCitation><Article><ArticleTitle>{title}</ArticleTitle><Abstract>"
        "<AbstractText>{abstract}</AbstractText></Abstract></Article></MedlineCitation>"
        "</PubmedArticle>",
        "</PubmedArticleSet>",
    ),
    "JATS XML": _xml(
        "articles.xml",
        "<pmc-articleset>",
        "<article><front><article-meta><title-group><article-title>{title}</article-title>"
        "</title-group><abstract><p>{abstract}</p></abstract></article-meta></front></article>",
        "</pmc-articleset>",
    ),
    "MODS XML": _xml(
        "mods.xml",
        '<modsCollection xmlns="http://www.loc.gov/mods/v3">',
        "<mods><titleInfo><title>{title}</title></titleInfo><abstract>{abstract}</abstract></mods>",
        "</modsCollection>",
    ),
    "MARC XML": _xml(
        "marc.xml",
        '<collection xmlns="http://www.loc.gov/MARC21/slim">',
        '<record><datafield tag="245"><subfield code="a">{title}</subfield></datafield>'
        '<datafield tag="520"><subfield code="a">{abstract}</subfield></datafield></record>',
        "</collection>",
    ),
    "DataCite XML": _xml(
        "datacite.xml",
        "",
        '<resource xmlns="http://datacite.org/schema/kernel-4"><titles><title>{title}</title>'
        '</titles><descriptions><description descriptionType="Abstract">{abstract}</description>'
        "</descriptions></resource>",
        "",
    ),
    "Europe PMC XML": _xml(
        "search.xml",
        "<responseWrapper><resultList>",
        "<result><title>{title}</title><abstractText>{abstract}</abstractText></result>",
        "</resultList></responseWrapper>",
    ),
    "DBLP XML": _xml("dblp.xml", "<dblp>", "<article><title>{title}</title></article>", "</dblp>"),
    "TEI XML": _xml(
        "papers.tei.xml",
        '<teiCorpus xmlns="http://www.tei-c.org/ns/1.0">',
        "<TEI><teiHeader><fileDesc><titleStmt><title>{title}</title></titleStmt></fileDesc>"
        "<profileDesc><abstract><p>{abstract}</p></abstract></profileDesc></teiHeader></TEI>",
        "</teiCorpus>",
    ),
}


def format_files() -> dict[str, FormatFile]:
    """Return a file for each row of the table of formats, Parquet only where it can be made."""
    return {
        **_TABLES,
        **_JSON,
        **_TAGGED,
        **_XML,
        "Excel workbook": FormatFile("papers.xlsx", _workbook(), "xlsx", seeks=True),
        "Parquet": FormatFile("papers.parquet", _parquet(), "parquet", seeks=True),
        "plain text": _text("paper.txt", f"{T1}\n{A1}\n", "text", answers=1, errors=0),
        "gzip": FormatFile("papers.csv.gz", gzip.compress(_CSV.content, mtime=0), "csv"),
        "bzip2": FormatFile("papers.csv.bz2", bz2.compress(_CSV.content), "csv"),
        "xz": FormatFile("papers.csv.xz", lzma.compress(_CSV.content), "csv"),
        "zip": FormatFile("papers.zip", _zip("papers.csv", _CSV.content), "csv", seeks=True),
    }
