"""Addresses of buckets, and folders that stand for the files in them."""

from __future__ import annotations

import sys
from hashlib import sha256
from pathlib import Path

import pytest

from classmark.errors import MissingExtra, UnreadableSource
from classmark.storage import content_mark, files_of, is_remote, locate, staged_folder


@pytest.mark.parametrize(
    ("text", "remote"),
    [("gs://b/x", True), ("s3://b", True), ("a/b.csv", False), ("C:/b", False), ("gs:/b", False)],
)
def test_an_address_has_a_scheme_and_two_slashes(text: str, remote: bool) -> None:
    assert is_remote(text) is remote
    if not remote:
        assert locate(text) == Path(text)


def test_a_bucket_without_the_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "upath", None)
    with pytest.raises(MissingExtra, match=r"buckets needs .* 'classmark\[ray\]'"):
        locate("gs://bucket/papers.csv")


def test_a_folder_stands_for_its_visible_files_by_name(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", ".hidden"):
        (tmp_path / name).write_text(name)
    (tmp_path / "inner").mkdir()
    other = tmp_path / "b.csv"
    assert files_of([other, tmp_path]) == [other, tmp_path / "a.csv", other]
    with pytest.raises(UnreadableSource, match=r"inner holds no files"):
        files_of([tmp_path / "inner"])


def test_the_mark_of_a_file_of_this_machine_is_its_digest(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"papers")
    assert content_mark(tmp_path / "a") == sha256(b"papers").hexdigest()


def test_a_folder_of_this_machine_is_written_where_it_is(tmp_path: Path) -> None:
    with staged_folder(tmp_path / "out", last="manifest.json") as folder:
        assert folder == tmp_path / "out"
