"""Registries in a bad state: each is one error that names the file and says what to do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from classmark.errors import (
    BundleCorrupt,
    BundleNotFound,
    InvalidReport,
    OutputBusy,
    RegistryCorrupt,
    RegistryNotFound,
    RegistryTooNew,
    StorageFailed,
)
from classmark.records import PromotionEvent
from classmark.registry import Registry
from classmark.registry.documents import read_pointer, render, write_pointer
from classmark.storage import locked_file
from registry_folders import WHO, add_passed, registry, report_of, three, write_tiny

__all__ = ["registry", "three"]

IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def edit_lines(registry: Registry, change: Callable[[list[bytes]], object]) -> None:
    path = registry.path / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    change(lines)
    path.write_bytes(b"".join(lines))


def test_a_newer_registry_says_to_install_a_newer_classmark(
    registry: Registry, three: list[str]
) -> None:
    for name in ("registry.json", "pointer.json"):
        path = registry.path / name
        whole = path.read_bytes()
        path.write_text(json.dumps({**json.loads(whole), "format_version": 2}))
        with pytest.raises(RegistryTooNew, match=rf"{name} has format version 2.*reads up to 1"):
            Registry.open(registry.path)
        path.write_bytes(whole)


@pytest.mark.parametrize("name", ["registry.json", "pointer.json"])
@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b"null", b"[" * 100_000, b"\xff\xfe{}", b"{}"]
)
def test_a_damaged_document_is_named(registry: Registry, name: str, content: bytes) -> None:
    (registry.path / name).write_bytes(content)
    with pytest.raises(RegistryCorrupt, match=rf"{name} is not what the registry wrote"):
        Registry.open(registry.path)


def test_a_pointer_that_is_missing_is_not_made_anew(registry: Registry) -> None:
    (registry.path / "pointer.json").unlink()
    with pytest.raises(RegistryCorrupt, match=r"pointer\.json is missing"):
        Registry.open(registry.path)
    with pytest.raises(RegistryCorrupt, match=r"pointer\.json is missing"):
        registry.set_shadow(None, who=WHO)
    assert not (registry.path / "pointer.json").exists()


def test_a_registry_that_is_a_file_is_no_registry(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RegistryNotFound, match="file is not a registry"):
        Registry.open(tmp_path / "file")


@pytest.mark.parametrize(
    "fields",
    [
        {"sequence": "1"},
        {"channels": {"champion": "../../etc"}},
        {"channels": {"latest": None}},
        {"bundles": {"x": {}}},
        {"canary": {"candidate": 1}},
        {"unknown": 1},
        {"last_event": None},
    ],
)
def test_a_pointer_with_right_digest_and_wrong_fields_is_refused(
    registry: Registry, fields: dict[str, object]
) -> None:
    path = registry.path / "pointer.json"
    value = read_pointer(path).to_dict()
    path.write_text(render({**value, **fields}))
    with pytest.raises(RegistryCorrupt, match=r"pointer\.json is not what the registry wrote"):
        Registry.open(registry.path)


def test_a_pointer_to_a_bundle_that_is_gone_says_how_to_get_it_back(
    registry: Registry, three: list[str], tmp_path: Path
) -> None:
    registry.promote(three[0], who=WHO)
    shutil.rmtree(registry.bundle(three[0]))
    with pytest.raises(BundleNotFound, match=rf"{three[0]} is gone, which holds tiny@1\.0"):
        registry.load(three[0])
    with pytest.raises(BundleNotFound, match="is gone"):
        registry.promote(three[0], who=WHO)
    (found,) = registry.verify()
    assert found.file == f"bundles/{three[0]}"
    registry.add(tmp_path / "tiny-1.0", who=WHO)
    assert registry.load(three[0]).digest == three[0]


def test_rollback_to_a_bundle_that_is_gone_changes_nothing(
    registry: Registry, three: list[str]
) -> None:
    registry.promote(three[0], who=WHO)
    registry.promote(three[1], who=WHO)
    shutil.rmtree(registry.bundle(three[0]))
    with pytest.raises(BundleNotFound, match="is gone"):
        registry.rollback(who=WHO)
    assert registry.pointer().channels.champion == three[1]


def test_a_line_that_was_removed_or_edited_is_named(registry: Registry, three: list[str]) -> None:
    registry.promote(three[0], who=WHO)
    whole = (registry.path / "events.jsonl").read_bytes()
    edits: list[tuple[Callable[[list[bytes]], object], str]] = [
        (lambda lines: lines.pop(1), "line 2 does not follow"),
        (lambda lines: lines.reverse(), "line 1 does not follow"),
        (lambda lines: lines.insert(1, lines[1]), "line 3 does not follow"),
        (lambda lines: lines.append(lines[-1]), "does not follow"),
        (lambda lines: lines.append(b'{"half'), "its end is not the last event"),
        (
            lambda lines: lines.__setitem__(1, lines[1].replace(b"tester", b"editor")),
            "line 3 does not follow",
        ),
        (
            lambda lines: lines.__setitem__(1, lines[1].replace(b'":', b'": ', 1)),
            "line 2 has been edited",
        ),
        (lambda lines: lines.__setitem__(0, b"\x00\n"), "line 1 is not an event"),
        (lambda lines: lines.__setitem__(4, lines[4][:-2] + b"!\n"), "line 5 is not an event"),
    ]
    for change, problem in edits:
        edit_lines(registry, change)
        with pytest.raises(RegistryCorrupt, match=rf"events\.jsonl .*{problem}"):
            registry.events()
        assert any(finding.file == "events.jsonl" for finding in registry.verify())
        (registry.path / "events.jsonl").write_bytes(whole)
    edit_lines(registry, lambda lines: (lines.pop(), lines.pop()))
    with pytest.raises(RegistryCorrupt, match=r"events\.jsonl"):
        registry.events()
    with pytest.raises(RegistryCorrupt, match=r"its end is not the last event of pointer\.json"):
        registry.promote(three[1], who=WHO)
    assert registry.pointer().channels.champion == three[0]


def test_an_edited_last_line_is_noticed_by_the_pointer(
    registry: Registry, three: list[str]
) -> None:
    registry.promote(three[0], who=WHO, why="good")
    events = registry.events()
    forged = replace(events[-1], why="fine")
    edit_lines(registry, lambda lines: lines.__setitem__(-1, forged.line() + b"\n"))
    with pytest.raises(RegistryCorrupt, match="its end is not the last event"):
        registry.events()


def test_a_missing_event_log_is_named(registry: Registry) -> None:
    (registry.path / "events.jsonl").unlink()
    with pytest.raises(RegistryCorrupt, match=r"events\.jsonl cannot be read"):
        registry.events()
    with pytest.raises(RegistryCorrupt, match=r"events\.jsonl cannot be read"):
        registry.set_shadow(None, who=WHO)


def test_an_edited_pointer_with_a_right_digest_disagrees_with_the_events(
    registry: Registry, three: list[str]
) -> None:
    registry.promote(three[0], who=WHO)
    pointer = registry.pointer()
    channels = replace(pointer.channels, champion=three[1])
    write_pointer(registry.path / "pointer.json", replace(pointer, channels=channels))
    (found,) = registry.verify()
    assert "another champion than pointer.json" in found.problem
    bundles = {**pointer.bundles}
    bundles[three[2]] = replace(bundles[three[2]], seal="0" * 64)
    write_pointer(registry.path / "pointer.json", replace(pointer, bundles=bundles))
    problems = [finding.problem for finding in registry.verify()]
    assert any("no event added tiny@3.0" in problem for problem in problems)


def test_an_edited_report_is_a_finding_and_promotes_nothing(
    registry: Registry, tmp_path: Path
) -> None:
    digest = registry.add(write_tiny(tmp_path / "a", "1.0"), who=WHO)
    kept = registry.keep_report(report_of(digest, passed=False))
    (registry.path / "reports" / f"{kept}.json").write_bytes(report_of(digest))
    (found,) = registry.verify()
    assert found.file == f"reports/{kept}.json"
    with pytest.raises(Exception, match="no gate report"):
        registry.promote(digest, who=WHO)


@pytest.mark.parametrize("written", ["nothing", "one byte", "all but the line end"])
def test_what_a_kill_between_pointer_and_log_left_is_completed_by_the_next_change(
    registry: Registry, three: list[str], written: str
) -> None:
    log = registry.path / "events.jsonl"
    registry.promote(three[0], who=WHO)
    whole = log.read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    ends = {"nothing": start, "one byte": start + 1, "all but the line end": len(whole) - 1}
    left = whole[: ends[written]]
    log.write_bytes(left)
    assert registry.events()[-1].action == "promote"
    assert registry.verify() == ()
    assert log.read_bytes() == left  # a reader writes nothing
    registry.promote(three[1], who=WHO)
    assert log.read_bytes().startswith(whole)
    assert len(registry.events()) == 6
    assert registry.verify() == ()


def test_a_registry_that_another_process_holds_is_one_error_after_a_while(
    registry: Registry, three: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("classmark.registry.commit.LOCK_WAIT_S", 0.1)
    with (
        locked_file(registry.path / "registry.json"),
        pytest.raises(OutputBusy, match=r"another process has held .*registry\.json"),
    ):
        registry.promote(three[0], who=WHO)
    assert registry.pointer().channels.champion is None


def test_readers_are_not_held_up_by_a_writer(registry: Registry, three: list[str]) -> None:
    with locked_file(registry.path / "registry.json"):
        other = Registry.open(registry.path)
        assert other.load(three[0]).digest == three[0]
        assert len(other.events()) == 4


def test_time_that_goes_backwards_changes_no_order(registry: Registry, three: list[str]) -> None:
    """The last event came from a machine whose clock was wrong by a century."""
    pointer = registry.pointer()
    future = replace(pointer.last_event, at_utc="2126-01-01T00:00:00.000Z")
    write_pointer(registry.path / "pointer.json", replace(pointer, last_event=future))
    edit_lines(registry, lambda lines: lines.__setitem__(-1, future.line() + b"\n"))
    registry = Registry.open(registry.path)
    registry.promote(three[0], who=WHO)
    registry.promote(three[1], who=WHO)
    events = registry.events()
    assert [event.sequence for event in events] == list(range(1, 7))
    assert events[-1].at_utc < events[-3].at_utc
    assert registry.rollback(who=WHO).channels.champion == three[0]
    assert registry.verify() == ()


FULL = """
import resource, sys
from pathlib import Path
from classmark.registry import Registry
registry = Registry.open(Path(sys.argv[1]))
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, -1))
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    registry.promote(sys.argv[3], who="full", why="x" * 400)
except Exception as error:
    print(type(error).__name__, error)
