"""The threads of a worker, how much work waits for them, and whether more would be in time."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from classmark.errors import Overloaded
from classmark.service.requests.exchange import Exchange, deadline_exceeded

if TYPE_CHECKING:
    from classmark.service.metrics import Metrics

T = TypeVar("T")

PACE_DECAY = 0.9
"""Weight of earlier work in the pace, which is a running mean."""
MARGIN = 1.4
"""Factor on the expected wait, so that what is let in is ready in time."""
LONGEST_RETRY_S = 30
ITEM_BYTES = 64 << 10
"""Added to the bytes of an item: a thread takes this long to begin and end one."""
PAPER_BYTES = 1 << 10
"""Added to the bytes of a paper: most of its time does not depend on its length."""
_LOOKED_AT_BYTES = 256 << 10


def work_size(body: bytes, most_papers: int, before_each: bytes = b"{") -> int:
    """Return the size of the work on a JSON body, in units of about constant cost.

    By bytes alone, a batch of short papers, or one short text, would take a hundred times as long
    as the same size of long papers, and a client that sent many of them would make every batch
    look too late.

    Args:
        body: as it was sent; the number of its papers is estimated from its beginning.
        most_papers: maximum that are answered.
        before_each: what precedes each paper.
    """
    seen = body[:_LOOKED_AT_BYTES]
    n_papers = seen.count(before_each) * len(body) // max(1, len(seen))
    return ITEM_BYTES + PAPER_BYTES * min(n_papers, most_papers) + len(body)


class Backlog:
    """Work that waits or runs in one worker, measured in a unit of about constant cost.

    An answer that comes too late costs as much as one in time, so work that could not be ready by
    its deadline is refused before it begins. Threads may share a backlog.

    Attributes:
        waiting: items that have not begun.
        waiting_size, running_size: the sizes of what waits and of what runs, in the unit.
    """

    def __init__(self, noun: str, most_waiting: int, metrics: Metrics) -> None:
        """Begin with nothing to do.

        Args:
            noun: what waits, in the plural, for messages.
            most_waiting: items that may wait; more are refused.
            metrics: counts refusals.
        """
        self.waiting = self.waiting_size = self.running_size = 0
        self._noun = noun
        self._most_waiting = most_waiting
        self._metrics = metrics
        self._lock = threading.Lock()
        self._busy_s = self._done_size = 0.0
        self._busy_since_s = 0.0

    def expected_wait_s(self, size: int = 0) -> float:
        """Return how long everything that waits or runs takes, and ``size`` more after it."""
        pace_s = self._busy_s / self._done_size if self._done_size else 0.0
        return (self.waiting_size + self.running_size + size) * pace_s * MARGIN

    def check(self, remaining_s: float, size: int = 0) -> None:
        """Refuse work that would not be ready in time; costs microseconds.

        Nothing is refused while nothing waits or runs: otherwise a pace once measured far too slow
        would forever refuse the work that could correct it.

        Args:
            remaining_s: until the deadline.
            size: of the new work, if known.

        Raises:
            Overloaded: too much waits, or it would take longer than the time that is left.
        """
        ready_s = self.expected_wait_s(size)
        if self.waiting >= self._most_waiting:
            why = "and no more may"
        elif self.waiting_size + self.running_size and ready_s > remaining_s:
            why = f"and this one needs about {ready_s:.1f} s but has {remaining_s:.1f} s"
        else:
            return
        self._metrics.batch_refused()
        seconds = min(LONGEST_RETRY_S, max(1, round(self.expected_wait_s())))
        raise Overloaded(f"{self.waiting} {self._noun} wait, {why}", retry_after_s=seconds)

    def add(self, n: int, size: int) -> None:
        """Add items that wait."""
        with self._lock:
            self.waiting += n
            self.waiting_size += size

    def drop(self, n: int, size: int) -> None:
        """Remove items that waited: nobody wants them any more."""
        self.add(-n, -size)

    def begin(self, n: int, size: int) -> None:
        """Move items from waiting to running."""
        with self._lock:
            if not self.running_size:
                self._busy_since_s = time.monotonic()
            self.waiting -= n
            self.waiting_size -= size
            self.running_size += size

    def end(self, size: int, *, is_done: bool = True) -> None:
        """Remove items that ran, and learn the pace from them.

        If several run at once, each counts the time since the one before it was done. Items without
        a size teach nothing, and failed ones only that work is slower: what was refused, however
        large, took no time.
        """
        if not size:
            return
        with self._lock:
            now = time.monotonic()
            self.running_size -= size
            seconds = now - self._busy_since_s
            if is_done or seconds * self._done_size > size * self._busy_s:
                self.learn_pace(size, seconds)
            self._busy_since_s = now

    def learn_pace(self, size: int, seconds: float) -> None:
        """Take into account that work of a size took some seconds."""
        self._busy_s = PACE_DECAY * self._busy_s + seconds
        self._done_size = PACE_DECAY * self._done_size + size

    @contextmanager
    def running(self, size: int) -> Iterator[None]:
        """Run one item that waited, for the block."""
        self.begin(1, size)
        is_done = False
        try:
            yield
            is_done = True
        finally:
            self.end(size, is_done=is_done)


class Threads:
    """The threads of a worker: some for batches and long texts, and one for small reads.

    Attributes:
        backlog: the work that waits, in bytes of bodies.
    """

    def __init__(self, n_threads: int, most_waiting: int, metrics: Metrics) -> None:
        """Start them.

        Args:
            n_threads: for batches and long texts.
            most_waiting: pieces of work that may wait for them.
            metrics: counts refusals.

        Raises:
            OSError: the system has no thread left.
        """
        self.backlog = Backlog("batches and long texts", most_waiting, metrics)
        self._pool = started_pool(n_threads, "classmark")
        # Looking at an overloaded service must not wait behind what overloads it.
        self._reading_pool = started_pool(1, "classmark-reading")

    async def run(self, exchange: Exchange, work: Callable[[], T], size: int = 0) -> T:
        """Return the result of a function that runs in a thread.

        Args:
            exchange: with its deadline.
            work: the function; it is not called after the deadline.
            size: bytes of what it works on; 0 if that says nothing about how long it takes.

        Raises:
            Overloaded: it would not be ready in time.
            Problem: it was not.
        """
        self.backlog.check(exchange.remaining_s, size)

        def run() -> T:
            if exchange.remaining_s <= 0:
                self.backlog.drop(1, size)
                raise deadline_exceeded(exchange)
            with self.backlog.running(size):
                return work()

        self.backlog.add(1, size)
        future = self._pool.submit(run)
        future.add_done_callback(lambda f: self.backlog.drop(1, size) if f.cancelled() else None)
        return await exchange.wait_for(future)

    async def read(self, exchange: Exchange, read: Callable[[], T]) -> T:
        """Return the result of a function that reads something small for an operator.

        Raises:
            Problem: it was not ready in time.
        """
        return await exchange.wait_for(self._reading_pool.submit(read))

    def close(self) -> None:
        """Start nothing more; what still runs is past its deadline or cut off."""
        for pool in (self._pool, self._reading_pool):
            pool.shutdown(wait=False, cancel_futures=True)


def started_pool(n_threads: int, name: str) -> ThreadPoolExecutor:
    """Return a pool whose threads have all been started.

    A pool starts a thread when it first needs one. If the system has none left by then, the work
    stays in the queue of the pool, counted as waiting, and nothing ever takes it.

    Args:
        n_threads: of the pool.
        name: prefix of the names of the threads.

    Raises:
        OSError: the system has no thread left.
    """
    pool = ThreadPoolExecutor(n_threads, thread_name_prefix=name)
    are_all_there = threading.Event()
    try:
        for _ in range(n_threads):
            pool.submit(are_all_there.wait)
    except RuntimeError as error:
        pool.shutdown(wait=False, cancel_futures=True)
        raise OSError(errno.EAGAIN, "no thread can be started; raise ulimit -u") from error
    finally:
        are_all_there.set()
    return pool
