"""Services of Cloud Run: a new revision first, without traffic; then the traffic."""

from __future__ import annotations

import hashlib
from typing import Any

from classmark.cloud.environment import name_of
from classmark.cloud.google import Google, google_errors
from classmark.cloud.serving.manifests import Wanted, filled
from classmark.errors import CloudNotFound

ROLE = "roles/run.developer"
PREVIOUS = "classmark-previous"
"""Annotation of a service: the revision that had the traffic before the one that has it."""
_DEPLOY_S = 900.0


def path_of(google: Google, kind: str) -> str:
    """Return the name of a service as Google's requests have it."""
    return f"{google.environment.parent}/services/{name_of(kind)}"


def find_service(google: Google, kind: str) -> Any:  # noqa: ANN401 - a message of Google's
    """Return the service as it is, None if there is none."""
    from google.api_core.exceptions import NotFound
    from google.cloud import run_v2

    with google_errors(f"reading the {kind}", role="roles/run.viewer"):
        try:
            return google.client(run_v2.ServicesClient).get_service(name=path_of(google, kind))
        except NotFound:
            return None


def require_service(google: Google, kind: str) -> Any:  # noqa: ANN401 - a message of Google's
    """Return the service as it is.

    Raises:
        CloudNotFound: it is not deployed.
    """
    service = find_service(google, kind)
    if service is None:
        raise CloudNotFound(
            f"the {kind} is not deployed in {google.environment.parent}. "
            f"Run `classmark cloud deploy {kind}`."
        )
    return service


def update(google: Google, service: Any) -> Any:  # noqa: ANN401 - a message of Google's
    """Change a service that is as it was read, and wait until that has happened.

    Raises:
        CloudRefused: it has been changed since it was read, by its etag.
        CloudFailed: the new revision does not start; the traffic stays where it was.
    """
    from google.cloud import run_v2

    client = google.client(run_v2.ServicesClient)
    with google_errors("deploying", role=ROLE):
        return client.update_service(service=service).result(timeout=_DEPLOY_S)


def deploy(google: Google, wanted: Wanted, *, tag: str = "", traffic: bool = True) -> Any:  # noqa: ANN401
    """Deploy a revision; returns the service.

    Its name is made of its content, so that the same deployment repeated makes no second one.

    Args:
        google: clients.
        wanted: what is deployed.
        tag: name of an address of its own, "" for none.
        traffic: give it all requests once it is ready.
    """
    from google.cloud import run_v2

    made = wanted_service(google, wanted)
    service = find_service(google, wanted.kind)
    if service is None:
        return _create(google, wanted.kind, made, tag)
    if not _has_revision(google, service, made.template.revision):
        service.template = made.template
        service.labels.update(made.labels)
        service = update(google, service)
    service = _with_tag(service, made.template.revision, tag)
    if traffic:
        return route(google, service, {made.template.revision: 100})
    return update(google, service) if tag else run_v2.Service(service)


def wanted_service(google: Google, wanted: Wanted) -> Any:  # noqa: ANN401 - a message of Google's
    """Return the service as it would be created; nothing is asked of Google."""
    from google.cloud import run_v2

    made = filled(google.environment, wanted, run_v2.Service)
    content = run_v2.RevisionTemplate.to_json(made.template, sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()[:10]
    made.template.revision = f"{name_of(wanted.kind)}-{digest}"
    return made


def shares(service: Any) -> dict[str, int]:  # noqa: ANN401 - a message of Google's
    """Return how many of 100 requests each revision gets."""
    return {target.revision: target.percent for target in service.traffic if target.percent}


def main_revision(service: Any) -> str:  # noqa: ANN401 - a message of Google's
    """Return the revision that gets the most requests, "" if there is none."""
    found = shares(service)
    return max(found, key=lambda name: found[name]) if found else ""


def route(google: Google, service: Any, wanted: dict[str, int]) -> Any:  # noqa: ANN401
    """Divide the requests among revisions; tags stay. Returns the service.

    A main revision that is replaced is noted as the one before.
    """
    before, (after, most) = main_revision(service), max(wanted.items(), key=lambda item: item[1])
    if before and before != after and most == 100:
        service.annotations[PREVIOUS] = before
    if shares(service) == wanted:
        return service
    tags = {target.revision: target.tag for target in service.traffic if target.tag}
    names = dict.fromkeys([*wanted, *tags])
    service.traffic = [_target(name, wanted.get(name, 0), tags.get(name, "")) for name in names]
    return update(google, service)


def _has_revision(google: Google, service: Any, revision: str) -> bool:  # noqa: ANN401
    """Return whether a revision exists already, for example of a deployment before the last."""
    from google.api_core.exceptions import NotFound
    from google.cloud import run_v2

    client = google.client(run_v2.RevisionsClient)
    with google_errors(f"reading the revision {revision}", role="roles/run.viewer"):
        try:
            client.get_revision(name=f"{service.name}/revisions/{revision}")
        except NotFound:
            return False
    return True


def _create(google: Google, kind: str, made: Any, tag: str) -> Any:  # noqa: ANN401
    from google.cloud import run_v2

    made.traffic = [_target(made.template.revision, 100, tag)]
    client = google.client(run_v2.ServicesClient)
    environment = google.environment
    with google_errors(f"deploying the {kind}", role=ROLE):
        return client.create_service(
            parent=environment.parent, service_id=name_of(kind), service=made
        ).result(timeout=_DEPLOY_S)


def _with_tag(service: Any, revision: str, tag: str) -> Any:  # noqa: ANN401
    if tag:
        kept = [
            _target(t.revision, t.percent, "" if t.tag == tag else t.tag) for t in service.traffic
        ]
        own = [t for t in kept if t.revision == revision] or [_target(revision, 0, "")]
        others = [t for t in kept if t.revision != revision and (t.percent or t.tag)]
        service.traffic = [*others, _target(revision, own[0].percent, tag)]
    return service


def _target(revision: str, percent: int, tag: str) -> Any:  # noqa: ANN401
    from google.cloud import run_v2

    kind = run_v2.TrafficTargetAllocationType.TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION
    return run_v2.TrafficTarget(type_=kind, revision=revision, percent=percent, tag=tag)


def request_text(google: Google, wanted: Wanted) -> str:
    """Return the message that deploying sends, as JSON; nothing is sent."""
    from google.cloud import run_v2

    if wanted.kind.endswith("-job"):
        return str(run_v2.Job.to_json(filled(google.environment, wanted, run_v2.Job)))
    return str(run_v2.Service.to_json(wanted_service(google, wanted)))
