"""The gateway around the application, in this process: failures, lanes, a busy worker."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest

from classmark.service import Service, ServiceSettings, create_app
from classmark.service.logs import JsonFormatter, set_up_logs

PAPER = {"title": "Graph colouring", "abstract": "We colour secret graphs."}


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Return a function that makes a started service."""
    made: list[Service] = []

    def begin(**changes: Any) -> Service:
        settings = ServiceSettings(**{"journal": "off", "access_log": False, **changes})
        service = Service(settings)
        service.start()
        made.append(service)
        return service

    yield begin
    for service in made:
        service.close()


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """Return what the service logs."""
    stream = io.StringIO()
    set_up_logs(stream)
    yield stream
    for name in ("classmark.service", "uvicorn.error", "asyncio"):
        logging.getLogger(name).handlers.clear()


def ask(service: Service, method: str, path: str, **options: Any) -> httpx.Response:
    async def once() -> httpx.Response:
        transport = httpx.ASGITransport(app=create_app(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, **options)

    # In a thread: the browser tests leave a running loop in this one.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(once())).result()


def test_a_failure_is_a_problem_and_its_log_has_no_text(
    make: Callable[..., Service], logged: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = make()

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError(f"cannot score {PAPER['abstract']}")

    monkeypatch.setattr(service.answerer.classifier, "score", fail)
    for path, body in (
        ("/v1/classify", {"json": PAPER}),
        ("/v1/files", {"files": {"file": b"Graphs\nWe draw."}}),
    ):
        response = ask(service, "POST", path, **body)
        assert (response.status_code, response.json()["kind"]) == (500, "internal_error")
        assert response.headers["x-request-id"] == response.json()["instance"]
    lines = [json.loads(line) for line in logged.getvalue().splitlines()]
    assert {line["event"] for line in lines} == {"request failed"}
    assert {line["error"]["type"] for line in lines} == {"RuntimeError"}
    assert "secret" not in logged.getvalue()


def test_a_worker_with_too_many_batches_waiting_says_503(make: Callable[..., Service]) -> None:
    service = make(max_queue=1)
    service.threads.backlog.add(1, 1)
    response = ask(service, "POST", "/v1/classify", json={"papers": [PAPER]})
    assert (response.status_code, response.json()["kind"]) == (503, "overloaded")
    assert response.headers["retry-after"] == "1"
    assert ask(service, "POST", "/v1/classify", json=PAPER).status_code == 200


def test_a_batch_that_could_not_be_ready_in_time_is_refused_before_its_body_is_read(
    make: Callable[..., Service],
) -> None:
    service = make()
    service.threads.backlog.learn_pace(1_000, 1)
    service.threads.backlog.add(1, 10_000)  # ten seconds of work

    async def body() -> AsyncIterator[bytes]:
        pytest.fail("the body was read")
        yield b""

    headers = {"Content-Type": "application/json", "Content-Length": "50000"}
    for path in ("/v1/classify", f"/v2/models/{service.answerer.model.name}/infer"):
        response = ask(service, "POST", path, content=body(), headers=headers)
        assert (response.status_code, response.json()["kind"]) == (503, "overloaded")
        assert "needs about 84.0 s but has 10.0 s" in response.json()["detail"]
        assert response.headers["retry-after"] == "14"
    patient = {**headers, "Content-Length": "40000"}
    service.threads.backlog.drop(1, 10_000)
    batch = json.dumps({"papers": [PAPER]}).ljust(40_000)
    assert ask(service, "POST", "/v1/classify", content=batch, headers=patient).status_code == 200


def test_what_has_waited_past_its_deadline_is_not_run(make: Callable[..., Service]) -> None:
    service, may_end, began = make(threads=1), Event(), Event()

    def hold() -> None:
        began.set()
        may_end.wait()

    held = service.threads._pool.submit(hold)
    began.wait()
    headers = {"X-Classmark-Deadline-Ms": "50"}
    late = ask(service, "POST", "/v1/classify", json={"papers": [PAPER]}, headers=headers)
    assert (late.status_code, late.json()["kind"]) == (504, "deadline_exceeded")
    may_end.set()
    held.result()
    service.threads._pool.submit(lambda: None).result()
    assert (service.threads.backlog.waiting, service.threads.backlog.waiting_size) == (0, 0)
    assert 'outcome="' not in service.metrics.text().decode()


@pytest.mark.slow
def test_metrics_and_status_do_not_wait_behind_batches(make: Callable[..., Service]) -> None:
    service, may_end = make(threads=1, max_queue=1), Event()
    held = service.threads._pool.submit(may_end.wait)
    service.threads.backlog.add(1, 1)
    try:
        for path in ("/metrics", "/v1/status"):
            assert ask(service, "GET", path).status_code == 200
    finally:
        may_end.set()
        held.result()


@pytest.mark.slow
def test_a_batch_does_not_wait_behind_a_file_that_is_parsed_for_long(
    make: Callable[..., Service], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    service, may_end = make(threads=1, journal=str(tmp_path / "journal.sqlite")), Event()
    monkeypatch.setattr(service.readers, "_read_in_process", lambda *_: may_end.wait())
    deadline = {"X-Classmark-Deadline-Ms": "50"}
    try:
        for _ in range(3):
            file = {"files": {"file": gzip.compress(b"Graphs\nWe draw.")}, "headers": deadline}
            assert ask(service, "POST", "/v1/files", **file).status_code == 504
        assert ask(service, "POST", "/v1/classify", json={"papers": [PAPER]}).status_code == 200
        assert service.close() == 0  # nor does the journal at the end
    finally:
        may_end.set()


def test_feedback_that_the_journal_drops_is_503_and_papers_are_still_answered(
    make: Callable[..., Service], tmp_path: Path
) -> None:
    service = make(journal=str(tmp_path / "journal.sqlite"))
    assert service.journal is not None
    service.journal.close(10)
    said = {"prediction_id": "0" * 26, "category": "math.CO"}
    response = ask(service, "POST", "/v1/feedback", json=said)
    assert (response.status_code, response.json()["kind"]) == (503, "overloaded")
    assert ask(service, "POST", "/v1/classify", json=PAPER).status_code == 200
    service.publish()
    assert "classmark_journal_dropped_total 2.0" in ask(service, "GET", "/metrics").text


def test_a_service_that_stops_is_not_ready_and_hangs_up(make: Callable[..., Service]) -> None:
    service = make()
    service.traffic.stop()
    for path in ("/v2/health/ready", "/v2/models/fast/ready"):
        response = ask(service, "GET", path)
        assert (response.status_code, response.json()["kind"]) == (503, "not_ready")
        assert response.headers["connection"] == "close"
    assert ask(service, "POST", "/v1/classify", json=PAPER).status_code == 200


def test_a_model_that_is_not_the_default_says_so(
    make: Callable[..., Service], models_home: Path
) -> None:
    service = make()
    assert ask(service, "GET", "/v1/models").json()["models"][0]["default"] is True


def test_a_slash_too_many_is_not_followed_elsewhere(make: Callable[..., Service]) -> None:
    assert ask(make(), "POST", "/v1/classify/", json=PAPER).status_code == 404


def test_a_log_line_has_its_fields_and_a_utc_time() -> None:
    record = logging.LogRecord("x", logging.WARNING, "f.py", 1, "port %d", (80,), None)
    record.created = 0.25
    record.fields = {"workers": 2}
    line = json.loads(JsonFormatter().format(record))
    assert line["time"] == "1970-01-01T00:00:00.250Z"
    assert (line["level"], line["event"], line["workers"]) == ("warning", "port 80", 2)


def test_a_head_is_counted_and_logged_as_one(make: Callable[..., Service]) -> None:
    service = make()
    assert ask(service, "HEAD", "/healthz").status_code == 200
    metrics = ask(service, "GET", "/metrics").text
    assert 'classmark_requests_total{method="HEAD",route="/healthz",status="200"} 1.0' in metrics
