"""Time, CPU time and highest resident memory of a command's processes, and of its steps."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from classmark.records import Progress
from classmark.records.experiments import ProcessCost, StepCost

if TYPE_CHECKING:
    import psutil

_LOOK_S = 0.02
_LOOKS_A_CENSUS = 25
_MB = 1e6


class Meter:
    """Looks at a process and its children some fifty times a second, in a thread.

    Args:
        root: process id.
        left_out: name of a program whose processes do not count.
        itself: whether the process itself counts, not its children alone.
    """

    def __init__(self, root: int, *, left_out: str, itself: bool = True) -> None:
        import psutil

        self._root, self._left_out, self._itself = psutil.Process(root), left_out, itself
        self._before_s = _cpu_s(self._root)
        self._seen: dict[int, psutil.Process] = {}
        self._cpu_s: dict[int, float] = {}
        self._peak: dict[int, float] = {}
        self._steps: list[StepCost] = []
        self._step = ("", time.monotonic(), self._before_s)
        self._step_peak = 0.0
        self._started = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="meter", daemon=True)
        self._count_processes()
        self._thread.start()

    def stop(self) -> None:
        """End the last step, and look no more."""
        self.begin_step("")
        self._count_processes()
        self._look()
        self._stop.set()
        self._thread.join()

    @property
    def seconds(self) -> float:
        """Return the time since the start."""
        return round(time.monotonic() - self._started, 2)

    @property
    def steps(self) -> tuple[StepCost, ...]:
        """Return the steps that have ended."""
        return tuple(self._steps)

    @property
    def processes(self) -> tuple[ProcessCost, ...]:
        """Return the processes in the order in which they were seen, the first one first."""
        return tuple(
            ProcessCost(
                name=f"process {number}",
                cpu_seconds=round(self._cpu_s[pid], 2),
                peak_mb=round(self._peak[pid] / _MB, 1),
            )
            for number, pid in enumerate(self._seen, start=1)
        )

    def begin_step(self, name: str) -> None:
        """End the step that is on, and begin another one."""
        before, started, cpu_s = self._step
        now, cpu_now_s = time.monotonic(), _cpu_s(self._root)
        self._look()
        if before:
            cost = StepCost(
                name=before,
                seconds=round(now - started, 2),
                cpu_seconds=round(cpu_now_s - cpu_s, 2),
                peak_mb=round(self._step_peak / _MB, 1),
            )
            self._steps.append(cost)
        self._step, self._step_peak = (name, now, cpu_now_s), 0.0

    def _watch(self) -> None:
        looks = 0
        while not self._stop.wait(_LOOK_S):
            looks += 1
            if looks % _LOOKS_A_CENSUS == 0:
                self._count_processes()
            self._look()

    def _look(self) -> None:
        for pid in list(self._seen):
            self._look_at(pid)

    def _look_at(self, pid: int) -> None:
        """Note memory and time of a process; of one that has ended, the last ones stay."""
        import psutil

        with suppress(psutil.Error, OSError):
            resident = float(self._seen[pid].memory_info().rss)
            self._peak[pid] = max(self._peak[pid], resident)
            self._cpu_s[pid] = _cpu_s(self._seen[pid])
            if pid == self._root.pid:
                self._cpu_s[pid] -= self._before_s
                self._step_peak = max(self._step_peak, resident)

    def _count_processes(self) -> None:
        for process in self._running():
            if process.pid not in self._seen:
                self._cpu_s[process.pid] = self._peak[process.pid] = 0.0
                self._seen[process.pid] = process

    def _running(self) -> Iterator[psutil.Process]:
        import psutil

        if self._itself:
            yield self._root
        with suppress(psutil.Error, OSError):
            for child in self._root.children(recursive=True):
                with suppress(psutil.Error, OSError):
                    if not child.name().startswith(self._left_out):
                        yield child


class MeteredProgress:
    """Shows what another progress shows, and lets a meter know of the steps."""

    def __init__(self, progress: Progress, meter: Meter) -> None:
        self._progress, self._meter = progress, meter
        self.advance, self.note, self.warn = progress.advance, progress.note, progress.warn

    def step(self, text: str, *, done: int = 0, share: float = 0.0) -> None:
        """Begin a step."""
        self._meter.begin_step(text)
        self._progress.step(text, done=done, share=share)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
