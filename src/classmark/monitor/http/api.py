"""The monitor over HTTP: looks on request, the newest report, the history, a page, metrics.

Limits, API keys, problems and header fields are those of ``service``, whose gateway guards these
endpoints too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from classmark import __version__
from classmark.errors import ClassmarkError, InvalidJournal, MissingExtra, UsageError
from classmark.journal.reading import span_of, times_of
from classmark.monitor.history import History
from classmark.monitor.http.looks import LookEnded, Looks
from classmark.monitor.look import LookOptions
from classmark.records.drift import DriftReport
from classmark.service.http.catalogue import healthz, metrics
from classmark.service.http.document import PROBLEM, add_document, json_request, responses
from classmark.service.http.gateway import Gateway, Row, add_route
from classmark.service.http.host import Host
from classmark.service.http.service import CHORES_CLOSE_S, Chores
from classmark.service.metrics import Metrics
from classmark.service.problems import Problem, invalid_field
from classmark.service.requests.body import check_media_type, read_body
from classmark.service.requests.exchange import Exchange, Reply
from classmark.service.requests.scan import find_arrays, validate
from classmark.service.requests.threads import Threads
from classmark.service.settings import ServiceSettings
from classmark.wire import Health, ModelRef, to_json

MOST_NEWEST = 1_000_000
MOST_LOOKS = 1_000
LOOKS_ON_PAGE = 200
_MAX_BODY_BYTES = 4 << 10
_DEFAULT_LOOKS = 20
_HTML = b"text/html; charset=utf-8"
_PAGE_FIELDS = [(b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'")]


class LookRequest(BaseModel):
    """What to look at; what is left out is as the monitor was started."""

    model_config = ConfigDict(extra="forbid", strict=True)

    newest: Annotated[
        int | None, Field(ge=1, le=MOST_NEWEST, description="Compare the newest predictions.")
    ] = None
    since: Annotated[
        str | None, Field(max_length=64, description="Those from this time on: a date, or 7d.")
    ] = None
    until: Annotated[
        str | None, Field(max_length=64, description="Before this time: a date, or an age.")
    ] = None
    baseline: Annotated[
        str | None, Field(max_length=130, description="Compare with this span: FROM..UNTIL.")
    ] = None

    def options(self, usual: LookOptions) -> LookOptions:
        """Return the options of a look.

        Raises:
            UsageError: a time or a span is not one.
        """
        since, until = times_of(self.since or None, self.until or None, "")
        return replace(
            usual,
            newest=self.newest or usual.newest,
            since_utc=since or usual.since_utc,
            until_utc=until or usual.until_utc,
            baseline=span_of(self.baseline, "baseline") if self.baseline else usual.baseline,
        )


_LOOK: TypeAdapter[LookRequest] = TypeAdapter(LookRequest)


@dataclass(frozen=True, kw_only=True)
class LookLine:
    """A report of the history in a line.

    Attributes:
        created_at_utc: when the look was made.
        model: ``NAME@VERSION``.
        papers: that were compared.
        p_value, size: of the window; None if there were too few papers.
        stream_p_value: of the continuous watch; None if it is off.
        action: what the policy asked for.
    """

    created_at_utc: str
    model: str
    papers: int
    p_value: float | None
    size: float | None
    stream_p_value: float | None
    action: str

    @classmethod
    def of(cls, report: DriftReport) -> LookLine:
        """Return the line of a report."""
        return cls(
            created_at_utc=report.created_at_utc,
            model=report.of_whom,
            papers=report.counts.compared,
            p_value=report.window.p_value if report.window else None,
            size=report.size.share if report.size else None,
            stream_p_value=report.stream.p_value if report.stream else None,
            action=report.action,
        )


@dataclass(frozen=True, kw_only=True)
class LookHistory:
    """Reports of the history, the newest first."""

    reports: tuple[LookLine, ...]


class Watch(Host):
    """What the process of ``classmark monitor serve`` holds, behind the gateway.

    Attributes:
        looks: makes them.
    """

    def __init__(self, settings: ServiceSettings, looks: Looks) -> None:
        """Prepare it.

        Args:
            settings: how to serve.
            looks: makes them; not started.

        Raises:
            InvalidKeys: the file of API keys cannot be read.
            StorageFailed: the file of the log cannot be opened.
            OSError: the system has no thread left.
        """
        super().__init__(settings, Metrics(drift=looks))
        self.looks = looks
        self.threads = Threads(settings.threads, settings.max_queue, self.metrics)
        self._chores = Chores(self.metrics, None)

    @property
    def history(self) -> History:
        """Where the reports are."""
        return self.looks.history

    def answered_by(self, _: Exchange) -> ModelRef:
        """Return the model that was watched last."""
        return self.looks.model

    def close(self, timeout_s: float) -> None:
        """End the threads; a look that runs has until the timeout."""
        self.looks.close(timeout_s)
        self.threads.close()
        self._chores.close(CHORES_CLOSE_S)
        self.publish()
        if self.access_log is not None:
            self.access_log.close()


def create_watch_app(watch: Watch) -> Gateway:
    """Return the application of the monitor."""
    app = FastAPI(
        title="classmark monitor",
        version=__version__,
        description="Says how far what a model is asked is from what it was validated on.",
        servers=[{"url": "."}],
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=responses(),
    )
    examples: dict[str, Any] = {"week": {"summary": "A week", "value": {"since": "7d"}}}
    body = json_request([LookRequest], examples)
    body["requestBody"]["required"] = False
    text = {"responses": {"200": {"content": {"text/plain": {"schema": {"type": "string"}}}}}}
    page = {"responses": {"200": {"content": {"text/html": {"schema": {"type": "string"}}}}}}
    newest = {"name": "newest", "in": "query", "schema": {"type": "integer"}, "example": 20}
    lines = {"parameters": [newest]}
    for row in (
        Row("/drift/run", run_look, "admin", dict[str, Any], "Look at the journal", body),
        Row("/drift/latest", latest, "admin", dict[str, Any], "The newest report"),
        Row("/drift/history", history, "admin", LookHistory, "List reports", lines),
        Row("/drift/report", report_page, "admin", None, "The newest report as a page", page),
    ):
        add_route(app, watch, row, "drift")
    for row in (
        Row("/healthz", healthz, "health", Health, "Check that the process is alive"),
        Row("/metrics", metrics, "metrics", None, "Numbers of the newest report", text),
    ):
        add_route(app, watch, row, "operation")
    add_document(app, watch, (LookRequest, PROBLEM))
    return Gateway(app, watch)


async def run_look(watch: Watch, exchange: Exchange) -> Reply:
    """Look at the journal now; one look at a time.

    The report comes with 200 if it is ready within the deadline of the request, else 202 says that
    the look goes on, and it will be at `/drift/latest`.
    """
    options = (await _asked(watch, exchange)).options(watch.looks.options)
    future = watch.looks.begin(options)
    if future is None:
        since = watch.looks.started_at_utc or "a moment ago"
        raise Problem(
            "look_running",
            f"a look has been running since {since}. Wait for its report at /drift/latest.",
            retry_after_s=1,
        )
    started = watch.looks.started_at_utc
    try:
        report = await exchange.wait_for(future)
    except Problem:  # the deadline has passed
        state = {"state": "running", "started_at_utc": started}
        return Reply(to_json(state), 202)
    except LookEnded as error:
        detail = "the monitor is stopping. Ask again when it is back."
        raise Problem("not_ready", detail, retry_after_s=1) from error
    except (InvalidJournal, UsageError):
        raise
    except ClassmarkError as error:
        # Asking again later helps where the journal is too short, or another monitor works.
        raise Problem("look_failed", str(error), retry_after_s=1) from error
    return Reply(to_json(report.to_dict()))


async def _asked(watch: Watch, exchange: Exchange) -> LookRequest:
    """Return the body of a request, which may be empty."""
    if exchange.headers.get(b"content-type") is not None or exchange.stated_body_bytes:
        check_media_type(exchange, b"application/json")
    body = await read_body(exchange, watch.threads, _MAX_BODY_BYTES)
    if not body:
        return LookRequest()
    find_arrays(body, [], most=0)  # bounds its structure
    return validate(_LOOK, body)


async def latest(watch: Watch, exchange: Exchange) -> Reply:
    """The newest report of the history."""
    report = await watch.threads.read(exchange, lambda: _newest(watch))
    return Reply(to_json(report.to_dict()))


async def history(watch: Watch, exchange: Exchange) -> Reply:
    """Reports of the history, one line each, the newest first: `?newest=N`, 20 if left out."""
    n = _count(exchange)
    found = await watch.threads.read(exchange, lambda: watch.history.reports(newest=n))
    return Reply(to_json(LookHistory(reports=tuple(map(LookLine.of, reversed(found))))))


async def report_page(watch: Watch, exchange: Exchange) -> Reply:
    """The newest report as a page with the looks before it; it holds no text of a paper."""

    def work() -> bytes:
        from classmark.pages.drift import drift_page

        report = _newest(watch)
        before = watch.history.reports(model=report.model.digest, newest=LOOKS_ON_PAGE)
        try:
            return drift_page(report, history=before).encode()
        except MissingExtra as error:
            raise Problem("not_found", str(error)) from error

    page = await watch.threads.run(exchange, work)
    return Reply(page, media_type=_HTML, fields=[*_PAGE_FIELDS])


def _newest(watch: Watch) -> DriftReport:
    found = watch.history.reports(newest=1)
    if not found:
        raise Problem("not_found", "no look has been made yet. POST to /drift/run.")
    return found[-1]


def _count(exchange: Exchange) -> int:
    """Return the number that a request asks for."""
    given = parse_qs(exchange.scope["query_string"].decode("latin-1")).get("newest", [])
    if not given:
        return _DEFAULT_LOOKS
    text = given[-1]
    if not (text.isascii() and text.isdigit() and len(text) < 9 and 1 <= int(text) <= MOST_LOOKS):
        raise invalid_field("newest", f"give a whole number from 1 to {MOST_LOOKS:,}")
    return int(text)
