"""Ctrl-C: the first one ends the command, impatient ones after it do not disturb the cleaning."""

from __future__ import annotations

import signal
import time
from types import FrameType

INTERRUPTED = 130
INTERRUPTED_LINE = "interrupted: nothing is left half-written."
CLEANING_SECONDS = 5.0


class FirstInterrupt:
    """A handler of SIGINT that raises once, and again only when the cleaning takes too long."""

    def __init__(self) -> None:
        self._raised_at: float | None = None

    @property
    def raised(self) -> bool:
        """Whether the user pressed Ctrl-C."""
        return self._raised_at is not None

    def __call__(self, _signum: int, _frame: FrameType | None) -> None:
        """Raise, unless it was just raised.

        Raises:
            KeyboardInterrupt: the command shall end.
        """
        now = time.monotonic()
        if self._raised_at is not None and now - self._raised_at < CLEANING_SECONDS:
            return
        self._raised_at = now
        raise KeyboardInterrupt


def handle_first_interrupt() -> None:
    """Replace Python's own handler; a process that ignores SIGINT (nohup) still does."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, FirstInterrupt())


def ignore_interrupts() -> None:
    """Ignore Ctrl-C while the process ends, where ``handle_first_interrupt`` had been called."""
    if isinstance(signal.getsignal(signal.SIGINT), FirstInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def was_pressed() -> bool:
    """Return whether the handler has raised: who called it may have made another error of it.

    A library in another language that calls Python and cannot pass KeyboardInterrupt on raises one
    of its own, which need not be an ``Exception``.
    """
    handler = signal.getsignal(signal.SIGINT)
    return isinstance(handler, FirstInterrupt) and handler.raised
