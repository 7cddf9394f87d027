"""Downloads from a real server: whole, broken off, changed, refused; and what stays on the disk."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import shutil
import socket
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from classmark.dataset import DownloadConfig, build_dataset, fetch_dataset, sample_csv
from classmark.dataset.config import DatasetConfig, Patience, SampleConfig
from classmark.dataset.download import transfer
from classmark.dataset.download.download import Download
from classmark.errors import (
    DownloadFailed,
    InvalidArchive,
    InvalidConfig,
    OutputBusy,
    StorageFailed,
    UnreadableSource,
    UsageError,
)
from classmark.records import SILENT
from classmark.storage import locked_file
from file_server import FileServer, zip_of
from recording import Recording

QUICK = Patience(timeout_s=20.0, attempts=3, wait_s=0.0)
IMPATIENT = Patience(timeout_s=0.2, attempts=2, wait_s=0.0)
CSV = b"id,title,category_code,summary\n1,A title,cs.LG,An abstract\n"
NOISE = b"".join(hashlib.sha256(bytes([i, j])).digest() for i in range(64) for j in range(64))
ARCHIVE = zip_of({"papers.csv": CSV + b"2,Noise,cs.LG," + NOISE.hex().encode() + b"\n"})
HALF = len(ARCHIVE) // 2


@pytest.fixture(autouse=True)
def _nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no credentials and no proxy of the user of this computer matter."""
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "kaggle"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.chdir(tmp_path)


def get(source: str, patience: Patience = QUICK, **options: Any) -> Download:
    return fetch_dataset(DownloadConfig(source=source, **options), patience=patience)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.slow
def test_kaggles_dataset_is_the_default_and_builds_without_options(
    server: FileServer, tmp_path: Path
) -> None:
    csv = tmp_path / "arXiv_scientific dataset.csv"
    sample_csv(csv, SampleConfig(papers=400))
    name = "/datasets/download/sumitm004/arxiv-scientific-research-papers-dataset"
    signed = server.put("/signed", zip_of({csv.name: csv.read_bytes()}))
    server.put(name, location=f"{signed}?signature=secret")
    csv.unlink()
    done = fetch_dataset(DownloadConfig(kaggle_api=server.address), patience=QUICK)
    assert left(tmp_path) == ["arxiv-scientific-research-papers-dataset.zip"]
    assert build_dataset(done.papers, tmp_path / "out", DatasetConfig()).read == 400


def test_progress_ends_with_all_bytes_and_the_digest_is_that_of_the_file(
    server: FileServer,
) -> None:
    recording = Recording()
    config = DownloadConfig(source=server.put("/papers.zip", ARCHIVE))
    done = fetch_dataset(config, patience=QUICK, progress=recording)
    assert recording.steps == ["downloading", "checking"]
    assert (sum(recording.counts), recording.shares[-1]) == (len(ARCHIVE), 1.0)
    assert done.sha256 == hashlib.sha256(ARCHIVE).hexdigest()
    assert done.members == ("papers.csv",)


def test_a_broken_connection_is_gone_on_from_in_the_same_run(server: FileServer) -> None:
    done = get(server.put("/papers.zip", ARCHIVE, cuts=[HALF, 1000]))
    assert done.file.read_bytes() == ARCHIVE
    assert server.ranges == [None, f"bytes={HALF}-", f"bytes={HALF + 1000}-"]


def test_progress_between_failures_starts_the_count_of_attempts_again(server: FileServer) -> None:
    assert get(server.put("/papers.zip", ARCHIVE, cuts=[100] * 12)).file.read_bytes() == ARCHIVE


@pytest.mark.slow
def test_a_stalling_server_is_left_and_what_arrived_is_kept_for_the_next_run(
    server: FileServer, tmp_path: Path
) -> None:
    url = server.put("/papers.zip", ARCHIVE, cuts=[HALF, 0, 0], stalls=True)
    with pytest.raises(DownloadFailed, match=rf"did not respond in time.*{HALF:,} bytes are kept"):
        get(url, IMPATIENT)
    assert left(tmp_path) == ["papers.zip.part", "papers.zip.part.json"]
    server.put("/papers.zip", ARCHIVE)
    assert get(url).file.read_bytes() == ARCHIVE
    assert server.ranges[-1] == f"bytes={HALF}-"
    assert left(tmp_path) == ["papers.zip"]


