"""How much work waits, how fast it gets done, and so whether more of it would be ready in time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from classmark.service.metrics import Metrics
from classmark.service.problems import Problem

PACE_DECAY = 0.9
"""What earlier work counts for against the newest when the pace is taken: a running mean."""
MARGIN = 1.4
"""The expected wait is lengthened by this, so that what is let in is ready in time."""
LONGEST_RETRY_S = 30
ITEM_BYTES = 64 << 10
"""What an item counts beside its bytes: a thread takes as long to begin and to end one."""
PAPER_BYTES = 1 << 10
"""What a paper counts beside its bytes: most of its time does not depend on its length."""
_LOOKED_AT_BYTES = 256 << 10


def work_size(body: bytes, most_papers: int, before_each: bytes = b"{") -> int:
    """Return the size of the work on a JSON body, so that its cost is about constant.

    By its bytes alone a batch of short papers, or one short text, would take a hundred times as
    long as the same size of long papers, and whoever sent many of them would let all batches
    be expected too late.

    Args:
        body: as it was sent; how many papers it holds is taken from its beginning.
        most_papers: that are answered.
        before_each: what stands before each paper.
    """
    seen = body[:_LOOKED_AT_BYTES]
    n_papers = seen.count(before_each) * len(body) // max(1, len(seen))
    return ITEM_BYTES + PAPER_BYTES * min(n_papers, most_papers) + len(body)


class Backlog:
    """Work that waits or runs in one worker, measured in a unit whose cost is about constant.

    An answer that comes too late has cost as much as one in time, so what could not be ready by its
    deadline is refused before anything is done for it. May be shared by threads.

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
        self._lock = Lock()
        self._busy_s = self._done_size = 0.0
        self._busy_since_s = 0.0

    def expected_wait_s(self, size: int = 0) -> float:
        """Return how long everything that is there takes, and ``size`` more after it."""
        pace_s = self._busy_s / self._done_size if self._done_size else 0.0
        return (self.waiting_size + self.running_size + size) * pace_s * MARGIN

    def check(self, remaining_s: float, size: int = 0) -> None:
        """Refuse what would not be ready in time; costs microseconds.

        Where nothing waits or runs, nothing is refused: otherwise a pace once measured far too slow
        would refuse for good what could correct it.

        Args:
            remaining_s: until the deadline.
            size: of what comes, if it is known.

        Raises:
            Problem: too much waits, or it would take longer than the time that is left.
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
        raise Problem(
            "overloaded",
            f"{self.waiting} {self._noun} wait, {why}. Try again in {seconds} s.",
            retry_after_s=seconds,
        )

    def add(self, n: int, size: int) -> None:
        """Let so many items wait."""
        with self._lock:
            self.waiting += n
            self.waiting_size += size

    def drop(self, n: int, size: int) -> None:
        """Forget items that waited: nobody wants them any more."""
        self.add(-n, -size)

    def begin(self, n: int, size: int) -> None:
        """Move items from what waits to what runs."""
        with self._lock:
            if not self.running_size:
                self._busy_since_s = time.monotonic()
            self.waiting -= n
            self.waiting_size -= size
            self.running_size += size

    def end(self, size: int, *, is_done: bool = True) -> None:
        """Take items out of what runs, and learn the pace from them.

        Of several that run at once each counts the time since the one before it was done. Items
        without a size teach nothing, and those that failed only that work is slower: what was
        refused, however large it is, took no time.
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
        """Take into account that work of a size took so long."""
        self._busy_s = PACE_DECAY * self._busy_s + seconds
        self._done_size = PACE_DECAY * self._done_size + size

    @contextmanager
    def running(self, size: int) -> Iterator[None]:
        """Let one item that waited run for the block."""
        self.begin(1, size)
        is_done = False
        try:
            yield
            is_done = True
        finally:
            self.end(size, is_done=is_done)
