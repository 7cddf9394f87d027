"""``/v1/feedback`` and ``/v1/predictions``: what the journal takes and gives."""

from __future__ import annotations

from fastapi import FastAPI
from pydantic import TypeAdapter

from classmark.journal import Journal
from classmark.records import FeedbackEvent, is_prediction_id, utc_text
from classmark.service.body import check_media_type, read_body
from classmark.service.document import json_request
from classmark.service.examples import FEEDBACK, PREDICTION_ID, with_known_label
from classmark.service.exchange import Exchange, Reply
from classmark.service.problems import Problem, shown
from classmark.service.routes import add_route, as_route
from classmark.service.scan import find_arrays, validate
from classmark.service.schemas import (
    PREDICTION_ID_PATTERN,
    FeedbackRequest,
)
from classmark.service.state import Service, journal_unavailable, overloaded
from classmark.wire import FeedbackReceipt, Prediction, to_json

MAX_FEEDBACK_BYTES = 32 << 10
"""The longest comment, escaped, takes a fifth; it is parsed in the event loop."""

_REQUEST = TypeAdapter(FeedbackRequest)


def add_routes(app: FastAPI, service: Service) -> None:
    """Add the endpoints of the journal."""
    example = with_known_label(FEEDBACK, service.model.classifier.categories)
    add_route(
        app,
        "/v1/feedback",
        as_route(service, feedback),
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
        as_route(service, prediction),
        "admin",
        methods=["GET"],
        response_model=Prediction,
        tags=["feedback"],
        summary="Read a prediction of the journal",
        openapi_extra={"parameters": [parameter]},
    )


async def feedback(service: Service, exchange: Exchange) -> Reply:
    """Take the right category of a prediction; it is joined to the prediction later.

    The id must be well formed; whether there is such a prediction is not looked at.
    """
    check_media_type(exchange, b"application/json")
    most = min(MAX_FEEDBACK_BYTES, service.settings.max_body_bytes)
    body = await read_body(service, exchange, most)
    find_arrays(body, [], most=0)  # bounds its structure
    request = validate(_REQUEST, body)
    code = service.answerer.known_code(request.category)
    event = FeedbackEvent(
        prediction_id=request.prediction_id,
        category=code,
        at_utc=utc_text(),
        comment=request.comment,
    )
    journal = _journal(service)
    if not journal.record(event):
        if journal.status().failing:
            raise journal_unavailable("the journal cannot be written now")
        raise overloaded("the journal cannot take feedback now")
    return Reply(to_json(FeedbackReceipt(event.prediction_id, code)), 202)


async def prediction(service: Service, exchange: Exchange) -> Reply:
    """A prediction as the journal has it, with all feedback on it."""
    identifier = str(exchange.scope["path_params"]["prediction_id"])
    if not is_prediction_id(identifier):
        raise Problem(
            "invalid_request",
            f"{shown(identifier)!r} is no prediction id. Give the prediction_id of an answer.",
            errors=[{"field": "prediction_id", "message": "is not well formed"}],
        )
    journal = _journal(service)
    found = await service.aside(exchange, lambda: journal.find(identifier))
    if found is None:
        raise Problem(
            "not_found",
            f"the journal has no prediction {identifier}. One just made appears within a second.",
        )
    return Reply(to_json(found.to_dict()))


def _journal(service: Service) -> Journal:
    if service.journal is None:
        raise Problem("journal_off", "this service keeps no journal. The operator can turn it on.")
    return service.journal
