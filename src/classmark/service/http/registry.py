"""``/v1/registry``: what the registry of the service names, and changes of it over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, TypeAdapter

from classmark.errors import (
    BundleNotFound,
    ClassmarkError,
    OutputBusy,
    Refused,
    StorageFailed,
    UsageError,
)
from classmark.registry.rules import CanaryRules
from classmark.service.answering.model import open_registry
from classmark.service.logs import log
from classmark.service.problems import Problem, invalid_field
from classmark.service.requests.body import check_media_type, read_body
from classmark.service.requests.exchange import Exchange, Reply
from classmark.service.requests.scan import find_arrays, validate
from classmark.service.requests.schemas import CanaryRequest, PromoteRequest, RollbackRequest
from classmark.wire import RegisteredBundle, RegistryEvent, RegistryState, to_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from classmark.records import Pointer, PromotionEvent
    from classmark.registry import Registry
    from classmark.service.http.service import Service

Asked = TypeVar("Asked", bound=BaseModel)

MAX_CHANGE_BYTES = 32 << 10
SHOWN_EVENTS = 10
_PROMOTE: TypeAdapter[PromoteRequest] = TypeAdapter(PromoteRequest)
_CANARY: TypeAdapter[CanaryRequest] = TypeAdapter(CanaryRequest)
_ROLLBACK: TypeAdapter[RollbackRequest] = TypeAdapter(RollbackRequest)


async def registry_state(service: Service, exchange: Exchange) -> Reply:
    """What the registry names now, and its last events."""
    _check_registry(service)
    return Reply(await service.threads.read(exchange, lambda: to_json(state_of(service))))


async def promote(service: Service, exchange: Exchange) -> Reply:
    """Make a bundle of the registry the champion; without a gate report only by force."""

    def change(registry: Registry, asked: PromoteRequest, who: str) -> Pointer:
        digest = registry.find(asked.bundle)
        return registry.promote(digest, who=who, why=asked.why, force=asked.force)

    return await _change(service, exchange, _PROMOTE, change)


async def start_canary(service: Service, exchange: Exchange) -> Reply:
    """Let a bundle of the registry answer a share of the clients, until rules end that."""

    def change(registry: Registry, asked: CanaryRequest, who: str) -> Pointer:
        rules = {} if asked.rules is None else CanaryRules.from_dict(asked.rules).to_dict()
        return registry.start_canary(
            registry.find(asked.bundle),
            percent=asked.percent,
            rules=rules,
            who=who,
            why=asked.why,
            allow_label_change=asked.allow_label_change,
        )

    return await _change(service, exchange, _CANARY, change)


async def roll_back(service: Service, exchange: Exchange) -> Reply:
    """End the canary if one is running; else bring back the previous champion."""

    def change(registry: Registry, asked: RollbackRequest, who: str) -> Pointer:
        return registry.rollback(who=who, why=asked.why)

    return await _change(service, exchange, _ROLLBACK, change)


async def _change(
    service: Service,
    exchange: Exchange,
    adapter: TypeAdapter[Asked],
    change: Callable[[Registry, Asked, str], Pointer],
) -> Reply:
    """Return the state after a change of the registry; the workers follow within a moment."""
    _check_registry(service)
    key = exchange.key
    if key is None:
        raise Problem(
            "scope_missing",
            "the registry is changed over HTTP only where API keys say who does it. Run "
            "`classmark registry`, or let the operator serve with --api-keys.",
        )
    check_media_type(exchange, b"application/json")
    body = await read_body(exchange, service.threads, MAX_CHANGE_BYTES)
    find_arrays(body, [], most=0)  # bounds its structure
    asked = validate(adapter, body)
    who = f"{key.name} (key {key.id})"

    def work() -> bytes:
        with _problems():
            after = change(_opened(service), asked, who)
        event = after.last_event
        log("registry changed", action=event.action, sequence=event.sequence, who=who)
        return to_json(state_of(service))

    return Reply(await service.threads.run(exchange, work))


@contextmanager
def _problems() -> Iterator[None]:
    """Turn what a registry refuses into problems; only operators with the scope ``admin`` ask."""
    try:
        yield
    except BundleNotFound as error:
        raise invalid_field("bundle", str(error).rstrip(".")) from error
    except UsageError:
        raise
    except Refused as error:
        raise Problem("registry_refused", str(error)) from error
    except (StorageFailed, OutputBusy) as error:
        raise Problem("registry_unavailable", str(error), retry_after_s=1) from error
    except ClassmarkError as error:
        raise Problem("registry_refused", str(error)) from error


def _check_registry(service: Service) -> None:
    """Raise a problem if the service follows no registry."""
    if service.settings.registry is None:
        detail = "this service follows no registry. The operator can serve with --registry."
        raise Problem("registry_off", detail)


def _opened(service: Service) -> Registry:
    """Return the registry, opened again: only this thread uses that object."""
    _check_registry(service)
    return open_registry(service.settings.registry or Path(), service.settings)


def state_of(service: Service) -> RegistryState:
    """Return what the registry names; runs in a thread.

    Raises:
        Problem: it cannot be read, or there is none.
    """
    try:
        registry = _opened(service)
        pointer, events = registry.pointer(), registry.events()
    except ClassmarkError as error:
        raise Problem("registry_unavailable", str(error), retry_after_s=1) from error
    canary, channels = pointer.canary, pointer.channels
    roles = {
        "champion": channels.champion,
        "challenger": channels.challenger,
        "shadow": channels.shadow,
    }
    shares = {"challenger": canary.percent if canary else 0.0, "shadow": pointer.shadow_percent}
    named = [
        RegisteredBundle(role, digest, _spec(pointer, digest), shares.get(role))
        for role, digest in roles.items()
        if digest is not None
    ]
    return RegistryState(
        sequence=pointer.sequence,
        bundles=tuple(named),
        rules=canary.rules if canary else {},
        canary_started_utc=canary.started_utc if canary else None,
        events=tuple(_event(pointer, event) for event in events[: -SHOWN_EVENTS - 1 : -1]),
    )


def _event(pointer: Pointer, event: PromotionEvent) -> RegistryEvent:
    return RegistryEvent(
        sequence=event.sequence,
        at_utc=event.at_utc,
        who=event.who,
        action=event.action,
        why=event.why,
        bundle=_spec(pointer, event.to_digest) if event.to_digest else None,
        digest=event.to_digest,
        outcome=event.numbers.get("outcome"),
    )


def _spec(pointer: Pointer, digest: str) -> str:
    known = pointer.bundles.get(digest)
    return known.spec if known else ""
