"""The page in Chromium behind a proxy that offers the service under a prefix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from page_tab import Tab, watched
from playwright.sync_api import Browser, expect
from proxy import proxied

pytestmark = pytest.mark.slow

PREFIX = "/tools/classmark"
TEXT = "Colourings of sparse random graphs\n\nWe bound the chromatic number of random graphs."


@pytest.fixture
def tab(browser: Browser, server: Any) -> Iterator[Tab]:
    """Return a tab that fails if the page asks for anything that is not under the prefix."""
    with proxied(server.url, PREFIX) as url, watched(browser, url) as opened:
        yield opened


def test_a_paper_is_classified_under_a_prefix(tab: Tab) -> None:
    page = tab.classify(TEXT)
    expect(page.locator(".answer")).to_contain_text("math.CO")


def test_examples_files_and_the_status_work_under_a_prefix(tab: Tab) -> None:
    page = tab.upload("papers.csv", "title,abstract\nGraphs,We colour random graphs.\n")
    page.locator("#examples button").first.click()
    page.locator(".answer").wait_for()
    page.get_by_role("link", name="Model and status").click()
    expect(page.locator("#status")).to_contain_text("fast")
    page.get_by_role("link", name="classmark, start").click()
    page.wait_for_url(f"{tab.url}/")


def test_a_link_to_a_paper_keeps_the_prefix(tab: Tab) -> None:
    page = tab.classify(TEXT)
    page.get_by_role("button", name="Link to this paper").click()
    page.wait_for_url(f"{tab.url}/#p=*")
    page.reload()
    expect(page.locator(".answer")).to_contain_text("math.CO")
    page.get_by_label("Title and abstract").fill("Another paper\n\nabout galaxies.")
    page.keyboard.press("Control+Enter")
    page.wait_for_url(f"{tab.url}/")
