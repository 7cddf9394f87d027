"""What a connection may send: headers without end, framing that two sides read differently."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

PATIENCE_S = 60
MIB = 1 << 20
PAPER = b'{"title": "Graph colouring", "abstract": "We colour sparse graphs."}'
HEAD = b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
STATED = HEAD + b"Content-Length: %d\r\n" % len(PAPER)
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@contextmanager
def connection(server: Any, source: str = "127.0.0.1") -> Iterator[socket.socket]:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), PATIENCE_S, (source, 0)) as opened:
        yield opened


def received(opened: socket.socket) -> bytes:
    """Return everything until the other side closes."""
    parts = []
    try:
        while part := opened.recv(65536):
            parts.append(part)
    except ConnectionResetError:  # it closed with bytes of ours unread
        pass
    return b"".join(parts)


def answers(server: Any, *sent: bytes) -> list[tuple[int, dict[bytes, bytes], bytes]]:
    """Return status, header fields and body of every answer to bytes that end a connection."""
    with connection(server) as opened:
        for part in sent:
            opened.sendall(part)
        rest = received(opened)
    found = []
    while rest:
        head, _, rest = rest.partition(b"\r\n\r\n")
        status, *lines = head.split(b"\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in lines)
        length = int(fields[b"content-length"])
        found.append((int(status.split()[1]), fields, rest[:length]))
        rest = rest[length:]
    return found


def flood(opened: socket.socket, start: bytes, piece: bytes, n_bytes: int) -> int:
    """Send a piece again and again; return how many bytes went until the other side closed."""
    sent = 0
    try:
        opened.sendall(start)
        while sent < n_bytes:
            opened.sendall(piece)
            sent += len(piece)
    except (ConnectionResetError, BrokenPipeError):
        pass
    return sent


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: ", b"x" * 65536),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-", b"x" * 65536),
        (b"GET /", b"x" * 65536),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n", b"a:b\r\n" * 13_000),
        (b"", b"\r\n" * 32768),
        (CHUNKED + b"\r\n3;", b"x" * 65536),
        (CHUNKED + b"\r\n", b"1;extension-of-a-chunk=20\r\nx\r\n" * 2048),
        (CHUNKED + b"\r\n" + chunk(PAPER) + b"0\r\nX-Long: ", b"x" * 65536),
        (CHUNKED + b"\r\n" + chunk(PAPER) + b"0\r\n", b"X-Trailer: b\r\n" * 4096),
    ],
    ids=[
        *("value", "name", "address", "fields", "empty lines", "extension", "extensions"),
        *("trailer", "trailers"),
    ],
)
def test_what_has_no_end_beside_a_body_is_431_at_the_limit(
    server: Any, start: bytes, piece: bytes
) -> None:
    with connection(server) as opened:
        sent = flood(opened, start, piece, 64 * MIB)
        answer = received(opened)
    assert sent < 16 * MIB  # what the buffers of two sockets hold
    assert answer.startswith(b"HTTP/1.1 431 ") or not answer  # a reset may overtake the answer


def test_a_long_header_field_in_pieces_gets_its_431_to_read(server: Any) -> None:
    field = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 33_000
    [(status, fields, body)] = answers(server, field[:20_000], field[20_000:])
    assert status == 431
    assert fields[b"connection"] == b"close"
    assert b"the header is larger than 32768 bytes" in body


def test_a_header_just_below_the_limit_is_read_however_it_comes(server: Any) -> None:
    head = STATED + b"Connection: close\r\nX-Long: " + b"x" * 32_000 + b"\r\n\r\n"
    whole = head + PAPER
    for cut in (len(head) - 3, len(head) - 2, len(head) - 1, len(head), len(head) + 1):
        [(status, _, _)] = answers(server, whole[:cut], whole[cut:])
        assert status == 200


def test_a_body_in_tiny_chunks_is_not_a_long_header(server: Any) -> None:
    document = b'{"text": "' + b"We colour sparse graphs. " * 4000 + b'"}'
    body = b"".join(chunk(document[i : i + 1]) for i in range(len(document)))
    head = CHUNKED + b"Connection: close\r\n\r\n"
    [(status, _, _)] = answers(server, head, body + b"0\r\n\r\n")
    assert status == 200


def test_trailers_are_not_headers(server: Any) -> None:
    body = chunk(PAPER) + b"0\r\nX-Request-ID: of-a-trailer\r\nX-Classmark-Deadline-Ms: 0\r\n\r\n"
    [(status, fields, _)] = answers(server, CHUNKED + b"Connection: close\r\n\r\n" + body)
    assert status == 200
    assert fields[b"x-request-id"] != b"of-a-trailer"


@pytest.mark.slow
def test_requests_sent_ahead_are_answered_in_order_without_holding_the_loop(server: Any) -> None:
    n = 3000
    requests = [
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: %d\r\n\r\n" % i
        for i in range(n)
    ]
    last = STATED + b"X-Request-ID: last\r\nConnection: close\r\n\r\n" + PAPER
    found = answers(server, b"".join(requests) + last)
    assert [fields[b"x-request-id"] for _, fields, _ in found] == [
        *(b"%d" % i for i in range(n)),
        b"last",
    ]
    assert {status for status, _, _ in found} == {200}


def test_an_error_in_a_later_request_does_not_overtake_an_answer(server: Any) -> None:
    found = answers(server, STATED + b"\r\n" + PAPER + b"no http\r\n\r\n")
    assert [status for status, _, _ in found] == [200, 400]


@pytest.mark.parametrize(
    "body", [b"Content-Length: %d\r\n\r\n" % len(PAPER), b"Transfer-Encoding: chunked\r\n\r\n"]
)
@pytest.mark.parametrize("protocol", [b"h2c", b"websocket"])
def test_a_request_that_asks_for_another_protocol_keeps_its_body(
    server: Any, protocol: bytes, body: bytes
) -> None:
    upgrade = HEAD + b"Connection: Upgrade\r\nUpgrade: " + protocol + b"\r\n" + body
    sent = PAPER if b"Content" in body else chunk(PAPER) + b"0\r\n\r\n"
    for cut in (0, 5, len(sent)):
        [(status, fields, answer)] = answers(server, upgrade + sent[:cut], sent[cut:])
        assert status == 200
        assert json.loads(answer)["ranked"]
        assert fields[b"connection"] == b"close"


def test_a_request_without_a_body_that_asks_for_another_protocol_is_answered(server: Any) -> None:
    upgrade = HEALTH[:-2] + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    last = HEALTH[:-2] + b"Connection: close\r\n\r\n"
    assert [status for status, _, _ in answers(server, upgrade + last)] == [200, 200]


@pytest.mark.parametrize(
    ("head", "statuses"),
    [
        (b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n", [400]),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", [400]),
        (b"GET /healthz HTTP/1.0\r\nHost: localhost\r\nHost: y\r\n\r\n", [400]),
        (b"GET /healthz HTTP/1.0\r\n\r\n", [200]),
        (b"GET /healthz HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n", [200]),
    ],
    ids=["none", "two", "two of 1.0", "none of 1.0", "empty"],
)
def test_http_1_1_needs_one_host(server: Any, head: bytes, statuses: list[int]) -> None:
    found = answers(server, head)
    assert [status for status, _, _ in found] == statuses
    if statuses == [400]:
        assert b"Host fields. Send one." in found[0][2]
        assert found[0][1][b"content-type"] == b"application/problem+json"


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        b"Content-Length: 3\r\nContent-Length: 4\r\n",
        b"Content-Length: 3, 3\r\n",
        b"Content-Length: +3\r\n",
        b"Content-Length: 99999999999999999999999\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"Transfer-Encoding: identity\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        b"X-Folded: a\r\n b\r\n",
        b"X-Bare: a\rb\r\n",
        b"X-Bare: a\nb\r\n",
        b"X-Nul: a\0b\r\n",
        b"X-Control: a\x01b\r\n",
        b"X-Blank : a\r\n",
        b": a\r\n",
    ],
)
def test_framing_that_two_sides_may_read_differently_is_400_and_the_end(
    server: Any, lines: bytes
) -> None:
    hidden = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    [(status, fields, body)] = answers(server, HEAD + lines + b"\r\n" + hidden)
    assert (status, fields[b"connection"]) == (400, b"close")
    assert json.loads(body)["kind"] == "bad_request"


def test_chunks_of_http_1_0_are_400(server: Any) -> None:
    head = CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0")
    [(status, _, body)] = answers(server, head + b"\r\n" + chunk(PAPER) + b"0\r\n\r\n")
    assert status == 400
    assert b"the only transfer coding here is chunked" in body


def test_nothing_is_said_after_an_answer_that_came_before_the_body_was_whole(server: Any) -> None:
    with connection(server) as opened:
        opened.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        opened.sendall(chunk(b" " * (9 * MIB)))
        answer = opened.recv(65536)
        assert answer.startswith(b"HTTP/1.1 413 ")
        opened.sendall(b"no chunk\r\n")
        assert b"HTTP/1.1 400 " not in answer + received(opened)


def test_another_request_follows_a_refused_body(server: Any) -> None:
    head = HEAD + b"Content-Length: %d\r\n\r\n" % (9 * MIB)
    last = HEALTH[:-2] + b"Connection: close\r\n\r\n"
    found = answers(server, head, b" " * (9 * MIB), last)
    assert [status for status, _, _ in found] == [413, 200]


@pytest.mark.parametrize("address", [b"x:80", b"/\xff"])
def test_an_address_that_is_none_is_400(server: Any, address: bytes) -> None:
    bad = b"CONNECT " + address + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert [status for status, _, _ in answers(server, bad)] == [400]
    assert [status for status, _, _ in answers(server, HEALTH, bad)] == [200, 400]


@pytest.mark.slow
def test_large_answers_to_requests_sent_ahead_are_all_delivered(server: Any) -> None:
    body = json.dumps({"papers": [{"id": i, "title": "Graphs"} for i in range(1000)], "top": 149})
    batch = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body.encode()
    last = HEALTH[:-2] + b"Connection: close\r\n\r\n"
    found = answers(server, batch * 3 + last)
    assert [status for status, _, _ in found] == [200] * 4
    assert [len(json.loads(answer)["answers"]) for _, _, answer in found[:3]] == [1000] * 3
    assert min(len(answer) for _, _, answer in found[:3]) > 4 * MIB


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_an_answer_leaves_in_one_piece(server: Any, method: bytes) -> None:
    length = len(answers(server, HEALTH.replace(b"Host", b"Connection: close\r\nHost"))[0][2])
    with connection(server) as opened:
        for _ in range(20):  # in two pieces, the first would sometimes be read alone
            opened.sendall(HEALTH.replace(b"GET", method))
            head, _, body = opened.recv(65536).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert len(body) == (length if method == b"GET" else 0)