else:
    print("done")
resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))  # coverage writes a file
"""


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such limits")
def test_a_disk_that_is_full_leaves_the_state_before(registry: Registry, three: list[str]) -> None:
    before = files_of(registry.path)
    for limit in (0, 1, 1000):
        command = [sys.executable, "-c", FULL, str(registry.path), str(limit), three[0]]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.stdout.startswith("StorageFailed cannot write"), done.stdout + done.stderr
        assert "pointer.json" in done.stdout
        assert files_of(registry.path) == before


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such limits")
def test_a_disk_that_is_full_after_the_pointer_keeps_the_event_in_it(
    registry: Registry, three: list[str]
) -> None:
    for _ in range(12):  # the log becomes longer than the pointer
        registry.set_shadow(three[2], who=WHO, why="y" * 400)
    size = (registry.path / "events.jsonl").stat().st_size
    assert size > (registry.path / "pointer.json").stat().st_size + 2000
    command = [sys.executable, "-c", FULL, str(registry.path), str(size + 100), three[0]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "done\n"
    assert "the event of a change is in pointer.json only" in done.stderr
    assert registry.pointer().channels.champion == three[0]
    assert registry.events()[-1].action == "promote"
    assert registry.verify() == ()
    registry.promote(three[1], who=WHO)
    assert [event.action for event in registry.events()][-2:] == ["promote", "promote"]
    assert registry.verify() == ()


@pytest.mark.skipif(sys.platform != "linux" or not IS_ROOT, reason="mounts a disk")
def test_a_registry_on_a_read_only_disk_is_read_and_not_changed(
    registry: Registry, three: list[str], tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "--bind", str(registry.path), str(disk)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(disk)], check=True)
        there = Registry.open(disk)
        assert there.load(three[0]).digest == three[0]
        assert there.verify() == ()
        for change in (
            lambda: there.promote(three[0], who=WHO),
            lambda: there.set_shadow(None, who=WHO),
        ):
            with pytest.raises(StorageFailed, match=r"pointer\.json: the file system is read-only"):
                change()
        with pytest.raises(StorageFailed, match="read-only"):
            there.add(write_tiny(tmp_path / "n", "9.0"), who=WHO)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.skipif(sys.platform != "linux" or not IS_ROOT, reason="mounts a disk")
def test_a_bundle_that_does_not_fit_on_the_disk_leaves_no_trace(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)], check=True)
    try:
        registry = Registry.create(disk / "registry", who=WHO)
        digest = add_passed(registry, tmp_path, "1.0")
        free = os.statvfs(disk)
        (disk / "filler").write_bytes(bytes(max(0, free.f_bavail - 2) * free.f_bsize))
        before = files_of(registry.path)
        with pytest.raises(StorageFailed, match="the disk is full"):
            registry.add(write_tiny(tmp_path / "n", "9.0"), who=WHO)
        assert files_of(registry.path) == before
        (disk / "filler").unlink()
        registry.promote(digest, who=WHO)
        assert registry.verify() == ()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_pointer_with_a_number_that_is_not_finite_is_refused(registry: Registry) -> None:
    path = registry.path / "pointer.json"
    path.write_text(path.read_text().replace('"shadow_percent": 0.0', '"shadow_percent": NaN'))
    with pytest.raises(RegistryCorrupt, match="its content does not match its digest"):
        Registry.open(registry.path)


def test_a_document_that_cannot_be_read_is_named(registry: Registry) -> None:
    (registry.path / "pointer.json").unlink()
    (registry.path / "pointer.json").mkdir()
    with pytest.raises(RegistryCorrupt, match=r"pointer\.json cannot be read"):
        Registry.open(registry.path)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"digest": 1, "passed": true}', b"\xff"])
def test_what_is_no_gate_report_is_refused(
    registry: Registry, three: list[str], tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "report.json").write_bytes(content)
    with pytest.raises(InvalidReport, match=r"report\.json is not a gate report"):
        registry.promote(three[0], who=WHO, report=tmp_path / "report.json")
    with pytest.raises(InvalidReport, match=r"missing\.json cannot be read"):
        registry.promote(three[0], who=WHO, report=tmp_path / "missing.json")
    assert registry.pointer().channels.champion is None


def test_a_copy_that_is_not_the_bundle_that_was_added_is_refused(
    registry: Registry, three: list[str], tmp_path: Path
) -> None:
    shutil.rmtree(registry.bundle(three[0]))
    shutil.copytree(registry.bundle(three[1]), registry.path / "bundles" / three[0])
    with pytest.raises(BundleCorrupt, match=rf"{three[0]}/bundle\.json is another one"):
        registry.load(three[0])


def test_an_event_is_one_line_whatever_it_says() -> None:
    event = PromotionEvent(
        sequence=1, at_utc="t", who="a\u2028b", action="create", why='"\\', numbers={"x": "\n"}
    )
    assert b"\n" not in event.line()
    assert PromotionEvent.from_dict(json.loads(event.line())) == event
