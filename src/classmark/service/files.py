"""``POST /v1/files``: every format of ``papers``, sent as a form."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from fastapi import FastAPI
from msgspec import structs
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import create_form_parser

from classmark.errors import UsageError
from classmark.papers import Columns, parse_columns
from classmark.records import Paper
from classmark.service.answering import Options
from classmark.service.backlog import ITEM_BYTES, PAPER_BYTES
from classmark.service.body import check_media_type, read_body
from classmark.service.classify import ANSWERS_AT_ONCE, count_papers, json_with, questions_of
from classmark.service.examples import FILE
from classmark.service.exchange import Exchange, Reply
from classmark.service.limits import client_of
from classmark.service.problems import Problem, shown
from classmark.service.readers import is_small
from classmark.service.reading import Record, read_file
from classmark.service.routes import add_route, as_route
from classmark.service.schemas import MAX_TOP
from classmark.service.state import Service
from classmark.wire import Answer, FileAnswers

_FORM = b"multipart/form-data"
_TRUE, _FALSE = {"true", "1", "yes", "on"}, {"false", "0", "no", "off", ""}
_MAX_PARTS = 20
_PIECE_BYTES = 64 << 10
_SCHEMA = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {
            "type": "string",
            "format": "binary",
            "description": "CSV, BibTeX, RIS, ...",
        },
        "top": {"type": "integer", "minimum": 1, "maximum": MAX_TOP, "default": 5},
        "threshold": {"type": "number", "minimum": 0, "maximum": 1},
        "explain": {"type": "boolean", "default": False},
        "columns": {
            "type": "string",
            "description": "Names of columns or keys, where they are not the usual ones: "
            "FIELD=COLUMN,... or a JSON object. Those of the model are sought by themselves.",
            "examples": ["title=Titel,abstract=Zusammenfassung"],
        },
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
        response_model=FileAnswers,
        tags=["classify"],
        summary="Classify the papers of a file",
        openapi_extra={"requestBody": {"required": True, "content": content}},
    )


async def classify_file(service: Service, exchange: Exchange) -> Reply:
    """Classify every paper of a file: CSV, TSV, JSON, BibTeX, XML, .xlsx, Parquet or plain text.

    The content decides the format; gzip, bzip2, xz and a zip of one file are looked into.
    """
    check_media_type(exchange, _FORM)
    form = await _receive_form(service, exchange)
    options = replace(_options(form.values), deadline=exchange.deadline)
    if form.content is None:
        raise _invalid("file", "is missing; send the file in a form field of this name")
    columns = service.answerer.classifier.columns.overruled_by(_columns(form.values))
    found, records = await _read(service, exchange, form, columns)
    size = ITEM_BYTES + sum(PAPER_BYTES + record.size_chars for record in records)
    return await service.in_thread(
        exchange, lambda: _answer(service, exchange, options, found, records), size
    )


async def _receive_form(service: Service, exchange: Exchange) -> Form:
    """Return the form of a request; its body is not held any longer."""
    body = await read_body(service, exchange, service.settings.max_body_bytes)
    content_type = exchange.headers.get(b"content-type", b"")
    return await service.in_thread(
        exchange, lambda: read_form(content_type, body, exchange.check_deadline)
    )


async def _read(
    service: Service, exchange: Exchange, form: Form, columns: Columns
) -> tuple[str, list[Record]]:
    """Return the format of a file and its records."""
    content, name = form.content or b"", form.file_name
    if not is_small(content):
        return await service.readers.read(exchange, client_of(exchange), content, name, columns)

    def read() -> tuple[str, list[Record]]:
        found, records = read_file(
            content, name, service.file_limits, exchange.check_deadline, columns
        )
        return found, list(records)

    return await service.in_thread(exchange, read)


def _answer(
    service: Service, exchange: Exchange, options: Options, found: str, records: list[Record]
) -> Reply:
    recorder = service.recorder(exchange, "files")
    documents = service.answerer.answer_many(
        questions_of(service, records), options, recorder, exchange.check_deadline
    )
    count_papers(service, exchange, documents)
    titled = [
        structs.replace(document, title=record.title_line)
        if isinstance(record, Paper) and isinstance(document, Answer)
        else document
        for document, record in zip(documents, records, strict=True)
    ]
    whole = FileAnswers((), found, service.answerer.model)
    return Reply(json_with(whole, "answers", titled, ANSWERS_AT_ONCE))


def read_form(content_type: bytes, body: bytes, check: Callable[[], None] = lambda: None) -> Form:
    """Return what a form holds.

    Args:
        content_type: with the boundary of the parts.
        body: the form.
        check: called between pieces of the body; raises to end the reading.

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
        for start in range(0, len(body), _PIECE_BYTES):
            check()
            parser.write(body[start : start + _PIECE_BYTES])
        parser.finalize()
    except (FormParserError, ValueError, AttributeError) as error:
        raise Problem("bad_request", f"the form cannot be read ({shown(str(error))}).") from error
    name, content = files[0] if files else ("", None)
    if content is None and "file" in fields:  # curl -F file=text sends a field without a name
        content = fields.pop("file").encode()
    return Form(content, name, fields)


def _options(values: dict[str, str]) -> Options:
    unknown = sorted(values.keys() - {"top", "threshold", "explain", "columns"})
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


def _columns(values: dict[str, str]) -> Columns:
    try:
        return Columns(given=parse_columns(values.get("columns", "")))
    except UsageError as error:
        raise _invalid(
            "columns", f"{error}. Write for example title=Headline,abstract=Text"
        ) from error


def _refuse_many(n_parts: int) -> None:
    if n_parts >= _MAX_PARTS:
        raise Problem("bad_request", f"the form has more than {_MAX_PARTS} parts. Send one file.")


def _invalid(field: str, message: str) -> Problem:
    return Problem(
        "invalid_request", f"{field}: {message}.", errors=[{"field": field, "message": message}]
    )
