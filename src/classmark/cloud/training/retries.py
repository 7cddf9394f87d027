"""How long a question to Google is repeated."""

from __future__ import annotations

from typing import Any

_PATIENCE_S = 120.0
TRIES = 5
"""Times that a job is submitted whose answer is lost."""


def lost_answers() -> tuple[type[Exception], ...]:
    """Return the errors after which nobody knows whether a request has had an effect."""
    from google.api_core import exceptions as api

    return (
        api.ServiceUnavailable,
        api.GatewayTimeout,
        api.BadGateway,
        api.InternalServerError,
        api.RetryError,
    )


def patient() -> Any:  # noqa: ANN401 - a Retry of google-api-core
    """Return the retry of a request that only reads: it is repeated for two minutes."""
    from google.api_core.exceptions import TooManyRequests
    from google.api_core.retry import Retry, if_exception_type

    repeated = if_exception_type(*lost_answers(), TooManyRequests)
    return Retry(predicate=repeated, initial=0.5, maximum=15.0, timeout=_PATIENCE_S)
