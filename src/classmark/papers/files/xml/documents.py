"""XML of papers, streamed: feeds and OAI-PMH of arXiv, and what libraries and publishers write.

Several documents one after the other, as harvesters write them, are read like one.
"""

from __future__ import annotations

import html.entities
import re
from collections.abc import Callable, Iterator
from typing import BinaryIO, Generic, TypeVar
from xml.etree.ElementTree import Element, ParseError, TreeBuilder

from classmark.errors import UnreadableSource
from classmark.papers.columns import ReadOptions
from classmark.papers.fields import Place, build_paper
from classmark.papers.files.lines import UTF8_BOM, Problem, too_long
from classmark.papers.files.xml.libraries import is_about_file
from classmark.papers.files.xml.records import NoPaper, reader_of
from classmark.papers.files.xml.tree import Reader, local_name
from classmark.records import BadRecord, Paper

_Found = TypeVar("_Found")
Make = Callable[[Element, Place], _Found]
"""What makes something of an element that has been read whole, and of its place."""
Find = Callable[[str, str], Make[_Found] | None]
"""Returns what makes something of an element, by its ``{namespace}name`` and its parent's name."""

MAX_DEPTH = 200
MAX_ATTRIBUTES = 200
MAX_ELEMENTS = 100_000
"""Of a record: the papers of the largest collaborations have some thousand authors."""
MAX_TAG_BYTES = 1 << 20
"""The parser holds a tag or comment until it ends, and looks at all of it again with each piece."""
_PIECE_BYTES = 1 << 16
_NO_ELEMENT = 3  # the parser's code for a document of nothing but comments
_UTF_16 = re.compile(rb"<\?xml[^>]*\bencoding\s*=\s*[\"']utf-?16", re.IGNORECASE)


def read_xml(stream: BinaryIO, options: ReadOptions) -> Iterator[Paper | BadRecord]:
    """Yield the papers of XML documents, a record at a time.

    Where the XML is cut off or not well-formed, one error ends the reading.

    Raises:
        UnreadableSource: it holds no records, defines entities, or is nested absurdly deep.
    """
    line, rest, root, found = 1, b"", "", False
    find = _papers(options)
    while True:
        line, rest = _next_document(stream, line, rest)
        if not rest:
            break
        document = XmlDocument(options, find, line, rest, is_first=not root)
        for record in document.records(rest, stream):
            if record is not None:
                found = True
                yield record
        if document.is_broken:
            return
        root = root or document.root
        line, rest = document.last_line, document.rest
    if not root:
        raise UnreadableSource(f"{options.name} is empty. Give a file with papers.")
    if not found:
        raise unknown_xml(options.name, root)


def _papers(options: ReadOptions) -> Find[Paper | BadRecord | None]:
    def find(tag: str, parent: str) -> Make[Paper | BadRecord | None] | None:
        read = reader_of(tag, parent)
        if read is None:
            return None
        return lambda element, place: (
            None if is_about_file(element) else paper_of(read, element, place, options)
        )

    return find


def paper_of(
    read: Reader, element: Element, place: Place, options: ReadOptions
) -> Paper | BadRecord:
    """Return the paper of a record, or what is wrong with it."""
    try:
        values = read(element)
    except NoPaper as error:
        return place.bad(error.kind, str(error), error.id)
    return build_paper(values, place, options)


def _next_document(stream: BinaryIO, line: int, rest: bytes) -> tuple[int, bytes]:
    """Return where the next document begins, and its first bytes; b"" where there is none.

    Args:
        stream: what follows.
        line: on which ``rest`` begins.
        rest: that has been read already.
    """
    while True:
        start = rest.lstrip()
        line += rest[: len(rest) - len(start)].count(b"\n")
        rest = start.removeprefix(UTF8_BOM)
        if rest.strip() or not (piece := stream.read(_PIECE_BYTES)):
            return line, rest.lstrip()
        rest += piece


def unknown_xml(name: str, root: str) -> UnreadableSource:
    """Return the error of XML in which nothing is known."""
    return UnreadableSource(
        f"{name} is XML with the root <{root[:60]}> and without records that are read. "
        "Give Atom, RSS or OAI-PMH (arXiv, arXivRaw, oai_dc), or XML of EndNote, PubMed, JATS, "
        "MODS, MARC, DataCite, Europe PMC, DBLP or TEI; of anything else an export as BibTeX, CSV "
        "or JSON."
    )


class _RootEnds(Exception):
    """The root element has been closed, by the tag at a byte: another document may follow."""

    def __init__(self, byte: int) -> None:
        self.byte = byte


