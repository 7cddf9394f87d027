"""Writes the dashboards of Grafana: python deploy/grafana/dashboards.py [--check].

A dashboard is a table here: a row of ``PANELS`` per panel. ``--check`` fails where the committed
JSON is not what this script writes.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueGraphMode,
    BigValueTextMode,
    LegendDisplayMode,
    LegendPlacement,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DataSourceRef

HERE = Path(__file__).parent / "dashboards"
SOURCE = DataSourceRef(type_val="prometheus", uid="prometheus")
_HEIGHT, _STAT_HEIGHT, _COLUMNS = 8, 4, 24


@dataclass(frozen=True)
class Panel:
    """A panel of a dashboard.

    Attributes:
        title: what it shows.
        help: what a reader should know, shown beside the title.
        unit: of Grafana, e.g. ``reqps``, ``s``, ``bytes``, ``percentunit``, ``short``.
        queries: legend -> PromQL.
        span: columns of 24.
        number: show the newest value as a number, not a curve.
    """

    title: str
    help: str
    unit: str
    queries: dict[str, str]
    span: int = 12
    number: bool = False


def _share(part: str, whole: str) -> str:
    return f"({_rate(part)} or vector(0)) / {_rate(whole)}"


def _percentile(share: float) -> str:
    rates = "sum by (le) (rate(classmark_request_seconds_bucket[$__rate_interval]))"
    return f"histogram_quantile({share}, {rates})"


def _rate(metric: str, by: str = "") -> str:
    return f"sum{f' by ({by})' if by else ''} (rate({metric}[$__rate_interval]))"


SERVICE = (
    Panel("Service", "1 while Prometheus reaches the service.", "short",
          {"up": 'max(up{job="classmark"})'}, 4, number=True),
    Panel("Model", "Name and version of the model that answers.", "short",
          {"{{name}}@{{version}}": "max by (name, version) (classmark_model_info)"},
          5, number=True),
    Panel("Running for", "Since the service was started.", "s",
          {"": "time() - max(classmark_start_time_seconds)"}, 5, number=True),
    Panel("Workers", "Alive now.", "short", {"": "max(classmark_workers)"}, 3, number=True),
    Panel("Errors", "Share of requests answered with 5xx.", "percentunit",
          {"": _share('classmark_requests_total{status=~"5.."}', "classmark_requests_total")},
          4, number=True),
    Panel("Lost in an hour", "Predictions that the journal lost, and workers that died.", "short",
          {"lost": "sum(increase(classmark_journal_dropped_total[1h]))",
           "restarts": "sum(increase(classmark_worker_restarts_total[1h]))"}, 3, number=True),
    Panel("Requests", "Answered per second, by status.", "reqps",
          {"{{status}}": _rate("classmark_requests_total", "status")}),
    Panel("Latency", "From the first byte seen to the last byte given to the socket.", "s",
          {f"p{share * 100:g}": _percentile(share) for share in (0.5, 0.95, 0.99)}),
    Panel("Papers", "Classified per second, by outcome.", "short",
          {"{{outcome}}": _rate("classmark_papers_total", "outcome")}),
    Panel("Abstained", "Share of papers without a primary category.", "percentunit",
          {"abstained": _share('classmark_papers_total{outcome!~"accepted|error"}',
                               'classmark_papers_total{outcome!="error"}')}),
    Panel("Work", "Requests being answered, and papers that wait for the deep model.", "short",
          {"requests in work": "sum(classmark_requests_in_work)",
           "papers in the queue": "sum(classmark_queue_papers)"}),
    Panel("Refusals", "Connections, API keys, and what the queue has no time for.", "reqps",
          {"connections: {{reason}}": _rate("classmark_connections_refused_total", "reason"),
           "keys: {{reason}}": _rate("classmark_keys_refused_total", "reason"),
           "queue": _rate("classmark_queue_refused_total")}),
    Panel("Memory", "Resident, by process.", "bytes",
          {"{{process}}": 'sum by (process) (process_resident_memory_bytes{job="classmark"})'}),
    Panel("CPU", "Cores in use, by process.", "short",
          {"{{process}}": _rate('process_cpu_seconds_total{job="classmark"}', "process")}),
    Panel("Journal", "Events written per second, and waiting.", "short",
          {"written per second": _rate("classmark_journal_written_total"),
           "waiting": "sum(classmark_journal_queued)",
           "failing": "max(classmark_journal_failing)"}, 24),
)  # fmt: skip
DASHBOARDS = {"service": ("classmark: service", SERVICE)}


def render(uid: str) -> str:
    """Return the JSON of a dashboard."""
    title, panels = DASHBOARDS[uid]
    board = (
        dashboard.Dashboard(title)
        .uid(f"classmark-{uid}")
        .tags(["classmark"])
        .refresh("5s")
        .time("now-15m", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .readonly()
    )
    for panel in panels:
        board = board.with_panel(_draw(panel))
    return JSONEncoder(sort_keys=True, indent=1).encode(board.build()) + "\n"


def _draw(panel: Panel) -> stat.Panel | timeseries.Panel:
    """Return the builder of a panel."""
    drawn = (
        (_number(panel) if panel.number else _curve())
        .title(panel.title)
        .description(panel.help)
        .unit(panel.unit)
        .datasource(SOURCE)
        .span(panel.span)
        .height(_STAT_HEIGHT if panel.number else _HEIGHT)
    )
    for letter, (legend, query) in zip(ascii_uppercase, panel.queries.items(), strict=False):
        target = prometheus.Dataquery().ref_id(letter).expr(query)
        target = target.legend_format(legend or panel.title)
        drawn = drawn.with_target(target.instant() if panel.number else target)
    return drawn


def _number(panel: Panel) -> stat.Panel:
    newest = common.ReduceDataOptions().calcs(["lastNotNull"])
    named = any("{{" in legend for legend in panel.queries)
    text = BigValueTextMode.NAME if named else BigValueTextMode.AUTO
    return stat.Panel().reduce_options(newest).text_mode(text).graph_mode(BigValueGraphMode.NONE)


def _curve() -> timeseries.Panel:
    legend = common.VizLegendOptions().show_legend(True).placement(LegendPlacement.BOTTOM)
    legend = legend.display_mode(LegendDisplayMode.LIST)
    tooltip = common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI)
    return timeseries.Panel().min(0).fill_opacity(10).legend(legend).tooltip(tooltip)


def main(words: list[str]) -> int:
    """Write the dashboards, or with ``--check`` compare them."""
    stale = []
    for uid in DASHBOARDS:
        file, text = HERE / f"{uid}.json", render(uid)
        if file.exists() and file.read_text(encoding="utf-8") == text:
            continue
        stale.append(file.name)
        if "--check" not in words:
            file.write_text(text, encoding="utf-8")
    if stale and "--check" in words:
        print(f"stale: {', '.join(stale)}. Run: python deploy/grafana/dashboards.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
