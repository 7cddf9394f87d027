"""What the page says when something goes wrong, and that newer work cancels older."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from page_tab import watched
from page_texts import ACCEPTED, UNSURE

from classmark.service.keys import create_key

pytestmark = pytest.mark.slow  # a browser, and a server that refuses


def paste(page: Any, text: str) -> None:
    page.get_by_label("Title and abstract").fill(text)
    page.keyboard.press("Control+Enter")


def notice(page: Any) -> str:
    page.get_by_role("alert").wait_for()
    return str(page.get_by_role("alert").inner_text())


def refuse(page: Any, status: int, kind: str, **headers: str) -> None:
    problem = {"kind": kind, "status": status, "title": "t", "detail": "a detail."}
    page.route(
        "**/v1/classify",
        lambda route: route.fulfill(
            status=status,
            body=json.dumps(problem),
            content_type="application/problem+json",
            headers=headers,
        ),
    )


def test_nothing_to_classify_is_said_and_the_text_gets_the_focus(tab: Any) -> None:
    page = tab.open()
    page.get_by_role("button", name="Classify").click()
    assert "There is nothing to classify yet." in notice(page)
    assert page.get_by_label("Title and abstract").evaluate("box => box === document.activeElement")


def test_a_text_that_is_too_long_is_refused_in_words(tab: Any) -> None:
    page = tab.open()
    paste(page, "A title\n" + "word " * 60_000)
    said = notice(page)
    assert "That is more than the service accepts at once." in said
    assert "200000" in said.replace(",", "")
    assert page.get_by_role("button", name="Try again").is_hidden()
    tab.expect_refusals()


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (429, "rate_exceeded", "Wait 7 seconds, then try again."),
        (503, "overloaded", "Wait 7 seconds, then try again."),
        (504, "deadline_exceeded", "The service took too long."),
        (422, "invalid_paper", "The service cannot read that. A detail."),
        (500, "internal_error", "the request id abc"),
        (403, "cross_site", "The service does not take requests from this page. A detail."),
    ],
)
def test_a_refusal_is_said_in_words(tab: Any, status: int, kind: str, said: str) -> None:
    page = tab.open()
    refuse(page, status, kind, **{"Retry-After": "7", "X-Request-ID": "abc"})
    paste(page, ACCEPTED)
    assert said in notice(page)
    tab.expect_refusals()


def test_without_a_network_it_says_so_and_can_be_tried_again(tab: Any) -> None:
    page = tab.open()
    page.context.set_offline(True)
    paste(page, ACCEPTED)
    assert "The service does not answer." in notice(page)
    assert page.get_by_label("Title and abstract").input_value() == ACCEPTED
    page.context.set_offline(False)
    page.get_by_role("button", name="Try again").click()
    page.locator(".answer").wait_for()
    assert page.get_by_role("alert").count() == 0
    tab.expect_refusals()


def test_a_newer_request_cancels_the_older(tab: Any) -> None:
    page = tab.open()
    held: list[Any] = []
    failed: list[str] = []
    page.on("requestfailed", lambda request: failed.append(request.failure))
    page.route("**/v1/classify", lambda route: held.append(route) or True, times=1)
    paste(page, UNSURE)
    page.locator('#result[aria-busy="true"]').wait_for()
    paste(page, ACCEPTED)
    page.locator(".answer").wait_for()
    assert page.locator(".verdict .code").inner_text() == "quant-ph"
    assert len(held) == 1
    assert failed == ["net::ERR_ABORTED"]
    assert page.locator("#result").get_attribute("aria-busy") == "false"


def test_escape_cancels_what_is_under_way(tab: Any) -> None:
    page = tab.open()
    page.route("**/v1/classify", lambda _: None)
    paste(page, ACCEPTED)
    page.locator('#result[aria-busy="true"]').wait_for()
    page.keyboard.press("Escape")
    page.locator('#result[aria-busy="false"]').wait_for()
    assert page.get_by_role("status").inner_text() == "Cancelled."
    assert page.get_by_role("alert").count() == 0


def test_a_key_that_is_asked_for_can_be_entered(
    browser: Any, start: Callable[..., Any], tmp_path: Path
) -> None:
    keys = tmp_path / "keys.json"
    _, key = create_key(keys, "page", ["classify", "feedback", "admin"])
    with start("--api-keys", str(keys)) as server, watched(browser, server.url) as tab:
        page = tab.open()
        paste(page, ACCEPTED)
        assert "The service needs an API key." in notice(page)
        page.get_by_label("API key").fill(key)
        page.keyboard.press("Enter")
        page.locator(".answer").wait_for()
        page.get_by_role("link", name="Model and status").click()
        page.locator("#card h2").wait_for()
        stored = page.evaluate("JSON.stringify({...localStorage, ...sessionStorage})")
        assert key not in stored
        tab.expect_refusals()


def test_a_key_is_sent_without_what_no_key_has(tab: Any) -> None:
    page = tab.open()
    refuse(page, 401, "key_missing")
    paste(page, ACCEPTED)
    page.get_by_label("API key").fill("\u200bcmk_abc… ")
    with page.expect_request("**/v1/classify") as sent:
        page.keyboard.press("Enter")
    assert sent.value.headers["x-api-key"] == "cmk_abc"
    tab.expect_refusals()


def test_without_the_scope_admin_the_status_says_so_and_still_shows_the_model(
    browser: Any, start: Callable[..., Any], tmp_path: Path
) -> None:
    keys = tmp_path / "keys.json"
    _, reader = create_key(keys, "reader", ["classify", "feedback"])
    _, admin = create_key(keys, "admin", ["admin"])
    with start("--api-keys", str(keys)) as server, watched(browser, server.url) as tab:
        page = tab.open("#status")
        assert "need an API key with the scope admin" in notice(page)
        page.locator("#card table").first.wait_for()
        assert page.locator("#figures h2").all_inner_texts() == ["Model"]
        page.get_by_label("API key").fill(reader)
        page.keyboard.press("Enter")
        page.get_by_text("This API key cannot read the figures").wait_for()
        assert page.locator("#figures h2").all_inner_texts() == ["Model"]
        page.get_by_label("API key").fill(admin)
        page.get_by_role("button", name="Use this key").click()
        page.get_by_role("heading", name="Journal", exact=True).wait_for()
        assert page.get_by_role("alert").count() == 0
        tab.expect_refusals()


def test_without_a_journal_a_correction_is_refused_and_the_status_says_so(
    browser: Any, start: Callable[..., Any]
) -> None:
    with start("--journal", "off") as server, watched(browser, server.url) as tab:
        page = tab.classify(ACCEPTED)
        page.get_by_role("button", name="This is wrong").click()
        page.get_by_role("combobox", name="Which").fill("cs.LG")
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Send the correction").click()
        page.locator(".notice").wait_for()
        assert "This service has no journal." in page.locator(".notice").inner_text()
        page.get_by_role("link", name="Model and status").click()
        page.locator("#card h2").wait_for()
        assert "predictions and feedback are not recorded" in page.locator("#figures").inner_text()
        tab.expect_refusals()
