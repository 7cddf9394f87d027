"""Traces of requests in OpenTelemetry, sent by OTLP over HTTP; nothing is loaded or noted without.

A request notes when its steps began and ended; the spans are made of that when it is over.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import TYPE_CHECKING

from classmark import __version__
from classmark.errors import MissingExtra

if TYPE_CHECKING:
    from opentelemetry.context import Context

EXPORT_TIMEOUT_S, SEND_EVERY_MS = 2.0, 1000
_PARENT = ("traceparent", "tracestate")
_EXPORTER = "opentelemetry.exporter.otlp.proto.http"
_FIRST_FAULT = 500


def check_tracing(endpoint: str | None) -> None:
    """Check that traces can be sent, if they are wanted.

    Args:
        endpoint: where to; None if they are not wanted.

    Raises:
        MissingExtra: OpenTelemetry is not installed.
    """
    if endpoint is None:
        return
    try:
        found = [find_spec(name) for name in ("opentelemetry.sdk", f"{_EXPORTER}.trace_exporter")]
    except ModuleNotFoundError:  # a package above them
        found = [None]
    if None in found:
        raise MissingExtra("--traces", "otel")


class Trace:
    """When the steps of one request began and ended.

    Attributes:
        started_ns: of the request, in Unix time.
        steps: name -> first begin, last end, and the sum of all times, in ns: a batch has many.
        parent: that the client sent; None without one.
    """

    def __init__(self, parent: Context | None) -> None:
        self.parent = parent
        self.started_ns = time.time_ns()
        self.steps: dict[str, tuple[int, int, int]] = {}

    def note(self, step: str, began_ns: int) -> None:
        """Note that a step ends now.

        Args:
            step: its name.
            began_ns: ``time.time_ns`` when it began.
        """
        now = time.time_ns()
        first, _, spent = self.steps.get(step, (began_ns, 0, 0))
        self.steps[step] = (first, now, spent + now - began_ns)


class _Step(AbstractContextManager[None]):
    """A step of a request, from the begin of a block to its end."""

    def __init__(self, trace: Trace, name: str) -> None:
        self._trace, self._name = trace, name

    def __enter__(self) -> None:
        self._began_ns = time.time_ns()

    def __exit__(self, *_: object) -> None:
        self._trace.note(self._name, self._began_ns)


_NO_STEP: AbstractContextManager[None] = nullcontext()


def step(trace: Trace | None, name: str) -> AbstractContextManager[None]:
    """Return a context that notes a step in a trace, if there is one."""
    return _NO_STEP if trace is None else _Step(trace, name)


class Tracer:
    """Sends the spans of requests from one worker."""

    def __init__(self, endpoint: str) -> None:
        """Begin to send, in a thread of its own.

        Args:
            endpoint: where spans are posted, e.g. ``http://127.0.0.1:4318/v1/traces``.
        """
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        names = {"service.name": "classmark", "service.version": __version__}
        self._provider = TracerProvider(resource=Resource.create(names), shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_TIMEOUT_S)
        sent = BatchSpanProcessor(exporter, schedule_delay_millis=SEND_EVERY_MS)
        self._provider.add_span_processor(sent)
        self._tracer = self._provider.get_tracer("classmark.service", __version__)
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, headers: Mapping[bytes, bytes]) -> Trace:
        """Return the trace of a request, below the span that its header names."""
        given = {name: headers.get(name.encode(), b"").decode("latin-1") for name in _PARENT}
        sent = {name: value for name, value in given.items() if value}
        return Trace(self._propagator.extract(sent) if sent else None)

    def end(self, trace: Trace, method: str, route: str, status: int, request_id: str) -> None:
        """Send the spans of a request that is answered.

        Args:
            trace: with its steps.
            method: of the request.
            route: its path with names for parameters.
            status: of the reply.
            request_id: also in the log.
        """
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        whole = self._tracer.start_span(
            f"{method} {route}",
            context=trace.parent,
            kind=SpanKind.SERVER,
            start_time=trace.started_ns,
            attributes={
                "http.request.method": method,
                "http.route": route,
                "http.response.status_code": status,
                "classmark.request_id": request_id,
            },
        )
        inside = set_span_in_context(whole)
        for name, (first, last, spent) in trace.steps.items():
            spent_ms = {"classmark.spent_ms": spent / 1e6}
            self._tracer.start_span(
                name, context=inside, start_time=first, attributes=spent_ms
            ).end(last)
        if status >= _FIRST_FAULT:
            whole.set_status(Status(StatusCode.ERROR))
        whole.end()

    def close(self) -> None:
        """Send what is left, as far as the receiver takes it."""
        self._provider.shutdown()
