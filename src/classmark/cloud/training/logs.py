"""The lines that a job has written, from Cloud Logging: each one once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from classmark.cloud.google import Google, google_errors

ROLE = "roles/logging.viewer"
_LATE = timedelta(seconds=60)
"""How much later than its timestamp a line may arrive and still be shown."""
_PAGE = 1000
_CALL_S = 60.0


class LogTail:
    """Reads what is new in a log.

    Args:
        google: clients.
        wanted: filter of Cloud Logging.
        since: RFC 3339; what was written earlier is not of the job.
    """

    def __init__(self, google: Google, wanted: str, since: str) -> None:
        self._google = google
        self._wanted = wanted
        self._since = since
        self._seen: dict[str, datetime] = {}

    def new_lines(self) -> Iterator[str]:
        """Yield the lines that came since the last call, in order of their time.

        A minute before the newest line is read again each time, because lines arrive late; what was
        shown already is known by its ID.

        Raises:
            CloudRefused: the role to read logs is missing.
            CloudFailed: Cloud Logging does not answer for two minutes.
        """
        with google_errors("reading the log", role=ROLE):
            found = list(self._ask())
        for entry in found:
            if entry.insert_id not in self._seen:
                self._seen[entry.insert_id] = entry.timestamp
                yield from _text_of(entry).splitlines()
        if found:
            newest = max(self._seen.values())
            self._seen = {i: at for i, at in self._seen.items() if at >= newest - 2 * _LATE}
            self._since = (newest - _LATE).isoformat()

    @cached_property
    def _client(self) -> Any:  # noqa: ANN401 - a client of Google's
        from google.cloud.logging_v2.services.logging_service_v2 import LoggingServiceV2Client

        return self._google.client(LoggingServiceV2Client)

    def _ask(self) -> Any:  # noqa: ANN401 - a pager of Google's
        since = f' AND timestamp>="{self._since}"' if self._since else ""
        return self._client.list_log_entries(
            request={
                "resource_names": [f"projects/{self._google.environment.project}"],
                "filter": self._wanted + since,
                "order_by": "timestamp asc",
                "page_size": _PAGE,
            },
            timeout=_CALL_S,
        )


def _text_of(entry: Any) -> str:  # noqa: ANN401 - a message of Google's
    if entry.text_payload:
        return str(entry.text_payload)
    payload = dict(entry.json_payload) if entry.json_payload else {}
    return str(payload.get("message", payload or ""))
