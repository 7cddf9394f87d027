"""What can go wrong between client and service."""

from __future__ import annotations

from typing import Any

from classmark.wire import ProblemDocument


class ClientError(Exception):
    """Base of every error that the client raises on purpose."""


class ServiceUnreachable(ClientError):
    """No connection could be made, or it broke, also when it was tried again."""


class DeadlineExceeded(ClientError):
    """There was no answer in time."""


class UnexpectedAnswer(ClientError):
    """What answers there does not answer like classmark."""


class ServiceProblem(ClientError):
    """The service refused: the fields of its problem+json.

    Attributes:
        status: HTTP status.
        kind: stable machine-readable name, e.g. ``too_many_papers``.
        title: what happened, the same for all problems of a kind.
        detail: what was wrong, the value seen, what to do next.
        request_id: of this request in the log of the service.
        errors: fields that are wrong, each with ``field`` and ``message``.
        columns_seen: names that the table has, if the kind is ``wrong_columns``.
        retry_after_s: when to try again, if the service said so.
    """

    def __init__(self, document: ProblemDocument, retry_after_s: float | None) -> None:
        self.status = document.status
        self.kind = document.kind
        self.title = document.title
        self.detail = document.detail
        self.request_id = document.instance
        self.errors = document.errors
        self.columns_seen = document.columns_seen
        self.retry_after_s = retry_after_s
        self._arguments = (document, retry_after_s)
        super().__init__(f"{self.status} {self.kind}: {self.detail or self.title}")

    def __reduce__(self) -> tuple[type[ServiceProblem], tuple[Any, ...]]:
        """Pickle the arguments: a pool that cannot unpickle an error waits for ever."""
        return type(self), self._arguments


class ServiceBusy(ServiceProblem):
    """The service has too much to do (429, 503), also when it was asked again."""
