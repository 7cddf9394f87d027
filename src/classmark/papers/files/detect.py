"""Which format a source is in: its content decides, its name only helps."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Literal, get_args

from classmark.errors import UnreadableSource
from classmark.papers.columns import COLUMN_NAMES, MAX_HEADING_ROWS, column_names
from classmark.papers.files.lines import UTF8_BOM
from classmark.papers.files.sources import PACKED_SUFFIXES, ZIP_MAGIC, Source, open_path
from classmark.papers.files.spreadsheets import is_spreadsheet
from classmark.papers.files.tagged import DIALECTS, TaggedFormat, tagged_format
from classmark.papers.files.xml.documents import unknown_xml
from classmark.papers.markup import TAGS

Format = Literal[
    "csv", "tsv", "jsonl", "json", "parquet", "bibtex", TaggedFormat, "xml", "xlsx", "text"
]

FORMATS: tuple[str, ...] = get_args(Format)

DELIMITERS = ",\t;|"
PARQUET_MAGIC = b"PAR1"

_BY_SUFFIX: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".bib": "bibtex",
    ".bibtex": "bibtex",
    ".ris": "ris",
    ".nbib": "nbib",
    ".ciw": "wos",
    ".enw": "enw",
    ".xml": "xml",
    ".xlsx": "xlsx",
    ".xlsm": "xlsx",
}
KNOWN_SUFFIXES: tuple[str, ...] = (*_BY_SUFFIX, ".txt", *PACKED_SUFFIXES)
"""File name endings of what can be read."""

_REMEDY = "Give CSV, TSV, JSON lines, JSON, Parquet, BibTeX, RIS, XML, .xlsx or plain text."

_BINARY_MAGIC: dict[bytes, str] = {
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"GIF8": "an image",
    b"\x7fELF": "a program",
    b"PK\x03\x04": "a zip archive inside an archive",
    b"\x1f\x8b": "a gzip archive inside an archive",
    b"BZh": "a bzip2 archive inside an archive",
    b"\xfd7zXZ": "an xz archive inside an archive",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!\x1a\x07": "a RAR archive",
    b"]\0\0": "an LZMA archive of the old kind",
    b"\x04\x22\x4d\x18": "an LZ4 archive",
    b"\x1f\x9d": "a compress archive",
    b"SQLite format 3\0": "an SQLite database",
    b"ARROW1\0\0": "an Arrow file",
    b"\x93NUMPY": "a NumPy array",
    b"\x89HDF": "an HDF5 file",
}
_DOCUMENT_MAGIC = {
    b"%PDF-": (
        "a PDF file, not papers. Give its title and abstract as plain text, or its record as BibTeX"
    ),
    b"\xd0\xcf\x11\xe0": (
        "an Office file of the old kind (.xls, .doc) or one with a password, which is not read. "
        "Save a table as .xlsx or CSV, a text as plain text, and without a password"
    ),
    b"{\\rtf": "an RTF file, which is not read. Save it as plain text",
}
_TAR_MAGIC, _TAR_OFFSET = b"ustar", 257
_CONTROL = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b"))
_MAX_CONTROL_SHARE = 0.05
_HTML = re.compile(rb"<(?:!doctype\s+)?html\b", re.IGNORECASE)
_DECLARED_XML = re.compile(rb"<\?|<!doctype\b", re.IGNORECASE)
# Each alternative begins differently, as below.
_PROLOG = re.compile(
    rb"(?:\s++|<\?(?:[^?]|\?(?!>))*+\?>|<!--(?:[^-]|-(?!->))*+-->|<!doctype[^\[<>]*+>)*+",
    re.IGNORECASE,
)
_ROOT = re.compile(rb"<(?:[A-Za-z_][\w.-]*+:)?([A-Za-z_][\w.-]*+)(\s[^<>]*+)?/?>")
_KNOWN_ROOTS = frozenset(
    b"feed rss OAI-PMH xml records PubmedArticleSet article pmc-articleset dblp mods "
    b"modsCollection collection resource responseWrapper TEI teiCorpus".split()
)
_XML_RECORD = re.compile(
    rb"<(?:[A-Za-z_][\w.-]*+:)?(?:entry|record|PubmedArticle|front|arXiv|arXivRaw|dc|mods|teiHeader|hit)[\s>]"
)
# Possessive, and each alternative begins differently: comments must not be tried in 2**n ways.
_BIBTEX = re.compile(rb"(?:%[^\n]*\n|\s++)*+@[A-Za-z]+\s*[{(]")
# Below a heading, as search pages print it; the first field tells it from a mention in a text.
_BIBTEX_BELOW = re.compile(
    rb"^[ \t]*+@[A-Za-z]{2,20}\s*[{(][^\s,{}]{1,200},\s*\w+\s*=\s*[{\"\w]", re.MULTILINE
)
_SEPARATOR_LINE = re.compile(rf'"?sep=([{re.escape(DELIMITERS)}])"?[ \t]*\r?\n', re.IGNORECASE)
_JSON_ARRAY = re.compile(rb"\[\s*(?:[\[\]{\"]|null\s*[,\]])")
"""Semantic Scholar answers null for a paper that it does not know."""
_JSON_OBJECT = re.compile(rb"\{\s*[\"}]")


def detect_format(path: Path, columns: Mapping[str, str] | None = None) -> Format:
    """Return the format of a file.

    Args:
        path: the file; what is packed (gzip, bzip2, xz, zip of one file) is looked into.
        columns: field of a paper -> column name, to know a header by.

    Raises:
        UnreadableSource: it is missing, empty, binary, or markup.
    """
    with open_path(path) as source:
        return format_of(source, columns or {})


def format_of(source: Source, columns: Mapping[str, str]) -> Format:
    """Return the format of an open source; see ``detect_format``."""
    if source.prefix.startswith(PARQUET_MAGIC):
        return "parquet"
    if source.prefix.startswith(ZIP_MAGIC) and is_spreadsheet(source):
        return "xlsx"
    _refuse_what_is_not_text(source)
    text = source.prefix.removeprefix(UTF8_BOM).lstrip()
    by_name = _BY_SUFFIX.get(source.suffix)
    if text.startswith(b"<") and _is_xml(text, source.name):
        return "xml"
    found = _opening_format(text, by_name) or _record_format(text, by_name, columns)
    if found is None:
        _refuse_binary(source)
    return found or by_name or "text"


def _opening_format(text: bytes, by_name: Format | None) -> Format | None:
    """Return the format that the first characters of a text settle, else None."""
    if _JSON_OBJECT.match(text):
        return "json" if _spans_lines(text, by_name) else "jsonl"
    if _JSON_ARRAY.match(text):
        return "jsonl" if by_name == "jsonl" else "json"
    return "bibtex" if _BIBTEX.match(text) else None


def _record_format(
    text: bytes, by_name: Format | None, columns: Mapping[str, str]
) -> Format | None:
    """Return the format that a header or the first record of a text shows, else None."""
    delimiter = delimiter_of(text, columns)
    if delimiter is not None:
        return "tsv" if delimiter == "\t" else "csv"
    tagged = tagged_format(text, below_heading=by_name is None or by_name in DIALECTS)
    if tagged is None and by_name is None and _BIBTEX_BELOW.search(text):
        return "bibtex"
    return tagged


def delimiter_of(
    prefix: bytes, columns: Mapping[str, str], *, below_heading: bool = False
) -> str | None:
    """Return what separates the columns if the first line is a header of papers, else None.

    A line ``sep=;`` before it, which spreadsheets write and read, settles it.

    Args:
        prefix: of the source.
        columns: field of a paper -> column name.
        below_heading: the header may be some lines below, as in what is known for a table.
    """
    lines, stated = first_lines(prefix)
    if stated:
        return stated
    mapped = {name.strip().lower() for name in columns.values()}
    known = mapped.union(*COLUMN_NAMES.values())
    n_lines = 1 + MAX_HEADING_ROWS if below_heading else 1
    for line, delimiter in product(lines[:n_lines], DELIMITERS):
        row = _split_header(line, delimiter)
        names = set().union(*map(column_names, row))
        # One known word may be the first line of a text ("Abstract"); two make a header.
        if len(row) > 1 and (len(names & known) > 1 or (mapped and mapped <= names)):
            return delimiter
    return None


def first_lines(prefix: bytes) -> tuple[list[str], str]:
    """Return the lines of a table as far as they are known, and the delimiter that it states."""
    text = prefix.removeprefix(UTF8_BOM).lstrip().decode(errors="replace")
    match = _SEPARATOR_LINE.match(text)
    rest = text[match.end() :] if match else text
    return rest.split("\n"), match[1] if match else ""


def likeliest_delimiter(prefix: bytes) -> str:
    """Return the delimiter that splits the first line into most columns."""
    first_line = first_lines(prefix)[0][0]
    return max(DELIMITERS, key=lambda delimiter: len(_split_header(first_line, delimiter)))


def _split_header(line: str, delimiter: str) -> list[str]:
    try:
        row = next(csv.reader([line.rstrip("\r")], delimiter=delimiter), [])
    except csv.Error:
        return []
    return row


def _spans_lines(text: bytes, by_name: Format | None) -> bool:
    """Tell a JSON object written over several lines from JSON lines."""
    first_line, line_end, rest = text.partition(b"\n")
    try:
        json.loads(first_line)
    except (ValueError, RecursionError):
        next_lines = rest.lstrip()
        return by_name != "jsonl" and bool(line_end) and not next_lines.startswith(b"{")
    return False


def _is_xml(text: bytes, name: str) -> bool:
    """Tell XML from a text with some markup in it.

    Raises:
        UnreadableSource: it is a web page, or XML of a kind that is not read.
    """
    start = _PROLOG.match(text)
    body = text[start.end() :] if start else text
    if _HTML.match(text) or _HTML.match(body):
        raise UnreadableSource(
            f"{name} is a web page (HTML), which is not read. Give the title and the abstract as "
            "plain text, or an export of the page as BibTeX, CSV or JSON."
        )
    is_declared = bool(_DECLARED_XML.match(text))
    root = _ROOT.match(body)
    if root is None or not (is_declared or _is_root(root, body)):
        return is_declared
    if root[1] not in _KNOWN_ROOTS and not _XML_RECORD.search(body):
        raise unknown_xml(name, root[1].decode())
    return True


def _is_root(tag: re.Match[bytes], body: bytes) -> bool:
    """Tell the root of XML from markup, and from a word in brackets: ``<x>`` for a mean value."""
    if tag[1] in _KNOWN_ROOTS:
        return True
    followed_by_tag = body[tag.end() :].lstrip()[:1] == b"<" and body.rstrip().endswith(b">")
    is_markup = tag[1].decode().lower() in TAGS
    return not is_markup and (followed_by_tag or b"xmlns" in (tag[2] or b""))


def _refuse_what_is_not_text(source: Source) -> None:
    prefix = source.prefix
    if not prefix.strip():
        raise UnreadableSource(f"{source.name} is empty. Give a file with papers.")
    for magic, what in _BINARY_MAGIC.items():
        if prefix.startswith(magic):
            raise UnreadableSource(f"{source.name} is {what}, not papers. {_REMEDY}")
    if prefix[_TAR_OFFSET:].startswith(_TAR_MAGIC):
        raise UnreadableSource(
            f"{source.name} is a tar archive, which is not read. Unpack it and give its files."
        )
    for magic, what in _DOCUMENT_MAGIC.items():
        if prefix.startswith(magic):
            raise UnreadableSource(f"{source.name} is {what}.")


def _refuse_binary(source: Source) -> None:
    prefix = source.prefix
    n_control = len(prefix) - len(prefix.translate(None, _CONTROL))
    if n_control > _MAX_CONTROL_SHARE * len(prefix):
        raise UnreadableSource(
            f"{source.name} is binary ({n_control} control bytes in the first {len(prefix)}). "
            f"{_REMEDY}"
        )
