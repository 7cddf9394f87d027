"""Makes an alert fire: writes what its rule looks for, and waits for the incident.

Managed Prometheus keeps a sample that is written with the Monitoring API like one that was scraped,
so the policy itself is tested: its query, its duration, its channel. The series has labels that no
service has. It ends with a value that is calm, on which the incident closes; Google deletes the
series itself when its time of keeping is over.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.api import metric_pb2, monitored_resource_pb2
from google.cloud import monitoring_v3

from classmark.cloud.environment import CloudEnvironment
from classmark.cloud.google import Google, google_errors
from classmark.cloud.watch.kinds import MONITORING_ROLE, policy_kind
from classmark.cloud.watch.policies import ALERT_LABEL
from classmark.cloud.watch.rules import AlertRule, Rules
from classmark.cloud.watch.samples import DEFAULT_ALERT, Pace, Sample, sample_of
from classmark.errors import CloudFailed, CloudNotFound, CloudRefused

_TEST = "alert-test"
_HOST = "monitoring.googleapis.com"


@dataclass(frozen=True, kw_only=True)
class Fired:
    """An incident that was made.

    Attributes:
        alert: name of the alert.
        policy: name of the policy.
        incident: name of the incident.
        seconds: from the first sample until the incident was seen.
    """

    alert: str
    policy: str
    incident: str
    seconds: float


def series_of(
    sample: Sample, value: float, environment: CloudEnvironment, at: float
) -> monitoring_v3.TimeSeries:
    """Return one value of the sample as the series that a scrape would write.

    Args:
        sample: metric and labels.
        value: of the metric.
        environment: whose project and region it has.
        at: seconds since 1970.
    """
    place = {
        "project_id": environment.project,
        "location": environment.region,
        "cluster": _TEST,
        "namespace": _TEST,
        "job": _TEST,
        "instance": _TEST,
    }
    labels = {name: text for name, text in sample.labels.items() if name not in place}
    own = {name: text for name, text in sample.labels.items() if name in place}
    end = {"seconds": int(at), "nanos": int(at % 1 * 1e9)}
    kind = f"prometheus.googleapis.com/{sample.metric}/gauge"
    return monitoring_v3.TimeSeries(
        metric=metric_pb2.Metric(type=kind, labels=labels),
        resource=monitored_resource_pb2.MonitoredResource(
            type="prometheus_target", labels=place | own
        ),
        metric_kind=metric_pb2.MetricDescriptor.GAUGE,
        value_type=metric_pb2.MetricDescriptor.DOUBLE,
        points=[{"interval": {"end_time": end}, "value": {"double_value": value}}],
    )


def fire(
    google: Google,
    rules: Rules,
    name: str = DEFAULT_ALERT,
    *,
    pace: Pace | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> Fired:
    """Make an alert fire, and return its incident; what was written ends calmly, on Ctrl-C too.

    Args:
        google: clients.
        rules: that the policies were made from.
        name: of the alert.
        pace: how long to wait.
        report: gets a line for each step.

    Raises:
        CloudNotFound: the alert has no policy yet.
        CloudRefused: it is firing already, or Google refuses something.
        CloudFailed: it has not fired in time.
        UsageError: see ``sample_of``.
    """
    alert, sample, pace = rules.alert(name), sample_of(rules, name), pace or Pace()
    policy = _policy(google, alert)
    if (already := _open_incident(google, policy)) is not None:
        raise CloudRefused(f"{name} is firing already: {already}. Close that incident first.")
    writer = _Writer(google, sample, pace)
    report(f"writing {sample.metric} {sample.firing:g} until {name} fires")
    try:
        return _wait(google, alert, policy, writer, report)
    finally:
        writer.write(sample.calm)
        report(f"wrote {sample.metric} {sample.calm:g}: the incident closes in a few minutes")


class _Writer:
    """Writes samples, never two of them closer than Monitoring allows."""

    def __init__(self, google: Google, sample: Sample, pace: Pace) -> None:
        self._client = google.client(monitoring_v3.MetricServiceClient)
        self._google, self._sample, self.pace = google, sample, pace
        self._written_at = 0.0

    def write(self, value: float) -> None:
        """Write a value now, or as soon as is allowed."""
        time.sleep(max(0.0, self._written_at + self.pace.gap_s - time.time()))
        self._written_at = time.time()
        environment = self._google.environment
        series = series_of(self._sample, value, environment, self._written_at)
        with google_errors("writing a sample", role=MONITORING_ROLE):
            self._client.create_time_series(
                name=f"projects/{environment.project}", time_series=[series]
            )

    def write_firing(self) -> None:
        """Write the value with which the alert fires."""
        self.write(self._sample.firing)


def _wait(
    google: Google, alert: AlertRule, policy: str, writer: _Writer, report: Callable[[str], None]
) -> Fired:
    began = time.monotonic()
    while (waited := time.monotonic() - began) < writer.pace.timeout_s:
        writer.write_firing()
        if incident := _open_incident(google, policy):
            seconds = round(time.monotonic() - began, 1)
            return Fired(alert=alert.name, policy=policy, incident=incident, seconds=seconds)
        report(f"{waited:.0f} s: no incident yet; the rule waits {alert.seconds} s itself")
        time.sleep(writer.pace.every_s)
    raise CloudFailed(
        f"{alert.name} has not fired within {writer.pace.timeout_s:.0f} s. Look at the policy "
        f"{policy}: is it enabled, and not snoozed?"
    )


def _policy(google: Google, alert: AlertRule) -> str:
    """Return the name of an alert's policy."""
    for policy in policy_kind(google).found():
        if policy.user_labels[ALERT_LABEL] == alert.name.lower():
            return str(policy.name)
    raise CloudNotFound(
        f"{alert.name} has no policy in {google.environment.project}. Make it with "
        "`classmark cloud alerts --apply`."
    )


def _open_incident(google: Google, policy: str) -> str | None:
    """Return the name of an open incident of a policy; None if there is none."""
    path, page = f"/v3/projects/{google.environment.project}/alerts", ""
    while True:
        with google_errors("listing incidents", role=MONITORING_ROLE):
            found: dict[str, Any] = google.fetch(_HOST, path, filter='state="OPEN"', pageToken=page)
        for incident in found.get("alerts", []):
            if incident["state"] == "OPEN" and incident["policy"]["name"] == policy:
                return str(incident["name"])
        page = found.get("nextPageToken", "")
        if not page:
            return None
