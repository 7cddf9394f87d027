"""Records of tagged lines: RIS, PubMed's MEDLINE, Web of Science and EndNote, streamed.

All four write a field as a tag and its text, which goes on in the lines without a tag. They differ
in what a tag looks like, and in how a record begins and ends: that is a ``Dialect``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Literal, cast

from classmark.errors import UnreadableSource
from classmark.papers.authors import from_medline
from classmark.papers.columns import COLUMN_NAMES, ReadOptions, shown
from classmark.papers.dates import most_precise_date
from classmark.papers.fields import Place, build_paper
from classmark.papers.files.lines import Line, Problem, read_lines
from classmark.papers.ids import codes_among
from classmark.records import BadRecord, Paper

TaggedFormat = Literal["ris", "nbib", "wos", "enw"]
Record = Paper | BadRecord

MAX_LINES = 100_000
"""Of a record, as far as they are held: each takes up to 300 bytes, however short it is."""
_BOM = "\ufeff"
_ONCE = ("title", "abstract")
"""Fields that a record has once: a second one, below a blank line, belongs to another record."""


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How a format writes records.

    Attributes:
        name: of the format, for messages.
        example: how a record looks, for messages.
        line: a line with a tag; its groups are the tag and the text.
        squeezed: the same where runs of blanks have become one, as in a copied web page.
        start: tag that begins a record; if it is one that is read, what is above it is passed over.
        end: tag that ends one; "" if only the next one does.
        around: tags of the file, which are outside of records.
        tags: field of a paper -> tags it is read from, best first.
        listed: tags of which each line is a value of its own, as of authors.
        author: an author as the format writes it -> the name.
        keywords: tag of keywords; those that are arXiv's codes are the categories.
        opening: the first line of a file.
        below: the first lines of a record below a heading.
        fragment: the first lines of a file whose first record has lost its beginning.
    """

    name: str
    example: str
    line: re.Pattern[str]
    squeezed: re.Pattern[str] | None = None
    start: str
    end: str = ""
    around: frozenset[str] = frozenset()
    tags: dict[str, tuple[str, ...]]
    listed: frozenset[str] = frozenset()
    author: Callable[[str], str] = str
    keywords: str = ""
    opening: re.Pattern[bytes]
    below: re.Pattern[bytes]
    fragment: re.Pattern[bytes] | None = None


