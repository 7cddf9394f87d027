"""Examples of the OpenAPI document."""

from __future__ import annotations

from typing import Any

from classmark.runtime.labels import Labels

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
PREDICTION_ID = "01jd3q8m4k7v2x9c5z0b6n1t4w"
FEEDBACK: dict[str, Any] = {
    "summary": "The paper belongs elsewhere",
    "value": {
        "prediction_id": PREDICTION_ID,
        "category": "math.CO",
        "comment": "The method is borrowed, the subject is not.",
    },
}
FILE: dict[str, Any] = {
    "summary": "A table with two papers",
    "value": {"file": f"id,title,abstract\n1,{_TITLE},{_ABSTRACT}\n2,Branes,We study dualities.\n"},
}
INFER: dict[str, Any] = {
    "summary": "Two papers",
    "value": {
        "id": "42",
        "parameters": {"top": 3},
        "inputs": [
            {
                "name": "title",
                "shape": [2],
                "datatype": "BYTES",
                "data": [_TITLE, "Dualities of branes"],
            },
            {
                "name": "abstract",
                "shape": [2],
                "datatype": "BYTES",
                "data": [_ABSTRACT, "We study dualities of branes in string theory."],
            },
        ],
        "outputs": [{"name": "code"}, {"name": "probability"}],
    },
}


def with_known_label(example: dict[str, Any], labels: Labels) -> dict[str, Any]:
    """Return an example that names a category of the model, where its labels are not arXiv's."""
    if labels.space == "arxiv":
        return example
    value = example["value"]
    own = {key: labels.codes[0] for key in ("author_category", "category") if key in value}
    return {**example, "value": {**value, **own}}
