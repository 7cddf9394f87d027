"""SIGKILL at every line of a write: the old or the new is there, whole, and nothing beside it."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from classmark.errors import StorageFailed
from classmark.storage import (
    atomic_file,
    atomic_folder,
    publish,
    recover_output,
    remove_leftovers,
    restored_on_failure,
    scratch_folder,
)
from classmark.storage.leftovers import make_file, make_folder

not_on_windows = pytest.mark.skipif(os.name == "nt", reason="a folder cannot be locked there")

pytestmark = pytest.mark.skipif(os.name == "nt", reason="processes are not forked there")

KILLS = Path(__file__).with_name("kills.py")
FEWEST_KILLS = 40


class Kill(NamedTuple):
    """What was found after a kill: at once, and when the next run had looked."""

    number: str
    ending: str
    at_once: str
    recovered: str
    left: str


def kills_of(way: str, folder: Path) -> list[Kill]:
    command = [sys.executable, str(KILLS), way, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    kills = [Kill(*line.split(" ")) for line in done.stdout.splitlines()]
    assert len(kills) > FEWEST_KILLS
    assert [kill.ending for kill in kills].count("done") == 1
    return kills


@pytest.mark.slow  # reason: hundreds of processes are forked and killed
@pytest.mark.parametrize("way", ["overwrite", "write_file"])
def test_a_kill_at_any_line_leaves_the_whole_old_or_the_whole_new(tmp_path: Path, way: str) -> None:
    kills = kills_of(way, tmp_path)
    assert {kill.at_once for kill in kills} == {"old", "new"}
    assert {(kill.recovered, kill.left) for kill in kills} == {("old", "d"), ("new", "d")}
    assert kills[-1].at_once == "new"


@pytest.mark.slow  # reason: hundreds of processes are forked and killed
@pytest.mark.parametrize("way", ["overwrite_in_two_steps", "make_in_place", "fail_in_place"])
def test_where_a_kill_may_leave_less_the_next_run_brings_the_old_back(
    tmp_path: Path, way: str
) -> None:
    kills = kills_of(way, tmp_path)
    expected = {"old"} if way == "fail_in_place" else {"old", "new"}
    assert {(kill.recovered, kill.left) for kill in kills} == {(state, "d") for state in expected}


def leave(place: Path, kind: str) -> Path:
    """Return a leftover as a killed run leaves it."""
    path = place.with_name(f".{place.name}.0123abcd.classmark-{kind}")
    path.mkdir()
    (path / "file").write_text("left")
    return path


@not_on_windows
def test_what_a_killed_run_left_of_the_same_output_goes_with_the_next_run(tmp_path: Path) -> None:
    left = leave(tmp_path / "d", "tmp")
    old = leave(tmp_path / "d", "old")
    with atomic_folder(tmp_path / "d", overwrite=True) as folder:
        assert not left.exists()
        assert (tmp_path / "d" / "file").read_text() == "left"
        assert not old.exists()
        (folder / "new").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


@not_on_windows
def test_files_of_users_other_outputs_and_live_runs_stay(tmp_path: Path) -> None:
    names = [".d.original", ".d.0123abcd.classmark-tmp.bak", ".d.classmark-tmp", ".d.0123abcd"]
    for name in names:
        (tmp_path / name).write_text("mine")
    other = leave(tmp_path / "other", "tmp")
    with atomic_file(tmp_path / "d") as file:
        recover_output(tmp_path / "d")
        with atomic_folder(tmp_path / "f") as folder:
            recover_output(tmp_path / "f")
            remove_leftovers(tmp_path)
            (folder / "new").touch()
        file.write(b"x")
    assert (tmp_path / "d").read_bytes() == b"x"
    assert not other.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "d", "f"])


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives away")
def test_what_another_user_left_stays(tmp_path: Path) -> None:
    left = leave(tmp_path / "d", "old")
    os.chown(left, 12345, 12345)
    recover_output(tmp_path / "d")
    assert [path.name for path in tmp_path.iterdir()] == [left.name]


def test_what_cannot_be_removed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "old").touch()

    def refuse(path: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with atomic_folder(tmp_path / "d", overwrite=True) as folder:
        (folder / "new").touch()
        monkeypatch.setattr("shutil.rmtree", refuse)
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["new"]
    (left,) = [path for path in tmp_path.iterdir() if path.name != "d"]
    assert f"cannot remove {left}: Permission denied. Remove it yourself." in caplog.text


def replace_folder(place: Path) -> None:
    with atomic_folder(place, overwrite=True) as folder:
        (folder / "new").touch()


def test_a_disk_that_cannot_exchange_names_gets_two_renames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        ctypes.set_errno(errno.EINVAL)
        return -1

    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "old").touch()
    monkeypatch.setattr("classmark.storage.atomic._system_call", lambda: refuse)
    replace_folder(tmp_path / "d")
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_rename_that_fails_leaves_the_old_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanges: bool
) -> None:
    def refuse(path: Path, target: Path) -> None:
        if path.name.endswith("-tmp"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        os.rename(path, target)  # noqa: PTH104 - the method is what is replaced

    def refuse_to_exchange(*_: object) -> int:
        ctypes.set_errno(errno.EACCES)
        return -1

    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "old").touch()
    call = (lambda: refuse_to_exchange) if exchanges else (lambda: None)
    monkeypatch.setattr("classmark.storage.atomic._system_call", call)
    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(StorageFailed, match=r"d: permission denied"):
        replace_folder(tmp_path / "d")
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_a_folder_that_cannot_be_set_aside_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, _target: Path) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy", str(path))

    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "old").touch()
    monkeypatch.setattr(Path, "rename", refuse)
    with (
        pytest.raises(StorageFailed, match=r"d: it is in use, for example as a mount point"),
        restored_on_failure(tmp_path / "d"),
    ):
        pytest.fail("nothing is made")
    assert (tmp_path / "d" / "old").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_a_half_made_folder_is_not_taken_from_a_run_that_makes_it(tmp_path: Path) -> None:
    with restored_on_failure(tmp_path / "d"):
        (tmp_path / "d" / "new").touch()
        recover_output(tmp_path / "d")
        assert (tmp_path / "d" / "new").exists()
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["new"]


def test_a_half_made_folder_that_a_kill_left_goes(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / ".classmark-unfinished").touch()
    recover_output(tmp_path / "d")
    assert list(tmp_path.iterdir()) == []


@not_on_windows
@pytest.mark.parametrize("make", [make_file, make_folder])
def test_a_name_that_another_run_has_just_cleared_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any
) -> None:
    """Between the making of a temporary file and its lock, another run may take it for dead."""
    answers = iter([False, True])
    monkeypatch.setattr("classmark.storage.leftovers.try_lock", lambda _: next(answers))
    made = make(tmp_path / "d", *([0o600] if make is make_file else []))
    os.close(made.handle)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_disk_without_locks_keeps_its_leftovers_and_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> bool:
        raise OSError(errno.ENOLCK, "No locks available")

    left = leave(tmp_path / "d", "tmp")
    monkeypatch.setattr("classmark.storage.leftovers.try_lock", refuse)
    replace_folder(tmp_path / "d")
    assert sorted(path.name for path in tmp_path.iterdir()) == [left.name, "d"]


def test_a_file_that_is_whole_is_published(tmp_path: Path) -> None:
    (tmp_path / "joined").write_text("new")
    publish(tmp_path / "joined", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "new"


@not_on_windows
def test_a_scratch_folder_goes_and_takes_with_it_what_a_killed_run_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = leave(tmp_path / "classmark", "tmp")
    with scratch_folder() as folder:
        assert not left.exists()
        with scratch_folder() as other:  # that of a live run stays
            assert other.parent == folder.parent == tmp_path
            assert folder.is_dir()
    assert not list(tmp_path.iterdir())


def test_a_scratch_folder_without_a_place_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(StorageFailed, match="missing"):
        scratch_folder().__enter__()
