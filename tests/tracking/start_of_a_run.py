"""The record of a run that starts, as trackers get it, and a fit that is killed then."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

from classmark.records import RunStart

START = RunStart(
    command="classmark train in-a-test",
    seed=7,
    dataset="../data",
    dataset_digest="d" * 64,
    labels=("a", "b"),
    label_space="free",
    generated=True,
    commit="c0ffee+",
)
SECONDS = 240.0


def kill_a_fit(tracker: str) -> None:
    """Kill a process that keeps a run named "killed", and wait for the end of the tracker's own.

    Args:
        tracker: the code that makes the tracker.
    """
    code = f"""
import os, signal, time
from pathlib import Path
from classmark.records import RunStart
from classmark.tracking import *
tracker = {tracker}
tracker.start(RunInfo(name="killed", start={START!r}, config={{}}))
tracker.metrics({{"loss": 1.0}}, step=1)
print(tracker._process._process.pid, flush=True)
while not tracker._process._waiting.empty():
    time.sleep(0.01)
os.kill(os.getpid(), signal.SIGKILL)
"""
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert seen.returncode == -signal.SIGKILL, seen.stderr
    _wait_for_end_of(int(seen.stdout))


def _wait_for_end_of(pid: int) -> None:
    """Wait for a process that is not our child."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([handle], [], [], SECONDS)[0], f"process {pid} does not end"
    finally:
        os.close(handle)
