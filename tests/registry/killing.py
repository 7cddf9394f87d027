"""Kills a change of a registry at its n-th call of the system, and looks at what is there then.

A program of its own: ``python killing.py CHANGE FOLDER`` copies FOLDER/registry for every n, lets a
fork of itself make the change there until a hook of its own kills it, and prints a line of JSON
for each. Python raises an audit event before each file that is opened, renamed, removed, listed or
locked; lines that write, sync, cut or close a file raise none, so those kill too. Every second of
these calls kills; with ``CLASSMARK_ALL_FAULTS=1`` every one does.
"""

from __future__ import annotations

import json
import linecache
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from classmark import storage
from classmark.errors import ClassmarkError
from classmark.registry import Proof, Registry

WHO = "killed"
STEPS = ("open", "os.", "shutil.", "fcntl.")
UNHEARD = re.compile(r"sync|\.(write|flush|truncate|close|replace|rename|write_bytes)\(")
TRACED = (str(Path(storage.__file__).parent), str(Path(storage.__file__).parents[1] / "registry"))


def add(registry: Registry, folder: Path) -> None:
    registry.add(folder / "new", who=WHO)


def add_signed(registry: Registry, folder: Path) -> None:
    registry.add(folder / "new", who=WHO, proof=Proof(key=folder / "key"))


def promote(registry: Registry, folder: Path) -> None:
    registry.promote(registry.find("tiny@3.0"), who=WHO)


def rollback(registry: Registry, folder: Path) -> None:
    registry.rollback(who=WHO)


def start_canary(registry: Registry, folder: Path) -> None:
    registry.start_canary(registry.find("tiny@3.0"), percent=5, rules={}, who=WHO)


def end_canary(registry: Registry, folder: Path) -> None:
    registry.end_canary("promoted", {}, who=WHO)


def set_shadow(registry: Registry, folder: Path) -> None:
    registry.set_shadow(registry.find("tiny@3.0"), percent=5, who=WHO)


def archive(registry: Registry, folder: Path) -> None:
    registry.archive(registry.find("tiny@3.0"), who=WHO)


def collect(registry: Registry, folder: Path) -> None:
    registry.collect(keep=0, who=WHO)


def keep_report(registry: Registry, folder: Path) -> None:
    registry.keep_report((folder / "report.json").read_bytes())


def create(registry: Registry, folder: Path) -> None:
    Registry.create(registry.path.with_name("created"), who=WHO)


CHANGES: dict[str, Callable[[Registry, Path], None]] = {
    change.__name__: change
    for change in (
        *(add, add_signed, promote, rollback, start_canary, end_canary, set_shadow, archive),
        *(collect, keep_report, create),
    )
}


def kill_at(n: int) -> None:
    """Kill this process at its n-th call of the system."""
    seen = [0]

    def count() -> None:
        seen[0] += 1
        if seen[0] == n:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(event: str, _arguments: Any) -> None:
        if event.startswith(STEPS):
            count()

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(TRACED):
            return None
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        if event == "line" and UNHEARD.search(line):
            count()
        return trace

    sys.addaudithook(audit)
    sys.settrace(trace)


def run_and_kill(change: str, place: Path, folder: Path, n: int) -> bool:
    """Return whether the change was killed before its end."""
    registry = Registry.open(place)
    child = os.fork()
    if child == 0:
        kill_at(n)
        CHANGES[change](registry, folder)
        sys.settrace(None)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.waitstatus_to_exitcode(status) == 0
    return False


def state_of(path: Path) -> dict[str, Any]:
    """Return what a reader sees: the sequence, the actions, and whatever is wrong."""
    try:
        registry = Registry.open(path)
        return {
            "sequence": registry.pointer().sequence,
            "actions": [event.action for event in registry.events()],
            "problems": [finding.problem for finding in registry.verify()],
            "champion": registry.pointer().channels.champion,
        }
    except ClassmarkError as error:
        return {"problems": [str(error)]}


def main(change: str, folder: Path) -> None:
    os.fsync = lambda _handle: None  # nothing here is about a power cut, and a disk is slow
    if change == "add_signed":
        import model_signing  # noqa: F401 - else every fork imports it
    step = 1 if os.environ.get("CLASSMARK_ALL_FAULTS") == "1" else 2
    n, is_killed = 1 - step, True
    while is_killed:
        n += step
        place = folder / "copy"
        shutil.rmtree(place, ignore_errors=True)
        shutil.rmtree(folder / "created", ignore_errors=True)
        shutil.copytree(folder / "registry", place)
        is_killed = run_and_kill(change, place, folder, n)
        found = {"n": n, "killed": is_killed, "at_once": state_of(place)}
        created = folder / "created"
        found["created"] = state_of(created) if created.exists() else None
        # The next change must be able to work with what was left.
        with suppress(KeyError):
            Registry.open(place).set_shadow(None, who="the next")
        found["after"] = state_of(place)
        left = [p.name for p in place.rglob(".*")]
        found["left"] = sorted(left)
        sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
