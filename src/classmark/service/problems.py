"""What went wrong, as problem+json (RFC 9457): a stable kind, a status, and what to do next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import to_json

from classmark.errors import (
    ClassmarkError,
    DeadlineExceeded,
    InvalidJournal,
    JournalTooNew,
    NotReady,
    Overloaded,
)

MEDIA_TYPE = b"application/problem+json"
TYPE_PREFIX = "urn:classmark:problem:"
_MAX_LISTED_ERRORS = 20
_MAX_SHOWN_CHARS = 200

# kind -> (status, title). A kind is part of the API: programs compare it.
KINDS: dict[str, tuple[int, str]] = {
    "malformed_json": (400, "The body is not JSON"),
    "bad_request": (400, "The request cannot be understood"),
    "key_missing": (401, "An API key is needed"),
    "key_unknown": (401, "The API key is not known"),
    "key_expired": (401, "The API key has expired"),
    "scope_missing": (403, "The API key does not allow this"),
    "cross_site": (403, "Pages of other sites may not ask"),
    "not_found": (404, "There is nothing here"),
    "method_not_allowed": (405, "The method is not for this address"),
    "body_timeout": (408, "The body did not arrive in time"),
    "body_too_large": (413, "The body is too large"),
    "host_not_allowed": (421, "The service does not have this name"),
    "unsupported_media_type": (415, "The content type is not supported"),
    "invalid_request": (422, "The content is not as it must be"),
    "invalid_paper": (422, "The paper cannot be classified"),
    "text_too_long": (413, "The text of a paper is too long"),
    "too_many_papers": (413, "There are too many papers"),
    "unknown_category": (422, "The category is not known"),
    "unreadable_source": (422, "The file cannot be read"),
    "wrong_columns": (422, "The columns of the file are not known"),
    "rate_exceeded": (429, "Too many requests"),
    "header_too_large": (431, "The header is too large"),
    "internal_error": (500, "Something went wrong here"),
    "overloaded": (503, "The service is busy"),
    "not_ready": (503, "The service is not ready"),
    "keys_unreadable": (503, "The API keys cannot be read"),
    "journal_unavailable": (503, "The journal cannot be used now"),
    "journal_off": (404, "There is no journal"),
    "deadline_exceeded": (504, "The answer was not ready in time"),
}


@dataclass
class Problem(Exception):
    """A request that gets no answer, and why.

    Attributes:
        kind: one of ``KINDS``.
        detail: one sentence: what was wrong, the value seen, what to do next.
        errors: fields and their messages.
        columns_seen: names that a table has, if those of papers are not among them.
        retry_after_s: when to try again, for 429 and 503.
        headers: further header fields.
    """

    kind: str
    detail: str
    errors: list[dict[str, str]] = field(default_factory=list)
    columns_seen: list[str] = field(default_factory=list)
    retry_after_s: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def status(self) -> int:
        """HTTP status of the kind."""
        return KINDS[self.kind][0]

    def header_fields(self) -> list[tuple[bytes, bytes]]:
        """Return the header fields that this problem adds to its response."""
        fields = [(k.lower().encode(), v.encode("latin-1")) for k, v in self.headers.items()]
        if self.retry_after_s is not None:
            fields.append((b"retry-after", b"%d" % self.retry_after_s))
        return fields

    def body(self, request_id: str) -> bytes:
        """Return the JSON document."""
        return to_json(self.to_dict(request_id))

    def to_dict(self, request_id: str) -> dict[str, Any]:
        """Return the published form."""
        document: dict[str, Any] = {
            "type": TYPE_PREFIX + self.kind,
            "title": KINDS[self.kind][1],
            "status": self.status,
            "detail": self.detail,
            "instance": request_id,
            "kind": self.kind,
        }
        if self.errors:
            document["errors"] = self.errors
        if self.columns_seen:
            document["columns_seen"] = self.columns_seen
        return document


def invalid_request(errors: Iterable[Mapping[str, Any]]) -> Problem:
    """Return the problem of a body that pydantic refused; never repeats the text of a paper.

    Args:
        errors: as ``ValidationError.errors()`` gives them.
    """
    listed = [_field_error(error) for error in errors]
    if listed and listed[0]["kind"].startswith("json_"):
        return Problem("malformed_json", f"{listed[0]['message']}. Send one JSON object in UTF-8.")
    fields = [{"field": e["field"], "message": e["message"]} for e in listed[:_MAX_LISTED_ERRORS]]
    first = fields[0] if fields else {"field": "body", "message": "is invalid"}
    more = f" (and {len(listed) - 1} more)" if len(listed) > 1 else ""
    return Problem(
        "invalid_request",
        f"{first['field']}: {first['message']}{more}. See /openapi.json for what is accepted.",
        errors=fields,
    )


def shown(text: str) -> str:
    """Return a text from outside, short enough and printable, for a message."""
    printable = "".join(c if c.isprintable() else "\ufffd" for c in text[:_MAX_SHOWN_CHARS])
    return printable.encode("utf-8", "replace").decode()


def _field_error(error: Mapping[str, Any]) -> dict[str, str]:
    where = ".".join(str(part) for part in error["loc"] if part not in ("body", "query", "path"))
    return {
        "kind": str(error["type"]),
        "field": shown(where) or "body",
        "message": str(error["msg"]),
    }


def invalid_field(field_name: str, message: str) -> Problem:
    """Return the problem of one field of a request."""
    return Problem(
        "invalid_request",
        f"{field_name}: {message}.",
        errors=[{"field": field_name, "message": message}],
    )


def problem_of(error: BaseException) -> Problem:
    """Return the problem that a request gets for an error, without what only operators may see."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, NotReady | Overloaded):
        return Problem(error.kind, str(error), retry_after_s=error.retry_after_s)
    if isinstance(error, DeadlineExceeded):
        return Problem(error.kind, str(error))
    if isinstance(error, ClassmarkError) and error.blames_request:
        return Problem(error.kind if error.kind in KINDS else "invalid_request", str(error))
    if isinstance(error, InvalidJournal | JournalTooNew):
        return journal_unavailable("the journal cannot be read now")
    return Problem(
        "internal_error",
        "the service failed to answer. Try again; if it keeps failing, report the request ID.",
    )


def journal_unavailable(why: str) -> Problem:
    """Return the problem of a request that needs a journal which is at fault; it names no path."""
    return Problem(
        "journal_unavailable",
        f"{why}. Try again in 1 s; the operator finds the reason in the log.",
        retry_after_s=1,
    )
