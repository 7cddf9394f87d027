"""Manifests of Cloud Run as package data, filled in and parsed into the API's own messages."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from classmark.cloud.environment import MANAGED, CloudEnvironment
from classmark.cloud.templates import filled_template
from classmark.errors import UsageError

KINDS = ("service", "monitor", "monitor-job", "retrain-job")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is deployed.

    Attributes:
        kind: one of ``KINDS``.
        image: address with a digest.
        model: NAME@VERSION to serve or to watch instead of the registry's; "" for the registry.
        registry: ``gs://`` address; that of the environment if "".
        has_keys: require API keys of the secret ``api-keys``.
        dataset: of the champion, for retraining: ``gs://`` address, or a name below ``datasets/``.
        papers: ``gs://`` addresses of new papers, for retraining.
        least: minimum instances; the manifest's if None.
        most: maximum instances; the manifest's if None.
    """

    kind: str
    image: str
    model: str = ""
    registry: str = ""
    has_keys: bool = False
    dataset: str = ""
    papers: tuple[str, ...] = ()
    least: int | None = None
    most: int | None = None


def filled(environment: CloudEnvironment, wanted: Wanted, message: Any) -> Any:  # noqa: ANN401
    """Return the manifest of a kind as a message of Google's.

    Args:
        environment: names that it has.
        wanted: what is deployed.
        message: the class: ``run_v2.Service`` or ``run_v2.Job``.

    Raises:
        UsageError: the kind or a field of the manifest is unknown, or retraining has no dataset.
    """
    if wanted.kind not in KINDS:
        raise UsageError(f"{wanted.kind!r} cannot be deployed. Give {', '.join(KINDS)}.")
    if wanted.kind == "retrain-job" and not wanted.dataset:
        raise UsageError("retrain-job needs the dataset of the champion. Give --dataset.")
    place = files("classmark.cloud.serving") / "run" / f"{wanted.kind}.yaml"
    fields = filled_template(place, _values(environment, wanted))
    if "scaling" in fields["template"]:
        fields["template"]["scaling"] |= _scaling(wanted)
    return message.from_json(json.dumps(fields), ignore_unknown_fields=False)


def _values(environment: CloudEnvironment, wanted: Wanted) -> dict[str, Any]:
    sql = environment.sql
    at = f"postgresql://{MANAGED}@/{MANAGED}?host=/cloudsql/{sql}"  # user and database of the stack
    registry = wanted.registry or environment.address("registry")
    dataset = wanted.dataset
    return {
        "bucket": environment.bucket,
        "dataset": dataset if "/" in dataset else environment.address("datasets", dataset),
        "papers": [word for paper in wanted.papers for word in ("--papers", paper)],
        "labels": environment.labels,
        "account": environment.account("serve" if wanted.kind == "service" else "watch"),
        "image": wanted.image,
        "model": wanted.model,
        "registry": "" if wanted.model else registry,
        "journal": at if sql else environment.address("journal"),
        "history": environment.address("monitor", "history.sqlite"),
        "lease": environment.address("retrain", "lease"),
        "sql": sql,
        "keys": environment.secret("api-keys") if wanted.has_keys else "",
        "password": environment.secret("journal-password"),
    }


def _scaling(wanted: Wanted) -> dict[str, int]:
    asked = {"minInstanceCount": wanted.least, "maxInstanceCount": wanted.most}
    return {name: count for name, count in asked.items() if count is not None}
