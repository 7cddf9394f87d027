"""Numbers that a worker counts, in a part of the shared memory that every worker reads.

The part belongs to the worker's slot: its successor goes on where it ended, so that no counter
falls. A worker that is killed at any moment leaves whole numbers behind: a value is eight bytes,
which are written at once, and a series counts only when its whole name is there.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from threading import Lock

Key = tuple[str, ...]
"""Name of the sample, upper edge of the bucket ("" if it has none), values of the labels."""

OTHER = "other"
MAX_SERIES = 4096
NAME_BYTES = 128
_RESERVED = 256
"""So many series are kept free for those whose labels are all ``OTHER``."""
_COUNT_BYTES, _VALUE_BYTES, _CHECK_BYTES = 8, 8, 4
SLOT_BYTES = _COUNT_BYTES + MAX_SERIES * (_VALUE_BYTES + NAME_BYTES)


class Series:
    """The series of one slot. One process writes, from any thread; all may read."""

    def __init__(self, memory: memoryview, slot: int) -> None:
        """Find those that the slot has already.

        Args:
            memory: of all slots.
            slot: number of the worker.
        """
        own = memory[slot * SLOT_BYTES : (slot + 1) * SLOT_BYTES]
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
        """Let go of the memory, which cannot be freed before that."""
        for view in (self._count, self._values, self._names):
            view.release()

    def _find(self, key: Key) -> int:
        """Return where a series is, a new one if need be; one too many counts as ``OTHER``."""
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
        self._names[start : start + NAME_BYTES] = _check(text) + text
        self._count[0] = index + 1
        self._index[key] = index

    def _learn(self) -> None:
        """Read the names that have come since the last time."""
        for index in range(len(self._index), self._count[0]):
            name = bytes(self._names[index * NAME_BYTES : (index + 1) * NAME_BYTES])
            text = name[_CHECK_BYTES:]
            if name[:_CHECK_BYTES] != _check(text):  # another processor has not seen all of it yet
                return
            self._index[tuple(text.rstrip(b"\0").decode().split("\t"))] = index


def _check(text: bytes) -> bytes:
    return zlib.crc32(text).to_bytes(_CHECK_BYTES, "big")
