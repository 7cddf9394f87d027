"""What is there and how it is: categories, models, health, metrics, status."""

from __future__ import annotations

import time
from typing import cast

from fastapi import FastAPI, Response

from classmark import taxonomy
from classmark.bundle import find_bundle
from classmark.bundle.measured import rarely_right
from classmark.errors import ClassmarkError
from classmark.service.exchange import Exchange, Reply
from classmark.service.limits import Access
from classmark.service.metrics import MEDIA_TYPE as METRICS_TYPE
from classmark.service.problems import Problem
from classmark.service.routes import add_route, as_route
from classmark.service.state import RETRY_AFTER_S, Service
from classmark.wire import Categories, Category, Health, ModelDetails, Models, Status, to_json
from classmark.wire.documents import LabelSpace


def add_routes(app: FastAPI, service: Service) -> None:
    """Add the endpoints that read."""
    categories_body, models_body = _categories(service), _models(service)

    async def categories(_: Service, __: Exchange) -> Reply:
        """The categories that feedback can name: the arXiv taxonomy, or the model's own labels.

        Those of the taxonomy come with archive and group, the retired ones too; labels of one's
        own have neither, and are their own names.
        """
        return Reply(categories_body)

    async def models(_: Service, __: Exchange) -> Reply:
        """The model that answers here, with its card and its measured metrics."""
        return Reply(models_body)

    for path, endpoint, access, schema, tag, summary in (
        ("/v1/categories", categories, "public", Categories, "catalogue", "List the categories"),
        ("/v1/models", models, "public", Models, "catalogue", "List the models"),
        ("/v1/status", status, "admin", Status, "operation", "Summarise the process tree"),
        ("/healthz", healthz, "health", Health, "operation", "Tell that the process lives"),
        ("/readyz", readyz, "health", Health, "operation", "Tell whether requests are wanted"),
    ):
        add_route(
            app,
            path,
            as_route(service, endpoint),
            cast(Access, access),
            methods=["GET"],
            response_model=schema,
            tags=[tag],
            summary=summary,
        )
    add_route(
        app,
        "/metrics",
        as_route(service, metrics),
        "admin",
        methods=["GET"],
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
        tags=["operation"],
        summary="Counters of the process tree, for Prometheus",
    )


async def healthz(_: Service, __: Exchange) -> Reply:
    """The process lives: it answers."""
    return Reply(to_json(Health("live")))


async def readyz(service: Service, _: Exchange) -> Reply:
    """Requests are wanted: the model has answered once, and nobody asked to stop."""
    if not service.is_ready:
        raise Problem(
            "not_ready", "the service is stopping. Ask another one.", retry_after_s=RETRY_AFTER_S
        )
    return Reply(to_json(Health("ready")))


async def metrics(service: Service, exchange: Exchange) -> Reply:
    """Counters of all workers together, in Prometheus' text format."""
    text = await service.aside(exchange, service.metrics.text)
    return Reply(text, media_type=METRICS_TYPE)


async def status(service: Service, exchange: Exchange) -> Reply:
    """Requests, latency, papers and journal of all workers together."""
    summary = await service.aside(exchange, service.metrics.summary)
    uptime_s = round(time.time() - summary.pop("started_at_s"), 3)
    counted = summary.pop("journal")
    journal, shown = service.journal, None
    if journal is not None:
        shown = {**counted, "last_error": journal.status().last_error}
    found = Status(
        model=service.answerer.model,
        uptime_s=uptime_s,
        journal=shown,
        **summary,
    )
    return Reply(to_json(found))


def _categories(service: Service) -> bytes:
    labels = service.model.classifier.categories
    if labels.space == "arxiv":
        categories, version = taxonomy.categories(active_only=False), taxonomy.VERSION
    else:
        categories = tuple(Category(code, code, "", "", True) for code in labels.codes)
        version = ""
    return to_json(Categories(tuple(categories), version, _label_space(labels.space)))


def _label_space(name: str) -> LabelSpace:
    return "arxiv" if name == "arxiv" else "free"


def _models(service: Service) -> bytes:
    manifest = service.model.bundle.manifest
    model = service.answerer.model
    details = ModelDetails(
        name=model.name,
        version=model.version,
        digest=model.digest,
        labels=len(manifest.labels),
        label_space=_label_space(manifest.label_space),
        card=service.model.card,
        metrics=manifest.metrics,
        set_coverage=manifest.policy.set_coverage,
        rarely_right=tuple(rarely_right(manifest.labels, service.model.bundle.reliability)),
        default=_is_default(service),
    )
    return to_json(Models((details,)))


def _is_default(service: Service) -> bool:
    try:
        return find_bundle().samefile(service.model.bundle.path)
    except (ClassmarkError, OSError):
        return False
