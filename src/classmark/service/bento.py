"""The service of a bento: BentoML's server around our answers.

A request is checked, answered and refused as ``classmark serve`` does, with the same JSON. BentoML
brings the workers, the queue and the batches: one unit of a batch is one request, and the papers of
all its requests are scored in one go. Only a bento imports this, where BentoML is installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import uuid4

import bentoml
from bentoml.exceptions import BentoMLException
from pydantic import TypeAdapter
from starlette.responses import Response

from classmark.bundle import load_bundle
from classmark.errors import ClassmarkError
from classmark.records import BadRecord
from classmark.runtime import Classifier
from classmark.service.answering.answerer import Answerer, AnswerOptions, Document, Question
from classmark.service.bento_settings import make_bento_settings
from classmark.service.http.classify import batch_json, check_batch, question_of, question_or_bad
from classmark.service.metrics import Metrics
from classmark.service.problems import Problem, problem_of
from classmark.service.requests.body import too_large
from classmark.service.requests.scan import validate
from classmark.service.requests.schemas import ClassifyRequest
from classmark.service.settings import (
    JOURNAL_OFF,
    ServiceSettings,
    make_settings,
)
from classmark.wire import to_json
from classmark.wire.problems import MEDIA_TYPE

if TYPE_CHECKING:
    from starlette.requests import Request

JSON = "application/json"
_REQUEST = TypeAdapter(ClassifyRequest)
_Asked = tuple[Sequence[Question | BadRecord], AnswerOptions]


@dataclass(frozen=True)
class Reply:
    """What a request gets: a status, and JSON."""

    status: int
    body: bytes

    @classmethod
    def of_problem(cls, problem: Problem) -> Reply:
        """Return the reply to a request that gets no answer."""
        return cls(problem.status, problem.body(uuid4().hex))


class AskedIn(bentoml.IODescriptor):
    """One request as one unit of a batch."""

    __root_input__: ClassVar[bool] = True
    most_bytes: ClassVar[int] = 0

    @classmethod
    async def from_http_request(cls, request: Request, serde: Any) -> Any:  # noqa: ANN401, ARG003
        """Return a list of one request, or of one reply that refuses it."""
        try:
            return [await _checked_request(request, cls.most_bytes)]
        except Problem as problem:
            return [Reply.of_problem(problem)]


class RepliedOut(bentoml.IODescriptor):
    """One reply as one unit of a batch."""

    @classmethod
    async def to_http_response(cls, obj: Any, serde: Any) -> Any:  # noqa: ANN401, ARG003
        """Return the response to a request, given the list of its only reply."""
        [reply] = obj
        media_type = JSON if reply.status == 200 else MEDIA_TYPE.decode()
        return Response(reply.body, reply.status, media_type=media_type)


async def _checked_request(request: Request, most_bytes: int) -> ClassifyRequest:
    """Return a checked request; a body that is too large is not read to its end."""
    media_type = request.headers.get("content-type", "")
    if media_type.partition(";")[0].strip().lower() != JSON:
        raise Problem("unsupported_media_type", f"the content type is {media_type!r}. Send {JSON}.")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most_bytes:
            raise too_large(most_bytes)
    return validate(_REQUEST, bytes(body))


class Answering:
    """Answers the requests of a batch with one bundle."""

    def __init__(self, bundle: Path, settings: ServiceSettings) -> None:
        self._most_papers = settings.max_papers
        self._answerer = Answerer(Classifier(bundle), settings, Metrics())

    def answer(self, units: Sequence[ClassifyRequest | Reply]) -> list[Reply]:
        """Return the replies to requests; what was refused already stays as it is."""
        replies: dict[int, Reply] = {}
        asked: dict[int, _Asked] = {}
        for place, unit in enumerate(units):
            if isinstance(unit, Reply):
                replies[place] = unit
                continue
            try:
                asked[place] = self._questions(unit)
            except (Problem, ClassmarkError) as error:
                replies[place] = Reply.of_problem(problem_of(error))
        for place, documents in zip(asked, self._answered(list(asked.values())), strict=True):
            unit = units[place]
            is_batch = isinstance(unit, ClassifyRequest) and unit.papers is not None
            replies[place] = Reply(200, self._json(documents, is_batch=is_batch))
        return [replies[place] for place in range(len(units))]

    def _answered(self, asked: list[_Asked]) -> list[list[Document]]:
        return self._answerer.answer_together(asked) if asked else []

    def _questions(self, request: ClassifyRequest) -> _Asked:
        options = AnswerOptions(
            top=request.top,
            threshold=request.threshold,
            explain=request.explain,
            authors=request.authors is not False,
        )
        self._answerer.check_similar(request.similar)
        if request.papers is None:
            return [question_of(self._answerer, request)], options
        check_batch(request, request.papers, self._most_papers)
        return [question_or_bad(self._answerer, paper) for paper in request.papers], options

    def _json(self, documents: list[Document], *, is_batch: bool) -> bytes:
        return batch_json(self._answerer.model, documents) if is_batch else to_json(documents[0])


def make_service(bundle: Path) -> Any:  # noqa: ANN401 - of BentoML
    """Return the service of a bundle, as ``bentoml build`` and ``bentoml serve`` take it.

    Args:
        bundle: its folder.

    Raises:
        BentoMLException: it cannot be used, or a setting is invalid; BentoML prints one line and
            ends. A worker that found this out would be started again and again.
    """
    try:
        load_bundle(bundle)
        limits, settings = make_settings(journal=JOURNAL_OFF), make_bento_settings()
    except ClassmarkError as error:
        raise BentoMLException(str(error)) from error
    AskedIn.most_bytes = limits.max_body_bytes

    @bentoml.service(
        name="classmark",
        workers=settings.workers,
        traffic={"max_concurrency": settings.max_concurrency},
    )
    class Classmark:
        """Classifies papers."""

        def __init__(self) -> None:
            self._answering = Answering(bundle, limits)

        @bentoml.api(
            route="/v1/classify",
            input_spec=AskedIn,
            output_spec=RepliedOut,
            batchable=settings.batching,
            max_batch_size=settings.max_batch,
            max_latency_ms=settings.max_latency_ms,
        )
        def classify(self, requests: list[Any]) -> list[Any]:
            """Answer one paper, or {"papers": [...]}."""
            return list(self._answering.answer(requests))

    return Classmark
