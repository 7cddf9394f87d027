"""A real OAI-PMH server on this computer: it fails, lies, repeats and stalls on demand."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from xml.sax.saxutils import escape

from file_server import answering

BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE o [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">'
    b'<!ENTITY c "&b;&b;&b;&b;&b;&b;">]><OAI-PMH><ListRecords>&c;</ListRecords></OAI-PMH>'
)
HTML = b"<!doctype html><html><body>Please log in</body></html>"
ENVELOPE = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<OAI-PMH xmlns="http://www.openarchives.org/OAI/2.0/">'
    "<responseDate>{date}</responseDate><request>http://oai</request>{body}</OAI-PMH>"
)


@dataclass(frozen=True)
class Entry:
    """A record as the archive has it; without a title it is deleted."""

    number: int
    datestamp: str
    title: str = ""
    category: str = "cs.LG"
    abstract: str = "We sieve graphs."

    @property
    def id(self) -> str:
        return f"2401.{self.number:05d}"

    def xml(self) -> str:
        status = "" if self.title else ' status="deleted"'
        header = (
            f"<header{status}><identifier>oai:arXiv.org:{self.id}</identifier>"
            f"<datestamp>{self.datestamp}</datestamp><setSpec>cs</setSpec></header>"
        )
        return f"<record>{header}{self._metadata() if self.title else ''}</record>"

    def _metadata(self) -> str:
        return (
            '<metadata><arXiv xmlns="http://arxiv.org/OAI/arXiv/">'
            f"<id>{self.id}</id><created>2024-01-02</created><updated>2024-02-03</updated>"
            "<authors><author><keyname>Sieve</keyname><forenames>Ada</forenames></author></authors>"
            f"<title>{escape(self.title)}</title><categories>{self.category} stat.ML</categories>"
            f"<abstract>{self.abstract}</abstract></arXiv></metadata>"
        )


@dataclass
class Archive:
    """What the server has, how it answers, and what it was asked.

    Attributes:
        faults: what goes wrong with the next answers, one each; "" for nothing.
        before: called with the number of each request before it is answered.
        after: the same, after the answer.
    """

    entries: list[Entry] = field(default_factory=list)
    page_size: int = 2
    date: str = "2024-11-28T00:00:00Z"
    announced: int | None = None
    packed: bool = False
    retry_after: str = "0"
    faults: list[str] = field(default_factory=list)
    before: Callable[[int], None] = lambda _: None
    after: Callable[[int], None] = lambda _: None
    address: str = ""
    requests: list[dict[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def answer(self, query: dict[str, str]) -> bytes:
        """Return the page that a query asks for."""
        token = query.get("resumptionToken")
        if token is None:
            start, since, until = 0, query.get("from", ""), query.get("until", "9999")
        else:
            number, since, until = token.split("|")
            start = int(number)
        chosen = [e for e in self.entries if since <= e.datestamp[:10] <= until]
        if not chosen:
            return self.error("noRecordsMatch", "no records")
        page, end = chosen[start : start + self.page_size], start + self.page_size
        following = f"{end}|{since}|{until}" if end < len(chosen) else ""
        return self.page(page, following, len(chosen))

    def page(self, entries: list[Entry], token: str, size: int = 0) -> bytes:
        """Return a page of records, and the token of the next one."""
        size = size if self.announced is None else self.announced
        more = f'<resumptionToken completeListSize="{size}">{escape(token)}</resumptionToken>'
        records = "".join(entry.xml() for entry in entries)
        return self.envelope(f"<ListRecords>{records}{more if size else ''}</ListRecords>")

    def error(self, code: str, message: str = "") -> bytes:
        return self.envelope(f'<error code="{code}">{message}</error>')

    def envelope(self, body: str) -> bytes:
        return ENVELOPE.format(date=self.date, body=body).encode()


@contextmanager
def harvestable() -> Iterator[Archive]:
    """Serve an archive on a free port for the block."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    with answering(http) as address:
        archive = Archive(address=f"{address}/oai")
        http.archive = archive  # type: ignore[attr-defined]
        try:
            yield archive
        finally:
            archive.ended.set()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        archive: Archive = self.server.archive  # type: ignore[attr-defined]
        query = dict(parse_qsl(urlsplit(self.path).query))
        archive.requests.append(query)
        archive.headers.append(dict(self.headers))
        archive.times.append(time.monotonic())
        number = len(archive.requests)
        archive.before(number)
        fault = archive.faults.pop(0) if archive.faults else ""
        name, _, value = fault.partition(" ")
        handle = getattr(self, f"_{name}", None)
        if handle is not None:
            handle(archive, value)
        elif fault:
            raise AssertionError(f"unknown fault {fault}")
        else:
            self._send(archive.answer(query))
        archive.after(number)

    def _status(self, archive: Archive, value: str) -> None:
        headers = {"Retry-After": archive.retry_after} if archive.retry_after else {}
        self._send(b"", status=int(value), headers=headers)

    def _error(self, archive: Archive, value: str) -> None:
        code, _, status = value.partition(" ")
        self._send(archive.error(code, "because"), status=int(status or 200))

    def _expired(self, archive: Archive, _: str) -> None:
        is_next = "resumptionToken" in archive.requests[-1]
        good = archive.answer(archive.requests[-1])
        self._send(archive.error("badResumptionToken", "expired") if is_next else good)

    def _cut(self, archive: Archive, value: str) -> None:
        body = archive.answer(archive.requests[-1])
        self._send(body, keep=len(body) * int(value) // 100)

    def _cutquietly(self, archive: Archive, value: str) -> None:
        body = archive.answer(archive.requests[-1])
        self._send(body, keep=len(body) * int(value) // 100, with_length=False)

    def _stall(self, archive: Archive, _: str) -> None:
        body = archive.answer(archive.requests[-1])
        self._send(body, keep=len(body) // 2)
        archive.ended.wait()

    def _reset(self, _archive: Archive, _: str) -> None:
        self.close_connection = True
        self.connection.close()

    def _body(self, _archive: Archive, value: str) -> None:
        bodies = {
            "bomb": BOMB,
            "empty": b"",
            "deep": b"<OAI-PMH><ListRecords>" + b"<a>" * 100_000,
            "nothing": b"<OAI-PMH></OAI-PMH>",
            "other": b"<feed><entry/></feed>",
            "text": b"be right back",
        }
        self._send(bodies[value])

    def _html(self, _archive: Archive, _: str) -> None:
        self._send(HTML, kind="text/html")

    def _untyped(self, archive: Archive, value: str) -> None:
        self._send(archive.answer(archive.requests[-1]), kind=value)

    def _to(self, _archive: Archive, value: str) -> None:
        self._send(b"", status=302, headers={"Location": value})

    def _packed(self, _archive: Archive, value: str) -> None:
        self._send(b"nonsense", headers={"Content-Encoding": value}, pack=False)

    def _large(self, _archive: Archive, value: str) -> None:
        packed = gzip.compress(b"<OAI-PMH>" + b" " * (int(value) << 20), 1)
        self._send(packed, headers={"Content-Encoding": "gzip"}, pack=False)

    def _send(
        self,
        body: bytes,
        *,
        status: int = 200,
        kind: str = "text/xml; charset=utf-8",
        headers: dict[str, str] | None = None,
        keep: int | None = None,
        with_length: bool = True,
        pack: bool = True,
    ) -> None:
        archive: Archive = self.server.archive  # type: ignore[attr-defined]
        if archive.packed and pack and "gzip" in self.headers.get("Accept-Encoding", ""):
            body, headers = gzip.compress(body), {**(headers or {}), "Content-Encoding": "gzip"}
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if with_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if keep is None else body[:keep])
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Keep the output of the tests clean."""
