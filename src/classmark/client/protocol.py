"""What both clients send and how they read the reply; nothing here opens a connection."""

from __future__ import annotations

import math
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypedDict, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from classmark import wire
from classmark.client.papers import OnePaper, paper_body
from classmark.client.problems import (
    ClientError,
    DeadlineExceeded,
    ServiceBusy,
    ServiceProblem,
    ServiceUnreachable,
    UnexpectedAnswer,
)
from classmark.wire import Answer, BadRecord, FileAnswers, ModelRef, RecordError

T = TypeVar("T")

BUSY = (429, 503)
TOO_LARGE = ("too_many_papers", "body_too_large")
_BROKEN_PAUSE_S = 0.1
_DEFAULT_RETRY_AFTER_S = 0.5
_SHOWN_CHARS = 80
_KEY = re.compile("[!-~]+")
DEFAULT_URL = "http://127.0.0.1:8000"
READY_PAUSE_S = 0.05


class RequestOptions(TypedDict, total=False):
    """Options of ``classify`` beside the papers; its docstring describes them."""

    top: int | None
    threshold: float | None
    explain: bool
    similar: int
    authors: bool


class Prediction(wire.Prediction, frozen=True, kw_only=True):
    """A prediction as the journal has it, with its feedback, and everything else that it holds.

    Attributes:
        document: the whole entry.
    """

    document: dict[str, Any] = msgspec.field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ClientConfig:
    """How to talk to the service.

    Attributes:
        api_key: ``cmk_...``, if the service asks for one.
        timeout_s: to connect, and between two bytes of the reply. The default is longer than the
            service takes to replace a worker that is stuck.
        deadline_s: sent to the service, which gives up then; None leaves it to the service.
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
        for name in ("timeout_s", "batch_papers", "deadline_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be a finite number above 0, got {value}.")
        if self.api_key is not None and not _KEY.fullmatch(self.api_key):
            raise ValueError(
                "api_key has characters that a key cannot have, such as a blank or a line end, or "
                "no characters at all. Read it again, without the end of its line."
            )


@dataclass(frozen=True, kw_only=True)
class Call(Generic[T]):
    """One request, which may be sent several times, and how its reply is read.

    Attributes:
        method, path: of HTTP.
        read: makes the result of the JSON that comes back.
        body: JSON document, if any.
        form: further fields of a form with ``file``.
        file: (name, content) for a form.
    """

    method: str
    path: str
    read: Callable[[bytes], T]
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
        arguments["timeout"] = config.timeout_s
        if self.file is not None:
            arguments |= {"files": {"file": self.file}, "data": self.form}
        elif self.body is not None:
            headers["Content-Type"] = "application/json"
            arguments["content"] = wire.to_json(self.body)
        return arguments

    def result(self, response: httpx.Response) -> T:
        """Return what the reply says.

        Raises:
            ServiceProblem: the service refused.
            DeadlineExceeded: it gave up.
            UnexpectedAnswer: the reply is not one of classmark.
        """
        if not response.is_success:
            raise problem_of(response)
        try:
            return self.read(response.content)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise _not_of_classmark(response.request.url, error) from error


@dataclass
class Retries:
    """Decides whether and when a call is sent again; one for each call."""

    config: ClientConfig
    broken: int = 0
    busy: int = 0
    started: float = field(default_factory=time.monotonic)

    def wait_after_break(self, error: httpx.RequestError, url: str) -> float:
        """Return the seconds to wait before the next attempt.

        Raises:
            DeadlineExceeded: there was no reply in time.
            ServiceUnreachable: it broke too often.
            UnexpectedAnswer: the reply cannot be unpacked.
        """
        if isinstance(error, httpx.DecodingError):
            raise _not_of_classmark(error.request.url, error) from error
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


def _not_of_classmark(url: httpx.URL, error: Exception) -> UnexpectedAnswer:
    return UnexpectedAnswer(
        f"{url} did not return a classmark response ({error}). Check the address."
    )


def problem_of(response: httpx.Response) -> ClientError:
    """Return the error that a reply without success means."""
    if response.has_redirect_location:
        other = response.headers["Location"][:_SHOWN_CHARS]
        return UnexpectedAnswer(f"{response.request.url} redirects to {other!r}. Use that address.")
    status, title = response.status_code, response.reason_phrase
    blank = {"type": "", "title": title, "detail": "", "instance": "", "kind": "unknown"}
    try:
        said = {**blank, **msgspec.json.decode(response.content, type=dict[str, Any])}
        document = msgspec.convert({**said, "status": status}, wire.ProblemDocument)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        said = {**blank, "detail": response.text[:_SHOWN_CHARS]}
        document = wire.ProblemDocument(status=status, **said)
    if status == 504:
        return DeadlineExceeded(document.detail or document.title)
    kind = ServiceBusy if status in BUSY else ServiceProblem
    return kind(document, retry_after_s(response))


def retry_after_s(response: httpx.Response) -> float | None:
    """Return the seconds that ``Retry-After`` asks for, None if it does not say."""
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdecimal() else None


# --- replies ---------------------------------------------------------------------------------


class _Batch(msgspec.Struct):
    """Answers that are not read yet: whether one is a bad record shows inside it."""

    answers: list[msgspec.Raw]
    model: ModelRef
    format: str = ""


# Keys that are not known here are ignored.
_read_answer = msgspec.json.Decoder(Answer).decode
_read_bad_record = msgspec.json.Decoder(BadRecord).decode
_read_batch = msgspec.json.Decoder(_Batch).decode
_read_prediction = msgspec.json.Decoder(Prediction).decode


def _read_whole_prediction(content: bytes) -> Prediction:
    """Return an entry of the journal."""
    whole = msgspec.json.decode(content)
    return msgspec.structs.replace(_read_prediction(content), document=whole)


def _read_answers(content: bytes) -> list[Answer | BadRecord]:
    return [_answer_or_bad_record(item) for item in _read_batch(content).answers]


def _read_file(content: bytes) -> FileAnswers:
    batch = _read_batch(content)
    answers = tuple(_answer_or_bad_record(item) for item in batch.answers)
    return FileAnswers(answers, batch.format, batch.model)


def _answer_or_bad_record(content: msgspec.Raw) -> Answer | BadRecord:
    try:
        return _read_answer(content)
    except msgspec.ValidationError as error:
        try:
            return _read_bad_record(content)
        except msgspec.ValidationError:
            raise error from None


def bad_record(paper: Mapping[str, Any], problem: ServiceProblem) -> BadRecord:
    """Return what takes the place of a paper that the service refuses for its size."""
    identifier = None if paper.get("id") is None else str(paper["id"])
    return BadRecord(identifier, RecordError(problem.kind, problem.detail))


# --- calls -----------------------------------------------------------------------------------


def one_call(paper: OnePaper, options: Mapping[str, Any]) -> Call[Answer]:
    """Return the call that classifies one paper."""
    body = {**paper_body(paper), **options}
    return Call(method="POST", path="/v1/classify", read=_read_answer, body=body)


def batch_call(
    papers: list[dict[str, Any]], options: Mapping[str, Any]
) -> Call[list[Answer | BadRecord]]:
    """Return the call that classifies a batch."""
    body = {"papers": papers, **options}
    return Call(method="POST", path="/v1/classify", read=_read_answers, body=body)


def file_call(
    file: str | Path | bytes,
    name: str | None,
    options: Mapping[str, Any],
    columns: Mapping[str, str] | None = None,
) -> Call[FileAnswers]:
    """Return the call that classifies a file.

    Raises:
        OSError: it cannot be read.
    """
    content = file if isinstance(file, bytes) else Path(file).read_bytes()
    called = name or ("papers" if isinstance(file, bytes) else Path(file).name)
    form = {key: str(value).lower() for key, value in options.items()}
    if columns:
        form["columns"] = wire.to_json(dict(columns)).decode()
    return Call(method="POST", path="/v1/files", read=_read_file, form=form, file=(called, content))


def options_of(
    top: int | None = None,
    threshold: float | None = None,
    *,
    explain: bool = False,
    similar: int = 0,
    authors: bool = True,
) -> dict[str, Any]:
    """Return the options that are given; the others are the service's to choose."""
    flags = {"explain": explain or None, "similar": similar or None}
    given = {"top": top, "threshold": threshold, **flags, "authors": None if authors else False}
    return {key: value for key, value in given.items() if value is not None}


def authorisation(config: ClientConfig) -> dict[str, str]:
    """Return the header field that carries the API key."""
    return {} if config.api_key is None else {"Authorization": f"Bearer {config.api_key}"}


def get(path: str, kind: type[T]) -> Call[T]:
    """Return a call that asks for a published object."""
    return Call(method="GET", path=path, read=msgspec.json.Decoder(kind).decode)


def prediction_call(prediction_id: str) -> Call[Prediction]:
    """Return the call that asks for an entry of the journal."""
    path = f"/v1/predictions/{quote(prediction_id, safe='')}"
    return Call(method="GET", path=path, read=_read_whole_prediction)


def feedback_call(prediction_id: str, category: str, comment: str | None) -> Call[None]:
    """Return the call that gives feedback."""
    body = {"prediction_id": prediction_id, "category": category}
    if comment is not None:
        body["comment"] = comment
    return Call(method="POST", path="/v1/feedback", read=lambda _: None, body=body)
