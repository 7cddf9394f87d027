"""A local server that speaks the part of GitHub's REST API that `.ci/github.py` uses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from file_server import answering

REPOSITORY, TOKEN, PULL_REQUEST = "someone/classmark", "t0ken", 7
MOST_CHARACTERS = 65_536
LARGEST_PAGE = 100


@dataclass
class Fault:
    """One answer that is not what was asked for.

    Attributes:
        status: of the answer; None breaks the connection off.
        method: of the requests that it answers.
        after: do what was asked first, then fail.
    """

    status: int | None
    method: str = "GET"
    message: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    after: bool = False


class FakeGitHub:
    """A repository with one pull request; comments and releases as the API returns them."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.comments: list[dict[str, Any]] = []
        self.releases: list[dict[str, Any]] = []
        self.faults: list[Fault] = []
        self.requests: list[str] = []

    def add_comment(self, body: str) -> dict[str, Any]:
        """Return a comment that now exists."""
        number = len(self.comments) + 1
        comment = {"id": number, "body": body, "html_url": f"{self.address}/comment/{number}"}
        self.comments.append(comment)
        return comment

    def fault_of(self, method: str) -> Fault | None:
        """Return and forget the next fault of a method."""
        found = next((fault for fault in self.faults if fault.method == method), None)
        if found:
            self.faults.remove(found)
        return found


@contextmanager
def serving() -> Iterator[FakeGitHub]:
    """Serve on a free port for the block."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    with answering(http) as address:
        github = FakeGitHub(address)
        http.github = github  # type: ignore[attr-defined]
        yield github


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_PATCH(self) -> None:
        self._serve("PATCH")

    @property
    def github(self) -> FakeGitHub:
        return self.server.github  # type: ignore[attr-defined, no-any-return]

    def _serve(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.github.requests.append(f"{method} {self.path}")
        fault = self.github.fault_of(method)
        if fault and not fault.after:
            self._fail(fault)
            return
        status, value, headers = self._answer(method, body)
        if fault:
            self._fail(fault)
        else:
            self._send(status, value, headers)

    def _fail(self, fault: Fault) -> None:
        if fault.status is None:
            self.close_connection = True
            self.connection.close()
        else:
            self._send(fault.status, {"message": fault.message}, fault.headers)

    def _answer(self, method: str, body: bytes) -> tuple[int, Any, dict[str, str]]:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return 401, {"message": "Bad credentials"}, {}
        path = urlsplit(self.path).path.removeprefix(f"/repos/{REPOSITORY}")
        if path == f"/issues/{PULL_REQUEST}/comments":
            return self._page(self.github.comments) if method == "GET" else self._create(body)
        if found := re.fullmatch(r"/issues/comments/(\d+)", path):
            return self._change(self.github.comments, int(found[1]), body)
        if path == "/releases":
            return self._page(self.github.releases) if method == "GET" else self._draft(body)
        if found := re.fullmatch(r"/releases/(\d+)", path):
            return self._change(self.github.releases, int(found[1]), body)
        if found := re.fullmatch(r"/upload/(\d+)", path):
            return self._upload(int(found[1]), body)
        return 404, {"message": "Not Found"}, {}

    def _page(self, items: list[dict[str, Any]]) -> tuple[int, Any, dict[str, str]]:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        size = min(int(query.get("per_page", ["30"])[0]), LARGEST_PAGE)
        page = int(query.get("page", ["1"])[0])
        links = {}
        if len(items) > page * size:
            following = f"{self.github.address}{parts.path}?per_page={size}&page={page + 1}"
            last = f"{self.github.address}{parts.path}?per_page={size}&page=9"
            links = {"Link": f'<{following}>; rel="next", <{last}>; rel="last"'}
        return 200, items[(page - 1) * size : page * size], links

    def _create(self, body: bytes) -> tuple[int, Any, dict[str, str]]:
        text = json.loads(body)["body"]
        if len(text) > MOST_CHARACTERS:
            return 422, {"message": "Body is too long (maximum is 65536 characters)"}, {}
        return 201, self.github.add_comment(text), {}

    def _change(
        self, items: list[dict[str, Any]], number: int, body: bytes
    ) -> tuple[int, Any, dict[str, str]]:
        item = next((item for item in items if item["id"] == number), None)
        if item is None:
            return 404, {"message": "Not Found"}, {}
        item.update(json.loads(body))
        return 200, item, {}

    def _draft(self, body: bytes) -> tuple[int, Any, dict[str, str]]:
        number = len(self.github.releases) + 1
        release = {
            **json.loads(body),
            "id": number,
            "assets": [],
            "html_url": f"{self.github.address}/release/{number}",
            "upload_url": f"{self.github.address}/upload/{number}{{?name,label}}",
        }
        self.github.releases.append(release)
        return 201, release, {}

    def _upload(self, number: int, body: bytes) -> tuple[int, Any, dict[str, str]]:
        asset = {"name": parse_qs(urlsplit(self.path).query)["name"][0], "size": len(body)}
        self.github.releases[number - 1]["assets"].append(asset)
        return 201, asset, {}

    def _send(self, status: int, value: Any, headers: dict[str, str]) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, content in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, content)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Keep the output of the tests clean."""
