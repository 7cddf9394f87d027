"""One client that takes all it can get, and others who are answered all the same."""

from __future__ import annotations

import json
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import httpx
import pytest
from waiting import PATIENCE_S, until

from classmark.service.http.shares import Shares

PAPER = {"title": "Graph colouring", "abstract": "We colour sparse graphs with few colours."}
GREEDY = "127.0.0.2"
HEAD = b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
KIB = 1 << 10


@contextmanager
def connection(url: str, source: str) -> Iterator[socket.socket]:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), PATIENCE_S, (source, 0)) as opened:
        yield opened


def opened_by(stack: ExitStack, url: str, n: int, sent: bytes) -> list[socket.socket]:
    """Return connections of the greedy client, on which it has sent something."""
    opened = [stack.enter_context(connection(url, GREEDY)) for _ in range(n)]
    for one in opened:
        with suppress(ConnectionResetError, BrokenPipeError):  # refused already
            one.sendall(sent)
    return opened


def classify(server: Any) -> int:
    """Return the status of an honest request over a new connection."""
    with httpx.Client(timeout=PATIENCE_S) as client:
        return client.post(f"{server.url}/v1/classify", json=PAPER).status_code


@pytest.mark.slow
def test_hundreds_of_slow_bodies_of_one_client_stop_nobody_else(start: Any) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert min(soft, hard) > 700
    slow = HEAD + b"Content-Length: 1000\r\n\r\n{"
    patient = {
        "CLASSMARK_SERVE_BODY_TIMEOUT_S": "600",
        "CLASSMARK_SERVE_MAX_CONNECTIONS_PER_CLIENT": "1000",
    }
    with start("--workers", "1", **patient) as server, ExitStack() as stack:
        opened_by(stack, server.url, 600, slow)
        assert [classify(server) for _ in range(40)] == [200] * 40
        with server.client() as client:
            assert "classmark_requests_in_work 0.0" in client.get("/metrics").text


@pytest.mark.slow
def test_the_client_with_most_connections_gives_way(start: Any) -> None:
    bounds = {"CLASSMARK_SERVE_MAX_CONNECTIONS": "20", "CLASSMARK_SERVE_BODY_TIMEOUT_S": "600"}
    slow = HEAD + b"Content-Length: 1000\r\n\r\n{"
    with start("--workers", "1", **bounds) as server, ExitStack() as stack:
        opened = opened_by(stack, server.url, 20, slow)
        assert [classify(server) for _ in range(5)] == [200] * 5
        answer = opened[-1].recv(65536)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"too many connections are open" in answer


