"""Memory that all processes of a service share, without a file name.

A full disk or a removed temporary folder cannot take it away, and the system frees it when the last
process has ended. What a worker counts is kept in the part of its slot, so that its successor
continues where it ended.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from threading import Lock

from classmark.errors import OutOfMemory

CONNECTIONS, BEATS, SERIES = "connections", "beats", "series"
RATES, REFUSALS = "rates", "refusals"
"""Rates of requests, and of requests without a valid API key."""
_LINE_BYTES = 64
"""Parts begin on their own cache lines, so that processes do not slow each other down."""

_BEATS = struct.Struct("I")
_COUNT = struct.Struct("i")
_ABSENT = 2**31 - 1

OTHER = "other"
MAX_SERIES = 4096
NAME_BYTES = 128
_RESERVED = 256
"""This many series are reserved for those whose labels are all ``OTHER``."""
_COUNT_BYTES, _VALUE_BYTES, _CHECK_BYTES = 8, 8, 4


class TreeMemory:
    """One block of memory in named parts, initially zeros."""

    def __init__(self, sizes: Mapping[str, int], *, is_inherited: bool = True) -> None:
        """Allocate it.

        Args:
            sizes: of the parts, in bytes.
            is_inherited: workers are forked; otherwise they are spawned and get it as an argument.

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
        """Release it; no part may be used after that."""
        for view in (*self._parts.values(), self._block):
            view.release()
        if self._shared is not None:
            with suppress(BufferError):  # a part is still in use
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
    """The place of a worker among the others.

    Attributes:
        slot: its number, from 0.
        memory: shared with the others.
        started_at_s: when the whole service was started, in Unix time.
    """

    slot: int
    memory: TreeMemory
    started_at_s: float


class Heartbeats:
    """How often the event loop of each worker has turned."""

    SLOT_BYTES = _BEATS.size

    def __init__(self, memory: memoryview) -> None:
        """Use memory with a count for each worker, initially zeros."""
        self._memory = memory

    def beat(self, slot: int) -> None:
        """Count a turn of the event loop of a worker."""
        _BEATS.pack_into(self._memory, slot * _BEATS.size, (self.count(slot) + 1) % 2**32)

    def count(self, slot: int) -> int:
        """Return how often the workers of a slot have beaten."""
        return int(_BEATS.unpack_from(self._memory, slot * _BEATS.size)[0])


class ConnectionCounts:
    """How many connections each worker has open."""

    SLOT_BYTES = _COUNT.size

    def __init__(self, memory: memoryview) -> None:
        """Use memory with a count for each worker; zero means that there is no worker."""
        self._memory = memory

    def set(self, slot: int, count: int | None) -> None:
        """Set how many connections a worker has; None means that there is no worker."""
        # One more than there are, so that new memory is valid.
        _COUNT.pack_into(self._memory, slot * _COUNT.size, 0 if count is None else count + 1)

    def lowest(self) -> int:
        """Return the smallest number of connections of any worker."""
        counts = [count - 1 for (count,) in _COUNT.iter_unpack(self._memory) if count]
        return min(counts, default=_ABSENT)


Key = tuple[str, ...]
"""Name of the sample, upper edge of the bucket ("" if it has none), values of the labels."""


class Series:
    """The numbers that the workers of one slot count. One process writes; all may read.

    No counter falls: the successor of a worker continues its series. A worker that is killed at any
    moment leaves valid numbers: a value is eight bytes, which are written at once, and a series
    counts only when its whole name is there.
    """

    SLOT_BYTES = _COUNT_BYTES + MAX_SERIES * (_VALUE_BYTES + NAME_BYTES)

    def __init__(self, memory: memoryview, slot: int) -> None:
        """Find the series that the slot has already.

        Args:
            memory: of all slots.
            slot: number of the worker.
        """
        own = memory[slot * self.SLOT_BYTES : (slot + 1) * self.SLOT_BYTES]
        names = _COUNT_BYTES + MAX_SERIES * _VALUE_BYTES
        self._count = own[:_COUNT_BYTES].cast("Q")
        self._values = own[_COUNT_BYTES:names].cast("d")
        self._names = own[names:]
        self._lock = Lock()
        self._index: dict[Key, int] = {}

    def add(self, key: Key, n: float = 1) -> None:
        """Add to a series."""
        with self._lock:
            self._values[self._find(key)] += n

    def set(self, key: Key, value: float) -> None:
        """Replace the value of a series."""
        with self._lock:
            self._values[self._find(key)] = value

    def clear(self, names: Iterable[str]) -> None:
        """Set every series of some names to 0."""
        with self._lock:
            self._learn()
            for key, index in self._index.items():
                if key[0] in names:
                    self._values[index] = 0.0

    def items(self) -> Iterator[tuple[Key, float]]:
        """Yield every series with its value."""
        with self._lock:
            self._learn()
            found = [(key, self._values[index]) for key, index in self._index.items()]
        yield from found

    def close(self) -> None:
        """Release the memory, which cannot be freed before that."""
        for view in (self._count, self._values, self._names):
            view.release()

    def _find(self, key: Key) -> int:
        """Return the index of a series, which is made if needed; one too many is ``OTHER``."""
        index = self._index.get(key)
        if index is not None:
            return index
        self._learn()
        name = "\t".join(key).encode()
        has_room = self._count[0] < MAX_SERIES - _RESERVED
        if not has_room or len(name) > NAME_BYTES - _CHECK_BYTES:
            key = (*key[:2], *(OTHER for _ in key[2:]))
            name = "\t".join(key).encode()
        if key not in self._index:
            self._append(key, name)
        return self._index[key]

    def _append(self, key: Key, name: bytes) -> None:
        index = self._count[0]
        start = index * NAME_BYTES
        text = name.ljust(NAME_BYTES - _CHECK_BYTES, b"\0")
        self._names[start : start + NAME_BYTES] = _checksum(text) + text
        self._count[0] = index + 1
        self._index[key] = index

    def _learn(self) -> None:
        """Read the names that were added since the last time."""
        for index in range(len(self._index), self._count[0]):
            name = bytes(self._names[index * NAME_BYTES : (index + 1) * NAME_BYTES])
            text = name[_CHECK_BYTES:]
            if name[:_CHECK_BYTES] != _checksum(text):  # another processor does not see all of it
                return
            self._index[tuple(text.rstrip(b"\0").decode().split("\t"))] = index


def _checksum(text: bytes) -> bytes:
    return zlib.crc32(text).to_bytes(_CHECK_BYTES, "big")


def own_bytes(part: str) -> int:
    """Return how much memory of this process is ``resident``, or ``data`` (which a limit counts).

    Only Linux reports this; elsewhere it is 0.
    """
    place = {"resident": 1, "data": 5}[part]
    try:
        pages = Path("/proc/self/statm").read_text("ascii").split()
    except FileNotFoundError:  # pragma: no cover - not on this system
        return 0
    return int(pages[place]) * mmap.PAGESIZE
