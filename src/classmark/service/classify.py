"""``POST /v1/classify``: one paper or a batch, in the event loop if short, else in a thread.

The loop answers nothing that could hold it for more than about a millisecond: see ``is_short``.
"""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from classmark.records import BadRecord, Paper
from classmark.service.answering import Document, Options, bad_record
from classmark.service.batching import Batcher
from classmark.service.body import check_media_type, read_body
from classmark.service.exchange import Exchange, Reply
from classmark.service.problems import Problem, invalid_request
from classmark.service.recording import Question
from classmark.service.schemas import ClassifyOptions, ClassifyRequest
from classmark.service.state import MAX_DIRECT_BODY_BYTES, Service

MAX_DIRECT_COST_CHARS = 12_000
"""The kernel takes a plain text of this length in 0.4 ms, one that is all LaTeX in half as much
again; with the answer around it a millisecond is not exceeded. Longer texts go to a thread."""
NON_ASCII_COST_CHARS = 40
"""Characters beyond ASCII are normalised one by one: a distinct one takes up to 2 us, as long as 80
plain ones; one that comes again takes a tenth of that."""

_REQUEST = TypeAdapter(ClassifyRequest)


async def classify(service: Service, exchange: Exchange) -> Reply:
    """Answer a request for one paper or for many."""
    check_media_type(exchange, b"application/json")
    service.check_backlog(exchange)
    body = await read_body(exchange, service.settings.max_body_bytes)
    exchange.check_deadline()
    if len(body) > MAX_DIRECT_BODY_BYTES:
        return await service.in_thread(
            exchange, lambda: _answer(service, exchange, parse(body)), len(body)
        )
    request = parse(body)
    if request.papers is None and is_short(request):
        if service.batcher is not None:
            return await _answer_in_batch(service, service.batcher, exchange, request)
        if not request.explain:
            return _answer(service, exchange, request)
    return await service.in_thread(exchange, lambda: _answer(service, exchange, request), len(body))


def parse(body: bytes) -> ClassifyRequest:
    """Return a checked request.

    Raises:
        Problem: it is no JSON, or not as the schema says.
    """
    try:
        return _REQUEST.validate_json(body)
    except ValidationError as error:
        raise invalid_request(
            error.errors(include_url=False, include_context=False, include_input=False)
        ) from error


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
    [answer] = await service.in_queue(exchange, answerer.submit(batcher, [question], options))
    document = answerer.publish(question, answer, options, recorder)
    service.metrics.papers_done(document["reason"])
    return Reply(to_json(document))


def _options(exchange: Exchange, request: ClassifyRequest) -> Options:
    return Options(request.top, request.threshold, request.explain, exchange.deadline)


def _answer(service: Service, exchange: Exchange, request: ClassifyRequest) -> Reply:
    """Return the reply to a checked request; runs in the loop or in a thread."""
    recorder = service.recorder(exchange, "classify")
    options = _options(exchange, request)
    answerer = service.answerer
    if request.papers is None:
        document = answerer.answer(answerer.question(request), options, recorder)
        service.metrics.papers_done(document["reason"])
        return Reply(to_json(document))
    _refuse_paper_beside_papers(request)
    check_count(service, len(request.papers))
    questions = [_question(service, paper) for paper in request.papers]
    documents = answerer.answer_many(questions, options, recorder, exchange.check_deadline)
    count_papers(service, exchange, documents)
    return Reply(to_json({"answers": documents, "model": answerer.model}))


def check_count(service: Service, n_papers: int) -> None:
    """Raise a problem if there are more papers than a request may have."""
    most = service.settings.max_papers
    if n_papers > most:
        raise Problem(
            "too_many_papers", f"{n_papers} papers are more than {most}. Send them in parts."
        )


def count_papers(service: Service, exchange: Exchange, documents: list[Document]) -> None:
    """Count the outcomes of a batch."""
    outcomes: dict[str, int] = {}
    for document in documents:
        outcome = document.get("reason", "error")
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    for outcome, n in outcomes.items():
        service.metrics.papers_done(outcome, n)
    exchange.facts["papers"] = len(documents)


def _question(service: Service, paper: Any) -> Question | BadRecord:
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
