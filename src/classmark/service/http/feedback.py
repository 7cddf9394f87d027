"""``/v1/feedback`` and ``/v1/predictions``: what the journal takes and gives."""

from __future__ import annotations

from fastapi import FastAPI
from pydantic import TypeAdapter

from classmark.errors import Overloaded
from classmark.journal import Journal
from classmark.records import FeedbackEvent, is_prediction_id, utc_text
from classmark.service.answering.answerer import Answerer
from classmark.service.http.classify import ClassifyNeeds
from classmark.service.http.document import (
    FEEDBACK,
    PREDICTION_ID,
    json_request,
    with_known_label,
)
from classmark.service.http.gateway import add_route
from classmark.service.problems import Problem, invalid_field, journal_unavailable, shown
from classmark.service.requests.body import check_media_type, read_body
from classmark.service.requests.exchange import Exchange, Reply
from classmark.service.requests.scan import find_arrays, validate
from classmark.service.requests.schemas import PREDICTION_ID_PATTERN, FeedbackRequest
from classmark.wire import FeedbackReceipt, Prediction, to_json

MAX_FEEDBACK_BYTES = 32 << 10
"""The longest comment, escaped, takes a fifth; the body is parsed in the event loop."""

_REQUEST = TypeAdapter(FeedbackRequest)


def add_routes(app: FastAPI, needs: ClassifyNeeds) -> None:
    """Add the endpoints of the journal."""
    example = with_known_label(FEEDBACK, needs.answerer.classifier.categories)
    add_route(
        app,
        "/v1/feedback",
        needs,
        feedback,
        "feedback",
        methods=["POST"],
        status_code=202,
        response_model=FeedbackReceipt,
        tags=["feedback"],
        summary="Say what the right category is",
        openapi_extra=json_request([FeedbackRequest], {"feedback": example}),
    )
    parameter = {
        "name": "prediction_id",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "pattern": PREDICTION_ID_PATTERN},
        "example": PREDICTION_ID,
    }
    add_route(
        app,
        "/v1/predictions/{prediction_id}",
        needs,
        prediction,
        "admin",
        methods=["GET"],
        response_model=Prediction,
        tags=["feedback"],
        summary="Read a prediction of the journal",
        openapi_extra={"parameters": [parameter]},
    )


async def feedback(needs: ClassifyNeeds, exchange: Exchange) -> Reply:
    """Take the right category of a prediction; it is joined to the prediction later.

    The id must be well formed; whether there is such a prediction is not checked.
    """
    check_media_type(exchange, b"application/json")
    most = min(MAX_FEEDBACK_BYTES, needs.settings.max_body_bytes)
    body = await read_body(exchange, needs.threads, most)
    find_arrays(body, [], most=0)  # bounds its structure
    request = validate(_REQUEST, body)
    code = needs.answerer.classifier.categories.canonical(request.category)
    given = {**request.model_dump(), "category": code}
    event = FeedbackEvent(at_utc=utc_text(), **given)
    journal = _kept(needs.answerer)
    if not journal.record(event):
        if journal.status().failing:
            raise journal_unavailable("the journal cannot be written now")
        raise Overloaded("the journal cannot take feedback now")
    return Reply(to_json(FeedbackReceipt(event.prediction_id, code)), 202)


async def prediction(needs: ClassifyNeeds, exchange: Exchange) -> Reply:
    """A prediction as the journal has it, with all feedback on it."""
    identifier = exchange.path_params["prediction_id"]
    if not is_prediction_id(identifier):
        message = f"{shown(identifier)!r} is not one; send the prediction_id of an answer"
        raise invalid_field("prediction_id", message)
    journal = _kept(needs.answerer)
    found = await needs.threads.read(exchange, lambda: journal.find(identifier))
    if found is None:
        raise Problem(
            "not_found",
            f"the journal has no prediction {identifier}. One just made appears within a second.",
        )
    return Reply(to_json(found.to_dict()))


def _kept(answerer: Answerer) -> Journal:
    """Return the journal.

    Raises:
        Problem: there is none.
    """
    if answerer.journal is None:
        raise Problem("journal_off", "this service keeps no journal. The operator can turn it on.")
    return answerer.journal
