"""Events, and journals that are closed at the end of a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from classmark.journal import Journal, JournalConfig


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a journal goes; its folder does not exist yet."""
    return tmp_path / "journal" / "journal.sqlite"


@pytest.fixture
def open_journal(path: Path) -> Iterator[Callable[..., Journal]]:
    """Return a function that opens a journal at ``path``."""
    journals: list[Journal] = []

    def make(**options: Any) -> Journal:
        journals.append(Journal(JournalConfig(**{"path": path, "flush_window_ms": 20, **options})))
        return journals[-1]

    yield make
    for journal in journals:
        journal.close(0.5)  # a journal that cannot write would use all the time it is given
