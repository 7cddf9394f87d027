"""The files of a journal: ``journal.sqlite``, then ``journal.000002.sqlite`` and so on.

A file is never renamed. SQLite knows its log (``-wal``) and shared memory (``-shm``) by name, so a
renamed database could be written by one process and taken for another one by the next. Instead a
full file is closed for good by a mark inside it, which every writer reads in its transaction, and
the next number is begun.
"""

from __future__ import annotations

import re
from pathlib import Path

LOG_SUFFIXES = ("-wal", "-shm")


def journal_files(path: Path) -> list[Path]:
    """Return the files of a journal that exist, oldest first.

    Args:
        path: its first file, whether that exists (still) or not.
    """
    return [path_of(path, number) for number in sorted(_numbers(path)[0])]


def live_file(path: Path) -> Path:
    """Return the file that the next event belongs in, unless it is closed; it need not exist.

    A number whose log was left behind by a deleted database is not used again: processes that
    have the deleted one open share the log's memory by its name.
    """
    databases, logs = _numbers(path)
    newest, newest_log = max(databases, default=0), max(logs, default=0)
    return path_of(path, newest_log + 1 if newest_log > newest else max(newest, 1))


def next_file(path: Path, current: Path) -> Path:
    """Return the file that follows one that is closed."""
    number = _number_of(path, current.name)
    if number is None:
        raise ValueError(f"{current} is no file of the journal {path}")
    return path_of(path, number + 1)


def delete_file(path: Path) -> None:
    """Delete a closed file and what SQLite left beside it."""
    for file in with_logs(path):
        file.unlink(missing_ok=True)


def with_logs(path: Path) -> list[Path]:
    """Return a file, and those that SQLite keeps beside it, whether they exist or not."""
    return [path.with_name(path.name + suffix) for suffix in ("", *LOG_SUFFIXES)]


def path_of(path: Path, number: int) -> Path:
    """Return the file of a number, from 1."""
    return path if number == 1 else path.with_name(f"{path.stem}.{number:06d}{path.suffix}")


def _numbers(path: Path) -> tuple[set[int], set[int]]:
    """Return the numbers of the databases, and of the logs without one."""
    databases: set[int] = set()
    logs: set[int] = set()
    try:
        names = [child.name for child in path.parent.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return databases, logs
    for name in names:
        log = next((suffix for suffix in LOG_SUFFIXES if name.endswith(suffix)), "")
        number = _number_of(path, name.removesuffix(log))
        if number is not None:
            (logs if log else databases).add(number)
    return databases, logs - databases


def _number_of(path: Path, name: str) -> int | None:
    if name == path.name:
        return 1
    match = re.fullmatch(rf"{re.escape(path.stem)}\.(\d{{6,}}){re.escape(path.suffix)}", name)
    return int(match[1]) if match else None
