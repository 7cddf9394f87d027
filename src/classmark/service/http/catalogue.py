"""What the service offers and how it is doing: categories, models, health, metrics, status."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import TYPE_CHECKING

from classmark import taxonomy
from classmark.bundle import find_bundle
from classmark.bundle.manifest import rarely_right
from classmark.errors import ClassmarkError, NotReady
from classmark.runtime.labels import Labels
from classmark.service.answering.model import Model
from classmark.service.metrics import MEDIA_TYPE as METRICS_TYPE
from classmark.service.requests.exchange import Exchange, Reply
from classmark.wire import Categories, Category, Health, ModelDetails, Models, Status, to_json
from classmark.wire.documents import LabelSpace

if TYPE_CHECKING:
    from classmark.service.http.service import Service


async def categories(service: Service, _: Exchange) -> Reply:
    """The categories that feedback can name: the arXiv taxonomy, or the model's own labels.

    Those of the taxonomy come with archive and group, the retired ones too; labels of one's
    own have neither, and are their own names.
    """
    return Reply(_categories(service.model.classifier.categories))


async def models(service: Service, _: Exchange) -> Reply:
    """The model that answers here, with its card and its measured metrics."""
    return Reply(details_of(service.model, service.answerer.most_similar))


async def healthz(_: Service, __: Exchange) -> Reply:
    """The process is alive: it answers."""
    return Reply(to_json(Health("live")))


async def readyz(service: Service, _: Exchange) -> Reply:
    """Requests are accepted: the model has answered once, and the service is not stopping."""
    if not service.traffic.is_ready:
        raise NotReady("the service is stopping")
    return Reply(to_json(Health("ready")))


async def metrics(service: Service, exchange: Exchange) -> Reply:
    """Counters of all workers together, in Prometheus' text format."""
    text = await service.threads.read(exchange, service.metrics.text)
    return Reply(text, media_type=METRICS_TYPE)


async def status(service: Service, exchange: Exchange) -> Reply:
    """Requests, latency, papers and journal of all workers together."""
    summary = await service.threads.read(exchange, service.metrics.summary)
    uptime_s = round(time.time() - summary.pop("started_at_s"), 3)
    counted, journal = summary.pop("journal"), service.answerer.journal
    shown = None
    if journal is not None:
        shown = {**counted, "last_error": journal.status().last_error}
    found = Status(model=service.answerer.model, uptime_s=uptime_s, journal=shown, **summary)
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


@lru_cache(maxsize=1)
def details_of(model: Model, most_similar: int) -> bytes:
    """Return the answer about the loaded model; made once, since it looks at the disk.

    Args:
        model: the model.
        most_similar: papers that a request may ask for; 0 without an index.
    """
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
        authors=bool(manifest.authors),
        similar=most_similar,
        default=_is_default(model),
    )
    return to_json(Models((details,)))


def _is_default(model: Model) -> bool:
    try:
        return find_bundle().samefile(model.bundle.path)
    except (ClassmarkError, OSError):
        return False
