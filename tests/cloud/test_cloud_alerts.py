"""``classmark cloud alerts`` against the local server."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.cloud import monitoring_v3
from google_server import GoogleServer
from watch_service import WatchService
from watched_project import (
    ENVIRONMENT,
    NEEDS_ROLE,
    ROOT,
    RULES_FOLDER,
    alerts,
    environment,
    google,
    plan,
    server,
    service,
)

from classmark.cloud.environment import CloudEnvironment
from classmark.cloud.google import Google
from classmark.cloud.serving.destroy import remove_all, watching
from classmark.cloud.watch.apply import Counts, apply_plan
from classmark.cloud.watch.kinds import kinds_of
from classmark.cloud.watch.plan import Plan, plan_of
from classmark.errors import ClassmarkError, CloudFailed, CloudRefused, UsageError

__all__ = ["environment", "google", "plan", "server", "service"]

WANTED = {"alertPolicies": 21, "notificationChannels": 1, "uptimeCheckConfigs": 1, "services": 1,
          "serviceLevelObjectives": 2, "metrics": 3}  # fmt: skip
_CODE = grpc.StatusCode


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
    asked = [p.conditions[0].condition_threshold.filter for p in policies]
    [outside, jobs] = filter(None, asked)
    assert f'check_id="{check.rpartition("/")[2]}"' in outside
    assert 'resource.type="cloud_run_job" AND metric.labels.result="failed"' in jobs


def test_a_changed_rule_updates_its_policy_and_keeps_its_incidents(
    google: Google, plan: Plan, service: WatchService
) -> None:
    apply_plan(google, plan)
    before = {n: p.conditions[0].name for n, p in service.policies.things.items()}
    first, *others = plan.rules.alerts
    changed = replace(plan, rules=replace(plan.rules, alerts=(replace(first, seconds=90), *others)))

    outcome = apply_plan(google, changed)

    assert outcome.kinds["policies"] == Counts(updated=1, unchanged=20)
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
    assert outcome.kinds["policies"] == Counts(unchanged=20, removed=1)
    assert len(service.policies.things) == 20 + 21 + 1
    remove_all(list(watching(google)))
    assert len(service.policies.things) == 21 + 1
    assert apply_plan(Google(other), plan_of(other, RULES_FOLDER)).changes == []


def test_another_address_replaces_the_channel(
    google: Google, plan: Plan, service: WatchService
) -> None:
    apply_plan(google, plan)
    moved = replace(ENVIRONMENT, notify="night@example.org")

    outcome = apply_plan(google, plan_of(moved, RULES_FOLDER))

    assert outcome.kinds["channels"] == Counts(created=1, removed=1)
    assert outcome.kinds["policies"] == Counts(updated=21)
    [channel] = service.channels.things.values()
    assert channel.labels["email_address"] == "night@example.org"
    silent = plan_of(replace(ENVIRONMENT, notify=""), RULES_FOLDER)
    assert apply_plan(google, silent).kinds["policies"] == Counts(updated=21)
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

    assert apply_plan(google, plan).kinds["policies"] == Counts(unchanged=21, removed=1)
    assert service.names() == WANTED


def test_removing_leaves_nothing_and_can_be_repeated(
    server: GoogleServer, google: Google, plan: Plan, service: WatchService
) -> None:
    apply_plan(google, plan)
    server.fail("DeleteAlertPolicy", _CODE.NOT_FOUND, after=True)

    found = list(watching(google))
    left = remove_all(found)

    assert (len(found), left) == (sum(WANTED.values()), [])
    assert set(service.names().values()) == {0}
    assert list(watching(google)) == []


@pytest.mark.parametrize(
    ("method", "code", "says"),
    [
        ("ListNotificationChannels", _CODE.PERMISSION_DENIED, f"listing channels.*{NEEDS_ROLE}"),
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

    with pytest.raises(CloudRefused, match=f"updating policies is not allowed.*{NEEDS_ROLE}"):
        apply_plan(google, plan)
    reasons = [str(error) for _, error in remove_all(list(watching(google)))]
    assert re.search(f"removing policies is not allowed.*{NEEDS_ROLE}", reasons[0])


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
    assert row == ["policies", "21", "0", "0", "0", "21"]

    after = alerts(environment, "--check", "--json")
    assert after.exit_code == 0
    assert json.loads(after.stdout)["kinds"]["policies"]["unchanged"] == 21
    assert service.names() == WANTED


def test_a_dry_run_prints_the_requests_and_sends_none(
    server: GoogleServer, environment: Path
) -> None:
    shown = alerts(environment, "--apply", "--dry-run")

    assert shown.exit_code == 0, shown.output
    assert len(json.loads(shown.stdout)["policies"]) == 21
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

    assert "31 files, 31 of them changed" in alerts(environment, *words).stdout

    assert alerts(environment, *words, "--check").stdout == "31 files agree\n"
    assert json.loads(alerts(environment, *words, "--check", "--json").stdout)["stale"] == []


@pytest.mark.parametrize("also", [("--check",), ("--output", "x")])
def test_applying_excludes_checking_and_writing(environment: Path, also: tuple[str, ...]) -> None:
    refused = alerts(environment, "--apply", *also)
    assert isinstance(refused.exception, UsageError)
    assert "--apply excludes" in str(refused.exception)


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


def test_the_help_of_the_commands_needs_nothing_of_googles() -> None:
    code = (
        "import sys, classmark.cli.cloud.command; "
        "begins = ('google.api', 'google.auth', 'google.protobuf', 'grpc'); "
        "sys.exit(any(name.startswith(begins) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_google_leaves_out_because_it_is_empty_is_no_change(
    google: Google, plan: Plan, service: WatchService
) -> None:
    apply_plan(google, plan)
    [check] = service.checks.things.values()
    for label in ("revision_name", "configuration_name"):
        del check.monitored_resource.labels[label]

    assert apply_plan(google, plan).changes == []
