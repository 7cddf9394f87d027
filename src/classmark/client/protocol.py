"""What both clients say and how they read the reply, without sending anything themselves."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from numbers import Number
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import httpx

from classmark.client.answers import (
    Answer,
    BadRecord,
    FileAnswers,
    answer_of,
    answers_of,
    file_answers_of,
)
from classmark.client.problems import (
    ClientError,
    DeadlineExceeded,
    ServiceBusy,
    ServiceProblem,
    ServiceUnreachable,
    UnexpectedAnswer,
)

T = TypeVar("T")

BUSY = (429, 503)
TOO_LARGE = ("too_many_papers", "body_too_large")
_BROKEN_PAUSE_S = 0.1
_DEFAULT_RETRY_AFTER_S = 0.5
_MAX_BATCH_CHARS = 2_000_000  # of a body; a character is at most four bytes
_SHOWN_CHARS = 80
DEFAULT_URL = "http://127.0.0.1:8000"
READY_PAUSE_S = 0.05


class PaperLike(Protocol):
    """An object with a title and an abstract, such as ``classmark.Paper``."""

    @property
    def id(self) -> str | None:
        """Identifier, or None."""

    @property
    def title(self) -> str:
        """Title, or ""."""

    @property
    def abstract(self) -> str:
        """Abstract, or ""."""


OnePaper = str | Mapping[str, Any] | PaperLike


@dataclass(frozen=True, kw_only=True)
class ClientConfig:
    """How to talk to the service.

    Attributes:
        api_key: ``cmk_...``, if the service asks for one.
        timeout_s: to connect, and between two bytes of the reply. The default is longer than the
            service takes to replace a worker that is stuck.
        deadline_s: told to the service, which gives up then; None leaves it to the service.
        broken_retries: how often a request is sent again after the connection broke.
        busy_retries: how often it is sent again after 429 or 503.
        max_wait_s: a service that asks to wait for longer is not waited for.
        batch_papers: most papers in one request; a longer list is sent in parts.
    """

    api_key: str | None = field(default=None, repr=False)
    timeout_s: float = 40.0
    deadline_s: float | None = None
    broken_retries: int = 1
    busy_retries: int = 2
    max_wait_s: float = 5.0
    batch_papers: int = 500

    def __post_init__(self) -> None:
        for name in ("timeout_s", "batch_papers"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}.")
        if self.deadline_s is not None and self.deadline_s <= 0:
            raise ValueError(f"deadline_s must be above 0, got {self.deadline_s}.")


@dataclass(frozen=True, kw_only=True)
class Call(Generic[T]):
    """One request, which may be sent several times, and how its reply is read.

    Attributes:
        method, path: of HTTP.
        read: makes the result of the JSON document.
        body: JSON document, if any.
        form: further fields of a form with ``file``.
        file: (name, content) for a form.
    """

    method: str
    path: str
    read: Callable[[Any], T]
    body: Any = None
    form: dict[str, str] = field(default_factory=dict)
    file: tuple[str, bytes] | None = None
    request_id: str = field(default_factory=lambda: new_request_id())

    def arguments(self, config: ClientConfig) -> dict[str, Any]:
        """Return what httpx needs to send it."""
        headers = {"X-Request-ID": self.request_id, "Idempotency-Key": self.request_id}
        if config.deadline_s is not None:
            headers["X-Classmark-Deadline-Ms"] = str(max(1, round(config.deadline_s * 1000)))
        arguments: dict[str, Any] = {"method": self.method, "url": self.path, "headers": headers}
        if self.file is not None:
            arguments |= {"files": {"file": self.file}, "data": self.form}
        elif self.body is not None:
            text = json.dumps(self.body, ensure_ascii=False)
            headers["Content-Type"] = "application/json"
            arguments["content"] = text.encode("utf-8", "replace")  # halves of characters
        return arguments

    def result(self, response: httpx.Response) -> T:
        """Return what the reply says.

        Raises:
            ServiceProblem: the service refused.
            DeadlineExceeded: it gave up.
            UnexpectedAnswer: the reply is not as it must be.
        """
        if response.is_success:
            try:
                return self.read(response.json())
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise UnexpectedAnswer(
                    f"{response.request.url} answered what is no answer of classmark "
                    f"({type(error).__name__}: {error}). Check the address."
                ) from error
        raise problem_of(response)


@dataclass
class Retries:
    """Decides whether and when a call is sent again; one for each call."""

    config: ClientConfig
    broken: int = 0
    busy: int = 0
    started: float = field(default_factory=time.monotonic)

    def wait_after_break(self, error: httpx.TransportError, url: str) -> float:
        """Return the seconds to wait before the next attempt.

        Raises:
            DeadlineExceeded: it was no break but silence.
            ServiceUnreachable: it broke too often.
        """
        if isinstance(error, httpx.TimeoutException):
            raise DeadlineExceeded(
                f"{url} did not answer within {self.config.timeout_s:g} s. Send less at once, or "
                "allow more with timeout_s."
            ) from error
        self.broken += 1
        if self.broken > self.config.broken_retries or not self._in_time(_BROKEN_PAUSE_S):
            raise ServiceUnreachable(
                f"{url} cannot be reached ({error or type(error).__name__}), tried {self.broken} "
                "times. Check the address, and that `classmark serve` runs."
            ) from error
        return _BROKEN_PAUSE_S

    def wait_after(self, response: httpx.Response) -> float | None:
        """Return the seconds to wait before the next attempt, None if the reply stands."""
        if response.status_code not in BUSY or self.busy >= self.config.busy_retries:
            return None
        wait_s = retry_after_s(response)
        wait_s = _DEFAULT_RETRY_AFTER_S if wait_s is None else wait_s
        if wait_s > self.config.max_wait_s or not self._in_time(wait_s):
            return None
        self.busy += 1
        return wait_s

    def _in_time(self, wait_s: float) -> bool:
        deadline_s = self.config.deadline_s
        return deadline_s is None or time.monotonic() - self.started + wait_s < deadline_s


def new_request_id() -> str:
    """Return a UUID of version 7: its time lets the service give a retry the same prediction id."""
    at_ms = time.time_ns() // 1_000_000
    value = (at_ms << 80) | (7 << 76) | (secrets.randbits(12) << 64)
    digits = f"{value | (2 << 62) | secrets.randbits(62):032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def problem_of(response: httpx.Response) -> ClientError:
    """Return the error that a reply of 4xx or 5xx means."""
    try:
        document = response.json()
    except ValueError:
        document = None
    if not isinstance(document, dict):
        document = {"title": response.reason_phrase, "detail": response.text[:_SHOWN_CHARS]}
    status = response.status_code
    if status == 504:
        return DeadlineExceeded(str(document.get("detail") or document.get("title")))
    kind = ServiceBusy if status in BUSY else ServiceProblem
    return kind(status, document, retry_after_s(response))


def retry_after_s(response: httpx.Response) -> float | None:
    """Return the seconds that ``Retry-After`` asks for, None if it does not say."""
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdecimal() else None


# --- calls -----------------------------------------------------------------------------------


def one_call(paper: OnePaper, options: Mapping[str, Any]) -> Call[Answer]:
    """Return the call that classifies one paper."""
    body = {**paper_body(paper), **options}
    return Call(method="POST", path="/v1/classify", read=answer_of, body=body)


def batch_call(
    papers: list[dict[str, Any]], options: Mapping[str, Any]
) -> Call[tuple[Answer | BadRecord, ...]]:
    """Return the call that classifies a batch."""
    body = {"papers": papers, **options}
    return Call(method="POST", path="/v1/classify", read=answers_of, body=body)


def file_call(
    file: Path | bytes, name: str | None, options: Mapping[str, Any]
) -> Call[FileAnswers]:
    """Return the call that classifies a file.

    Raises:
        OSError: it cannot be read.
    """
    content = file if isinstance(file, bytes) else file.read_bytes()
    called = name or ("papers" if isinstance(file, bytes) else file.name)
    form = {key: str(value).lower() for key, value in options.items()}
    return Call(
        method="POST", path="/v1/files", read=file_answers_of, form=form, file=(called, content)
    )


def options_of(top: int | None, threshold: float | None, *, explain: bool) -> dict[str, Any]:
    """Return the options that are given; the others are the service's to choose."""
    given = {"top": top, "threshold": threshold, "explain": explain or None}
    return {key: value for key, value in given.items() if value is not None}


