"""What is asked of Google again, and how long."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

_PATIENCE_S = _ANSWER_S = 120.0
_READS = ("get", "list", "aggregated_list")  # of Compute Engine
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


def patient_client(client: Any) -> Any:  # noqa: ANN401 - a client of Google's
    """Return a client whose methods that only read are repeated as ``patient`` says.

    What writes is not: after a lost answer nobody knows whether it has happened. It has two minutes
    to answer instead, where Google's default for a deployment is 15 s. All of it is safe to repeat
    by hand.
    """
    for name in dir(type(client)):
        method = getattr(client, name)
        if name.startswith("_") or not inspect.ismethod(method):
            continue
        if not {"retry", "timeout"} <= set(inspect.signature(method).parameters):
            continue
        is_read = name in _READS or name.startswith(("get_", "list_", "access_"))
        kept = {"retry": patient()} if is_read else {"timeout": _ANSWER_S}
        setattr(client, name, partial(method, **kept))
    return client
