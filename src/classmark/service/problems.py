"""What went wrong with a request: a stable kind, a status, and what to do next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from classmark.errors import (
    ClassmarkError,
    DeadlineExceeded,
    InvalidJournal,
    JournalTooNew,
    NotReady,
    Overloaded,
)
from classmark.wire import to_json
from classmark.wire.problems import KINDS, TYPE_PREFIX, ProblemDocument

_MAX_LISTED_ERRORS = 20
_MAX_SHOWN_CHARS = 200


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
        return to_json(
            ProblemDocument(
                type=TYPE_PREFIX + self.kind,
                title=KINDS[self.kind][1],
                status=self.status,
                detail=self.detail,
                instance=request_id,
                kind=self.kind,
                errors=tuple(self.errors),
                columns_seen=tuple(self.columns_seen),
            )
        )


def invalid_request(errors: Iterable[Mapping[str, Any]]) -> Problem:
    """Return the problem of a body that pydantic refused; never repeats the text of a paper.

    Args:
        errors: as ``ValidationError.errors()`` gives them.
    """
    found = list(errors)
    if found and str(found[0]["type"]).startswith("json_"):
        return Problem("malformed_json", f"{found[0]['msg']}. Send one JSON object in UTF-8.")
    fields = [
        {"field": shown(".".join(map(str, error["loc"]))) or "body", "message": error["msg"]}
        for error in found[:_MAX_LISTED_ERRORS]
    ]
    first = fields[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return Problem(
        "invalid_request",
        f"{first['field']}: {first['message']}{more}. See /openapi.json for what is accepted.",
        fields,
    )


def shown(text: str) -> str:
    """Return a text from outside, short enough and printable, for a message."""
    printable = "".join(c if c.isprintable() else "\ufffd" for c in text[:_MAX_SHOWN_CHARS])
    return printable.encode("utf-8", "replace").decode()


def invalid_field(field_name: str, message: str) -> Problem:
    """Return the problem of one field of a request."""
    errors = [{"field": field_name, "message": message}]
    return Problem("invalid_request", f"{field_name}: {message}.", errors)


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
