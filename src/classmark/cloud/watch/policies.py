"""Alert policies of Cloud Monitoring, each from one alert of the rules."""

from __future__ import annotations

import re
from datetime import timedelta

from google.cloud import monitoring_v3

from classmark.cloud.environment import MANAGED, CloudEnvironment
from classmark.cloud.watch.rules import AlertRule, Rules, label_on_cloud_run
from classmark.errors import UsageError

ALERT_LABEL = "alert"
"""Label of a policy: the name of its alert in lower case, by which it is found again."""
OUTSIDE = "ClassmarkTargetDown"
"""The alert that the uptime check asks from outside, too."""
EVERY_SECONDS = 30
"""How often a policy is evaluated: the shortest time that Cloud Monitoring allows."""
_OUTSIDE_SECONDS = 300
_JOB_SECONDS = 600
_JOB = AlertRule(
    name="ClassmarkJobFailed",
    group="jobs",
    written="",
    query="",
    seconds=0,
    labels={"severity": "ticket"},
    summary="A run of {{ $labels.job_name }} failed",
    description="A run of {{ $labels.job_name }} did not end with success. The job that looks for "
    "drift ends like this after an alarm, with exit code 3; anything else is an error. Its log "
    "says which.",
    runbook="{{ $externalLabels.docs }}/how-to/google-cloud/#watch",
)
"""Of what Cloud Run itself knows: a job has no metrics that Prometheus could ask."""
_CHECK_REGIONS_FAILED = 1
_Severity = monitoring_v3.AlertPolicy.Severity
_SEVERITIES = {"page": _Severity.CRITICAL, "ticket": _Severity.WARNING}
_TEMPLATE = re.compile(r"\{\{\s*\$([\w.]+)(?:\s*\|\s*(\w+))?\s*\}\}")
_UNITS = {"humanizeDuration": " s"}


def policies_of(
    rules: Rules, environment: CloudEnvironment, *, channels: list[str], check: str
) -> list[monitoring_v3.AlertPolicy]:
    """Return a policy for each alert, one for the uptime check, and one for jobs.

    Args:
        rules: of Prometheus.
        environment: whose labels they have.
        channels: names of the notification channels.
        check: last part of the name of the uptime check.

    Raises:
        UsageError: a text has a template that Cloud Monitoring cannot show.
    """
    policies = [_of_rule(alert, environment) for alert in rules.alerts]
    policies += [_outside(rules.alert(OUTSIDE), environment, check), _of_jobs(environment)]
    for policy in policies:
        policy.notification_channels = channels
    return policies


def text_of(text: str, docs: str = "") -> str:
    """Return a text of the rules with the variables of Cloud Monitoring.

    A value is shown as the query returns it: Cloud Monitoring has no ``humanizePercentage``.

    Raises:
        UsageError: it has a template that is not a value, a label or the address of the docs.
    """

    def replaced(found: re.Match[str]) -> str:
        name, form = found[1], found[2]
        if name == "value":
            return "${metric.label.value}" + _UNITS.get(form or "", "")
        if name.startswith("labels."):
            label = label_on_cloud_run(name.removeprefix("labels."))
            return "${metric_or_resource.label." + label + "}"
        if name == "externalLabels.docs":
            return docs
        raise UsageError(f"{found[0]} in {text!r} cannot be shown by Cloud Monitoring.")

    shown = _TEMPLATE.sub(replaced, text)
    if "{{" in shown:
        raise UsageError(f"{text!r} has a template that cannot be shown by Cloud Monitoring.")
    return shown


def _of_rule(alert: AlertRule, environment: CloudEnvironment) -> monitoring_v3.AlertPolicy:
    condition = monitoring_v3.AlertPolicy.Condition(
        display_name=alert.name,
        condition_prometheus_query_language={
            "query": alert.query,
            "duration": timedelta(seconds=alert.seconds),
            "evaluation_interval": timedelta(seconds=EVERY_SECONDS),
            "labels": dict(alert.labels),
            "rule_group": alert.group,
            "alert_rule": alert.name,
            # The first scrape makes a metric: before it a policy that names one is refused.
            "disable_metric_validation": True,
        },
    )
    return _policy(alert, environment, condition, alert.name)


