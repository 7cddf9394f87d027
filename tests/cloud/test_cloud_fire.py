"""``classmark cloud alert-test`` against the local server, which opens and closes incidents."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from google_server import GoogleServer
from watch_service import WatchService
from watched_project import (
    ENVIRONMENT,
    NEEDS_ROLE,
    RULES_FOLDER,
    environment,
    google,
    plan,
    run,
    server,
    service,
)

from classmark.cloud.google import HTTP_VARIABLE, Google
from classmark.cloud.watch.apply import apply_plan
from classmark.cloud.watch.fire import fire
from classmark.cloud.watch.plan import Plan
from classmark.cloud.watch.rules import read_rule_files
from classmark.cloud.watch.samples import Pace
from classmark.errors import (
    ClassmarkError,
    CloudFailed,
    CloudNotFound,
    CloudRefused,
    UsageError,
)

__all__ = ["environment", "google", "plan", "server", "service"]

_CODE = grpc.StatusCode
QUICK = Pace(timeout_s=60, every_s=0, gap_s=0)


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
    with pytest.raises(CloudRefused, match=f"writing a sample is not allowed.*{NEEDS_ROLE}"):
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
        (403, f"listing incidents is not allowed.*as the test asks.*{NEEDS_ROLE}"),
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
