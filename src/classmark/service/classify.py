"""``POST /v1/classify``: one paper or a batch, in the event loop if short, else in a thread.

The loop answers nothing that could hold it for more than about a millisecond: see ``is_short``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from classmark.records import BadRecord, Paper
from classmark.service.answering import Document, Options, bad_record
from classmark.service.backlog import work_size
from classmark.service.batching import Batcher
from classmark.service.body import check_media_type, read_body
from classmark.service.exchange import Exchange, Reply
from classmark.service.problems import Problem, invalid_request
from classmark.service.recording import Question
from classmark.service.scan import Elements, find_arrays, too_many_papers, validate, without
from classmark.service.schemas import ClassifyOptions, ClassifyRequest, PaperIn, UnreadPaper
from classmark.service.state import MAX_DIRECT_BODY_BYTES, Service
from classmark.wire import Answer, Batch, Published, to_json

MAX_DIRECT_FIELDS = 256
"""Colons and braces in that JSON: each unknown field takes pydantic 8 us to describe, and each
object, which may be empty, 2 us to make."""
MAX_DIRECT_COST_CHARS = 12_000
"""The kernel takes a plain text of this length in 0.4 ms, one that is all LaTeX in half as much
again; with the answer around it a millisecond is not exceeded. Longer texts go to a thread."""
NON_ASCII_COST_CHARS = 40
"""Characters beyond ASCII are normalised one by one: a distinct one takes up to 2 us, as long as 80
plain ones; one that comes again takes a tenth of that."""

ANSWERS_AT_ONCE = 16
"""Written in one go: some 50 us."""

BYTES_PER_CHAR = 6
"""Of JSON: ``\\uXXXX``. Only a text of mostly escaped emoji has more; parsing it would hold the
interpreter for more than some 5 ms."""
SPARE_BYTES = 64 << 10
"""For everything of a paper beside its text."""

_REQUEST = TypeAdapter(ClassifyRequest)
_PAPERS: TypeAdapter[list[PaperIn]] = TypeAdapter(Annotated[list[PaperIn], Field(fail_fast=True)])


async def classify(service: Service, exchange: Exchange) -> Reply:
    """Answer a request for one paper or for many."""
    check_media_type(exchange, b"application/json")
    service.check_backlog(exchange)
    body = await read_body(service, exchange, service.settings.max_body_bytes)
    exchange.check_deadline()
    size = work_size(body, service.settings.max_papers)
    if not may_be_parsed_at_once(body):
        return await service.in_thread(
            exchange, lambda: _answer(service, exchange, parse(service, exchange, body)), size
        )
    try:
        request = _REQUEST.validate_json(body)
    except ValidationError:
        request = parse(service, exchange, body)  # says more exactly what is wrong
    if request.papers is None and is_short(request):
        if service.batcher is not None:
            return await _answer_in_batch(service, service.batcher, exchange, request)
        if not request.explain:
            return _answer(service, exchange, request)
    return await service.in_thread(exchange, lambda: _answer(service, exchange, request), size)


def may_be_parsed_at_once(body: bytes) -> bool:
    """Tell whether a body may be parsed in the event loop, in one call."""
    return (
        len(body) <= MAX_DIRECT_BODY_BYTES
        and body.count(b":") + body.count(b"{") <= MAX_DIRECT_FIELDS
    )


def parse(service: Service, exchange: Exchange, body: bytes) -> ClassifyRequest:
    """Return a checked request; a batch is validated in pieces.

    Raises:
        Problem: it is no JSON, not as the schema says, or larger than it may be.
    """
    arrays = find_arrays(body, [b"papers"], service.settings.max_papers)
    batches = [array for array in arrays if array.elements]
    if len(batches) > 1:
        raise invalid_request([{"type": "twice", "loc": ("papers",), "msg": "is there twice"}])
    rest = without(body, batches, [b"null"] * len(batches))
    longest = longest_paper_bytes(service)
    if len(rest) > longest:
        raise too_long(service)
    request = validate(_REQUEST, rest, is_whole=not batches)
    if batches:
        papers = Elements(
            _PAPERS, ("papers",), longest, lambda: UnreadPaper(text=None, author_category=None)
        )
        request.papers = papers.validate(body, batches[0], exchange.check_deadline)
    return request


def longest_paper_bytes(service: Service) -> int:
    """Return how many bytes of JSON a paper may have; a longer one is not parsed."""
    return BYTES_PER_CHAR * service.settings.max_text_chars + SPARE_BYTES


def too_long(service: Service) -> Problem:
    """Return the problem of a text that is so long that it is not even parsed."""
    most = service.settings.max_text_chars
    return Problem(
        "text_too_long",
        f"the text takes more than {longest_paper_bytes(service):,} bytes of JSON, too many for "
        f"{most:,} characters. Send title and abstract, not the whole paper.",
    )


def is_short(request: ClassifyRequest) -> bool:
    """Tell whether one paper may be answered in the event loop."""
    return sum(_cost_chars(t) for t in (request.title, request.abstract, request.text) if t) <= (
        MAX_DIRECT_COST_CHARS
    )


def _cost_chars(text: str) -> int:
    if text.isascii():
        return len(text)
    return len(text) + NON_ASCII_COST_CHARS * (len(text.encode()) - len(text))


async def _answer_in_batch(
    service: Service, batcher: Batcher, exchange: Exchange, request: ClassifyRequest
) -> Reply:
    """Return the reply to one paper for a deep model; the loop is free while it waits."""
    recorder = service.recorder(exchange, "classify")
    options = _options(exchange, request)
    answerer = service.answerer
    question = answerer.question(request)
    [scored] = await service.in_queue(exchange, answerer.submit(batcher, [question], options))
    answer = answerer.publish(question, scored, options, recorder)
    service.metrics.papers_done(answer.reason)
    return Reply(to_json(answer))


def _options(exchange: Exchange, request: ClassifyRequest) -> Options:
    return Options(request.top, request.threshold, request.explain, exchange.deadline)


def _answer(service: Service, exchange: Exchange, request: ClassifyRequest) -> Reply:
    """Return the reply to a checked request; runs in the loop or in a thread."""
    recorder = service.recorder(exchange, "classify")
    options = _options(exchange, request)
    answerer = service.answerer
    if request.papers is None:
        answer = answerer.answer(answerer.question(request), options, recorder)
        service.metrics.papers_done(answer.reason)
        return Reply(to_json(answer))
    _refuse_paper_beside_papers(request)
    check_count(service, len(request.papers))
    questions = [_question(service, exchange, paper) for paper in request.papers]
    documents = answerer.answer_many(questions, options, recorder, exchange.check_deadline)
    count_papers(service, exchange, documents)
    return Reply(json_with(Batch((), answerer.model), "answers", documents, ANSWERS_AT_ONCE))


def json_with(whole: Published, name: str, values: Sequence[Any], at_once: int) -> bytes:
    """Return the JSON of an object whose field ``name``, empty so far, holds these values."""
    before, after = to_json(whole).split(b'"%s":[]' % name.encode())
    return b'%s"%s":%s%s' % (before, name.encode(), list_json(values, at_once), after)


def list_json(values: Sequence[Any], at_once: int) -> bytes:
    """Return the JSON of a list that may be long; the event loop runs between two parts of it."""
    starts = range(0, len(values), at_once)
    return b"[%s]" % b",".join([to_json(values[i : i + at_once])[1:-1] for i in starts])


def check_count(service: Service, n_papers: int) -> None:
    """Raise a problem if there are more papers than a request may have."""
    most = service.settings.max_papers
    if n_papers > most:
        raise too_many_papers(most)


def count_papers(service: Service, exchange: Exchange, documents: list[Document]) -> None:
    """Count the outcomes of a batch."""
    outcomes = Counter(d.reason if isinstance(d, Answer) else "error" for d in documents)
    for outcome, n in outcomes.items():
        service.metrics.papers_done(outcome, n)
    exchange.facts["papers"] = len(documents)


def _question(service: Service, exchange: Exchange, paper: PaperIn) -> Question | BadRecord:
    exchange.check_deadline()  # the nearest names of an unknown category take a millisecond
    if isinstance(paper, UnreadPaper):
        return bad_record(None, too_long(service))
    try:
        return service.answerer.question(paper)
    except Problem as problem:
        return bad_record(paper.id, problem)


def _refuse_paper_beside_papers(request: ClassifyRequest) -> None:
    options = ClassifyOptions.model_fields.keys()
    beside = sorted(request.model_fields_set - options - {"papers"})
    if beside:
        raise Problem(
            "invalid_request",
            f"{beside[0]}: stands beside papers. Put it into the papers, or send one paper alone.",
            errors=[{"field": name, "message": "beside papers"} for name in beside],
        )


def questions_of(service: Service, records: list[Paper | BadRecord]) -> list[Question | BadRecord]:
    """Return the questions that the records of a file ask."""
    questions: list[Question | BadRecord] = []
    for record in records:
        if isinstance(record, BadRecord):
            questions.append(record)
            continue
        try:
            questions.append(Question(service.answerer.checked(record)))
        except Problem as problem:
            questions.append(bad_record(record.id, problem))
    return questions
