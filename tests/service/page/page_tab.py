"""A tab of Chromium that remembers what it asked for and what it complained of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 360, "height": 740}
TIMEOUT_MS = 20_000

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
"""As in the Makefile: `make system-deps` installs none where it finds one of them."""
CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-quic",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
]


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


@contextmanager
def watched(browser: Browser, url: str, **options: Any) -> Iterator[Tab]:
    """Open a tab of its own profile; at the end it must not have strayed, nor have complained."""
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


def assert_fits_everybody(page: Any, viewport: dict[str, int]) -> None:
    """Fail, naming the elements, if axe finds something, or a part is wider than the screen."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    assert [(v["id"], [node["html"] for node in v["nodes"]]) for v in found] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
