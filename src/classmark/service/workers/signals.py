"""Signals to the processes of a service: stop (SIGTERM, SIGINT) and reload (SIGHUP).

SIGHUP has a second meaning: the terminal has gone. A service that was started from a terminal stops
then, in order. Under ``nohup``, and without a terminal, every SIGHUP reloads.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
RELOAD_SIGNALS = tuple(s for s in (getattr(signal, "SIGHUP", None),) if s)  # none on Windows
HANDLED = (*STOP_SIGNALS, *RELOAD_SIGNALS)


class Terminal:
    """The terminal that a service was started from, if its end is to end the service."""

    def __init__(self) -> None:
        """Look for one, before any handler is installed."""
        is_ignored = any(signal.getsignal(s) is signal.SIG_IGN for s in RELOAD_SIGNALS)  # nohup
        self._matters = not is_ignored and _has_terminal()

    def has_gone(self) -> bool:
        """Tell whether the terminal that matters is no longer there."""
        return self._matters and not _has_terminal()


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


@contextmanager
def held(signals: tuple[int, ...] = HANDLED) -> Iterator[None]:
    """Hold signals for the block; a process that is started in it begins with them held."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def wake_up_on_signals(handler: Callable[..., None]) -> Iterator[socket.socket]:
    """Yield a socket that becomes readable when a signal arrives."""
    wake, signalled = socket.socketpair()
    wake.setblocking(False)
    signalled.setblocking(False)
    before = {number: signal.signal(number, handler) for number in HANDLED}
    old = signal.set_wakeup_fd(signalled.fileno(), warn_on_full_buffer=False)
    mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, RELOAD_SIGNALS)
    try:
        yield wake
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.set_wakeup_fd(old)
        for number, handled in before.items():
            signal.signal(number, handled)
        wake.close()
        signalled.close()


def drain(wake: socket.socket) -> None:
    """Take what waits in the socket of ``wake_up_on_signals``."""
    try:
        wake.recv(4096)
    except BlockingIOError:
        return
