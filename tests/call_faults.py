"""Forks for each fault: the n-th call of a function of the system fails in the forked process.

For programs that are preloaded with the library of ``preload.py``. What they run is imported once.

A first run without a fault lists the calls. Calls for the same file from the same place in the code
(the same traceback of Python, line by line) are of one site, such as the pages of one transaction
that SQLite writes. The first and the last call of each site fail; with ``CLASSMARK_ALL_FAULTS=1``
every call does. Coverage is measured in the run without a fault only: it would double the time of
the others.
"""

from __future__ import annotations

import ctypes
import faulthandler
import fcntl
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

NO_FAULT = "fork:0:EIO"
ALL = "CLASSMARK_ALL_FAULTS"
MORE_CALLS = 2
"""Threads make the number of calls differ from run to run."""
_LOG_DESCRIPTOR = 300
"""Out of the way of what is tested, which closes or reuses the lower ones."""
_CHANGING = re.compile(r"[0-9a-f]{8,}|\d+")


@dataclass(frozen=True)
class Attempt:
    """One run with one fault.

    Attributes:
        fault: function, number of the call and error.
        folder: that the run had for itself.
        code: its exit code.
        errors: its standard error.
    """

    fault: str
    folder: Path
    code: int
    errors: str


@dataclass(frozen=True)
class Program:
    """What is run again and again.

    Attributes:
        library: of ``build_preload``.
        work: gets a folder for each run.
        prepare: makes what is in that folder before.
        run: does it there, calls ``arm`` when calls begin to count, and returns the exit code.
    """

    library: Path
    work: Path
    prepare: Callable[[Path], None]
    run: Callable[[Path, Callable[[], None]], int]

    def attempts(
        self, faults: Mapping[str, Sequence[str]], place: Callable[[str, Path], str]
    ) -> Iterator[Attempt]:
        """Yield what came of each fault, until there are no more calls that could fail.

        Args:
            faults: the errors that calls of a function fail with; N+ for this and all later calls.
            place: of a function and the folder of the run: the part of a path that counts, or "".
        """
        for function, errors in faults.items():
            for n, error in self._calls(function, errors, place):
                attempt, log = self._attempt(function, n, error, place)
                if log.exists() and " failed " in log.read_text():
                    yield attempt

    def _calls(
        self, function: str, errors: Sequence[str], place: Callable[[str, Path], str]
    ) -> list[tuple[int, str]]:
        """Return which calls of a function are to fail, each with its error."""
        attempt, log = self._attempt(function, 0, "EIO", place)
        assert attempt.code == 0, attempt.errors
        called = sites(log, function) if log.exists() else []
        if os.environ.get(ALL) == "1":
            return [(n, e) for e in errors for n in range(1, len(called) + MORE_CALLS + 1)]
        last = {site: n for n, site in enumerate(called, 1)}
        first = {site: n for n, site in reversed(list(enumerate(called, 1)))}
        return [(n, e) for e in errors for n in sorted({*first.values(), *last.values()})]

    def _attempt(
        self, function: str, n: int, error: str, place: Callable[[str, Path], str]
    ) -> tuple[Attempt, Path]:
        """Run once; return what came of it, and the log of the calls that counted."""
        number = f"{n}+" if error.endswith("+") else str(n)
        name = f"{function}-{number}-{error.rstrip('+')}"
        folder = self.work / name
        folder.mkdir()
        self.prepare(folder)
        log = folder.with_suffix(".log")
        os.environ["CLASSMARK_FAIL_LOG"] = str(log)
        where = place(function, folder)
        fault = f"{function}:{number}:{error.rstrip('+')}" + (f":{where}" if where else "")

        def begin() -> None:
            if n == 0:
                dump_tracebacks_into(log)
            arm(self.library, fault)

        def run() -> int:
            try:
                return self.run(folder, begin)
            finally:
                set_fault(self.library, NO_FAULT)

        code, errors = fork(run, folder, is_measured=n == 0)
        return Attempt(name.replace("-", " "), folder, code, errors), log


def dump_tracebacks_into(log: Path) -> None:
    """Let each call that counts be followed by the traceback that led to it."""
    opened = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    kept = fcntl.fcntl(opened, fcntl.F_DUPFD, _LOG_DESCRIPTOR)
    os.close(opened)
    faulthandler.register(signal.SIGUSR1, file=kept, all_threads=False)


def sites(log: Path, function: str) -> list[str]:
    """Return the site of each call in the order of the calls: its file and its traceback."""
    places: list[list[str]] = []
    for line in log.read_text().splitlines():
        words = line.split(" ", 3)
        if words[0] == function:
            places.append([_CHANGING.sub("", words[3])])
        else:
            places[-1].append(line)
    return ["\n".join(lines) for lines in places]


def arm(library: Path, fault: str) -> None:
    """Choose what fails in this process and in all that it starts; calls count from now on."""
    set_fault(library, fault)
    os.environ["CLASSMARK_FAIL"] = fault


def set_fault(library: Path, fault: str) -> None:
    ctypes.CDLL(str(library)).set_fault(fault.encode())


def fork(run: Callable[[], int], place: Path, *, is_measured: bool = True) -> tuple[int, str]:
    """Return the exit code and the standard error of a function in a process of its own.

    Args:
        run: the function.
        place: name of the files of the process, without an ending.
        is_measured: whether its coverage counts, and that of the processes that it starts.
    """
    errors = place.with_suffix(".stderr")
    sys.stdout.flush()  # or the child would write it too
    flush_coverage()
    child = os.fork()
    if child == 0:
        code = 99
        try:
            handle = os.open(errors, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
            os.dup2(handle, 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            if not is_measured:
                stop_coverage()
            code = run()
            sys.stderr.flush()
        except BaseException:
            import traceback

            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), errors.read_text()


def flush_coverage() -> None:
    """Write down the lines covered so far, or every forked process would write them again."""
    coverage = sys.modules.get("coverage")
    current = coverage.Coverage.current() if coverage else None
    if current is not None:
        current.get_data()


def stop_coverage() -> None:
    """Measure no more lines in this process, nor in those that it starts."""
    coverage = sys.modules.get("coverage")
    current = coverage.Coverage.current() if coverage else None
    if current is not None:
        current.stop()
        os.environ.pop("COVERAGE_PROCESS_CONFIG", None)


def import_all_that(run: Callable[[], int], place: Path) -> None:
    """Import what a function imports, so that no fork has to do so."""

    def list_modules() -> int:
        code = run()
        place.with_suffix(".modules").write_text("\n".join(sys.modules))
        return code

    code, errors = fork(list_modules, place)
    assert code == 0, errors
    for name in place.with_suffix(".modules").read_text().splitlines():
        with suppress(BaseException):
            import_module(name)


def command(*words: str) -> Callable[[Path], int]:
    """Return what runs a command of classmark, with {} for the folder."""

    def run(folder: Path) -> int:
        from classmark.cli.app import app

        try:
            app([word.format(folder) for word in words])
        except SystemExit as error:
            return int(error.code or 0)
        return 0

    return run
