"""The documentation site: its links, its search, and its pages without any other host."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINKS = ROOT / "docs" / "links.py"
Check = Callable[..., subprocess.CompletedProcess[str]]


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder; yield its address."""

    class Silent(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Silent, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Return a function that checks a site of pages by their paths."""

    def run(pages: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
        for name, body in pages.items():
            file = tmp_path / "site" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"<!doctype html><title>x</title>{body}", "utf-8")
        return subprocess.run(
            [sys.executable, str(LINKS), str(tmp_path / "site"), *words],
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run


def test_links_that_lead_somewhere_are_fine(check: Check) -> None:
    pages = {"index.html": "<a href='a/#b'>x</a><a href='a.txt'>y</a>", "a/index.html": "<p id=b>"}
    done = check({**pages, "a.txt": ""}, "--no-network")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("2 pages, 2 links")


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("<a href='gone/'>x</a>", "index.html links to gone/, which does not exist"),
        ("<a href='a/#none'>x</a>", "index.html links to a/#none, which has no such anchor"),
        ("<img src='gone.png'>", "index.html links to gone.png, which does not exist"),
        (
            "<script src='https://cdn.invalid/x.js'></script>",
            "index.html loads https://cdn.invalid/x.js from another host",
        ),
        (
            "<link rel=stylesheet href='//cdn.invalid/x.css'>",
            "index.html loads //cdn.invalid/x.css from another host",
        ),
    ],
)
def test_what_is_broken_is_named_with_its_page(check: Check, body: str, problem: str) -> None:
    done = check({"index.html": body, "a/index.html": "<p id=b>"}, "--no-network")
    assert done.returncode == 1
    assert problem in done.stdout.splitlines()


def test_of_other_hosts_only_one_that_says_gone_is_a_problem(check: Check, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/here.html").write_text("x")
    with served(tmp_path / "other") as address:
        other = address.replace("127.0.0.1", "[::ffff:127.0.0.1]")
        body = "".join(
            f"<a href='{link}'>x</a>"
            for link in (f"{other}/here.html", f"{other}/gone.html", "http://no-such-host.invalid/")
        )
        done = check({"index.html": body})
        unasked = check({"index.html": body}, "--no-network")
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "1 pages, 3 links; 3 addresses elsewhere, 1 of them could not be reached",
        f"index.html links to {other}/gone.html, which answers 404",
    ]
    assert unasked.returncode == 0


def test_without_a_site_it_says_how_to_build_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(LINKS), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == f"{tmp_path} is not a built site. Run: make site\n"


def test_the_index_of_decisions_names_the_successor_of_each_that_is_superseded() -> None:
    index = (ROOT / "docs/decisions/index.md").read_text("utf-8")
    for note in sorted((ROOT / "docs/decisions").glob("0*.md")):
        (row,) = [line for line in index.splitlines() if f"]({note.name}) |" in line]
        head = note.read_text("utf-8").partition("\n")[0]
        for number in re.findall(r"superseded[^;]* by (\d{4})", head):
            assert re.search(rf"by \[{number}\]\({number}-", row), row


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the built site."""
    pytest.importorskip("material", reason="the group docs is not installed")
    folder = tmp_path_factory.mktemp("docs") / "site"
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "true"},
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    return folder


@pytest.mark.slow
def test_every_link_of_the_site_leads_somewhere_and_nothing_is_loaded_from_elsewhere(
    site: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, str(LINKS), str(site), "--no-network"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_search_finds_a_page_and_asks_no_other_host(site: Path) -> None:
    found = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    if found is None:
        pytest.skip("there is no Chromium. Run: make system-deps")
    from playwright.sync_api import sync_playwright

    options = ["--no-sandbox", "--disable-background-networking", "--disable-quic"]
    with served(site) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=options)
        page = browser.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{address}/")
        # Key by key, as a reader does: the search looks at its field when a key is released.
        page.get_by_role("textbox", name="Search").press_sequentially("conformal prediction")
        page.locator(".md-search-result__link").first.wait_for()
        titles = page.locator(".md-search-result__article h1").all_inner_texts()
        browser.close()
    assert any("calibration" in title.lower() or "answer" in title.lower() for title in titles)
    assert all(url.startswith((address, "data:", "blob:")) for url in asked)
