"""Rules of Prometheus as policies, objectives, checks and dashboards of Cloud Monitoring."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.cloud import monitoring_v3
from google.cloud.logging_v2.types import LogMetric

from classmark.cloud.environment import CloudEnvironment, read_environment
from classmark.cloud.watch.dashboards import COLUMNS, dashboard_of, read_dashboards
from classmark.cloud.watch.objectives import objectives_of
from classmark.cloud.watch.parts import CHECK_PATH, channel_of
from classmark.cloud.watch.plan import files_of, plan_of, requests_of, stale_files, write_files
from classmark.cloud.watch.policies import text_of
from classmark.cloud.watch.rules import Rules, expand, read_rule_files, seconds_of
from classmark.errors import CloudNotFound, UsageError
from classmark.service.families import FAMILIES

ROOT = Path(__file__).parents[2]
RULES_FOLDER = ROOT / "deploy" / "prometheus" / "rules"
GRAFANA = ROOT / "deploy" / "grafana" / "dashboards"
FILES = ROOT / "deploy" / "gcp" / "monitoring"
ENVIRONMENT = CloudEnvironment(
    project="papers-test-1",
    region="europe-west4",
    bucket="papers-test-1-classmark",
    notify="operator@example.org",
)
MESSAGES: dict[str, Any] = {
    "channels": monitoring_v3.NotificationChannel,
    "checks": monitoring_v3.UptimeCheckConfig,
    "log-metrics": LogMetric,
    "services": monitoring_v3.Service,
    "objectives": monitoring_v3.ServiceLevelObjective,
    "policies": monitoring_v3.AlertPolicy,
}


@pytest.fixture(scope="module")
def rules() -> Rules:
    return read_rule_files(RULES_FOLDER)


def rule_file(folder: Path, text: str) -> Path:
    (folder / "rules.yml").write_text(text, encoding="utf-8")
    return folder


def one_alert(expression: str, **more: Any) -> str:
    notes = {"summary": "s", "description": "d", "runbook_url": "r"}
    rule = {"alert": "A", "expr": expression, "labels": {"severity": "page"}, "annotations": notes}
    return str(yaml.safe_dump({"groups": [{"name": "g", "rules": [rule | more]}]}))


def test_the_committed_files_are_those_that_the_rules_make() -> None:
    environment = read_environment(FILES / "cloud.yaml")

    files = files_of(plan_of(environment, RULES_FOLDER), GRAFANA)

    stale = stale_files(files, FILES)
    assert not stale, f"run `classmark cloud alerts --output {FILES.relative_to(ROOT)}`: {stale}"


@pytest.mark.parametrize("kind", MESSAGES)
def test_every_file_is_a_message_of_googles_without_unknown_fields(kind: str) -> None:
    for file in (FILES / kind).glob("*.json"):
        MESSAGES[kind].from_json(file.read_text("utf-8"), ignore_unknown_fields=False)
    with pytest.raises(Exception, match="bogus"):
        MESSAGES[kind].from_json('{"bogus": 1}', ignore_unknown_fields=False)


def test_every_alert_has_one_policy_and_the_check_and_jobs_one_more_each(rules: Rules) -> None:
    policies = requests_of(plan_of(ENVIRONMENT, RULES_FOLDER))["policies"]

    names = [policy["userLabels"]["alert"] for policy in policies]
    outside = "classmarktargetdown-outside"
    assert names == [*(alert.name.lower() for alert in rules.alerts), outside, "classmarkjobfailed"]
    for policy, alert in zip(policies, rules.alerts, strict=False):
        condition = policy["conditions"][0]["conditionPrometheusQueryLanguage"]
        assert condition["duration"] == f"{alert.seconds}s"
        assert condition["ruleGroup"] == alert.group
        assert condition["alertRule"] == alert.name
        assert policy["severity"] == {"page": "CRITICAL", "ticket": "WARNING"}[alert.severity]
        assert policy["userLabels"].items() > ENVIRONMENT.labels.items()


def test_no_policy_names_a_recording_rule_or_a_metric_that_the_service_lacks(rules: Rules) -> None:
    kinds = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
    metrics = {f"{n}{end}" for n, family in FAMILIES.items() for end in kinds[family.kind]}
    for alert in rules.alerts:
        query = re.sub(r'"[^"]*"', '""', alert.query)
        assert ":" not in query
        asked = set(re.findall(r"\b(?:classmark|process)_\w+", query))
        assert asked <= metrics
        assert asked or "up{" in query


def test_the_expanded_alerts_fire_as_the_rules_do(rules: Rules, tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        assert not os.environ.get("CI"), "promtool is not installed: make system-deps"
        pytest.skip("promtool is not installed: make system-deps")
    written = yaml.safe_load((RULES_FOLDER / "alerts.yml").read_text("utf-8"))
    for group in written["groups"]:
        for rule in group["rules"]:
            rule["expr"] = rules.alert(rule["alert"]).query
            for name, text in rule["annotations"].items():
                rule["annotations"][name] = text.replace("$labels.job", "$labels.namespace")
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump(written), encoding="utf-8")
    source = (RULES_FOLDER.parent / "tests" / "rules_test.yml").read_text("utf-8")
    source = source.replace("job=", "namespace=").replace("job: ", "namespace: ")
    tests = yaml.load(source, yaml.BaseLoader)  # as texts: 0x130 are 130 zeros here
    tests["rule_files"] = ["alerts.yml"]
    for test in tests["tests"]:
        test.pop("promql_expr_test", None)  # tests recording rules, and none are left
    (tmp_path / "test.yml").write_text(yaml.safe_dump(tests), encoding="utf-8")

    done = subprocess.run(
        ["promtool", "test", "rules", str(tmp_path / "test.yml")],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_a_record_is_expanded_in_parentheses_and_never_within_a_string() -> None:
    records = {"a:b": "x / y", "c:d": "a:b + 1"}

    assert expand("2 * a:b", records) == "2 * (x / y)"
    assert expand("c:d > 0", records) == "((x / y) + 1) > 0"
    text = "z{l=\"a:b\", m='a:b'}"
    assert expand(text, records) == text
    assert expand("a:bc + xa:b", records) == "a:bc + xa:b"
    assert expand("sum by (job) (up)", records) == "sum by (job) (up)"


@pytest.mark.parametrize("behind", ['{job="x"}', " [5m]"])
def test_a_record_with_something_behind_it_is_refused(behind: str) -> None:
    with pytest.raises(UsageError, match="a:b has a matcher or range behind it"):
        expand(f"a:b{behind} > 1", {"a:b": "x"})


def test_records_in_a_circle_are_refused() -> None:
    with pytest.raises(UsageError, match="a:b records itself: a:b -> c:d"):
        expand("a:b", {"a:b": "c:d", "c:d": "a:b"})


@pytest.mark.parametrize(("text", "seconds"), [("0", 0), ("90s", 90), ("1h30m", 5400)])
def test_durations_are_read(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("groups: [", "not a file of rules"),
        ("groups: [{rules: [{alert: A}]}]", "not a file of rules.*name"),
        (one_alert("up", **{"for": "soon"}), "'soon' is not a duration"),
        (one_alert("up", annotations={"summary": "s"}), "A lacks description, runbook_url"),
        (one_alert("up", labels={"severity": "bad"}), "A lacks severity page or ticket"),
    ],
)
def test_rules_that_cannot_be_used_are_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        read_rule_files(rule_file(tmp_path, text))


def test_a_folder_without_rules_says_where_they_are(tmp_path: Path) -> None:
    with pytest.raises(CloudNotFound, match=r"checkout of classmark.*--rules"):
        read_rule_files(tmp_path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").mkdir()
    with pytest.raises(CloudNotFound, match=r"rules\.yml"):
        read_rule_files(tmp_path)


def test_an_unknown_alert_names_those_that_there_are(rules: Rules) -> None:
    with pytest.raises(UsageError, match=r"'Nothing' is not an alert.*ClassmarkTargetDown"):
        rules.alert("Nothing")


def test_the_objectives_have_the_numbers_of_the_rules(rules: Rules) -> None:
    availability, latency = objectives_of(rules)

    assert (availability.name, availability.goal, availability.limit) == (
        "availability",
        0.999,
        None,
    )
    assert (latency.name, latency.goal, latency.limit) == ("latency", 0.99, 0.256)
    assert availability.metric == "classmark_requests_total"
    assert [m.value for m in availability.bad] == ["5.."]
    assert [m.value for m in latency.every] == ["/v[12]/.+"]


def test_other_numbers_in_the_rules_are_other_objectives(tmp_path: Path) -> None:
    for file in RULES_FOLDER.glob("*.yml"):
        text = file.read_text("utf-8").replace("* 0.01", "* 0.05").replace('"0.256"', '"0.512"')
        (tmp_path / file.name).write_text(text, encoding="utf-8")

    [_, latency] = requests_of(plan_of(ENVIRONMENT, tmp_path))["objectives"]

    assert latency["goal"] == 0.95
    assert latency["displayName"] == "latency: 95 % of requests within 512 ms"
    cut = latency["serviceLevelIndicator"]["requestBased"]["distributionCut"]
    assert cut["range"]["max"] == 0.512


def test_two_budgets_of_one_objective_are_refused(rules: Rules) -> None:
    first = next(a for a in rules.alerts if "ratio_rate1h" in a.written)
    other = replace(first, name="Other", written=first.written.replace("0.001", "0.002"))

    with pytest.raises(UsageError, match=r"Other has the budget 0\.002, another rule 0\.001"):
        objectives_of(replace(rules, alerts=(*rules.alerts, other)))


def test_an_objective_without_its_record_or_its_ratio_is_refused(rules: Rules) -> None:
    with pytest.raises(UsageError, match="no recording rule begins with classmark:errors"):
        objectives_of(replace(rules, records={}))
    odd = dict.fromkeys(rules.records, "vector(1)")
    with pytest.raises(UsageError, match="availability is not a ratio"):
        objectives_of(replace(rules, records=odd))


def test_matchers_become_filters_of_managed_prometheus() -> None:
    [availability, _] = requests_of(plan_of(ENVIRONMENT, RULES_FOLDER))["objectives"]

    ratio = availability["serviceLevelIndicator"]["requestBased"]["goodTotalRatio"]
    assert ratio["badServiceFilter"] == (
        'metric.type="prometheus.googleapis.com/classmark_requests_total/counter" AND '
        'resource.type="prometheus_target" AND '
        'metric.labels.route=monitoring.regex.full_match("/v[12]/.+") AND '
        'metric.labels.status=monitoring.regex.full_match("5..")'
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("{{ $value }} of", "${metric.label.value} of"),
        ("{{ $value | humanizeDuration }}", "${metric.label.value} s"),
        ("of {{ $labels.instance }}", "of ${metric_or_resource.label.instance}"),
        ("{{ $externalLabels.docs }}/x", "https://docs.example.org/x"),
    ],
)
def test_templates_become_variables_of_cloud_monitoring(text: str, shown: str) -> None:
    assert text_of(text, "https://docs.example.org") == shown


@pytest.mark.parametrize("text", ["{{ $externalLabels.other }}", "{{ if true }}"])
def test_a_template_that_cannot_be_shown_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="cannot be shown"):
        text_of(text)


def test_a_policy_leads_to_its_runbook() -> None:
    linked = replace(ENVIRONMENT, docs="https://docs.example.org")

    [plain, *_] = requests_of(plan_of(ENVIRONMENT, RULES_FOLDER))["policies"]
    [link, *_] = requests_of(plan_of(linked, RULES_FOLDER))["policies"]

    place = "docs/how-to/runbooks.md#classmarktargetdown"
    assert plain["documentation"]["content"].endswith(f"Runbook: {place}")
    assert "links" not in plain["documentation"]
    address = "https://docs.example.org/how-to/runbooks/#classmarktargetdown"
    assert link["documentation"]["links"] == [{"displayName": "Runbook", "url": address}]
    assert (ROOT / "docs/how-to/runbooks.md").is_file()


def test_the_check_asks_a_path_that_reaches_the_service_and_no_objective_counts(
    rules: Rules,
) -> None:
    [check] = requests_of(plan_of(ENVIRONMENT, RULES_FOLDER))["checks"]

    assert check["httpCheck"]["path"] == CHECK_PATH
    assert not CHECK_PATH.endswith("z")
    for objective in objectives_of(rules):
        assert not re.fullmatch(objective.every[0].value, CHECK_PATH)


def test_without_an_address_there_is_no_channel() -> None:
    assert channel_of(replace(ENVIRONMENT, notify="")) is None
    assert requests_of(plan_of(replace(ENVIRONMENT, notify=""), RULES_FOLDER))["channels"] == []


_WIDGETS = {"title", "scorecard", "xyChart"}
_QUERY = {"prometheusQuery", "unitOverride"}


@pytest.mark.parametrize("file", sorted((FILES / "dashboards").glob("*.json")), ids=str)
def test_a_dashboard_has_only_fields_of_the_api_and_fits(file: Path) -> None:
    board = json.loads(file.read_text("utf-8"))
    panels = json.loads((GRAFANA / file.name).read_text("utf-8"))["panels"]

    assert set(board) == {"displayName", "labels", "mosaicLayout"}
    tiles = board["mosaicLayout"]["tiles"]
    assert len(tiles) == len(panels)
    taken: set[tuple[int, int]] = set()
    for tile in tiles:
        assert set(tile) == {"xPos", "yPos", "width", "height", "widget"}
        assert tile["xPos"] + tile["width"] <= COLUMNS
        cells = {
            (x, y)
            for x in range(tile["xPos"], tile["xPos"] + tile["width"])
            for y in range(tile["yPos"], tile["yPos"] + tile["height"])
        }
        assert not cells & taken
        taken |= cells
        assert set(tile["widget"]) <= _WIDGETS
        for query in _queries(tile["widget"]):
            assert set(query) == _QUERY
            assert "$__rate_interval" not in query["prometheusQuery"]


def _queries(widget: dict[str, Any]) -> list[dict[str, Any]]:
    if "scorecard" in widget:
        return [widget["scorecard"]["timeSeriesQuery"]]
    sets = widget["xyChart"]["dataSets"]
    assert all(set(one) == {"timeSeriesQuery", "plotType", "legendTemplate"} for one in sets)
    assert all("{{" not in one["legendTemplate"] for one in sets)
    return [one["timeSeriesQuery"] for one in sets]


@pytest.mark.parametrize("text", ["[", "{}", '{"panels": [{}], "title": "t"}'])
def test_what_is_not_a_dashboard_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a dashboard of Grafana"):
        dashboard_of(text, ENVIRONMENT)


def test_a_dashboard_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.json").mkdir()
    with pytest.raises(CloudNotFound, match=r"x\.json"):
        read_dashboards(ENVIRONMENT, tmp_path)


def test_writing_files_removes_those_of_alerts_that_are_gone(tmp_path: Path) -> None:
    files = files_of(plan_of(ENVIRONMENT, RULES_FOLDER), GRAFANA)
    write_files(files, tmp_path)
    old, kept = tmp_path / "policies" / "gone.json", tmp_path / "policies" / "notes.txt"
    old.write_text("{}")
    kept.write_text("mine")
    assert stale_files(files, tmp_path) == ["policies/gone.json"]

    write_files(files, tmp_path)

    assert not old.exists()
    assert kept.exists()
    assert stale_files(files, tmp_path) == []
