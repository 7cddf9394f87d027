"""``classmark monitor serve``: real processes on real ports, with a real journal and history."""

from __future__ import annotations

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from classmark.monitor.history import History
from classmark.monitor.look import LookOptions, look
from classmark.service.keys import create_key
from watched_journals import Keep, Watched

_TIMEOUT_S = 60
_URL = re.compile(r"http://\S+:\d+")
_NO_WAIT = {"X-Classmark-Deadline-Ms": "1"}
"""The answer comes while the look still runs."""


class Monitor:
    """A monitor that runs.

    Attributes:
        process: its process.
        client: asks it.
        history: what it keeps.
    """

    def __init__(self, process: subprocess.Popen[str], url: str, folder: Path) -> None:
        self.process, self._errors = process, folder / "stderr.txt"
        self.client = httpx.Client(base_url=url, timeout=_TIMEOUT_S)
        self.history = History(folder / "history.sqlite")

    def log(self) -> str:
        """Return what it logged so far."""
        return self._errors.read_text("utf-8")

    def looks(self, outcome: str, **options: Any) -> int:
        """Return how many looks ended so, as its metrics say."""
        text = self.client.get("/metrics", **options).text
        found = re.search(rf'classmark_drift_looks_total{{outcome="{outcome}"}} (\d+)', text)
        assert found is not None, text
        return int(found[1])


Start = Callable[..., Monitor]


@contextmanager
def _running(command: list[str], folder: Path) -> Iterator[Monitor]:
    environment = {**os.environ, "CLASSMARK_HOME": str(folder), "CLASSMARK_SERVE_DRAIN_S": "0.05"}
    with (folder / "stderr.txt").open("wb") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        found = _URL.search(line)
        assert found, (line, (folder / "stderr.txt").read_text("utf-8"))
        monitor = Monitor(process, found[0], folder)
        with monitor.client:
            yield monitor
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                assert process.wait(_TIMEOUT_S) == 0, monitor.log()
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()


def _command(watched: Watched, journal: Path, folder: Path, *more: str) -> list[str]:
    asked = [sys.executable, "-m", "classmark", "monitor", "serve", "--port", "0"]
    asked += ["--model", str(watched.folder), "--journal", str(journal), "--every", "0"]
    return [*asked, "--history", str(folder / "history.sqlite"), *more]


@pytest.fixture
def journal(watched_model: Watched, keep: Keep) -> Path:
    """A journal of papers that are like those of the reference."""
    return keep(watched_model.events(watched_model.usual[:300], client="k1"))


