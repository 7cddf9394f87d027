"""What runs beside the service asks for what the service has."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from classmark.service.metrics import FAMILIES

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
SUFFIX = {"counter": "_total", "histogram": "_bucket", "gauge": ""}
METRICS = {f"{name}{SUFFIX[family.kind]}" for name, family in FAMILIES.items()} | {"up"}
# A metric is a word before its labels, its range or the end of what it is an argument of.
_METRIC = re.compile(r"\b(?:classmark|process)_\w+|\bup\b")


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


def test_prometheus_looks_where_compose_starts_the_service() -> None:
    compose = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    target = re.search(
        r"targets: \[\"(\w+):(\d+)\"\]", (DEPLOY / "prometheus/prometheus.yml").read_text()
    )
    assert target is not None
    assert f"\n  {target[1]}:\n" in compose
    assert f':{target[2]}"]' in compose
