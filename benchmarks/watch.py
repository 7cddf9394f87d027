"""A command and all that it starts, watched from outside: time, memory, bytes written (Linux)."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EVERY_S = 0.2
OFTEN_S, OFTEN_UNTIL_S = 0.01, 1.0
"""A short command may end before a second look at the usual interval."""
MAX_POINTS = 100
_GIB = 1 << 20  # /proc counts in kB
_FIELD = re.compile(r"^(VmHWM|VmRSS|RssAnon|RssShmem):\s+(\d+) kB", re.MULTILINE)
_WRITTEN = re.compile(r"^write_bytes: (\d+)", re.MULTILINE)


@dataclass
class Watched:
    """What a command took.

    Attributes:
        status: exit status; negative if a signal ended it.
        seconds: from start to end.
        cpu_s: user and system time of all processes that were waited for.
        peak_rss_gib: largest sum of VmRSS over the processes, pages of mapped files included.
        peak_own_gib: the same of RssAnon + RssShmem, which no other can take back.
        largest_hwm_gib: the largest VmHWM of one process: no peak between two looks escapes it.
        written_gib: bytes that went to the disk.
        timeline: (seconds, sum of VmRSS, sum of RssAnon + RssShmem) in GiB, at most 100 points.
    """

    status: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    peak_rss_gib: float = 0.0
    peak_own_gib: float = 0.0
    largest_hwm_gib: float = 0.0
    written_gib: float = 0.0
    timeline: list[tuple[float, float, float]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object, rounded; one point of the timeline in n if they are many."""
        step = -(-len(self.timeline) // MAX_POINTS) or 1
        points = [[round(number, 2) for number in point] for point in self.timeline[::step]]
        rounded = {k: round(v, 2) for k, v in vars(self).items() if isinstance(v, int | float)}
        return {**rounded, "timeline": points}


def watch(command: list[str], output: Path, kill_after_s: float | None = None) -> Watched:
    """Run a command to its end, or until it is killed; its standard output goes to a file."""
    found, written = Watched(), dict[int, int]()
    start = time.monotonic()
    with output.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, start_new_session=True)
    try:
        while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
            seconds = time.monotonic() - start
            _look(process.pid, seconds, found, written)
            if kill_after_s is not None and seconds >= kill_after_s:
                process.kill()
            time.sleep(OFTEN_S if seconds < OFTEN_UNTIL_S else EVERY_S)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    process.returncode = os.waitstatus_to_exitcode(ended[1])  # it was waited for here
    found.status, found.seconds = process.returncode, time.monotonic() - start
    found.cpu_s = ended[2].ru_utime + ended[2].ru_stime
    found.written_gib = sum(written.values()) / (1 << 30)
    return found


def tree(pid: int) -> Iterator[int]:
    """Yield a process and all below it, as far as they are still there."""
    yield pid
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in _text(path).split():
            yield from tree(int(child))


def _look(pid: int, seconds: float, found: Watched, written: dict[int, int]) -> None:
    rss = own = 0.0
    for process in tree(pid):
        sizes = {
            k: int(v) / _GIB for k, v in _FIELD.findall(_text(Path(f"/proc/{process}/status")))
        }
        rss += sizes.get("VmRSS", 0.0)
        own += sizes.get("RssAnon", 0.0) + sizes.get("RssShmem", 0.0)
        found.largest_hwm_gib = max(found.largest_hwm_gib, sizes.get("VmHWM", 0.0))
        if match := _WRITTEN.search(_text(Path(f"/proc/{process}/io"))):
            written[process] = int(match[1])
    found.timeline.append((seconds, rss, own))
    found.peak_rss_gib = max(found.peak_rss_gib, rss)
    found.peak_own_gib = max(found.peak_own_gib, own)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has ended meanwhile
        return ""