# Possessive, so that the time is linear in the text.
_WOS_OPENING = re.compile(
    rb"^FN \S.*\n\s*+VR [0-9.]++[ \t\r]*+$|^PT [A-Z][ \t\r]*+\n\s*+[A-Z][A-Z0-9] \S", re.MULTILINE
)
DIALECTS: dict[str, Dialect] = {
    "ris": Dialect(
        name="RIS",
        example="TY  - JOUR",
        line=re.compile(r"([A-Z][A-Z0-9])  -(.*)"),
        squeezed=re.compile(r"([A-Z][A-Z0-9]) -( .*|$)"),
        start="TY",
        end="ER",
        tags={
            "id": ("ID", "DO", "AN"),
            "title": ("TI", "T1", "BT"),
            "abstract": ("AB", "N2"),
            "published_date": ("DA", "PY", "Y1"),
            "authors": ("AU", "A1"),
        },
        keywords="KW",
        opening=re.compile(rb"TY  -|TY - [A-Z]{3,}[ \t\r]*+(?:\n|\Z)"),
        below=re.compile(
            rb"^TY  - \S.*\n\s*+[A-Z][A-Z0-9]  -"
            rb"|^TY - [A-Z]{3,}[ \t\r]*+\n\s*+[A-Z][A-Z0-9] - ",
            re.MULTILINE,
        ),
        fragment=re.compile(rb"[A-Z][A-Z0-9]  -.*\n\s*+[A-Z][A-Z0-9]  -"),
    ),
    "nbib": Dialect(
        name="MEDLINE (PubMed)",
        example="PMID- 12345678",
        line=re.compile(r"([A-Z]{2,4}) {0,2}-( .*|$)"),
        start="PMID",
        tags={
            "id": ("PMID", "UI"),
            "title": ("TI", "BTI"),
            "abstract": ("AB",),
            "published_date": ("DP", "DEP"),
            "authors": ("FAU", "AU"),
        },
        author=from_medline,
        keywords="OT",
        opening=re.compile(rb"(?:PMID|OWN |STAT)- \w+[ \t\r]*+(?:\n|\Z)"),
        below=re.compile(rb"^PMID- [0-9]+[ \t\r]*+\n\s*+[A-Z]{2,4} *- ", re.MULTILINE),
    ),
    "wos": Dialect(
        name="Web of Science",
        example="PT J",
        line=re.compile(r"([A-Z][A-Z0-9])( .*|$)"),
        start="PT",
        end="ER",
        around=frozenset({"FN", "VR", "EF"}),
        tags={
            "id": ("UT", "DI", "PM"),
            "title": ("TI",),
            "abstract": ("AB",),
            "published_date": ("PY", "PD"),
            "authors": ("AF", "AU"),
        },
        listed=frozenset({"AF", "AU"}),
        opening=_WOS_OPENING,
        below=_WOS_OPENING,
    ),
    "enw": Dialect(
        name="EndNote",
        example="%0 Journal Article",
        line=re.compile(r"%([^\sa-z%])([ \t].*|$)"),
        start="0",
        tags={
            "id": ("F", "M", "R"),
            "title": ("T",),
            "abstract": ("X",),
            "published_date": ("8", "D"),
            "authors": ("A",),
        },
        keywords="K",
        opening=re.compile(rb"%0 [A-Z][\w -]++\r*+(?:\n|\Z)"),
        below=re.compile(rb"^%0 [A-Z].*\n\s*+%\S \S", re.MULTILINE),
        fragment=re.compile(rb"%[A-Z] \S.*\n\s*+%[A-Z0-9@] \S"),
    ),
}


def tagged_format(text: bytes, *, below_heading: bool) -> TaggedFormat | None:
    """Return the format of tagged records that a text begins with, else None.

    Args:
        text: from its first character that is not blank.
        below_heading: whether records may begin below other lines.
    """
    openings = [dialect.opening.match for dialect in DIALECTS.values()]
    below = [dialect.below.search for dialect in DIALECTS.values() if below_heading]
    fragments = [(dialect.fragment or dialect.opening).match for dialect in DIALECTS.values()]
    for finders in (openings, below, fragments):
        for name, find in zip(DIALECTS, finders, strict=False):
            if find(text):
                return cast("TaggedFormat", name)
    return None


def read_tagged(stream: BinaryIO, options: ReadOptions, dialect: Dialect) -> Iterator[Record]:
    """Yield the papers of tagged records, with one record at a time in memory.

    Raises:
        UnreadableSource: there is no record.
    """
    records = _Reader(dialect, options).records(stream)
    first = next(records, None)
    if first is None:
        raise UnreadableSource(
            f"{options.name} holds no {dialect.name} record. "
            f"Records begin with a line such as {dialect.example!r}."
        )
    yield first
    yield from records


@dataclass(slots=True)
class _Field:
    """One field of a record: where it begins, its text line by line, and what is wrong with it."""

    tag: str
    line: int
    parts: list[str]
    problem: Problem | None = None

    def add(self, text: str, line: Line) -> None:
        """Add the text of a line."""
        if text.strip():
            self.parts.append(text.strip())
        if line.problem is not None and self.problem is None:
            message = f"its line {line.number} {line.problem.message}"
            self.problem = Problem(line.problem.kind, message)


