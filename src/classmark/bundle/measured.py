"""``measured.json``: how each category fared on test papers, which decides no answer.

It is not in the manifest, so that a bundle can be measured again without becoming another one. It
has a digest of its own, so that a damaged file is noticed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from classmark.bundle.files import read_small
from classmark.errors import BundleCorrupt
from classmark.records import CategoryReport
from classmark.wire import Reliability

MEASURED_FILE = "measured.json"
_DIGITS = 3


def render_measured(categories: Iterable[CategoryReport]) -> str:
    """Return the content of ``measured.json``.

    For each category: how many test papers it has, for how many it was ranked first, and how many
    of these were right.
    """
    return _render(
        {c.code: {"papers": c.n, "first": c.predicted, "right": c.right} for c in categories}
    )


def read_measured(folder: Path) -> dict[str, Reliability]:
    """Return how reliable each measured category is; empty if the bundle was not measured.

    Raises:
        BundleCorrupt: the file has changed since it was written, or cannot be read.
    """
    path = folder / MEASURED_FILE
    try:
        content = read_small(path)
    except FileNotFoundError:
        return {}
    try:
        categories = json.loads(content)["categories"]
        found = {code: _reliability(**counts) for code, counts in categories.items()}
        is_unchanged = content == _render(categories).encode()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _changed(path) from error
    if not is_unchanged:
        raise _changed(path)
    return found


def rarely_right(labels: Iterable[str], reliability: Mapping[str, Reliability]) -> list[str]:
    """Return the labels that were measured, and not once right when they came first."""
    return [
        label for label in labels if label in reliability and reliability[label].is_rarely_right
    ]


def _reliability(papers: int, first: int, right: int) -> Reliability:
    if not 0 <= right <= min(papers, first):
        raise ValueError(f"{right} right of {first} ranked first, with {papers} papers")
    return Reliability(round(right / first, _DIGITS) if first else None, first)


def _render(categories: dict[str, Any]) -> str:
    canonical = json.dumps(categories, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    value = {"categories": categories, "digest": sha256(canonical.encode()).hexdigest()}
    return json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False) + "\n"


def _changed(path: Path) -> BundleCorrupt:
    return BundleCorrupt(
        f"{path} has changed since it was written. Delete it to get answers without "
        "reliability, or install or export the model again."
    )
