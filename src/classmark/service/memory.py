"""Memory that all processes of a service share, without a name in any folder.

A full disk or a removed temporary folder cannot take it away, and the system frees it when the last
process has ended.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

from classmark.errors import OutOfMemory

CONNECTIONS, BEATS, SERIES = "connections", "beats", "series"
RATES, REFUSALS = "rates", "refusals"
"""Of requests, and of those that came without a valid API key."""
_LINE_BYTES = 64
"""Parts begin on cache lines of their own, so that processes do not slow each other down."""


class TreeMemory:
    """One block of memory in named parts, zeros at first."""

    def __init__(self, sizes: Mapping[str, int], *, is_inherited: bool = True) -> None:
        """Allocate it.

        Args:
            sizes: of the parts, in bytes.
            is_inherited: workers are forked; else they are spawned, and get it as an argument.

        Raises:
            OutOfMemory: there is not enough memory.
        """
        self._sizes = {name: -(-size // _LINE_BYTES) * _LINE_BYTES for name, size in sizes.items()}
        total = sum(self._sizes.values())
        self._shared: SharedMemory | None = None
        try:
            if not is_inherited:
                self._shared = SharedMemory(create=True, size=total)
            self._map(mmap.mmap(-1, total) if is_inherited else None)
        except OSError as error:
            raise OutOfMemory(
                f"the workers cannot share {total:,} bytes of memory ({error.strerror}). "
                "Free some memory, or serve with fewer --workers."
            ) from error
        self._is_owner = True

    def __getitem__(self, part: str) -> memoryview:
        """Return a part."""
        return self._parts[part]

    def close(self) -> None:
        """Let go of it; no part may be used after that."""
        for view in (*self._parts.values(), self._block):
            view.release()
        if self._shared is not None:
            with suppress(BufferError):  # somebody still looks at a part
                self._shared.close()
            if self._is_owner:
                self._shared.unlink()

    def __getstate__(self) -> tuple[dict[str, int], SharedMemory | None]:
        """Return what a spawned worker needs to find it."""
        return self._sizes, self._shared

    def __setstate__(self, state: tuple[dict[str, int], SharedMemory | None]) -> None:
        """Find it in a spawned worker."""
        self._sizes, self._shared = state
        self._is_owner = False
        self._map(None)

    def _map(self, inherited: mmap.mmap | None) -> None:
        buffer = inherited if self._shared is None else self._shared.buf
        if buffer is None:
            raise TypeError("memory that is inherited by a fork cannot be sent to a process")
        self._block = memoryview(buffer)
        self._parts: dict[str, memoryview] = {}
        start = 0
        for name, size in self._sizes.items():
            self._parts[name] = self._block[start : start + size]
            start += size


@dataclass(frozen=True)
class Place:
    """Where a worker stands among the others.

    Attributes:
        slot: its number, from 0.
        memory: shared with the others.
        started_at_s: when the whole service was started, in Unix time.
    """

    slot: int
    memory: TreeMemory
    started_at_s: float


def own_bytes(part: str) -> int:
    """Return how much of this process is resident, or data (what a limit on memory counts).

    Only Linux says so; elsewhere it is 0.
    """
    place = {"resident": 1, "data": 5}[part]
    try:
        pages = Path("/proc/self/statm").read_text("ascii").split()
    except FileNotFoundError:  # pragma: no cover - not on this system
        return 0
    return int(pages[place]) * mmap.PAGESIZE
