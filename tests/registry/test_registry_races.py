"""Several processes at one registry: one change after the other, and readers who see whole ones."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from classmark.registry import Registry
from registry_folders import WHO, add_passed, registry, three, write_tiny

__all__ = ["registry", "three"]

PROMOTE = """
import sys
from pathlib import Path
from classmark.errors import ClassmarkError
from classmark.registry import Registry
registry = Registry.open(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
try:
    registry.promote(sys.argv[2], who=sys.argv[3])
    print("won")
except ClassmarkError as error:
    print(type(error).__name__, error)
"""
ADD = """
import sys
from pathlib import Path
from classmark.registry import Registry
registry = Registry.open(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for folder in sys.argv[2:]:
    registry.add(Path(folder), who="adder")
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_of_two_processes_that_promote_at_once_one_wins_and_the_other_is_told_by_whom(
    registry: Registry, three: list[str]
) -> None:
    registry.promote(three[0], who=WHO)
    processes = [
        start(PROMOTE, registry.path, digest, who)
        for digest, who in ((three[1], "one"), (three[2], "two"))
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate()[0] for process in processes]
    winner, loser = sorted(said, key=lambda text: text != "won\n")
    assert winner == "won\n"
    name = ("one", "two")[said.index("won\n")]
    assert loser.startswith(f"RegistryConflict nothing was changed: {name} changed the registry")
    assert registry.pointer().channels.champion == three[1 + said.index("won\n")]
    assert [event.action for event in registry.events()].count("promote") == 2
    assert registry.verify() == ()


def test_processes_that_add_at_once_all_succeed(registry: Registry, tmp_path: Path) -> None:
    folders = [write_tiny(tmp_path / f"{n}.0", f"{n}.0") for n in range(1, 9)]
    processes = [start(ADD, registry.path, *folders[i::4], *folders[:2]) for i in range(4)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        assert process.communicate()[1] == ""
        assert process.returncode == 0
    versions = {known.version for known in registry.pointer().bundles.values()}
    assert versions == {f"{n}.0" for n in range(1, 9)}
    assert registry.pointer().sequence == 9
    assert registry.verify() == ()


@pytest.mark.slow  # reason: reads a registry all the time while it changes 120 times
def test_a_reader_never_sees_a_part_of_a_change(registry: Registry, tmp_path: Path) -> None:
    digests = [add_passed(registry, tmp_path, f"{n}.0") for n in range(1, 4)]
    registry.promote(digests[0], who=WHO)
    seen: list[tuple[int, str | None]] = []
    problems: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        try:
            reader = Registry.open(registry.path)
            while not done.is_set():
                pointer = reader.pointer()
                champion = pointer.channels.champion
                assert champion is not None
                assert reader.load(champion).digest == champion
                assert len(reader.events()) >= pointer.sequence
                seen.append((pointer.sequence, champion))
        except BaseException as error:
            problems.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    for n in range(60):
        registry.promote(digests[1 + n % 2], who=WHO)
        registry.rollback(who=WHO)
    done.set()
    thread.join()
    assert problems == []
    assert len({sequence for sequence, _ in seen}) > 10
    assert [sequence for sequence, _ in seen] == sorted(sequence for sequence, _ in seen)


def test_the_pointer_is_read_again_only_after_a_change(registry: Registry) -> None:
    first = registry.pointer()
    assert registry.pointer() is first
    Registry.open(registry.path).set_shadow(None, who="the other")
    assert registry.pointer().last_event.who == "the other"


def test_a_pointer_is_one_json_object_that_names_its_digest(registry: Registry) -> None:
    value = json.loads((registry.path / "pointer.json").read_bytes())
    assert set(value) >= {"digest", "sequence", "channels", "last_event", "format_version"}
