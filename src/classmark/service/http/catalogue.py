"""What the service offers and how it is doing: categories, models, health, metrics, status."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from msgspec import structs

from classmark import taxonomy
from classmark.bundle import find_bundle
from classmark.bundle.manifest import rarely_right
from classmark.errors import ClassmarkError, NotReady
from classmark.runtime.labels import Labels
from classmark.service.answering.model import Model
from classmark.service.answering.versions import Version
from classmark.service.http.registry import state_of
from classmark.service.metrics import MEDIA_TYPE as METRICS_TYPE
from classmark.service.problems import Problem
from classmark.service.requests.exchange import Exchange, Reply
from classmark.wire import (
    Categories,
    Category,
    Health,
    ModelDetails,
    Models,
    RefusedBundle,
    Status,
    to_json,
)
from classmark.wire.documents import LabelSpace

if TYPE_CHECKING:
    from classmark.service.http.service import Service

_DETAILS: WeakKeyDictionary[Version, ModelDetails] = WeakKeyDictionary()


async def categories(service: Service, _: Exchange) -> Reply:
    """The categories that feedback can name: the arXiv taxonomy, or the model's own labels.

    Those of the taxonomy come with archive and group, the retired ones too; labels of one's
    own have neither, and are their own names.
    """
    return Reply(_categories(service.model.classifier.categories))


async def models(service: Service, _: Exchange) -> Reply:
    """The models that are loaded, each with its card and its measured metrics."""
    return Reply(to_json(Models(tuple(map(details_of, service.versions.all())))))


async def healthz(_: Service, __: Exchange) -> Reply:
    """The process is alive: it answers."""
    return Reply(to_json(Health("live")))


async def readyz(service: Service, _: Exchange) -> Reply:
    """Requests are accepted: the model has answered once, and the service is not stopping.

    If the service follows a registry, the body names the bundles that answer, by channel, and
    those that the registry names but that cannot be used, each with the kind of the error.
    """
    if not service.traffic.is_ready:
        raise NotReady("the service is stopping")
    follower = service.follower
    if follower is None:
        return Reply(to_json(Health("ready")))
    serving: dict[str, str] = {
        version.role: version.ref.digest for version in service.versions.all()
    }
    faults = {role: RefusedBundle(f.digest, f.kind) for role, f in follower.faults.items()}
    return Reply(to_json(Health("ready", serving=serving, refused=faults)))


async def metrics(service: Service, exchange: Exchange) -> Reply:
    """Counters of all workers together, in Prometheus' text format."""
    text = await service.threads.read(exchange, service.metrics.text)
    return Reply(text, media_type=METRICS_TYPE)


async def status(service: Service, exchange: Exchange) -> Reply:
    """Requests, latency, papers and journal of all workers together."""
    summary = await service.threads.read(exchange, service.metrics.summary)
    uptime_s = round(time.time() - summary.pop("started_at_s"), 3)
    counted, journal = summary.pop("journal"), service.journal
    shown = None
    if journal is not None:
        shown = {**counted, "last_error": journal.status().last_error}
    registry = None
    if service.settings.registry is not None:
        with suppress(Problem):  # /readyz and the log say why
            registry = await service.threads.read(exchange, lambda: state_of(service))
    model = service.answerer.model
    found = Status(model=model, uptime_s=uptime_s, journal=shown, registry=registry, **summary)
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


def details_of(version: Version) -> ModelDetails:
    """Return what is published about a loaded version."""
    details = _DETAILS.get(version)
    if details is None:
        details = _DETAILS[version] = _details_of(version)
    return structs.replace(details, role=version.role)


def _details_of(version: Version) -> ModelDetails:
    """Return the same; made once, since it looks at the disk."""
    model, ref = version.model, version.ref
    manifest = model.bundle.manifest
    return ModelDetails(
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
        similar=version.answerer.most_similar,
        default=_is_default(model),
    )


def _is_default(model: Model) -> bool:
    try:
        return find_bundle().samefile(model.bundle.path)
    except (ClassmarkError, OSError):
        return False
