"""``classmark serve``: the HTTP API and the web page, until a signal to stop."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from classmark.cli.options import complete_model
from classmark.cli.output import silence_stdout

Workers = Annotated[int | None, typer.Option(metavar="N", help="Processes; 0 is one a core.")]


def register(app: typer.Typer) -> None:
    """Add the command ``serve`` to an app."""
    app.command(name="serve")(serve)


def serve(
    *,
    host: Annotated[str | None, typer.Option(metavar="H", help="Address to listen on.")] = None,
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
    index: Annotated[
        Path | None,
        typer.Option(
            metavar="INDEX",
            help="Offer similar papers of this index, and use it as evidence if it is calibrated.",
        ),
    ] = None,
    journal: Annotated[
        str | None,
        typer.Option(metavar="FILE|off", help="Where predictions and feedback are kept."),
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
    api_keys: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Ask for an API key of this file; see `keys`."),
    ] = None,
    allowed_hosts: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Names by which clients may ask, * for every name."),
    ] = None,
    rate_per_minute: Annotated[
        float | None, typer.Option(metavar="N", help="Requests a client may make a minute.")
    ] = None,
    rate_burst: Annotated[
        int | None, typer.Option(metavar="N", help="Requests a client may make at once.")
    ] = None,
    max_body_bytes: Annotated[
        int | None, typer.Option(metavar="N", help="Largest body of a request.")
    ] = None,
    max_text_chars: Annotated[
        int | None, typer.Option(metavar="N", help="Longest title and abstract of a paper.")
    ] = None,
    max_papers: Annotated[
        int | None, typer.Option(metavar="N", help="Most papers of a batch.")
    ] = None,
    max_concurrency: Annotated[
        int | None, typer.Option(metavar="N", help="Requests in work at once in a worker.")
    ] = None,
    deadline_ms: Annotated[
        int | None, typer.Option(metavar="MS", help="Longest time to answer a request.")
    ] = None,
    grace_s: Annotated[
        float | None, typer.Option(metavar="S", help="Longest time to stop after a signal.")
    ] = None,
    trusted_proxies: Annotated[
        str | None,
        typer.Option(metavar="IPS", help="Proxies whose X-Forwarded-For is believed."),
    ] = None,
    access_log: Annotated[
        bool | None, typer.Option("--access-log/--no-access-log", help="Log every request.")
    ] = None,
    log_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Append the log here instead of stderr.")
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(metavar="L", help="Lowest level to log: info, warning or error.")
    ] = None,
    settings: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Read settings from here: CLASSMARK_SERVE_NAME=VALUE."),
    ] = None,
) -> None:
    """Answer over HTTP until stopped.

    Every option, and the limits that have none, can be set as CLASSMARK_SERVE_NAME. Logs are JSON
    lines on stderr. SIGTERM and Ctrl-C stop in order: what is in work is answered. SIGHUP reloads
    the API keys and the settings of the log, and opens the log file again.
    """
    given = dict(locals())
    # One thread a worker for linear algebra: the workers are as many as the cores.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from classmark.service import make_settings
    from classmark.service import serve as run

    raise typer.Exit(run(make_settings(**given), say=_say))


def _say(line: str) -> None:
    """Write a line to stdout; the log has it too, so nobody need read it here."""
    try:
        typer.echo(line)
    except OSError:
        silence_stdout()
