"""Files that are made to fill memory or to take for ever, beside clients that send honest ones."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import signal
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from waiting import PATIENCE_S, until

pa = pytest.importorskip("pyarrow", reason="needs classmark[data]")
pq = pytest.importorskip("pyarrow.parquet", reason="needs classmark[data]")

CSV = b"id,title,abstract\n1,Graph colouring,We colour sparse graphs.\n"
PACKED_CSV = gzip.compress(CSV, mtime=0)
PAPER = {"title": "Graph colouring", "abstract": "We colour sparse graphs."}
MIB = 1 << 20
MOST_GROWTH_BYTES = 400 * MIB
MOST_PROCESS_BYTES = 256 * MIB
"""A reader has some 100 MiB at rest, and may allocate 128 MiB more with bodies of 8 MiB; a worker
holds a few copies of the bodies of the files that it is sent at once."""


def parquet(columns: dict[str, Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd", **options)
    return buffer.getvalue()


def repeated(n_rows: int, n_chars: int) -> Any:
    """Return a column in which one long text stands in every row, and is held once."""
    return pa.DictionaryArray.from_arrays(pa.array([0] * n_rows, pa.int32()), ["x" * n_chars])


def dictionary_bomb() -> bytes:
    text = repeated(1_000_000, 1_000_000)
    return parquet({"title": text, "abstract": text}, row_group_size=1_000_000)


def page_bomb() -> bytes:
    texts = ["x" * MIB] * 256
    return parquet({"abstract": texts}, use_dictionary=False, data_page_size=1 << 30)


def list_bomb() -> bytes:
    lists = pa.ListArray.from_arrays(pa.array([0, 1_000_000], pa.int32()), repeated(10**6, MIB))
    # Without the schema of Arrow the list is one of texts, which readers write out.
    return parquet({"abstract": ["A"], "authors": lists}, store_schema=False)


def gzip_bomb() -> bytes:
    line = b'{"title": "' + b"a" * (7 * MIB) + b'"}\n'
    return gzip.compress(line) * 100


def zip_of_many() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for i in range(40_000):
            archive.writestr(str(i), "")
    return buffer.getvalue()


def xz_of_much_memory() -> bytes:
    """Return an xz file whose header asks for a dictionary of 3 GiB."""
    packed = bytearray(lzma.compress(CSV, preset=0))
    header = packed[12 : 12 + 4 * (packed[12] + 1) - 4]
    header[header.index(b"\x21\x01") + 2] = 39
    packed[12 : 12 + len(header) + 4] = header + zlib.crc32(header).to_bytes(4, "little")
    return bytes(packed)


FEED = b'<feed xmlns="http://www.w3.org/2005/Atom">'
LAUGHS = (
    b'<!DOCTYPE feed [<!ENTITY a "haha">'
    + b"".join(b'<!ENTITY %c "&%c;&%c;">' % (c + 1, c, c) for c in b"abcdefghi")
    + b"]>"
    + FEED
)


def workbook_bomb() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "")
        archive.writestr("xl/workbook.xml", "")
        archive.writestr("xl/worksheets/sheet1.xml", b"<row/>" * (6 * MIB))
    return buffer.getvalue()


BOMBS: dict[str, Callable[[], bytes]] = {
    "dictionary.parquet": dictionary_bomb,
    "page.parquet": page_bomb,
    "list.parquet": list_bomb,
    "text.parquet": lambda: parquet(
        {"abstract": repeated(1000, 100_000_000)}, dictionary_pagesize_limit=1 << 30
    ),
    "lines.jsonl.gz": gzip_bomb,
    "line.jsonl.gz": lambda: gzip.compress(b'{"title": "' + b"a" * (256 * MIB)),
    "blank.bib.gz": lambda: gzip.compress(b"@a{b}\n@a" + b" " * (64 * MIB)),
    "blank.bib": lambda: b"@a{b}\n@a" + b" " * (7 * MIB),
    "fields.bib": lambda: b"@a{x," + b",".join(b"a%d=1" % i for i in range(700_000)) + b"}",
    "columns.csv": lambda: b"title,abstract," + b",".join(b"%d" % i for i in range(1_000_000)),
    "many.zip": zip_of_many,
    "lines.jsonl.bz2": lambda: bz2.compress(b'{"title": "' + b"a" * (7 * MIB) + b'"}\n') * 100,
    "line.jsonl.xz": lambda: lzma.compress(b'{"title": "' + b"a" * (256 * MIB), preset=1),
    "memory.csv.xz": xz_of_much_memory,
    "laughs.xml": lambda: LAUGHS + b"<entry><title>&j;</title></entry></feed>",
    "deep.xml": lambda: FEED + b"<a>" * (2 * MIB),
    "attributes.xml": lambda: (
        FEED + b"<a " + b" ".join(b'b%d=""' % i for i in range(500_000)) + b"/></feed>"
    ),
    "names.xml": lambda: FEED + b"".join(b"<a%d/>" % i for i in range(700_000)) + b"</feed>",
    "elements.xml": lambda: FEED + b"<entry>" + b"<a/>" * 1_500_000 + b"</entry></feed>",
    "rows.xlsx": workbook_bomb,
}
REFUSALS = {"unreadable_source", "body_too_large", "too_many_papers", "deadline_exceeded"}


def children(worker: int) -> list[int]:
    found: list[int] = []
    for path in Path(f"/proc/{worker}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended since
            found += map(int, path.read_text().split())
    return found


def memory_bytes(process: int, file: str, field: str) -> int:
    try:
        lines = Path(f"/proc/{process}/{file}").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def is_reader(process: int) -> bool:
    """Tell whether a child is a reader, and not its worker that is about to become one."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return b"file_reading" in Path(f"/proc/{process}/cmdline").read_bytes()
    return False


