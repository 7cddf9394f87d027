"""Reading a file within limits, in this process."""

from __future__ import annotations

import asyncio
import gzip
import json
import shutil
import time
from dataclasses import replace
from typing import Any

import pytest

from classmark.errors import MissingExtra, Overloaded
from classmark.papers import Columns
from classmark.records import BadRecord, Paper
from classmark.service.problems import Problem
from classmark.service.requests import file_reading, reader_pool
from classmark.service.requests.file_reading import FileLimits, Job, read_file, records_of
from classmark.service.requests.reader_pool import ReaderPool
from classmark.wire import to_json

LIMITS = FileLimits(max_papers=3, max_file_bytes=1000)
LINE = json.dumps({"title": "A" * 900}).encode() + b"\n"


def read(content: bytes) -> list[Any]:
    return list(read_file(content, "", LIMITS)[1])


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b'{"title": "A"}\n' * 4, "too_many_papers"),
        (gzip.compress(b"title,abstract\n" + b"\n" * 5000, mtime=0), "body_too_large"),
        (b"@a{b}" * 13, "too_many_papers"),
        (b"", "unreadable_source"),
        (gzip.compress(LINE, mtime=0)[:-9], "unreadable_source"),
    ],
)
def test_what_is_beyond_a_limit_is_a_problem(content: bytes, kind: str) -> None:
    with pytest.raises(Problem) as caught:
        read(content)
    assert caught.value.kind == kind


def test_papers_of_too_many_characters_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_reading, "UNPACKED_SHARE", 1)
    monkeypatch.setattr(file_reading, "_Metered", lambda stream, *_: stream)
    with pytest.raises(Problem, match="unpacks to more than 1000 bytes"):
        read(LINE * 2)


def test_a_reader_that_is_not_installed_is_told_to_who_can_do_something(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(*_: Any) -> Any:
        raise MissingExtra("reading Parquet files", "data")

    monkeypatch.setattr(file_reading, "read_source", missing)
    with pytest.raises(Problem, match="Send CSV or JSON lines, or ask its operator") as caught:
        read(LINE)
    assert "pip" not in caught.value.detail


def test_too_little_memory_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(file_reading, "read_source", too_large)
    with pytest.raises(Problem, match="takes too much memory to read"):
        read(LINE)


def test_records_pass_through_messages_unchanged() -> None:
    content = b'{"title": "A", "categories": "cs.LG cs.AI"}\n{\n'
    job = Job("", Columns(), LIMITS, 600.0)
    messages = [json.loads(to_json(m)) for m in file_reading._messages(content, job)]
    assert messages[0] == {"format": "jsonl"}
    paper, bad = (record for message in messages for record in records_of(message))
    assert isinstance(paper, Paper)
    assert paper.categories == ("cs.LG", "cs.AI")
    assert isinstance(bad, BadRecord)
    narrow = replace(job, limits=FileLimits(max_papers=1, max_file_bytes=1000))
    assert list(file_reading._messages(content, narrow))[-1]["problem"]["kind"] == "too_many_papers"


def test_a_reader_stops_by_itself_at_the_deadline() -> None:
    job = Job("", Columns(), LIMITS, -1.0)
    *_, seen = file_reading._messages(b'{"title": "A"}\n' * 3, job)
    assert seen["problem"]["kind"] == "deadline_exceeded"


class Request:
    """What readers look at of a request."""

    deadline = time.monotonic() + 600
    remaining_s = 600.0
    holder = "somebody"

    def check_deadline(self) -> None:
        """Never too late."""


@pytest.mark.parametrize(
    ("max_files", "why"),
    [(0, "too many files are waiting"), (1, "no process can be started to read the file")],
)
def test_a_service_without_room_for_a_file_is_busy(
    max_files: int, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_process(*_: Any, **__: Any) -> Any:
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(reader_pool.subprocess, "Popen", no_process)
    pool = ReaderPool(LIMITS, max_files)
    request: Any = Request()
    with pytest.raises(Overloaded) as caught:
        asyncio.run(pool.read(request, gzip.compress(LINE), "", Columns()))
    pool.close()
    assert (caught.value.kind, caught.value.retry_after_s) == ("overloaded", 1)
    assert str(caught.value).startswith(why)


def test_a_process_that_dies_at_its_start_is_no_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_pool.sys, "executable", shutil.which("false"))
    pool = ReaderPool(LIMITS, 1)
    request: Any = Request()
    with pytest.raises(Overloaded, match="process that reads the file has died") as caught:
        asyncio.run(pool.read(request, gzip.compress(LINE), "", Columns()))
    pool.close()
    assert (caught.value.kind, caught.value.retry_after_s) == ("overloaded", 1)
