"""The application: every endpoint, documented, behind the gateway; and the web page.

The page is the files of ``service/web`` at ``/`` and ``/static``, under a strict policy. Its
addresses are relative, so that a proxy may offer the service under any prefix.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.resources import files as package_files
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from classmark import __version__
from classmark.errors import ClassmarkError
from classmark.runtime.labels import Labels
from classmark.service.http import catalogue, feedback, files, openinference
from classmark.service.http.classify import ClassifyNeeds, add_classify, classify
from classmark.service.http.document import add_document, responses
from classmark.service.http.gateway import (
    Endpoint,
    Gateway,
    GuardedRoute,
    add_route,
    as_response,
    exchange_of,
    problem_for,
    problem_reply,
)
from classmark.service.http.service import Service
from classmark.service.problems import Problem, invalid_request, problem_of, shown

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
LANES = {("POST", "/v1/classify"): classify}
_INDEX = "index.html"
_MEDIA_TYPES = {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "examples.json": "application/json",
    "icon.svg": "image/svg+xml",
}
# The names never change with the content, so a browser asks each time and mostly gets a 304.
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_DESCRIPTION = (
    "Classifies scientific papers, given by title and abstract, into {categories}. "
    "Errors are problem+json; every response names the model that answers here."
)


def create_app(service: Service) -> Gateway:
    """Return the application of one worker.

    Args:
        service: its parts; started with the application's lifespan, closed by the caller.
    """
    model, settings = service.model, service.settings
    answerer, threads, metrics = service.answerer, service.threads, service.metrics
    labels = model.classifier.categories
    app = FastAPI(
        title="classmark",
        version=__version__,
        description=_description(labels, model.spec),
        servers=[{"url": "."}],  # relative to the document: a proxy may put a prefix before it
        lifespan=_lifespan(service),
        openapi_url=None,  # added below, with a rule
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=responses(),
    )
    app.router.route_class = GuardedRoute
    needs = ClassifyNeeds(answerer, threads, settings)
    add_classify(app, needs)
    files.add_routes(app, files.FileNeeds(answerer, threads, settings, service.readers))
    feedback.add_routes(app, feedback.JournalNeeds(labels, threads, settings, service.journal))
    operation = catalogue.OperationNeeds(answerer, threads, metrics, service.traffic)
    catalogue.add_routes(app, operation, model)
    openinference.add_routes(app, openinference.InferNeeds(needs, operation, model))
    add_page(app)
    _add_error_handlers(app)
    add_document(app)
    lanes: dict[tuple[str, str], Endpoint] = {
        address: partial(endpoint, needs) for address, endpoint in LANES.items()
    }
    return Gateway(app, service, lanes)


def _description(labels: Labels, spec: str) -> str:
    if labels.space == "arxiv":
        return _DESCRIPTION.format(categories="the arXiv taxonomy")
    own = f"the {len(labels.codes)} labels of the model {spec}"
    return _DESCRIPTION.format(categories=own)


def _lifespan(service: Service) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.openapi()  # cached; made at the first request it would hold the event loop for 70 ms
        service.start()
        yield
        service.traffic.stop()

    return lifespan


def _add_error_handlers(app: FastAPI) -> None:
    async def on_error(request: Request, error: Exception) -> Response:
        exchange = exchange_of(request)
        return as_response(problem_reply(_problem_of(request, error), exchange))

    for kind in (Problem, ClassmarkError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, on_error)


def _problem_of(request: Request, error: Exception) -> Problem:
    if isinstance(error, Problem | ClassmarkError):
        return problem_for(error, exchange_of(request))
    if isinstance(error, RequestValidationError):
        return invalid_request(error.errors())
    if isinstance(error, HTTPException):
        return _http_problem(request, error)
    return problem_of(error)


def _http_problem(request: Request, error: HTTPException) -> Problem:
    method, path = request.method, shown(request.url.path)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another")
        return Problem(
            "method_not_allowed",
            f"{path} does not accept {shown(method)}. Use {allowed}.",
            headers={"Allow": allowed},
        )
    if error.status_code == 404:
        return Problem("not_found", f"there is nothing at {path}. See /openapi.json for the list.")
    return Problem("bad_request", f"the request is not valid: {shown(str(error.detail))}.")


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file of the page, held in memory: its bytes, media type, and ETag of its content."""

    content: bytes
    media_type: str
    etag: str


def load_files() -> dict[str, StaticFile]:
    """Return every file of the page by name, read from the package."""
    folder = package_files("classmark.service") / "web"
    loaded = {}
    for name, media_type in _MEDIA_TYPES.items():
        content = (folder / name).read_bytes()
        etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        loaded[name] = StaticFile(content, media_type, etag)
    return loaded


def add_page(app: FastAPI) -> None:
    """Add ``/`` and ``/static/NAME`` to the app; both stay out of the OpenAPI document.

    A name is a key of a table, never a path, so only the files of the page can be read.
    """
    page = load_files()

    async def index(request: Request) -> Response:
        return _respond(request, page[_INDEX])

    async def static(request: Request, name: str) -> Response:
        file = page.get(name) if name != _INDEX else None
        if file is None:
            raise HTTPException(404, f"there is no file {name!r} in this page. Open / instead.")
        return _respond(request, file)

    methods = ["GET", "HEAD"]
    for path, route in (("/", index), ("/static/{name}", static)):
        add_route(app, path, route, "public", methods=methods, include_in_schema=False)


def _respond(request: Request, file: StaticFile) -> Response:
    headers = {**_HEADERS, "ETag": file.etag}
    if file.etag in request.headers.get("If-None-Match", ""):
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)