@pytest.fixture
def start(watched_model: Watched, journal: Path, tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts a monitor, which must end in order."""
    with ExitStack() as stack:

        def begin(*more: str) -> Monitor:
            command = _command(watched_model, journal, tmp_path, *more)
            return stack.enter_context(_running(command, tmp_path))

        yield begin


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + _TIMEOUT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.slow
def test_a_look_is_answered_and_then_shown_everywhere(start: Start) -> None:
    """Slow: a process starts, and its report is asked for in every form."""
    monitor = start()
    empty = monitor.client.get("/drift/latest")
    assert (empty.status_code, empty.json()["kind"]) == (404, "not_found")
    ran = monitor.client.post("/drift/run", json={"newest": 200})
    assert ran.status_code == 200
    report = ran.json()
    assert (report["action"], report["counts"]["compared"]) == ("none", 200)
    assert ran.headers["x-classmark-model"] == "watched@1.0"
    assert monitor.client.get("/drift/latest").json() == report
    assert monitor.history.reports()[0].to_dict()["created_at_utc"] == report["created_at_utc"]
    again = monitor.client.post("/drift/run")
    assert again.json()["counts"]["compared"] == 300
    lines = monitor.client.get("/drift/history", params={"newest": 2}).json()["reports"]
    assert [line["papers"] for line in lines] == [300, 200]
    assert lines[1]["p_value"] == report["window"]["p_value"]
    assert len(monitor.client.get("/drift/history?newest=1").json()["reports"]) == 1
    page = monitor.client.get("/drift/report")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "Drift of watched@1.0" in page.text
    assert "p-values over time" in page.text
    assert monitor.client.get("/healthz").json() == {"status": "live"}


@pytest.mark.slow
def test_the_metrics_are_those_of_the_newest_report(start: Start) -> None:
    """Slow: a process starts."""
    monitor = start()
    report = monitor.client.post("/drift/run").json()
    text = monitor.client.get("/metrics").text
    found = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    for name, value in {
        "classmark_drift_p_value": report["window"]["p_value"],
        "classmark_drift_size": report["size"]["share"],
        'classmark_drift_size_interval{bound="low"}': report["size"]["low"],
        'classmark_drift_size_interval{bound="high"}': report["size"]["high"],
        "classmark_drift_martingale": report["stream"]["martingale"],
        "classmark_drift_papers": 300,
        'classmark_drift_action{action="none"}': 1,
        'classmark_drift_action{action="page"}': 0,
        'classmark_drift_looks_total{outcome="done"}': 1,
        'classmark_drift_looks_total{outcome="failed"}': 0,
        "classmark_drift_report_readable": 1,
    }.items():
        assert float(found[name]) == pytest.approx(value), name
    assert 0 <= float(found["classmark_drift_report_age_seconds"]) < _TIMEOUT_S
    assert 'classmark_model_info{digest="' in text
    assert 'name="watched"' in text


@pytest.mark.slow
def test_of_two_looks_at_once_the_second_is_refused_and_the_first_is_kept(start: Start) -> None:
    """Slow: a process starts."""
    monitor = start()
    first = monitor.client.post("/drift/run", headers=_NO_WAIT)
    second = monitor.client.post("/drift/run")
    assert first.status_code == 202
    assert first.json()["state"] == "running"
    assert (second.status_code, second.json()["kind"]) == (409, "look_running")
    assert first.json()["started_at_utc"] in second.json()["detail"]
    _until(lambda: monitor.looks("done") == 1)
    assert monitor.client.get("/drift/latest").status_code == 200
    assert monitor.client.post("/drift/run").status_code == 200


@pytest.mark.slow
def test_what_cannot_be_looked_at_is_a_problem_that_says_why(start: Start) -> None:
    """Slow: a process starts."""
    monitor = start()
    for body, words in (
        ({"newest": 0}, "newest"),
        ({"newest": True}, "newest"),
        ({"model": "other"}, "model"),
        ({"since": "yesterday"}, "'yesterday', which is not a time"),
        ({"since": "1d", "until": "2d"}, "nothing can be between them. Give the earlier time as s"),
        ({"baseline": "2026-01-01"}, "is not a span"),
        ({"baseline": "2020-01-01..2020-02-01"}, "has 0 papers"),
    ):
        answer = monitor.client.post("/drift/run", json=body)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.status_code in (422, 503), answer.text
        assert words in answer.json()["detail"]
    wrong = monitor.client.post("/drift/run", content="newest=3", headers={"content-type": "a/b"})
    assert wrong.status_code == 415
    assert monitor.client.get("/drift/history?newest=0").json()["kind"] == "invalid_request"
    assert monitor.client.get("/drift/run").status_code == 405
    assert monitor.client.get("/nowhere").status_code == 404
    foreign = monitor.client.post("/drift/run", headers={"origin": "https://other.example"})
    assert foreign.json()["kind"] == "cross_site"
    document = monitor.client.get("/openapi.json").json()
    assert {"/drift/run", "/drift/latest", "/drift/history", "/drift/report"} <= {
        *document["paths"]
    }
    assert "LookRequest" in document["components"]["schemas"]


@pytest.mark.slow
def test_where_there_are_keys_everything_but_health_needs_one_with_the_scope_admin(
    start: Start, tmp_path: Path
) -> None:
    """Slow: a process starts."""
    keys = tmp_path / "keys.json"
    _, narrow = create_key(keys, "papers", ["classify"])
    _, admin = create_key(keys, "operator", ["admin"])
    monitor = start("--api-keys", str(keys))
    allowed = {"X-API-Key": admin}
    for method, path in (
        ("POST", "/drift/run"),
        ("GET", "/drift/latest"),
        ("GET", "/drift/history"),
        ("GET", "/drift/report"),
        ("GET", "/metrics"),
    ):
        without = monitor.client.request(method, path)
        assert (without.status_code, without.json()["kind"]) == (401, "key_missing")
        low = monitor.client.request(method, path, headers={"X-API-Key": narrow})
        assert (low.status_code, low.json()["kind"]) == (403, "scope_missing")
        assert monitor.client.request(method, path, headers=allowed).status_code == 200
    assert monitor.client.get("/healthz").status_code == 200
    assert monitor.looks("done", headers=allowed) == 1


@pytest.mark.slow
def test_the_schedule_looks_again_and_a_look_that_fails_is_counted_and_the_next_comes(
    start: Start, journal: Path
) -> None:
    """Slow: a process starts, and several intervals pass."""
    monitor = start("--every", "1s")
    _until(lambda: monitor.looks("done") >= 2)
    assert len(monitor.history.reports()) >= 2
    away = journal.rename(journal.with_name("away"))
    journal.write_bytes(b"not a database " * 1_000)
    _until(lambda: monitor.looks("failed") >= 1)
    away.replace(journal)
    before = monitor.looks("done")
    _until(lambda: monitor.looks("done") > before)
    assert '"look failed"' in monitor.log()


@pytest.mark.slow
def test_a_signal_to_stop_ends_a_look_that_runs_and_leaves_a_whole_history(start: Start) -> None:
    """Slow: a process starts."""
    monitor = start()
    assert monitor.client.post("/drift/run").status_code == 200
    assert monitor.client.post("/drift/run", headers=_NO_WAIT).status_code == 202
    monitor.process.send_signal(signal.SIGTERM)
    assert monitor.process.wait(_TIMEOUT_S) == 0
    assert len(monitor.history.reports()) in (1, 2)
    assert '"stopped"' in monitor.log()
    assert "Traceback" not in monitor.log()


@pytest.mark.slow
def test_a_reload_takes_the_keys_of_now(start: Start, tmp_path: Path) -> None:
    """Slow: a process starts."""
    keys = tmp_path / "keys.json"
    create_key(keys, "first", ["admin"])
    monitor = start("--api-keys", str(keys))
    _, second = create_key(keys, "second", ["admin"])
    monitor.process.send_signal(signal.SIGHUP)
    _until(lambda: '"reloaded"' in monitor.log())
    assert monitor.client.get("/drift/history", headers={"X-API-Key": second}).json() == {
        "reports": []
    }


def _refused(command: list[str]) -> tuple[int, str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    return done.returncode, done.stderr


@pytest.mark.slow
def test_a_journal_that_does_not_exist_yet_is_waited_for_and_said(
    watched_model: Watched, tmp_path: Path
) -> None:
    """Slow: a process starts."""
    command = _command(watched_model, tmp_path / "none.sqlite", tmp_path)
    with _running(command, tmp_path) as monitor:
        report = monitor.client.post("/drift/run").json()
        assert report["window"] is None
        assert "0 papers are too few" in report["notes"][0]
        assert '"no predictions yet"' in monitor.log()
        assert monitor.client.get("/drift/report").status_code == 200


@pytest.mark.slow
def test_a_start_that_cannot_work_says_why(
    watched_model: Watched, journal: Path, tmp_path: Path
) -> None:
    """Slow: several processes start."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, said = _refused(_command(watched_model, journal, tmp_path, "--port", port))
    assert (code, f"cannot listen on 127.0.0.1:{port}" in said) == (1, True)
    damaged = tmp_path / "damaged.sqlite"
    damaged.write_bytes(b"not a database " * 1_000)
    code, said = _refused(_command(watched_model, damaged, tmp_path))
    assert (code, "damaged.sqlite" in said) == (1, True)
    code, said = _refused(_command(watched_model, journal, tmp_path, "--every", "soon"))
    assert (code, "is not an interval" in said) == (2, True)
    look(
        LookOptions(model=str(watched_model.folder), journal=journal),
        History(tmp_path / "history.sqlite"),
    )
    with closing(sqlite3.connect(tmp_path / "history.sqlite")) as connection, connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    code, said = _refused(_command(watched_model, journal, tmp_path))
    assert (code, "not a history of this classmark (version 99" in said) == (1, True)
