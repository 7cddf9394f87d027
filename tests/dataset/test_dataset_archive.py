"""Archives that were made to do harm, or came to harm: none is used, nothing is unpacked."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from classmark.dataset.download import archive
from classmark.dataset.download.archive import check_archive, unpack
from classmark.errors import InvalidArchive, StorageFailed, UnreadableSource
from file_server import zip_of

CSV = b"id,title,category_code,summary\n1,A title,cs.LG,An abstract\n"


def put(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_the_files_of_a_good_zip_are_named_and_unpacked(tmp_path: Path) -> None:
    files = {"a.csv": CSV, "folder/b.csv": CSV, "__MACOSX/._a.csv": b"x"}
    path = put(tmp_path / "good.zip", zip_of({"folder/": b"", **files}))
    assert check_archive(path) == ("a.csv", "folder/b.csv")
    out = tmp_path / "out"
    assert unpack(path, out) == (out / "a.csv", out / "folder" / "b.csv")
    assert (out / "folder" / "b.csv").read_bytes() == CSV
    with pytest.raises(StorageFailed, match=r"out already exists"):
        unpack(path, out)
    (out / "a.csv").unlink()
    unpack(path, out, overwrite=True)
    (out / "thesis.tex").touch()
    with pytest.raises(StorageFailed, match=r"out holds 'thesis\.tex', .* would be lost\. Choose"):
        unpack(path, out, overwrite=True)
    assert (out / "thesis.tex").exists()


@pytest.mark.parametrize(
    "name",
    [
        "../evil.csv",
        "a/../../evil.csv",
        "/evil.csv",
        "C:/evil.csv",
        "..\\evil.csv",
        "a\\evil.csv",
    ],
)
def test_a_member_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    path = put(tmp_path / "slip.zip", zip_of({"papers.csv": CSV, name: CSV}))
    for use in (check_archive, lambda p: unpack(p, tmp_path / "out")):
        with pytest.raises(InvalidArchive, match=r"slip\.zip is not safe: its member '.*outside"):
            use(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["slip.zip"]


def test_a_link_is_refused(tmp_path: Path) -> None:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as made:
        link = zipfile.ZipInfo("papers.csv")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        made.writestr(link, "/etc/passwd")
    with pytest.raises(InvalidArchive, match=r"its member 'papers\.csv' is a link"):
        check_archive(put(tmp_path / "link.zip", memory.getvalue()))


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    content = bytearray(zip_of({"papers.csv": CSV}))
    content[content.index(b"PK\1\2") + 8] |= 1
    content[6] |= 1
    with pytest.raises(InvalidArchive, match=r"is encrypted \(member 'papers\.csv'\)"):
        check_archive(put(tmp_path / "locked.zip", bytes(content)))


def test_a_changed_byte_is_found_in_any_member(tmp_path: Path) -> None:
    stored = zip_of({"a.csv": CSV, "b.csv": b"x" + CSV}, zipfile.ZIP_STORED)
    flipped = stored.replace(b"x" + CSV, b"y" + CSV)
    with pytest.raises(InvalidArchive, match=r"flipped\.zip is damaged.*Bad CRC-32.*'b\.csv'"):
        check_archive(put(tmp_path / "flipped.zip", flipped))


def test_a_bomb_is_refused_unread(tmp_path: Path) -> None:
    bomb = zip_of({"papers.csv": b"0" * (17 << 20)})
    with pytest.raises(InvalidArchive, match=r"would unzip to 17825792 bytes, \d+ times its size"):
        check_archive(put(tmp_path / "bomb.zip", bomb))


def test_too_much_in_all_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path / "large.zip", zip_of({"a.csv": CSV, "b.csv": CSV}))
    monkeypatch.setattr(archive, "MAX_UNPACKED_BYTES", 2 * len(CSV) - 1)
    with pytest.raises(InvalidArchive, match=r"would unpack to 2 files of 118 bytes in all"):
        check_archive(path)
    monkeypatch.undo()
    monkeypatch.setattr(archive, "MAX_MEMBERS", 1)
    with pytest.raises(InvalidArchive, match=r"would unpack to 2 files.*more than 1 files"):
        check_archive(path)


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    path = put(tmp_path / "twice.zip", zip_of({"a.csv": CSV, "A.csv": CSV}))
    with pytest.raises(InvalidArchive, match=r"twice\.zip holds two files of one name"):
        check_archive(path)


def test_an_empty_zip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArchive, match=r"none\.zip is an empty zip"):
        check_archive(put(tmp_path / "none.zip", zip_of({})))


def test_an_unknown_compression_is_named(tmp_path: Path) -> None:
    content = bytearray(zip_of({"papers.csv": CSV}))
    for place in (8, content.index(b"PK\1\2") + 10):
        content[place : place + 2] = (99).to_bytes(2, "little")
    with pytest.raises(InvalidArchive, match=r"cannot be unzipped here \(.*not supported"):
        check_archive(put(tmp_path / "odd.zip", bytes(content)))


def test_a_member_without_a_name_is_refused() -> None:
    nameless = Path(__file__).parents[1] / "corpus/files/zip-file-without-a-name.zip"
    with pytest.raises(InvalidArchive, match="its member '' would be written outside"):
        check_archive(nameless)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_packed_file_is_read_to_its_end(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    assert check_archive(put(tmp_path / "papers.csv.x", pack(CSV))) == ()
    broken = bytearray(pack(CSV * 9000))
    broken[-6] ^= 1
    with pytest.raises(InvalidArchive, match=r"the download is damaged"):
        check_archive(put(tmp_path / "papers.csv.x", bytes(broken)), name="the download")


def test_a_plain_file_of_papers_is_taken_and_another_is_not(tmp_path: Path) -> None:
    plain = put(tmp_path / "papers.csv", CSV)
    assert check_archive(plain) == ()
    with pytest.raises(InvalidArchive, match=r"papers\.csv is not a zip file.*Leave out --unpack"):
        unpack(plain, tmp_path / "out")
    with pytest.raises(UnreadableSource, match=r"^the file is a PDF file"):
        check_archive(put(tmp_path / "papers.pdf", b"%PDF-1.7"), name="the file")


def test_a_zip_that_cannot_be_unpacked_in_bounded_pieces_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "odd.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("papers.csv", CSV)
    with pytest.raises(InvalidArchive, match=r"\(compression method 14 is not supported"):
        check_archive(path)
