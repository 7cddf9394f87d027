"""Real processes that are stopped, killed, starved and lied to."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from waiting import PATIENCE_S, until

from classmark.bundle import find_bundle
from classmark.journal import Journal, JournalConfig, find_prediction

PAPER = {"title": "Graph colouring", "abstract": "We colour sparse graphs with few colours."}


def serve(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "classmark", "serve", *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
        env={**os.environ, **environment},
    )


@contextmanager
def connection(url: str) -> Iterator[socket.socket]:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as opened:
        yield opened


def received(opened: socket.socket) -> bytes:
    """Return everything until the other side closes."""
    parts = []
    while part := opened.recv(65536):
        parts.append(part)
    return b"".join(parts)


class Load:
    """Threads that classify without a pause until they are stopped.

    Attributes:
        statuses: of the answers.
        refused: connections that were refused or broken before any byte of an answer.
        broken: answers that began and did not end.
    """

    def __init__(self, url: str, n_threads: int = 4) -> None:
        self.statuses: list[int] = []
        self.refused: list[str] = []
        self.broken: list[str] = []
        self._url = url
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(n_threads)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=PATIENCE_S) as client:
            while not self._stop.is_set():
                try:
                    self.statuses.append(client.post("/v1/classify", json=PAPER).status_code)
                except (httpx.ConnectError, httpx.ReadError, httpx.WriteError) as error:
                    self.refused.append(repr(error))
                except httpx.RemoteProtocolError as error:
                    if "without sending a response" in str(error):
                        self.refused.append(repr(error))
                    else:
                        self.broken.append(repr(error))


@pytest.mark.slow
def test_sigterm_under_load_is_not_ready_at_once_drains_and_exits_0(start: Any) -> None:
    with start("--workers", "2", CLASSMARK_SERVE_DRAIN_S="1.5") as server:
        load = Load(server.url)
        until(lambda: len(load.statuses) > 50)
        with server.client() as client:
            assert client.get("/readyz").status_code == 200
            server.process.send_signal(signal.SIGTERM)
            response = until(lambda: (r := client.get("/readyz")).status_code == 503 and r)
            assert response.json()["kind"] == "not_ready"
            assert response.headers["connection"] == "close"
            seen = len(load.statuses)
            assert client.post("/v1/classify", json=PAPER).status_code == 200
        assert server.process.wait(PATIENCE_S) == 0
        load.end()
        assert set(load.statuses) == {200}
        assert len(load.statuses) > seen
        assert load.broken == []
        events = [line["event"] for line in server.logs() if line["event"] != "request"]
        assert events == ["ready", "stopping", "worker ended", "worker ended", "stopped"]


@pytest.mark.slow
def test_sigterm_waits_for_a_batch_in_work_and_writes_its_journal(
    start: Any, tmp_path: Path
) -> None:
    papers = [{"id": str(i), "abstract": f"{i} graphs " * 600} for i in range(900)]
    journal = tmp_path / "journal.sqlite"
    with start("--workers", "1", "--journal", str(journal)) as server:
        answers: list[Any] = []

        def classify() -> None:
            with server.client() as client:
                answers.append(client.post("/v1/classify", json={"papers": papers}).json())

        thread = threading.Thread(target=classify)
        thread.start()
        metrics = "classmark_requests_in_work 1.0"
        with server.client() as client:
            until(lambda: answers or metrics in client.get("/metrics").text)
        assert server.stop() == 0
        thread.join()
        assert len(answers[0]["answers"]) == 900
        (ended,) = [line for line in server.logs() if line["event"] == "worker ended"]
        assert ended["journal_events_lost"] == 0
        last = answers[0]["answers"][-1]["prediction_id"]
        found = find_prediction(journal, last)
        assert found is not None
        assert found.event.paper_id == "899"


@pytest.mark.slow
def test_a_killed_worker_is_replaced_while_others_answer(start: Any) -> None:
    with start("--workers", "2") as server:
        load = Load(server.url)
        until(lambda: len(load.statuses) > 50)
        victim = server.workers()[0]
        os.kill(victim, signal.SIGKILL)
        until(lambda: victim not in server.workers() and len(server.workers()) == 2)
        seen = len(load.statuses)
        until(lambda: len(load.statuses) > seen + 50)
        load.end()
        assert set(load.statuses) == {200}
        # Only what the victim held at that moment is lost: at most one request a connection.
        assert len(load.refused) + len(load.broken) <= 4
        with server.client() as client:
            until(lambda: "classmark_workers 2.0" in client.get("/metrics").text)
        (death,) = [line for line in server.logs() if line["event"] == "worker died"]
        assert (death["worker"], death["exit_code"]) == (victim, -signal.SIGKILL)


@pytest.mark.slow
def test_workers_end_when_their_supervisor_is_killed(start: Any) -> None:
    with start("--workers", "2") as server:
        workers = server.workers()
        server.process.kill()
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
        events = [line["event"] for line in server.logs()]
        assert events.count("supervisor gone") == 2
        assert events.count("worker ended") == 2


@pytest.mark.slow
def test_a_port_in_use_is_one_line_and_exit_code_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = serve("--port", port)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        f"error: cannot listen on 127.0.0.1:{port}: Address already in use. Stop the program "
        "that listens there, or choose another --port.\n"
    )


@pytest.mark.slow
def test_an_address_of_another_machine_is_one_line() -> None:
    result = serve("--host", "192.0.2.1", "--port", "0")
    assert result.returncode == 1
    assert result.stderr == (
        "error: cannot listen on 192.0.2.1:0: Cannot assign requested address. Choose another "
        "--host, which this machine has.\n"
    )


@pytest.mark.slow
def test_an_unknown_host_is_one_line() -> None:
    result = serve("--host", "no-host.invalid", "--port", "0")
    assert result.returncode == 1
    assert "error: no-host.invalid:0 is not an address of this machine" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.slow  # starts a service of its own
def test_a_corrupted_bundle_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    folder = tmp_path / "fast-1.0"
    shutil.copytree(find_bundle("fast"), folder)
    with (folder / "arrays" / "bias.npy").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\xff")
    result = serve("--port", "0", "--model", str(folder))
    assert (result.returncode, result.stdout) == (1, "")
    assert "bias.npy has changed since the bundle was written" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.slow  # starts a service of its own
def test_a_journal_of_a_newer_classmark_ends_the_start_with_one_line(tmp_path: Path) -> None:
    journal = tmp_path / "journal.sqlite"
    opened = Journal(JournalConfig(path=journal))
    opened.close(PATIENCE_S)
    with closing(sqlite3.connect(journal)) as database:
        database.execute("INSERT INTO migrations VALUES ('9999_later', '2099-01-01')")
        database.commit()
    result = serve("--port", "0", "--workers", "1", "--journal", str(journal))
    assert (result.returncode, result.stdout) == (1, "")
    failed = json.loads(result.stderr.splitlines()[0])
    assert (failed["event"], failed["level"]) == ("worker failed", "error")
    assert "newer" in failed["detail"]


@pytest.mark.slow
def test_a_setting_out_of_range_is_one_line() -> None:
    result = serve(CLASSMARK_SERVE_MAX_PAPERS="0")
    assert result.returncode == 2
    assert "(or CLASSMARK_SERVE_MAX_PAPERS) cannot be '0'" in result.stderr


@pytest.mark.slow
def test_slow_clients_and_half_open_connections_are_closed_in_time(start: Any) -> None:
    short = {"CLASSMARK_SERVE_HEADER_TIMEOUT_S": "0.3", "CLASSMARK_SERVE_BODY_TIMEOUT_S": "0.6"}
    head = b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with start("--workers", "1", **short) as server:
        with connection(server.url) as silent:
            assert received(silent) == b""
        with connection(server.url) as half:
            half.sendall(head)
            assert received(half) == b""
        with connection(server.url) as stalled:
            stalled.sendall(head + b"Content-Length: 100\r\n\r\n{")
            answer = received(stalled)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"urn:classmark:problem:body_timeout" in answer
        with connection(server.url) as gone:
            gone.sendall(head + b"Content-Length: 100\r\n\r\n{")
        with server.client() as client:
            until(lambda: 'status="499"' in client.get("/metrics").text)
            assert client.post("/v1/classify", json=PAPER).status_code == 200


def test_headers_without_end_are_431_and_no_http_is_400(server: Any) -> None:
    with connection(server.url) as opened:
        opened.sendall(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 40_000 + b"\r\n\r\n"
        )
        answer = received(opened)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b"the header is larger than 32768 bytes" in answer
    assert b"x-classmark-model: fast@" in answer
    with connection(server.url) as opened:
        opened.sendall(b"\x16\x03\x01 no http\r\n\r\n")
        answer = received(opened)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"urn:classmark:problem:bad_request" in answer


@pytest.mark.slow
def test_connections_and_work_above_the_bounds_get_503_at_once(start: Any) -> None:
    bounds = {"CLASSMARK_SERVE_MAX_CONNECTIONS": "8", "CLASSMARK_SERVE_MAX_CONCURRENCY": "2"}
    head = b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    papers = [{"abstract": f"{i} graphs " * 600} for i in range(900)]
    batch = json.dumps({"papers": papers}).encode()
    stated = head + b"Content-Length: %d\r\n\r\n" % len(batch)
    with start("--workers", "1", **bounds) as server:
        with connection(server.url) as one, connection(server.url) as two, server.client() as probe:
            for opened in (one, two):
                opened.sendall(stated + batch[:-1])
            for _ in range(20):  # bodies that are not whole are no work
                assert probe.post("/v1/classify", json=PAPER).status_code == 200
            for opened in (one, two):
                opened.sendall(batch[-1:])
            response = until(
                lambda: (r := probe.post("/v1/classify", json=PAPER)).status_code == 503 and r
            )
            assert response.json()["kind"] == "overloaded"
            assert response.headers["retry-after"] == "1"
            assert probe.get("/healthz").status_code == 200
            for opened in (one, two):
                assert opened.recv(13) == b"HTTP/1.1 200 "
        opened_all = []
        try:
            for _ in range(9):
                host, port = server.url.removeprefix("http://").split(":")
                opened_all.append(socket.create_connection((host, int(port))))
            answer = received(opened_all[-1])
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"too many connections are open" in answer
        finally:
            for opened in opened_all:
                opened.close()


@pytest.mark.slow
def test_a_client_that_does_not_read_its_answer_is_let_go(start: Any) -> None:
    short = {"CLASSMARK_SERVE_WRITE_TIMEOUT_S": "0.5"}
    papers = [{"id": str(i), "title": "Graphs", "abstract": "We draw."} for i in range(1000)]
    body = json.dumps({"papers": papers, "top": 149}).encode()
    head = b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with start("--workers", "1", **short) as server:
        (worker,) = server.workers()
        before = server.sockets(worker)
        with connection(server.url) as deaf:
            deaf.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            until(lambda: server.sockets(worker) > before)
            with server.client() as client:
                until(lambda: "} 1000.0\n" in client.get("/metrics").text)
            until(lambda: server.sockets(worker) == before)
            answer = received(deaf)
        stated = re.search(rb"content-length: (\d+)", answer)
        assert stated is not None
        assert len(answer) < int(stated[1])


@pytest.mark.slow
def test_ctrl_c_stops_in_order_too(start: Any) -> None:
    with start("--workers", "1") as server:
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(PATIENCE_S) == 0


@pytest.mark.slow
def test_what_hangs_beyond_the_grace_period_is_killed_and_said(start: Any) -> None:
    with start("--workers", "1", "--grace-s", "1") as server:
        (worker,) = server.workers()
        os.kill(worker, signal.SIGSTOP)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE_S) == 1
        events = [line["event"] for line in server.logs()]
        assert events[-3:] == ["stopping", "worker killed", "stopped"]
