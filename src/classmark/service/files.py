"""``POST /v1/files``: every format of ``papers``, sent as a form."""

from __future__ import annotations

import io
import itertools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, cast

from fastapi import FastAPI
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import create_form_parser

from classmark.errors import ClassmarkError
from classmark.papers import read_papers
from classmark.papers.detect import format_of
from classmark.papers.sources import PREFIX_BYTES, Source, open_stream
from classmark.records import BadRecord, Paper
from classmark.service.answering import Options
from classmark.service.body import check_media_type, read_body
from classmark.service.classify import answers_json, check_count, count_papers, questions_of
from classmark.service.examples import FILE
from classmark.service.exchange import Exchange, Reply
from classmark.service.problems import Problem, shown
from classmark.service.routes import add_route, as_route
from classmark.service.schemas import MAX_TOP, FilesOut
from classmark.service.state import Service

_FORM = b"multipart/form-data"
_FILE_NAME = "the file"
_TRUE, _FALSE = {"true", "1", "yes", "on"}, {"false", "0", "no", "off", ""}
_MAX_PARTS = 20
_BIBTEX_BLOCK = re.compile(rb"@\w*[ \t]*[{(]")
_BLOCKS_A_PAPER = 4
"""More blocks are not only strings and comments; each takes the parser 0.1 ms and 1 KB."""
_SCHEMA = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "CSV, JSONL, BibTeX, ..."},
        "top": {"type": "integer", "minimum": 1, "maximum": MAX_TOP, "default": 5},
        "threshold": {"type": "number", "minimum": 0, "maximum": 1},
        "explain": {"type": "boolean", "default": False},
    },
}


@dataclass
class Form:
    """What a form holds.

    Attributes:
        content: of the file, None if there is none.
        file_name: as the client called it; only its ending is looked at.
        values: of the other fields.
    """

    content: bytes | None
    file_name: str
    values: dict[str, str]


def add_routes(app: FastAPI, service: Service) -> None:
    """Add the endpoint for files."""
    content = {"multipart/form-data": {"schema": _SCHEMA, "examples": {"file": FILE}}}
    add_route(
        app,
        "/v1/files",
        as_route(service, classify_file),
        "classify",
        methods=["POST"],
        response_model=FilesOut,
        tags=["classify"],
        summary="Classify the papers of a file",
        openapi_extra={"requestBody": {"required": True, "content": content}},
    )


async def classify_file(service: Service, exchange: Exchange) -> Reply:
    """Classify every paper of a file: CSV, TSV, JSON lines, JSON, BibTeX, Parquet or plain text.

    The content decides the format; gzip and a zip of one file are looked into.
    """
    check_media_type(exchange, _FORM)
    body = await read_body(exchange, service.settings.max_body_bytes)
    return await service.in_thread(
        exchange, lambda: _answer(service, exchange, body), len(body), is_file=True
    )


def _answer(service: Service, exchange: Exchange, body: bytes) -> Reply:
    form = read_form(exchange.headers.get(b"content-type", b""), body)
    options = replace(_options(form.values), deadline=exchange.deadline)
    if form.content is None:
        raise _invalid("file", "is missing; send the file in a form field of this name")
    found, records = _read(service, exchange, form)
    recorder = service.recorder(exchange, "files")
    documents = service.answerer.answer_many(
        questions_of(service, records), options, recorder, exchange.check_deadline
    )
    count_papers(service, exchange, documents)
    return Reply(answers_json(documents, format=found, model=service.answerer.model))


def read_form(content_type: bytes, body: bytes) -> Form:
    """Return what a form holds.

    Raises:
        Problem: it is no form, or has too many parts.
    """
    fields: dict[str, str] = {}
    files: list[tuple[str, bytes]] = []
    count = itertools.count()

    def on_field(field: Any) -> None:
        _refuse_many(next(count))
        fields[field.field_name.decode("utf-8", "replace")] = (field.value or b"").decode(
            "utf-8", "replace"
        )

    def on_file(file: Any) -> None:
        _refuse_many(next(count))
        file.file_object.seek(0)
        content = file.file_object.read()
        file.close()
        if file.field_name == b"file":
            if files:
                raise _invalid("file", "is there twice; send one file at a time")
            files.append(((file.file_name or b"").decode("utf-8", "replace"), content))

    try:
        parser = create_form_parser(
            {"Content-Type": content_type},
            on_field,
            on_file,
            config={"MAX_MEMORY_FILE_SIZE": len(body) + 1},
        )
        parser.write(body)
        parser.finalize()
    except (FormParserError, ValueError, AttributeError) as error:
        raise Problem("bad_request", f"the form cannot be read ({shown(str(error))}).") from error
    name, content = files[0] if files else ("", None)
    if content is None and "file" in fields:  # curl -F file=text sends a field without a name
        content = fields.pop("file").encode()
    return Form(content, name, fields)


