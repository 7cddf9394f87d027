"""The least that answers ``POST /v1/classify``: Starlette alone, without limits or a journal."""

from __future__ import annotations

import json

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from classmark import Classifier

classifier = Classifier()


async def classify(request: Request) -> Response:
    """Return the answer to one paper, or the answers to a batch."""
    body = json.loads(await request.body())
    papers = body.get("papers", [body])
    answers = [answer.to_dict() for answer in classifier.classify(papers)]
    content = {"answers": answers} if "papers" in body else answers[0]
    return Response(json.dumps(content), media_type="application/json")


async def ready(request: Request) -> Response:  # noqa: ARG001 - Starlette's signature
    """Return that the model is loaded."""
    return PlainTextResponse("ready")


app = Starlette(
    routes=[
        Route("/v1/classify", classify, methods=["POST"]),
        Route("/readyz", ready),
    ]
)
