"""JSON papers: one object a line (the arXiv metadata dump too), or one document, streamed."""

from __future__ import annotations

import codecs
import itertools
import json
import re
from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import BinaryIO

import msgspec

from classmark.errors import UnreadableSource
from classmark.papers.columns import (
    SEEN_KEYS,
    ReadOptions,
    first_value,
    listed,
    offered,
    shown,
    texts_sought,
)
from classmark.papers.fields import Place, build_paper
from classmark.papers.files.jsonrecords import with_usual_keys, wrapped_records
from classmark.papers.files.lines import UTF8_BOM, read_lines
from classmark.records import BadRecord, Paper

_CHUNK_BYTES = 1 << 16
_BLANK = " \t\r\n\ufeff"
"""With the mark that a file begins with, which is amid the text where files were joined."""
_NOT_BLANK = re.compile(f"[^{_BLANK}]")


def read_json_lines(
    stream: BinaryIO, options: ReadOptions, first_line: int = 1
) -> Iterator[Paper | BadRecord]:
    """Yield the papers of JSON lines; blank lines are passed over.

    Args:
        stream: from the start of a line.
        options: how to read.
        first_line: number of the first line, for a stream that is a part of a file.
    """
    for line in read_lines(stream, options.max_record_bytes, first_line):
        place = Place("line", line.number)
        if line.problem is not None:
            yield place.bad(line.problem.kind, line.problem.message)
        elif text := line.text.strip(_BLANK):
            yield from _read_line(text, place, options)


def read_json_document(stream: BinaryIO, options: ReadOptions) -> Iterator[Paper | BadRecord]:
    """Yield the papers of JSON arrays and objects, over any number of lines, one by one.

    Several may follow each other, as in files that were joined. Broken JSON ends the reading,
    since it cannot be split into records after that.

    Raises:
        UnreadableSource: the document is not UTF-8.
    """
    buffer = _Buffer(stream, options)
    numbers = itertools.count(1)
    goes_on = True
    while goes_on and (character := buffer.next_character()):
        if character == "[":
            goes_on = yield from _read_array(buffer, numbers, options)
        else:
            goes_on = yield from _read_value(buffer, Place("item", next(numbers)), options)


def _read_array(
    buffer: _Buffer, numbers: Iterator[int], options: ReadOptions
) -> Generator[Paper | BadRecord, None, bool]:
    """Yield the papers of an array; return whether it can be read to its end."""
    buffer.drop(1)
    is_first = True
    while (character := buffer.next_character()) != "]":
        place = Place("item", next(numbers))
        if not is_first:
            if character != ",":
                yield place.bad("broken_json", _missing_separator(character))
                return False
            buffer.drop(1)
        if not (yield from _read_value(buffer, place, options)):
            return False
        is_first = False
    buffer.drop(1)
    return True


def _read_value(
    buffer: _Buffer, place: Place, options: ReadOptions
) -> Generator[Paper | BadRecord, None, bool]:
    """Yield the papers of the next value; return whether it can be read."""
    value = buffer.take_value(place)
    if isinstance(value, BadRecord):
        yield replace(value, message=f"{value.message}; what follows it is not read")
        return False
    yield from _papers_of(value, place, options)
    return True


def _missing_separator(character: str) -> str:
    if not character:
        return "the array does not end with ']'"
    return f"',' or ']' was expected, got {shown(character)}; what follows it is not read"


def _read_line(text: str, place: Place, options: ReadOptions) -> Iterator[Paper | BadRecord]:
    try:
        value = _decoded(text)
    except (ValueError, RecursionError) as error:
        yield place.bad("broken_json", _why(error, text))
    else:
        yield from _papers_of(value, place, options)


def _decoded(text: str) -> object:
    """Return a JSON value; NaN and halves of surrogate pairs are read too.

    Raises:
        ValueError, RecursionError: as ``json.loads`` does.
    """
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        # Slower, and takes all that the first takes, to the same value.
        return _without_surrogates(json.loads(text), text)


def _papers_of(value: object, place: Place, options: ReadOptions) -> Iterator[Paper | BadRecord]:
    """Yield the paper of a decoded value, or those of the list that it wraps."""
    records = wrapped_records(value)
    if records is None:
        yield paper_from_object(value, place, options)
        return
    for number, record in enumerate(records, 1):
        inner = Place(f"{place}, item", number, page=place.number)
        yield paper_from_object(record, inner, options)


