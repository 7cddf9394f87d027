"""What went wrong, as problem+json (RFC 9457): every kind with its HTTP status and title."""

from __future__ import annotations

from classmark.wire.answer import Published

MEDIA_TYPE = b"application/problem+json"
TYPE_PREFIX = "urn:classmark:problem:"

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
    "invalid_request": (422, "Invalid request"),
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
    "registry_off": (404, "There is no registry"),
    "registry_refused": (409, "The registry refused the change"),
    "look_running": (409, "A look is being made"),
    "look_failed": (503, "The look failed"),
    "registry_unavailable": (503, "The registry cannot be used now"),
    "deadline_exceeded": (504, "The answer was not ready in time"),
}


class ProblemDocument(Published, frozen=True, omit_defaults=True, kw_only=True):
    """A request that got no answer (RFC 9457).

    Attributes:
        type: address of the kind.
        title: what happened, the same for all problems of a kind.
        status: HTTP status.
        detail: what was wrong, the value seen, what to do next.
        instance: id of the request, as in the log of the service.
        kind: stable, machine-readable name.
        errors: fields that are wrong, each with ``field`` and ``message``.
        columns_seen: names that the table has, if the kind is ``wrong_columns``.
    """

    type: str
    title: str
    status: int
    detail: str
    instance: str
    kind: str
    errors: tuple[dict[str, str], ...] = ()
    columns_seen: tuple[str, ...] = ()
