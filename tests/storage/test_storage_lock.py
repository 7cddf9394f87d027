"""One process a folder: the second is refused, and a lock ends with its process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from bucket_fixtures import bucket, needs_bucket
from classmark.errors import OutputBusy, StorageFailed
from classmark.storage import LOCK_FILE, BucketPath, leased, locked_file, locked_folder

__all__ = ["bucket"]

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


@posix
@pytest.mark.parametrize(
    ("link", "error"), [("unmounted", StorageFailed), ("unmounted/w/lock", FileNotFoundError)]
)
def test_a_link_that_leads_nowhere_is_an_error(
    tmp_path: Path, link: str, error: type[Exception]
) -> None:
    folder = tmp_path / "unmounted" / "w"
    (tmp_path / link).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / link).symlink_to(tmp_path / "none" / "there")
    with pytest.raises(error, match="unmounted"):
        locked_folder(folder).__enter__()


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


@needs_bucket
def test_a_lease_is_held_by_one_run_at_a_time(bucket: Any) -> None:
    place = BucketPath.parse("gs://papers/retrain/lease")
    with leased(place):
        with pytest.raises(
            OutputBusy, match=r"gs://papers/retrain/lease is held by 'process \d+ of "
        ):
            leased(place).__enter__()
        assert bucket.names() == ["retrain/lease"]
    assert bucket.names() == []
    with leased(place):
        pass


@needs_bucket
def test_of_two_runs_that_take_a_lease_in_the_same_moment_one_gets_it(bucket: Any) -> None:
    place = BucketPath.parse("gs://papers/lease")
    late = bucket.hold("POST", "lease")
    with ThreadPoolExecutor(1) as threads:
        second = threads.submit(leased(place).__enter__)
        late.arrived.wait()
        with leased(place):
            late.released.set()
            assert "is held by" in str(second.exception())


@needs_bucket
def test_the_lease_of_a_run_that_vanished_runs_out(bucket: Any) -> None:
    place = BucketPath.parse("gs://papers/lease")
    program = (
        "import time; from classmark.storage import BucketPath, leased\n"
        f"with leased(BucketPath.parse('{place}')): print('held', flush=True); time.sleep(600)"
    )
    words = [sys.executable, "-c", program]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        other.kill()
    with pytest.raises(OutputBusy, match="its lease runs out 300 s after it"):
        leased(place).__enter__()
    with leased(place, lasts_s=0.001):
        assert place.is_file()
    assert not place.exists()


@needs_bucket
def test_a_lease_is_renewed_while_its_run_works(bucket: Any) -> None:
    place = BucketPath.parse("gs://papers/lease")
    with leased(place, lasts_s=0.1):
        seen = {place.version().generation}
        while len(seen) < 4:
            seen.add(place.version().generation)


@needs_bucket
def test_a_run_whose_lease_was_taken_away_is_interrupted(bucket: Any) -> None:
    place = BucketPath.parse("gs://papers/lease")

    def work() -> None:
        with leased(place, lasts_s=0.5):
            place.write(b"another machine 17")
            threading.Event().wait(600)

    with pytest.raises(OutputBusy, match="another run holds gs://papers/lease, because this one"):
        work()
    assert place.read_bytes() == b"another machine 17"


@needs_bucket
def test_a_run_that_cannot_renew_its_lease_ends_when_another_may_begin(bucket: Any) -> None:
    place = BucketPath.parse("gs://papers/lease")

    def work() -> None:
        with leased(place, lasts_s=0.5):
            bucket.fail("POST", "lease", 403, times=10_000)
            threading.Event().wait(600)

    with pytest.raises(OutputBusy, match="because this one did not renew it for"):
        work()


@needs_bucket
def test_an_interrupted_run_gives_its_lease_back(bucket: Any) -> None:
    place = BucketPath.parse("gs://papers/lease")
    with pytest.raises(KeyboardInterrupt), leased(place):
        raise KeyboardInterrupt
    assert not place.exists()
