"""The OpenAPI document: bodies that the endpoints read themselves, examples, and problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from classmark.runtime.labels import Labels
from classmark.service.http.gateway import Row, add_route
from classmark.service.requests.exchange import Exchange, Reply
from classmark.service.requests.schemas import (
    BatchRequest,
    CanaryRequest,
    FeedbackRequest,
    InferRequest,
    PaperRequest,
    PromoteRequest,
    RollbackRequest,
    response_schema,
)
from classmark.wire import KINDS, ProblemDocument, to_json

if TYPE_CHECKING:
    from classmark.service.http.host import Host

_REF = "#/components/schemas/{model}"
_BODIES: tuple[type[BaseModel], ...] = (
    *(PaperRequest, BatchRequest, FeedbackRequest, InferRequest),
    *(PromoteRequest, CanaryRequest, RollbackRequest),
    response_schema(ProblemDocument),
)
PROBLEM = _BODIES[-1]

_TITLE = "Spectral gaps of random regular graphs"
_ABSTRACT = (
    "We bound the second eigenvalue of the adjacency matrix of random $d$-regular graphs by a "
    "trace method."
)

PREDICTION_ID = "01jd3q8m4k7v2x9c5z0b6n1t4w"


def _example(summary: str, **value: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    return {"summary": summary, "value": value}


def _tensor(name: str, *data: str) -> dict[str, Any]:
    return {"name": name, "shape": [len(data)], "datatype": "BYTES", "data": data}


_PAPER = {"id": "2401.00001", "title": _TITLE, "abstract": _ABSTRACT}
_NOTE = {"id": "note", "text": "A string theory note\nWe study dualities of branes."}
_AUTHORS = ["Ada Sieve", "Bo Graph"]
PAPER = _example("One paper", **_PAPER, authors=_AUTHORS, author_category="math.CO", top=3)
BATCH = _example("A batch", papers=[_PAPER, _NOTE], top=3)
FEEDBACK = _example(
    "The paper belongs elsewhere",
    prediction_id=PREDICTION_ID,
    category="math.CO",
    comment="The method is borrowed, the subject is not.",
)
FILE = _example(
    "A table with two papers",
    file=f"id,title,abstract\n1,{_TITLE},{_ABSTRACT}\n2,Branes,We study dualities.\n",
)
PROMOTE = _example("By its name", bundle="fast@2.1", why="Better on the papers of 2026.")
CANARY = _example(
    "Five percent of the clients",
    bundle="fast@2.1",
    percent=5,
    rules={"requests": 2000, "minutes": 30, "agreement": 0.8},
)
ROLLBACK = _example("With a reason", why="Too many abstentions.")
INFER = _example(
    "Two papers",
    id="42",
    parameters={"top": 3},
    inputs=[
        _tensor("title", _TITLE, "Dualities of branes"),
        _tensor("abstract", _ABSTRACT, "We study dualities of branes in string theory."),
        _tensor("authors", "; ".join(_AUTHORS), ""),
    ],
    outputs=[{"name": "code"}, {"name": "probability"}],
)


def responses() -> dict[int | str, dict[str, Any]]:
    """Return what every endpoint may answer beside its own."""
    schema = {"$ref": _REF.format(model="ProblemOut")}
    description = "A problem; its kind is one of: " + ", ".join(KINDS) + "."
    content = {"application/problem+json": {"schema": schema}}
    return {"default": {"description": description, "content": content}}


def json_request(models: Sequence[type[BaseModel]], examples: Mapping[str, Any]) -> dict[str, Any]:
    """Return the documentation of a JSON body that the endpoint reads itself.

    Args:
        models: the body is one of these.
        examples: by name.
    """
    refs = [{"$ref": _REF.format(model=model.__name__)} for model in models]
    schema = refs[0] if len(refs) == 1 else {"anyOf": refs}
    return request_body("application/json", schema, examples)


def request_body(
    media_type: str, schema: Mapping[str, Any], examples: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the documentation of a body of some media type, with examples by name."""
    content = {media_type: {"schema": schema, "examples": dict(examples)}}
    return {"requestBody": {"required": True, "content": content}}


def with_known_label(example: dict[str, Any], labels: Labels) -> dict[str, Any]:
    """Return an example that names a category of the model, where its labels are not arXiv's."""
    if labels.space == "arxiv":
        return example
    value = example["value"]
    own = {key: labels.codes[0] for key in ("author_category", "category") if key in value}
    return {**example, "value": {**value, **own}}


def add_document(app: FastAPI, service: Host, bodies: Sequence[type[BaseModel]] = _BODIES) -> None:
    """Add ``/openapi.json``, and let the document hold the schemas of bodies too.

    Args:
        app: with its routes.
        service: what they work with.
        bodies: that the endpoints read themselves, and ``ProblemOut``.
    """
    make = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = make()
            _, definitions = models_json_schema(
                [(model, "validation") for model in bodies], ref_template=_REF
            )
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas.update(definitions.get("$defs", {}))
            _drop_validation_errors(document)
            app.openapi_schema = document
        return app.openapi_schema

    async def document_of_api(_: Host, __: Exchange) -> Reply:
        return Reply(to_json(openapi()))

    app.openapi = openapi  # type: ignore[method-assign]
    add_route(app, service, Row("/openapi.json", document_of_api, "public"))


def _drop_validation_errors(document: dict[str, Any]) -> None:
    """Take out FastAPI's own form of a 422, which never leaves this service."""
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