def _read(service: Service, exchange: Exchange, form: Form) -> tuple[str, list[Paper | BadRecord]]:
    """Return the format of the file and its records."""
    most = service.settings.max_papers
    try:
        source = open_stream(
            io.BytesIO(form.content or b""), name=_FILE_NAME, file_name=form.file_name
        )
        found = format_of(source, {})
        records: list[Paper | BadRecord] = []
        for record in read_papers(
            _bounded(service, exchange, source, found),
            format=found,
            max_record_bytes=service.settings.max_body_bytes,
        ):
            records.append(record)
            if len(records) > most:
                check_count(service, len(records))
            exchange.check_deadline()
    except ClassmarkError as error:
        message = str(error).replace("standard input", _FILE_NAME)
        raise Problem("unreadable_source", message) from error
    return found, records


def _bounded(service: Service, exchange: Exchange, source: Source, found: str) -> BinaryIO:
    """Return the stream of a source, which ends the reading when the deadline has passed.

    BibTeX and Parquet are parsed as a whole, without looking at the time; of BibTeX it is known
    before how many blocks there are.

    Raises:
        Problem: there are far too many blocks.
    """
    if found == "parquet" and source.seekable is not None:
        return source.seekable
    stream = cast(BinaryIO, io.BufferedReader(_Timed(source.stream, exchange.check_deadline)))
    if found != "bibtex":
        return stream
    content = stream.read(service.settings.max_body_bytes + 1)
    n_blocks = sum(1 for _ in _BIBTEX_BLOCK.finditer(content))
    if n_blocks > _BLOCKS_A_PAPER * service.settings.max_papers:
        check_count(service, n_blocks)
    return io.BytesIO(content)


class _Timed(io.RawIOBase):
    """A decompressed stream; reading it past the deadline ends.

    A small piece of what is compressed can hold a great many lines, so it is not enough to look
    at the time when that is read.
    """

    def __init__(self, stream: BinaryIO, check: Callable[[], None]) -> None:
        self._read = getattr(stream, "read1", stream.read)
        self._check = check

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._check()
        chunk = self._read(min(len(buffer), PREFIX_BYTES))
        buffer[: len(chunk)] = chunk
        return len(chunk)


def _options(values: dict[str, str]) -> Options:
    unknown = sorted(values.keys() - {"top", "threshold", "explain"})
    if unknown:
        raise _invalid(shown(unknown[0]), "is no field of this form")
    return Options(_top(values), _threshold(values), _explain(values))


def _top(values: dict[str, str]) -> int:
    text = values.get("top", "5")
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= MAX_TOP):
        raise _invalid("top", f"must be a whole number from 1 to {MAX_TOP}")
    return int(text)


def _threshold(values: dict[str, str]) -> float | None:
    if not values.get("threshold"):
        return None
    try:
        threshold = float(values["threshold"])
    except ValueError:
        threshold = math.nan
    if not 0 <= threshold <= 1:
        raise _invalid("threshold", "must be a number within 0..1")
    return threshold


def _explain(values: dict[str, str]) -> bool:
    text = values.get("explain", "").lower()
    if text not in _TRUE | _FALSE:
        raise _invalid("explain", "must be true or false")
    return text in _TRUE


def _refuse_many(n_parts: int) -> None:
    if n_parts >= _MAX_PARTS:
        raise Problem("bad_request", f"the form has more than {_MAX_PARTS} parts. Send one file.")


def _invalid(field: str, message: str) -> Problem:
    return Problem(
        "invalid_request", f"{field}: {message}.", errors=[{"field": field, "message": message}]
    )
