"""What watches beside the policies: a channel, an uptime check, metrics of logs, objectives."""

from __future__ import annotations

from datetime import timedelta

from google.api import label_pb2, metric_pb2, monitored_resource_pb2
from google.cloud import monitoring_v3
from google.cloud.logging_v2.types import LogMetric

from classmark.cloud.environment import MANAGED, CloudEnvironment, name_of
from classmark.cloud.watch.objectives import DAYS, Matcher, Objective

CHECK_PATH = "/v2"
"""Asked from outside: it needs no key, and is not among the requests of the objectives, which
checks from six regions would flatter. Cloud Run reserves paths that end in z, so neither
``/healthz`` nor ``/readyz`` is sure to arrive; its own probes ask ``/readyz``."""
_CHECK_SECONDS, _TIMEOUT_SECONDS = 60, 10
_OPERATORS = {
    "=": '{name}="{value}"',
    "!=": 'NOT {name}="{value}"',
    "=~": '{name}=monitoring.regex.full_match("{value}")',
    "!~": 'NOT {name}=monitoring.regex.full_match("{value}")',
}
_ERRORS = 'jsonPayload.level=("error" OR "critical")'
_LOG_METRICS = {
    "errors": (
        f'resource.type="cloud_run_revision" AND {_ERRORS}',
        "Errors that the service logs, by event",
    ),
    "job-errors": (
        f'resource.type="cloud_run_job" AND ({_ERRORS} OR severity>=ERROR)',
        "Errors of jobs: the look for drift, and training",
    ),
    "dropped-lines": (
        'jsonPayload.event="log lines dropped"',
        "Times that a log was written faster than it was read",
    ),
}


def channel_of(environment: CloudEnvironment) -> monitoring_v3.NotificationChannel | None:
    """Return the channel of the environment's mail address; None without one."""
    if not environment.notify:
        return None
    return monitoring_v3.NotificationChannel(
        type_="email",
        display_name=f"{MANAGED} ({environment.name})",
        labels={"email_address": environment.notify},
        user_labels=environment.labels,
        enabled=True,
    )


def check_of(environment: CloudEnvironment) -> monitoring_v3.UptimeCheckConfig:
    """Return the uptime check, which signs in as Monitoring's own account."""
    agent = monitoring_v3.UptimeCheckConfig.HttpCheck.ServiceAgentAuthentication
    return monitoring_v3.UptimeCheckConfig(
        display_name=f"{MANAGED} ({environment.name})",
        monitored_resource=monitored_resource_pb2.MonitoredResource(
            type="cloud_run_revision",
            labels={
                "project_id": environment.project,
                "service_name": name_of("service"),
                "location": environment.region,
                "revision_name": "",
                "configuration_name": "",
            },
        ),
        http_check={
            "path": CHECK_PATH,
            "use_ssl": True,
            "validate_ssl": True,
            "port": 443,
            "request_method": monitoring_v3.UptimeCheckConfig.HttpCheck.RequestMethod.GET,
            "service_agent_authentication": {
                "type_": agent.ServiceAgentAuthenticationType.OIDC_TOKEN
            },
        },
        period=timedelta(seconds=_CHECK_SECONDS),
        timeout=timedelta(seconds=_TIMEOUT_SECONDS),
        user_labels=environment.labels,
    )


def log_metrics_of(environment: CloudEnvironment) -> list[LogMetric]:
    """Return metrics that count lines of logs; they have no labels, so names say whose they are."""
    descriptor = metric_pb2.MetricDescriptor(
        metric_kind=metric_pb2.MetricDescriptor.DELTA,
        value_type=metric_pb2.MetricDescriptor.INT64,
        labels=[label_pb2.LabelDescriptor(key="event", description="What the line says")],
    )
    return [
        LogMetric(
            name=f"{log_prefix(environment)}{name}",
            filter=chosen,
            description=description,
            metric_descriptor=descriptor,
            label_extractors={"event": "EXTRACT(jsonPayload.event)"},
        )
        for name, (chosen, description) in _LOG_METRICS.items()
    ]


def log_prefix(environment: CloudEnvironment) -> str:
    """Return how names of the environment's log-based metrics begin."""
    return f"{MANAGED}.{environment.name}."


def service_of(environment: CloudEnvironment) -> monitoring_v3.Service:
    """Return the service that objectives belong to."""
    return monitoring_v3.Service(
        name=f"projects/{environment.project}/services/{service_id(environment)}",
        display_name=f"{MANAGED} ({environment.name})",
        custom={},
        user_labels=environment.labels,
    )


def service_id(environment: CloudEnvironment) -> str:
    """Return the last part of the name of the service that objectives belong to."""
    return f"{MANAGED}-{environment.name}"


def objective_of(
    objective: Objective, environment: CloudEnvironment
) -> monitoring_v3.ServiceLevelObjective:
    """Return an objective of the rules as one of Cloud Monitoring, with the same numbers."""
    limit = f" within {objective.limit * 1000:.0f} ms" if objective.limit else ""
    return monitoring_v3.ServiceLevelObjective(
        name=f"{service_of(environment).name}/serviceLevelObjectives/{objective.name}",
        display_name=f"{objective.name}: {100 * objective.goal:g} % of requests{limit}",
        service_level_indicator={"request_based": _indicator(objective)},
        goal=objective.goal,
        rolling_period=timedelta(days=DAYS),
        user_labels=environment.labels,
    )


def _indicator(objective: Objective) -> monitoring_v3.RequestBasedSli:
    if objective.limit is not None:
        return monitoring_v3.RequestBasedSli(
            distribution_cut={
                "distribution_filter": _filter(objective.metric, "histogram", objective.every),
                "range_": {"min_": 0.0, "max_": objective.limit},
            }
        )
    bad = (*objective.every, *objective.bad)
    return monitoring_v3.RequestBasedSli(
        good_total_ratio={
            "bad_service_filter": _filter(objective.metric, "counter", bad),
            "total_service_filter": _filter(objective.metric, "counter", objective.every),
        }
    )


def _filter(metric: str, kind: str, matchers: tuple[Matcher, ...]) -> str:
    """Return a filter of Cloud Monitoring for a metric that Managed Prometheus has ingested."""
    parts = [
        f'metric.type="prometheus.googleapis.com/{metric}/{kind}"',
        'resource.type="prometheus_target"',
        *(
            _OPERATORS[m.operator].format(name=f"metric.labels.{m.label}", value=m.value)
            for m in matchers
        ),
    ]
    return " AND ".join(parts)
