"""SIGKILL at every line of a write: the old or the new is there, whole, and nothing beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from classmark.storage import atomic_file, atomic_folder, recover_output, remove_leftovers

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


def test_what_a_killed_run_left_of_the_same_output_goes_with_the_next_run(tmp_path: Path) -> None:
    left = leave(tmp_path / "d", "tmp")
    old = leave(tmp_path / "d", "old")
    with atomic_folder(tmp_path / "d", overwrite=True) as folder:
        assert not left.exists()
        assert (tmp_path / "d" / "file").read_text() == "left"
        assert not old.exists()
        (folder / "new").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


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
