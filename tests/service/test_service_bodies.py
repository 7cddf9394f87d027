"""Bodies in gzip, and with a byte order mark: read alike, bounded by what comes out of them."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classmark.service.problems import Problem
from classmark.service.requests.body import (
    JOINED_AT_ONCE_BYTES,
    MAX_DIRECT_BODY_BYTES,
    read_body,
    unpack,
)
from classmark.service.requests.exchange import Exchange
from classmark.service.settings import ServiceSettings

PAPER = {"title": "Graph colouring", "abstract": "We colour sparse graphs."}
BODY = json.dumps(PAPER).encode()
PACKED = gzip.compress(BODY, mtime=0)  # the names of tests must be the same in every process
MARK = b"\xef\xbb\xbf"
JSON = {"content-type": "application/json"}
GZIP = {**JSON, "content-encoding": "gzip"}
TENSORS = {"inputs": [{"name": "title", "shape": [1], "datatype": "BYTES", "data": ["Graphs"]}]}
FEEDBACK = {"prediction_id": "01m86ka4qrw17y28zxebv4e181", "category": "math.CO"}
MOST = ServiceSettings().max_body_bytes


def posted(client: httpx.Client, content: Any, **headers: str) -> httpx.Response:
    return client.post("/v1/classify", content=content, headers={**GZIP, **headers})


def refusal(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["kind"]


# --- over HTTP ----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [gzip.compress, lambda body: MARK + body])
@pytest.mark.parametrize(
    ("address", "document"),
    [
        ("/v1/classify", PAPER),
        ("/v1/classify", {"papers": [PAPER] * 900}),
        ("/v1/feedback", FEEDBACK),
        ("/v2/models/fast/infer", TENSORS),
    ],
)
def test_every_json_body_may_be_in_gzip_or_have_a_mark(
    client: httpx.Client, address: str, document: Any, form: Callable[[bytes], bytes]
) -> None:
    body = json.dumps(document).encode()
    content = form(body)
    headers = JSON if content.startswith(MARK) else GZIP
    usual = client.post(address, content=body, headers={**JSON, "idempotency-key": "same"})
    other = client.post(address, content=content, headers={**headers, "idempotency-key": "same"})
    assert usual.status_code in (200, 202)
    assert (other.status_code, other.content) == (usual.status_code, usual.content)


@pytest.mark.parametrize("encoding", ["GZIP", "x-gzip", "identity", ""])
def test_the_coding_is_named_in_every_usual_way(client: httpx.Client, encoding: str) -> None:
    packed = "gzip" in encoding.lower()
    body = gzip.compress(MARK + BODY) if packed else BODY
    response = posted(client, body, **{"content-encoding": encoding})
    assert response.status_code == 200, response.text


def test_a_mark_may_come_in_pieces(client: httpx.Client) -> None:
    def pieces() -> Iterator[bytes]:
        for byte in MARK + BODY[:20]:
            yield bytes([byte])
        yield BODY[20:]

    assert client.post("/v1/classify", content=pieces(), headers=JSON).status_code == 200


def test_a_form_may_be_in_gzip(client: httpx.Client) -> None:
    file = {"file": ("papers.json", MARK + json.dumps([PAPER]).encode())}
    plain = client.build_request("POST", "/v1/files", files=file)
    headers = {"content-type": plain.headers["content-type"], "content-encoding": "gzip"}
    response = client.post("/v1/files", content=gzip.compress(plain.read()), headers=headers)
    assert len(response.json()["answers"]) == 1


@pytest.mark.parametrize("encoding", ["br", "zstd", "deflate", "gzip, gzip", "compress", "\xff"])
def test_another_coding_is_415_and_says_what_is_accepted(
    client: httpx.Client, encoding: str
) -> None:
    headers = [*JSON.items(), ("content-encoding", encoding.encode("latin-1"))]
    response = client.post("/v1/classify", content=BODY, headers=headers)  # type: ignore[arg-type]
    assert refusal(response) == (415, "unsupported_media_type")
    assert response.headers["accept-encoding"] == "gzip, identity"
    assert "Send the body as it is, or in gzip." in response.json()["detail"]


@pytest.mark.parametrize(
    "content",
    [
        BODY,
        b"",
        b"\x1f",
        PACKED[:-1],
        PACKED[:-8],
        PACKED[:20],
        PACKED[:-8] + b"\0" * 8,
        PACKED + b"more",
        PACKED + PACKED[:5],
        zlib.compress(BODY),
        gzip.compress(b"", mtime=0) * 2000,
    ],
)
def test_damaged_gzip_is_400(client: httpx.Client, content: bytes) -> None:
    response = posted(client, content)
    assert refusal(response) == (400, "bad_request")
    assert "without Content-Encoding" in response.json()["detail"]


def test_what_it_unpacks_to_is_bounded_as_a_plain_body_is(client: httpx.Client) -> None:
    bomb = gzip.compress(b" " * (MOST + 1))
    assert len(bomb) < MAX_DIRECT_BODY_BYTES
    response = posted(client, bomb)
    assert refusal(response) == (413, "body_too_large")
    assert f"unpacks to more than {MOST} bytes" in response.json()["detail"]
    papers = b'{"papers":[%s]}' % b",".join([b'{"title":"x"}'] * 1001)
    assert refusal(posted(client, gzip.compress(papers))) == (413, "too_many_papers")
    nested = b'{"title":' + b"[" * 100_000
    plain = client.post("/v1/classify", content=nested, headers=JSON)
    assert refusal(posted(client, gzip.compress(nested))) == refusal(plain)
    feedback = {**FEEDBACK, "comment": "x" * 40_000}
    content = gzip.compress(json.dumps(feedback).encode())
    response = client.post("/v1/feedback", content=content, headers=GZIP)
    assert refusal(response) == (413, "body_too_large")
    assert "papers" not in response.json()["detail"]


@pytest.mark.slow  # starts a service of its own
def test_a_small_limit_holds_for_what_little_gzip_unpacks_to(start: Any) -> None:
    with start("--workers", "1", "--max-body-bytes", "200") as server, server.client() as client:
        assert posted(client, gzip.compress(BODY)).status_code == 200
        long = json.dumps({**PAPER, "abstract": "graphs " * 100}).encode()
        assert len(gzip.compress(long)) < 200
        assert refusal(posted(client, gzip.compress(long))) == (413, "body_too_large")


# --- the reading itself -------------------------------------------------------------------------


@settings(max_examples=40)
@given(
    parts=st.lists(st.binary(max_size=200) | st.integers(0, 80_000), max_size=3),
    level=st.integers(0, 9),
)
def test_unpacked_is_what_was_packed(parts: list[bytes | int], level: int) -> None:
    contents = [part if isinstance(part, bytes) else b"a\0" * part for part in parts] or [b""]
    packed = b"".join(gzip.compress(content, level) for content in contents)
    whole = b"".join(contents)
    assert unpack(packed, len(whole), lambda: None) == whole
    if whole:
        with pytest.raises(Problem, match="unpacks to more"):
            unpack(packed, len(whole) - 1, lambda: None)


@pytest.mark.parametrize("n_missing", [1, 7, 8, 9, 5000])
def test_what_is_cut_off_is_never_taken_for_whole(n_missing: int) -> None:
    content = bytes(range(256)) * 2000 + json.dumps(list(range(5000))).encode()
    with pytest.raises(Problem, match="ends too early"):
        unpack(gzip.compress(content)[:-n_missing], 10**9, lambda: None)


def test_a_bomb_is_given_up_where_the_bound_is_passed() -> None:
    n_pieces = 0

    def count() -> None:
        nonlocal n_pieces
        n_pieces += 1

    with pytest.raises(Problem, match="unpacks to more"):
        unpack(gzip.compress(b"\0" * 50_000_000), 1_000_000, count)
    assert n_pieces < 50


def test_unpacking_ends_with_the_deadline() -> None:
    def over() -> None:
        raise Problem("deadline_exceeded", "late")

    with pytest.raises(Problem, match="late"):
        unpack(gzip.compress(BODY), 10_000, over)


def read(content: bytes, **headers: str) -> tuple[bytes, int]:
    """Return the body that is read, and how often a thread was asked to."""
    n_threads = 0

    async def in_thread(_: Any, work: Callable[[], bytes]) -> bytes:
        nonlocal n_threads
        n_threads += 1
        return await asyncio.to_thread(work)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": content}

    fields = [(name.encode(), value.encode()) for name, value in headers.items()]
    exchange = Exchange({"headers": fields, "client": None}, receive, 60_000)  # type: ignore[arg-type]
    threads = SimpleNamespace(run=in_thread)
    return asyncio.run(read_body(exchange, threads, MOST)), n_threads  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "n_threads"),
    [
        (BODY, 0),
        (b" " * MAX_DIRECT_BODY_BYTES, 0),
        (b" " * (MAX_DIRECT_BODY_BYTES + 1), 1),
        (b" " * MOST, 1),
    ],
)
def test_the_event_loop_unpacks_only_what_it_may_parse(content: bytes, n_threads: int) -> None:
    packed = gzip.compress(content)
    assert read(packed, **{"content-encoding": "gzip"}) == (content, n_threads)


def test_the_mark_of_a_large_body_is_left_out_in_a_thread() -> None:
    large = b" " * JOINED_AT_ONCE_BYTES
    assert read(MARK + large) == (large, 1)
    assert read(MARK + BODY) == (BODY, 0)