def paper_from_object(record: object, place: Place, options: ReadOptions) -> Paper | BadRecord:
    """Return the paper of one decoded JSON value, or what was wrong with it."""
    if not isinstance(record, dict):
        return place.bad("wrong_type", f"a JSON object was expected, got {shown(record)}")
    lowered = {str(key).strip().lower(): value for key, value in record.items()}
    lowered = with_usual_keys(lowered)
    values = {name: first_value(lowered.get, keys) for name, keys in options.sought.items()}
    if lowered.keys().isdisjoint((*options.sought["title"], *options.sought["abstract"])):
        as_written = {str(key).strip().lower(): str(key).strip() for key in record}
        seen = [as_written.get(key, key) for key in lowered]
        message = f"no {texts_sought(options)}; keys seen: {listed(seen)}. {options.columns.advice}"
        bad = place.bad("missing_field", message, _own_id(values["id"]))
        return replace(bad, columns_seen=offered(seen, SEEN_KEYS))
    return build_paper(values, place, options)


def _why(error: Exception, text: str) -> str:
    """Return what broke; for a very deep or long value Python names only the limit."""
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON ({error.msg} at character {error.pos + 1}): {shown(text[:80])}"
    return f"not readable JSON ({str(error)[:80]}): {shown(text[:80])}"


def _own_id(value: object) -> str | None:
    return str(value) if isinstance(value, str | int) else None


def _without_surrogates(value: object, source: str) -> object:
    """Replace halves of surrogate pairs, which JSON can escape but UTF-8 cannot write."""
    if "\\u" not in source:
        return value
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {
            _without_surrogates(key, source): _without_surrogates(item, source)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_without_surrogates(item, source) for item in value]
    return value


class _Buffer:
    """The part of a JSON document that is being decoded; grows to at most one record."""

    def __init__(self, stream: BinaryIO, options: ReadOptions) -> None:
        self._stream = stream
        self._options = options
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._start = 0
        self._read_bytes = 0
        self._at_end = False
        self._json = json.JSONDecoder()

    def next_character(self) -> str:
        """Return the next character that is not blank, "" at the end of the document."""
        while (first := _NOT_BLANK.search(self._text, self._start)) is None:
            self._start = len(self._text)
            if self._at_end:
                return ""
            self._grow(_CHUNK_BYTES)
        self._start = first.start()
        return first[0]

    def drop(self, n_characters: int) -> None:
        """Pass over characters that have been looked at."""
        self._start += n_characters

    def take_value(self, place: Place) -> object:
        """Return the next JSON value, or the bad record in its place."""
        self.next_character()
        while True:
            try:
                value, end = self._json.raw_decode(self._text, self._start)
                value = _without_surrogates(value, self._text[self._start : end])
            except (ValueError, RecursionError) as error:
                # Broken and incomplete look alike, so a broken record is read to the limit.
                if isinstance(error, RecursionError) or self._at_end:
                    return place.bad("broken_json", self._why(error))
                n_held = len(self._text) - self._start
                if n_held > self._options.max_record_bytes:
                    limit = self._options.max_record_bytes
                    return place.bad(
                        "too_long", f"no JSON value ends within the limit of {limit} bytes"
                    )
                self._grow(max(_CHUNK_BYTES, n_held))
                continue
            self._start = end
            return value

    def _why(self, error: Exception) -> str:
        # The message counts from the start of the value, wherever the buffer holds it.
        value = self._text[self._start :]
        if isinstance(error, json.JSONDecodeError):
            error = json.JSONDecodeError(error.msg, value, error.pos - self._start)
        return _why(error, value)

    def _grow(self, n_bytes: int) -> None:
        """Read on, and forget what has been taken.

        Only here: to cut every value off the text would copy all that is behind it each time.
        """
        raw = self._stream.read(n_bytes)
        if self._read_bytes == 0:
            raw = raw.removeprefix(UTF8_BOM)
        self._at_end = not raw
        try:
            more = self._decoder.decode(raw, final=self._at_end)
        except UnicodeDecodeError as error:
            raise UnreadableSource(
                f"{self._options.name} is not UTF-8 near byte {self._read_bytes + error.start}. "
                "Convert it to UTF-8."
            ) from error
        self._text = self._text[self._start :] + more
        self._start = 0
        self._read_bytes += len(raw)
