"""A JSON body, checked for structure and validated in pieces.

pydantic parses a whole document in one call, which holds the interpreter for as long as that takes,
and describes each error in it. So the structure of a document is limited first; then its one long
array is cut out and validated in pieces, between which the event loop runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from classmark.service.problems import Problem, invalid_request

T = TypeVar("T")
Errors = list[dict[str, Any]]
Path = tuple[str | int, ...]

MAX_DEPTH = 32
MAX_ENTRIES = 64
"""Of an object, and of an array that is not cut out; no schema here has that many."""
LONG_KEY = b"authors"
MAX_NAMES = 10_000
"""Entries of an array of this key: the largest collaborations list some 5,000 authors."""
NAMES_PER_ELEMENT = 200
"""On average, where an element is too long to be passed in one call: more are never looked up."""
TOKENS_PER_ELEMENT = 32
"""A paper with all of its fields has 17 strings, brackets and commas."""
SPARE_TOKENS = 1024
MAX_ERRORS = 20
PIECE_BYTES = 64 << 10
PIECE_ELEMENTS = 64
"""Validated in one call: some 0.2 ms."""

_KEY_BYTES = 64
"""Bytes of a key that are compared; no key on the way to an array has that many."""
_WINDOW_BYTES = 64 << 10
"""Searched in one call, which holds the interpreter."""
_QUOTE, _COMMA, _OPEN_ARRAY, _OPEN_OBJECT, _BACKSLASH = b'",[{\\'
_TOKEN = re.compile(rb'["\[\]{},]')
_IN_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_STRING = rb'(?:"[^"]*+"(?<!\\")|"(?:[^"\\]++|\\.)*+")'
"""Tried without escapes first, three times as fast."""
_REST = rb"[^\"{}\[\]]*+"
"""Of an object or array without others in it: all except strings."""
_FLAT = rb"(?:%b|\{(?:%b%b){0,%d}+%b\})" % (_STRING, _REST, _STRING, MAX_ENTRIES, _REST)
"""A string, or an object without others in it: of 32 fields, if all are strings."""
_LIST = rb"\[(?:%b%b){0,%d}+%b\]" % (_REST, _FLAT, MAX_NAMES, _REST)
_ELEMENT = rb"(?:%b|\{(?:%b(?:%b|%b)){0,%d}+%b\})" % (
    *(_STRING, _REST, _STRING, _LIST, MAX_ENTRIES, _REST),
)
"""A string, or an object that holds no other things than strings and flat lists."""
_PASSED = rb"[ \t\r\n]*+%b[ \t\r\n]*+(?=[,\]])"
_PLAIN = re.compile(_PASSED % _ELEMENT, re.DOTALL)
_NAME = re.compile(_PASSED % _FLAT, re.DOTALL)
_POSITION = re.compile(r" at line \d+ column \d+$")
_BLANK = b" \t\r\n"


@dataclass(frozen=True)
class Array:
    """The position of an array in a body.

    Attributes:
        start, end: of the array, including its brackets.
        elements: start and end of each element.
    """

    start: int
    end: int
    elements: list[tuple[int, int]]


@dataclass
class _Container:
    """An open object or array: the key being read (None in an array), the entries so far."""

    key: bytes | None
    most: int = MAX_ENTRIES
    n_entries: int = 1


def find_arrays(body: bytes, place: Sequence[bytes | None], most: int) -> list[Array]:
    """Return the arrays at a place of a document, whose structure is limited.

    A body that is not JSON may pass; its parser refuses it.

    Args:
        body: JSON.
        place: keys on the way to the arrays, None for an array on the way.
        most: maximum elements of each array.

    Raises:
        Problem: it is nested too deeply, or has too many elements.
    """
    return _Scan(body, list(place), most).run()


class _Scan:
    """Follows the structure of a document token by token."""

    def __init__(self, body: bytes, place: list[bytes | None], most: int) -> None:
        self.found: list[Array] = []
        self._body = body
        self._place = place
        self._most = most
        self._open: list[_Container] = []
        self._expects_key = False
        self._array: _Container | None = None
        self._array_start = self._element_start = 0
        self._elements: list[tuple[int, int]] = []
        self._names_left = NAMES_PER_ELEMENT * most + MAX_NAMES

    def run(self) -> list[Array]:
        """Return the arrays at the place, up to where the body is clearly not JSON."""
        body, size = self._body, len(self._body)
        position = n_tokens = 0
        while position < size:
            match = _TOKEN.search(body, position, position + _WINDOW_BYTES)
            if match is None:
                position += _WINDOW_BYTES
                continue
            n_tokens += 1
            if n_tokens > TOKENS_PER_ELEMENT * self._most + SPARE_TOKENS:
                raise _too_much(f"more than {n_tokens - 1} parts")
            start = match.start()
            kind = body[start]
            position = _string_end(body, start + 1) if kind == _QUOTE else start + 1
            if not self._take(kind, start, position):
                break
            if self._array is not None and self._element_start == position:
                position = self._pass(_PLAIN, position)
            elif self._open and self._open[-1].most > MAX_ENTRIES:
                position = self._pass(_NAME, position)
        return self.found

    def _pass(self, entry: re.Pattern[bytes], position: int) -> int:
        """Skip entries of one form, one call each; nearly all of an honest document have it."""
        while match := entry.match(self._body, position, position + _WINDOW_BYTES):
            end = match.end()
            if self._body[end] != _COMMA:
                return end
            self._separate(end)
            position = end + 1
        return position

    def _take(self, kind: int, start: int, end: int) -> bool:
        if kind == _QUOTE:
            if self._expects_key:
                self._open[-1].key = self._body[start + 1 : min(end - 1, start + _KEY_BYTES)]
                self._expects_key = False
        elif kind in (_OPEN_ARRAY, _OPEN_OBJECT):
            self._enter(kind, start)
        elif not self._open:
            return False
        elif kind == _COMMA:
            self._separate(start)
        else:
            self._leave(start)
        return True

    def _enter(self, kind: int, start: int) -> None:
        is_array = kind == _OPEN_ARRAY
        is_long = is_array and bool(self._open) and self._open[-1].key == LONG_KEY
        container = _Container(None if is_array else b"", MAX_NAMES if is_long else MAX_ENTRIES)
        if is_array and self._array is None and [c.key for c in self._open] == self._place:
            self._array, self._elements = container, []
            self._array_start, self._element_start = start, start + 1
        self._open.append(container)
        self._expects_key = not is_array
        if len(self._open) > MAX_DEPTH:
            raise Problem(
                "malformed_json",
                f"recursion limit exceeded: nested more than {MAX_DEPTH} deep. Send one flat "
                "JSON object, as /openapi.json describes it.",
            )

    def _separate(self, start: int) -> None:
        container = self._open[-1]
        container.n_entries += 1
        self._expects_key = container.key is not None
        if container is self._array:
            self._elements.append((self._element_start, start))
            self._element_start = start + 1
            if container.n_entries > self._most:
                raise too_many_papers(self._most)
        elif container.n_entries > container.most:
            raise _too_much(f"an object or array of more than {container.most} entries")
        elif container.most > MAX_ENTRIES:
            self._names_left -= 1
            if self._names_left < 0:
                raise _too_much("too many names of authors")

    def _leave(self, start: int) -> None:
        self._expects_key = False
        if self._open.pop() is not self._array:
            return
        last = (self._element_start, start)
        is_long = start - self._element_start > _WINDOW_BYTES
        if self._elements or is_long or self._body[slice(*last)].strip(_BLANK):
            self._elements.append(last)
        self.found.append(Array(self._array_start, start + 1, self._elements))
        self._array = None


def _string_end(body: bytes, start: int) -> int:
    """Return the end of a string that starts after its opening quote."""
    quote = body.find(_QUOTE, start, start + _WINDOW_BYTES)
    if quote >= 0 and body[quote - 1] != _BACKSLASH:
        return quote + 1
    size = len(body)
    while start < size:
        match = _IN_STRING.match(body, start, start + _WINDOW_BYTES)
        end = size if match is None else match.end()
        if end < size and body[end] == _QUOTE:
            return end + 1
        start = end if end > start else size
    return size


def without(body: bytes, arrays: Sequence[Array], fillers: Sequence[bytes]) -> bytes:
    """Return a document with a filler in place of each array."""
    parts, position = [], 0
    for array, filler in zip(arrays, fillers, strict=True):
        parts += [body[position : array.start], filler]
        position = array.end
    return b"".join([*parts, body[position:]])


def validate(adapter: TypeAdapter[T], body: bytes, *, is_whole: bool = True) -> T:
    """Return a validated document, in one call.

    Args:
        adapter: of the schema.
        body: limited, see ``find_arrays``.
        is_whole: nothing is cut out of it, so that positions in it are valid.

    Raises:
        Problem: it is not JSON, or does not match the schema.
    """
    try:
        return adapter.validate_json(body)
    except ValidationError as error:
        raise invalid_request(_errors(error, is_whole=is_whole)) from error


@dataclass(frozen=True)
class Elements(Generic[T]):
    """How the elements of an array are validated.

    Attributes:
        adapter: of a list that stops at its first invalid element.
        path: of the array, for errors.
        most_bytes: a longer element is not parsed.
        too_long: returns a replacement for one, or raises.
    """

    adapter: TypeAdapter[list[T]]
    path: Path
    most_bytes: int
    too_long: Callable[[], T]

    def validate(self, body: bytes, array: Array, check: Callable[[], None]) -> list[T]:
        """Return the elements, validated in pieces.

        Args:
            body: the document.
            array: its position.
            check: called between pieces; raises when nobody waits any more.

        Raises:
            Problem: some are not JSON, or do not match the schema; names the first of them.
        """
        values: list[T] = []
        errors: list[dict[str, Any]] = []
        first = 0
        while first < len(array.elements) and len(errors) < MAX_ERRORS:
            check()
            start, end = array.elements[first]
            if end - start > self.most_bytes:
                values.append(self.too_long())
                first += 1
                continue
            last = self._last_of_piece(array, first)
            piece = b"[%s]" % body[start : array.elements[last][1]]
            try:
                part = self.adapter.validate_json(piece)
                if len(part) <= last - first:  # an element is blank, as after a last comma
                    self._refuse_malformed(body, array, range(first, last + 1))
                values += part
                first = last + 1
            except ValidationError as error:
                found = _errors(error)
                if _is_malformed(found):
                    self._refuse_malformed(body, array, range(first, last + 1))
                first, located = self._located(found, first)
                errors += located
        if errors:
            raise invalid_request(errors)
        return values

    def _last_of_piece(self, array: Array, first: int) -> int:
        """Return the last element to validate in the same call."""
        limit = array.elements[first][0] + PIECE_BYTES
        last = first
        following = array.elements[first + 1 : first + PIECE_ELEMENTS]
        for index, (start, end) in enumerate(following, first + 1):
            if end > limit or end - start > self.most_bytes:
                break
            last = index
        return last

    def _located(self, found: Errors, first: int) -> tuple[int, Errors]:
        """Return the index after the invalid element, and its errors with their paths."""
        index = first + found[0]["loc"][0]
        return index + 1, [{**e, "loc": (*self.path, index, *e["loc"][1:])} for e in found]

    def _refuse_malformed(self, body: bytes, array: Array, indices: range) -> None:
        """Raise the problem of the first element that is not JSON."""
        for index in indices:
            try:
                self.adapter.validate_json(b"[0,%s]" % body[slice(*array.elements[index])])
            except ValidationError as error:
                found = _errors(error, is_whole=False)
                if _is_malformed(found):
                    where = ".".join(map(str, (*self.path, index)))
                    raise invalid_request(
                        [{**found[0], "msg": f"{found[0]['msg']} in {where}"}]
                    ) from error


def too_many_papers(most: int) -> Problem:
    """Return the problem of a request with more papers than one may have."""
    return Problem("too_many_papers", f"there are more than {most} papers. Send them in parts.")


def _too_much(what: str) -> Problem:
    return invalid_request([{"type": "structure", "loc": (), "msg": f"has {what}"}])


def _errors(error: ValidationError, *, is_whole: bool = True) -> Errors:
    """Return the errors of pydantic, without any text of the client."""
    found: Errors = [
        dict(e) for e in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    if not is_whole and _is_malformed(found):
        found[0]["msg"] = _POSITION.sub("", found[0]["msg"])
    return found


def _is_malformed(found: Errors) -> bool:
    return str(found[0]["type"]).startswith("json_")
