"""Canary, promotion and rollback: how the requests are divided among revisions."""

from __future__ import annotations

from typing import Any

from classmark.cloud.google import Google
from classmark.cloud.serving.services import (
    PREVIOUS,
    main_revision,
    require_service,
    route,
    shares,
    update,
)
from classmark.errors import CloudNotFound, UsageError

ALL = 100


def canary(google: Google, percent: int, tag: str = "canary") -> Any:  # noqa: ANN401
    """Give the tagged revision a share of the requests; returns the service.

    Raises:
        UsageError: the share is not 1 to 99.
        CloudNotFound: the service is not deployed, or nothing has the tag.
    """
    if not 0 < percent < ALL:
        raise UsageError(f"--percent cannot be {percent}. Give 1 to 99; `promote` gives it all.")
    service = require_service(google, "service")
    revision, stable = _tagged(service, tag), _stable(service, tag)
    return route(google, service, {stable: ALL - percent, revision: percent})


def promote(google: Google, tag: str = "canary") -> Any:  # noqa: ANN401
    """Give the tagged revision all requests; returns the service. Raises as ``canary``."""
    service = require_service(google, "service")
    revision = _tagged(service, tag)
    if (stable := _stable(service, tag)) != revision:
        service.annotations[PREVIOUS] = stable
    return route(google, service, {revision: ALL})


def rollback(google: Google, tag: str = "canary") -> Any:  # noqa: ANN401
    """End a canary; without one, give the revision before all requests. Returns the service.

    Repeated, it changes nothing: the revision that was left is not noted as one to go back to.

    Raises:
        CloudNotFound: the service is not deployed, or nothing is noted as before.
    """
    service = require_service(google, "service")
    if len(shares(service)) > 1:
        return _only(google, service, _stable(service, tag))
    before = service.annotations.get(PREVIOUS, "")
    if not before:
        raise CloudNotFound(
            f"no revision is noted as the one before {main_revision(service)}. Look at "
            "`classmark cloud status`, and deploy the image that you want."
        )
    del service.annotations[PREVIOUS]
    return _only(google, service, before)


def _only(google: Google, service: Any, revision: str) -> Any:  # noqa: ANN401
    from google.cloud import run_v2

    kind = run_v2.TrafficTargetAllocationType.TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION
    tags = [
        run_v2.TrafficTarget(type_=kind, revision=t.revision, tag=t.tag)
        for t in service.traffic
        if t.tag
    ]
    target = run_v2.TrafficTarget(type_=kind, revision=revision, percent=ALL)
    service.traffic = [target, *tags]
    return update(google, service)


def _tagged(service: Any, tag: str) -> str:  # noqa: ANN401
    for target in service.traffic:
        if target.tag == tag:
            return str(target.revision)
    raise CloudNotFound(
        f"no revision has the tag {tag!r}. Run `classmark cloud deploy service --no-traffic "
        f"--tag {tag}` first."
    )


def _stable(service: Any, tag: str) -> str:  # noqa: ANN401
    """Return the revision with the most requests of those without the tag."""
    others = {t.revision: t.percent for t in service.traffic if t.percent and t.tag != tag}
    return max(others, key=lambda name: others[name]) if others else main_revision(service)
