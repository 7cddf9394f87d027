"""Forks for each fault: the n-th call of a function of the system fails in the forked process.

For programs that are preloaded with the library of ``preload.py``. What they run is imported once.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from itertools import count
from pathlib import Path

NO_FAULT = "fork:0:EIO"
MISSES = 2
"""So many runs in a row without an n-th call say that there is none; threads make it differ."""


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
            for error in errors:
                n_missed = 0
                for n in count(1):
                    attempt, has_failed = self._attempt(function, n, error, place)
                    n_missed = 0 if has_failed else n_missed + 1
                    if has_failed:
                        yield attempt
                    if n_missed == MISSES:
                        break

    def _attempt(
        self, function: str, n: int, error: str, place: Callable[[str, Path], str]
    ) -> tuple[Attempt, bool]:
        """Run once; tell whether a call has failed."""
        number = f"{n}+" if error.endswith("+") else str(n)
        name = f"{function}-{number}-{error.rstrip('+')}"
        folder = self.work / name
        folder.mkdir()
        self.prepare(folder)
        log = folder.with_suffix(".log")
        os.environ["CLASSMARK_FAIL_LOG"] = str(log)
        where = place(function, folder)
        fault = f"{function}:{number}:{error.rstrip('+')}" + (f":{where}" if where else "")

        def run() -> int:
            try:
                return self.run(folder, lambda: arm(self.library, fault))
            finally:
                set_fault(self.library, NO_FAULT)

        code, errors = fork(run, folder)
        has_failed = log.exists() and " failed" in log.read_text()
        return Attempt(name.replace("-", " "), folder, code, errors), has_failed


def arm(library: Path, fault: str) -> None:
    """Choose what fails in this process and in all that it starts; calls count from now on."""
    set_fault(library, fault)
    os.environ["CLASSMARK_FAIL"] = fault


def set_fault(library: Path, fault: str) -> None:
    ctypes.CDLL(str(library)).set_fault(fault.encode())


def fork(run: Callable[[], int], place: Path) -> tuple[int, str]:
    """Return the exit code and the standard error of a function in a process of its own."""
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