def paper_body(paper: OnePaper) -> dict[str, Any]:
    """Return a paper as the service takes it; keys of a mapping are passed on as they are.

    Missing values are left out; of a missing paper nothing is left, which the service refuses.
    """
    if isinstance(paper, str):
        return {"text": paper}
    if _is_missing(paper):
        return {}
    if isinstance(paper, Mapping):
        body: Mapping[str, Any] = paper
    else:
        body = {"id": paper.id, "title": paper.title, "abstract": paper.abstract}
    return {key: value for key, value in body.items() if not _is_missing(value)}


def _is_missing(value: object) -> bool:
    """Tell None, NaN, and the NA and NaT of pandas, as ``classmark.records.is_missing`` does."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, Number) and bool(value != value)  # noqa: PLR0124 - true of a NaN


def batches(papers: Iterable[OnePaper], max_papers: int) -> Iterator[list[dict[str, Any]]]:
    """Yield the papers in parts that the service takes in one request."""
    batch: list[dict[str, Any]] = []
    n_chars = 0
    for paper in papers:
        body = paper_body(paper)
        chars = sum(len(value) for value in body.values() if isinstance(value, str))
        if batch and (len(batch) == max_papers or n_chars + chars > _MAX_BATCH_CHARS):
            yield batch
            batch, n_chars = [], 0
        batch.append(body)
        n_chars += chars
    if batch:
        yield batch


def is_one(papers: OnePaper | Iterable[OnePaper]) -> bool:
    """Tell one paper from several."""
    return isinstance(papers, str | Mapping) or hasattr(papers, "abstract")


def authorisation(config: ClientConfig) -> dict[str, str]:
    """Return the header field that carries the API key."""
    return {} if config.api_key is None else {"Authorization": f"Bearer {config.api_key}"}


def get(path: str, read: Callable[[Any], T]) -> Call[T]:
    """Return a call that asks for a document."""
    return Call(method="GET", path=path, read=read)


def feedback_call(prediction_id: str, category: str, comment: str | None) -> Call[None]:
    """Return the call that gives feedback."""
    body = {"prediction_id": prediction_id, "category": category}
    if comment is not None:
        body["comment"] = comment
    return Call(method="POST", path="/v1/feedback", read=lambda _: None, body=body)


def never_ready(url: str, timeout_s: float) -> ServiceUnreachable:
    """Return the error of a service that was waited for in vain."""
    return ServiceUnreachable(
        f"{url} was not ready within {timeout_s:g} s. Check the address, and the log of "
        "`classmark serve`."
    )
