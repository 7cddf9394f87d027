"""Dashboards of Cloud Monitoring, each from one of Grafana."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from classmark.cloud.environment import CloudEnvironment
from classmark.cloud.watch.rules import on_cloud_run
from classmark.errors import CloudNotFound, UsageError, unreadable

GRAFANA_FOLDER = Path("deploy/grafana/dashboards")
_LABEL = re.compile(r"\{\{(\w+)\}\}")
COLUMNS = 48
"""Columns of a mosaic of Cloud Monitoring; Grafana has 24."""
_INTERVAL = {"$__rate_interval": "${__interval}"}
_UNITS = {"s": "s", "bytes": "By", "percentunit": "10^2.%", "reqps": "1/s", "short": "1"}
_SCALE = COLUMNS // 24


def dashboard_of(text: str, environment: CloudEnvironment) -> dict[str, Any]:
    """Return a dashboard as Cloud Monitoring's API takes it.

    Args:
        text: JSON of Grafana's.
        environment: whose labels it has.

    Raises:
        UsageError: it is not a dashboard of Grafana.
    """
    try:
        board = json.loads(text)
        tiles = [_tile(panel) for panel in board["panels"]]
        title = board["title"]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"not a dashboard of Grafana: {error!r}.") from error
    return {
        "displayName": f"{title} ({environment.name})",
        "labels": environment.labels,
        "mosaicLayout": {"columns": COLUMNS, "tiles": tiles},
    }


def read_dashboards(environment: CloudEnvironment, folder: Path) -> dict[str, dict[str, Any]]:
    """Return name -> dashboard for every dashboard of Grafana in a folder.

    Raises:
        CloudNotFound: one cannot be read.
        UsageError: one is not a dashboard.
    """
    boards = {}
    for file in sorted(folder.glob("*.json")):
        try:
            boards[file.stem] = dashboard_of(file.read_text("utf-8"), environment)
        except OSError as error:
            raise CloudNotFound(f"{file} {unreadable(error, 'Give another folder')}") from error
    return boards


def _tile(panel: Mapping[str, Any]) -> dict[str, Any]:
    place = panel["gridPos"]
    return {
        "xPos": place["x"] * _SCALE,
        "yPos": place["y"] * _SCALE,
        "width": place["w"] * _SCALE,
        "height": place["h"] * _SCALE,
        "widget": _widget(panel),
    }


def _widget(panel: Mapping[str, Any]) -> dict[str, Any]:
    unit = _UNITS[panel["fieldConfig"]["defaults"]["unit"]]
    queries = [_query(target, unit) for target in panel["targets"]]
    shown: dict[str, Any]
    if panel["type"] == "stat" and len(queries) == 1 and "{" not in _legend(panel["targets"][0]):
        shown = {"scorecard": {"timeSeriesQuery": queries[0]}}
    else:
        sets = [
            {"timeSeriesQuery": query, "plotType": "LINE", "legendTemplate": legend}
            for query, legend in zip(queries, map(_legend, panel["targets"]), strict=True)
        ]
        shown = {"xyChart": {"dataSets": sets}}
    return {"title": panel["title"], **shown}


def _query(target: Mapping[str, Any], unit: str) -> dict[str, str]:
    expression = target["expr"]
    for grafana, cloud in _INTERVAL.items():
        expression = expression.replace(grafana, cloud)
    return {"prometheusQuery": on_cloud_run(expression), "unitOverride": unit}


def _legend(target: Mapping[str, Any]) -> str:
    """Return a legend: ``{{status}}`` of Grafana is ``${metric.labels.status}`` here."""
    return _LABEL.sub(r"${metric.labels.\1}", target.get("legendFormat", ""))
