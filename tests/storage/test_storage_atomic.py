"""Files and folders are whole or not there, whatever stands in the way."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from classmark.errors import StorageFailed
from classmark.storage import (
    atomic_file,
    atomic_folder,
    check_file_place,
    check_folder_place,
    restored_on_failure,
    write_json,
    write_text,
)

posix = pytest.mark.skipif(os.name == "nt", reason="links and pipes need rights there")


class Stop(BaseException):
    """What no handler of errors catches, like Ctrl-C."""


def break_off(context: AbstractContextManager[Any], path: Path, error: type[BaseException]) -> None:
    """Begin to write, then fail."""
    with context as opened:
        if hasattr(opened, "write"):
            opened.write(b"half")
        else:
            write_text((opened or path) / "half", "")
        raise error


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_file_appears_at_the_end_with_the_folders_above_it(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "a" / "b.txt") as file:
        file.write(b"x")
        assert "a/b.txt" not in names(tmp_path)
    assert (tmp_path / "a" / "b.txt").read_bytes() == b"x"


@pytest.mark.parametrize("error", [ValueError, Stop])
def test_a_broken_off_file_leaves_the_older_one(tmp_path: Path, error: type[BaseException]) -> None:
    write_text(tmp_path / "a", "old")
    with pytest.raises(error):
        break_off(atomic_file(tmp_path / "a"), tmp_path / "a", error)
    assert (names(tmp_path), (tmp_path / "a").read_text()) == (["a"], "old")


@pytest.mark.parametrize("error", [ValueError, Stop])
def test_a_broken_off_folder_leaves_the_older_one(
    tmp_path: Path, error: type[BaseException]
) -> None:
    write_json(tmp_path / "d" / "old", 1)
    with pytest.raises(error):
        break_off(atomic_folder(tmp_path / "d", overwrite=True), tmp_path / "d", error)
    assert names(tmp_path) == ["d", "d/old"]


def test_a_folder_is_replaced_as_a_whole_and_only_on_request(tmp_path: Path) -> None:
    write_text(tmp_path / "d" / "old", "")
    with pytest.raises(StorageFailed, match=r"d already exists.*--overwrite"):
        check_folder_place(tmp_path / "d")
    with atomic_folder(tmp_path / "d", overwrite=True) as folder:
        (folder / "new").touch()
    assert names(tmp_path / "d") == ["new"]


@posix
def test_a_link_is_followed_not_replaced(tmp_path: Path) -> None:
    write_text(tmp_path / "far" / "file", "old")
    write_text(tmp_path / "far" / "folder" / "old", "old")
    (tmp_path / "file").symlink_to(tmp_path / "far" / "file")
    (tmp_path / "folder").symlink_to(tmp_path / "far" / "folder")
    write_text(tmp_path / "file", "new")
    with atomic_folder(tmp_path / "folder", overwrite=True) as folder:
        (folder / "new").touch()
    assert (tmp_path / "file").is_symlink()
    assert (tmp_path / "folder").is_symlink()
    assert names(tmp_path / "far") == ["file", "folder", "folder/new"]
    assert (tmp_path / "far" / "file").read_text() == "new"


@posix
def test_a_pipe_is_written_to_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    check_file_place(pipe)
    write_text(pipe, "x")
    assert os.read(reader, 9) == b"x"
    os.close(reader)
    assert pipe.is_fifo()


@pytest.mark.parametrize("path", ["new/a/b", "new", "."])
def test_looking_at_a_place_leaves_no_trace(tmp_path: Path, path: str) -> None:
    check_folder_place(tmp_path / path)
    assert names(tmp_path) == []
    if path != ".":
        check_file_place(tmp_path / path)
    assert names(tmp_path) == []


def test_a_place_that_cannot_be_written_is_named_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageFailed, match=r"cannot write .*: it is a folder\. Choose another"):
        check_file_place(tmp_path)
    with pytest.raises(StorageFailed, match=r"file.x: a part of the path is a file\."):
        check_file_place(tmp_path / "file" / "x")
    with pytest.raises(StorageFailed, match=r"file.x: a part of the path is a file\."):
        check_folder_place(tmp_path / "file" / "x")


@pytest.mark.parametrize("error", [ValueError, Stop])
def test_what_was_set_aside_comes_back_after_a_failure(
    tmp_path: Path, error: type[BaseException]
) -> None:
    write_text(tmp_path / "d" / "old", "")
    with pytest.raises(error):
        break_off(restored_on_failure(tmp_path / "d"), tmp_path / "d", error)
    assert names(tmp_path / "d") == ["old"]
    assert names(tmp_path) == ["d", "d/old"]


def test_what_was_set_aside_is_gone_after_a_success(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with restored_on_failure(tmp_path / "d"):
            write_text(tmp_path / "d" / name, "")
    assert names(tmp_path) == ["d", "d/two"]


def test_a_failure_without_an_older_folder_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Stop):
        break_off(restored_on_failure(tmp_path / "d"), tmp_path / "d", Stop)
    assert names(tmp_path) == []


@posix
def test_a_private_file_is_its_owners_and_keeps_what_its_group_may(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"

    def modes_while_written() -> tuple[int, int]:
        with atomic_file(path, private=True) as file:
            file.write(b"secret")
            (temporary,) = [entry for entry in tmp_path.iterdir() if entry != path]
            meanwhile = temporary.stat().st_mode & 0o777
        return meanwhile, path.stat().st_mode & 0o777

    before = os.umask(0)
    try:
        assert modes_while_written() == (0o600, 0o600)
        for mode, kept in ((0o640, 0o640), (0o400, 0o400), (0o666, 0o660), (0o755, 0o750)):
            path.chmod(mode)
            assert modes_while_written() == (0o600, kept)
    finally:
        os.umask(before)
    assert path.read_bytes() == b"secret"


@posix
def test_a_private_file_whose_owner_cannot_be_kept_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "keys.json"
    path.write_text("old")
    if os.geteuid() != 0:
        pytest.skip("only root can make a file of another user")
    os.chown(path, 12_001, 12_002)

    def refuse(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refuse)
    with (
        pytest.raises(StorageFailed, match="user 12001 and group 12002, which user root cannot"),
        atomic_file(path, private=True) as file,
    ):
        file.write(b"new")
    assert (path.read_text(), names(tmp_path)) == ("old", ["keys.json"])
