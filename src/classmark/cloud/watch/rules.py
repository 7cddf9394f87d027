"""Rules of Prometheus as Cloud Monitoring can evaluate them: without recording rules."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from classmark.errors import CloudNotFound, UsageError, unreadable

RULES_FOLDER = Path("deploy/prometheus/rules")
_QUOTED_OR_NAME = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|[A-Za-z_:][\w:]*")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(?:\d+[smhd])+")


@dataclass(frozen=True, kw_only=True)
class AlertRule:
    """An alert, with the names of recording rules replaced by what they record.

    Attributes:
        name: of the alert, e.g. ``ClassmarkTargetDown``.
        group: name of its group of rules.
        written: the expression as the file has it.
        query: the expression without recording rules, on one line, for Cloud Run.
        seconds: how long it must hold before the alert fires.
        labels: as the file has them; ``severity`` is ``page`` or ``ticket``.
        summary: title of a notification, with templates of Prometheus.
        description: what has happened, with templates of Prometheus.
        runbook: address of the runbook, with templates of Prometheus.
    """

    name: str
    group: str
    written: str
    query: str
    seconds: int
    labels: Mapping[str, str]
    summary: str
    description: str
    runbook: str

    @property
    def severity(self) -> str:
        """``page`` calls somebody now, ``ticket`` waits for the morning."""
        return self.labels["severity"]


@dataclass(frozen=True)
class Rules:
    """The rules of a folder.

    Attributes:
        alerts: in the order of the files.
        records: name -> expression on one line, as written.
    """

    alerts: tuple[AlertRule, ...]
    records: Mapping[str, str]

    def alert(self, name: str) -> AlertRule:
        """Return the alert of a name.

        Raises:
            UsageError: names those that there are.
        """
        for alert in self.alerts:
            if alert.name == name:
                return alert
        known = ", ".join(alert.name for alert in self.alerts)
        raise UsageError(f"{name!r} is not an alert. Give one of {known}.")


def read_rule_files(folder: Path = RULES_FOLDER) -> Rules:
    """Return the rules of every ``.yml`` file of a folder.

    Raises:
        CloudNotFound: the folder has no rules.
        UsageError: a file is not YAML, or a rule lacks something.
    """
    files = sorted(folder.glob("*.yml"))
    if not files:
        raise CloudNotFound(
            f"{folder} has no rules (*.yml). Run this in a checkout of classmark, or give the "
            "folder with --rules: the installed package does not hold it."
        )
    rules = [rule for file in files for rule in _rules_of(file)]
    records = {rule["record"]: _one_line(rule["expr"]) for _, rule in rules if "record" in rule}
    alerts = [_alert(group, rule, records) for group, rule in rules if "alert" in rule]
    return Rules(tuple(alerts), records)


def expand(expression: str, records: Mapping[str, str], within: tuple[str, ...] = ()) -> str:
    """Return an expression with each recording rule replaced by what it records, in parentheses.

    Args:
        expression: of PromQL.
        records: name -> expression, which may name other records.
        within: names that are being replaced.

    Raises:
        UsageError: records name each other in a circle, or one has a matcher or range behind it,
            which an expression cannot have.
    """

    def replaced(found: re.Match[str]) -> str:
        name = found[0]
        if name not in records:
            return name
        if name in within:
            raise UsageError(f"recording rule {name} records itself: {' -> '.join(within)}.")
        if expression[found.end() :].lstrip()[:1] in ("{", "["):
            raise UsageError(
                f"recording rule {name} has a matcher or range behind it, which cannot be put "
                "into Cloud Monitoring. Write the alert with the metric itself."
            )
        return f"({expand(records[name], records, (*within, name))})"

    return _QUOTED_OR_NAME.sub(replaced, expression)


def on_cloud_run(query: str) -> str:
    """Return a query with the label of the service as the collector of Cloud Run names it."""
    return _QUOTED_OR_NAME.sub(lambda found: label_on_cloud_run(found[0]), query)


def label_on_cloud_run(name: str) -> str:
    """Return the name of a label there.

    The collector gives all services the same ``job``. What ``job`` is where Prometheus reads the
    metrics, the name of the service, is ``namespace``.
    """
    return "namespace" if name == "job" else name


def seconds_of(duration: str) -> int:
    """Return a duration of Prometheus (``90s``, ``1h30m``) in seconds.

    Raises:
        UsageError: it is not one.
    """
    if duration == "0":
        return 0
    if not _DURATION.fullmatch(duration):
        raise UsageError(f"{duration!r} is not a duration. Give one such as 5m.")
    return sum(int(n) * _SECONDS[unit] for n, unit in re.findall(r"(\d+)([smhd])", duration))


def _rules_of(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    import yaml

    try:
        groups = yaml.safe_load(file.read_text("utf-8"))["groups"]
        for group in groups:
            for rule in group["rules"]:
                yield group["name"], rule
    except OSError as error:
        raise CloudNotFound(f"{file} {unreadable(error, 'Give a folder of rules')}") from error
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise UsageError(f"{file} is not a file of rules of Prometheus: {error!r}.") from error


def _alert(group: str, rule: Mapping[str, Any], records: Mapping[str, str]) -> AlertRule:
    written = _one_line(rule["expr"])
    notes, labels = rule.get("annotations", {}), rule.get("labels", {})
    missing = {"summary", "description", "runbook_url"} - notes.keys()
    if missing or labels.get("severity") not in ("page", "ticket"):
        lacks = ", ".join(sorted(missing)) or "severity page or ticket"
        raise UsageError(f"alert {rule['alert']} lacks {lacks}.")
    return AlertRule(
        name=rule["alert"],
        group=group,
        written=written,
        query=on_cloud_run(expand(written, records)),
        seconds=seconds_of(str(rule.get("for", "0"))),
        labels=labels,
        summary=notes["summary"],
        description=" ".join(notes["description"].split()),
        runbook=notes["runbook_url"],
    )


def _one_line(expression: str) -> str:
    """Join the lines of an expression; no string of a rule holds a line end."""
    return " ".join(line.strip() for line in expression.strip().splitlines())
