"""Objects and folders in a bucket: whole or not there, and never lost to another writer."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from bucket_fixtures import bucket, needs_bucket
from classmark.bundle import find_bundle
from classmark.errors import ClassmarkError, CloudNotFound, OutputChanged, StorageFailed, UsageError
from classmark.storage import (
    BucketPath,
    append,
    atomic_file,
    folder_place,
    is_remote,
    local_copy,
    replaceable,
    staged_folder,
    write_text,
)
from tiny_bundles import tiny_manifest

__all__ = ["bucket"]
pytestmark = needs_bucket
OUT = BucketPath("papers", "out")


def put(**files: str) -> None:
    for name, text in files.items():
        (OUT / name).write(text.encode())


def stage(last: str = "manifest", overwrite: bool = False, **files: str) -> None:
    with staged_folder(folder_place(str(OUT)), last=last, overwrite=overwrite) as folder:
        for name, text in files.items():
            (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("text", "bucket_name", "key"),
    [("gs://papers", "papers", ""), ("gs://papers//a/b.csv/", "papers", "a/b.csv")],
)
def test_an_address_names_a_bucket_and_a_path(text: str, bucket_name: str, key: str) -> None:
    path = BucketPath.parse(text)
    assert (path.bucket, path.key) == (bucket_name, key)
    assert is_remote(str(path))
    assert BucketPath.parse(str(path)) == path


@pytest.mark.parametrize("text", ["gs://", "gs://Papers/x", "gs://papers/../x", "s3://papers/x"])
def test_another_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"gs://BUCKET/PATH|has a part"):
        BucketPath.parse(text)


def test_a_path_answers_as_one_of_this_machine_does(bucket: Any) -> None:
    put(**{"a.json": "1", "b.txt": "22", "inner/c.json": "3"})
    assert [path.name for path in OUT.iterdir()] == ["a.json", "b.txt", "inner"]
    assert [path.stem for path in OUT.glob("*.json")] == ["a"]
    assert (OUT.is_dir(), OUT.is_file(), OUT.exists()) == (True, False, True)
    file = OUT / "b.txt"
    assert (file.is_dir(), file.is_file(), file.suffix, file.parent) == (False, True, ".txt", OUT)
    assert file.read_text() == "22"
    before = file.stat()
    assert before.st_size == 2
    file.write(b"33")
    assert file.stat().st_ino > before.st_ino
    file.unlink()
    file.unlink()
    for look in (file.stat, file.read_bytes):
        with pytest.raises(FileNotFoundError, match=r"gs://papers/out/b\.txt"):
            look()


def test_an_object_is_replaced_only_while_it_is_the_version_that_was_read(bucket: Any) -> None:
    put(a="1")
    with replaceable(folder_place("gs://papers/out/a"), lock=Path("none")) as place:
        assert place.read_bytes() == b"1"
        put(a="another's")
        with pytest.raises(OutputChanged, match="another process changed gs://papers/out/a"):
            write_text(place, "2")
        assert place.read_bytes() == b"another's"
        write_text(place, "3")
    assert bucket.content("out/a") == b"3"
    with pytest.raises(OutputChanged):
        (OUT / "a").unlink(before=(OUT / "none").version())


@pytest.mark.parametrize("status", [0, 429, 500, 503])
@pytest.mark.parametrize("after", [False, True])
def test_a_write_that_fails_for_a_moment_happens_once(
    bucket: Any, status: int, after: bool
) -> None:
    put(a="1")
    _, version = (OUT / "a").read()
    bucket.fail("POST", '"name": "out/a"', status, after=after)
    (OUT / "a").write(b"2", before=version)
    assert bucket.content("out/a") == b"2"


def test_a_write_is_ours_also_when_another_has_replaced_it_already(bucket: Any) -> None:
    put(a="1")
    _, version = (OUT / "a").read()
    bucket.fail("POST", '"name": "out/a"', 503, after=True)
    held = bucket.hold("POST", '"name": "out/a"')
    problems: list[Exception] = []

    def write() -> None:
        try:
            (OUT / "a").write(b"2", before=version)
        except ClassmarkError as error:
            problems.append(error)

    writing = threading.Thread(target=write)
    writing.start()
    assert held.arrived.wait(60)  # it asks again, for its first answer was lost
    content, seen = (OUT / "a").read()
    (OUT / "a").write(b"3", before=seen)
    held.released.set()
    writing.join()
    assert (content, bucket.content("out/a"), problems) == (b"2", b"3", [])


def test_a_log_grows_only_after_what_was_seen_of_it(bucket: Any) -> None:
    put(log="one\n")
    log = folder_place("gs://papers/out/log")
    append(log, b"two\n", after=4)
    with pytest.raises(OutputChanged):
        append(log, b"three\n", after=4)
    assert bucket.content("out/log") == b"one\ntwo\n"


def test_a_file_that_fails_is_not_written(bucket: Any) -> None:
    with pytest.raises(ZeroDivisionError), atomic_file(folder_place(f"{OUT}/a")) as file:
        file.write(bytes([1 // int(not file)]))
    assert bucket.names() == []


def test_a_folder_is_fetched_once_and_again_when_it_has_changed(bucket: Any) -> None:
    put(**{"a": "1", "inner/b": "2"})
    copy = local_copy(folder_place(str(OUT)))
    assert (copy.name, (copy / "inner/b").read_text()) == ("out", "2")
    bucket.requests.clear()
    assert local_copy(folder_place(str(OUT))) == copy
    assert len(bucket.requests) == 1
    put(a="changed")
    new = local_copy(folder_place(str(OUT)))
    assert ((new / "a").read_text(), (copy / "a").read_text()) == ("changed", "1")
    assert local_copy(folder_place(f"{OUT}/a")).read_text() == "changed"
    assert local_copy(Path("here")) == Path("here")


def test_a_folder_that_changes_while_it_is_fetched_is_fetched_again(bucket: Any) -> None:
    put(a="1", b="1")
    held = bucket.hold("GET", "out/b.*alt=media")
    fetched: list[Path] = []
    fetching = threading.Thread(target=lambda: fetched.append(local_copy(folder_place(str(OUT)))))
    fetching.start()
    assert held.arrived.wait(60)
    put(a="2", b="2")
    held.released.set()
    fetching.join()
    assert {path.read_text() for path in fetched[0].iterdir()} == {"2"}


def test_what_is_not_there_is_named(bucket: Any) -> None:
    with pytest.raises(CloudNotFound, match="gs://papers/none is not there"):
        local_copy(folder_place("gs://papers/none"))
    for use in (local_copy, lambda path: write_text(path, "x")):
        with pytest.raises(CloudNotFound, match="there is no bucket 'another'"):
            use(folder_place("gs://another/x"))


@pytest.mark.parametrize(("method", "role"), [("GET", "objectViewer"), ("POST", "objectUser")])
def test_a_missing_permission_names_the_role(bucket: Any, method: str, role: str) -> None:
    put(a="1")
    bucket.fail(method, "out", 403, times=9)
    with pytest.raises(StorageFailed, match=rf"permission denied .*roles/storage\.{role} on"):
        stage(overwrite=True, manifest="m")


def test_a_folder_goes_up_with_the_file_that_makes_it_count_last(bucket: Any) -> None:
    stage(a="1", manifest="m", z="2")
    written = [n for n in bucket.storage.objects["papers"]]
    assert written == ["out/a", "out/z", "out/manifest"]
    with pytest.raises(StorageFailed, match="gs://papers/out already exists"):
        stage(a="1")
    stage(overwrite=True, a="3", manifest="n")
    assert bucket.names() == ["out/a", "out/manifest"]
    assert bucket.content("out/a") == b"3"


def test_an_interrupted_folder_is_unfinished_and_is_written_again(bucket: Any) -> None:
    stage(a="1", manifest="m", z="2")
    bucket.fail("POST", '"name": "out/z"', 403)
    with pytest.raises(StorageFailed, match="out/z cannot be written"):
        stage(overwrite=True, a="3", manifest="n", z="4")
    assert bucket.names() == ["out/a", "out/z"]
    stage(a="3", manifest="n", z="4")
    assert [bucket.content(name) for name in bucket.names()] == [b"3", b"n", b"4"]


def test_overwrite_replaces_no_folder_of_other_things(bucket: Any, tmp_path: Path) -> None:
    (OUT / "theirs")._blob().upload_from_string(b"x")
    with pytest.raises(StorageFailed, match="gs://papers/out holds other things: it has no manif"):
        stage(overwrite=True, manifest="m")
    assert bucket.names() == ["out/theirs"]
    (tmp_path / "theirs").touch()
    with (
        pytest.raises(StorageFailed, match=r"holds other things: it has no manifest\. Choose"),
        staged_folder(tmp_path, last="manifest", overwrite=True),
    ):
        pass


def test_files_of_others_are_not_taken_for_an_interrupted_folder(bucket: Any) -> None:
    (OUT / "theirs")._blob().upload_from_string(b"x")
    with pytest.raises(StorageFailed, match="already exists"):
        stage(manifest="m")


def test_of_two_runs_that_write_one_folder_one_gives_up(bucket: Any) -> None:
    held = bucket.hold("POST", '"name": "out/a"')
    said: list[Exception] = []

    def run() -> None:
        try:
            stage(a="1", manifest="one")
        except ClassmarkError as error:
            said.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert held.arrived.wait(60)
    stage(a="2", manifest="two")
    held.released.set()
    thread.join()
    assert [type(error) for error in said] == [OutputChanged]
    assert [bucket.content(name) for name in bucket.names()] == [b"2", b"two"]


STAGE = """
import sys
from classmark.storage import folder_place, staged_folder
with staged_folder(folder_place("gs://papers/out"), last="manifest") as folder:
    for name in ("a", "b", "manifest"):
        (folder / name).write_bytes(b"x" * 100_000)
