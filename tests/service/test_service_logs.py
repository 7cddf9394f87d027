"""The log of requests: whole lines, and a reader that stands still holds nobody up."""

from __future__ import annotations

import io
import json
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from waiting import until

from classmark.errors import StorageFailed
from classmark.journal import Journal, JournalConfig
from classmark.service import Service, logs, make_settings
from classmark.service.http.service import Chores
from classmark.service.keys import read_last_uses
from classmark.service.logs import AccessEntry, AccessLog, log_rarely
from classmark.service.metrics import Metrics

ENTRY = AccessEntry("1", "POST", "/v1/classify", 200, 1.5, "127.0.0.1", {"papers": 1})


def a_pipe() -> tuple[int, int]:
    return os.pipe()


def a_socket() -> tuple[int, int]:
    reader, writer = socket.socketpair()
    return reader.detach(), writer.detach()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="a pipe is reopened there")
@pytest.mark.parametrize("make", [a_pipe, a_socket])
def test_a_log_that_is_not_read_holds_nobody_up_and_loses_whole_lines(
    make: Callable[[], tuple[int, int]],
) -> None:
    reader, writer = make()
    log = AccessLog(writer)
    for _ in range(20_000):  # 4 MB, of which a pipe holds 64 KB
        log.write(ENTRY)
    parts: list[bytes] = []

    def read() -> None:
        while part := os.read(reader, 1 << 16):
            parts.append(part)

    thread = threading.Thread(target=read)
    thread.start()
    while log._waiting:
        log.flush()
    log.write(ENTRY)
    log.flush()
    while log._waiting:
        log.flush()
    os.close(writer)
    log.close()
    thread.join()
    os.close(reader)
    lines: list[dict[str, Any]] = [json.loads(line) for line in b"".join(parts).splitlines()]
    (dropped,) = [line for line in lines if line["event"] == "log lines dropped"]
    assert dropped["lines"] + len(lines) - 1 == 20_001


def test_a_log_whose_reader_has_gone_holds_nobody_up() -> None:
    reader, writer = os.pipe()
    log = AccessLog(writer)
    os.close(reader)
    log.write(ENTRY)
    log.flush()
    assert not log._waiting
    log.close()
    os.close(writer)


@pytest.mark.slow
def test_a_service_whose_log_is_not_read_answers_and_stops_in_order(start: Any) -> None:
    reader, writer = os.pipe()
    with start("--workers", "1", stderr=writer) as server:
        os.close(writer)
        with server.client() as client:
            # Some 250 bytes a line, of which a pipe holds 64 KB.
            assert {client.get("/healthz").status_code for _ in range(1000)} == {200}
        assert server.stop() == 0
    os.close(reader)


def test_what_happens_often_is_logged_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now, seen = [1000.0], []
    monkeypatch.setattr(logs, "_rare_events", {})
    monkeypatch.setattr(logs.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(logs, "log", lambda event, _level, **fields: seen.append((event, fields)))
    for _ in range(3):
        log_rarely("cannot accept", detail="why")
        log_rarely("another")
    now[0] += 10
    log_rarely("cannot accept", detail="why")
    once = {"detail": "why"}
    assert seen == [
        ("cannot accept", once),
        ("another", {}),
        ("cannot accept", {**once, "left_out": 2}),
    ]


def test_a_log_file_that_cannot_be_opened_is_an_error_and_the_log_goes_on(tmp_path: Path) -> None:
    service = Service(make_settings(journal="off", log_file=tmp_path / "a.log"))
    before = service.access_log
    bad = make_settings(journal="off", log_file=tmp_path / "missing" / "b.log")
    with pytest.raises(StorageFailed, match=r"b\.log cannot be opened \(No such"):
        service.reload(bad)
    assert service.access_log is before
    before.write(ENTRY)
    service.reload(make_settings(journal="off", log_file=tmp_path / "c.log", access_log=False))
    assert service.access_log is None
    service.close()
    assert json.loads((tmp_path / "a.log").read_text())["route"] == "/v1/classify"
    logs.set_up_logs(io.StringIO())


def test_chores_go_on_after_a_failure_and_a_full_stop_writes_the_last_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, home, metrics = io.StringIO(), tmp_path / "home", Metrics()
    logs.set_up_logs(stream)
    monkeypatch.setattr(logs, "_rare_events", {})
    monkeypatch.setenv("CLASSMARK_HOME", str(home))
    home.write_text("a file where a folder should be")
    journal = Journal(JournalConfig(path=tmp_path / "journal.sqlite"))
    monkeypatch.setattr(journal, "delete_old", lambda: 1 / 0)
    chores = Chores(metrics, journal, pause_s=0.001)
    metrics.key_used("one")
    until(lambda: "last use of keys not written" in stream.getvalue())
    until(lambda: stream.getvalue().count("chores failed") > 1)
    home.unlink()
    until(lambda: "one" in read_last_uses())
    metrics.key_used("two")
    chores.close(60)
    assert read_last_uses().keys() == {"one", "two"}
    journal.close(5)


def test_a_thread_that_cannot_be_started_ends_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(OSError, match="raise ulimit -u"):
        Chores(Metrics(), None)
