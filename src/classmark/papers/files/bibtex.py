"""BibTeX entries as papers; the parser is imported only when an entry is read."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO

from classmark.errors import InvalidPaper, UnreadableSource
from classmark.papers.columns import ReadOptions
from classmark.papers.dates import MONTHS, most_precise_date
from classmark.papers.fields import Place, build_paper
from classmark.papers.files.lines import read_whole
from classmark.records import BadRecord, Paper
from classmark.records.values import MAX_AUTHORS_CHARS

if TYPE_CHECKING:
    from bibtexparser.model import Block, DuplicateFieldKeyBlock, Field

MAX_BLOCKS = 100_000
"""The parser holds about 1.5 KB for each."""
MAX_MACRO_CHARS = 2_000
MAX_JOINED_CHARS = 200_000
"""A macro that joins others, and a field that joins macros: each may double what the one before it
holds, so that thirty short lines would fill the memory."""
_BLOCK = re.compile(r"@\w*+[ \t]*+[{(]")
# The parser's own pattern remembers every blank there, with 80 bytes.
_MAX_BLANKS = 10_000
_MANY_BLANKS = re.compile(rf"@\w*+[ \t]{{{_MAX_BLANKS}}}")

_READ = ("eprint", "primaryclass", "eprintclass", "date", "year", "month", "author")
"""Fields that are read beside those of title and abstract."""
_FIELD_OUTSIDE = re.compile(r"^[ \t]*(?:title|abstract)[ \t]*=[ \t]*[{\"]", re.I | re.M)
"""What is between entries is a comment, but not this: an entry has lost its first line."""
_NEXT_FIELD = re.compile(r"(?<![\w-])([\w-]++)\s*+=")
_SIGN = re.compile(r'[{}"#]|\\.', re.DOTALL)


def read_bibtex(stream: BinaryIO, options: ReadOptions) -> Iterator[Paper | BadRecord]:
    """Yield the papers of a bibliography: title, abstract, eprint, primaryclass, year, author.

    The identifier is the ``eprint`` field, else the citation key. The file is held in memory,
    up to ``max_record_bytes``, because an entry ends only where the next one begins.

    Raises:
        UnreadableSource: it is too large, not UTF-8, or holds no entry or too many blocks.
    """
    text = read_whole(stream, options)
    _refuse_bomb(text, options.name)
    blocks = _parse_blocks(text)
    macros = _macros(blocks)
    found = False
    for block in blocks:
        record = _read_block(block, macros, options)
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
    # As the file spells them: what the parser makes of them does not join "A " # macro.
    return parse_string(text, parse_stack=[]).blocks


def _macros(blocks: list[Block]) -> dict[str, str]:
    """Return the text of every macro by its name in lower case; months stand for themselves."""
    from bibtexparser.model import String

    macros = {month: month for month in MONTHS}
    for block in blocks:
        if isinstance(block, String):
            # One that cannot be resolved is not there, which is reported where it is used.
            with suppress(InvalidPaper):
                macros[block.key.lower()] = _text_of(block.value, macros, MAX_MACRO_CHARS)
    return macros


def _read_block(
    block: Block, macros: Mapping[str, str], options: ReadOptions
) -> Paper | BadRecord | None:
    from bibtexparser.model import (
        DuplicateBlockKeyBlock,
        DuplicateFieldKeyBlock,
        Entry,
        ImplicitComment,
        ParsingFailedBlock,
    )

    place = Place("line", (block.start_line or 0) + 1)
    entry: Block | None = block
    read = {*_READ, *options.columns.names_of("title"), *options.columns.names_of("abstract")}
    if isinstance(block, DuplicateBlockKeyBlock):
        entry = block.ignore_error_block
    elif isinstance(block, DuplicateFieldKeyBlock) and not read & _in_lower_case(block):
        entry = block.ignore_error_block  # nobody reads the field that occurs twice
    if isinstance(entry, Entry):
        try:
            fields = _texts(entry.fields, macros, read)
        except InvalidPaper as error:
            return place.bad("broken_bibtex", str(error), entry.key)
        values = _values(entry.key, fields, options)
        return build_paper(values, place, options)
    if isinstance(block, ImplicitComment) and _FIELD_OUTSIDE.search(block.comment):
        return place.bad(
            "broken_bibtex",
            "a title or an abstract is outside of entries. Begin its entry with @article{key, or, "
            "if it is to be left out, its lines with %",
        )
    if isinstance(block, ParsingFailedBlock):
        reason = getattr(block.error, "abort_reason", None) or str(block.error)
        reason = " ".join(reason.split()).partition(" Note: ")[0]
        return place.bad("broken_bibtex", f"the entry cannot be read ({reason[:200]})")
    return None


def _texts(fields: list[Field], macros: Mapping[str, str], read: set[str]) -> dict[str, str]:
    """Return the texts of the fields that are read, by their names in lower case.

    Raises:
        InvalidPaper: a macro is not known, or a comma is missing.
    """
    texts = {}
    for field in fields:
        # What is on the lines before it, or on that of the field before, is a comment: "% old".
        name, value = field.key.rpartition("\n")[2].strip().lower(), str(field.value)
        held = _NEXT_FIELD.findall(_outside(value)) if "=" in value else []
        if held and not read.isdisjoint((name, *map(str.lower, held))):
            raise InvalidPaper(
                f"there is no comma between the fields {name[:40]!r} and {held[0][:40]!r}. Add it"
            )
        if name in read:
            texts[name] = _text_of(value, macros)
    return texts


def _outside(value: str) -> str:
    """Return what is neither in braces nor in quotes."""
    pieces, start, depth, in_quotes = [], 0, 0, False
    for sign in _SIGN.finditer(value):
        was_outside = depth == 0 and not in_quotes
        depth += {"{": 1, "}": -1}.get(sign[0], 0)
        if sign[0] == '"' and depth == 0:
            in_quotes = not in_quotes
        if was_outside:
            pieces.append(value[start : sign.start()])
        start = sign.end()
    return " ".join([*pieces, "" if depth or in_quotes else value[start:]])


def _in_lower_case(block: DuplicateFieldKeyBlock) -> set[str]:
    return {key.lower() for key in block.duplicate_keys}


def _values(key: str, fields: dict[str, str], options: ReadOptions) -> dict[str, Any]:
    return {
        "id": fields.get("eprint") or key,
        "title": _mapped(fields, options, "title"),
        "abstract": _mapped(fields, options, "abstract"),
        "category_code": fields.get("primaryclass") or fields.get("eprintclass"),
        "published_date": fields.get("date") or _year_and_month(fields),
        "authors": _authors(fields.get("author", "")),
    }


def _authors(field: str) -> list[str]:
    """Return the names between "and", which braces protect; a name in braces loses them."""
    from bibtexparser.middlewares.names import split_multiple_persons_names

    names = split_multiple_persons_names(field) if len(field) <= MAX_AUTHORS_CHARS else [field]
    return [name.strip().removeprefix("{").removesuffix("}") for name in names]


def _mapped(fields: dict[str, str], options: ReadOptions, name: str) -> str | None:
    return next((fields[key] for key in options.columns.names_of(name) if key in fields), None)


def _text_of(value: str, macros: Mapping[str, str], most: int = MAX_JOINED_CHARS) -> str:
    """Return the text of a value: of ``"A " # macro`` the parts joined, without their quotes.

    Raises:
        InvalidPaper: a part is neither quoted nor a number nor a macro of the file, or what is
            joined is longer than ``most`` characters.
    """
    parts = _parts_of(value)
    if len(parts) == 1:
        return _text_of_part(parts[0], macros, is_alone=True)
    texts = [_text_of_part(part, macros, is_alone=False) for part in parts]
    if sum(map(len, texts)) > most:
        raise InvalidPaper(f"what is joined with # has more than {most:,} characters")
    return "".join(texts)


def _parts_of(value: str) -> list[str]:
    """Return the parts of a value that ``#`` joins, outside of quotes and braces."""
    if "#" not in value:
        return [value.strip()]
    cuts, depth, in_quotes = [-1], 0, False
    for sign in _SIGN.finditer(value):
        match sign[0]:
            case "{":
                depth += 1
            case "}":
                depth -= 1
            case '"' if depth == 0:
                in_quotes = not in_quotes
            case "#" if depth == 0 and not in_quotes:
                cuts.append(sign.start())
    ends = [*cuts[1:], len(value)]
    return [value[start + 1 : end].strip() for start, end in zip(cuts, ends, strict=True)]


def _text_of_part(part: str, macros: Mapping[str, str], *, is_alone: bool) -> str:
    if part[:1] + part[-1:] in ("{}", '""') and len(part) > 1:
        return part[1:-1]
    known = macros.get(part.lower())
    if known is None and not (is_alone or part.isdigit()):
        raise InvalidPaper(
            f"{part[:40]!r} is joined with # but is neither quoted nor defined by an @string"
        )
    return part if known is None else known


def _year_and_month(fields: dict[str, str]) -> str | None:
    year, month = (fields.get(name, "").strip() for name in ("year", "month"))
    return most_precise_date([year, month]) if year else None
