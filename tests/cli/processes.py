"""Real processes for tests of the command line: stderr is a terminal that the test reads."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DEADLINE_S = 120
# coverage holds a lock for a moment, and a KeyboardInterrupt raised in there leaves it locked: the
# process then waits for itself for ever. Who is sent SIGINT is therefore not measured.
_COVERAGE_SETTINGS = ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START")
_STEERING = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b.")


class Terminal:
    """What a process shows on a terminal of its own."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self.shown = ""

    def read_until(self, text: str) -> None:
        """Read until a text is shown; fail if the process ends or takes too long."""
        deadline = time.monotonic() + DEADLINE_S
        while text not in self.shown:
            assert time.monotonic() < deadline, f"{text!r} not shown, but {self.shown!r}"
            assert self._read_more(), f"{text!r} was not shown before the end: {self.shown!r}"

    def read_rest(self) -> str:
        """Read until the process has closed the terminal; return all that was shown."""
        while self._read_more():
            pass
        return self.shown

    @property
    def lines(self) -> list[str]:
        """Return what a person sees in the end, without what a bar painted over."""
        plain = _STEERING.sub("", self.shown).replace("\r\n", "\n")
        return [line.rpartition("\r")[2] for line in plain.splitlines() if line.strip()]

    def _read_more(self) -> bool:
        select.select([self._handle], [], [], DEADLINE_S)
        try:
            more = os.read(self._handle, 65_536)
        except OSError:  # so Linux says that the other end is closed
            return False
        self.shown += more.decode(errors="replace")
        return bool(more)


def unmeasured_environment() -> dict[str, str]:
    """Return the environment of a process that coverage leaves alone."""
    return {name: value for name, value in os.environ.items() if name not in _COVERAGE_SETTINGS}


@contextmanager
def start(*arguments: str | Path, cwd: Path) -> Iterator[tuple[subprocess.Popen[bytes], Terminal]]:
    """Run ``classmark`` in a process of its own, with stderr on a terminal; it ends with us."""
    ours, theirs = os.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "classmark", *map(str, arguments)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=theirs, cwd=cwd,
        env={**unmeasured_environment(), "TERM": "xterm", "COLUMNS": "400", "NO_COLOR": "1"},
    )  # fmt: skip
    os.close(theirs)
    try:
        with child:
            try:
                yield child, Terminal(ours)
            finally:
                child.kill()
    finally:
        os.close(ours)
