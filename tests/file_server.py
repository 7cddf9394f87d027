"""A real HTTP server on this computer: it breaks off, stalls and lies on demand."""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Page:
    """What stands at one path, and how it is given out.

    ``cuts`` are the numbers of bytes after which successive answers break off; ``stalls`` makes
    such an answer fall silent instead, until the server ends. ``statuses`` are given out first.
    """

    body: bytes = b""
    etag: str = '"v1"'
    ranges: bool = True
    length: bool = True
    kind: str = "application/zip"
    location: str = ""
    cuts: list[int] = field(default_factory=list)
    stalls: bool = False
    statuses: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)


class FileServer:
    """Pages by path, and the requests that came: (path, headers)."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.pages: dict[str, Page] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.ended = threading.Event()

    def put(self, path: str, body: bytes = b"", **how: Any) -> str:
        """Put a page at a path; return its address."""
        self.pages[path] = Page(body, **how)
        return self.address + path

    @property
    def ranges(self) -> list[str | None]:
        """Return the Range header of every request, None where there was none."""
        return [headers.get("Range") for _, headers in self.requests]


@contextmanager
def answering(http: ThreadingHTTPServer) -> Iterator[str]:
    """Let a server answer for the block; yields its address."""
    with http:
        http.daemon_threads = True
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_address[1]}"
        finally:
            http.shutdown()
            thread.join()


@contextmanager
def serving() -> Iterator[FileServer]:
    """Serve on a free port for the block."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    with answering(http) as address:
        server = FileServer(address)
        http.files = server  # type: ignore[attr-defined]
        try:
            yield server
        finally:
            server.ended.set()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        files: FileServer = self.server.files  # type: ignore[attr-defined]
        path = self.path.partition("?")[0]
        files.requests.append((path, dict(self.headers)))
        page = files.pages.get(path)
        if page is None or page.statuses:
            self._end(page.statuses.pop(0) if page else 404, page)
        elif page.location:
            self.send_response(302)
            self.send_header("Location", page.location)
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self._give(page, files)

    def _end(self, status: int, page: Page | None) -> None:
        self.send_response(status)
        for name, value in (page.headers if page else {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _give(self, page: Page, files: FileServer) -> None:
        start = self._start(page)
        if start >= len(page.body) > 0:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(page.body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = page.body[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", page.kind)
        if page.etag:
            self.send_header("ETag", page.etag)
        if start:
            self.send_header(
                "Content-Range", f"bytes {start}-{len(page.body) - 1}/{len(page.body)}"
            )
        if page.length:
            self.send_header("Content-Length", str(len(body)))
        for name, value in page.headers.items():
            self.send_header(name, value)
        self.end_headers()
        cut = page.cuts.pop(0) if page.cuts else len(body)
        self.wfile.write(body[:cut])
        if cut < len(body) and page.stalls:
            files.ended.wait()
        self.close_connection = True

    def _start(self, page: Page) -> int:
        """Return the first byte that is wanted: as a server does, that knows If-Range."""
        wanted = self.headers.get("Range", "")
        same = self.headers.get("If-Range", page.etag) == page.etag
        return int(wanted[len("bytes=") : -1]) if wanted and page.ranges and same else 0

    def log_message(self, *_: Any) -> None:
        """Keep the output of the tests clean."""


def zip_of(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a zip of some files."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return memory.getvalue()