class XmlDocument(Generic[_Found]):
    """One XML document, and what has been found in it; safe for any input.

    Attributes:
        root: name of its outermost element.
        rest: what has been read from behind its end.
        last_line: on which it ends.
        is_broken: it is not well-formed; nothing after that can be read.
    """

    def __init__(
        self,
        options: ReadOptions,
        find: Find[_Found],
        first_line: int,
        start: bytes,
        *,
        is_first: bool = True,
    ) -> None:
        from defusedxml.ElementTree import DefusedXMLParser

        # What was UTF-16 is UTF-8 by now.
        encoding = "utf-8" if _UTF_16.match(start[:200]) else None
        parser = DefusedXMLParser(target=self, encoding=encoding)
        parser.entity.update(html.entities.entitydefs)
        self._parser = parser
        self._expat = parser.parser
        self._expat.StartDoctypeDeclHandler = self._doctype
        self._options = options
        self._find = find
        self._first_line = first_line
        # Comments may follow the last document: they are not one that has been cut short.
        self._may_be_empty = not is_first and not start.startswith(b"<?xml")
        self._path: list[str] = []
        self._record: _Record[_Found] | None = None
        self._found: list[_Found | BadRecord] = []
        self._n_fed = 0
        self.root = ""
        self.rest = b""
        self.is_broken = False

    @property
    def last_line(self) -> int:
        """Return the line, of the file, that has been parsed last."""
        number: int = self._expat.CurrentLineNumber
        return self._first_line + max(1, number) - 1

    def records(self, piece: bytes, stream: BinaryIO) -> Iterator[_Found | BadRecord]:
        """Yield the records of the document, which begins with a piece of the stream."""
        goes_on = True
        while goes_on:
            try:
                goes_on = self._parse(piece)
            except UnreadableSource:
                yield from self._found
                raise
            yield from self._found
            self._found.clear()
            piece = stream.read(_PIECE_BYTES) if goes_on else b""

    def _parse(self, piece: bytes) -> bool:
        """Parse one piece, b"" at the end; tell whether the document goes on."""
        try:
            if not piece:
                self._parser.close()
                return False
            self._parser.feed(piece)
        except _RootEnds as end:
            self.rest = piece[piece.find(b">", max(0, end.byte - self._n_fed)) + 1 :]
            return False
        except ParseError as error:
            if not (self._may_be_empty and error.code == _NO_ELEMENT):
                self._break_off(error)
            return False
        except (ValueError, LookupError) as error:  # an encoding, or what defusedxml refuses
            raise UnreadableSource(
                f"{self._options.name}, line {self.last_line}: the XML cannot be parsed ({error}). "
                "Write it again in UTF-8 and without entities."
            ) from error
        self._n_fed += len(piece)
        if self._n_fed - max(0, self._expat.CurrentByteIndex) > MAX_TAG_BYTES:
            raise self._unreadable(f"holds a tag or comment of more than {MAX_TAG_BYTES:,} bytes")
        return True

    def _break_off(self, error: ParseError) -> None:
        self.is_broken = True
        number, column = error.position
        place = Place("line", self._first_line + number - 1)
        why = str(error).partition(":")[0]
        began = f", in the record of line {self._record.place.number}" if self._record else ""
        message = f"the XML is broken or cut short ({why}, column {column}{began})"
        self._found.append(place.bad("broken_xml", f"{message}; what follows was not read"))

    def _unreadable(self, why: str) -> UnreadableSource:
        return UnreadableSource(
            f"{self._options.name}, line {self.last_line}: the XML {why}, which no file of papers "
            "does. Get it from its source again."
        )

    def _doctype(self, _name: str, _system: str | None, _public: str | None, has_own: bool) -> None:
        if has_own:  # entities, and attributes of a megabyte that every <a/> has by default
            raise UnreadableSource(
                f"{self._options.name}, line {self.last_line}: the XML has a document type "
                "definition of its own (<!DOCTYPE … [ … ]), which could fill the memory. Remove "
                "it if you trust the file."
            )

    # What the parser calls.

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Begin an element."""
        name = local_name(tag)
        if len(self._path) >= MAX_DEPTH:
            raise self._unreadable(f"nests elements more than {MAX_DEPTH} deep")
        if len(attributes) > MAX_ATTRIBUTES:
            raise self._unreadable(f"gives an element {len(attributes)} attributes")
        self.root = self.root or name
        if self._record is None:
            make = self._find(tag, self._path[-1] if self._path else "")
            if make is not None:
                place = Place("line", self.last_line)
                self._record = _Record(
                    place, make, len(self._path), self._expat.CurrentByteIndex, self._options
                )
        self._path.append(name)
        if self._record is not None:
            self._record.start(tag, attributes, self._expat.CurrentByteIndex)

    def data(self, text: str) -> None:
        """Add to the text of an element."""
        if self._record is not None:
            self._record.data(text, self._expat.CurrentByteIndex)

    def end(self, tag: str) -> None:
        """End an element."""
        self._path.pop()
        if self._record is not None:
            self._record.end(tag)
            if len(self._path) == self._record.depth:
                self._found.append(self._record.result())
                self._record = None
        if not self._path:
            raise _RootEnds(self._expat.CurrentByteIndex)

    def close(self) -> None:
        """End the document."""


class _Record(Generic[_Found]):
    """One record while it is parsed; of one that is too large nothing is held."""

    def __init__(
        self,
        place: Place,
        make: Make[_Found],
        depth: int,
        first_byte: int,
        options: ReadOptions,
    ) -> None:
        self.place = place
        self.depth = depth
        self._make = make
        self._first_byte = first_byte
        self._options = options
        self._tree = TreeBuilder()
        self._n_elements = 0
        self._problem: Problem | None = None

    def start(self, tag: str, attributes: dict[str, str], byte: int) -> None:
        self._n_elements += 1
        if self._n_elements > MAX_ELEMENTS:
            self._give_up(Problem("too_long", f"holds more than {MAX_ELEMENTS:,} elements"))
        self._check_size(byte)
        if self._problem is None:
            self._tree.start(tag, attributes)

    def data(self, text: str, byte: int) -> None:
        self._check_size(byte)
        if self._problem is None:
            self._tree.data(text)

    def end(self, tag: str) -> None:
        if self._problem is None:
            self._tree.end(tag)

    def _check_size(self, byte: int) -> None:
        n_bytes, limit = byte - self._first_byte, self._options.max_record_bytes
        if n_bytes > limit:
            self._give_up(too_long(n_bytes, limit))

    def _give_up(self, problem: Problem) -> None:
        self._problem = self._problem or problem
        self._tree = TreeBuilder()

    def result(self) -> _Found | BadRecord:
        """Return what is made of the record, or what is wrong with it."""
        if self._problem is not None:
            return self.place.bad(self._problem.kind, self._problem.message)
        return self._make(self._tree.close(), self.place)
