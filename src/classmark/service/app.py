"""The application: every endpoint, documented, behind the gateway."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from classmark import __version__
from classmark.errors import ClassmarkError, InvalidJournal, JournalTooNew
from classmark.service import catalogue, feedback, files, openinference
from classmark.service.classify import classify
from classmark.service.document import add_document, json_request, responses
from classmark.service.examples import BATCH, PAPER, with_known_label
from classmark.service.exchange import Reply
from classmark.service.gateway import Endpoint, Gateway
from classmark.service.logs import log
from classmark.service.page import add_page
from classmark.service.problems import Problem, invalid_request, shown
from classmark.service.routes import (
    GuardedRoute,
    add_route,
    as_response,
    as_route,
    exchange_of,
)
from classmark.service.schemas import BatchRequest, PaperRequest
from classmark.service.state import Service, journal_unavailable
from classmark.wire import Answer, Batch
from classmark.wire.problems import MEDIA_TYPE

LANES: dict[tuple[str, str], Endpoint] = {("POST", "/v1/classify"): classify}

_DESCRIPTION = (
    "Classifies scientific papers, given by title and abstract, into {categories}. "
    "Errors are problem+json; every response names the model that answers here."
)


def create_app(service: Service) -> Gateway:
    """Return the application of one worker.

    Args:
        service: its state; started with the application's lifespan, closed by the caller.
    """
    app = FastAPI(
        title="classmark",
        version=__version__,
        description=_description(service),
        servers=[{"url": "."}],  # relative to the document: a proxy may put a prefix before it
        lifespan=_lifespan(service),
        openapi_url=None,  # added below, with a rule
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=responses(),
    )
    app.state.service = service
    app.router.route_class = GuardedRoute
    _add_classify(app, service)
    for room in (files, feedback, catalogue, openinference):
        room.add_routes(app, service)
    add_page(app)
    _add_error_handlers(app)
    add_document(app, service)
    return Gateway(app, service, LANES)


def _description(service: Service) -> str:
    labels = service.model.classifier.categories
    if labels.space == "arxiv":
        return _DESCRIPTION.format(categories="the arXiv taxonomy")
    own = f"the {len(labels.codes)} labels of the model {service.model.spec}"
    return _DESCRIPTION.format(categories=own)


def _lifespan(service: Service) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.openapi()  # kept; made at the first request it would hold the event loop for 70 ms
        service.start()
        yield
        service.stop_accepting()

    return lifespan


def _add_classify(app: FastAPI, service: Service) -> None:
    paper = with_known_label(PAPER, service.model.classifier.categories)
    add_route(
        app,
        "/v1/classify",
        as_route(service, classify),
        "classify",
        methods=["POST"],
        tags=["classify"],
        summary="Classify one paper, or a batch",
        response_model=Answer | Batch,
        openapi_extra=json_request([PaperRequest, BatchRequest], {"paper": paper, "batch": BATCH}),
    )


def _add_error_handlers(app: FastAPI) -> None:
    async def on_problem(request: Request, error: Exception) -> Response:
        return _as_problem(request, error)

    for kind in (Problem, ClassmarkError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, on_problem)


def _as_problem(request: Request, error: Exception) -> Response:
    exchange = exchange_of(request)
    problem = _problem_of(request, error)
    if isinstance(error, ClassmarkError) and not error.blames_request:
        facts = {"kind": error.kind, "problem": str(error)}
        log("request failed", logging.ERROR, request_id=exchange.request_id, **facts)
    exchange.facts["problem"] = problem.kind
    body = problem.body(exchange.request_id)
    return as_response(Reply(body, problem.status, MEDIA_TYPE, problem.header_fields()))


def _problem_of(request: Request, error: Exception) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, RequestValidationError):
        return invalid_request(error.errors())
    if isinstance(error, HTTPException):
        return _http_problem(request, error)
    if isinstance(error, ClassmarkError) and error.blames_request:
        return Problem("invalid_request", str(error))
    if isinstance(error, InvalidJournal | JournalTooNew):
        return journal_unavailable("the journal cannot be read now")
    return Problem(
        "internal_error",
        "the service failed to answer. Try again; if it stays so, report the request id.",
    )


def _http_problem(request: Request, error: HTTPException) -> Problem:
    method, path = request.method, shown(request.url.path)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another")
        return Problem(
            "method_not_allowed",
            f"{path} does not take {shown(method)}. Use {allowed}.",
            headers={"Allow": allowed},
        )
    if error.status_code == 404:
        return Problem("not_found", f"there is nothing at {path}. See /openapi.json for what is.")
    return Problem("bad_request", f"the request cannot be understood: {shown(str(error.detail))}.")
