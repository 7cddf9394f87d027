from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from dataset_records import Record, WriteSource

from file_server import FileServer, serving


@pytest.fixture
def write_source(tmp_path: Path) -> WriteSource:
    """Write records as JSON lines and return the file."""

    def write(rows: Iterable[Record], name: str = "papers.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


@pytest.fixture
def server() -> Iterator[FileServer]:
    """Return a server of files on this computer."""
    with serving() as server:
        yield server
