from __future__ import annotations

from collections.abc import Iterator

import pytest

from dataset_records import write_source
from file_server import FileServer, serving

__all__ = ["write_source"]


@pytest.fixture
def server() -> Iterator[FileServer]:
    """Return a server of files on this computer."""
    with serving() as server:
        yield server
