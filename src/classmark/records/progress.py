"""How far a long command is: the one protocol through which a room says so."""

from __future__ import annotations

import sys
from typing import Protocol


class Progress(Protocol):
    """Shows how far a long command is.

    A call costs microseconds, so a loop may call it for every batch.
    """

    def step(self, text: str, *, done: int = 0, share: float = 0.0) -> None:
        """Begin a step and count from 0.

        Args:
            text: what is being done, e.g. ``reading papers.csv``.
            done: items that an earlier run of the same step finished.
            share: share of the step that it finished, 0..1.
        """
        ...

    def advance(self, n: int, *, share: float | None = None) -> None:
        """Count n more items of the step.

        Args:
            n: papers, records or bytes.
            share: share of the step that is done now, 0..1; None if it is unknown.
        """
        ...

    def note(self, text: str) -> None:
        """Describe how far the step is in words, instead of by a count."""
        ...

    def warn(self, line: str) -> None:
        """Show a line that stays: something went wrong, and the work continues."""
        ...


class Silent:
    """Shows no progress; a warning is a line on stderr."""

    def step(self, text: str, *, done: int = 0, share: float = 0.0) -> None:
        """Do nothing."""

    def advance(self, n: int, *, share: float | None = None) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""

    def warn(self, line: str) -> None:
        """Write the line to stderr."""
        print(line, file=sys.stderr, flush=True)  # noqa: T201


SILENT: Progress = Silent()
