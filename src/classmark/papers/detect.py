"""Which format a source is in: its content decides, its name only helps."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

from classmark.errors import UnreadableSource
from classmark.papers.fields import COLUMN_NAMES
from classmark.papers.lines import UTF8_BOM
from classmark.papers.sources import Source, open_path

Format = Literal["csv", "tsv", "jsonl", "json", "parquet", "bibtex", "text"]

FORMATS: tuple[str, ...] = get_args(Format)

DELIMITERS = ",\t;|"

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
}
KNOWN_SUFFIXES: tuple[str, ...] = (*_BY_SUFFIX, ".txt", ".gz", ".zip")
"""File name endings of what can be read."""

_REMEDY = "Give CSV, TSV, JSON lines, JSON, Parquet, BibTeX or plain text."

_BINARY_MAGIC: dict[bytes, str] = {
    b"%PDF-": "a PDF file",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"GIF8": "an image",
    b"\x7fELF": "a program",
    b"PK\x03\x04": "a zip archive inside an archive",
    b"\x1f\x8b": "a gzip archive inside an archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"SQLite format 3\0": "an SQLite database",
    b"\xd0\xcf\x11\xe0": "an Office file",
}
_CONTROL = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b"))
_MAX_CONTROL_SHARE = 0.05
_MARKUP = re.compile(rb"<(\?xml|!doctype|html|rss|feed|oai-pmh)\b", re.IGNORECASE)
# Possessive, and each alternative begins differently: comments must not be tried in 2**n ways.
_BIBTEX = re.compile(rb"(?:%[^\n]*\n|\s++)*+@[A-Za-z]+\s*[{(]")
# Below a heading, as search pages print it; the first field tells it from a mention in a text.
_BIBTEX_BELOW = re.compile(
    rb"^@[A-Za-z]{2,20}\s*[{(][^\s,{}]{1,200},\s*\w+\s*=\s*[{\"\w]", re.MULTILINE
)
_SEPARATOR_LINE = re.compile(rf'"?sep=([{re.escape(DELIMITERS)}])"?[ \t]*\r?\n', re.IGNORECASE)
_TAGGED = {
    re.compile(rb"TY  - \S"): "RIS",
    re.compile(rb"PMID- *\d"): "PubMed's MEDLINE format",
    re.compile(rb"FN \S.*\r?\nVR \d"): "Web of Science's tagged format",
    re.compile(rb"%0 \w+.*\r?\n%\w "): "EndNote's tagged format",
}
_JSON_ARRAY = re.compile(rb"\[\s*[\[\]{\"]")
_JSON_OBJECT = re.compile(rb"\{\s*[\"}]")


def detect_format(path: Path, columns: Mapping[str, str] | None = None) -> Format:
    """Return the format of a file.

    Args:
        path: the file; gzip and a zip of one file are looked into.
        columns: field of a paper -> column name, to know a header by.

    Raises:
        UnreadableSource: it is missing, empty, binary, or markup.
    """
    with open_path(path) as source:
        return format_of(source, columns or {})


def format_of(source: Source, columns: Mapping[str, str]) -> Format:
    """Return the format of an open source; see ``detect_format``."""
    if source.prefix.startswith(b"PAR1"):
        return "parquet"
    _refuse_what_is_no_text(source)
    text = source.prefix.removeprefix(UTF8_BOM).lstrip()
    by_name = _BY_SUFFIX.get(source.suffix)
    if _JSON_OBJECT.match(text):
        return "json" if _spans_lines(text, by_name) else "jsonl"
    if _JSON_ARRAY.match(text):
        return "jsonl" if by_name == "jsonl" else "json"
    if _BIBTEX.match(text):
        return "bibtex"
    delimiter = delimiter_of(text, columns)
    if delimiter is not None:
        return "tsv" if delimiter == "\t" else "csv"
    if by_name is None and _BIBTEX_BELOW.search(text):
        return "bibtex"
    _refuse_binary(source)
    return by_name or "text"


def delimiter_of(prefix: bytes, columns: Mapping[str, str]) -> str | None:
    """Return what separates the columns if the first line is a header of papers, else None.

    A line ``sep=;`` before it, which spreadsheets write and read, settles it.
    """
    first_line, stated = header_line(prefix)
    if stated:
        return stated
    mapped = {name.strip().lower() for name in columns.values()}
    known = mapped.union(*COLUMN_NAMES.values())
    for delimiter in DELIMITERS:
        names = _split_header(first_line, delimiter)
        # One known word may be the first line of a text ("Abstract"); two make a header.
        if len(names) > 1 and (len(names & known) > 1 or (mapped and mapped <= names)):
            return delimiter
    return None


def header_line(prefix: bytes) -> tuple[str, str]:
    """Return the line that names the columns, and the delimiter that a line before it states."""
    text = prefix.removeprefix(UTF8_BOM).lstrip().decode(errors="replace")
    match = _SEPARATOR_LINE.match(text)
    rest = text[match.end() :] if match else text
    return rest.partition("\n")[0], match[1] if match else ""


def likeliest_delimiter(prefix: bytes) -> str:
    """Return the delimiter that splits the first line into most columns."""
    first_line = header_line(prefix)[0]
    return max(DELIMITERS, key=lambda delimiter: len(_split_header(first_line, delimiter)))


def _split_header(line: str, delimiter: str) -> set[str]:
    try:
        row = next(csv.reader([line.rstrip("\r")], delimiter=delimiter), [])
    except csv.Error:
        return set()
    return {name.strip().lower() for name in row}


def _spans_lines(text: bytes, by_name: Format | None) -> bool:
    """Tell a JSON object written over several lines from JSON lines."""
    first_line, line_end, rest = text.partition(b"\n")
    try:
        json.loads(first_line)
    except (ValueError, RecursionError):
        next_lines = rest.lstrip()
        return by_name != "jsonl" and bool(line_end) and not next_lines.startswith(b"{")
    return False


def _refuse_what_is_no_text(source: Source) -> None:
    prefix = source.prefix
    if not prefix.strip():
        raise UnreadableSource(f"{source.name} is empty. Give a file with papers.")
    for magic, what in _BINARY_MAGIC.items():
        if prefix.startswith(magic):
            raise UnreadableSource(f"{source.name} is {what}, not papers. {_REMEDY}")
    text = prefix.removeprefix(UTF8_BOM).lstrip()
    if _MARKUP.match(text):
        raise UnreadableSource(f"{source.name} is XML or HTML, which is not read. {_REMEDY}")
    for pattern, what in _TAGGED.items():
        if pattern.match(text):
            raise UnreadableSource(
                f"{source.name} is in {what}, which is not read. Export it as BibTeX, CSV or JSON."
            )


def _refuse_binary(source: Source) -> None:
    prefix = source.prefix
    n_control = len(prefix) - len(prefix.translate(None, _CONTROL))
    if n_control > _MAX_CONTROL_SHARE * len(prefix):
        raise UnreadableSource(
            f"{source.name} is binary ({n_control} control bytes in the first {len(prefix)}). "
            f"{_REMEDY}"
        )
