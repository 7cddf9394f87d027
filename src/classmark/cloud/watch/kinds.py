"""Kinds of things that watch: how each is listed, made, changed and removed at Google."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from google.api_core.exceptions import NotFound
from google.cloud import monitoring_v3
from google.cloud.logging_v2.services.metrics_service_v2 import MetricsServiceV2Client

from classmark.cloud.environment import CloudEnvironment
from classmark.cloud.google import Google, google_errors
from classmark.cloud.watch.parts import log_prefix, service_id, service_of
from classmark.cloud.watch.policies import ALERT_LABEL

MONITORING_ROLE, LOGGING_ROLE = "roles/monitoring.editor", "roles/logging.configWriter"
Message = Any
"""A message of proto-plus."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of thing in a project.

    Attributes:
        name: in the plural, as it is printed.
        role: that the caller needs.
        find: returns those of the environment, and no others.
        key: by which a thing that is wanted is matched with one that exists.
        create: makes a thing and returns it as Google has it.
        update: gets the thing that is wanted and the one that exists.
        delete: removes a thing.
    """

    name: str
    role: str
    find: Callable[[], Iterable[Message]]
    key: Callable[[Message], str]
    create: Callable[[Message], Message]
    update: Callable[[Message, Message], Message]
    delete: Callable[[Message], None]

    def found(self) -> list[Message]:
        """Return those of the environment, the oldest name first.

        Raises:
            CloudFailed, CloudNotFound, CloudRefused: see ``google_errors``.
        """
        with google_errors(f"listing {self.name}", role=self.role):
            return sorted(self.find(), key=lambda thing: str(thing.name))

    def made(self, wanted: Message) -> Message:
        """Create a thing; raises as ``found``."""
        with google_errors(f"creating {self.name}", role=self.role):
            return self.create(wanted)

    def changed(self, wanted: Message, there: Message) -> Message:
        """Make a thing that exists as it is wanted; raises as ``found``."""
        with google_errors(f"updating {self.name}", role=self.role):
            return self.update(wanted, there)

    def removed(self, there: Message) -> None:
        """Remove a thing, unless it is already gone; raises as ``found``."""
        with google_errors(f"removing {self.name}", role=self.role):
            try:
                self.delete(there)
            except NotFound:
                return


def kinds_of(google: Google) -> tuple[Kind, ...]:
    """Return the kinds, each after those that it names."""
    return (
        _channels(google),
        _checks(google),
        _log_metrics(google),
        _services(google),
        _objectives(google),
        policy_kind(google),
    )


def _channels(google: Google) -> Kind:
    client = google.client(monitoring_v3.NotificationChannelServiceClient)
    place, chosen = _project(google.environment), _labelled(google.environment)
    return Kind(
        name="channels",
        role=MONITORING_ROLE,
        find=lambda: _ours(
            client.list_notification_channels(request={"name": place, "filter": chosen}), google
        ),
        key=lambda channel: str(channel.labels["email_address"]),
        create=lambda channel: client.create_notification_channel(
            name=place, notification_channel=channel
        ),
        update=lambda wanted, there: client.update_notification_channel(
            notification_channel=_named(wanted, there)
        ),
        delete=lambda there: client.delete_notification_channel(name=there.name, force=False),
    )


def _checks(google: Google) -> Kind:
    client = google.client(monitoring_v3.UptimeCheckServiceClient)
    place = _project(google.environment)
    return Kind(
        name="checks",
        role=MONITORING_ROLE,
        find=lambda: _ours(client.list_uptime_check_configs(parent=place), google),
        key=lambda check: str(check.display_name),
        create=lambda check: client.create_uptime_check_config(
            parent=place, uptime_check_config=check
        ),
        update=lambda wanted, there: client.update_uptime_check_config(
            uptime_check_config=_named(wanted, there)
        ),
        delete=lambda there: client.delete_uptime_check_config(name=there.name),
    )


def _log_metrics(google: Google) -> Kind:
    client = google.client(MetricsServiceV2Client)
    place, prefix = _project(google.environment), log_prefix(google.environment)

    def full(metric: Message) -> str:
        return f"{place}/metrics/{metric.name}"

    return Kind(
        name="log-metrics",
        role=LOGGING_ROLE,
        find=lambda: [
            m for m in client.list_log_metrics(parent=place) if m.name.startswith(prefix)
        ],
        key=lambda metric: str(metric.name),
        create=lambda metric: client.create_log_metric(parent=place, metric=metric),
        update=lambda wanted, _: client.update_log_metric(metric_name=full(wanted), metric=wanted),
        delete=lambda there: client.delete_log_metric(metric_name=full(there)),
    )


def _services(google: Google) -> Kind:
    client = google.client(monitoring_v3.ServiceMonitoringServiceClient)
    place, name = _project(google.environment), service_id(google.environment)
    return Kind(
        name="services",
        role=MONITORING_ROLE,
        find=lambda: _ours(client.list_services(parent=place), google),
        key=lambda service: _last(service.name),
        create=lambda service: client.create_service(
            request={"parent": place, "service_id": name, "service": service}
        ),
        update=lambda wanted, _: client.update_service(service=wanted),
        delete=lambda there: client.delete_service(name=there.name),
    )


def _objectives(google: Google) -> Kind:
    client = google.client(monitoring_v3.ServiceMonitoringServiceClient)
    parent = service_of(google.environment).name

    def find() -> list[Message]:
        try:
            return _ours(client.list_service_level_objectives(parent=parent), google)
        except NotFound:
            return []

    return Kind(
        name="objectives",
        role=MONITORING_ROLE,
        find=find,
        key=lambda objective: _last(objective.name),
        create=lambda objective: client.create_service_level_objective(
            request={
                "parent": parent,
                "service_level_objective_id": _last(objective.name),
                "service_level_objective": objective,
            }
        ),
        update=lambda wanted, _: client.update_service_level_objective(
            service_level_objective=wanted
        ),
        delete=lambda there: client.delete_service_level_objective(name=there.name),
    )


def policy_kind(google: Google) -> Kind:
    """Return the kind of alert policies."""
    client = google.client(monitoring_v3.AlertPolicyServiceClient)
    place, chosen = _project(google.environment), _labelled(google.environment)

    def update(wanted: Message, there: Message) -> Message:
        policy = _named(wanted, there)
        for condition, old in zip(policy.conditions, there.conditions, strict=False):
            condition.name = old.name  # else its incidents are closed
        return client.update_alert_policy(alert_policy=policy)

    return Kind(
        name="policies",
        role=MONITORING_ROLE,
        find=lambda: _ours(
            client.list_alert_policies(request={"name": place, "filter": chosen}), google
        ),
        key=lambda policy: str(policy.user_labels[ALERT_LABEL]),
        create=lambda policy: client.create_alert_policy(name=place, alert_policy=policy),
        update=update,
        delete=lambda there: client.delete_alert_policy(name=there.name),
    )


def _project(environment: CloudEnvironment) -> str:
    return f"projects/{environment.project}"


def _labelled(environment: CloudEnvironment) -> str:
    """Return a filter of Monitoring: what has the labels of the environment."""
    return " AND ".join(f'user_labels.{k}="{v}"' for k, v in environment.labels.items())


def _ours(things: Iterable[Message], google: Google) -> list[Message]:
    """Return those that have the labels of the environment, whatever a filter lets pass."""
    labels: Mapping[str, str] = google.environment.labels
    return [t for t in things if all(t.user_labels.get(k) == v for k, v in labels.items())]


def _named(wanted: Message, there: Message) -> Message:
    """Return a copy of what is wanted, with the name of what exists."""
    copy = type(wanted)(wanted)
    copy.name = there.name
    return copy


def _last(name: str) -> str:
    return name.rpartition("/")[2]
