"""The least that answers ``POST /v1/classify``: Starlette alone, without limits or a journal."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from classmark import Classifier
from classmark.wire import to_json

MODEL_VARIABLE = "BENCHMARK_MODEL"


def load() -> Classifier:
    """Return the classifier of the model to serve."""
    return Classifier(os.environ.get(MODEL_VARIABLE))


def replies(classifier: Classifier, bodies: Sequence[dict[str, Any]]) -> list[bytes]:
    """Return the answers to requests as JSON; the papers of all of them are scored in one go."""
    papers = [body.get("papers", [body]) for body in bodies]
    answers = iter(classifier.classify([paper for own in papers for paper in own]))
    found = []
    for body, own in zip(bodies, papers, strict=True):
        documents = [next(answers) for _ in own]
        found.append(to_json({"answers": documents} if "papers" in body else documents[0]))
    return found


def create() -> Starlette:
    """Return the application, with the model loaded."""
    classifier = load()

    async def classify(request: Request) -> Response:
        """Return the answer to one paper, or the answers to a batch."""
        [reply] = replies(classifier, [json.loads(await request.body())])
        return Response(reply, media_type="application/json")

    async def ready(request: Request) -> Response:  # noqa: ARG001 - Starlette's signature
        """Return that the model is loaded."""
        return PlainTextResponse("ready")

    return Starlette(
        routes=[Route("/v1/classify", classify, methods=["POST"]), Route("/readyz", ready)]
    )
