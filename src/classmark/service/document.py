"""The OpenAPI document: bodies that the endpoints read themselves, and problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from classmark.service.exchange import Exchange, Reply
from classmark.service.routes import add_route, as_route
from classmark.service.schemas import (
    BatchRequest,
    FeedbackRequest,
    InferRequest,
    PaperRequest,
    response_schema,
)
from classmark.service.state import Service
from classmark.wire import KINDS, ProblemDocument, to_json

_REF = "#/components/schemas/{model}"
_BODIES: tuple[type[BaseModel], ...] = (
    *(PaperRequest, BatchRequest, FeedbackRequest, InferRequest),
    response_schema(ProblemDocument),
)


def responses() -> dict[int | str, dict[str, Any]]:
    """Return what every endpoint may answer beside its own."""
    return {
        "default": {
            "description": "A problem; its kind is one of: " + ", ".join(KINDS) + ".",
            "content": {
                "application/problem+json": {"schema": {"$ref": _REF.format(model="ProblemOut")}}
            },
        }
    }


def json_request(models: Sequence[type[BaseModel]], examples: Mapping[str, Any]) -> dict[str, Any]:
    """Return the documentation of a JSON body that the endpoint reads itself.

    Args:
        models: the body is one of these.
        examples: by name.
    """
    refs = [{"$ref": _REF.format(model=model.__name__)} for model in models]
    schema = refs[0] if len(refs) == 1 else {"anyOf": refs}
    content = {"application/json": {"schema": schema, "examples": dict(examples)}}
    return {"requestBody": {"required": True, "content": content}}


def add_document(app: FastAPI, service: Service) -> None:
    """Add ``/openapi.json``, and let the document hold the schemas of those bodies too."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = make()
            _, definitions = models_json_schema(
                [(model, "validation") for model in _BODIES], ref_template=_REF
            )
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas.update(definitions.get("$defs", {}))
            _drop_validation_errors(document)
            app.openapi_schema = document
        return app.openapi_schema

    async def document_of_api(_: Service, __: Exchange) -> Reply:
        return Reply(to_json(openapi()))

    app.openapi = openapi  # type: ignore[method-assign]
    route = as_route(service, document_of_api)
    add_route(app, "/openapi.json", route, "public", methods=["GET"], include_in_schema=False)


def _drop_validation_errors(document: dict[str, Any]) -> None:
    """Take out FastAPI's own form of a 422, which never leaves this service."""
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