@pytest.mark.parametrize(
    "how",
    [{"etag": '"v2"'}, {"ranges": False}, {"etag": ""}],
    ids=["changed", "no ranges", "no validator"],
)
def test_what_cannot_be_gone_on_from_is_read_from_the_start(
    server: FileServer, tmp_path: Path, how: dict[str, Any]
) -> None:
    url = server.put("/papers.zip", zip_of({"old.csv": CSV + NOISE.hex().encode()}), cuts=[HALF])
    with pytest.raises(DownloadFailed, match=r"broke off after"):
        get(url, Patience(attempts=1))
    server.put("/papers.zip", ARCHIVE, **how)
    done = get(url)
    assert done.file.read_bytes() == ARCHIVE
    assert left(tmp_path) == ["papers.zip"]


def test_without_a_validator_no_range_is_asked_for(server: FileServer) -> None:
    get(server.put("/papers.zip", ARCHIVE, etag="", cuts=[HALF]))
    assert server.ranges == [None, None]


def test_a_weak_validator_does_not_stand_for_bytes(server: FileServer) -> None:
    get(server.put("/papers.zip", ARCHIVE, etag='W/"v1"', cuts=[HALF]))
    assert server.ranges == [None, None]


def test_a_part_of_another_address_is_not_gone_on_from(server: FileServer, tmp_path: Path) -> None:
    other = server.put("/other.zip", ARCHIVE[::-1], cuts=[HALF])
    with pytest.raises(DownloadFailed):
        get(other, Patience(attempts=1), output=tmp_path / "a.zip")
    get(server.put("/papers.zip", ARCHIVE), output=tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == ARCHIVE
    assert server.ranges[-1] is None


@pytest.mark.parametrize("note", ["", "[]", "{", '{"url": 3}'])
def test_a_damaged_note_is_no_note(server: FileServer, tmp_path: Path, note: str) -> None:
    (tmp_path / "papers.zip.part").write_bytes(b"x" * 10)
    (tmp_path / "papers.zip.part.json").write_text(note)
    assert get(server.put("/papers.zip", ARCHIVE)).file.read_bytes() == ARCHIVE


def whole_part(folder: Path, url: str, body: bytes) -> None:
    """Write what a run leaves that was killed between the last byte and the check."""
    (folder / "papers.zip.part").write_bytes(body)
    note = {"url": url, "validator": '"v1"', "size": len(body)}
    (folder / "papers.zip.part.json").write_text(json.dumps(note))


def test_a_part_that_is_whole_is_only_checked(server: FileServer, tmp_path: Path) -> None:
    url = server.put("/papers.zip", ARCHIVE)
    whole_part(tmp_path, url, ARCHIVE)
    assert get(url).file.read_bytes() == ARCHIVE
    assert server.ranges == [f"bytes={len(ARCHIVE)}-"]


def test_a_part_longer_than_the_file_is_thrown_away(server: FileServer, tmp_path: Path) -> None:
    url = server.put("/papers.zip", ARCHIVE)
    whole_part(tmp_path, url, ARCHIVE + b"more")
    assert get(url).file.read_bytes() == ARCHIVE
    assert server.ranges == [f"bytes={len(ARCHIVE) + 4}-", None]


def test_a_piece_from_elsewhere_is_thrown_away(server: FileServer, tmp_path: Path) -> None:
    url = server.put("/papers.zip", ARCHIVE, cuts=[HALF])
    whole_part(tmp_path, url, ARCHIVE[:100])
    note = tmp_path / "papers.zip.part.json"
    note.write_text(note.read_text().replace('"size": 100', '"size": 99999999'))
    assert get(url).file.read_bytes() == ARCHIVE
    assert server.ranges[:2] == ["bytes=100-", None]


def test_a_server_that_does_not_say_the_length_is_checked_by_the_archive(
    server: FileServer,
) -> None:
    url = server.put("/papers.zip", ARCHIVE, length=False, cuts=[HALF])
    with pytest.raises(UnreadableSource, match=r"papers\.zip is damaged or cut short"):
        get(url)
    assert get(url).file.read_bytes() == ARCHIVE


def test_a_passing_refusal_is_waited_out(server: FileServer) -> None:
    get(server.put("/papers.zip", ARCHIVE, statuses=[503, 429], headers={"Retry-After": "0"}))
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, r"refused the download \(HTTP 401\): it needs credentials.*with a browser"),
        (403, r"refused the download \(HTTP 403\): it needs credentials.*with a browser"),
        (404, r"there is no file at http://127.*/papers\.zip \(HTTP 404\)\. Check the address"),
        (410, r"there is no file at"),
        (418, r"refused the download \(HTTP 418"),
        (500, r"is unavailable \(HTTP 500\)\. Try later"),
    ],
)
def test_a_refusal_says_what_to_do_and_leaves_nothing(
    server: FileServer, tmp_path: Path, status: int, message: str
) -> None:
    url = server.put("/papers.zip", ARCHIVE, statuses=[status] * 3)
    with pytest.raises(DownloadFailed, match=message):
        get(f"{url}?token=secret")
    assert left(tmp_path) == []


