"""``POST /v1/classify``: one paper or a batch, in the event loop if short, else in a thread.

The loop answers nothing that could hold it for more than about a millisecond: see ``is_short``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from classmark.errors import ClassmarkError
from classmark.records import BadRecord, Paper
from classmark.service.answering.answerer import Answerer, AnswerOptions, Document, Question
from classmark.service.answering.batching import Batcher
from classmark.service.problems import Problem, invalid_field, problem_of
from classmark.service.requests.body import MAX_DIRECT_BODY_BYTES, check_media_type, read_body
from classmark.service.requests.exchange import Exchange, Reply
from classmark.service.requests.scan import (
    Elements,
    find_arrays,
    too_many_papers,
    validate,
    without,
)
from classmark.service.requests.schemas import (
    NO_AUTHORS,
    BatchOptions,
    ClassifyOptions,
    ClassifyRequest,
    PaperIn,
    UnreadPaper,
)
from classmark.service.requests.threads import work_size
from classmark.service.requests.tracing import step
from classmark.wire import Batch, ModelRef, Published, to_json

if TYPE_CHECKING:
    from classmark.records import PredictionSource
    from classmark.service.http.service import Service

MAX_DIRECT_FIELDS = 256
"""Colons and braces in JSON that the event loop parses: each unknown field takes pydantic 8 us to
describe, and each object, which may be empty, 2 us to make."""
MAX_DIRECT_COST_CHARS = 12_000
"""The kernel takes a plain text of this length in 0.4 ms, one that is all LaTeX in half as much
again; with the answer around it a millisecond is not exceeded. Longer texts go to a thread."""
NON_ASCII_COST_CHARS = 40
"""Characters beyond ASCII are normalised one by one: a distinct one takes up to 2 us, as long as 80
plain ones; one that comes again takes a tenth of that."""
AUTHOR_COST_CHARS = 30
"""A character of the authors takes as long as this many of a plain text: a name is read in 3 us,
and what its author wrote before is counted in 8."""

ANSWERS_AT_ONCE = 16
"""Written in one go: some 50 us."""

BYTES_PER_CHAR = 6
"""Of JSON: ``\\uXXXX``. Only a text of mostly escaped emoji has more; parsing it would hold the
interpreter for more than some 5 ms."""
SPARE_BYTES = 64 << 10
"""For everything of a paper except its text."""

_REQUEST = TypeAdapter(ClassifyRequest)
_PAPERS: TypeAdapter[list[PaperIn]] = TypeAdapter(Annotated[list[PaperIn], Field(fail_fast=True)])


def check_backlog(service: Service, exchange: Exchange) -> None:
    """Refuse a request before its body is read if its answer could not be ready in time.

    Raises:
        Overloaded: too much waits for a thread, or for the deep model.
    """
    batcher = service.version_of(exchange).answerer.batcher
    if batcher is not None:
        batcher.backlog.check(exchange.remaining_s)
    stated = exchange.stated_body_bytes
    if stated > MAX_DIRECT_BODY_BYTES:
        service.threads.backlog.check(exchange.remaining_s, stated)


def check_count(n_papers: int, most: int) -> None:
    """Raise a problem if there are more papers than a request may have."""
    if n_papers > most:
        raise too_many_papers(most)


def longest_paper_bytes(service: Service) -> int:
    """Return the maximum bytes of JSON of a paper; a longer one is not parsed."""
    return BYTES_PER_CHAR * service.settings.max_text_chars + SPARE_BYTES


def too_long(service: Service) -> Problem:
    """Return the problem of a text that is too long to be parsed."""
    return Problem(
        "text_too_long",
        f"the text takes more than {longest_paper_bytes(service):,} bytes of JSON, too many for "
        f"{service.settings.max_text_chars:,} characters. Send title and abstract, not the whole "
        "paper.",
    )


async def classify(service: Service, exchange: Exchange) -> Reply:
    """Answer a request for one paper or for many."""
    check_media_type(exchange, b"application/json")
    check_backlog(service, exchange)
    body = await read_body(exchange, service.threads, service.settings.max_body_bytes)
    exchange.check_deadline()
    size = work_size(body, service.settings.max_papers)
    if not may_be_parsed_at_once(body):
        return await service.threads.run(
            exchange, lambda: _answer(service, exchange, parse(service, exchange, body)), size
        )
    try:
        request = _REQUEST.validate_json(body)
    except ValidationError:
        request = parse(service, exchange, body)  # says more exactly what is wrong
    if request.papers is None and is_short(request):
        answerer = service.version_of(exchange).answerer
        if answerer.batcher is not None:
            return await _answer_in_batch(answerer, answerer.batcher, exchange, request)
        if not request.explain and not request.similar:
            return _answer(service, exchange, request)
    return await service.threads.run(exchange, lambda: _answer(service, exchange, request), size)


def may_be_parsed_at_once(body: bytes) -> bool:
    """Return whether a body may be parsed in the event loop, in one call."""
    if len(body) > MAX_DIRECT_BODY_BYTES:
        return False
    return body.count(b":") + body.count(b"{") <= MAX_DIRECT_FIELDS


def parse(service: Service, exchange: Exchange, body: bytes) -> ClassifyRequest:
    """Return a checked request; a batch is validated in pieces.

    Raises:
        Problem: it is not JSON, does not match the schema, or is too large.
    """
    arrays = find_arrays(body, [b"papers"], service.settings.max_papers)
    batches = [array for array in arrays if array.elements]
    if len(batches) > 1:
        raise invalid_field("papers", "occurs twice")
    rest = without(body, batches, [b"null"] * len(batches))
    longest = longest_paper_bytes(service)
    if len(rest) > longest:
        raise too_long(service)
    request = validate(_REQUEST, rest, is_whole=not batches)
    if batches:
        papers = Elements(
            _PAPERS,
            ("papers",),
            longest,
            lambda: UnreadPaper(text=None, authors=None, author_category=None),
        )
        request.papers = papers.validate(body, batches[0], exchange.check_deadline)
    return request


def is_short(request: ClassifyRequest) -> bool:
    """Return whether one paper may be answered in the event loop."""
    texts = (request.title, request.abstract, request.text)
    cost = sum(_cost_chars(text) for text in texts if text)
    names = names_of(request)
    n_chars = len(names) if isinstance(names, str) else sum(len(name) + 1 for name in names)
    return cost + AUTHOR_COST_CHARS * n_chars <= MAX_DIRECT_COST_CHARS


def _cost_chars(text: str) -> int:
    if text.isascii():
        return len(text)
    return len(text) + NON_ASCII_COST_CHARS * (len(text.encode()) - len(text))


async def _answer_in_batch(
    answerer: Answerer, batcher: Batcher, exchange: Exchange, request: ClassifyRequest
) -> Reply:
    """Return the reply to one paper for a deep model; the loop is free while it waits."""
    options = answer_options(exchange, "classify", request)
    question = question_of(answerer, request)
    with step(options.trace, "score"):
        [scored] = await exchange.wait_for(answerer.submit(batcher, [question], options))
    return Reply(to_json(answerer.finish(question, scored, options)))


def answer_options(
    exchange: Exchange, source: PredictionSource, asked: ClassifyOptions, *, authors: bool = True
) -> AnswerOptions:
    """Return how to answer a request that came to an endpoint.

    Args:
        exchange: with its deadline.
        source: the endpoint.
        asked: what the request says.
        authors: whether the authors of its papers are evidence.
    """
    return AnswerOptions(
        top=asked.top,
        threshold=asked.threshold,
        explain=asked.explain,
        deadline=exchange.deadline,
        source=source,
        started=exchange.started,
        idempotency_key=exchange.idempotency_key(),
        similar=asked.similar,
        authors=authors,
        client="" if exchange.key is None else exchange.key.id,
        trace=exchange.trace,
    )


def _answer(service: Service, exchange: Exchange, request: ClassifyRequest) -> Reply:
    """Return the reply to a checked request; runs in the loop or in a thread."""
    uses_authors = request.authors is not False
    options = answer_options(exchange, "classify", request, authors=uses_authors)
    answerer = service.version_of(exchange).answerer
    if request.papers is None:
        return Reply(to_json(answerer.answer(question_of(answerer, request), options)))
    check_batch(request, request.papers, service.settings.max_papers)
    questions = [_question(service, exchange, paper) for paper in request.papers]
    documents = answerer.answer_many(questions, options, exchange.check_deadline)
    exchange.facts["papers"] = len(documents)
    return Reply(batch_json(answerer.model, documents))


def check_batch(request: ClassifyRequest, papers: Sequence[PaperIn], most: int) -> None:
    """Raise a problem if a batch has fields of a paper beside its papers, or too many of them."""
    own = request.model_fields_set - BatchOptions.model_fields.keys() - {"papers"}
    if isinstance(request.authors, str | list):
        own |= {"authors"}
    if own:
        raise invalid_field(min(own), "cannot be sent beside papers; put it into the papers")
    check_count(len(papers), most)


def batch_json(model: ModelRef, documents: Sequence[Document]) -> bytes:
    """Return the JSON of the answers to a batch."""
    return json_with(Batch((), model), "answers", documents, ANSWERS_AT_ONCE)


def json_with(whole: Published, name: str, values: Sequence[Any], at_once: int) -> bytes:
    """Return the JSON of an object whose field ``name``, empty so far, holds these values."""
    before, after = to_json(whole).split(b'"%s":[]' % name.encode())
    # The event loop runs between two parts.
    starts = range(0, len(values), at_once)
    parts = b",".join([to_json(values[i : i + at_once])[1:-1] for i in starts])
    return b'%s"%s":[%s]%s' % (before, name.encode(), parts, after)


def _question(service: Service, exchange: Exchange, paper: PaperIn) -> Question | BadRecord:
    exchange.check_deadline()  # the nearest names of an unknown category take a millisecond
    if isinstance(paper, UnreadPaper):
        return bad_record(None, too_long(service))
    return question_or_bad(service.version_of(exchange).answerer, paper)


def question_or_bad(answerer: Answerer, paper: PaperIn) -> Question | BadRecord:
    """Return the question that a paper of a batch asks, or what is wrong with it."""
    try:
        return question_of(answerer, paper)
    except (Problem, ClassmarkError) as error:
        return bad_record(paper.id, error)


def question_of(answerer: Answerer, paper: PaperIn) -> Question:
    """Return the question that a request asks.

    Raises:
        Problem: it has two kinds of text, or no names for authors.
        InvalidPaper, TextTooLong: it has no text, or too much of it or of authors.
        UnknownCategory: the author's category is unknown.
    """
    identifier = None if paper.id is None else str(paper.id)
    if paper.text is not None:
        if paper.title is not None or paper.abstract is not None:
            raise invalid_field("text", "replaces title and abstract; send one or the other")
        given = Paper.from_text(paper.text, identifier)
    else:
        given = Paper(id=identifier, title=paper.title or "", abstract=paper.abstract or "")
    if isinstance(paper.authors, bool) and paper.authors:
        raise invalid_field("authors", NO_AUTHORS)
    if paper.authors:
        given = replace(given, authors=answerer.author_names(names_of(paper)))
    author = paper.author_category
    if author is not None:
        author = answerer.classifier.categories.author_category(author)
    return Question(answerer.checked(given), author)


def names_of(paper: PaperIn) -> str | list[str]:
    """Return the authors of a paper as one text, or name by name."""
    authors = paper.authors
    if isinstance(authors, list):
        return [one if isinstance(one, str) else one.name for one in authors]
    return authors if isinstance(authors, str) else ""


def bad_record(identifier: str | int | None, error: Problem | ClassmarkError) -> BadRecord:
    """Return a record of a batch that gets no answer, with the reason."""
    problem = problem_of(error)
    identifier = None if identifier is None else str(identifier)
    return BadRecord(id=identifier, kind=problem.kind, message=problem.detail)
