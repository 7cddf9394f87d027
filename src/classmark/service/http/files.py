"""``POST /v1/files``: every format of ``papers``, sent as a form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec import structs
from pydantic import ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, create_form_parser

from classmark.errors import ClassmarkError, UsageError
from classmark.neighbours.index import MOST_SIMILAR
from classmark.papers import Columns, parse_columns
from classmark.records import BadRecord, Paper
from classmark.service.answering.answerer import Answerer, AnswerOptions, Question
from classmark.service.http.classify import (
    ANSWERS_AT_ONCE,
    answer_options,
    bad_record,
    json_with,
)
from classmark.service.problems import Problem, invalid_field, invalid_request, shown
from classmark.service.requests.body import check_media_type, read_body
from classmark.service.requests.exchange import Exchange, Reply
from classmark.service.requests.file_reading import Record, read_file
from classmark.service.requests.reader_pool import is_small
from classmark.service.requests.schemas import MAX_TOP, BatchOptions
from classmark.service.requests.threads import ITEM_BYTES, PAPER_BYTES
from classmark.wire import Answer, FileAnswers

if TYPE_CHECKING:
    from classmark.service.http.service import Service

_FORM = b"multipart/form-data"
_MAX_PARTS = 20
_PIECE_BYTES = 64 << 10
SCHEMA = {
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
        "similar": {"type": "integer", "minimum": 0, "maximum": MOST_SIMILAR, "default": 0},
        "authors": {
            "type": "boolean",
            "default": True,
            "description": "Whether the authors of the papers are evidence.",
        },
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


async def classify_file(service: Service, exchange: Exchange) -> Reply:
    """Classify every paper of a file: CSV, TSV, JSON, BibTeX, XML, .xlsx, Parquet or plain text.

    The content decides the format; gzip, bzip2, xz and a zip of one file are looked into.
    """
    check_media_type(exchange, _FORM)
    form = await _receive_form(service, exchange)
    options = _options(exchange, form.values)
    if form.content is None:
        raise invalid_field("file", "is missing; send the file in a form field of this name")
    answerer = service.version_of(exchange).answerer
    columns = answerer.classifier.columns.overruled_by(_columns(form.values))
    found, records = await _read_records(service, exchange, form, columns)
    size = ITEM_BYTES + sum(PAPER_BYTES + record.size_chars for record in records)
    return await service.threads.run(
        exchange, lambda: _answer(answerer, exchange, options, found, records), size
    )


async def _receive_form(service: Service, exchange: Exchange) -> Form:
    """Return the form of a request; its body is not held any longer."""
    body = await read_body(exchange, service.threads, service.settings.max_body_bytes)
    content_type = exchange.headers[b"content-type"]
    return await service.threads.run(
        exchange, lambda: read_form(content_type, body, exchange.check_deadline)
    )


async def _read_records(
    service: Service, exchange: Exchange, form: Form, columns: Columns
) -> tuple[str, list[Record]]:
    """Return the format of a file and its records."""
    content, name = form.content or b"", form.file_name
    if not is_small(content):
        return await service.readers.read(exchange, content, name, columns)

    def read() -> tuple[str, list[Record]]:
        found, records = read_file(
            content, name, service.readers.limits, exchange.check_deadline, columns
        )
        return found, list(records)

    return await service.threads.run(exchange, read)


def _answer(
    answerer: Answerer,
    exchange: Exchange,
    options: AnswerOptions,
    found: str,
    records: list[Record],
) -> Reply:
    questions = [_question(answerer, record) for record in records]
    documents = answerer.answer_many(questions, options, exchange.check_deadline)
    exchange.facts["papers"] = len(documents)
    for i, (document, record) in enumerate(zip(documents, records, strict=True)):
        if isinstance(record, Paper) and isinstance(document, Answer):
            documents[i] = structs.replace(document, title=record.title_line)
    whole = FileAnswers((), found, answerer.model)
    return Reply(json_with(whole, "answers", documents, ANSWERS_AT_ONCE))


def _question(answerer: Answerer, record: Record) -> Question | BadRecord:
    if isinstance(record, BadRecord):
        return record
    try:
        return Question(answerer.checked(record))
    except ClassmarkError as error:
        return bad_record(record.id, error)


def read_form(content_type: bytes, body: bytes, check: Callable[[], None] = lambda: None) -> Form:
    """Return what a form holds.

    Args:
        content_type: with the boundary of the parts.
        body: the form.
        check: called between pieces of the body; raises to end the reading.

    Raises:
        Problem: it is not a form, or has too many parts.
    """
    parts: list[Field | File] = []

    def take(part: Field | File) -> None:
        if len(parts) >= _MAX_PARTS:
            detail = f"the form has more than {_MAX_PARTS} parts. Send one file."
            raise Problem("bad_request", detail)
        parts.append(part)

    try:
        parser = create_form_parser(
            {"Content-Type": content_type},
            take,
            take,
            config={"MAX_MEMORY_FILE_SIZE": len(body) + 1},
        )
        for start in range(0, len(body), _PIECE_BYTES):
            check()
            parser.write(body[start : start + _PIECE_BYTES])
        parser.finalize()
    except (FormParserError, ValueError, AttributeError) as error:
        raise Problem("bad_request", f"the form cannot be read ({shown(str(error))}).") from error
    fields = {_text(p.field_name): p.value or b"" for p in parts if isinstance(p, Field)}
    files = [p for p in parts if isinstance(p, File) and p.field_name == b"file"]
    if len(files) > 1:
        raise invalid_field("file", "occurs twice; send one file at a time")
    content, name = None, ""
    if files:
        files[0].file_object.seek(0)
        content, name = files[0].file_object.read(), _text(files[0].file_name)
    elif "file" in fields:  # curl -F file=text sends a field without a name
        content = fields.pop("file")
    return Form(content, name, {key: _text(value) for key, value in fields.items()})


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "replace")


def _options(exchange: Exchange, values: dict[str, str]) -> AnswerOptions:
    given = {name: value for name, value in values.items() if value and name != "columns"}
    try:
        asked = BatchOptions.model_validate_strings(given)
    except ValidationError as error:
        raise invalid_request(error.errors()) from error
    return answer_options(exchange, "files", asked, authors=asked.authors)


def _columns(values: dict[str, str]) -> Columns:
    try:
        return Columns(given=parse_columns(values.get("columns", "")))
    except UsageError as error:
        raise invalid_field(
            "columns", f"{error}. Write for example title=Headline,abstract=Text"
        ) from error
