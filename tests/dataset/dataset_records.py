"""Good records to build datasets from, in the Kaggle layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Record = dict[str, Any]
WriteSource = Callable[..., Path]


def record(number: int, code: str = "cs.LG", **values: Any) -> Record:
    """One good record; its abstract is its own."""
    return {
        "id": f"1607.{number:05d}",
        "title": f"Title {number}",
        "summary": f"We study example number {number} in depth.",
        "category_code": code,
        "published_date": f"2016-07-{number % 28 + 1:02d}",
        "updated_date": f"2016-08-{number % 28 + 1:02d}",
        "authors": "['Ada Example', 'Bo Sample']",
        **values,
    }


def records(counts: Mapping[str, int]) -> list[Record]:
    """So many good records of each category."""
    codes = [code for code, count in counts.items() for _ in range(count)]
    return [record(number, code) for number, code in enumerate(codes, start=1)]
