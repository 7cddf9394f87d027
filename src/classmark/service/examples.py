"""Examples of the OpenAPI document."""

from __future__ import annotations

from typing import Any

_TITLE = "Spectral gaps of random regular graphs"
_ABSTRACT = (
    "We bound the second eigenvalue of the adjacency matrix of random $d$-regular graphs by a "
    "trace method."
)

PAPER: dict[str, Any] = {
    "summary": "One paper",
    "value": {
        "id": "2401.00001",
        "title": _TITLE,
        "abstract": _ABSTRACT,
        "author_category": "math.CO",
        "top": 3,
    },
}
BATCH: dict[str, Any] = {
    "summary": "A batch",
    "value": {
        "papers": [
            {"id": "2401.00001", "title": _TITLE, "abstract": _ABSTRACT},
            {"id": "note", "text": "A string theory note\nWe study dualities of branes."},
        ],
        "top": 3,
    },
}
