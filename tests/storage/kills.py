"""Kills a run at every line of ``classmark.storage`` and ``shutil``, and says what is there then.

A program of its own, so that it may fork: ``python kills.py WAY FOLDER``.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from classmark import storage
from classmark.storage import atomic

OLD, NEW = ["a", "b/c"], ["x", "y/z"]
_TRACED = (str(Path(storage.__file__).parent), shutil.__file__)


def fill(folder: Path, names: list[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def files_in(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def overwrite(path: Path) -> None:
    with storage.atomic_folder(path, overwrite=True) as folder:
        fill(folder, NEW)


def overwrite_in_two_steps(path: Path) -> None:
    atomic.exchange = lambda _first, _second: False
    overwrite(path)


def make_in_place(path: Path) -> None:
    storage.recover_output(path)
    with storage.restored_on_failure(path):
        fill(path, NEW)


def fail_in_place(path: Path) -> None:
    with suppress(ZeroDivisionError), storage.restored_on_failure(path):
        fill(path, NEW)
        _ = 1 / 0


def write_file(path: Path) -> None:
    storage.write_text(path, "new")


WAYS: dict[str, Callable[[Path], None]] = {
    way.__name__: way
    for way in (overwrite, overwrite_in_two_steps, make_in_place, fail_in_place, write_file)
}


@contextmanager
def killed_at(n: int) -> Iterator[None]:
    """Kill this process at the n-th line."""
    seen = [0]

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(_TRACED):
            return None
        if event == "line":
            seen[0] += 1
            if seen[0] == n:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    yield
    sys.settrace(None)


def state_of(path: Path) -> str:
    if path.is_file():
        return path.read_text()
    if not path.is_dir():
        return "absent"
    found = files_in(path)
    return {tuple(OLD): "old", tuple(NEW): "new"}.get(tuple(found), "torn:" + ",".join(found))


def run_and_kill(way: str, place: Path, n: int) -> bool:
    """Return whether the run was killed before its end."""
    child = os.fork()
    if child == 0:
        with killed_at(n):
            WAYS[way](place)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.waitstatus_to_exitcode(status) == 0
    return False


def main(way: str, folder: Path) -> None:
    os.fsync = lambda _handle: None  # nothing here is about a power cut, and a disk is slow
    n, is_killed = 0, True
    while is_killed:
        n += 1
        place = folder / str(n) / "d"
        if way == "write_file":
            storage.write_text(place, "old")
        else:
            fill(place, OLD)
        is_killed = run_and_kill(way, place, n)
        at_once = state_of(place)
        storage.recover_output(place)
        left = sorted(p.name for p in place.parent.iterdir())
        ending = "killed" if is_killed else "done"
        sys.stdout.write(f"{n} {ending} {at_once} {state_of(place)} {','.join(left)}\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
