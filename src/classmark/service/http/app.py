"""The application: every endpoint, documented, behind the gateway; and the web page.

The page is the files of ``service/web`` at ``/`` and ``/static``, under a strict policy. Its
addresses are relative, so that a proxy may offer the service under any prefix.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files as package_files
from typing import Any

from fastapi import FastAPI

from classmark import __version__
from classmark.runtime.labels import Labels
from classmark.service.answering.model import Model
from classmark.service.http import openinference
from classmark.service.http.catalogue import (
    categories,
    details_of,
    healthz,
    metrics,
    models,
    readyz,
    status,
)
from classmark.service.http.classify import classify
from classmark.service.http.document import (
    BATCH,
    CANARY,
    FEEDBACK,
    FILE,
    INFER,
    PAPER,
    PREDICTION_ID,
    PROMOTE,
    ROLLBACK,
    add_document,
    json_request,
    request_body,
    responses,
    with_known_label,
)
from classmark.service.http.feedback import feedback, prediction
from classmark.service.http.files import SCHEMA, classify_file
from classmark.service.http.gateway import Gateway, Row, add_route
from classmark.service.http.registry import promote, registry_state, roll_back, start_canary
from classmark.service.http.service import Service
from classmark.service.problems import Problem, shown
from classmark.service.requests.exchange import Exchange, Fields, Reply
from classmark.service.requests.schemas import (
    PREDICTION_ID_PATTERN,
    BatchRequest,
    CanaryRequest,
    FeedbackRequest,
    InferRequest,
    PaperRequest,
    PromoteRequest,
    RollbackRequest,
)
from classmark.wire import (
    Answer,
    Batch,
    Categories,
    FeedbackReceipt,
    FileAnswers,
    Health,
    Inference,
    ModelMetadata,
    ModelRef,
    Models,
    Prediction,
    Readiness,
    RegistryState,
    ServerMetadata,
    Status,
)

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_ONE_OR_MANY, _FILE = "Classify one paper, or a batch", "Classify the papers of a file"
_RIGHT, _READ = "Say what the right category is", "Read a prediction of the journal"
_COUNTERS = "Counters of the process tree, for Prometheus"
_PLAIN_TEXT = {"responses": {"200": {"content": {"text/plain": {"schema": {"type": "string"}}}}}}
_PREDICTION = "/v1/predictions/{prediction_id}"
_PREDICTION_ID = {
    "prediction_id": {
        "schema": {"type": "string", "pattern": PREDICTION_ID_PATTERN},
        "example": PREDICTION_ID,
    }
}
_MODEL, _VERSION = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"
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
    model, changes = service.model, service.follower is not None
    app = FastAPI(
        title="classmark",
        version=__version__,
        description=_description(model.classifier.categories, model.spec),
        servers=[{"url": "."}],  # relative to the document: a proxy may put a prefix before it
        lifespan=_lifespan(service),
        openapi_url=None,  # added below, with a rule
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=responses(),
    )
    for tag, rows in _routes(service.model, changes=changes).items():
        for row in rows:
            add_route(app, service, row, tag)
    details_of(service.versions.champion)
    add_document(app, service)
    return Gateway(app, service)


def _routes(model: Model, *, changes: bool) -> dict[str, list[Row]]:
    """Return the endpoints by the chapter of the OpenAPI document; "" leaves them out of it.

    Args:
        model: that answers.
        changes: whether others may follow it.
    """
    labels, ref = model.classifier.categories, model.classifier.model
    papers = {"paper": with_known_label(PAPER, labels), "batch": BATCH}
    one_or_many = json_request([PaperRequest, BatchRequest], papers)
    file = request_body("multipart/form-data", SCHEMA, {"file": FILE})
    said = json_request([FeedbackRequest], {"feedback": with_known_label(FEEDBACK, labels)})
    accepting = "Check whether the service accepts requests"
    return {
        "classify": [
            Row("/v1/classify", classify, "classify", Answer | Batch, _ONE_OR_MANY, one_or_many),
            Row("/v1/files", classify_file, "classify", FileAnswers, _FILE, file),
        ],
        "feedback": [
            Row("/v1/feedback", feedback, "feedback", FeedbackReceipt, _RIGHT, said, status=202),
            Row(_PREDICTION, prediction, "admin", Prediction, _READ, _parameters(_PREDICTION_ID)),
        ],
        "catalogue": [
            Row("/v1/categories", categories, "public", Categories, "List the categories"),
            Row("/v1/models", models, "public", Models, "List the models"),
        ],
        "operation": [
            Row("/v1/status", status, "admin", Status, "Summarise the process tree"),
            Row("/healthz", healthz, "health", Health, "Check that the process is alive"),
            Row("/readyz", readyz, "health", Health, accepting),
            Row("/metrics", metrics, "metrics", None, _COUNTERS, _PLAIN_TEXT),
        ],
        "registry": list(_registry_routes()),
        "open inference protocol": list(_inference_routes(ref, accepting, changes=changes)),
        "": [Row("/", page, "public"), Row("/static/{name}", page, "public")],
    }


def _registry_routes() -> Iterator[Row]:
    place, state = "/v1/registry", RegistryState
    yield Row(place, registry_state, "admin", state, "Say what the registry names")
    changes = (
        ("promote", promote, PromoteRequest, PROMOTE, "Make a bundle the champion"),
        ("canary", start_canary, CanaryRequest, CANARY, "Begin a canary"),
        ("rollback", roll_back, RollbackRequest, ROLLBACK, "Go one step back"),
    )
    for name, endpoint, model, example, summary in changes:
        body = json_request([model], {name: example})
        yield Row(f"{place}/{name}", endpoint, "admin", state, summary, body)


def _inference_routes(ref: ModelRef, accepting: str, *, changes: bool) -> Iterator[Row]:
    v2, none = openinference, _parameters({})
    yield Row("/v2", v2.server_metadata, "public", ServerMetadata, "Metadata of the server", none)
    alive = "Check that the server is alive"
    yield Row("/v2/health/live", v2.live, "health", Readiness, alive, none)
    yield Row("/v2/health/ready", v2.ready, "health", Readiness, accepting, none)
    model, version = (
        {name: {"schema": {"type": "string", **({} if changes else {"enum": [only]})}}}
        for name, only in (("model", ref.name), ("version", ref.version))
    )
    infer = json_request([InferRequest], {"papers": INFER})
    about, answers = "Metadata of the model", "Check whether the model answers"
    for place, named in ((_MODEL, model), (_VERSION, model | version)):
        known = _parameters(named)
        yield Row(place, v2.model_metadata, "public", ModelMetadata, about, known)
        yield Row(f"{place}/ready", v2.model_ready, "public", Readiness, answers, known)
        extra = known | infer
        yield Row(f"{place}/infer", v2.infer, "classify", Inference, "Classify papers", extra)


def _parameters(named: dict[str, Any]) -> dict[str, Any]:
    """Return the documentation of the parameters in a path."""
    fixed = {"in": "path", "required": True}
    return {"parameters": [{"name": name, **fixed, **about} for name, about in named.items()]}


def _description(labels: Labels, spec: str) -> str:
    own = f"the {len(labels.codes)} labels of the model {spec}"
    categories = "the arXiv taxonomy" if labels.space == "arxiv" else own
    return _DESCRIPTION.format(categories=categories)


def _lifespan(service: Service) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.openapi()  # cached; made at the first request it would hold the event loop for 70 ms
        service.start()
        service.follow(asyncio.get_running_loop())
        yield
        service.traffic.stop()

    return lifespan


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file of the page, held in memory: its bytes, media type, and ETag of its content."""

    content: bytes
    media_type: bytes
    etag: bytes


@cache
def load_files() -> dict[str, StaticFile]:
    """Return every file of the page by name, read from the package.

    A name in an address is a key of this table, never a path, so only these files can be read.
    """
    folder = package_files("classmark.service") / "web"
    loaded = {}
    for name, media_type in _MEDIA_TYPES.items():
        content = (folder / name).read_bytes()
        etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        loaded[name] = StaticFile(content, media_type, etag.encode())
    return loaded


async def page(_: Service, exchange: Exchange) -> Reply:
    """A file of the page, or that it has not changed."""
    files, name = load_files(), exchange.path_params.get("name")
    file = files[_INDEX] if name is None else files.get(name)
    if file is None or name == _INDEX:
        path = shown(exchange.scope["path"])
        raise Problem("not_found", f"there is nothing at {path}. See /openapi.json for the list.")
    fields = [*_FIELDS, (b"etag", file.etag)]
    if file.etag in exchange.headers.get(b"if-none-match", b""):
        return Reply(b"", 304, fields=fields)
    return Reply(file.content, media_type=file.media_type, fields=fields)
