"""A bucket for the tests of a file, with nothing in it for each test."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

__all__ = ["bucket", "needs_bucket"]
needs_bucket = pytest.mark.skipif(
    find_spec("gcp_storage_emulator") is None or find_spec("google.cloud.storage") is None,
    reason="needs the extra gcp and gcp-storage-emulator",
)


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Yield a server of buckets, which this process and its children use; the cache is new too."""
    from bucket_server import BucketServer

    with BucketServer().running() as server:
        for name, value in server.variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("CLASSMARK_HOME", str(tmp_path / "home"))
        yield server
