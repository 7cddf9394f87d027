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
_BY_MODEL = "sum by (model) (rate({}[$__rate_interval]))"
WATCH = (
    Panel("Drift", "What the newest report of `classmark monitor` asks for.", "short",
          {"{{action}}": "classmark_drift_action == 1"}, 4, number=True),
    Panel("Report", "Age of the newest report.", "s",
          {"": "max(classmark_drift_report_age_seconds)"}, 4, number=True),
    Panel("Papers", "Compared by the newest report, and with feedback.", "short",
          {"compared": "max(classmark_drift_papers)", "labels": "max(classmark_live_labels)"},
          4, number=True),
    Panel("Model for", "Since its promotion, or since its fit without a registry.", "s",
          {"": "time() - max(classmark_champion_since_timestamp_seconds "
               "or classmark_model_made_timestamp_seconds)"}, 4, number=True),
    Panel("Registry", "Number of the change that every worker has followed.", "short",
          {"": "max(classmark_registry_sequence)"}, 4, number=True),
    Panel("Refused", "Models that the registry names and that cannot be used.", "short",
          {"": "max(classmark_registry_refused)"}, 4, number=True),
    Panel("Size of the shift", "Share of papers that would have to come from another field.",
          "percentunit", {"size": "max(classmark_drift_size)"}),
    Panel("Chance", "p-value of the newest window if nothing has changed.", "short",
          {"p": "max(classmark_drift_p_value)"}),
    Panel("Martingale", "Wealth of the continuous watch; 1 at the beginning.", "short",
          {"martingale": "max(classmark_drift_martingale)"}),
    Panel("Alarms", "1 for each kind of alarm of the newest report.", "short",
          {"{{kind}}": "max by (kind) (classmark_drift_alarm)"}),
    Panel("Confidence", "Mean probability of the first category, by model.", "percentunit",
          {"{{model}}": _BY_MODEL.format("classmark_confidence_sum") + " / "
                        + _BY_MODEL.format("classmark_confidence_count")}),
    Panel("Abstained", "Share of answers without an accepted category, by model.", "percentunit",
          {"{{model}}": _BY_MODEL.format("classmark_abstained_total") + " / "
                        + _BY_MODEL.format("classmark_confidence_count")}),
    Panel("Categories", "Shares of the ten that are first most often.", "percentunit",
          {"{{category}}": f"topk(10, {_rate('classmark_first_category_total', 'category')} / "
                           f"scalar({_rate('classmark_first_category_total')}))"}),
    Panel("Versions", "Requests per second, by role of the version and outcome.", "reqps",
          {"{{role}} {{outcome}}": "sum by (role, outcome) "
                                   "(rate(classmark_version_requests_total[$__rate_interval]))"}),
    Panel("Canary and shadow", "Share of compared papers with the same first category.",
          "percentunit",
          {"{{pair}}": 'sum by (pair) (rate(classmark_compared_total{top="same"}'
                       "[$__rate_interval])) / " + _rate("classmark_compared_total", "pair")}),
    Panel("Accuracy", "Estimated share of first categories that are right, with its interval.",
          "percentunit", {"{{bound}}": "max by (bound) (classmark_drift_accuracy)"}),
    Panel("Live accuracy", "Share that is right where feedback names the category, of the 30 days "
          "before the newest report; people correct more often than they confirm.",
          "percentunit", {"{{bound}}": "max by (bound) (classmark_live_accuracy)"}),
    Panel("Waiting for the journal", "How long the oldest event has waited at least.", "s",
          {"lag": "max(classmark_journal_lag_seconds)"}),
)  # fmt: skip
DASHBOARDS = {
    "service": ("classmark: service", SERVICE),
    "watch": ("classmark: watch", WATCH),
}


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
