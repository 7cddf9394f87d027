"""Checks the links of a built site: inside it always, to other hosts as far as they can be reached.

python docs/links.py [site] [--no-network]

A page, file or anchor that does not exist is an error, and so is a script, style, font or picture
that a page would load from another host. Of the links to other hosts, only one that answers 404 or
410 is an error; without a network, none is.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import httpx

_HOST = "http://site.invalid/"
_GONE = {404, 410}
_SECONDS, _AT_ONCE = 10.0, 8
_NOT_ANSWERED = ("localhost", "127.0.0.1", "0.0.0.0", "::1", "example.org", "example.com")  # noqa: S104
"""Hosts of commands and examples, which no reader is meant to reach as they are written."""


@dataclass
class Page:
    """What a page offers and wants.

    Attributes:
        anchors: ids that a link may end in.
        links: addresses that a reader can follow.
        loads: addresses that the page itself loads.
    """

    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag offers and wants."""
        given = {name: value or "" for name, value in attrs}
        self.page.anchors.update(given[name] for name in ("id", "name") if name in given)
        if "src" in given:
            self.page.loads.append(given["src"])
        if "href" not in given or given["href"].startswith(("mailto:", "data:", "javascript:")):
            return
        is_loaded = tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload")
        if tag in ("a", "area") or is_loaded:
            (self.page.loads if is_loaded else self.page.links).append(given["href"])


def read_site(folder: Path) -> dict[str, Page]:
    """Return every page of a site by its path, ``index.html`` left out."""
    pages = {}
    for file in sorted(folder.rglob("*.html")):
        reader = _Reader()
        reader.feed(file.read_text("utf-8"))
        pages[file.relative_to(folder).as_posix().removesuffix("index.html")] = reader.page
    return pages


def problems_inside(folder: Path, pages: Mapping[str, Page]) -> Iterator[str]:
    """Yield what is wrong with the links within a site, and with what its pages load."""
    for path, page in pages.items():
        if path == "404.html":  # its links are absolute: it is shown at any address
            continue
        name = path or "index.html"
        for address in page.loads:
            if urlsplit(address).netloc:
                yield f"{name} loads {address} from another host"
        for address in [*page.loads, *page.links]:
            problem = _problem(folder, pages, urljoin(_HOST + path, address))
            if problem:
                yield f"{name} links to {address}, which {problem}"


def _problem(folder: Path, pages: Mapping[str, Page], address: str) -> str:
    """Return what is wrong with an address within the site, "" if nothing is."""
    target, anchor = urldefrag(address)
    if not target.startswith(_HOST):
        return ""
    wanted = unquote(target.removeprefix(_HOST))
    if wanted not in pages:
        return "" if (folder / wanted).is_file() else "does not exist"
    has_anchor = not anchor or unquote(anchor) in pages[wanted].anchors
    return "" if has_anchor else "has no such anchor"


def outside(pages: Mapping[str, Page]) -> dict[str, list[str]]:
    """Return every address on other hosts with the pages that link to it."""
    found: dict[str, list[str]] = defaultdict(list)
    for path, page in pages.items():
        for address in page.links:
            parts = urlsplit(address)
            if parts.scheme in ("http", "https") and parts.hostname not in _NOT_ANSWERED:
                found[urldefrag(address)[0]].append(path or "index.html")
    return dict(found)


def statuses(addresses: Iterable[str]) -> Iterator[tuple[str, int | None]]:
    """Yield each address with the status of its answer, None if there was none."""
    with (
        httpx.Client(follow_redirects=True, timeout=_SECONDS) as client,
        ThreadPoolExecutor(_AT_ONCE) as pool,
    ):

        def ask(address: str) -> tuple[str, int | None]:
            try:
                with client.stream("GET", address) as answer:  # HEAD is refused by some
                    return address, answer.status_code
            except httpx.HTTPError:
                return address, None

        yield from pool.map(ask, addresses)


def main() -> None:
    """Check a site, print what is wrong, and end with 1 if anything is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("site", nargs="?", type=Path, default=Path("site"))
    parser.add_argument("--no-network", action="store_true", help="Only links within the site.")
    given = parser.parse_args()
    if not (given.site / "index.html").is_file():
        sys.exit(f"{given.site} is not a built site. Run: make site")
    pages = read_site(given.site)
    problems = list(problems_inside(given.site, pages))
    links = {} if given.no_network else outside(pages)
    answers = dict(statuses(links))
    for address, status in answers.items():
        if status in _GONE:
            problems.append(f"{links[address][0]} links to {address}, which answers {status}")
    silent = sum(status is None for status in answers.values())
    inside = sum(len(page.links) for page in pages.values())
    sys.stdout.write(
        f"{len(pages)} pages, {inside} links; {len(links)} addresses elsewhere, "
        f"{silent} of them could not be reached\n" + "".join(f"{one}\n" for one in problems)
    )
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
