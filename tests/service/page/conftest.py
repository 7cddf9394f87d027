"""The page in a real Chromium: a browser for the folder, a watched tab for each test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-quic",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
]
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 360, "height": 740}
TIMEOUT_MS = 20_000


class Tab:
    """A tab of the page, which remembers what it asked for and what it complained of.

    Attributes:
        page: of Playwright.
        url: of the service.
        requested: every address, in order.
        complaints: errors of the console and of scripts; must be empty when the test ends.
    """

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.requested: list[str] = []
        self.complaints: list[str] = []
        page.set_default_timeout(TIMEOUT_MS)
        page.on("request", lambda request: self.requested.append(request.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._note)

    def open(self, fragment: str = "") -> Page:
        """Open the page, and wait until it can be used."""
        self.page.goto(f"{self.url}/{fragment}")
        self.page.locator("#examples button").first.wait_for(state="attached")
        return self.page

    def classify(self, text: str) -> Page:
        """Open the page, paste a text and classify it with the keyboard; wait for the answer."""
        page = self.open()
        page.get_by_label("Title and abstract").fill(text)
        page.keyboard.press("Control+Enter")
        page.locator(".answer").wait_for()
        return page

    def upload(self, name: str, content: str) -> Page:
        """Open the page and choose a file; wait for its table."""
        page = self.open()
        file = {"name": name, "mimeType": "text/plain", "buffer": content.encode()}
        page.get_by_label("Choose a file").set_input_files([file])
        page.locator(".batch").wait_for()
        return page

    def expect_refusals(self) -> None:
        """Forget what Chromium says of itself about responses that a test asked to fail."""
        self.complaints = [c for c in self.complaints if "Failed to load resource" not in c]

    def _note(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)


@pytest.fixture(scope="package")  # Playwright keeps an event loop, which tests elsewhere would meet
def browser() -> Iterator[Browser]:
    """Return Chromium; without one the tests of the page are skipped, but in CI they fail."""
    found = str(CHROMIUM) if CHROMIUM.exists() else shutil.which("chromium")
    if found is None:
        reason = "there is no Chromium. Run: make system-deps"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=CHROMIUM_OPTIONS)
        yield opened
        opened.close()


@pytest.fixture
def open_tab(browser: Browser, server: Any) -> Iterator[Callable[..., Tab]]:
    """Return a function that opens a watched tab of its own profile.

    At the end no tab may have asked another host for anything, nor have complained.
    """
    with ExitStack() as stack:

        def opened(**options: Any) -> Tab:
            return stack.enter_context(watched(browser, server.url, **options))

        yield opened


@pytest.fixture
def tab(open_tab: Callable[..., Tab]) -> Tab:
    """Return a tab of desktop size in the light."""
    return open_tab()


@contextmanager
def watched(browser: Browser, url: str, **options: Any) -> Iterator[Tab]:
    settings = {"viewport": DESKTOP, "color_scheme": "light", "accept_downloads": True, **options}
    context = browser.new_context(**settings)
    try:
        tab = Tab(context.new_page(), url)
        yield tab
        own = (f"{url}/", "data:", f"blob:{url}/")
        assert [address for address in tab.requested if not address.startswith(own)] == []
        assert tab.complaints == []
    finally:
        context.close()
