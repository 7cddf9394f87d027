"""The web page: the files of ``service/web`` at ``/`` and ``/static``, under a strict policy.

Its addresses are relative, so that a proxy may offer the service under any prefix.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files

from fastapi import FastAPI, HTTPException, Request, Response

from classmark.service.http.routes import add_route

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_INDEX = "index.html"
_MEDIA_TYPES = {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "examples.json": "application/json",
    "icon.svg": "image/svg+xml",
}
# The names never change with the content, so a browser asks each time and mostly gets a 304.
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file of the page, held in memory: its bytes, media type, and ETag of its content."""

    content: bytes
    media_type: str
    etag: str


def load_files() -> dict[str, StaticFile]:
    """Return every file of the page by name, read from the package."""
    folder = files("classmark.service") / "web"
    loaded = {}
    for name, media_type in _MEDIA_TYPES.items():
        content = (folder / name).read_bytes()
        etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        loaded[name] = StaticFile(content, media_type, etag)
    return loaded


def add_page(app: FastAPI) -> None:
    """Add ``/`` and ``/static/NAME`` to the app; both stay out of the OpenAPI document.

    A name is a key of a table, never a path, so nothing but the files of the page can be had.
    """
    page = load_files()

    async def index(request: Request) -> Response:
        return _respond(request, page[_INDEX])

    async def static(request: Request, name: str) -> Response:
        file = page.get(name) if name != _INDEX else None
        if file is None:
            raise HTTPException(404, f"there is no file {name!r} in this page. Open / instead.")
        return _respond(request, file)

    methods = ["GET", "HEAD"]
    for path, route in (("/", index), ("/static/{name}", static)):
        add_route(app, path, route, "public", methods=methods, include_in_schema=False)


def _respond(request: Request, file: StaticFile) -> Response:
    headers = {**_HEADERS, "ETag": file.etag}
    if file.etag in request.headers.get("If-None-Match", ""):
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)
