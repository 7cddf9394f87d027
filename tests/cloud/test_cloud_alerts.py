"""``classmark cloud alerts`` and ``alert-test`` against the local server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.cloud import monitoring_v3
from google_server import GoogleServer
from typer.testing import CliRunner, Result
from watch_service import WatchService

from classmark.cli.cloud.command import app
from classmark.cloud.environment import CloudEnvironment
from classmark.cloud.google import GRPC_VARIABLE, HTTP_VARIABLE, Google
from classmark.cloud.watch.apply import Counts, apply_plan, remove_all
from classmark.cloud.watch.fire import Pace, fire
from classmark.cloud.watch.kinds import kinds_of
from classmark.cloud.watch.plan import Plan, plan_of
from classmark.cloud.watch.rules import read_rule_files
from classmark.errors import (
    ClassmarkError,
    CloudFailed,
    CloudNotFound,
    CloudRefused,
    UsageError,
)

ROOT = Path(__file__).parents[2]
RULES_FOLDER = ROOT / "deploy" / "prometheus" / "rules"
ENVIRONMENT = CloudEnvironment(
    project="papers-test-1",
    region="europe-west4",
    bucket="papers-test-1-classmark",
    notify="operator@example.org",
)
WANTED = {"alertPolicies": 20, "notificationChannels": 1, "uptimeCheckConfigs": 1, "services": 1,
          "serviceLevelObjectives": 2, "metrics": 3}  # fmt: skip
_CODE = grpc.StatusCode
_ROLE = "Give the account roles/monitoring.editor"
QUICK = Pace(timeout_s=60, every_s=0, gap_s=0)


@pytest.fixture
def service() -> WatchService:
    return WatchService()


@pytest.fixture
def server(service: WatchService, monkeypatch: pytest.MonkeyPatch) -> Iterator[GoogleServer]:
    server = GoogleServer(service.clients())
    service.server = server
    with server.running() as address, service.incidents_over_http() as incidents:
        monkeypatch.setenv(GRPC_VARIABLE, address)
        monkeypatch.setenv(HTTP_VARIABLE, incidents)
        yield server


@pytest.fixture
def google(server: GoogleServer) -> Google:
    assert server.services
    return Google(ENVIRONMENT)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_of(ENVIRONMENT, RULES_FOLDER)


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    file = tmp_path / "cloud.yaml"
    fields = ("project", "region", "bucket", "notify")
    file.write_text("".join(f"{name}: {getattr(ENVIRONMENT, name)}\n" for name in fields))
    return file


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def alerts(environment: Path, *words: str | Path) -> Result:
    return run("alerts", "--environment", environment, "--rules", RULES_FOLDER, *words)


def test_applying_makes_everything_once(google: Google, plan: Plan, service: WatchService) -> None:
    first = apply_plan(google, plan)
    second = apply_plan(google, plan)

    assert service.names() == WANTED
    assert len(first.changes) == sum(WANTED.values())
    assert second.changes == []
    assert {name: counts.unchanged for name, counts in second.kinds.items()} == {
        name: counts.created for name, counts in first.kinds.items()
    }


def test_every_policy_notifies_the_channel_and_one_watches_the_check(
    google: Google, plan: Plan, service: WatchService
) -> None:
    apply_plan(google, plan)

    [channel], [check] = service.channels.things, service.checks.things
    policies = list(service.policies.things.values())
    assert all(list(policy.notification_channels) == [channel] for policy in policies)
    [outside] = [p for p in policies if p.conditions[0].condition_threshold.filter]
    assert f'check_id="{check.rpartition("/")[2]}"' in (
        outside.conditions[0].condition_threshold.filter
    )


def test_a_changed_rule_updates_its_policy_and_keeps_its_incidents(
    google: Google, plan: Plan, service: WatchService
) -> None:
    apply_plan(google, plan)
    before = {n: p.conditions[0].name for n, p in service.policies.things.items()}
    first, *others = plan.rules.alerts
    changed = replace(plan, rules=replace(plan.rules, alerts=(replace(first, seconds=90), *others)))

    outcome = apply_plan(google, changed)

    assert outcome.kinds["policies"] == Counts(updated=1, unchanged=19)
    assert {n: p.conditions[0].name for n, p in service.policies.things.items()} == before
    assert apply_plan(google, changed).changes == []


def test_an_alert_that_left_the_rules_is_removed_and_those_of_others_stay(
    google: Google, plan: Plan, service: WatchService
) -> None:
    other = CloudEnvironment(**{**vars(ENVIRONMENT), "name": "staging"})
    apply_plan(Google(other), plan_of(other, RULES_FOLDER))
    stranger = monitoring_v3.AlertPolicy(display_name="theirs", user_labels={"alert": "x"})
    service.policies.create(f"projects/{ENVIRONMENT.project}", stranger)
    apply_plan(google, plan)
    first, *others = plan.rules.alerts
    fewer = replace(plan.rules, alerts=(first, *others[1:]))

    outcome = apply_plan(google, replace(plan, rules=fewer))

    assert outcome.changes == ["policies: remove classmarkavailabilityfastburn"]
    assert outcome.kinds["policies"] == Counts(unchanged=19, removed=1)
    assert len(service.policies.things) == 19 + 20 + 1
    remove_all(google)
    assert len(service.policies.things) == 20 + 1
    assert apply_plan(Google(other), plan_of(other, RULES_FOLDER)).changes == []


def test_another_address_replaces_the_channel(
    google: Google, plan: Plan, service: WatchService
) -> None:
    apply_plan(google, plan)
    moved = replace(ENVIRONMENT, notify="night@example.org")

    outcome = apply_plan(google, plan_of(moved, RULES_FOLDER))

    assert outcome.kinds["channels"] == Counts(created=1, removed=1)
    assert outcome.kinds["policies"] == Counts(updated=20)
    [channel] = service.channels.things.values()
    assert channel.labels["email_address"] == "night@example.org"
    silent = plan_of(replace(ENVIRONMENT, notify=""), RULES_FOLDER)
    assert apply_plan(google, silent).kinds["policies"] == Counts(updated=20)
    assert service.names() == WANTED | {"notificationChannels": 0}


def test_what_was_changed_by_hand_is_put_right(
    google: Google, plan: Plan, service: WatchService
) -> None:
    apply_plan(google, plan)
    name = next(iter(service.policies.things))
    service.policies.things[name].enabled = False
    [objective, _] = service.objectives.things.values()
    objective.goal = 0.5
    [check] = service.checks.things.values()
    check.http_check.path = "/"
    [channel] = service.channels.things.values()
    channel.enabled = False
    [kept] = service.services.things.values()
    kept.display_name = "mine"
    next(iter(service.log_metrics.values())).filter = "severity>=INFO"

    outcome = apply_plan(google, plan)

    assert [counts.updated for counts in outcome.kinds.values()] == [1] * 6
    assert apply_plan(google, plan).changes == []


@pytest.mark.parametrize("method", ["CreateAlertPolicy", "CreateUptimeCheckConfig"])
def test_an_interrupted_run_is_finished_by_the_next(
    server: GoogleServer, google: Google, plan: Plan, service: WatchService, method: str
) -> None:
    server.fail(method, _CODE.INTERNAL, after=True)
    with pytest.raises(CloudFailed, match="safe to repeat"):
        apply_plan(google, plan)

    apply_plan(google, plan)

    assert service.names() == WANTED


def test_a_second_policy_of_one_alert_is_removed(
    google: Google, plan: Plan, service: WatchService
) -> None:
    apply_plan(google, plan)
    name, policy = next(iter(service.policies.things.items()))
    service.policies.things[name + "9"] = type(policy)(policy, name=name + "9")

    assert apply_plan(google, plan).kinds["policies"] == Counts(unchanged=20, removed=1)
    assert service.names() == WANTED


def test_removing_leaves_nothing_and_can_be_repeated(
    server: GoogleServer, google: Google, plan: Plan, service: WatchService
) -> None:
    apply_plan(google, plan)
    server.fail("DeleteAlertPolicy", _CODE.NOT_FOUND, after=True)

    outcome = remove_all(google)

    assert sum(counts.removed for counts in outcome.kinds.values()) == sum(WANTED.values())
    assert set(service.names().values()) == {0}
    assert remove_all(google).changes == []


@pytest.mark.parametrize(
    ("method", "code", "says"),
    [
        ("ListNotificationChannels", _CODE.PERMISSION_DENIED, f"listing channels.*{_ROLE}"),
        ("CreateAlertPolicy", _CODE.RESOURCE_EXHAUSTED, "creating policies exceeds a quota"),
        ("CreateServiceLevelObjective", _CODE.ALREADY_EXISTS, "objectives met another change"),
        ("CreateLogMetric", _CODE.PERMISSION_DENIED, "roles/logging.configWriter"),
    ],
)
def test_a_refusal_names_what_was_done_and_the_role(
    server: GoogleServer, google: Google, plan: Plan, method: str, code: Any, says: str
) -> None:
    server.fail(method, code, times=99)

    with pytest.raises(CloudRefused, match=says):
        apply_plan(google, plan)


def test_an_update_and_a_removal_name_their_role(
    server: GoogleServer, google: Google, plan: Plan, service: WatchService
) -> None:
    apply_plan(google, plan)
    next(iter(service.policies.things.values())).enabled = False
    server.fail("UpdateAlertPolicy", _CODE.PERMISSION_DENIED, times=99)
    server.fail("DeleteAlertPolicy", _CODE.PERMISSION_DENIED, times=99)

    with pytest.raises(CloudRefused, match=f"updating policies is not allowed.*{_ROLE}"):
        apply_plan(google, plan)
    with pytest.raises(CloudRefused, match=f"removing policies is not allowed.*{_ROLE}"):
        remove_all(google)


def test_a_check_changes_nothing_and_exits_3_until_it_is_applied(
    server: GoogleServer, service: WatchService, environment: Path
) -> None:
    before = alerts(environment, "--check")
    assert before.exit_code == 3, before.output
    assert not server.called("CreateAlertPolicy")
    assert "policies: create classmarktargetdown" in before.stderr

    applied = alerts(environment, "--apply")
    assert applied.exit_code == 0, applied.output
    [row] = [line.split() for line in applied.stdout.splitlines() if line.startswith("policies")]
    assert row == ["policies", "20", "0", "0", "0", "20"]

    after = alerts(environment, "--check", "--json")
    assert after.exit_code == 0
    assert json.loads(after.stdout)["kinds"]["policies"]["unchanged"] == 20
    assert service.names() == WANTED


def test_a_dry_run_prints_the_requests_and_sends_none(
    server: GoogleServer, environment: Path
) -> None:
    shown = alerts(environment, "--apply", "--dry-run")

    assert shown.exit_code == 0, shown.output
    assert len(json.loads(shown.stdout)["policies"]) == 20
    assert server.calls == []


def test_without_options_the_alerts_are_listed(environment: Path) -> None:
    lines = alerts(environment).stdout.splitlines()
    assert len(lines) == 19
    assert lines[0].split() == ["ClassmarkTargetDown", "page", "60", "s", "classmark-service"]
    assert len(json.loads(alerts(environment, "--json").stdout)) == 19


def test_files_are_written_and_checked(environment: Path, tmp_path: Path) -> None:
    folder, grafana = tmp_path / "out", ROOT / "deploy" / "grafana" / "dashboards"
    words = ("--output", folder, "--dashboards", grafana)
    stale = alerts(environment, *words, "--check")
    assert stale.exit_code == 3
    assert "stale: policies/classmarktargetdown.json" in stale.stdout
    assert not folder.exists()

    assert "30 files, 30 of them changed" in alerts(environment, *words).stdout

    assert alerts(environment, *words, "--check").stdout == "30 files agree\n"
    assert json.loads(alerts(environment, *words, "--check", "--json").stdout)["stale"] == []


@pytest.mark.parametrize("also", [("--check",), ("--output", "x")])
def test_applying_excludes_checking_and_writing(environment: Path, also: tuple[str, ...]) -> None:
    refused = alerts(environment, "--apply", *also)
    assert isinstance(refused.exception, UsageError)
    assert "--apply excludes" in str(refused.exception)


@pytest.fixture
def watched(google: Google, plan: Plan) -> Google:
    apply_plan(google, plan)
    return google


def test_an_alert_fires_by_a_sample_and_is_calm_afterwards(
    watched: Google, service: WatchService
) -> None:
    fired = fire(watched, read_rule_files(RULES_FOLDER), pace=QUICK)

    assert fired.alert == "ClassmarkDriftRetrain"
    assert fired.policy in service.policies.things
    firing, calm = service.samples
    assert firing[0] == "classmark_drift_action"
    assert firing[1]["action"] == "retrain"
    assert firing[1]["instance"] == "alert-test"
    assert (firing[2], calm[2]) == (1.0, 0.0)
    assert service.incidents("/v3/projects/papers-test-1/alerts", {})["alerts"][0]["state"] == (
        "CLOSED"
    )


@pytest.mark.parametrize("name", ["ClassmarkJournalLagging", "ClassmarkReloadRefused"])
def test_an_alert_above_a_bound_fires_too(watched: Google, name: str) -> None:
    assert fire(watched, read_rule_files(RULES_FOLDER), name, pace=QUICK).alert == name


def test_an_alert_that_does_not_fire_in_time_says_where_to_look_and_ends_calmly(
    watched: Google, service: WatchService
) -> None:
    service.can_fire = False

    with pytest.raises(CloudFailed, match=r"has not fired within 0 s.*is it enabled"):
        fire(watched, read_rule_files(RULES_FOLDER), pace=replace(QUICK, timeout_s=0.05))

    assert service.samples[-1][2] == 0.0


def test_an_alert_that_fires_already_is_not_tested(watched: Google, service: WatchService) -> None:
    for name, policy in service.policies.things.items():
        if policy.user_labels["alert"] in ("classmarktargetdown", "classmarkdriftretrain"):
            service.open_incident(name)

    with pytest.raises(CloudRefused, match=r"is firing already: projects/.*/alerts/0\.1\."):
        fire(watched, read_rule_files(RULES_FOLDER), pace=QUICK)

    assert service.samples == []


def test_an_alert_without_its_policy_says_how_to_make_it(google: Google) -> None:
    with pytest.raises(CloudNotFound, match=r"has no policy.*cloud alerts --apply"):
        fire(google, read_rule_files(RULES_FOLDER), pace=QUICK)


def test_an_alert_that_one_sample_cannot_fire_names_those_that_it_can(google: Google) -> None:
    with pytest.raises(UsageError, match=r"more than one sample.*ClassmarkJournalFailing"):
        fire(google, read_rule_files(RULES_FOLDER), "ClassmarkTargetDown", pace=QUICK)


def test_a_sample_that_may_not_be_written_names_the_role(
    server: GoogleServer, watched: Google
) -> None:
    server.fail("CreateTimeSeries", _CODE.PERMISSION_DENIED, times=99)
    with pytest.raises(CloudRefused, match=f"writing a sample is not allowed.*{_ROLE}"):
        fire(watched, read_rule_files(RULES_FOLDER), pace=QUICK)


def test_incidents_that_cannot_be_listed_are_an_error(
    watched: Google, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HTTP_VARIABLE, "127.0.0.1:1")
    with pytest.raises(ClassmarkError, match="listing incidents failed"):
        fire(Google(ENVIRONMENT), read_rule_files(RULES_FOLDER), pace=QUICK)


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (403, f"listing incidents is not allowed.*as the test asks.*{_ROLE}"),
        (429, "listing incidents exceeds a quota"),
    ],
)
def test_incidents_that_may_not_be_listed_are_refused_before_a_sample_is_written(
    watched: Google, service: WatchService, status: int, says: str
) -> None:
    service.incidents_status = status
    with pytest.raises(CloudRefused, match=says):
        fire(watched, read_rule_files(RULES_FOLDER), pace=QUICK)
    assert service.samples == []


def test_the_command_tests_an_alert(watched: Google, environment: Path) -> None:
    words = ("alert-test", "--rules", RULES_FOLDER, "--environment", environment, "--every", "0")

    said = run(*words)
    assert said.exit_code == 0, said.output
    assert "ClassmarkDriftRetrain fired after" in said.stdout

    shown = run(*words, "ClassmarkDriftPage", "--json")
    assert json.loads(shown.stdout)["alert"] == "ClassmarkDriftPage"


def test_a_dry_run_of_a_test_prints_the_sample(server: GoogleServer, environment: Path) -> None:
    shown = run("alert-test", "--rules", RULES_FOLDER, "--environment", environment, "--dry-run")

    [series] = json.loads(shown.stdout)["timeSeries"]
    assert series["metric"]["type"] == "prometheus.googleapis.com/classmark_drift_action/gauge"
    assert server.calls == []


@pytest.mark.skipif(os.name == "nt", reason="SIGINT cannot be sent to one process there")
def test_a_test_that_is_interrupted_ends_calmly(
    watched: Google, service: WatchService, environment: Path
) -> None:
    assert watched.environment == ENVIRONMENT
    service.can_fire = False
    words = ["cloud", "alert-test", "--rules", str(RULES_FOLDER), "--every", "0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "classmark", *words, "--environment", str(environment)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        killer = threading.Timer(120, process.kill)
        killer.start()
        assert service.written.wait(100)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
        killer.cancel()

    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert service.samples[-1][2] == 0.0


def test_kinds_find_only_what_has_every_label(google: Google, service: WatchService) -> None:
    place = f"projects/{ENVIRONMENT.project}"
    for labels in ({"app": "classmark"}, {"app": "other", "environment": "production"}):
        service.checks.create(place, monitoring_v3.UptimeCheckConfig(user_labels=labels))

    assert [kind.found() for kind in kinds_of(google)] == [[]] * 6


def test_files_are_not_written_over_the_dashboards_that_they_are_made_from(
    environment: Path, tmp_path: Path
) -> None:
    grafana = tmp_path / "dashboards"
    shutil.copytree(ROOT / "deploy" / "grafana" / "dashboards", grafana)
    refused = alerts(environment, "--output", tmp_path, "--dashboards", grafana)

    assert isinstance(refused.exception, ClassmarkError)
    assert f"{grafana} is the input" in str(refused.exception)
