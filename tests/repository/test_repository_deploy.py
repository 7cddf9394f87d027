"""What runs beside the service asks for what the service has."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from classmark.service.families import FAMILIES

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
RULES = sorted((DEPLOY / "prometheus" / "rules").glob("*.yml"))
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
METRICS = {
    f"{name}{suffix}" for name, family in FAMILIES.items() for suffix in SUFFIXES[family.kind]
} | {"up"}
# A metric is a word before its labels, its range or the end of what it is an argument of.
_METRIC = re.compile(r"\b(?:classmark|process)_\w+|\bup\b")


def rules() -> list[dict[str, Any]]:
    """Return every rule, of records and of alerts."""
    groups = [group for file in RULES for group in yaml.safe_load(file.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}


def run(program: str, *words: str | Path) -> str:
    """Run a program of Debian that checks files; skip where it is missing, except in CI."""
    if shutil.which(program) is None:
        if os.environ.get("CI"):
            pytest.fail(f"{program} is not installed: make system-deps")
        pytest.skip(f"{program} is not installed: make system-deps")
    done = subprocess.run(
        [program, *map(str, words)], capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_a_dashboard_asks_only_for_metrics_that_the_service_has(file: Path) -> None:
    panels = json.loads(file.read_text(encoding="utf-8"))["panels"]
    asked = {
        name
        for panel in panels
        for target in panel["targets"]
        for name in _METRIC.findall(target["expr"])
    }
    assert len(asked) > 10
    assert not asked - METRICS


def test_prometheus_looks_where_compose_starts_what_it_scrapes_and_sends_to() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    places = [*config["scrape_configs"], *config["alerting"]["alertmanagers"]]
    targets = [
        t for place in places for static in place["static_configs"] for t in static["targets"]
    ]
    assert len(targets) == 5
    for target in targets:
        name, port = target.split(":")
        if name != "localhost":
            assert services[name]["ports"][0].endswith(f":{port}")


def test_the_tracking_of_compose_answers_only_to_names_of_its_own() -> None:
    """A page of another site, whose name leads to this machine, is not answered."""
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]
    (hosts,) = [w for w in services["mlflow"]["command"] if w.startswith("--allowed-hosts=")]
    names = {host.removesuffix(":*") for host in hosts.partition("=")[2].split(",")}
    assert names == {"mlflow", "localhost", "127.0.0.1"}


def test_a_rule_asks_only_for_metrics_that_the_service_has_and_records_that_are_made() -> None:
    made = {rule["record"] for rule in rules() if "record" in rule}
    for rule in rules():
        expression = re.sub(r"\"[^\"]*\"", '""', rule["expr"])
        recorded = set(re.findall(r"\bclassmark:[\w:]+", expression))
        assert recorded <= made
        asked = set(_METRIC.findall(re.sub(r"\bclassmark:[\w:]+", "", expression)))
        assert asked | recorded
        assert not asked - METRICS


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_and_how_bad_and_has_its_runbook(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("page", "ticket")
    notes = rule["annotations"]
    assert all(notes[key] for key in ("summary", "description"))
    page, _, anchor = notes["runbook_url"].partition("#")
    assert page == "{{ $externalLabels.docs }}/how-to/runbooks/"
    assert anchor == name.lower()
    sections = (ROOT / "docs/how-to/runbooks.md").read_text("utf-8").split("\n### ")
    [section] = [text for text in sections if text.partition("\n")[0] == name]
    for part in ("What it means", "Look first", "Do", "Silence"):
        assert f"**{part}.**" in section


def test_the_runbooks_have_no_section_of_an_alert_that_is_gone() -> None:
    page = (ROOT / "docs/how-to/runbooks.md").read_text("utf-8")
    assert set(re.findall(r"^### (\w+)$", page, re.MULTILINE)) == set(ALERTS)
    assert set(re.findall(r"alertname=(Classmark\w+)", page)) <= set(ALERTS)


def test_every_alert_has_a_test_of_promtool_that_sees_it_fire() -> None:
    fired = set()
    for file in (DEPLOY / "prometheus" / "tests").glob("*.yml"):
        for test in yaml.safe_load(file.read_text())["tests"]:
            fired |= {t["alertname"] for t in test["alert_rule_test"] if t["exp_alerts"]}
    assert fired == set(ALERTS)


def test_prometheus_takes_its_configuration_and_its_rules() -> None:
    said = run("promtool", "check", "config", DEPLOY / "prometheus" / "prometheus.yml")
    assert f"{len(RULES)} rule files found" in said


def test_the_rules_fire_when_they_should_and_only_then() -> None:
    run("promtool", "test", "rules", *(DEPLOY / "prometheus" / "tests").glob("*.yml"))


def test_alertmanager_takes_its_configuration_and_pages_go_to_the_webhook() -> None:
    file = DEPLOY / "alertmanager" / "alertmanager.yml"
    assert "SUCCESS" in run("amtool", "check-config", file)
    route = ("config", "routes", "test", f"--config.file={file}")
    for severity, receiver in (("page", "webhook"), ("ticket", "mail")):
        assert run("amtool", *route, f"severity={severity}").split()[0] == receiver


def test_no_secret_is_in_the_configuration_of_alertmanager() -> None:
    text = (DEPLOY / "alertmanager" / "alertmanager.yml").read_text()
    secret = re.compile(r"^\s*\w*(?:password|credentials|token|secret)\w*:", re.MULTILINE)
    assert {name.strip(" :") for name in secret.findall(text)} == {
        "smtp_auth_password_file", "credentials_file"
    }  # fmt: skip
