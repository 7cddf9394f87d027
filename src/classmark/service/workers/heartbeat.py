"""How the supervisor learns that a worker is stuck: each beats, and one that stops is replaced."""

from __future__ import annotations

import struct
from collections.abc import Iterable

_BEATS = struct.Struct("I")
_LONGEST_TICK_S = 1.0
_TICKS_A_VERDICT = 4


class Heartbeats:
    """How often each worker has beaten, in memory that all of them share."""

    SLOT_BYTES = _BEATS.size

    def __init__(self, memory: memoryview) -> None:
        """Use memory with a count for each worker, zeros at first."""
        self._memory = memory

    def beat(self, slot: int) -> None:
        """Say that the event loop of a worker turns."""
        _BEATS.pack_into(self._memory, slot * _BEATS.size, (self.count(slot) + 1) % 2**32)

    def count(self, slot: int) -> int:
        """Return how often the workers of a slot have beaten."""
        return int(_BEATS.unpack_from(self._memory, slot * _BEATS.size)[0])


class Watch:
    """Tells which workers have been silent for too long.

    Attributes:
        tick_s: how often it wants to look.
    """

    def __init__(self, beats: Heartbeats, stuck_after_s: float) -> None:
        """Watch.

        Args:
            beats: of the workers.
            stuck_after_s: a worker that is silent as long is stuck.
        """
        self.tick_s = min(_LONGEST_TICK_S, stuck_after_s / _TICKS_A_VERDICT)
        self._beats = beats
        self._stuck_after_s = stuck_after_s
        self._looked_s = 0.0
        self._silent_s: dict[int, float] = {}
        self._counts: dict[int, int] = {}

    def stuck(self, slots: Iterable[int], now_s: float) -> list[int]:
        """Return those of the slots whose worker is stuck, each once for every time it is silent.

        Args:
            slots: whose workers should beat; others are forgotten.
            now_s: monotonic. Between two looks no more than two ticks count, because a machine or
                a process tree that was stopped goes on all at once.
        """
        passed_s = min(now_s - self._looked_s, 2 * self.tick_s)
        self._looked_s = now_s
        before_s, self._silent_s = self._silent_s, {}
        found = []
        for slot in slots:
            count = self._beats.count(slot)
            has_beaten = count != self._counts.get(slot)
            self._counts[slot] = count
            is_known = slot in before_s and not has_beaten
            silent_s = before_s[slot] + passed_s if is_known else 0.0
            if silent_s >= self._stuck_after_s:
                found.append(slot)
                silent_s = 0.0
            self._silent_s[slot] = silent_s
        return found
