"""Good records to build datasets from, in the Kaggle layout."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

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


@pytest.fixture
def write_source(tmp_path: Path) -> WriteSource:
    """Write records as JSON lines and return the file."""

    def write(rows: Iterable[Record], name: str = "papers.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write
