"""Everything that watches an environment: what is asked of Google, and the files that show it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.cloud import monitoring_v3
from google.cloud.logging_v2.types import LogMetric

from classmark.cloud.environment import CloudEnvironment
from classmark.cloud.watch.dashboards import GRAFANA_FOLDER, read_dashboards
from classmark.cloud.watch.objectives import objectives_of
from classmark.cloud.watch.parts import (
    channel_of,
    check_of,
    log_metrics_of,
    objective_of,
    service_of,
)
from classmark.cloud.watch.policies import ALERT_LABEL, policies_of
from classmark.cloud.watch.rules import RULES_FOLDER, Rules, read_rule_files
from classmark.storage.atomic import write_text

CHECK_PLACE = "UPTIME_CHECK_ID"
"""Where files have the ID that Google gives to the uptime check when it is made."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What shall watch an environment.

    Attributes:
        environment: whose it is.
        rules: it is made from.
        channel: notified by every policy; None without a mail address.
        check: asks from outside whether the service is ready.
        log_metrics: counts of lines of logs.
        service: what the objectives belong to.
        objectives: with the numbers of the rules.
    """

    environment: CloudEnvironment
    rules: Rules
    channel: monitoring_v3.NotificationChannel | None
    check: monitoring_v3.UptimeCheckConfig
    log_metrics: list[LogMetric]
    service: monitoring_v3.Service
    objectives: list[monitoring_v3.ServiceLevelObjective]

    def policies(self, *, channels: list[str], check: str) -> list[monitoring_v3.AlertPolicy]:
        """Return the policies, see ``policies_of``."""
        return policies_of(self.rules, self.environment, channels=channels, check=check)


def plan_of(environment: CloudEnvironment, rules_folder: Path = RULES_FOLDER) -> Plan:
    """Return what shall watch an environment, from the rules of Prometheus.

    Raises:
        CloudNotFound: the folder has no rules.
        UsageError: a rule cannot be put into Cloud Monitoring.
    """
    rules = read_rule_files(rules_folder)
    return Plan(
        environment=environment,
        rules=rules,
        channel=channel_of(environment),
        check=check_of(environment),
        log_metrics=log_metrics_of(environment),
        service=service_of(environment),
        objectives=[objective_of(found, environment) for found in objectives_of(rules)],
    )


def requests_of(plan: Plan) -> dict[str, list[dict[str, Any]]]:
    """Return kind -> its messages as JSON, with fields named as in Google's API.

    The channel is without its name and the policies are without channels: Google gives the names.
    """
    policies = plan.policies(channels=[], check=CHECK_PLACE)
    return {
        "channels": [json_of(plan.channel)] if plan.channel else [],
        "checks": [json_of(plan.check)],
        "log-metrics": [json_of(metric) for metric in plan.log_metrics],
        "services": [json_of(plan.service)],
        "objectives": [json_of(objective) for objective in plan.objectives],
        "policies": [json_of(policy) for policy in policies],
    }


def files_of(plan: Plan, grafana: Path = GRAFANA_FOLDER) -> dict[str, str]:
    """Return path -> text of each file that shows the plan.

    Args:
        plan: what shall watch.
        grafana: folder of Grafana's dashboards; those of Cloud Monitoring are made from them.
    """
    found: dict[str, str] = {}
    for kind, messages in requests_of(plan).items():
        for message in messages:
            found[f"{kind}/{_stem(message)}.json"] = _text(message)
    for name, board in read_dashboards(plan.environment, grafana).items():
        found[f"dashboards/{name}.json"] = _text(board)
    return found


def write_files(files: dict[str, str], folder: Path) -> None:
    """Write the files, and remove other JSON files of the folder's kinds."""
    for name in stale_files(files, folder):
        (folder / name).unlink(missing_ok=True)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_text(folder / name, text)


def stale_files(files: dict[str, str], folder: Path) -> list[str]:
    """Return the names of files that are missing, differ or belong to nothing any more."""
    kinds = {name.partition("/")[0] for name in files}
    there = {
        f"{kind}/{file.name}": file.read_text("utf-8")
        for kind in kinds
        for file in (folder / kind).glob("*.json")
    }
    return sorted(name for name in files.keys() | there if files.get(name) != there.get(name))


def json_of(message: Any) -> dict[str, Any]:  # noqa: ANN401 - a message of proto-plus
    """Return a message as JSON with the names of Google's API; what is not set is left out."""
    shown: dict[str, Any] = json.loads(
        type(message).to_json(
            message,
            preserving_proto_field_name=False,
            use_integers_for_enums=False,
            always_print_fields_with_no_presence=False,
        )
    )
    return shown


def _stem(message: dict[str, Any]) -> str:
    labels = message.get("userLabels", {})
    if ALERT_LABEL in labels:
        return str(labels[ALERT_LABEL])
    return str(message.get("name", "classmark")).rpartition("/")[2].rpartition(".")[2]


def _text(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
