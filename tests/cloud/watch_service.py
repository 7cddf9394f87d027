"""What Google's Monitoring and Logging keep, for the local server, and the incidents they open."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import grpc
from google.cloud import monitoring_v3
from google.cloud.logging_v2.services.metrics_service_v2 import MetricsServiceV2Client
from google.cloud.logging_v2.types import ListLogMetricsResponse, LogMetric
from google.protobuf import empty_pb2
from google_server import Call, GoogleServer, Refusal

_CODE = grpc.StatusCode
_LABEL = re.compile(r'user_labels\.(\w+)="([^"]*)"')
_COMPARED = re.compile(r"(\w+)(?:\{([^}]*)\})? (==|>) ([\d.]+)")
_PAGE = 7
"""Things on a page of a list, so that clients must turn pages."""


class Kept:
    """Things of one kind by name, with the filters and pages of Google's lists."""

    def __init__(self, collection: str) -> None:
        self.collection = collection
        self.things: dict[str, Any] = {}
        self._n = 0

    def create(self, parent: str, thing: Any, identifier: str = "") -> Any:
        self._n += 1
        name = f"{parent}/{self.collection}/{identifier or 1000 + self._n}"
        if name in self.things:
            raise Refusal(_CODE.ALREADY_EXISTS, f"{name} already exists")
        self.things[name] = type(thing)(thing, name=name)
        return self.things[name]

    def update(self, thing: Any) -> Any:
        self.get(thing.name)
        self.things[thing.name] = type(thing)(thing)
        return self.things[thing.name]

    def get(self, name: str) -> Any:
        if name not in self.things:
            raise Refusal(_CODE.NOT_FOUND, f"{name} does not exist")
        return self.things[name]

    def delete(self, name: str) -> empty_pb2.Empty:
        self.get(name)
        del self.things[name]
        return empty_pb2.Empty()

    def page(self, parent: str, token: str, chosen: str = "") -> tuple[list[Any], str]:
        wanted = _LABEL.findall(chosen)
        if chosen and not wanted:
            raise Refusal(_CODE.INVALID_ARGUMENT, f"the filter {chosen!r} cannot be read")
        found = [
            thing
            for name, thing in self.things.items()
            if name.startswith(f"{parent}/{self.collection}/")
            and all(thing.user_labels.get(label) == value for label, value in wanted)
        ]
        start = int(token or 0)
        more = str(start + _PAGE) if start + _PAGE < len(found) else ""
        return found[start : start + _PAGE], more


