"""The page in a real Chromium: a browser for a module, a watched tab for each test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from page_tab import BROWSERS, CHROMIUM_OPTIONS, Tab, watched

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")  # Playwright runs an event loop, which tests elsewhere would meet
def browser() -> Iterator[Browser]:
    """Return Chromium; without one the tests of the page are skipped, but in CI they fail."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        reason = "there is no Chromium. Run: make system-deps"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright  # not at the top: `make quick` needs none

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