"""


@pytest.mark.parametrize("n_written", range(3))
def test_a_kill_during_an_upload_leaves_nothing_that_counts(bucket: Any, n_written: int) -> None:
    held = bucket.hold("POST", "/upload/", skip=n_written)
    process = subprocess.Popen([sys.executable, "-c", STAGE])
    assert held.arrived.wait(60)
    assert "out/manifest" not in bucket.names()
    process.kill()
    process.wait()
    if n_written == 2:
        return  # all of the last one had arrived
    held.released.set()
    assert held.done.wait(60)  # the server carries out what had arrived
    assert "out/manifest" not in bucket.names()
    stage(a="1", b="2", manifest="m")
    assert bucket.names() == ["out/a", "out/b", "out/manifest"]


def test_a_model_is_found_in_a_bucket(bucket: Any, tmp_path: Path) -> None:
    import numpy as np

    from classmark.bundle import load_bundle, write_bundle

    folder = tmp_path / "tiny"
    arrays = {"weights": np.arange(12, dtype=np.int8).reshape(3, 4)}
    write_bundle(folder, tiny_manifest("tiny", "1.0"), arrays, {"CARD.md": "# Tiny\n"})
    for path in folder.rglob("*.*"):
        (OUT / path.relative_to(folder).as_posix()).write(path)
    assert load_bundle(find_bundle("gs://papers/out")).digest == load_bundle(folder).digest


def test_without_credentials_the_error_says_how_to_sign_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    with pytest.raises(StorageFailed, match=r"needs credentials.*application-default login"):
        folder_place("gs://papers/x")
