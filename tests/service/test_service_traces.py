"""Spans of requests at a receiver that reads them with OpenTelemetry's own protocol."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from waiting import until

pytest.importorskip("opentelemetry.sdk", reason="the extra otel is not installed")
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)

pytestmark = pytest.mark.slow  # each starts a server of its own
PAPER = {"title": "Graph colouring", "abstract": "We colour sparse graphs with few colours."}
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Receiver:
    """Takes spans over HTTP.

    Attributes:
        url: where to post them.
        spans: taken so far.
        services: names of what sent them.
    """

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.services: set[str] = set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                outer.take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/traces"

    def take(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            names = {a.key: a.value.string_value for a in resource.resource.attributes}
            self.services.add(names["service.name"])
            for scope in resource.scope_spans:
                self.spans += scope.spans

    def roots(self, name: str) -> list[Any]:
        return [span for span in self.spans if span.name == name]

    def below(self, root: Any) -> dict[str, Any]:
        return {s.name: s for s in self.spans if s.parent_span_id == root.span_id}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def test_a_request_and_its_steps_are_spans_below_that_of_the_client(
    start: Any, receiver: Receiver
) -> None:
    with start("--workers", "1", "--traces", receiver.url) as server, server.client() as client:
        headers = {"traceparent": f"00-{TRACE}-{SPAN}-01", "x-request-id": "a-request"}
        assert client.post("/v1/classify", json=PAPER, headers=headers).status_code == 200
        [root] = until(lambda: receiver.roots("POST /v1/classify"))
    assert receiver.services == {"classmark"}
    assert root.trace_id.hex() == TRACE
    assert root.parent_span_id.hex() == SPAN
    facts = {a.key: a.value.string_value or a.value.int_value for a in root.attributes}
    assert facts == {
        "http.request.method": "POST",
        "http.route": "/v1/classify",
        "http.response.status_code": 200,
        "classmark.request_id": "a-request",
    }
    steps = receiver.below(root)
    assert list(steps) == ["read", "score", "journal", "answer"]
    for span in steps.values():
        assert span.trace_id == root.trace_id
        assert root.start_time_unix_nano <= span.start_time_unix_nano
        assert span.start_time_unix_nano <= span.end_time_unix_nano <= root.end_time_unix_nano
    assert not any("olour" in str(span) for span in receiver.spans)


def test_a_request_without_a_parent_begins_a_trace_and_a_batch_has_each_step_once(
    start: Any, receiver: Receiver
) -> None:
    batch = {"papers": [PAPER] * 200}
    with start("--workers", "1", "--traces", receiver.url) as server, server.client() as client:
        assert client.post("/v1/classify", json=batch).status_code == 200
        headers = {"traceparent": "no such thing"}
        assert client.post("/v1/classify", json=batch, headers=headers).status_code == 200
        assert client.post("/v1/classify", json={}).status_code == 422
        roots = until(lambda: len(receiver.roots("POST /v1/classify")) == 3) and receiver.roots(
            "POST /v1/classify"
        )
    assert len({root.trace_id for root in roots}) == 3
    assert not any(root.parent_span_id for root in roots)
    assert set(receiver.below(roots[0])) == {"read", "score", "journal", "answer"}
    assert set(receiver.below(roots[2])) == {"read"}


def test_a_client_that_samples_nothing_is_not_traced_and_no_receiver_is_no_fault(
    start: Any, receiver: Receiver
) -> None:
    with start("--workers", "1", "--traces", receiver.url) as server, server.client() as client:
        headers = {"traceparent": f"00-{TRACE}-{SPAN}-00"}
        assert client.post("/v1/classify", json=PAPER, headers=headers).status_code == 200
        assert client.post("/v1/classify", json=PAPER).status_code == 200
        until(lambda: receiver.roots("POST /v1/classify"))
        assert len(receiver.roots("POST /v1/classify")) == 1
        receiver.server.shutdown()
        receiver.server.server_close()
        assert client.post("/v1/classify", json=PAPER).status_code == 200
