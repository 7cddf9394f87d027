"""Typed Python client of the HTTP API; needs httpx, and of classmark only what is published."""

try:
    import httpx as _httpx  # noqa: F401 - asked for here, so that its absence is said in words
except ImportError as error:
    raise ImportError(
        "classmark.client needs httpx, which is not installed. Run: pip install 'classmark[client]'"
    ) from error

from classmark.client.asynchronous import AsyncClient
from classmark.client.problems import (
    ClientError,
    DeadlineExceeded,
    ServiceBusy,
    ServiceProblem,
    ServiceUnreachable,
    UnexpectedAnswer,
)
from classmark.client.protocol import ClientConfig, Prediction
from classmark.client.synchronous import Client
from classmark.wire import (
    Answer,
    AuthorCategory,
    BadRecord,
    Category,
    Evidence,
    Feedback,
    FileAnswers,
    Latency,
    Level,
    Levels,
    ModelDetails,
    ModelRef,
    Ranked,
    RecordError,
    Reliability,
    Requests,
    Similar,
    Status,
    TextAlone,
)

__all__ = [
    "Answer",
    "AsyncClient",
    "AuthorCategory",
    "BadRecord",
    "Category",
    "Client",
    "ClientConfig",
    "ClientError",
    "DeadlineExceeded",
    "Evidence",
    "Feedback",
    "FileAnswers",
    "Latency",
    "Level",
    "Levels",
    "ModelDetails",
    "ModelRef",
    "Prediction",
    "Ranked",
    "RecordError",
    "Reliability",
    "Requests",
    "ServiceBusy",
    "ServiceProblem",
    "ServiceUnreachable",
    "Similar",
    "Status",
    "TextAlone",
    "UnexpectedAnswer",
]
