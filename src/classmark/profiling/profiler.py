"""Profiles what this process does, or what a command does in a process of its own."""

from __future__ import annotations

import ctypes
import os
import platform
import select
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol

from classmark.errors import MissingExtra, WorkerFailed
from classmark.profiling.config import check_profiler, sampler_path
from classmark.profiling.meter import Meter
from classmark.profiling.stacks import Stack, Stacks, short_file
from classmark.records.experiments import ProfileKind, ProfileReport

SAMPLER = "py-spy"
_MOST_FUNCTIONS = 40
_START_S = _STOP_S = 60.0
_PR_SET_PTRACER, _ANY = 0x59616D61, ctypes.c_ulong(-1)
_ADVICE = (
    "Allow it to read the memory of your processes: in a container with --cap-add SYS_PTRACE, on "
    "macOS with sudo"
)


@dataclass(frozen=True, eq=False)
class Profile:
    """What a profiler has found: the report, and the stacks that its flame graph shows."""

    report: ProfileReport
    stacks: Stacks


class _Recorder(Protocol):
    def stop(self) -> Stacks:
        """End the recording, and return what it found."""
        ...


class Profiler:
    """Profiles this process and its children from the beginning of a block to its end.

    Args:
        kind: what for.
        rate: samples a second.
        command: what the report names.

    Raises:
        MissingExtra: what it needs is not installed.
        WorkerFailed: the system does not let py-spy look into the process.
    """

    def __init__(self, kind: ProfileKind, rate: int, command: str) -> None:
        check_profiler(kind)
        self._kind, self._rate, self._command = kind, rate, command

    def __enter__(self) -> Profiler:
        pid = os.getpid()
        if self._kind == "cpu":
            _let_children_look()
            self._recorder: _Recorder = Sampler(["--pid", str(pid)], self._rate)
        else:
            self._recorder = _Tracker()
        self.meter = Meter(pid, left_out=SAMPLER)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.meter.stop()
        self._seconds = self.meter.seconds
        self._stacks = self._recorder.stop()

    def profile(self, *, interrupted: bool = False) -> Profile:
        """Return what was found, once the block has ended."""
        rate = self._rate if self._kind == "cpu" else None
        return make_profile(
            self._stacks, self.meter, command=self._command, rate=rate, interrupted=interrupted
        )


def make_profile(
    stacks: Stacks,
    meter: Meter,
    *,
    command: str,
    rate: int | None,
    interrupted: bool = False,
    load: dict[str, Any] | None = None,
) -> Profile:
    """Return the profile of a command that has ended.

    Args:
        stacks: of samples; of bytes if there is no rate.
        meter: that has stopped.
        command: what was profiled.
        rate: samples a second; None for a profile of memory.
        interrupted: it was stopped before its end.
        load: that a service was under.
    """
    report = ProfileReport(
        kind="memory" if rate is None else "cpu",
        unit="bytes" if rate is None else "samples",
        total=stacks.total,
        rate=rate,
        command=command,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=f"{platform.machine()}, {os.cpu_count()} cores, {platform.platform()}",
        seconds=meter.seconds,
        interrupted=interrupted,
        functions=stacks.functions(_MOST_FUNCTIONS),
        steps=meter.steps,
        processes=meter.processes,
        load=load or {},
    )
    return Profile(report, stacks)


class Sampler:
    """py-spy, that looks at a process and its children without stopping them.

    Args:
        target: ``--pid N``, or ``--`` and a command that it starts.
        rate: samples a second.
        output: where what the command and py-spy print goes.

    Raises:
        MissingExtra: py-spy is not installed.
        WorkerFailed: it does not begin.
    """

    def __init__(self, target: Sequence[str], rate: int, output: IO[bytes] | None = None) -> None:
        program = sampler_path()
        if program is None:
            raise MissingExtra("profiler=cpu", "profile")
        handle, name = tempfile.mkstemp(prefix="classmark-profile-", suffix=".txt")
        os.close(handle)
        self._file, self._is_own = Path(name), output is None
        self._said = output or tempfile.TemporaryFile()  # noqa: SIM115 - see _close
        flags = ["--format", "raw", "--function", "--nonblocking", "--subprocesses"]
        # In a session of its own: Ctrl-C is for the command, and we end the sampler then.
        self.process = subprocess.Popen(
            [program, "record", *flags, "--rate", str(rate), "--output", name, *target],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if output is None else output,
            stderr=self._said,
            start_new_session=True,
        )
        if output is None:
            self._wait_for_first_line()

    def stop(self) -> Stacks:
        """End the sampling, and return the stacks; a command that py-spy has started goes on."""
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGINT)
        return self.result()

    def result(self) -> Stacks:
        """Wait for the end of the sampling, and return the stacks.

        Raises:
            WorkerFailed: py-spy has written none.
        """
        try:
            self.process.communicate(timeout=_STOP_S)
            text = self._file.read_text(encoding="utf-8", errors="replace")
        except subprocess.TimeoutExpired as error:
            self.process.kill()
            self.process.communicate()
            raise WorkerFailed(f"{SAMPLER} did not end within {_STOP_S:g} s. Try again.") from error
        finally:
            self._file.unlink(missing_ok=True)
        if self.process.returncode:
            raise self._failure()
        self._close()
        return Stacks.read(text.splitlines())

    def _wait_for_first_line(self) -> None:
        """Wait until it samples: it says so in its first line."""
        said: Any = self.process.stdout
        ready, _, _ = select.select([said], [], [], _START_S)
        if ready and said.readline():
            return
        self.process.kill()
        self.process.communicate()
        self._file.unlink(missing_ok=True)
        failure = self._failure()
        if not ready:
            raise WorkerFailed(f"{SAMPLER} did not begin within {_START_S:g} s. Try again.")
        raise failure

    def _close(self) -> None:
        if self._is_own:
            self._said.close()

    def _failure(self) -> WorkerFailed:
        self._said.seek(0)
        lines = self._said.read().decode("utf-8", "replace").strip().splitlines()
        self._close()
        why = lines[0].removeprefix("Error: ").rstrip(".") if lines else "it said nothing"
        return WorkerFailed(f"{SAMPLER} cannot look into the process: {why}. {_ADVICE}.")


class _Tracker:
    """memray, that notes who holds memory; what was held at the peak is read at the end.

    It forgets the outermost calls after it begins, as it loses count of those that led to it.
    """

    def __init__(self) -> None:
        import memray

        # Arrow's own allocator reserves a gigabyte that nobody uses, and it would stand first.
        os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
        self._folder = tempfile.TemporaryDirectory(prefix="classmark-profile-")
        self._file = Path(self._folder.name) / "memory.bin"
        destination = memray.FileDestination(self._file)
        self._tracker: Any = memray.Tracker(
            destination=destination, file_format=memray.FileFormat.AGGREGATED_ALLOCATIONS
        )
        self._tracker.__enter__()

    def stop(self) -> Stacks:
        """End the tracking, and return the stacks of what was held at the peak, in bytes."""
        import memray

        self._tracker.__exit__(None, None, None)
        costs: Counter[Stack] = Counter()
        with self._folder, memray.FileReader(self._file) as reader:
            for record in reader.get_high_watermark_allocation_records(merge_threads=True):
                frames = [f"{name} ({short_file(file)})" for name, file, _ in record.stack_trace()]
                costs[tuple(reversed(frames)) or ("outside of Python",)] += record.size
        return Stacks(costs)


def _let_children_look() -> None:
    """Let a process that we start read our memory, where the system asks for that (Yama)."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANY, 0, 0, 0)
