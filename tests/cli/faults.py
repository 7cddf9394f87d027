"""Runs a command again and again, and makes the n-th call of a function of the system fail in it.

A program of its own, preloaded with the library of ``preload.py``: ``python faults.py LIBRARY
WORK CASE...``, in a folder with what the commands read. It imports everything first and forks for
each fault. Its result is JSON lines.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from call_faults import Program, command, fork, import_all_that

FAULTS = {
    "open": ("EMFILE",),
    "write": ("ENOSPC",),
    "rename": ("EACCES",),
    "fsync": ("EIO",),
    "mkdir": ("ENOSPC",),
    "truncate": ("ENOSPC",),
    "mmap": ("ENOMEM",),
}
MORE_ERRORS = {
    **FAULTS,
    "open": ("EMFILE", "EIO", "EACCES"),
    "write": ("ENOSPC", "EIO"),
    "truncate": ("ENOSPC", "EIO"),
    "rename": ("EACCES", "EIO"),
    "fsync": ("EIO", "ENOSPC"),
}
"""Where SQLite, or a lock, does something else for another error."""
PROCESSES = {"fork": ("EAGAIN",), "pipe": ("EMFILE",)}
OLD, STDOUT = "old", "stdout"
CHANGING = r"\b[0-9a-f]{10}\b|\S+Z"
"""Ids of keys, and times."""
open_elsewhere: list[sqlite3.Connection] = []


@dataclass(frozen=True)
class Case:
    """What is run: with the folder that all its outputs are in.

    Attributes:
        prepare: makes what is there before.
        run: does it, and returns the exit code.
        outputs: the names of what it writes.
        state: what is there afterwards, "old" and "new" for what is expected.
        faults: the errors that calls of a function fail with.
    """

    prepare: Callable[[Path], None]
    run: Callable[[Path], int]
    outputs: tuple[str, ...]
    state: Callable[[Path], str]
    faults: Mapping[str, Sequence[str]] = field(default_factory=lambda: FAULTS)


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
                for file in ("old", "bundle.json", "manifest.json"):
                    (folder / name / file).write_text(OLD)

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


def make_keys(folder: Path) -> None:
    from classmark.service.keys import create_key

    keys = [create_key(folder / "keys.json", name, ["classify"])[0] for name in ("first", "second")]
    folder.with_suffix(".id").write_text(keys[1].id)


def revoke(folder: Path) -> int:
    identifier = folder.with_suffix(".id").read_text()
    return command("keys", "revoke", identifier, "--file", "{}/keys.json")(folder)


def keys_become(*new: str) -> Callable[[Path], str]:
    """Return what tells whether a file has the two keys, or these."""

    def state(folder: Path) -> str:
        from classmark.service.keys import read_keys

        names = tuple(key.name for key in read_keys(folder / "keys.json"))
        private = (folder / "keys.json").stat().st_mode & 0o077 == 0
        known = {("first", "second"): "old", new: "new"}
        return known.get(names, "torn") if private else "open to others"

    return state


def prints(*words: str, prepare: Callable[[Path], None], outputs: tuple[str, ...]) -> Case:
    """Return a command that only reads what is there, and writes to a file as standard output."""

    def make(folder: Path) -> None:
        prepare(folder)
        (folder / STDOUT).touch()

    def printed(folder: Path) -> str:
        return re.sub(CHANGING, "", (folder / STDOUT).read_text().replace(folder.name, ""))

    def state(folder: Path) -> str:
        is_whole = printed(folder) == printed(folder.parent / "new")
        return ("new" if is_whole else "old") if is_sound(folder) else "torn"

    return Case(make, command(*words), (*outputs, STDOUT), state, MORE_ERRORS)


def bulk() -> Case:
    """Return a run with workers, which are started afresh; a second run ends what one left."""
    words = ("classify", "some.csv", "others.csv", "--jsonl", "--workers", "2", "--output")
    case = writes(*words, "{}/o.jsonl", outputs=("o.jsonl",))

    def state(folder: Path) -> str:
        before = case.state(folder)
        if before == "new":
            return before
        code, errors = fork(lambda: case.run(folder), folder.with_suffix(".again"))
        if (code, case.state(folder)) != (0, "new"):
            return f"not done the second time: {errors}"
        return before

    faults = {**FAULTS, **PROCESSES}
    return replace(case, state=state, faults=faults)


def fill_journal(folder: Path) -> None:
    import shutil

    shutil.copytree("journal", folder, dirs_exist_ok=True)
    event = predictions_in(folder / "journal.sqlite")[0].event
    folder.with_suffix(".id").write_text(event.prediction_id)
    folder.with_suffix(".text").write_text(str(event.text))
    # As a service has it open: otherwise closing it at the end would empty its log.
    open_elsewhere[:] = [sqlite3.connect(folder / "journal.sqlite")]
    open_elsewhere[0].execute("SELECT count(*) FROM predictions").fetchone()


def predictions_in(path: Path) -> list[Any]:
    from classmark.journal import read_predictions

    return list(read_predictions(path))


def is_sound(folder: Path) -> bool:
    """Tell whether the files of a journal, if there are any, are whole."""
    for file in folder.glob("journal*.sqlite"):
        with closing(sqlite3.connect(file)) as connection:
            if connection.execute("PRAGMA integrity_check").fetchone() != ("ok",):
                return False
    return True


def journal_state(folder: Path) -> str:
    """Return what is in a journal: "old" all, "new" all but the one to forget, else "torn"."""
    if not is_sound(folder):
        return "torn"
    n = len(predictions_in(folder / "journal.sqlite"))
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


def reads_journal(verb: str) -> Case:
    words = ("journal", verb, "--journal", "{}/journal.sqlite")
    return prints(*words, prepare=fill_journal, outputs=JOURNAL)


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
    "classify in bulk": bulk(),
    "keys create": Case(
        make_keys,
        command("keys", "create", "third", "--file", "{}/keys.json"),
        ("keys.json",),
        keys_become("first", "second", "third"),
        MORE_ERRORS,
    ),
    "keys revoke": Case(make_keys, revoke, ("keys.json",), keys_become("first"), MORE_ERRORS),
    "keys list": prints(
        *("keys", "list", "--file", "{}/keys.json"), prepare=make_keys, outputs=("keys.json",)
    ),
    "journal export": writes(
        *("journal", "export", "--journal", "journal/journal.sqlite", "--output", "{}/e.jsonl"),
        outputs=("e.jsonl",),
    ),
    "journal export parquet": writes(
        *("journal", "export", "--journal", "journal/journal.sqlite", "--output", "{}/e.parquet"),
        outputs=("e.parquet",),
    ),
    "journal export to stdout": reads_journal("export"),
    "journal status": reads_journal("status"),
    "journal path": reads_journal("path"),
    "journal forget": Case(fill_journal, forget, JOURNAL, journal_state, MORE_ERRORS),
    "journal": Case(lambda _: None, record, JOURNAL, recorded, MORE_ERRORS),
}


def measure_less() -> None:
    """Leave out the resampling of `export`, which takes most of its time and writes nothing."""
    import classmark.pipeline.export as room

    measured = room.evaluate_table

    def measure(table: Any, *, config: Any, command: str) -> Any:
        return measured(table, config=replace(config, draws=0), command=command)

    room.evaluate_table = measure


def faults_of(case: Case, work: Path, library: Path) -> Iterator[dict[str, Any]]:
    """Yield what came of each fault, until the command has no more calls that could fail."""

    def run(folder: Path, arm: Callable[[], None]) -> int:
        if (folder / STDOUT).exists():
            os.dup2(os.open(folder / STDOUT, os.O_WRONLY), 1)
        arm()
        return case.run(folder)

    new = work / "new"
    new.mkdir(parents=True)
    case.prepare(new)
    import_all_that(lambda: run(new, lambda: None), work / "first")
    for attempt in Program(library, work, case.prepare, run).attempts(case.faults, place):
        yield {
            "fault": attempt.fault,
            "code": attempt.code,
            "errors": attempt.errors,
            "state": case.state(attempt.folder),
            "left": left_in(attempt.folder, case.outputs),
        }


def place(function: str, folder: Path) -> str:
    """Return which files count: those that are written; everything that is mapped or started."""
    return "" if function in ("mmap", *PROCESSES) else f"{folder}/"


def left_in(folder: Path, outputs: tuple[str, ...]) -> list[str]:
    """Return what is there beside the outputs when the next run has looked."""
    from classmark.storage import recover_output

    for name in outputs:
        recover_output(folder / name)
    return sorted(path.name for path in folder.iterdir() if path.name not in outputs)


if __name__ == "__main__":
    library, work, *asked = sys.argv[1:]
    measure_less()
    for name in asked:
        for result in faults_of(CASES[name], Path(work) / name, Path(library)):
            sys.stdout.write(json.dumps({"case": name, **result}) + "\n")
