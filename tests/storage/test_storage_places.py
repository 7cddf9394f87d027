"""Outputs that would harm an input are refused, and every reason of the system is one line."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

import pytest

from classmark.errors import NoHomeFolder, StorageFailed, advice
from classmark.storage import (
    atomic_file,
    atomic_folder,
    check_apart,
    check_file_place,
    expand_home,
    storage_errors,
    write_text,
)

posix = pytest.mark.skipif(os.name == "nt", reason="links and modes need rights there")
OTHER_SPELLINGS = {
    "the same": "data/in.csv",
    "dots": "data/../data/./in.csv",
    "link": "link.csv",
    "hard link": "hard.csv",
    "link to the folder": "linked/in.csv",
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_text(Path("data/in.csv"), "input")
    Path("link.csv").symlink_to("data/in.csv")
    Path("linked").symlink_to("data")
    Path("hard.csv").hardlink_to("data/in.csv")
    return tmp_path


@posix
@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("spelling", OTHER_SPELLINGS)
def test_an_output_that_is_the_input_is_refused_under_every_name(spelling: str) -> None:
    output = OTHER_SPELLINGS[spelling]
    with pytest.raises(StorageFailed, match=r"is the input data.in\.csv, which would be lost"):
        check_apart([Path(output)], [None, Path("data/in.csv")])
    with pytest.raises(StorageFailed, match=r"is the input .* which would be lost"):
        check_apart([None, Path("data/in.csv")], [Path(output)])


@posix
@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("output", ["data", "linked", ".", "data/.."])
def test_a_folder_that_holds_the_input_is_refused(output: str) -> None:
    with pytest.raises(StorageFailed, match=r"is a folder that holds the input data.in\.csv"):
        check_apart([Path(output)], [Path("data/in.csv")])


@posix
@pytest.mark.usefixtures("here")
def test_a_part_of_an_input_folder_is_refused_but_not_a_new_file_in_it() -> None:
    with pytest.raises(StorageFailed, match="is a part of the input data, which would be lost"):
        check_apart([Path("linked/in.csv")], [Path("data")])
    check_apart([Path("data/new.csv"), Path("other.csv")], [Path("data"), Path("absent.csv")])
    check_apart([Path("data/out.csv")], [Path("data/in.csv")])


@pytest.mark.parametrize("other", ["out", "out/report.json", "./out"])
def test_outputs_in_each_others_way_are_refused(other: str) -> None:
    with pytest.raises(StorageFailed, match=r"are in each other's way"):
        check_apart([Path(other), Path("out")], [])


@posix
def test_devices_and_pipes_are_never_in_the_way(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for stream in (tmp_path / "pipe", Path("/dev/null")):
        check_apart([stream, stream], [stream])


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_every_error_of_the_system_names_the_file_and_the_reason(
    tmp_path: Path, number: int
) -> None:
    expected = BrokenPipeError if number in (errno.EPIPE, errno.ESHUTDOWN) else StorageFailed
    with pytest.raises(expected) as raised, storage_errors(tmp_path / "out"):
        raise OSError(number, os.strerror(number))
    if expected is StorageFailed:
        assert str(raised.value).startswith(f"cannot write {tmp_path / 'out'}: ")
        assert str(raised.value).endswith(".")


def test_an_error_of_another_file_is_not_said_of_the_output(tmp_path: Path) -> None:
    for name in (tmp_path / "in", Path("/etc/shadow")):
        with pytest.raises(PermissionError), storage_errors(tmp_path / "out"):
            raise PermissionError(errno.EACCES, "Permission denied", str(name))
    for name in (tmp_path / "out" / "x", tmp_path / ".out.0123abcd.classmark-tmp", tmp_path):
        with (
            pytest.raises(StorageFailed, match="out: permission"),
            storage_errors(tmp_path / "out"),
        ):
            raise PermissionError(errno.EACCES, "Permission denied", str(name))


def test_a_name_as_long_as_the_disk_takes_is_written_and_a_longer_one_is_refused(
    tmp_path: Path,
) -> None:
    longest = tmp_path / ("é" * 127 + "x")
    write_text(longest, "new")
    assert [path.name for path in tmp_path.iterdir()] == [longest.name]
    for check in (check_file_place, lambda path: write_text(path, "new")):
        with pytest.raises(StorageFailed, match=r"the name is too long. Choose a shorter one"):
            check(tmp_path / ("x" * 256))


@posix
def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(StorageFailed, match=r"a: its links lead in a circle"):
        write_text(tmp_path / "a", "new")


@posix
def test_modes_follow_the_umask_without_changing_it_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.umask(0o027)
    with monkeypatch.context() as patch:
        patch.setattr("os.umask", None)
        write_text(tmp_path / "file", "new")
        with atomic_folder(tmp_path / "folder") as folder:
            (folder / "new").touch()
    os.umask(before)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("file", "folder")]
    assert modes == [0o640, 0o750]


@posix
def test_a_private_file_is_the_owners_alone_from_the_first_byte(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with atomic_file(tmp_path / "file", private=True) as file:
            file.write(b"secret")
            file.flush()
            (temporary,) = tmp_path.iterdir()
            assert temporary.stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


def test_of_two_runs_that_may_not_replace_the_slower_one_is_refused(tmp_path: Path) -> None:
    def lose() -> None:
        with atomic_folder(tmp_path / "d") as folder:
            (folder / "slow").touch()
            with atomic_folder(tmp_path / "d") as other:
                (other / "fast").touch()

    with pytest.raises(StorageFailed, match=r"d already exists\. Choose another output"):
        lose()
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["fast"]
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


@posix
def test_the_folder_one_stands_in_is_replaced_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "old").touch()
    monkeypatch.chdir(tmp_path / "d")
    with atomic_folder(Path(), overwrite=True) as folder:
        (folder / "new").touch()
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


@posix
def test_what_could_not_be_written_is_not_tried_again_at_the_end() -> None:
    """An interrupted write to a full disk stays an interrupted write."""
    with suppress(KeyboardInterrupt), atomic_file(Path("/dev/full")) as file:
        file.write(b"x")
        raise KeyboardInterrupt


def test_a_tilde_is_the_home_folder_or_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand_home("~/runs") == tmp_path / "runs"
    assert expand_home("runs") == Path("runs")
    with pytest.raises(NoHomeFolder, match="Write the path without '~'"):
        expand_home("~nobody-of-this-name/runs")


def test_where_no_temporary_file_can_be_made_the_advice_names_the_variable() -> None:
    error = FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")
    assert advice(error, "Check the path") == "Set TMPDIR to a folder that you can write to"
