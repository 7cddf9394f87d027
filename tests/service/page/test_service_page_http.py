"""The files of the page over HTTP: headers, caching, and nothing but the files."""

from __future__ import annotations

import re

import httpx
import pytest

from classmark.service.http.app import CONTENT_SECURITY_POLICY, load_files

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
ASSETS = ("app.js", "style.css", "examples.json", "icon.svg")


def test_the_page_comes_with_the_policy(client: httpx.Client) -> None:
    response = client.get("/")
    assert response.status_code == 200
    assert response.headers["Content-Security-Policy"] == POLICY == CONTENT_SECURITY_POLICY
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("name", ASSETS)
def test_an_unchanged_file_is_not_sent_again(client: httpx.Client, name: str) -> None:
    first = client.get(f"/static/{name}")
    assert first.content == load_files()[name].content
    assert first.headers["Cache-Control"] == "no-cache"
    again = client.get(f"/static/{name}", headers={"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 304
    assert again.content == b""
    assert again.headers["ETag"] == first.headers["ETag"]


def test_another_etag_gets_the_file(client: httpx.Client) -> None:
    response = client.get("/static/app.js", headers={"If-None-Match": '"other"'})
    assert response.status_code == 200


def test_head_of_the_page_has_no_body(client: httpx.Client) -> None:
    response = client.head("/")
    assert response.status_code == 200
    assert response.content == b""


@pytest.mark.parametrize(
    "name", ["nothing.js", "..%2fpage.py", "index.html", "%2e%2e%2f__init__.py"]
)
def test_nothing_but_the_files_of_the_page_is_served(client: httpx.Client, name: str) -> None:
    response = client.get(f"/static/{name}")
    assert response.status_code == 404
    assert response.json()["kind"] == "not_found"


def test_the_page_stays_out_of_the_openapi_document(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert not [path for path in paths if path == "/" or path.startswith("/static")]


def test_the_files_hold_no_inline_style_script_or_handler() -> None:
    html = load_files()["index.html"].content.decode()
    assert "style=" not in html
    assert "<style" not in html
    assert html.count("<script") == 1
    assert re.search(r"\son[a-z]+\s*=", html) is None


def test_the_module_never_writes_markup() -> None:
    code = load_files()["app.js"].content.decode()
    for sink in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
    ):
        assert sink not in code