class Gauge:
    """Watches the memory of a worker and its readers.

    Attributes:
        peak_bytes: of all at once; pages that they share count once.
        process_peak_bytes: of the largest process, which the system has noted at any moment.
    """

    def __init__(self, worker: int) -> None:
        self._worker = worker
        self.peak_bytes = self.process_peak_bytes = 0

    def look(self) -> None:
        processes = [self._worker, *filter(is_reader, children(self._worker))]
        # Peaks of several processes are not of one moment, so only what each has now is added.
        now = [memory_bytes(p, "smaps_rollup", "Pss:") for p in processes]
        self.peak_bytes = max(self.peak_bytes, sum(now))
        peaks = [memory_bytes(p, "status", "VmHWM:") for p in processes]
        self.process_peak_bytes = max(self.process_peak_bytes, *peaks)

    @contextmanager
    def watching(self) -> Iterator[None]:
        done = threading.Event()

        def watch() -> None:
            while not done.wait(0.02):
                self.look()

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def client_at(server: Any, address: str) -> httpx.Client:
    """Return a client of its own address: limits count for addresses."""
    transport = httpx.HTTPTransport(local_address=address)
    return httpx.Client(base_url=server.url, transport=transport, timeout=PATIENCE_S)


def post(client: httpx.Client, name: str, content: bytes, **headers: str) -> httpx.Response:
    return client.post("/v1/files", files={"file": (name, content)}, headers=headers)


@pytest.mark.slow  # about ten files, some of which take seconds until they are refused
@pytest.mark.timeout(1800)
def test_bombs_are_refused_while_honest_files_are_answered(start: Any) -> None:
    bombs = {name: make() for name, make in BOMBS.items()}
    with (
        start("--workers", "1", CLASSMARK_SERVE_DEADLINE_MS="600000") as server,
        client_at(server, "127.0.0.2") as hostile,
        client_at(server, "127.0.0.3") as honest,
        ThreadPoolExecutor(3) as threads,
    ):
        (worker,) = server.workers()
        gauge = Gauge(worker)
        gauge.look()
        before_bytes = gauge.peak_bytes
        with gauge.watching():
            sent = {name: threads.submit(post, hostile, name, bombs[name]) for name in bombs}
            statuses: list[int] = []
            while not all(future.done() for future in sent.values()):
                statuses.append(post(honest, "a.csv", CSV).status_code)
                statuses.append(post(honest, "a.csv.gz", PACKED_CSV).status_code)
                statuses.append(honest.post("/v1/classify", json=PAPER).status_code)
        assert set(statuses) == {200}
        answers = {name: future.result() for name, future in sent.items()}
        kinds = {name: answer.json().get("kind") for name, answer in answers.items()}
        # Of these every record is bad, which is an answer.
        of_bad_records = {"list.parquet", "elements.xml"}
        assert all("too_long" in answers[name].text for name in of_bad_records)
        assert {name for name in kinds if kinds[name] not in REFUSALS} == of_bad_records, kinds
        assert server.workers() == [worker]
        assert gauge.peak_bytes - before_bytes < MOST_GROWTH_BYTES
        assert gauge.process_peak_bytes < MOST_PROCESS_BYTES


def test_comments_before_no_entry_do_not_hold_a_worker(client: httpx.Client) -> None:
    comments = b"%a\n" + b" %a\n" * 200 + b"Graph colouring."
    assert post(client, "a.txt", comments).json()["format"] == "text"


