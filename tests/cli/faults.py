"""Runs a command again and again, and makes the n-th call of a function of the system fail in it.

A program of its own, preloaded with the library of ``preload.py``: ``python faults.py LIBRARY
CASE WORK``. It imports everything first and forks for each fault. Its result is JSON lines.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

FAULTS = {
    "open": "EMFILE",
    "write": "ENOSPC",
    "rename": "EACCES",
    "fsync": "EIO",
    "mkdir": "ENOSPC",
    "truncate": "ENOSPC",
}
OLD = "old"
NO_FAULT = b"fork:0:EIO"
MOST_CALLS = 400
open_elsewhere: list[sqlite3.Connection] = []


@dataclass(frozen=True)
class Case:
    """What is run: with the folder that all its outputs are in.

    Attributes:
        prepare: makes what is there before.
        run: does it, and returns the exit code.
        outputs: the names of what it writes.
        state: what is there afterwards, "old" and "new" for what is expected.
    """

    prepare: Callable[[Path], None]
    run: Callable[[Path], int]
    outputs: tuple[str, ...]
    state: Callable[[Path], str]


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


def content_of(path: Path) -> str:
    """Return what is compared of a file, or of a folder with all that is in it; "" for nothing."""
    if path.suffix == ".json" and path.is_file() and path.read_text() != OLD:
        return ",".join(json.loads(path.read_bytes()))  # the command in it differs
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return "\n".join(sorted(p.relative_to(path).as_posix() for p in path.rglob("*")))


def writes(*words: str, outputs: tuple[str, ...]) -> Case:
    """Return a command that writes files or folders where older ones are."""

    def prepare(folder: Path) -> None:
        for name in outputs:
            if Path(name).suffix in (".json", ".jsonl", ".parquet"):
                (folder / name).write_text(OLD)
            else:
                (folder / name).mkdir()
                (folder / name / "old").write_text(OLD)

    def state(folder: Path) -> str:
        old = folder.parent / "old"
        if not old.exists():
            old.mkdir()
            prepare(old)
        states = []
        for name in outputs:
            found, new = content_of(folder / name), content_of(folder.parent / "new" / name)
            known = {content_of(old / name): "old", new: "new", "": "absent"}
            states.append(known.get(found, "torn"))
        return " ".join(states)

    return Case(prepare, command(*words), outputs, state)


def make_key(folder: Path) -> None:
    from classmark.service.keys import create_key

    create_key(folder / "keys.json", "first", ["classify"])


def keys_in(folder: Path) -> str:
    from classmark.service.keys import read_keys

    names = [key.name for key in read_keys(folder / "keys.json")]
    return {("first",): "old", ("first", "second"): "new"}.get(tuple(names), "torn")


def fill_journal(folder: Path) -> None:
    import shutil

    shutil.copytree(folder.parent.parent / "journal", folder, dirs_exist_ok=True)
    event = predictions_in(folder / "journal.sqlite")[0].event
    folder.with_suffix(".id").write_text(event.prediction_id)
    folder.with_suffix(".text").write_text(str(event.text))
    # As a service has it open: otherwise closing it at the end would empty its log.
    open_elsewhere[:] = [sqlite3.connect(folder / "journal.sqlite")]
    open_elsewhere[0].execute("SELECT count(*) FROM predictions").fetchone()


def predictions_in(path: Path) -> list[Any]:
    from classmark.journal import read_predictions

    return list(read_predictions(path))


def journal_state(folder: Path) -> str:
    """Return what is in a journal: "old" all, "new" all but the one to forget, else "torn"."""
    from classmark.journal.files import journal_files

    path = folder / "journal.sqlite"
    for file in journal_files(path):
        with closing(sqlite3.connect(file)) as connection:
            if connection.execute("PRAGMA integrity_check").fetchone() != ("ok",):
                return "torn"
    n = len(predictions_in(path))
    code, errors = fork(lambda: forget(folder), folder.with_suffix(".again"))
    text = folder.with_suffix(".text").read_bytes()
    left = [file.name for file in folder.iterdir() if text in file.read_bytes()]
    if code or left:
        return f"not forgotten the second time: {left} {errors}"
    return {4: "old", 3: "new"}.get(n, f"torn {n}")


def forget(folder: Path) -> int:
    first = folder.with_suffix(".id").read_text()
    words = ("journal", "forget", "--journal", "{}/journal.sqlite", "--id", first)
    return command(*words)(folder)


def record(folder: Path) -> int:
    """Record three predictions, and return 0 if they are written, 3 if they are counted as lost."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "journal"))
    from journal_events import PATIENCE_S, prediction

    from classmark.journal import Journal, JournalConfig

    path = folder / "journal.sqlite"
    journal = Journal(JournalConfig(path=path, flush_window_ms=1))
    for _ in range(3):
        journal.record(prediction())
    journal.flush(PATIENCE_S)
    lost = journal.close(PATIENCE_S)
    status = journal.status()
    assert (status.queued, status.written + status.dropped) == (0, 3)
    assert lost == status.dropped
    return 3 if lost else 0


