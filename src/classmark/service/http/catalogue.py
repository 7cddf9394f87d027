"""What the service offers and how it is doing: categories, models, health, metrics, status."""

from __future__ import annotations

import time
from dataclasses import dataclass

from fastapi import FastAPI, Response

from classmark import taxonomy
from classmark.bundle import find_bundle
from classmark.bundle.manifest import rarely_right
from classmark.errors import ClassmarkError, NotReady
from classmark.runtime.labels import Labels
from classmark.service.answering.answerer import Answerer
from classmark.service.answering.model import Model
from classmark.service.http.gateway import Documented, Traffic, add_route
from classmark.service.metrics import MEDIA_TYPE as METRICS_TYPE
from classmark.service.metrics import Metrics
from classmark.service.requests.exchange import Exchange, Reply
from classmark.service.requests.threads import Threads
from classmark.wire import Categories, Category, Health, ModelDetails, Models, Status, to_json
from classmark.wire.documents import LabelSpace


@dataclass(frozen=True)
class OperationNeeds:
    """What the endpoints for operators and their machines work with."""

    answerer: Answerer
    threads: Threads
    metrics: Metrics
    traffic: Traffic


def add_routes(app: FastAPI, needs: OperationNeeds, model: Model) -> None:
    """Add the endpoints that read."""
    listing: Documented = {"methods": ["GET"], "tags": ["catalogue"]}
    body = _categories(model.classifier.categories)
    about: Documented = {**listing, "response_model": Categories, "summary": "List the categories"}
    add_route(app, "/v1/categories", body, categories, "public", **about)
    about = {**listing, "response_model": Models, "summary": "List the models"}
    add_route(app, "/v1/models", _models(model), models, "public", **about)
    operating: Documented = {"methods": ["GET"], "tags": ["operation"]}
    about = {**operating, "response_model": Status, "summary": "Summarise the process tree"}
    add_route(app, "/v1/status", needs, status, "admin", **about)
    about = {**operating, "response_model": Health, "summary": "Check that the process is alive"}
    add_route(app, "/healthz", needs, healthz, "health", **about)
    about = {**about, "summary": "Check whether the service accepts requests"}
    add_route(app, "/readyz", needs, readyz, "health", **about)
    about = {
        **operating,
        "response_class": Response,
        "responses": {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
        "summary": "Counters of the process tree, for Prometheus",
    }
    add_route(app, "/metrics", needs, metrics, "admin", **about)


async def categories(body: bytes, _: Exchange) -> Reply:
    """The categories that feedback can name: the arXiv taxonomy, or the model's own labels.

    Those of the taxonomy come with archive and group, the retired ones too; labels of one's
    own have neither, and are their own names.
    """
    return Reply(body)


async def models(body: bytes, _: Exchange) -> Reply:
    """The model that answers here, with its card and its measured metrics."""
    return Reply(body)


async def healthz(_: OperationNeeds, __: Exchange) -> Reply:
    """The process is alive: it answers."""
    return Reply(to_json(Health("live")))


async def readyz(needs: OperationNeeds, _: Exchange) -> Reply:
    """Requests are accepted: the model has answered once, and the service is not stopping."""
    if not needs.traffic.is_ready:
        raise NotReady("the service is stopping")
    return Reply(to_json(Health("ready")))


async def metrics(needs: OperationNeeds, exchange: Exchange) -> Reply:
    """Counters of all workers together, in Prometheus' text format."""
    text = await needs.threads.read(exchange, needs.metrics.text)
    return Reply(text, media_type=METRICS_TYPE)


async def status(needs: OperationNeeds, exchange: Exchange) -> Reply:
    """Requests, latency, papers and journal of all workers together."""
    summary = await needs.threads.read(exchange, needs.metrics.summary)
    uptime_s = round(time.time() - summary.pop("started_at_s"), 3)
    counted, journal = summary.pop("journal"), needs.answerer.journal
    shown = None
    if journal is not None:
        shown = {**counted, "last_error": journal.status().last_error}
    found = Status(model=needs.answerer.model, uptime_s=uptime_s, journal=shown, **summary)
    return Reply(to_json(found))


def _categories(labels: Labels) -> bytes:
    if labels.space == "arxiv":
        categories, version = taxonomy.categories(active_only=False), taxonomy.VERSION
    else:
        categories = tuple(Category(code, code, "", "", True) for code in labels.codes)
        version = ""
    return to_json(Categories(tuple(categories), version, _label_space(labels.space)))


def _label_space(name: str) -> LabelSpace:
    return "arxiv" if name == "arxiv" else "free"


def _models(model: Model) -> bytes:
    manifest, ref = model.bundle.manifest, model.classifier.model
    details = ModelDetails(
        name=ref.name,
        version=ref.version,
        digest=ref.digest,
        labels=len(manifest.labels),
        label_space=_label_space(manifest.label_space),
        card=model.card,
        metrics=manifest.metrics,
        set_coverage=manifest.policy.set_coverage,
        rarely_right=tuple(rarely_right(manifest.labels, model.bundle.reliability)),
        default=_is_default(model),
    )
    return to_json(Models((details,)))


def _is_default(model: Model) -> bool:
    try:
        return find_bundle().samefile(model.bundle.path)
    except (ClassmarkError, OSError):
        return False