@pytest.mark.slow  # the hostile file takes the parser 8 s
@pytest.mark.timeout(900)
def test_a_file_that_takes_long_does_not_hold_the_file_of_another(start: Any) -> None:
    braces = b"@article{a, title={" + b"{" * (7 * MIB)
    with (
        start("--workers", "1", CLASSMARK_SERVE_DEADLINE_MS="600000") as server,
        client_at(server, "127.0.0.2") as hostile,
        client_at(server, "127.0.0.3") as honest,
        ThreadPoolExecutor(2) as threads,
    ):
        assert post(honest, "a.csv.gz", PACKED_CSV).status_code == 200
        started = time.monotonic()
        long: Future[httpx.Response] = threads.submit(post, hostile, "a.bib", braces)
        slowest_s = 0.0
        while not long.done():
            sent = time.monotonic()
            assert post(honest, "a.csv.gz", PACKED_CSV).status_code == 200
            slowest_s = max(slowest_s, time.monotonic() - sent)
        assert long.result().status_code == 200
        # One that waits for the parser would take about as long as the file that it waits for.
        assert slowest_s < (time.monotonic() - started) / 2


@contextmanager
def stopped_reader(server: Any) -> Iterator[int]:
    """Yield the process that reads files, which is there and does nothing for the block."""
    with server.client() as client:
        assert post(client, "a.csv.gz", PACKED_CSV).status_code == 200
    (worker,) = server.workers()
    (reader,) = filter(is_reader, children(worker))
    os.kill(reader, signal.SIGSTOP)
    try:
        yield reader
    finally:
        if Path(f"/proc/{reader}").exists():
            os.kill(reader, signal.SIGKILL)


@pytest.mark.slow
def test_a_reader_that_hangs_is_killed_at_the_deadline_and_replaced(start: Any) -> None:
    with start("--workers", "1") as server, server.client() as client:
        with stopped_reader(server) as reader:
            late = post(client, "a.csv.gz", PACKED_CSV, **{"X-Classmark-Deadline-Ms": "500"})
        assert (late.status_code, late.json()["kind"]) == (504, "deadline_exceeded")
        assert post(client, "a.csv.gz", PACKED_CSV).status_code == 200
        until(lambda: not Path(f"/proc/{reader}").exists())


@pytest.mark.slow
def test_a_reader_that_dies_costs_its_file_and_is_logged(start: Any) -> None:
    with start("--workers", "1", CLASSMARK_SERVE_DEADLINE_MS="600000") as server:
        with (
            stopped_reader(server) as reader,
            client_at(server, "127.0.0.2") as first,
            client_at(server, "127.0.0.3") as second,
            ThreadPoolExecutor(2) as threads,
        ):
            # Whichever of the two gets the reader that hangs, another is started for the other one.
            sent = [threads.submit(post, at, "a.csv.gz", PACKED_CSV) for at in (first, second)]
            answered = until(lambda: next((future for future in sent if future.done()), None))
            assert answered.result().status_code == 200
            (hung,) = (future for future in sent if future is not answered)
            assert not hung.done()
            os.kill(reader, signal.SIGKILL)
            assert (hung.result().status_code, hung.result().json()["kind"]) == (
                422,
                "unreadable_source",
            )
        assert [line["exit_code"] for line in server.logs() if line["event"] == "file reader died"]


@pytest.mark.slow
def test_a_client_waits_for_its_own_files_and_has_only_so_many(start: Any) -> None:
    with (
        start("--workers", "1", CLASSMARK_SERVE_DEADLINE_MS="600000") as server,
        stopped_reader(server) as reader,
        server.client() as client,
        ThreadPoolExecutor(9) as threads,
    ):
        sent = [threads.submit(post, client, "a.csv.gz", PACKED_CSV) for _ in range(9)]
        refused = until(lambda: next((f for f in sent if f.done()), None)).result()
        assert (refused.status_code, refused.json()["kind"]) == (503, "overloaded")
        assert refused.headers["retry-after"] == "1"
        os.kill(reader, signal.SIGCONT)
        statuses = sorted(future.result().status_code for future in sent)
        assert statuses == [200] * 8 + [503]


@pytest.mark.slow
def test_readers_end_with_their_worker(start: Any) -> None:
    with start("--workers", "1") as server, server.client() as client:
        post(client, "a.csv.gz", PACKED_CSV)
        (worker,) = server.workers()
        (reader,) = filter(is_reader, children(worker))
        os.kill(worker, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{reader}").exists())
