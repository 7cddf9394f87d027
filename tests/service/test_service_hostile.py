"""One costly request after the other, while others ask whether the service lives."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

MIB = 1 << 20
BODY_BYTES = 8 * MIB
LONGEST_WAIT_S = 5
"""A loop that stood still for one of these bodies did so for 20 s and more."""
MOST_GROWTH_MIB = 300
PATIENCE_S = 120
PAPER = {"title": "Graph colouring", "abstract": "We colour sparse graphs with few colours."}
JSON = {"content-type": "application/json"}
CLASSIFY, FEEDBACK = "/v1/classify", "/v1/feedback"
INFER = "/v2/models/fast/infer"
TENSOR = b'{"inputs":[{"name":"text","datatype":"BYTES","shape":'
UNKNOWN = b",".join(b'"key_%d":1' % i for i in range(60))


def papers(n: int, text: str) -> bytes:
    return json.dumps({"papers": [{"id": i, "abstract": f"{i} {text}"} for i in range(n)]}).encode()


class Hostile(NamedTuple):
    """A body of a piece again and again, and how it is refused."""

    path: str
    start: bytes
    piece: bytes
    end: bytes
    status: int
    kind: str

    def body(self) -> bytes:
        room = BODY_BYTES - len(self.start) - len(self.end)
        return self.start + self.piece * (room // len(self.piece)) + self.end


HOSTILE = {
    "papers that are numbers": Hostile(
        CLASSIFY, b'{"papers":[', b"1,", b"1]}", 413, "too_many_papers"
    ),
    "papers that are empty": Hostile(
        CLASSIFY, b'{"papers":[', b"{},", b"{}]}", 413, "too_many_papers"
    ),
    "unknown fields": Hostile(CLASSIFY, b"{", b'"a":1,', b'"b":1}', 422, "invalid_request"),
    "unknown fields of papers": Hostile(
        CLASSIFY, b'{"papers":[', b"{%s}," % UNKNOWN, b"{}]}", 413, "too_many_papers"
    ),
    "objects in objects": Hostile(CLASSIFY, b"", b'{"a":', b"", 400, "malformed_json"),
    "a long title": Hostile(CLASSIFY, b'{"title":"', b"x", b'"}', 413, "text_too_long"),
    "a title of escapes": Hostile(CLASSIFY, b'{"title":"', b'\\"', b'"}', 413, "text_too_long"),
    "a long number": Hostile(CLASSIFY, b'{"top":', b"1", b"}", 413, "text_too_long"),
    "blanks": Hostile(CLASSIFY, b"", b" ", b"", 413, "text_too_long"),
    "data that are numbers": Hostile(
        INFER, TENSOR + b'[1],"data":[', b"1,", b"1]}]}", 413, "too_many_papers"
    ),
    "a long shape": Hostile(
        INFER, TENSOR + b"[", b"1,", b'1],"data":[]}]}', 422, "invalid_request"
    ),
    "feedback": Hostile(FEEDBACK, b"{", b'"a":1,', b'"b":1}', 413, "body_too_large"),
}


class Prober:
    """Asks for an answer without a pause, over one connection, and notes the longest wait."""

    def __init__(self, url: str) -> None:
        self.longest_s = 0.0
        self.statuses: set[int] = set()
        self._address = url.removeprefix("http://")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Prober:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        connection = HTTPConnection(self._address, timeout=PATIENCE_S)
        body = json.dumps(PAPER)
        while not self._stop.is_set():
            started = time.monotonic()
            connection.request("POST", CLASSIFY, body, JSON)
            response = connection.getresponse()
            response.read()
            self.statuses.add(response.status)
            self.longest_s = max(self.longest_s, time.monotonic() - started)
        connection.close()


def resident_mib(pid: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


@pytest.fixture(scope="module")
def worker(server: Any) -> int:
    (pid,) = server.workers()
    return int(pid)


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_body_is_refused_while_others_are_answered(
    server: Any, worker: int, name: str
) -> None:
    hostile = HOSTILE[name]
    before_mib = resident_mib(worker)
    with Prober(server.url) as prober, httpx.Client(timeout=PATIENCE_S) as client:
        response = client.post(server.url + hostile.path, content=hostile.body(), headers=JSON)
    assert (response.status_code, response.json()["kind"]) == (hostile.status, hostile.kind)
    assert len(response.content) < 4096
    assert prober.statuses == {200}
    assert prober.longest_s < LONGEST_WAIT_S
    assert resident_mib(worker) - before_mib < MOST_GROWTH_MIB


@pytest.mark.slow
def test_a_large_batch_is_answered_while_others_are(server: Any, worker: int) -> None:
    body = papers(1000, "We colour $\\alpha$ sparse graphs with few colours. " * 150)
    assert 0.9 * BODY_BYTES < len(body) <= BODY_BYTES
    before_mib = resident_mib(worker)
    headers = {**JSON, "x-classmark-deadline-ms": "600000"}
    with Prober(server.url) as prober, httpx.Client(timeout=PATIENCE_S) as client:
        response = client.post(server.url + CLASSIFY, content=body, headers=headers)
    assert response.status_code in (200, 504)  # on a machine without time
    assert prober.statuses == {200}
    assert prober.longest_s < LONGEST_WAIT_S
    assert resident_mib(worker) - before_mib < MOST_GROWTH_MIB


@pytest.mark.slow
def test_a_long_header_or_tiny_chunks_hold_nobody_up(server: Any, worker: int) -> None:
    head = b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    starts = (
        (head + b"X-Long: ", b"x" * MIB),
        (head + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 100_000),
        (b"", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20_000),
    )
    host, port = server.url.removeprefix("http://").split(":")
    before_mib = resident_mib(worker)
    with Prober(server.url) as prober:
        for start, piece in starts:
            with socket.create_connection((host, int(port)), PATIENCE_S) as opened:
                opened.settimeout(2)
                try:
                    opened.sendall(start)
                    for _ in range(16):
                        opened.sendall(piece)
                except (ConnectionResetError, BrokenPipeError, TimeoutError):
                    continue  # cut off, or not read any further
    assert prober.statuses == {200}
    assert prober.longest_s < LONGEST_WAIT_S
    assert resident_mib(worker) - before_mib < MOST_GROWTH_MIB
