"""The client against a small real server that breaks connections and refuses on purpose."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from classmark.client import (
    AsyncClient,
    BadRecord,
    Client,
    ClientConfig,
    DeadlineExceeded,
    ServiceBusy,
    ServiceProblem,
    ServiceUnreachable,
    UnexpectedAnswer,
)
from classmark.client.protocol import new_request_id

MODEL = {"name": "fast", "version": "1.0", "digest": "d" * 64}
PAPER = {"title": "Spectral gaps", "abstract": "We bound the second eigenvalue."}
BREAK = object()


def answer(**changes: Any) -> dict[str, Any]:
    """Return an answer to one paper."""
    return {
        "id": None,
        "primary": "math.CO",
        "reason": "accepted",
        "probability": 0.75,
        "ranked": [
            {"code": "math.CO", "name": "Combinatorics", "probability": 0.75, "reliability": None}
        ],
        "cross_lists": [],
        "set": ["math.CO"],
        "levels": {"archive": [{"code": "math", "probability": 0.75}], "group": []},
        "prediction_id": "0" * 26,
        "model": MODEL,
        "a_key_of_tomorrow": 1,
        **changes,
    }


def problem(status: int, kind: str, **headers: str) -> tuple[int, Any, dict[str, str]]:
    """Return a refusal."""
    document = {
        "status": status,
        "kind": kind,
        "title": "No",
        "detail": "Try less.",
        "instance": "req-1",
        "errors": [{"field": "top", "message": "is 0"}],
    }
    return status, document, {name.replace("_", "-"): value for name, value in headers.items()}


class Script:
    """What the server does to each request in turn, and the requests that it saw."""

    def __init__(self) -> None:
        self.steps: list[Any] = []
        self.always: Callable[[dict[str, Any]], Any] | None = None
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.url = ""


@pytest.fixture
def script() -> Iterator[Script]:
    """Return the script of a server on a free port."""
    script = Script()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = json.loads(raw) if raw.startswith(b"{") else raw
            script.requests.append((self.path, dict(self.headers), body))
            step = script.always(body) if script.always else script.steps.pop(0)
            if step is BREAK:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            status, document, headers = step if isinstance(step, tuple) else (200, step, {})
            content = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    script.url = f"http://127.0.0.1:{server.server_port}"
    yield script
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest, script: Script) -> Callable[..., Any]:
    """Return a function that calls one method of a client of either kind."""

    def call(
        method: str, *arguments: Any, config: ClientConfig | None = None, **options: Any
    ) -> Any:
        if request.param == "sync":
            with Client(script.url, config) as client:
                return getattr(client, method)(*arguments, **options)

        async def run() -> Any:
            async with AsyncClient(script.url, config) as client:
                return await getattr(client, method)(*arguments, **options)

        return asyncio.run(run())

    return call


def test_a_broken_connection_is_tried_once_more_with_the_same_id(
    script: Script, ask: Callable[..., Any]
) -> None:
    script.steps = [BREAK, answer()]
    assert ask("classify", PAPER).primary == "math.CO"
    first, second = script.requests
    assert first[2] == second[2] == PAPER
    for name in ("X-Request-ID", "Idempotency-Key"):
        assert first[1][name] == second[1][name]
    assert uuid.UUID(first[1]["Idempotency-Key"]).version == 7


def test_a_connection_that_breaks_twice_is_an_error(
    script: Script, ask: Callable[..., Any]
) -> None:
    script.steps = [BREAK, BREAK]
    with pytest.raises(ServiceUnreachable, match=r"cannot be reached \(.*tried 2 times. Check the"):
        ask("classify", PAPER)


def test_a_busy_service_is_asked_again_when_it_says(
    script: Script, ask: Callable[..., Any]
) -> None:
    script.steps = [
        problem(503, "overloaded", Retry_After="0"),
        problem(429, "rate_exceeded", Retry_After="0"),
        answer(),
    ]
    assert ask("classify", PAPER).prediction_id == "0" * 26
    assert len(script.requests) == 3


def test_a_service_that_stays_busy_is_an_error_with_its_problem(
    script: Script, ask: Callable[..., Any]
) -> None:
    script.steps = [problem(503, "overloaded", Retry_After="0")] * 3
    with pytest.raises(ServiceBusy, match="503 overloaded: Try less") as caught:
        ask("classify", PAPER)
    assert (caught.value.request_id, caught.value.retry_after_s) == ("req-1", 0.0)


def test_a_service_that_wants_long_patience_is_not_waited_for(
    script: Script, ask: Callable[..., Any]
) -> None:
    script.steps = [problem(429, "rate_exceeded", Retry_After="60")]
    with pytest.raises(ServiceBusy) as caught:
        ask("classify", PAPER)
    assert caught.value.retry_after_s == 60


def test_no_retry_goes_over_the_deadline(script: Script, ask: Callable[..., Any]) -> None:
    script.steps = [problem(503, "overloaded", Retry_After="4")]
    with pytest.raises(ServiceBusy):
        ask("classify", PAPER, config=ClientConfig(deadline_s=2.0))
    assert script.requests[0][1]["X-Classmark-Deadline-Ms"] == "2000"


def test_a_refusal_carries_every_field_of_the_problem(
    script: Script, ask: Callable[..., Any]
) -> None:
    script.steps = [problem(422, "invalid_request")]
    with pytest.raises(ServiceProblem, match="422 invalid_request: Try less") as caught:
        ask("classify", PAPER, top=0)
    assert caught.value.errors == ({"field": "top", "message": "is 0"},)
    assert (caught.value.title, caught.value.status) == ("No", 422)
    assert script.requests[0][2] == {**PAPER, "top": 0}


def test_silence_is_not_waited_for_longer_than_asked(
    ask: Callable[..., Any], script: Script
) -> None:
    script.always = lambda _: time.sleep(0.3) or BREAK
    with pytest.raises(DeadlineExceeded, match=r"did not answer within 0.05 s. Send less"):
        ask("classify", PAPER, config=ClientConfig(timeout_s=0.05))


def test_a_deadline_of_the_service_is_the_same_error(
    script: Script, ask: Callable[..., Any]
) -> None:
    script.steps = [problem(504, "deadline_exceeded")]
    with pytest.raises(DeadlineExceeded, match="Try less"):
        ask("classify", PAPER)


@pytest.mark.slow
@pytest.mark.parametrize("reply", [b"<html>", {"something": "else"}, [], answer(ranked=7)])
def test_another_program_at_that_address_is_told(
    script: Script, ask: Callable[..., Any], reply: Any
) -> None:
    script.steps = [reply]
    with pytest.raises(UnexpectedAnswer, match="did not return a classmark response"):
        ask("classify", PAPER)


@pytest.mark.parametrize("content", [b"<html>Bad gateway", b"{}", b""])
def test_a_refusal_that_is_no_problem_json_is_told(
    script: Script, ask: Callable[..., Any], content: bytes
) -> None:
    script.steps = [(502, content, {})]
    with pytest.raises(ServiceProblem, match=r"502 unknown: (<html>)?Bad [Gg]ateway"):
        ask("classify", PAPER)


def test_a_reply_that_cannot_be_unpacked_is_not_one_of_classmark(
    script: Script, ask: Callable[..., Any]
) -> None:
    script.steps = [(200, b"plain", {"Content-Encoding": "gzip"})]
    with pytest.raises(UnexpectedAnswer, match=r"did not return a classmark response \(Error -3"):
        ask("classify", PAPER)


def test_a_redirect_names_the_other_address(script: Script, ask: Callable[..., Any]) -> None:
    script.steps = [(308, b"", {"Location": "https://papers.example/v1/classify"})]
    with pytest.raises(UnexpectedAnswer, match=r"redirects to 'https://papers\.example/v1/class"):
        ask("classify", PAPER)


def test_a_long_list_is_sent_in_parts_with_ids_of_their_own(
    script: Script, ask: Callable[..., Any]
) -> None:
    script.always = lambda body: {
        "answers": [answer(id=str(paper["id"])) for paper in body["papers"]],
        "model": MODEL,
    }
    papers = [{"id": number, "title": "T"} for number in range(25)]
    found = ask("classify", iter(papers), top=1, config=ClientConfig(batch_papers=10))
    assert [item.id for item in found] == [str(number) for number in range(25)]
    assert [len(body["papers"]) for _, _, body in script.requests] == [10, 10, 5]
    assert len({headers["Idempotency-Key"] for _, headers, _ in script.requests}) == 3
    assert all(body["top"] == 1 for _, _, body in script.requests)


@pytest.mark.slow
def test_a_service_that_takes_fewer_gets_halves(script: Script, ask: Callable[..., Any]) -> None:
    def limited(body: dict[str, Any]) -> Any:
        if len(body["papers"]) > 2:
            return problem(413, "too_many_papers")
        return {"answers": [answer(id=p["id"]) for p in body["papers"]], "model": MODEL}

    script.always = limited
    found = ask("classify", [{"id": name, "title": "T"} for name in "abcde"])
    assert [item.id for item in found] == list("abcde")


def test_long_papers_are_spread_over_requests(script: Script, ask: Callable[..., Any]) -> None:
    script.always = lambda body: {"answers": [answer() for _ in body["papers"]], "model": MODEL}
    assert len(ask("classify", ["x" * 900_000] * 3)) == 3
    assert [len(body["papers"]) for _, _, body in script.requests] == [2, 1]


def test_a_bad_paper_among_many_has_its_place(script: Script, ask: Callable[..., Any]) -> None:
    bad = {"id": "b", "error": {"kind": "invalid_paper", "message": "has no text"}}
    script.steps = [{"answers": [answer(id="a"), bad], "model": MODEL}]
    good, refused = ask("classify", ["One.", ""])
    assert good.id == "a"
    assert isinstance(refused, BadRecord)
    assert (refused.id, refused.error.kind) == ("b", "invalid_paper")


def test_an_empty_list_asks_nothing(script: Script, ask: Callable[..., Any]) -> None:
    assert ask("classify", []) == []
    assert script.requests == []


def test_halves_of_characters_are_sent_as_question_marks(
    script: Script, ask: Callable[..., Any]
) -> None:
    script.steps = [answer()]
    ask("classify", "bad \ud800 half")
    assert script.requests[0][2] == {"text": "bad ? half"}


def test_the_key_is_sent_and_not_shown(script: Script, ask: Callable[..., Any]) -> None:
    script.steps = [answer()]
    config = ClientConfig(api_key="cmk_secret")
    ask("classify", PAPER, config=config)
    assert script.requests[0][1]["Authorization"] == "Bearer cmk_secret"
    assert "cmk_secret" not in repr(config)


@pytest.mark.parametrize("key", ["", "cmk_secret\n", "cmk secret", "cmk_sécret"])
def test_a_key_that_no_header_holds_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ValueError, match="api_key has characters that a key cannot have") as caught:
        ClientConfig(api_key=key)
    assert "secret" not in str(caught.value)


@pytest.mark.slow
def test_waiting_for_nobody_ends(ask: Callable[..., Any], script: Script) -> None:
    script.always = lambda _: problem(503, "not_ready")
    assert ask("ready") is False
    with pytest.raises(ServiceUnreachable, match=r"was not ready within 0.1 s"):
        ask("wait_until_ready", 0.1)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_service_that_is_starting_behind_a_proxy_is_not_ready(
    ask: Callable[..., Any], script: Script, status: int
) -> None:
    script.steps = [(status, b"<html>", {}), {"status": "ready"}, (status, b"<html>", {})]
    ask("wait_until_ready", 10)
    assert ask("ready") is False


def test_a_silent_service_is_not_ready_and_is_waited_for_as_long_as_asked(
    ask: Callable[..., Any], script: Script
) -> None:
    is_over = threading.Event()
    script.always = lambda _: is_over.wait(30) and BREAK
    assert ask("ready", config=ClientConfig(timeout_s=0.05)) is False
    started = time.monotonic()
    with pytest.raises(ServiceUnreachable, match=r"was not ready within 0.1 s"):
        ask("wait_until_ready", 0.1)
    assert time.monotonic() - started < 15
    is_over.set()


def test_nobody_at_the_address_is_not_ready() -> None:
    with socket.socket() as reserved:  # bound, and nobody listens
        reserved.bind(("127.0.0.1", 0))
        with Client(f"http://127.0.0.1:{reserved.getsockname()[1]}") as client:
            assert client.ready() is False
            with pytest.raises(ServiceUnreachable, match="tried 2 times"):
                client.status()


def test_request_ids_are_version_7_and_ordered_by_time() -> None:
    ids = [new_request_id() for _ in range(100)]
    assert len(set(ids)) == 100
    assert all(
        (uuid.UUID(value).version, uuid.UUID(value).variant) == (7, uuid.RFC_4122) for value in ids
    )
    assert [value[:13] for value in ids] == sorted(value[:13] for value in ids)


@pytest.mark.parametrize("name", ["timeout_s", "batch_papers", "deadline_s"])
@pytest.mark.parametrize("value", [0, float("nan"), float("inf")])
def test_impossible_options_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a finite number above 0, got {value}"):
        ClientConfig(**{name: value})


def test_without_httpx_the_import_names_the_extra() -> None:
    code = "import sys; sys.modules['httpx'] = None; import classmark.client"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "Run: pip install 'classmark[client]'" in run.stderr


def test_the_client_imports_of_classmark_only_what_is_published() -> None:
    code = (
        "import sys, classmark.client as c; "
        "print([m for m in sys.modules if m.startswith('classmark.') "
        "and not m.startswith(('classmark.client', 'classmark.wire'))])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
