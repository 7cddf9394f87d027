"""How the workers of a tree share one listening socket: each takes its turn.

The kernel wakes any worker for a new connection, and a quick one takes them all: of four
connections to two workers, one worker had four. So one with more than another lets it go first.
"""

from __future__ import annotations

import asyncio
import mmap
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_COUNT = struct.Struct("i")
_ABSENT = 2**31 - 1
STEP_BACK_S = 0.002
MAX_STEPS_BACK = 10
"""After 20 ms the other worker is taken to be stuck."""
FULL_PAUSE_S = 0.1
"""Between two attempts while the process has no file descriptor left."""

UNEVEN_FROM = 4
"""Fewer connections more than another worker has are no reason to end any."""


@dataclass(frozen=True)
class Place:
    """Where a worker stands among the others.

    Attributes:
        slot: its number, from 0.
        counts_file: of ``ConnectionCounts``.
        beats_file: of ``heartbeat.Heartbeats``.
        rate_file: of ``limits.make_rate_file``.
    """

    slot: int
    counts_file: Path
    beats_file: Path
    rate_file: Path


class ConnectionCounts:
    """How many connections each worker has open, in a file that all of them map."""

    def __init__(self, path: Path) -> None:
        """Map a file of ``create``."""
        with path.open("r+b") as file:
            self._table = mmap.mmap(file.fileno(), 0)

    @classmethod
    def create(cls, path: Path, n_workers: int) -> ConnectionCounts:
        """Write the file for a number of workers, none of them there yet."""
        path.write_bytes(_COUNT.pack(_ABSENT) * n_workers)
        return cls(path)

    def set(self, slot: int, count: int | None) -> None:
        """Say how many connections a worker has; None says that there is no worker."""
        value = _ABSENT if count is None else count
        _COUNT.pack_into(self._table, slot * _COUNT.size, value)

    def lowest(self) -> int:
        """Return the smallest number of any worker."""
        return int(min(count for (count,) in _COUNT.iter_unpack(self._table[:])))

    def close(self) -> None:
        """Unmap the file."""
        self._table.close()


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
        except OSError:
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
