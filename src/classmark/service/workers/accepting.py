"""How the workers of a tree share one listening socket: each takes its turn.

The kernel wakes any worker for a new connection, and a quick one takes them all: of four
connections to two workers, one worker had four. So one with more than another lets it go first.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from classmark.errors import ListenFailed
from classmark.service.logs import log, log_rarely

if TYPE_CHECKING:
    from classmark.service.settings import ServiceSettings

_COUNT = struct.Struct("i")
_ABSENT = 2**31 - 1
STEP_BACK_S = 0.002
MAX_STEPS_BACK = 10
"""After 20 ms the other worker is taken to be stuck."""
FULL_PAUSE_S = 0.1
"""Between two attempts while the process has no file descriptor left."""

OTHER_DESCRIPTORS = 64
"""Of a worker, for the model, the journal, the log, and each connection that is being refused."""
UNEVEN_FROM = 4
"""Fewer connections more than another worker has are no reason to end any."""


class ConnectionCounts:
    """How many connections each worker has open, in memory that all of them share."""

    SLOT_BYTES = _COUNT.size

    def __init__(self, memory: memoryview) -> None:
        """Use memory with a count for each worker: zeros, which say that there is no worker."""
        self._memory = memory

    def set(self, slot: int, count: int | None) -> None:
        """Say how many connections a worker has; None says that there is no worker."""
        # One more than there are, so that memory is right as it comes.
        _COUNT.pack_into(self._memory, slot * _COUNT.size, 0 if count is None else count + 1)

    def lowest(self) -> int:
        """Return the smallest number of any worker."""
        counts = [count - 1 for (count,) in _COUNT.iter_unpack(self._memory) if count]
        return min(counts, default=_ABSENT)


def surplus(count: int, lowest: int) -> int:
    """Return how many connections a worker should end so that their clients reach another.

    Clients keep their connections, so one that was busy while another died would stay so for good.
    """
    more = count - lowest
    return more // 2 if more >= UNEVEN_FROM else 0


class Acceptor:
    """Takes connections for one worker, when it is its turn; looks to uvicorn like a server."""

    def __init__(
        self,
        listener: socket.socket,
        make_protocol: Callable[[], asyncio.Protocol],
        count: Callable[[], int],
        lowest: Callable[[], int],
    ) -> None:
        """Begin to accept.

        Args:
            listener: a listening socket, shared with other workers.
            make_protocol: makes the protocol of a connection.
            count: connections that this worker has.
            lowest: connections of the worker that has fewest.
        """
        self._listener = listener
        self._make_protocol = make_protocol
        self._count = count
        self._lowest = lowest
        self._steps_back = 0
        self._is_closed = False
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[object]] = set()
        listener.setblocking(False)
        self._resume()

    def close(self) -> None:
        """Accept no more."""
        self._is_closed = True
        self._loop.remove_reader(self._listener.fileno())

    async def wait_closed(self) -> None:
        """Wait until what was accepted has its protocol."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _resume(self) -> None:
        if not self._is_closed:
            self._loop.add_reader(self._listener.fileno(), self._accept)

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener.fileno())
        self._loop.call_later(seconds, self._resume)

    def _accept(self) -> None:
        if self._count() > self._lowest() and self._steps_back < MAX_STEPS_BACK:
            self._steps_back += 1
            self._pause(STEP_BACK_S)
            return
        self._steps_back = 0
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            _log_refusal(error)
            self._pause(FULL_PAUSE_S)
            return
        connection.setblocking(False)
        with suppress(OSError):  # the client is gone already
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = self._loop.create_task(self._attach(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _attach(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._make_protocol, connection)
        except OSError:
            connection.close()


def _log_refusal(error: OSError) -> None:
    """Say why no connection can be accepted, and what to do."""
    advice = "clients wait; see the error"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        advice = (
            "clients wait until others leave; raise the limit of open files (LimitNOFILE in "
            "systemd, ulimit -n), or lower CLASSMARK_SERVE_MAX_CONNECTIONS"
        )
    log_rarely("cannot accept", logging.ERROR, detail=error.strerror, advice=advice)


def fit_descriptors(settings: ServiceSettings, n_workers: int) -> ServiceSettings:
    """Make room for every connection that a worker may have, or let it have fewer.

    A worker without a file descriptor left can neither refuse a connection nor write its journal.

    Raises:
        ListenFailed: there is no room for a single connection.
    """
    import resource  # Windows has none

    others = OTHER_DESCRIPTORS + n_workers
    needed = settings.max_connections + others
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _raised(soft, hard, needed)
    if limit >= needed:
        return settings
    advice = "Raise it (LimitNOFILE in systemd, ulimit -n)"
    if limit <= others:
        raise ListenFailed(
            f"the limit of open files is {limit}; a worker needs {others} before its first "
            f"connection. {advice}."
        )
    log(
        "few file descriptors",
        logging.WARNING,
        limit=limit,
        needed=needed,
        max_connections=limit - others,
        advice=f"{advice}, or lower CLASSMARK_SERVE_MAX_CONNECTIONS ({settings.max_connections}).",
    )
    return settings.model_copy(update={"max_connections": limit - others})


def _raised(soft: int, hard: int, needed: int) -> int:
    """Raise the limit of open files as far as it is needed and allowed, and return it."""
    import resource

    infinite = resource.RLIM_INFINITY
    if soft == infinite or soft >= needed:
        return needed
    wanted = needed if hard == infinite else min(needed, hard)
    with suppress(ValueError, OSError):  # macOS has a limit of its own below the hard one
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