@pytest.mark.slow
def test_an_idle_connection_that_gives_way_is_closed_without_a_word(start: Any) -> None:
    bounds = {"CLASSMARK_SERVE_MAX_CONNECTIONS": "5", "CLASSMARK_SERVE_KEEP_ALIVE_S": "600"}
    with start("--workers", "1", **bounds) as server, ExitStack() as stack:
        idle = opened_by(stack, server.url, 5, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for one in idle:
            answer = b""
            while not answer.endswith(b"}"):
                answer += one.recv(65536)
        assert classify(server) == 200
        assert idle[-1].recv(65536) == b""


@pytest.mark.slow
def test_connections_of_one_client_are_bounded_but_not_those_of_a_trusted_proxy(
    start: Any,
) -> None:
    bounds = {
        "CLASSMARK_SERVE_MAX_CONNECTIONS_PER_CLIENT": "3",
        "CLASSMARK_SERVE_TRUSTED_PROXIES": "127.0.0.1, 10.0.0.0/8",
    }
    with start("--workers", "1", **bounds) as server, ExitStack() as stack:
        for _ in range(10):
            client = stack.enter_context(httpx.Client(timeout=PATIENCE_S))
            assert client.get(f"{server.url}/healthz").status_code == 200
        greedy = opened_by(stack, server.url, 4, b"")
        answer = greedy[-1].recv(65536)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"this client has more than 3 open connections" in answer


@pytest.mark.slow
def test_bodies_that_are_not_whole_are_bounded_together(start: Any) -> None:
    bounds = {
        "CLASSMARK_SERVE_MAX_UNFINISHED_BYTES": str(1024 * KIB),
        "CLASSMARK_SERVE_BODY_TIMEOUT_S": "600",
    }
    large = HEAD + b"Content-Length: 8000000\r\n\r\n" + b" " * (400 * KIB)
    with start("--workers", "1", **bounds) as server, ExitStack() as stack:
        opened = opened_by(stack, server.url, 3, large)
        answers = [until(lambda: first_answer(opened))]
        assert [classify(server) for _ in range(5)] == [200] * 5
    assert answers[0].startswith(b"HTTP/1.1 503 ")
    assert b"too many large bodies are on their way" in answers[0]


def first_answer(opened: list[socket.socket]) -> bytes:
    for one in opened:
        one.setblocking(False)
        try:
            return one.recv(65536)
        except BlockingIOError:
            continue
    return b""


@pytest.mark.slow
def test_answers_that_nobody_reads_are_bounded_in_bytes(start: Any) -> None:
    bounds = {
        "CLASSMARK_SERVE_MAX_UNSENT_BYTES": str(1024 * KIB),
        "CLASSMARK_SERVE_WRITE_TIMEOUT_S": "600",
    }
    papers = [{"id": str(i), "title": "Graphs", "abstract": "We draw."} for i in range(1000)]
    body = json.dumps({"papers": papers, "top": 149}).encode()
    with start("--workers", "1", **bounds) as server:
        (worker,) = server.workers()
        idle_sockets = server.sockets(worker)
        with connection(server.url, GREEDY) as deaf:
            deaf.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            with server.client() as client:
                until(lambda: "} 1000.0\n" in client.get("/metrics").text)
            until(lambda: server.sockets(worker) == idle_sockets)
            assert classify(server) == 200


class Held:
    """A connection as ``Shares`` sees it."""

    def __init__(self, client: str, *, n_bytes: int = 0, is_answering: bool = False) -> None:
        self.client_network = client
        self.body_bytes = n_bytes
        self._is_answering = is_answering

    def may_give_way(self) -> bool:
        return not self._is_answering

    def unsent_bytes(self) -> int:
        return self.body_bytes


def counted(*held: Held) -> Shares:
    shares = Shares("")
    for connection in held:
        shares.add(connection)
    return shares


def test_the_newest_connection_without_an_answer_to_lose_gives_way() -> None:
    old, newer, answering = Held("a"), Held("a"), Held("a", is_answering=True)
    newcomer = Held("b")
    shares = counted(old, newer, answering, newcomer)
    assert shares.must_give_way(newcomer) is newer
    shares.remove(newer)
    shares.remove(old)
    assert shares.must_give_way(newcomer) is newcomer  # no client has more than its own


def test_a_client_with_most_connections_gives_way_itself() -> None:
    newcomer = Held("a")
    assert counted(Held("a"), Held("b"), newcomer).must_give_way(newcomer) is newcomer
    busy = [Held("a", is_answering=True) for _ in range(3)]
    newcomer = Held("b")
    assert counted(*busy, newcomer).must_give_way(newcomer) is newcomer


def test_trusted_proxies_do_not_give_way() -> None:
    newcomer = Held("b")
    assert counted(Held(""), Held(""), Held(""), newcomer).must_give_way(newcomer) is newcomer


def test_the_heaviest_is_of_the_client_that_holds_most_together() -> None:
    many = [Held("a", n_bytes=n) for n in (3, 4, 5)]
    shares = counted(Held("b", n_bytes=9), *many)
    assert shares.heaviest(lambda one: one.body_bytes) is many[2]


def test_unsent_bytes_are_those_of_slow_readers() -> None:
    slow, quick = Held("a", n_bytes=3), Held("b", n_bytes=4)
    shares = counted(slow, quick)
    shares.note_slow_reader(slow, is_slow=True)
    assert shares.unsent_bytes() == 3
    shares.note_slow_reader(slow, is_slow=False)
    assert shares.unsent_bytes() == 0


@pytest.mark.parametrize(
    ("trusted", "address", "client"),
    [
        ("", "192.0.2.1", "192.0.2.1"),
        ("", "2001:db8::1", "2001:db8::/64"),
        ("", "", ""),
        ("*", "192.0.2.1", ""),
        ("192.0.2.1", "192.0.2.1", ""),
        ("192.0.2.1", "::ffff:192.0.2.1", ""),
        ("192.0.2.0/24, 198.51.100.7", "192.0.2.9", ""),
        ("2001:db8::/32", "2001:db8::1%eth0", ""),
        ("192.0.2.1", "192.0.2.2", "192.0.2.2"),
        ("192.0.2.1", "a socket", "without an address"),
    ],
)
def test_whom_a_connection_counts_for(trusted: str, address: str, client: str) -> None:
    assert Shares(trusted).client_of(address) == client
