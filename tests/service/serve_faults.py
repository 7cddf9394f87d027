"""Runs ``classmark serve`` again and again, and makes the n-th call of a function fail in it.

A program of its own, preloaded with the library of ``preload.py``: ``python serve_faults.py
LIBRARY MODEL WORK FUNCTION=ERROR,ERROR...``. It imports everything first and forks for each fault.
Its result is JSON lines.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import select
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx

from call_faults import Program, command, fork, import_all_that

PAPER = {"title": "Graph colouring", "abstract": "We colour sparse graphs with few colours."}
PATIENCE_S = 100
SHORT_CLOSE_S = 0.2
"""So long a worker tries to write its journal at the end where that must fail."""
JOURNAL = "journal/journal.sqlite"
PROCESSES = ("fork", "pipe", "socket", "thread")
"""What a reader of files is started with."""
FILE = "a.jsonl.gz", gzip.compress(json.dumps(PAPER).encode(), mtime=0)
KNOWN = {"journal", "keys.json", "keys-used.json"}
# The last one is of a writer that was killed in its first change, which SQLite takes back.
KNOWN_OF_JOURNAL = {f"journal.sqlite{end}" for end in ("", "-wal", "-shm", "-journal")}
LOST = {"journal cannot be written", "journal events dropped"}


def prepare(folder: Path) -> None:
    """Make the file of API keys."""
    from classmark.service.keys import create_key

    _, text = create_key(folder / "keys.json", "a test", ["classify", "feedback"])
    folder.with_suffix(".key").write_text(text)


def serving(model: Path) -> Callable[[Path, Callable[[], None]], int]:
    """Return what serves a model once, and writes down what came of it."""
    from classmark.service.http import service as state

    words = ("serve", "--port", "0", "--workers", "1", "--model", str(model))
    serve = command(*words, "--journal", f"{{}}/{JOURNAL}", "--api-keys", "{}/keys.json")

    def run(folder: Path, arm: Callable[[], None]) -> int:
        os.environ.update(CLASSMARK_HOME=str(folder), CLASSMARK_SERVE_DRAIN_S="0")
        ours, theirs = os.pipe()
        pid = os.fork()
        if pid == 0:
            code = 99
            try:
                os.setsid()
                os.dup2(theirs, 1)
                os.closerange(3, theirs + 1)
                if "+" in folder.name:
                    state.JOURNAL_CLOSE_S = SHORT_CLOSE_S
                arm()
                code = serve(folder)
                sys.stderr.flush()
            finally:
                os._exit(code)
        os.close(theirs)
        outcome = ask_and_stop(pid, os.fdopen(ours), folder)
        folder.with_suffix(".json").write_text(json.dumps(outcome))
        return 0

    return run


def ask_and_stop(pid: int, said: Any, folder: Path) -> dict[str, Any]:
    """Let a service answer, if it serves, and stop it; returns what it did."""
    statuses: list[int] = []
    found = re.search(r"http://\S+:\d+", said.readline())
    if found:
        sends_files = folder.name.partition("-")[0] in PROCESSES
        statuses = ask(found[0], folder.with_suffix(".key").read_text(), 2 * sends_files)
        os.kill(pid, signal.SIGTERM)
    code = wait(pid)
    return {"code": code, "statuses": statuses, "orphans": has_processes(pid)}


def ask(url: str, key: str, n_files: int) -> list[int]:
    """Return the statuses of an answer, of a word of feedback on it, and of files after that."""
    headers = {"X-API-Key": key}
    with httpx.Client(base_url=url, headers=headers, timeout=PATIENCE_S, verify=False) as client:
        answer = client.post("/v1/classify", json=PAPER)
        word = {"prediction_id": answer.json().get("prediction_id"), "category": "cs.DM"}
        said = client.post("/v1/feedback", json=word)
        files = [client.post("/v1/files", files={"file": FILE}) for _ in range(n_files)]
        return [response.status_code for response in (answer, said, *files)]


def wait(pid: int) -> int | None:
    """Return the exit code of a process, None if it had to be killed."""
    handle = os.pidfd_open(pid)
    is_over = select.select([handle], [], [], PATIENCE_S)[0]
    if not is_over:
        os.killpg(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) if is_over else None


def has_processes(group: int) -> bool:
    """Tell whether any process of a group stays; killed ones need a moment to go."""
    end = time.monotonic() + PATIENCE_S
    with suppress(ProcessLookupError):
        while time.monotonic() < end:
            os.killpg(group, 0)
            time.sleep(0.01)
        os.killpg(group, signal.SIGKILL)
        return True
    return False


def wrong(folder: Path, errors: str) -> list[str]:
    """Return what a service should not have done."""
    outcome = json.loads(folder.with_suffix(".json").read_text())
    logged = [json.loads(line) for line in errors.splitlines() if line.startswith("{")]
    # The event loop's C code says of itself that it could not begin.
    said = [line for line in errors.splitlines() if line != "deallocating an open event loop"]
    lines = [line for line in said if not line.startswith("{")]
    lost = sum(line.get("journal_events_lost", 0) for line in logged)
    events = {line["event"] for line in logged}
    n_written, problems = journal_of(folder / JOURNAL)
    if outcome["orphans"]:
        problems.append("a process is left")
    if outcome["statuses"]:
        if (outcome["code"], lines) != (0, []):
            problems.append("served, but did not stop in order")
        if outcome["statuses"][0] != 200 or outcome["statuses"][1] not in (202, 503):
            problems.append("not answered")
        files = outcome["statuses"][2:]
        most_refused = len(files) if "+" in folder.name else 1
        if not set(files) <= {200, 503} or files.count(503) > most_refused:
            problems.append(f"files answered with {files}")
        accepted = 1 + (outcome["statuses"][1] == 202) + files.count(200)
        if n_written + lost < accepted or (n_written < accepted and not events & LOST):
            problems.append(f"{accepted} events, {n_written} written, {lost} said to be lost")
    elif outcome["code"] != 1 or len(lines) != 1 or not lines[0].startswith("error: "):
        problems.append("ended without one line that says why")
    elif "EMFILE" in folder.name and not re.search(r"ulimit -n|exit code -6", lines[0]):
        problems.append("does not say what is short")
    if {"Traceback", "internal error"} & set(re.findall("Traceback|internal error", errors)):
        problems.append("unclear")
    return problems


def journal_of(path: Path) -> tuple[int, list[str]]:
    """Return how many events a journal has, and what is wrong with its folder."""
    problems = []
    left = {p.name for p in path.parent.parent.iterdir()} - KNOWN
    if path.parent.exists():
        left |= {p.name for p in path.parent.iterdir()} - KNOWN_OF_JOURNAL
    if left:
        problems.append(f"left: {sorted(left)}")
    for file in (path.parent, *path.parent.glob("*"), path.parent.parent / "keys.json"):
        if file.exists() and file.stat().st_mode & 0o077:
            problems.append(f"others may see {file.name}")
    if not path.exists() or not path.stat().st_size:
        return 0, problems
    with closing(sqlite3.connect(path)) as connection:
        if connection.execute("PRAGMA integrity_check").fetchone() != ("ok",):
            problems.append("torn")
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
        counts = [
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("predictions", "feedback")
            if table in tables
        ]
    return sum(counts), problems


def place(function: str, folder: Path) -> str:
    """Return which files count: its own, what is read of the model too, and all that is mapped."""
    everywhere = dict.fromkeys(("mmap", *PROCESSES), "")
    return {**everywhere, "open": f"{folder.parent.parent}/"}.get(function, f"{folder}/")


def main() -> None:
    """Run what is asked for."""
    library, model, work, *asked = sys.argv[1:]
    faults = {
        function: errors.split(",") for function, _, errors in (a.partition("=") for a in asked)
    }
    program = Program(Path(library), Path(work), prepare, serving(Path(model)))
    first = program.work / "first"
    first.mkdir()
    prepare(first)
    import_all_that(lambda: list_modules_of_worker(program, first), first)
    code, said = fork(lambda: program.run(first, lambda: None), first)
    problems = wrong(first, said)
    assert (code, problems) == (0, []), f"{problems}: {said}"
    for attempt in program.attempts(faults, place):
        outcome = json.loads(attempt.folder.with_suffix(".json").read_text())
        problems = wrong(attempt.folder, attempt.errors)
        document = {
            "fault": attempt.fault,
            "has_served": bool(outcome["statuses"]),
            "wrong": problems,
        }
        if problems:
            document |= {"errors": attempt.errors, **outcome}
        sys.stdout.write(json.dumps(document) + "\n")


def list_modules_of_worker(program: Program, first: Path) -> int:
    """Import what a worker imports: it is another process than the one that is asked."""
    from classmark.service import make_settings
    from classmark.service.http.app import create_app
    from classmark.service.http.service import Service
    from classmark.service.workers.worker import run_worker

    assert run_worker
    os.environ["CLASSMARK_HOME"] = str(first)
    service = Service(make_settings(journal="off"))
    create_app(service)
    service.start()
    service.close()
    return program.run(first, lambda: None)


if __name__ == "__main__":
    main()
