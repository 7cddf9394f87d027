"""Invented traffic, sent by a command, that drifts: the monitor notices it."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner
from waiting import until

from classmark.cli.app import app
from classmark.journal import read_predictions
from classmark.monitor.labels import live_accuracy
from classmark.monitor.look import LookOptions, look
from classmark.service.keys import create_key

pytestmark = pytest.mark.slow  # starts a service of its own
N = 900


def send(url: str, *words: str) -> dict[str, Any]:
    command = ["dataset", "sample", "--send", url, "--papers", str(N), "--rate", "2000", "--json"]
    result = CliRunner().invoke(app, [*command, *words])
    assert result.exit_code == 0, result.stderr
    return dict(json.loads(result.stdout.splitlines()[-1]))


def compare_halves(server: Any) -> Any:
    """Return the look that compares the later half of the traffic with the earlier one."""
    journal = server.home / "journal" / "journal.sqlite"
    until(lambda: len(list(read_predictions(journal))) == N)
    times = sorted(p.event.at_utc for p in read_predictions(journal))
    span = (times[0], times[N // 2])
    return look(LookOptions(journal=journal, since_utc=times[N // 2], baseline=span))


@pytest.mark.parametrize(("drift", "is_noticed"), [("0", False), ("1", True)])
def test_traffic_that_drifts_is_noticed_and_other_traffic_is_not(
    start: Any, drift: str, is_noticed: bool
) -> None:
    with start("--workers", "1") as server:
        sent = send(server.url, "--drift", drift, "--feedback", "0.5", "--noise", "0")
        assert sent["papers"] == sent["answers"] == N
        report = compare_halves(server)
        assert (report.window.p_value <= 0.01) == is_noticed
        assert (report.action in ("retrain", "page")) == is_noticed
        journal = server.home / "journal" / "journal.sqlite"
        until(lambda: live_accuracy(journal).n_feedback == sent["feedback"])
        assert 0.4 * N < sent["feedback"] < 0.6 * N


def test_keys_take_turns_and_only_the_newest_papers_are_sent(start: Any, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    made = [create_key(file, f"client {n}", ["classify", "feedback"]) for n in range(3)]
    keys = [word for _, text in made for word in ("--api-key", text)]
    with start("--workers", "1", "--api-keys", str(file)) as server:
        sent = send(server.url, "--newest", "300", *keys)
        assert sent["papers"] == sent["answers"] == 300
        journal = server.home / "journal" / "journal.sqlite"
        until(lambda: len(list(read_predictions(journal))) == 300)
        clients = Counter(p.event.client for p in read_predictions(journal))
        assert clients == {key.id: 100 for key, _ in made}


def test_the_rate_is_kept(start: Any) -> None:
    with start("--workers", "1") as server:
        began = time.monotonic()
        command = ["dataset", "sample", "--send", server.url, "--papers", "60", "--rate", "30"]
        assert CliRunner().invoke(app, command).exit_code == 0
        assert time.monotonic() - began >= 2  # 60 at 30 a second; a busy machine takes longer


def test_a_service_that_is_not_there_is_said_in_one_line() -> None:
    command = ["dataset", "sample", "--send", "http://127.0.0.1:9", "--papers", "5"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert "the service at http://127.0.0.1:9 did not take the papers after 0" in result.stderr
