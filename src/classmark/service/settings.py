"""Every default and limit of the service; each can also be set as ``CLASSMARK_SERVE_NAME``."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    PrivateAttr,
    ValidationError,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from classmark.errors import InvalidConfig
from classmark.journal.place import without_passwords
from classmark.kernels.encoder import usable_cores
from classmark.service.keys import SLOWEST_RATE, is_rate
from classmark.storage import folder_place

ANY_HOST = EVERY_ADDRESS = "*"
JOURNAL_OFF = "off"
PREFIX = "CLASSMARK_SERVE_"
RELOADED = ("access_log", "log_file", "log_level")
"""Settings that a running service reads again from its settings file; see ``reread``."""
MIB = 1 << 20
BACKLOG = 2048
"""Connections that the kernel queues for the workers."""
WORKERS_A_CORE = 16
"""One worker keeps a core busy; many more of them only take memory from each other."""
_DAY_S = 86_400.0
_HOST_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, le=_DAY_S, allow_inf_nan=False)]


def _checked_rate(per_minute: float) -> float:
    if not is_rate(per_minute):
        raise ValueError(f"a rate must be 0 for no limit, or {SLOWEST_RATE:g} per minute or more")
    return per_minute


def parse_hosts(text: str) -> frozenset[str]:
    """Return the names of a setting, separated by commas.

    Raises:
        ValueError: one of them is not the name or the address of a host.
    """
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    for name in names:
        if not (name == ANY_HOST or _HOST_NAME.fullmatch(name) or is_address(name)):
            raise ValueError(
                f"{name!r} is not a host. Give names without scheme and port, such as "
                "'papers.example.org', separated by commas, or '*' for every name"
            )
    return frozenset(names)


def is_address(name: str) -> bool:
    """Return whether a host is an IP address; one of IPv6 is in brackets, as in a URL."""
    is_bracketed = name.startswith("[") and name.endswith("]")
    try:
        address = ip_address(name[1:-1] if is_bracketed else name)
    except ValueError:
        return False
    return is_bracketed == isinstance(address, IPv6Address)


def parse_networks(text: str) -> list[IPv4Network | IPv6Network] | None:
    """Return the networks that a setting lists, None for all.

    Args:
        text: addresses and networks separated by commas, or ``*`` for all.

    Raises:
        ValueError: an entry is something else.
    """
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    networks = []
    for entry in entries:
        try:
            networks += [] if entry == EVERY_ADDRESS else [ip_network(entry)]
        except ValueError as error:
            hint = ""
            with suppress(ValueError):
                hint = f" ({error}); perhaps {ip_network(entry, strict=False)} is meant"
            raise ValueError(
                f"{entry!r} is neither an IP address nor a network{hint}. Give addresses such as "
                "127.0.0.1 or networks such as 10.0.0.0/8, separated by commas, or '*' for all"
            ) from error
    return None if EVERY_ADDRESS in entries else networks


def _that(parse: Callable[[str], object]) -> AfterValidator:
    """Return what checks that a text can be parsed, and keeps the text."""

    def check(text: str) -> str:
        parse(text)
        return text

    return AfterValidator(check)


def _checked_workers(count: int) -> int:
    most = WORKERS_A_CORE * usable_cores()
    if count > most:
        raise ValueError(
            f"the service may use {usable_cores()} cores, and more than {WORKERS_A_CORE} workers "
            f"per core would only compete for memory; the maximum here is {most}, and 0 means one "
            "per core"
        )
    return count


def _located(place: str | Path | None) -> Path | None:
    """Return the path of a folder of this machine, or of one in a bucket."""
    return None if place is None else folder_place(place)


def _shown(place: Path | None) -> str | None:
    return None if place is None else str(place)


Rate = Annotated[float, Field(ge=0, allow_inf_nan=False), AfterValidator(_checked_rate)]


class ServiceSettings(BaseSettings):
    """How to serve. Command-line options override environment variables.

    Attributes:
        host: address to listen on.
        port: port to listen on; 0 takes a free one.
        workers: processes; 0 means one per core (for a deep model, per group of threads).
        model: name, ``NAME@VERSION`` or path of the model; None means the default one.
        registry: folder of a registry whose changes the service follows; None serves ``model``.
        channel: of the registry, whose bundle answers.
        trusted_key: public key that signs its bundles, instead of those that the registry names.
        index: folder of an index of papers, see ``classmark index``; None offers no similar papers.
        journal: file of the journal or address of a database, None: the usual file, ``off``: none.
        journal_text: keep the text of papers in the journal.
        journal_keep_days: delete predictions and feedback from the journal after this many days, or
            up to a fifteenth of that later; None keeps them.
        journal_max_mb: delete the oldest files of the journal while it is larger; None: no limit.
        journal_copies: folder of a bucket (gs://BUCKET/PATH) into which the files of the journal
            are copied, for a machine whose disk goes with it; None copies nothing.
        journal_copies_s: seconds between two copies: a machine that vanishes loses at most the
            predictions of this time. They are copied once more when the service stops.
        traces: address that the spans of requests are posted to, as OpenTelemetry's OTLP.
        drift_report: file of ``classmark monitor run --output``, whose numbers ``/metrics`` shows.
        api_keys: file of API keys, see ``classmark keys``; None requires no key.
        allowed_hosts: host names that requests may use, separated by commas; ``*`` for any name. By
            default, without API keys: ``localhost``, the name of the machine, the value of
            ``host``, and every IP address. Web pages of listed hosts may send requests too.
        refused_keys_per_minute: maximum requests of a client per minute without a valid API key
            before it gets 429 instead of 401; 0 for no limit. Valid keys are not affected.
        rate_per_minute: maximum requests of a client per minute; 0 for no limit.
        rate_burst: requests that a client may make at once before the rate applies.
        max_body_bytes: maximum body of a request.
        max_text_chars: maximum title and abstract of one paper together, and maximum authors.
        max_papers: maximum papers of a batch.
        max_concurrency: maximum whole requests being answered at once in a worker; more get 503.
        max_queue: maximum batches and long texts that wait for a thread of a worker; more get 503.
        max_connections: maximum open connections of a worker; above it, the newest of the client
            with the most is closed, with 503.
        max_connections_per_client: maximum open connections of one client (an IPv4 address, an IPv6
            /64) in a worker; more get 503. Does not apply to ``trusted_proxies``.
        max_unfinished_bytes: maximum of all incomplete bodies of a worker; above it, the largest of
            the client that holds the most gets 503.
        max_unsent_bytes: maximum of all answers of a worker that clients have not read yet; above
            it, the connection of the client with the most is closed.
        max_header_bytes: maximum of a request without its body, plus 32 for each header field.
        threads: of a worker, for batches and long texts.
        batch_tokens: deep model: tokens to run at once.
        batch_queue: deep model: maximum papers that wait in a worker; more get 503.
        batch_wait_ms: deep model: how long a paper waits for others while nothing runs.
        deadline_ms: for a request, from its first byte; a client may ask for less.
        body_timeout_s: for a client to send the body of a request.
        header_timeout_s: the same for its header.
        write_timeout_s: for a client to read an answer.
        keep_alive_s: how long an idle connection is kept open.
        drain_s: from the signal to stop to the end of accepting connections; ``/readyz`` is 503.
        grace_s: from the signal to stop to the exit.
        stuck_after_s: a worker whose event loop is stuck for this long is killed and replaced.
        access_log: log one line per request.
        log_file: file to append the log to; None means stderr.
        log_level: lowest level to log.
        trusted_proxies: addresses and networks, separated by commas, whose X-Forwarded-For counts;
            ``*`` for all.
        scrapers: addresses and networks, separated by commas, whose clients read /metrics without a
            key; ``*`` for all.
        settings: file with lines ``CLASSMARK_SERVE_NAME=VALUE``; options and environment variables
            override it. On SIGHUP its log settings are read again.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")
    _given: dict[str, Any] = PrivateAttr(default_factory=dict)
    _asked: dict[str, Any] = PrivateAttr(default_factory=dict)

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    workers: Annotated[int, Field(ge=0), AfterValidator(_checked_workers)] = 0
    model: str | None = None
    registry: Annotated[Path | None, PlainValidator(_located), PlainSerializer(_shown)] = None
    channel: str = "champion"
    trusted_key: Path | None = None
    index: Path | None = None
    journal: Annotated[str | None, Field(repr=False)] = None  # an address has a password
    journal_text: bool = False
    journal_keep_days: Annotated[float, Field(ge=0.01, le=36_500)] | None = None
    journal_max_mb: Annotated[int, Field(ge=16)] | None = None
    journal_copies: str | None = None
    journal_copies_s: Annotated[float, Field(ge=0.1, le=86_400)] = 60.0
    traces: Annotated[str, Field(pattern="^https?://.+")] | None = None
    drift_report: Path | None = None
    api_keys: Path | None = None
    allowed_hosts: Annotated[str, _that(parse_hosts)] = ""
    refused_keys_per_minute: Rate = 30.0
    rate_per_minute: Rate = 0.0
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
    threads: Annotated[int, Field(ge=1, le=256)] = 2
    batch_tokens: Count = 1024
    batch_queue: Count = 2048
    batch_wait_ms: Annotated[float, Field(ge=0, le=1000)] = 0.0
    deadline_ms: Annotated[int, Field(ge=1, le=600_000)] = 10_000
    body_timeout_s: Seconds = 10.0
    header_timeout_s: Seconds = 10.0
    write_timeout_s: Seconds = 30.0
    keep_alive_s: Annotated[int, Field(ge=1, le=_DAY_S)] = 30
    drain_s: Annotated[float, Field(ge=0, le=_DAY_S, allow_inf_nan=False)] = 0.5
    grace_s: Seconds = 20.0
    stuck_after_s: Annotated[float, Field(ge=1, le=_DAY_S, allow_inf_nan=False)] = 30.0
    access_log: bool = True
    log_file: Path | None = None
    log_level: Literal["info", "warning", "error"] = "info"
    trusted_proxies: Annotated[str, _that(parse_networks)] = ""
    scrapers: Annotated[str, _that(parse_networks)] = ""
    settings: Path | None = None

    @property
    def worker_count(self) -> int:
        """Processes to run: as set, else one per core that this process may use."""
        return self.workers or usable_cores()

    @property
    def is_open_to_everybody(self) -> bool:
        """Whether other machines can reach the service, and no key is required."""
        try:
            is_local = ip_address(self.host).is_loopback
        except ValueError:
            is_local = self.host == "localhost"
        return not is_local and self.api_keys is None

    def without_effect(self, *, is_deep: bool) -> dict[str, str]:
        """Return the settings that were given but have no effect, each with the reason."""
        off = {
            "no rate limits requests": (
                not self.rate_per_minute and self.api_keys is None,
                ("rate_burst",),
            ),
            "there is no registry": (self.registry is None, ("channel", "trusted_key")),
            "there is no journal": (
                self.journal == JOURNAL_OFF,
                ("journal_text", "journal_keep_days", "journal_max_mb", "journal_copies"),
            ),
            "nothing is copied": (self.journal_copies is None, ("journal_copies_s",)),
            "no API key is asked for": (self.api_keys is None, ("refused_keys_per_minute",)),
            "the model is not a deep one": (
                not is_deep,
                ("batch_tokens", "batch_queue", "batch_wait_ms"),
            ),
        }
        return {
            name: reason
            for reason, (applies, names) in off.items()
            for name in names
            if applies and name in self.model_fields_set
        }

    def reread(self) -> tuple[ServiceSettings, list[str]]:
        """Return the settings, with those of the log read from their file again.

        Returns:
            The settings, and the names of others that have changed, which need a restart.

        Raises:
            InvalidConfig: a value is invalid, or the file cannot be read.
        """
        now = make_settings(**self._given)
        others = [
            name
            for name, asked in self._asked.items()
            if name not in RELOADED and now._asked[name] != asked
        ]
        return self.model_copy(update={name: getattr(now, name) for name in RELOADED}), others


def make_settings(**given: Any) -> ServiceSettings:  # noqa: ANN401 - pydantic checks them
    """Return the settings: the given ones (not None), then environment, file, and defaults.

    Raises:
        InvalidConfig: a value or a name is invalid, or the file of settings cannot be read; names
            the setting and what it saw.
    """
    given = {name: value for name, value in given.items() if value is not None}
    in_environment = _settings_in(os.environ, "the environment")
    file = given.get("settings") or in_environment.get("settings")
    in_file = _settings_in(_variables_in(Path(file)), str(file)) if file else {}
    from_file = {name: value for name, value in in_file.items() if name not in in_environment}
    try:
        made = ServiceSettings(**{**from_file, **given})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        raise InvalidConfig(
            f"{_spelled(name)} cannot be {first['input']!r}: "
            f"{first['msg'].removeprefix('Value error, ')}."
        ) from error
    if made.drain_s >= made.grace_s:
        raise InvalidConfig(
            f"{_spelled('drain_s')} is {made.drain_s:g}, which leaves nothing of the "
            f"{made.grace_s:g} s of {_spelled('grace_s')}. Make the grace period longer."
        )
    made._given, made._asked = given, made.model_dump()
    return made


def _spelled(name: str) -> str:
    return f"--{name.replace('_', '-')} (or {PREFIX}{name.upper()})"


def _settings_in(variables: Mapping[str, str], where: str) -> dict[str, str]:
    """Return the settings among variables by their name.

    Raises:
        InvalidConfig: one has the prefix, but is not the name of a setting.
    """
    found = {
        variable.upper().removeprefix(PREFIX).lower(): value
        for variable, value in variables.items()
        if variable.upper().startswith(PREFIX)
    }
    for name in found.keys() - ServiceSettings.model_fields.keys():
        near = get_close_matches(name, ServiceSettings.model_fields, n=1, cutoff=0.5)
        hint = f"Did you mean {PREFIX}{near[0].upper()}?" if near else "Remove it."
        raise InvalidConfig(f"{where} has {PREFIX}{name.upper()}, which is not a setting. {hint}")
    return found


def _variables_in(file: Path) -> dict[str, str]:
    """Return the variables of a file of settings, as systemd's ``EnvironmentFile`` has them.

    Raises:
        InvalidConfig: it cannot be read, or a line does not set a variable of the service.
    """
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InvalidConfig(
            f"the file of settings {file} cannot be read ({reason}). Check its path and its mode."
        ) from error
    variables = {}
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not name.upper().startswith(PREFIX):
            raise InvalidConfig(
                f"{file}, line {number}: {without_passwords(line)[:80]!r} does not set a variable "
                f"of the service. Write {PREFIX}NAME=VALUE."
            )
        is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
        if value[:1] in ('"', "'") and not is_quoted:
            raise InvalidConfig(
                f"{file}, line {number}: the quote before the value of {name} is not closed at the "
                "end of the line. Close it there, or leave it out."
            )
        variables[name.strip()] = value[1:-1] if is_quoted else value
    return variables
