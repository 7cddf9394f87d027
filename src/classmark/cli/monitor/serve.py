"""``classmark monitor serve``: the monitor as a process with an HTTP API of its own."""

from __future__ import annotations

import os
import re
from typing import Annotated

import typer

from classmark.cli.monitor.options import (
    DEFAULT_NEWEST,
    Alpha,
    Baseline,
    Kept,
    LabelFiles,
    Model,
    MostLoss,
    Newest,
    PageSize,
    RandomFeedback,
    RetrainSize,
    WatchedRegistry,
    WithStream,
    history_of,
    policy_of,
    registry_of,
    sources_of,
)
from classmark.cli.options import ColumnsOption
from classmark.cli.service.journal import File, journal_place
from classmark.cli.service.serve import (
    AccessLog,
    AllowedHosts,
    ApiKeys,
    Deadline,
    Grace,
    Host,
    LogFile,
    LogLevel,
    RatePerMinute,
    Settings,
    TrustedProxies,
    say,
)
from classmark.errors import UsageError

DEFAULT_PORT = 8010
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def serve(
    *,
    host: Host = None,
    port: Annotated[
        int, typer.Option(metavar="P", help="Port to listen on; 0 takes a free one.")
    ] = DEFAULT_PORT,
    every: Annotated[
        str, typer.Option(metavar="AGE", help="From one look to the next: 30m, 6h; 0 for none.")
    ] = "30m",
    model: Model = None,
    registry: WatchedRegistry = None,
    journal: File = None,
    newest: Newest = DEFAULT_NEWEST,
    baseline: Baseline = None,
    alpha: Alpha = None,
    retrain_size: RetrainSize = None,
    page_size: PageSize = None,
    most_loss: MostLoss = None,
    labels: LabelFiles = None,
    columns: ColumnsOption = None,
    random_feedback: RandomFeedback = None,
    history: Kept = None,
    stream: WithStream = True,
    api_keys: ApiKeys = None,
    allowed_hosts: AllowedHosts = None,
    rate_per_minute: RatePerMinute = None,
    deadline_ms: Deadline = None,
    grace_s: Grace = None,
    trusted_proxies: TrustedProxies = None,
    access_log: AccessLog = None,
    log_file: LogFile = None,
    log_level: LogLevel = None,
    settings: Settings = None,
) -> None:
    """Look on a schedule, and answer over HTTP, until stopped.

    POST /drift/run looks now; GET /drift/latest, /drift/history?newest=N and /drift/report (a page)
    show what was found; /metrics has its numbers, /healthz says that the process is alive. A look
    that fails is logged and counted; the next one starts as planned. The monitor runs beside
    `classmark serve`, and needs only its journal.

    Limits, API keys and the log are set as for `classmark serve`, by these options or as
    CLASSMARK_SERVE_NAME; if there are keys, all but /healthz and /openapi.json needs one with the
    scope admin. SIGTERM and Ctrl-C stop in order; SIGHUP reads the keys and the settings of the log
    again.
    """
    given = dict(locals())
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from classmark.journal.reading import span_of
    from classmark.monitor.http.server import serve as run
    from classmark.monitor.look import LookOptions
    from classmark.service import make_settings

    options = LookOptions(
        model=model or None,
        registry=registry_of(registry),
        journal=journal_place(journal),
        newest=newest,
        baseline=span_of(baseline, "--baseline") if baseline else None,
        policy=policy_of(alpha, retrain_size, page_size, most_loss),
        labels=sources_of(labels, random_feedback, columns),
        stream=stream,
    )
    made = make_settings(**{name: given[name] for name in _SETTINGS})
    raise typer.Exit(run(made, options, history_of(history), _seconds(every), say=say))


_SETTINGS = (
    *("host", "port", "api_keys", "allowed_hosts", "rate_per_minute", "deadline_ms", "grace_s"),
    *("trusted_proxies", "access_log", "log_file", "log_level", "settings"),
)


def _seconds(text: str) -> float:
    """Return the seconds of an interval."""
    found = re.fullmatch(r"(\d{1,6})([smhd])", text, re.ASCII)
    if text == "0" or (found and int(found[1]) == 0):
        return 0.0
    if found is None:
        raise UsageError(
            f"--every {text!r} is not an interval. Give a number and a unit such as 30m, 6h or 1d, "
            "or 0 for looks on request only."
        )
    return float(int(found[1]) * _UNITS[found[2]])
