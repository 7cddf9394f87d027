"""``classmark serve``: the HTTP API and the web page, until a signal to stop."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from classmark.cli.options import complete_model
from classmark.cli.output import silence_stdout
from classmark.cli.places import COPY

Workers = Annotated[int | None, typer.Option(metavar="N", help="Processes; 0 means one per core.")]


# What `classmark monitor serve` takes too.
Host = Annotated[str | None, typer.Option(metavar="H", help="Address to listen on.")]
ApiKeys = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Require an API key of this file; see `keys`."),
]
AllowedHosts = Annotated[
    str | None,
    typer.Option(metavar="NAMES", help="Host names that clients may use, * for every name."),
]
RatePerMinute = Annotated[
    float | None, typer.Option(metavar="N", help="Requests that a client may make per minute.")
]
Deadline = Annotated[
    int | None, typer.Option(metavar="MS", help="Longest time to answer a request.")
]
Grace = Annotated[
    float | None, typer.Option(metavar="S", help="Longest time to stop after a signal.")
]
TrustedProxies = Annotated[
    str | None,
    typer.Option(metavar="IPS", help="Proxies whose X-Forwarded-For is trusted."),
]
AccessLog = Annotated[
    bool | None, typer.Option("--access-log/--no-access-log", help="Log every request.")
]
LogFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Append the log here instead of stderr.")
]
LogLevel = Annotated[
    str | None, typer.Option(metavar="L", help="Lowest level to log: info, warning or error.")
]
Settings = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Read settings from here: CLASSMARK_SERVE_NAME=VALUE."),
]


def register(app: typer.Typer) -> None:
    """Add the command ``serve`` to an app."""
    app.command(name="serve")(serve)


def serve(
    *,
    host: Host = None,
    port: Annotated[
        int | None, typer.Option(metavar="P", help="Port to listen on; 0 takes a free one.")
    ] = None,
    workers: Workers = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="M",
            help="NAME, NAME@VERSION or PATH of the model.",
            autocompletion=complete_model,
        ),
    ] = None,
    registry: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|gs://...", help="Serve what this registry names, and follow its changes."
        ),
    ] = None,
    channel: Annotated[
        str | None,
        typer.Option(
            metavar="C",
            help="Channel of the registry: champion or challenger.",
            show_default="champion",
        ),
    ] = None,
    trusted_key: Annotated[
        Path | None,
        typer.Option(
            click_type=COPY, metavar="PUB", help="Public key that must have signed what is served."
        ),
    ] = None,
    index: Annotated[
        Path | None,
        typer.Option(
            click_type=COPY,
            metavar="INDEX",
            help="Offer similar papers of this index, and use it as evidence if it is calibrated.",
        ),
    ] = None,
    journal: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|ADDRESS|off",
            help="Where predictions and feedback are kept: a file, or postgresql://USER@HOST/NAME.",
        ),
    ] = None,
    journal_text: Annotated[
        bool | None,
        typer.Option("--journal-text", help="Keep the text of papers in the journal too."),
    ] = None,
    journal_keep_days: Annotated[
        float | None, typer.Option(metavar="N", help="Days that the journal keeps predictions.")
    ] = None,
    journal_max_mb: Annotated[
        int | None, typer.Option(metavar="N", help="Largest size of the journal.")
    ] = None,
    journal_copies: Annotated[
        str | None,
        typer.Option(
            metavar="gs://BUCKET/PATH",
            help="Copy the files of the journal there every minute, and when the service stops.",
        ),
    ] = None,
    traces: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Post traces of requests here (OTLP over HTTP)."),
    ] = None,
    drift_report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Show the numbers of this report of `monitor run --output` in /metrics.",
        ),
    ] = None,
    api_keys: ApiKeys = None,
    allowed_hosts: AllowedHosts = None,
    rate_per_minute: RatePerMinute = None,
    rate_burst: Annotated[
        int | None, typer.Option(metavar="N", help="Requests that a client may make at once.")
    ] = None,
    max_body_bytes: Annotated[
        int | None, typer.Option(metavar="N", help="Largest body of a request.")
    ] = None,
    max_text_chars: Annotated[
        int | None, typer.Option(metavar="N", help="Longest title and abstract of a paper.")
    ] = None,
    max_papers: Annotated[
        int | None, typer.Option(metavar="N", help="Maximum papers of a batch.")
    ] = None,
    max_concurrency: Annotated[
        int | None, typer.Option(metavar="N", help="Requests in progress at once in a worker.")
    ] = None,
    deadline_ms: Deadline = None,
    grace_s: Grace = None,
    trusted_proxies: TrustedProxies = None,
    access_log: AccessLog = None,
    log_file: LogFile = None,
    log_level: LogLevel = None,
    settings: Settings = None,
) -> None:
    """Answer over HTTP until stopped.

    Every option, and every limit without an option, can be set as CLASSMARK_SERVE_NAME. Logs are
    JSON lines on stderr. SIGTERM and Ctrl-C stop it in order: requests in progress are answered.
    SIGHUP reloads the API keys and the log settings, and reopens the log file.
    """
    given = dict(locals())
    from classmark.journal.place import hide_password

    hide_password(journal)
    # One thread a worker for linear algebra: the workers are as many as the cores.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from classmark.service import make_settings
    from classmark.service import serve as run
    from classmark.service.answering.journal import check_journal

    made = make_settings(**given)
    check_journal(made)
    raise typer.Exit(run(made, say=say))


def say(line: str) -> None:
    """Write a line to stdout; the log has it too, so nobody need read it here."""
    try:
        typer.echo(line)
    except OSError:
        silence_stdout()