def _outside(
    alert: AlertRule, environment: CloudEnvironment, check: str
) -> monitoring_v3.AlertPolicy:
    """Return the policy of the uptime check: as bad as the alert, and with its documentation."""
    condition = _above(
        _CHECK_REGIONS_FAILED,
        'metric.type="monitoring.googleapis.com/uptime_check/check_passed" '
        f'AND resource.type="cloud_run_revision" AND metric.labels.check_id="{check}"',
        seconds=60,
        aggregation={
            "alignment_period": timedelta(seconds=_OUTSIDE_SECONDS),
            "per_series_aligner": monitoring_v3.Aggregation.Aligner.ALIGN_NEXT_OLDER,
            "cross_series_reducer": monitoring_v3.Aggregation.Reducer.REDUCE_COUNT_FALSE,
            "group_by_fields": ["resource.label.project_id"],
        },
    )
    condition.display_name = f"{alert.name} from outside"
    return _policy(alert, environment, condition, f"{alert.name}-outside")


def _of_jobs(environment: CloudEnvironment) -> monitoring_v3.AlertPolicy:
    """Return the policy of runs that failed."""
    condition = _above(
        0,
        'metric.type="run.googleapis.com/job/completed_execution_count" '
        'AND resource.type="cloud_run_job" AND metric.labels.result="failed" '
        f'AND resource.labels.job_name=starts_with("{MANAGED}-")',
        seconds=0,
        aggregation={
            "alignment_period": timedelta(seconds=_JOB_SECONDS),
            "per_series_aligner": monitoring_v3.Aggregation.Aligner.ALIGN_DELTA,
            "cross_series_reducer": monitoring_v3.Aggregation.Reducer.REDUCE_SUM,
            "group_by_fields": ["resource.label.job_name"],
        },
    )
    condition.display_name = _JOB.name
    return _policy(_JOB, environment, condition, _JOB.name)


def _above(
    threshold: int, series: str, *, seconds: int, aggregation: dict[str, object]
) -> monitoring_v3.AlertPolicy.Condition:
    """Return the condition that any of some series is above a threshold for so long."""
    return monitoring_v3.AlertPolicy.Condition(
        condition_threshold={
            "filter": series,
            "comparison": monitoring_v3.ComparisonType.COMPARISON_GT,
            "threshold_value": threshold,
            "duration": timedelta(seconds=seconds),
            "aggregations": [aggregation],
            "trigger": {"count": 1},
        }
    )


def _policy(
    alert: AlertRule,
    environment: CloudEnvironment,
    condition: monitoring_v3.AlertPolicy.Condition,
    name: str,
) -> monitoring_v3.AlertPolicy:
    return monitoring_v3.AlertPolicy(
        display_name=f"{name} ({environment.name})",
        documentation=_documentation(alert, environment.docs),
        user_labels={
            **environment.labels,
            ALERT_LABEL: name.lower(),
            "severity": alert.severity,
        },
        conditions=[condition],
        combiner=monitoring_v3.AlertPolicy.ConditionCombinerType.OR,
        enabled=True,
        severity=_SEVERITIES[alert.severity],
    )


def _documentation(alert: AlertRule, docs: str) -> monitoring_v3.AlertPolicy.Documentation:
    page = text_of(alert.runbook, docs).lstrip("/")
    where = page if docs else "docs/" + page.replace("/#", ".md#")
    kind = monitoring_v3.AlertPolicy.Documentation
    return kind(
        subject=text_of(alert.summary),
        content=f"{text_of(alert.description)}\n\nRunbook: {where}",
        mime_type="text/markdown",
        links=[kind.Link(display_name="Runbook", url=page)] if docs else [],
    )
