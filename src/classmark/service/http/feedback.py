"""``/v1/feedback`` and ``/v1/predictions``: what the journal takes and gives."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from classmark.errors import Overloaded, UnknownCategory
from classmark.journal import Journal
from classmark.records import FeedbackEvent, is_prediction_id, utc_text
from classmark.service.problems import Problem, invalid_field, journal_unavailable, shown
from classmark.service.requests.body import check_media_type, read_body
from classmark.service.requests.exchange import Exchange, Reply
from classmark.service.requests.scan import find_arrays, validate
from classmark.service.requests.schemas import FeedbackRequest
from classmark.wire import FeedbackReceipt, to_json

if TYPE_CHECKING:
    from classmark.service.http.service import Service

MAX_FEEDBACK_BYTES = 32 << 10
"""The longest comment, escaped, takes a fifth; the body is parsed in the event loop."""

_REQUEST = TypeAdapter(FeedbackRequest)

_OF_THE_OPERATOR = ("client", "features", "service_version")
"""What the journal keeps for those who run the service; of no use to its clients."""


async def feedback(service: Service, exchange: Exchange) -> Reply:
    """Take the right category of a prediction; it is joined to the prediction later.

    The id must be well formed; whether there is such a prediction is not checked.
    """
    check_media_type(exchange, b"application/json")
    most = min(MAX_FEEDBACK_BYTES, service.settings.max_body_bytes)
    body = await read_body(exchange, service.threads, most)
    find_arrays(body, [], most=0)  # bounds its structure
    request = validate(_REQUEST, body)
    code = _canonical(service, request.category)
    given = {**request.model_dump(), "category": code}
    client = "" if exchange.key is None else exchange.key.id
    event = FeedbackEvent(at_utc=utc_text(), client=client, **given)
    journal = _kept(service)
    if not journal.record(event):
        if journal.status().failing:
            raise journal_unavailable("the journal cannot be written now")
        raise Overloaded("the journal cannot take feedback now")
    return Reply(to_json(FeedbackReceipt(event.prediction_id, code)), 202)


async def prediction(service: Service, exchange: Exchange) -> Reply:
    """A prediction as the journal has it, with all feedback on it."""
    identifier = exchange.path_params["prediction_id"]
    if not is_prediction_id(identifier):
        message = f"{shown(identifier)!r} is not one; send the prediction_id of an answer"
        raise invalid_field("prediction_id", message)
    journal = _kept(service)
    found = await service.threads.read(exchange, lambda: journal.find(identifier))
    if found is None:
        raise Problem(
            "not_found",
            f"the journal has no prediction {identifier}. One just made appears within a second.",
        )
    kept = found.to_dict()
    kept["feedback"] = [_public(said) for said in kept["feedback"]]
    return Reply(to_json(_public(kept)))


def _public(kept: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in kept.items() if name not in _OF_THE_OPERATOR}


def _canonical(service: Service, category: str) -> str:
    """Return the category that somebody means, of the first loaded version that has it.

    Raises:
        UnknownCategory: the champion has none of that name, and no other version has.
    """
    champion, *others = [one.answerer.classifier.categories for one in service.versions.all()]
    try:
        return champion.canonical(category)
    except UnknownCategory:
        for labels in others:
            with suppress(UnknownCategory):
                return labels.canonical(category)
        raise


def _kept(service: Service) -> Journal:
    """Return the journal.

    Raises:
        Problem: there is none.
    """
    if service.journal is None:
        raise Problem("journal_off", "this service keeps no journal. The operator can turn it on.")
    return service.journal