class WatchService:
    """Monitoring and log-based metrics of one project.

    Attributes:
        server: the server that it answers on.
        policies, channels, checks, services, objectives, log_metrics: what is kept.
        samples: every sample that was written, as (metric, labels, value), the oldest first.
        can_fire: whether a sample that a policy looks for opens an incident.
        incidents_status: of HTTP, with which the list of incidents is answered.
    """

    def __init__(self) -> None:
        self.server: GoogleServer | None = None
        self.policies = Kept("alertPolicies")
        self.channels = Kept("notificationChannels")
        self.checks = Kept("uptimeCheckConfigs")
        self.services = Kept("services")
        self.objectives = Kept("serviceLevelObjectives")
        self.log_metrics: dict[str, LogMetric] = {}
        self.samples: list[tuple[str, dict[str, str], float]] = []
        self.can_fire = True
        self.incidents_status = 200
        self.written = threading.Event()
        self._incidents: dict[str, dict[str, Any]] = {}

    def clients(self) -> dict[type, Any]:
        """Return the classes of Google's clients whose calls this answers."""
        return dict.fromkeys(
            (
                monitoring_v3.AlertPolicyServiceClient,
                monitoring_v3.MetricServiceClient,
                monitoring_v3.NotificationChannelServiceClient,
                monitoring_v3.UptimeCheckServiceClient,
                monitoring_v3.ServiceMonitoringServiceClient,
                MetricsServiceV2Client,
            ),
            self,
        )

    def names(self) -> dict[str, int]:
        """Return kind -> how many things of it there are."""
        kinds = (self.policies, self.channels, self.checks, self.services, self.objectives)
        found = {kind.collection: len(kind.things) for kind in kinds}
        return found | {"metrics": len(self.log_metrics)}

    # Alert policies

    def create_alert_policy(self, request: Any, _: Call) -> Any:
        policy = request.alert_policy
        self._check_policy(policy)
        for number, condition in enumerate(policy.conditions):
            condition.name = f"{request.name}/conditions/{number}"
        return self.policies.create(request.name, policy)

    def update_alert_policy(self, request: Any, _: Call) -> Any:
        self._check_policy(request.alert_policy)
        return self.policies.update(request.alert_policy)

    def list_alert_policies(self, request: Any, _: Call) -> Any:
        found, more = self.policies.page(request.name, request.page_token, request.filter)
        return monitoring_v3.ListAlertPoliciesResponse(alert_policies=found, next_page_token=more)

    def delete_alert_policy(self, request: Any, _: Call) -> Any:
        return self.policies.delete(request.name)

    def _check_policy(self, policy: Any) -> None:
        for channel in policy.notification_channels:
            self.channels.get(channel)
        if not 1 <= len(policy.conditions) <= 6 or not policy.combiner:
            raise Refusal(_CODE.INVALID_ARGUMENT, "a policy has 1 to 6 conditions and a combiner")
        for condition in policy.conditions:
            query = condition.condition_prometheus_query_language
            if query.query and query.evaluation_interval.total_seconds() % 30:
                raise Refusal(_CODE.INVALID_ARGUMENT, "evaluation_interval: multiples of 30 s")
            if query.query and len(policy.conditions) > 1:
                raise Refusal(_CODE.INVALID_ARGUMENT, "PromQL must be the only condition")
            if re.search(r"\bclassmark:\w", query.query):
                raise Refusal(_CODE.INVALID_ARGUMENT, f"unknown metric in {query.query}")
        for link in policy.documentation.links:
            if not link.url.startswith("https://"):
                raise Refusal(_CODE.INVALID_ARGUMENT, f"{link.url!r} is not an address")

    # Notification channels

    def create_notification_channel(self, request: Any, _: Call) -> Any:
        channel = request.notification_channel
        if channel.type_ == "email" and "@" not in channel.labels.get("email_address", ""):
            raise Refusal(_CODE.INVALID_ARGUMENT, "email_address is not an address of mail")
        return self.channels.create(request.name, channel)

    def update_notification_channel(self, request: Any, _: Call) -> Any:
        return self.channels.update(request.notification_channel)

    def list_notification_channels(self, request: Any, _: Call) -> Any:
        found, more = self.channels.page(request.name, request.page_token, request.filter)
        kind = monitoring_v3.ListNotificationChannelsResponse
        return kind(notification_channels=found, next_page_token=more)

    def delete_notification_channel(self, request: Any, _: Call) -> Any:
        for policy in self.policies.things.values():
            if request.name in policy.notification_channels and not request.force:
                raise Refusal(_CODE.FAILED_PRECONDITION, f"{policy.name} notifies {request.name}")
        return self.channels.delete(request.name)

    # Uptime checks

    def create_uptime_check_config(self, request: Any, _: Call) -> Any:
        self._check_check(request.uptime_check_config)
        return self.checks.create(request.parent, request.uptime_check_config)

    def update_uptime_check_config(self, request: Any, _: Call) -> Any:
        self._check_check(request.uptime_check_config)
        return self.checks.update(request.uptime_check_config)

    def list_uptime_check_configs(self, request: Any, _: Call) -> Any:
        found, more = self.checks.page(request.parent, request.page_token)
        kind = monitoring_v3.ListUptimeCheckConfigsResponse
        return kind(uptime_check_configs=found, next_page_token=more)

    def delete_uptime_check_config(self, request: Any, _: Call) -> Any:
        number = request.name.rpartition("/")[2]
        for policy in self.policies.things.values():
            if any(f'"{number}"' in c.condition_threshold.filter for c in policy.conditions):
                raise Refusal(_CODE.FAILED_PRECONDITION, f"{policy.name} watches {request.name}")
        return self.checks.delete(request.name)

    def _check_check(self, check: Any) -> None:
        if check.period.total_seconds() not in (60, 300, 600, 900):
            raise Refusal(_CODE.INVALID_ARGUMENT, "period must be 60, 300, 600 or 900 s")
        if not 1 <= check.timeout.total_seconds() <= 60:
            raise Refusal(_CODE.INVALID_ARGUMENT, "timeout must be 1 to 60 s")

    # Services and their objectives

    def create_service(self, request: Any, _: Call) -> Any:
        return self.services.create(request.parent, request.service, request.service_id)

    def update_service(self, request: Any, _: Call) -> Any:
        return self.services.update(request.service)

    def list_services(self, request: Any, _: Call) -> Any:
        found, more = self.services.page(request.parent, request.page_token)
        return monitoring_v3.ListServicesResponse(services=found, next_page_token=more)

    def delete_service(self, request: Any, _: Call) -> Any:
        if any(name.startswith(request.name + "/") for name in self.objectives.things):
            raise Refusal(_CODE.FAILED_PRECONDITION, f"{request.name} has objectives")
        return self.services.delete(request.name)

    def create_service_level_objective(self, request: Any, _: Call) -> Any:
        self.services.get(request.parent)
        objective = request.service_level_objective
        if not 0 < objective.goal <= 0.9999:
            raise Refusal(_CODE.INVALID_ARGUMENT, "goal must be over 0 and at most 0.9999")
        identifier = request.service_level_objective_id
        return self.objectives.create(request.parent, objective, identifier)

    def update_service_level_objective(self, request: Any, _: Call) -> Any:
        return self.objectives.update(request.service_level_objective)

    def list_service_level_objectives(self, request: Any, _: Call) -> Any:
        self.services.get(request.parent)
        found, more = self.objectives.page(request.parent, request.page_token)
        kind = monitoring_v3.ListServiceLevelObjectivesResponse
        return kind(service_level_objectives=found, next_page_token=more)

    def delete_service_level_objective(self, request: Any, _: Call) -> Any:
        return self.objectives.delete(request.name)

    # Metrics of logs

    def create_log_metric(self, request: Any, _: Call) -> Any:
        name = f"{request.parent}/metrics/{request.metric.name}"
        if name in self.log_metrics:
            raise Refusal(_CODE.ALREADY_EXISTS, f"{name} already exists")
        return self._keep_log_metric(name, request.metric)

    def update_log_metric(self, request: Any, _: Call) -> Any:
        return self._keep_log_metric(request.metric_name, request.metric)

    def list_log_metrics(self, request: Any, _: Call) -> Any:
        found = [m for n, m in self.log_metrics.items() if n.startswith(request.parent + "/")]
        return ListLogMetricsResponse(metrics=found)

    def delete_log_metric(self, request: Any, _: Call) -> Any:
        if self.log_metrics.pop(request.metric_name, None) is None:
            raise Refusal(_CODE.NOT_FOUND, f"{request.metric_name} does not exist")
        return empty_pb2.Empty()

    def _keep_log_metric(self, name: str, metric: LogMetric) -> LogMetric:
        declared = {label.key for label in metric.metric_descriptor.labels}
        if declared != set(metric.label_extractors):
            raise Refusal(_CODE.INVALID_ARGUMENT, f"{name}: each label needs its extractor")
        self.log_metrics[name] = LogMetric(metric)
        return self.log_metrics[name]

    # Samples, and the incidents that they open and close

    def create_time_series(self, request: Any, _: Call) -> empty_pb2.Empty:
        for series in request.time_series:
            metric = series.metric.type.split("/")[1]
            labels = dict(series.metric.labels) | dict(series.resource.labels)
            value = series.points[0].value.double_value
            self.samples.append((metric, labels, value))
            self._evaluate(metric, labels, value)
        self.written.set()
        return empty_pb2.Empty()

    def _evaluate(self, metric: str, labels: dict[str, str], value: float) -> None:
        for name, policy in self.policies.things.items():
            query = policy.conditions[0].condition_prometheus_query_language.query
            found = _COMPARED.fullmatch(query)
            if not found or found[1] != metric:
                continue
            asked = re.findall(r'(\w+)="([^"]*)"', found[2] or "")
            if any(labels.get(label) != wanted for label, wanted in asked):
                continue
            bound = float(found[4])
            if (value == bound if found[3] == "==" else value > bound) and self.can_fire:
                self.open_incident(name)
            elif name in self._incidents:
                self._incidents[name]["state"] = "CLOSED"

    def open_incident(self, policy: str) -> None:
        """Open an incident of a policy."""
        name = f"{policy.partition('/alertPolicies/')[0]}/alerts/0.{len(self._incidents)}"
        self._incidents[policy] = {"name": name, "state": "OPEN", "policy": {"name": policy}}

    def incidents(self, path: str, query: dict[str, list[str]]) -> dict[str, Any]:
        """Return a page of incidents: one a page."""
        chosen = query.get("filter", [""])[0]
        found = [
            incident
            for incident in self._incidents.values()
            if incident["name"].startswith(path.removeprefix("/v3/") + "/")
            and (not chosen or f'state="{incident["state"]}"' == chosen)
        ]
        start = int(query.get("pageToken", ["0"])[0] or 0)
        page: dict[str, Any] = {"alerts": found[start : start + 1]} if found else {}
        return page | ({"nextPageToken": str(start + 1)} if start + 1 < len(found) else {})

    @contextmanager
    def incidents_over_http(self) -> Iterator[str]:
        """Serve the list of incidents, which only Google's HTTP API has; yields HOST:PORT."""
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = urlsplit(self.path)
                is_known = re.fullmatch(r"/v3/projects/[^/]+/alerts", asked.path)
                status = service.incidents_status if is_known else 404
                found = service.incidents(asked.path, parse_qs(asked.query))
                refused = {"error": {"code": status, "message": "as the test asks"}}
                body = json.dumps(found if status == 200 else refused).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