@dataclass(slots=True)
class _Draft:
    """A record that is being read: of its fields only those that a paper is made of.

    Attributes:
        line: number of its first line.
        fields: in their order.
        n_chars: of all its lines.
        n_lines: of those that are held.
        current: the field that a line without a tag belongs to, if it is held.
        after_blank: whether there was a blank line since the last tag.
        seam: position of the first field below the last blank line, and number of its line.
        above: tags above that line, of fields that a record has once.
        below: those below it.
        problem: why it is skipped.
    """

    line: int
    fields: list[_Field] = field(default_factory=list)
    n_chars: int = 0
    n_lines: int = 0
    current: _Field | None = None
    after_blank: bool = False
    seam: tuple[int, int] = (0, 0)
    above: set[str] = field(default_factory=set)
    below: set[str] = field(default_factory=set)
    problem: Problem | None = None

    def end_field(self, line: int) -> None:
        """End the field that is being read, because another begins in a line."""
        if self.after_blank:
            self.seam = (len(self.fields), line)
            self.above |= self.below
            self.below = set()
        self.current = None

    def add(self, new: _Field) -> None:
        """Add a field."""
        self.fields.append(new)
        self.current = new

    def skip(self, problem: Problem) -> None:
        """Let go of the texts, and say why."""
        self.problem = self.problem or problem
        self.fields, self.current, self.seam = [], None, (0, self.seam[1])

    def cut_at_seam(self) -> _Draft:
        """Cut off everything below the last blank line, and return it."""
        position, line = self.seam
        rest = _Draft(line, self.fields[position:], below=self.below)
        rest.n_lines = sum(1 + len(moved.parts) for moved in rest.fields)
        rest.n_chars = sum(len(part) for moved in rest.fields for part in moved.parts)
        del self.fields[position:]
        return rest