def recorded(folder: Path) -> str:
    return {3: "new"}.get(len(predictions_in(folder / "journal.sqlite")), "torn")


JOURNAL = ("journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm")
CASES = {
    "classify": writes(
        *("classify", "papers.csv", "--jsonl", "--output", "{}/o.jsonl"), outputs=("o.jsonl",)
    ),
    "build": writes(
        *("dataset", "build", "papers.csv", "--min-papers", "2", "--overwrite"),
        *("--output", "{}/d"),
        outputs=("d",),
    ),
    "export": writes(
        *("export", "run", "--overwrite", "--output", "{}/m-1.0", "--report", "{}/r.json"),
        outputs=("m-1.0", "r.json"),
    ),
    "keys create": Case(
        make_key,
        command("keys", "create", "second", "--file", "{}/keys.json"),
        ("keys.json",),
        keys_in,
    ),
    "journal export": writes(
        *("journal", "export", "--journal", "journal/journal.sqlite", "--output", "{}/e.jsonl"),
        outputs=("e.jsonl",),
    ),
    "journal export parquet": writes(
        *("journal", "export", "--journal", "journal/journal.sqlite", "--output", "{}/e.parquet"),
        outputs=("e.parquet",),
    ),
    "journal forget": Case(fill_journal, forget, JOURNAL, journal_state),
    "journal": Case(lambda _: None, record, JOURNAL, recorded),
}


def fork(run: Callable[[], int], place: Path) -> tuple[int, str]:
    """Return the exit code and the standard error of a function in a process of its own."""
    errors = place.with_suffix(".stderr")
    child = os.fork()
    if child == 0:
        code = 99
        try:
            handle = os.open(errors, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
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


def measure_less() -> None:
    """Leave out the resampling of `export`, which takes most of its time and writes nothing."""
    import classmark.pipeline.export as room

    measured = room.evaluate_table

    def measure(table: Any, *, config: Any, command: str) -> Any:
        return measured(table, config=replace(config, draws=0), command=command)

    room.evaluate_table = measure


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


def faults_of(case: Case, work: Path, library: Path) -> Iterator[dict[str, Any]]:
    """Yield what came of each fault, until the command has no more calls that could fail."""
    set_fault = ctypes.CDLL(str(library)).set_fault
    new = work / "new"
    new.mkdir()
    case.prepare(new)
    measure_less()
    import_all_that(lambda: case.run(new), work / "first")
    for function, error in FAULTS.items():
        for n in range(1, MOST_CALLS):
            folder = work / f"{function}-{n}"
            folder.mkdir()
            case.prepare(folder)
            log = folder.with_suffix(".log")
            os.environ["CLASSMARK_FAIL_LOG"] = str(log)
            fault = f"{function}:{n}:{error}:{folder}/"

            def run(folder: Path = folder, fault: str = fault) -> int:
                set_fault(fault.encode())
                code = case.run(folder)
                set_fault(NO_FAULT)
                return code

            code, errors = fork(run, folder)
            if not log.exists() or len(log.read_text().splitlines()) < n:
                break
            yield {
                "fault": f"{function} {n}",
                "code": code,
                "errors": errors,
                "state": case.state(folder),
                "left": left_in(folder, case.outputs),
            }


def left_in(folder: Path, outputs: tuple[str, ...]) -> list[str]:
    """Return what is there beside the outputs when the next run has looked."""
    from classmark.storage import recover_output

    for name in outputs:
        recover_output(folder / name)
    return sorted(path.name for path in folder.iterdir() if path.name not in outputs)


if __name__ == "__main__":
    library, case, work = sys.argv[1:]
    for result in faults_of(CASES[case], Path(work), Path(library)):
        sys.stdout.write(json.dumps(result) + "\n")