def test_kaggles_refusal_names_the_credentials(server: FileServer) -> None:
    server.put("/datasets/download/a/b", statuses=[403])
    with pytest.raises(DownloadFailed, match=r"403.*KAGGLE_USERNAME and KAGGLE_KEY.*kaggle\.json"):
        get("a/b", kaggle_api=server.address)


def test_credentials_go_to_kaggle_and_not_along_with_a_redirect(
    server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAGGLE_USERNAME", "ada")
    monkeypatch.setenv("KAGGLE_KEY", "k")
    elsewhere = server.put("/file", ARCHIVE).replace("127.0.0.1", "localhost")
    server.put("/moved", location=elsewhere)
    server.put("/datasets/download/a/b", location="/moved")
    get("a/b", kaggle_api=server.address + "/")
    sent = [(path, headers.get("Authorization")) for path, headers in server.requests]
    basic = "Basic YWRhOms="
    assert sent == [("/datasets/download/a/b", basic), ("/moved", basic), ("/file", None)]


def test_credentials_are_read_from_kaggles_file(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "kaggle").mkdir()
    (tmp_path / "kaggle" / "kaggle.json").write_text('{"username": "ada", "key": "k"}')
    server.put("/datasets/download/a/b", ARCHIVE)
    get("a/b", kaggle_api=server.address)
    assert server.requests[0][1]["Authorization"] == "Basic YWRhOms="
    (tmp_path / "kaggle" / "kaggle.json").write_text('{"user": "ada"}')
    with pytest.raises(InvalidConfig, match=r'kaggle\.json cannot be used: it must hold \{"user'):
        get("a/b", kaggle_api=server.address, overwrite=True)


def test_half_of_the_credentials_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_KEY", "k")
    with pytest.raises(InvalidConfig, match=r"KAGGLE_KEY is set, KAGGLE_USERNAME is not"):
        get("a/b")


def test_a_web_page_instead_of_an_archive_is_refused(server: FileServer, tmp_path: Path) -> None:
    page = b"<!DOCTYPE html><title>Log in</title>"
    with pytest.raises(DownloadFailed, match=r"answered with a web page, not with a file"):
        get(server.put("/papers.zip", page, kind="text/html; charset=utf-8"))
    with pytest.raises(
        UnreadableSource, match=r"^papers\.zip is a web page \(HTML\), which is not read"
    ):
        get(server.put("/papers.zip", page))
    assert left(tmp_path) == []


def test_a_redirect_to_a_file_of_this_computer_is_not_followed(server: FileServer) -> None:
    url = server.put("/papers.zip", location="ftp://127.0.0.1/papers.zip")
    with pytest.raises(DownloadFailed, match=r"leads to ftp://127.* not safe to follow"):
        get(url)


def test_a_circle_of_redirects_is_one_line(server: FileServer) -> None:
    url = server.put("/papers.zip", location="/papers.zip")
    with pytest.raises(DownloadFailed, match=r"^[^\n]*HTTP 302[^\n]*infinite loop[^\n]*$"):
        get(url)


def test_an_unknown_name_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(DownloadFailed, match=r"the name 'nobody\.invalid' cannot be resolved"):
        get("http://nobody.invalid/papers.zip")


def test_a_closed_port_is_said_at_once(server: FileServer) -> None:
    with pytest.raises(DownloadFailed, match=r"cannot be reached \(.*refused\)\. Check the addr"):
        get("http://127.0.0.1:1/papers.zip")


def test_a_server_without_a_certificate_is_not_trusted(server: FileServer) -> None:
    with pytest.raises(DownloadFailed, match=r"no certificate that this computer trusts"):
        get(server.put("/papers.zip", ARCHIVE).replace("http:", "https:"))


def test_too_little_space_is_said_before_the_bytes_come(
    server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(9, 9, 5))
    with pytest.raises(StorageFailed, match=rf"{len(ARCHIVE):,} bytes are needed, 5 are free"):
        get(server.put("/papers.zip", ARCHIVE))


def test_a_disk_that_fills_up_is_said_and_the_part_is_kept(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(_response: Any, file: Any, *_: Any) -> None:
        file.write(ARCHIVE[:9])
        raise OSError(errno.ENOSPC, "No space left on device")

    url = server.put("/papers.zip", ARCHIVE)
    with monkeypatch.context() as patch:
        patch.setattr(transfer, "_copy", fill)
        with pytest.raises(StorageFailed, match=r"the disk is full"):
            get(url)
    assert get(url).file.read_bytes() == ARCHIVE
    assert server.ranges == [None, "bytes=9-"]


def test_a_disk_that_takes_a_piece_of_a_piece_gets_the_rest_too() -> None:
    class Nearly(io.BytesIO):
        def write(self, data: Any) -> int:
            return super().write(bytes(data)[:3])

    file = Nearly()
    transfer._copy(iter([b"abcdefgh", b"ijk"]), file, 0, None, SILENT)
    assert file.getvalue() == b"abcdefghijk"


def test_a_wrong_digest_leaves_nothing(server: FileServer, tmp_path: Path) -> None:
    url = server.put("/papers.zip", ARCHIVE)
    with pytest.raises(
        InvalidArchive, match=r"papers\.zip has the SHA-256 [0-9a-f]{64}, not 0{64}"
    ):
        get(url, sha256="0" * 64)
    assert left(tmp_path) == []
    assert get(url, sha256=hashlib.sha256(ARCHIVE).hexdigest().upper()).file.exists()


def test_an_empty_file_is_refused(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(InvalidArchive, match=r"papers\.zip is empty"):
        get(server.put("/papers.zip"))
    assert left(tmp_path) == []


def test_what_is_there_is_replaced_only_on_request_and_only_by_what_is_good(
    server: FileServer, tmp_path: Path
) -> None:
    (tmp_path / "papers.zip").write_bytes(b"good")
    url = server.put("/papers.zip", ARCHIVE)
    with pytest.raises(UsageError, match=r"papers\.zip already exists.*--overwrite"):
        get(url)
    assert server.requests == []
    bad = server.put("/bad/papers.zip", ARCHIVE[:-40])
    with pytest.raises(UnreadableSource, match=r"damaged or cut short"):
        get(bad, overwrite=True)
    assert (tmp_path / "papers.zip").read_bytes() == b"good"
    assert get(url, overwrite=True).file.read_bytes() == ARCHIVE


def test_a_local_archive_is_checked_and_stays_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine.zip").write_bytes(ARCHIVE)
    assert get("mine.zip").file == Path("mine.zip")
    assert get("mine.zip", output=tmp_path / "copy.zip").file.read_bytes() == ARCHIVE
    assert get("mine.zip", output=tmp_path).file == tmp_path / "mine.zip"
    (tmp_path / "mine.zip").write_bytes(ARCHIVE.replace(b"PK\1\2", b"PK\1\3"))
    with pytest.raises(InvalidArchive, match=r"mine\.zip is damaged"):
        get("mine.zip")


@pytest.mark.parametrize("source", ["nothing.zip", "a/b/c", "ftp://host/file", ""])
def test_a_source_that_is_nothing_is_refused(source: str) -> None:
    with pytest.raises(UsageError, match=r"is not an existing file, an http\(s\) address or a"):
        get(source)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://ada:pw@host/papers.zip", r"^addresses with a password are not supported"),
        ("http://host/two words.zip", r"is not a valid address.*%20"),
        ("http://host:port/papers.zip", r"is not a valid address"),
        ("http:///papers.zip", r"is not a valid address"),
    ],
)
def test_an_address_that_cannot_be_asked_for_is_refused(address: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        get(address)


def test_a_digest_must_be_one() -> None:
    with pytest.raises(UsageError, match=r"--sha256 'abc' is not 64 hexadecimal digits"):
        DownloadConfig(sha256="abc")


def test_two_runs_do_not_fetch_the_same_file_at_once(server: FileServer, tmp_path: Path) -> None:
    address = server.put("/papers.zip", ARCHIVE)
    with locked_file(tmp_path / "papers.zip.part.lock"):
        with pytest.raises(OutputBusy, match=r"process has held .*papers\.zip\.part\.lock\. "):
            get(address)
        assert left(tmp_path) == ["papers.zip.part.lock"]
    get(address)
    assert left(tmp_path) == ["papers.zip"]