class _Reader:
    """Splits lines into records, and makes papers of them."""

    def __init__(self, dialect: Dialect, options: ReadOptions) -> None:
        self._dialect = dialect
        self._options = options
        self._line = dialect.line
        self._sought = {name: _tags_of(name, dialect, options) for name in COLUMN_NAMES}
        self._held = {tag for tags in self._sought.values() for tag in tags} | {dialect.keywords}
        self._once = {tag for name in _ONCE for tag in self._sought[name]}
        self._draft: _Draft | None = None

    def records(self, stream: BinaryIO) -> Iterator[Record]:
        """Yield the records of a stream."""
        for line in read_lines(stream, self._options.max_record_bytes):
            for record in self._ended_by(line):
                if record is not None:
                    yield record
        last = self._close()
        if last is not None:
            yield last

    def _ended_by(self, line: Line) -> list[Record | None]:
        if line.problem is not None and line.problem.kind == "too_long":
            return [self._pass_over(line.number, line.problem)]
        # A carriage return alone ends a line too, where files were joined.
        return [self._take(text.lstrip(_BOM), line) for text in line.text.strip("\r\n").split("\r")]

    def _pass_over(self, number: int, problem: Problem) -> BadRecord | None:
        """Skip the record with a line that was too long to be read."""
        if self._draft is None:
            return Place("line", number).bad(problem.kind, problem.message)
        self._draft.skip(Problem(problem.kind, f"its line {number} has {problem.message}"))
        return None

    def _take(self, text: str, line: Line) -> Record | None:
        """Take the next line; return the record that it ends, if it ends one."""
        tag, value = self._tag_and_value(text)
        if tag is None:
            if self._draft is not None:  # else a heading, or the number of a record
                self._grow(self._draft, None, value, line)
            return None
        dialect = self._dialect
        if tag == dialect.end and self._draft is None:
            message = f"{tag} ends a record that has no beginning"
            return Place("line", line.number).bad("broken_record", message)
        is_above = self._draft is None and dialect.start in self._held and tag not in self._held
        if is_above or tag == dialect.end or tag in dialect.around:
            return self._close()
        ended = self._close() if tag == dialect.start else None
        draft = self._draft = self._draft or _Draft(line.number)
        draft.end_field(line.number)
        if tag in self._once:
            if tag in draft.above:
                rest = draft.cut_at_seam()
                ended = self._close()
                draft = self._draft = rest
            draft.below.add(tag)
        self._grow(draft, tag, value, line)
        return ended

    def _grow(self, draft: _Draft, tag: str | None, value: str, line: Line) -> None:
        """Add a line to the record that it belongs to."""
        draft.after_blank = tag is None and (draft.after_blank or not value.strip())
        draft.n_chars += len(line.text)
        if draft.n_chars > self._options.max_record_bytes:
            limit = f"{self._options.max_record_bytes:,} bytes"
            draft.skip(Problem("too_long", f"the record is longer than {limit}; skipped"))
        if draft.problem is not None:
            return
        if tag in self._held:
            draft.add(_Field(tag, line.number, []))
        elif tag is None and draft.current and draft.current.tag in self._dialect.listed:
            draft.add(_Field(draft.current.tag, line.number, []))
        if draft.current is not None:
            draft.current.add(value, line)
            draft.n_lines += 1
        if draft.n_lines > MAX_LINES:
            limit = f"{MAX_LINES:,} lines of text"
            draft.skip(Problem("too_long", f"the record has more than {limit}; skipped"))

    def _tag_and_value(self, text: str) -> tuple[str | None, str]:
        if self._dialect.squeezed and text.startswith(self._dialect.start):
            spellings = (self._dialect.line, self._dialect.squeezed)
            self._line = next((line for line in spellings if line.match(text)), self._line)
        match = self._line.match(text)
        return (match[1], match[2]) if match else (None, text)

    def _close(self) -> Record | None:
        """Return the record that has been read, if there is one."""
        draft, self._draft = self._draft, None
        return None if draft is None else self._record(draft)

    def _record(self, draft: _Draft) -> Record:
        place = Place("line", draft.line)
        if draft.problem is not None:
            return place.bad(draft.problem.kind, draft.problem.message)
        texts = _Texts(draft.fields)
        found = {name: texts.of_first(tags) for name, tags in self._sought.items()}
        identifier = found["id"][0] if found["id"] else None
        for one in draft.fields:
            if one.problem is not None:
                return place.bad(one.problem.kind, one.problem.message, identifier)
        first, *others = dict.fromkeys(found["title"] or [""])
        if others:
            message = (
                f"the record has two titles, {shown(first)} and {shown(others[0])}. "
                f"Start the second record with a line such as {self._dialect.example!r}"
            )
            return place.bad("broken_record", message, identifier)
        values: dict[str, Any] = {name: values[0] for name, values in found.items() if values}
        values["abstract"] = "\n".join(found["abstract"])
        values["authors"] = [self._dialect.author(name) for name in found["authors"]]
        values["categories"] = found["categories"] or codes_among(texts.of(self._dialect.keywords))
        dates = [date for tag in self._sought["published_date"] for date in texts.of(tag)]
        values["published_date"] = most_precise_date(dates)
        return build_paper(values, place, self._options)


class _Texts:
    """The texts of a record by their tags, in their order."""

    def __init__(self, fields: list[_Field]) -> None:
        self._by_tag: dict[str, list[str]] = {}
        for one in fields:
            if one.parts:
                self._by_tag.setdefault(one.tag, []).append(" ".join(one.parts))

    def of(self, tag: str) -> list[str]:
        return self._by_tag.get(tag, [])

    def of_first(self, tags: tuple[str, ...]) -> list[str]:
        """Return the texts of the first tag that has any."""
        return next((self._by_tag[tag] for tag in tags if tag in self._by_tag), [])


def _tags_of(name: str, dialect: Dialect, options: ReadOptions) -> tuple[str, ...]:
    """Return the tags that a field of a paper is read from, those named by the user first."""
    named = [column for column in options.sought[name] if column not in COLUMN_NAMES[name]]
    return (*(column.lstrip("%").upper() for column in named), *dialect.tags.get(name, ()))
