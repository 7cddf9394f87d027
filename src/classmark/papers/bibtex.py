"""BibTeX entries as papers; the parser is imported only when an entry is read."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from classmark.errors import UnreadableSource
from classmark.papers.fields import Place, ReadOptions, build_paper
from classmark.papers.text import read_whole
from classmark.records import BadRecord, Paper

if TYPE_CHECKING:
    from bibtexparser.model import Block

MAX_BLOCKS = 100_000
"""The parser holds about 1.5 KB for each."""
_BLOCK = re.compile(r"@\w*+[ \t]*+[{(]")
# The parser's own pattern remembers every blank there, with 80 bytes.
_MAX_BLANKS = 10_000
_MANY_BLANKS = re.compile(rf"@\w*+[ \t]{{{_MAX_BLANKS}}}")

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def read_bibtex(stream: BinaryIO, options: ReadOptions) -> Iterator[Paper | BadRecord]:
    """Yield the papers of a bibliography: title, abstract, eprint, primaryclass, year, author.

    The identifier is the ``eprint`` field, else the citation key. The file is held in memory,
    up to ``max_record_bytes``, because an entry ends only where the next one can be told.

    Raises:
        UnreadableSource: it is too large, not UTF-8, or holds no entry or too many blocks.
    """
    text = read_whole(stream, options)
    _refuse_bomb(text, options.name)
    found = False
    for block in _parse_blocks(text):
        record = _read_block(block, options)
        if record is not None:
            found = True
            yield record
    if not found:
        raise UnreadableSource(
            f"{options.name} holds no BibTeX entry. "
            "Entries look like @article{key, title = {…}, abstract = {…}}."
        )


def _refuse_bomb(text: str, name: str) -> None:
    n_blocks = sum(1 for _ in _BLOCK.finditer(text))
    if n_blocks > MAX_BLOCKS:
        raise UnreadableSource(
            f"{name} holds {n_blocks:,} BibTeX blocks, more than {MAX_BLOCKS:,}. Split it."
        )
    if _MANY_BLANKS.search(text):
        raise UnreadableSource(
            f"{name} holds {_MAX_BLANKS:,} blanks after an @, which no bibliography does."
        )


def _parse_blocks(text: str) -> list[Block]:
    from bibtexparser.entrypoint import parse_string

    # The parser logs every broken entry; we report them ourselves. The null handler only keeps
    # Python's last-resort handler from printing, a program's own handlers still see them.
    log = logging.getLogger("bibtexparser")
    if not log.handlers:
        log.addHandler(logging.NullHandler())
    return parse_string(text).blocks


def _read_block(block: Block, options: ReadOptions) -> Paper | BadRecord | None:
    from bibtexparser.model import DuplicateBlockKeyBlock, Entry, ParsingFailedBlock

    place = Place("line", (block.start_line or 0) + 1)
    entry: Block | None = block
    value_of: Callable[[object], str] = str
    if isinstance(block, DuplicateBlockKeyBlock):
        entry, value_of = block.ignore_error_block, _unquoted
    if isinstance(entry, Entry):
        fields = {item.key.lower(): value_of(item.value) for item in entry.fields}
        values = _values(entry.key, fields, options)
        return build_paper(values, place, strict_dates=options.strict_dates)
    if isinstance(block, ParsingFailedBlock):
        reason = getattr(block.error, "abort_reason", None) or str(block.error)
        reason = " ".join(reason.split()).partition(" Note: ")[0]
        return place.bad("broken_bibtex", f"the entry cannot be read ({reason[:200]})")
    return None


def _values(key: str, fields: dict[str, str], options: ReadOptions) -> dict[str, Any]:
    return {
        "id": fields.get("eprint") or key,
        "title": _mapped(fields, options, "title"),
        "abstract": _mapped(fields, options, "abstract"),
        "category_code": fields.get("primaryclass"),
        "published_date": fields.get("date") or _year_and_month(fields),
        "authors": fields.get("author"),
    }


def _mapped(fields: dict[str, str], options: ReadOptions, name: str) -> str | None:
    return next((fields[key] for key in options.names_of(name) if key in fields), None)


def _unquoted(value: object) -> str:
    """Drop the enclosing quotes or braces, which the parser leaves on repeated entries only."""
    text = str(value)
    return text[1:-1] if text[:1] + text[-1:] in ("{}", '""') else text


def _year_and_month(fields: dict[str, str]) -> str | None:
    year = fields.get("year", "").strip()
    month = fields.get("month", "").strip().lower()[:3]
    if year and month in _MONTHS:
        return f"{year}-{_MONTHS.index(month) + 1:02d}"
    return year or None
