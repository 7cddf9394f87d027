"""The application: every endpoint, documented, behind the gateway; and the web page.

The page is the files of ``service/web`` at ``/`` and ``/static``, under a strict policy. Its
addresses are relative, so that a proxy may offer the service under any prefix.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files as package_files
from typing import Any

from fastapi import FastAPI

from classmark import __version__
from classmark.runtime.labels import Labels
from classmark.service.http import catalogue, feedback, files, openinference
from classmark.service.http.classify import ClassifyNeeds, add_classify
from classmark.service.http.document import add_document, responses
from classmark.service.http.gateway import Gateway, add_route
from classmark.service.http.service import Service
from classmark.service.problems import Problem, shown
from classmark.service.requests.exchange import Exchange, Fields, Reply

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_INDEX = "index.html"
_MEDIA_TYPES = {
    "index.html": b"text/html; charset=utf-8",
    "style.css": b"text/css; charset=utf-8",
    "app.js": b"text/javascript; charset=utf-8",
    "examples.json": b"application/json",
    "icon.svg": b"image/svg+xml",
}
# The names never change with the content, so a browser asks each time and mostly gets a 304.
_FIELDS: Fields = [
    (b"cache-control", b"no-cache"),
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
]
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
    needs = ClassifyNeeds(answerer, threads, settings)
    add_classify(app, needs)
    files.add_routes(app, files.FileNeeds(answerer, threads, settings, service.readers))
    feedback.add_routes(app, needs)
    operation = catalogue.OperationNeeds(answerer, threads, metrics, service.traffic)
    catalogue.add_routes(app, operation, model)
    openinference.add_routes(app, openinference.InferNeeds(needs, operation, model))
    add_page(app)
    add_document(app)
    return Gateway(app, service)


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


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file of the page, held in memory: its bytes, media type, and ETag of its content."""

    content: bytes
    media_type: bytes
    etag: bytes


def load_files() -> dict[str, StaticFile]:
    """Return every file of the page by name, read from the package."""
    folder = package_files("classmark.service") / "web"
    loaded = {}
    for name, media_type in _MEDIA_TYPES.items():
        content = (folder / name).read_bytes()
        etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        loaded[name] = StaticFile(content, media_type, etag.encode())
    return loaded


def add_page(app: FastAPI) -> None:
    """Add ``/`` and ``/static/NAME`` to the app; both stay out of the OpenAPI document.

    A name is a key of a table, never a path, so only the files of the page can be read.
    """
    for path in ("/", "/static/{name}"):
        add_route(
            app,
            path,
            load_files(),
            page,
            "public",
            methods=["GET", "HEAD"],
            include_in_schema=False,
        )


async def page(files: dict[str, StaticFile], exchange: Exchange) -> Reply:
    """A file of the page, or that it has not changed."""
    name = exchange.path_params.get("name")
    file = files[_INDEX] if name is None else files.get(name)
    if file is None or name == _INDEX:
        path = shown(exchange.scope["path"])
        raise Problem("not_found", f"there is nothing at {path}. See /openapi.json for the list.")
    fields = [*_FIELDS, (b"etag", file.etag)]
    if file.etag in exchange.headers.get(b"if-none-match", b""):
        return Reply(b"", 304, fields=fields)
    return Reply(file.content, media_type=file.media_type, fields=fields)
