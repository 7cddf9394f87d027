"""Progress that takes notes, for tests, and calls back where a test wants to interfere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


def _ignore(*_: Any) -> None:
    """Do nothing."""


@dataclass
class Recording:
    """What a command said of its progress; ``on_advance`` gets the number of calls so far."""

    steps: list[str] = field(default_factory=list)
    before: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    shares: list[float | None] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    on_step: Callable[[str], None] = _ignore
    on_advance: Callable[[int], None] = _ignore
    on_note: Callable[[str], None] = _ignore

    def step(self, text: str, *, done: int = 0, share: float = 0.0) -> None:
        self.steps.append(text)
        self.before.append(done)
        self.on_step(text)

    def advance(self, n: int, *, share: float | None = None) -> None:
        self.counts.append(n)
        self.shares.append(share)
        self.on_advance(len(self.counts))

    def note(self, text: str) -> None:
        self.notes.append(text)
        self.on_note(text)

    def warn(self, line: str) -> None:
        self.warnings.append(line)
