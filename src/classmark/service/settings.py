"""Every default and bound of the service, each also to be set as ``CLASSMARK_SERVE_NAME``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from classmark.errors import InvalidConfig
from classmark.runtime.encoder import usable_cores
from classmark.service.hosts import parse_hosts

JOURNAL_OFF = "off"
MIB = 1 << 20
BACKLOG = 2048
"""Connections that the kernel holds for workers to take."""

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _checked_hosts(text: str) -> str:
    parse_hosts(text)
    return text


class ServiceSettings(BaseSettings):
    """How to serve. An option of the command line wins over the environment.

    Attributes:
        host: address to listen on.
        port: port to listen on; 0 takes a free one.
        workers: processes; 0 means one a core, of a deep model one for each thread of a run.
        model: name, ``NAME@VERSION`` or path of the model; None means the default one.
        journal: file of the journal, None for the usual place, ``off`` for none.
        journal_text: keep the text of papers in the journal.
        api_keys: file of ``classmark keys``; None lets everybody in.
        allowed_hosts: names by which clients may ask, separated by commas; ``*`` for every name.
            Without it, and without API keys, these are ``localhost``, the name of the machine, the
            name listened on, and every IP address. Pages of listed hosts may send requests too.
        refused_keys_per_minute: requests without a valid API key that a client may make a minute
            before it gets 429 instead of 401; 0 is no limit. Valid keys are not held up.
        rate_per_minute: requests a client may make a minute; 0 is no limit.
        rate_burst: requests a client may make at once before the rate binds.
        max_body_bytes: largest body of a request.
        max_text_chars: longest title and abstract of one paper.
        max_papers: most papers of a batch.
        max_concurrency: requests in work at once in a worker; more get 503. A request is in work
            from the last byte of its body on.
        max_queue: batches and long texts waiting for a thread of a worker; more get 503.
        max_connections: open connections of a worker; of more, the newest of the client that has
            most is closed, with 503.
        max_connections_per_client: open connections of one client (an IPv4 address, an IPv6 /64)
            in a worker; more get 503. Does not bind ``trusted_proxies``.
        max_unfinished_bytes: all bodies of a worker that are not whole yet; above it, the largest
            of the client that holds most gets 503.
        max_unsent_bytes: all answers of a worker that clients have not taken yet; above it, the
            connection of the client with most is closed.
        max_header_bytes: everything a request sends beside its body, and 32 more for each field.
        threads: of a worker, for batches and long texts.
        batch_tokens: of a deep model: tokens that are run at once.
        batch_queue: of a deep model: papers that may wait in a worker; more get 503.
        batch_wait_ms: of a deep model: how long a paper waits for company while nothing runs.
        deadline_ms: for a request from its first byte; a client may ask for less.
        body_timeout_s: to send the body of a request.
        header_timeout_s: to send the header of a request.
        write_timeout_s: for a client to take an answer.
        keep_alive_s: an idle connection is kept open that long.
        drain_s: between the signal to stop and the end of accepting connections; ``/readyz``
            says 503 meanwhile, so that a load balancer can look elsewhere.
        grace_s: for everything from the signal to stop to the exit.
        stuck_after_s: a worker whose event loop stands still as long is killed and replaced.
        access_log: one line a request.
        trusted_proxies: addresses whose X-Forwarded-For is believed; empty for none.
    """

    model_config = SettingsConfigDict(env_prefix="CLASSMARK_SERVE_", frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    workers: Annotated[int, Field(ge=0, le=512)] = 0
    model: str | None = None
    journal: str | None = None
    journal_text: bool = False
    api_keys: Path | None = None
    allowed_hosts: Annotated[str, AfterValidator(_checked_hosts)] = ""
    refused_keys_per_minute: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 30.0
    rate_per_minute: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    rate_burst: Count = 20
    max_body_bytes: Count = 8 * MIB
    max_text_chars: Count = 200_000
    max_papers: Count = 1000
    max_concurrency: Count = 256
    max_queue: Count = 32
    max_connections: Count = 1024
    max_connections_per_client: Count = 256
    max_unfinished_bytes: Count = 128 * MIB
    max_unsent_bytes: Count = 256 * MIB
    max_header_bytes: Count = 32 << 10
    threads: Count = 2
    batch_tokens: Count = 1024
    batch_queue: Count = 2048
    batch_wait_ms: Annotated[float, Field(ge=0, le=1000)] = 0.0
    deadline_ms: Annotated[int, Field(ge=1, le=600_000)] = 10_000
    body_timeout_s: Seconds = 10.0
    header_timeout_s: Seconds = 10.0
    write_timeout_s: Seconds = 30.0
    keep_alive_s: Count = 30
    drain_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.5
    grace_s: Seconds = 20.0
    stuck_after_s: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 30.0
    access_log: bool = True
    trusted_proxies: str = ""

    @property
    def worker_count(self) -> int:
        """Processes to run: as asked for, else one a core that this process may use."""
        return self.workers or usable_cores()


def make_settings(**given: Any) -> ServiceSettings:
    """Return the settings: what is given (None is not), then the environment, then defaults.

    Raises:
        InvalidConfig: a value is out of range or no value; names the setting and what it saw.
    """
    try:
        return ServiceSettings(**{name: v for name, v in given.items() if v is not None})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        raise InvalidConfig(
            f"--{name.replace('_', '-')} (or CLASSMARK_SERVE_{name.upper()}) cannot be "
            f"{first['input']!r}: {first['msg']}."
        ) from error
