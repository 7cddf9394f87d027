"""One process a folder: the second is refused, and a lock ends with its process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from classmark.errors import OutputBusy, StorageFailed
from classmark.storage import LOCK_FILE, locked_file, locked_folder

posix = pytest.mark.skipif(os.name == "nt", reason="a held file cannot be removed there")

HOLD = """
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from classmark.storage import locked_folder
with locked_folder(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_held_folder_is_refused_and_a_removed_one_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "w"
    with locked_folder(folder), pytest.raises(OutputBusy) as refused:
        locked_folder(folder, "take a walk").__enter__()
    assert str(refused.value) == (
        f"another run is at work in {folder}. Wait for it, or take a walk."
    )
    assert not folder.exists()
    with locked_folder(folder):
        assert (folder / LOCK_FILE).is_file()


def test_a_folder_that_holds_anything_else_stays(tmp_path: Path) -> None:
    with locked_folder(tmp_path / "w"):
        (tmp_path / "w" / "work").write_text("mine")
    with locked_folder(tmp_path / "w"):
        assert (tmp_path / "w" / "work").read_text() == "mine"


@posix
def test_who_holds_a_folder_that_was_removed_leaves_the_new_one_alone(tmp_path: Path) -> None:
    folder = tmp_path / "w"
    with locked_folder(folder):
        (folder / LOCK_FILE).unlink()
        folder.rmdir()
        other = locked_folder(folder)
        other.__enter__()
    assert (folder / LOCK_FILE).is_file()
    with pytest.raises(OutputBusy):
        locked_folder(folder).__enter__()
    other.__exit__(None, None, None)
    assert not folder.exists()


@posix
def test_of_many_that_come_and_go_at_once_one_holds_the_folder(tmp_path: Path) -> None:
    folder, holders, seen = tmp_path / "w", [0], set[int]()

    def come_and_go(_: int) -> None:
        for _ in range(300):
            with suppress(OutputBusy), locked_folder(folder):
                holders[0] += 1
                seen.add(holders[0])
                (folder / "work").write_text("")
                (folder / "work").unlink()
                holders[0] -= 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(come_and_go, range(4)))
    assert seen == {1}
    assert not folder.exists()


@posix
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_is_killed_holds_nothing(tmp_path: Path, how: signal.Signals) -> None:
    folder = tmp_path / "w"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(OutputBusy, match="another run is at work in"):
            locked_folder(folder).__enter__()
        other.send_signal(how)
        other.wait()
    with locked_folder(folder):
        assert folder.is_dir()
    assert not folder.exists()


@posix
def test_a_place_where_no_folder_can_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "absent")
    for name in ("file", "file/w", "link"):
        with pytest.raises(StorageFailed, match=rf"cannot write .*{name}: a part of the path is"):
            locked_folder(tmp_path / name).__enter__()


@posix
def test_a_file_is_held_by_one_at_a_time_also_when_it_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a" / "count"

    def count(_: int) -> None:
        with locked_file(path):
            n = int(path.read_bytes() or b"0")
            (tmp_path / f"{n}").write_text(f"{n + 1}")
            (tmp_path / f"{n}").replace(path)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(count, range(200)))
    assert path.read_text() == "200"


@posix
def test_a_file_that_stays_held_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    with locked_file(path), pytest.raises(OutputBusy) as refused:
        locked_file(path, wait_s=0).__enter__()
    assert str(refused.value) == (
        f"another process has held {path}. Wait for it, or end it (`fuser {path}` names it), "
        "then try again."
    )
    with locked_file(path):
        assert path.stat().st_mode & 0o777 == 0o600


@posix
def test_a_file_in_a_place_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed, match="a part of the path is a file"):
        locked_file(tmp_path / "file" / "keys.json").__enter__()
