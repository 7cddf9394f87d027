"""The page for everybody: accessibility, keyboard, phone, dark mode; and its policy in force."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from typing import Any

import pytest
from page_tab import BROWSERS, CHROMIUM_OPTIONS, DESKTOP, PHONE, assert_fits_everybody
from page_texts import ACCEPTED, CSV_WITH_BAD_RECORD, NO_PAPER

pytestmark = pytest.mark.slow  # starts a browser, which takes longer than most rooms' tests

HOSTILE = "<script>window.injected = 1</script><img src=x onerror='window.injected = 1'>"


def show_start(tab: Any) -> Any:
    return tab.open()


def show_answer(tab: Any) -> Any:
    page = tab.classify(ACCEPTED)
    page.get_by_text("Terms and their weights").click()
    return page


def show_abstention(tab: Any) -> Any:
    return tab.classify(NO_PAPER)


def show_link(tab: Any) -> Any:
    page = tab.classify(ACCEPTED)
    page.get_by_role("button", name="Link to this paper").click()
    page.locator(".panel").wait_for()
    return page


def show_picker(tab: Any) -> Any:
    page = tab.classify(ACCEPTED)
    page.get_by_role("button", name="This is wrong").click()
    page.get_by_role("combobox", name="Which").press_sequentially("quant")
    page.get_by_role("listbox").wait_for()
    return page


def show_batch(tab: Any) -> Any:
    page = tab.upload("papers.csv", CSV_WITH_BAD_RECORD)
    page.locator(".unfold").first.click()
    return page


def show_columns(tab: Any) -> Any:
    page = tab.open()
    file = {"name": "neu.csv", "mimeType": "text/csv", "buffer": b"Nr,Titel,Inhalt\n1,a,b\n"}
    page.get_by_label("Choose a file").set_input_files([file])
    page.locator(".columns").wait_for()
    tab.expect_refusals()
    return page


def show_notice(tab: Any) -> Any:
    page = tab.open()
    page.get_by_role("button", name="Classify").click()
    page.get_by_role("alert").wait_for()
    return page


def show_status(tab: Any) -> Any:
    page = tab.open("#status")
    page.locator("#card h2").wait_for()
    return page


STATES = (
    show_start,
    show_answer,
    show_abstention,
    show_link,
    show_picker,
    show_batch,
    show_columns,
    show_notice,
    show_status,
)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("show", STATES, ids=lambda show: show.__name__)
def test_axe_finds_nothing_and_nothing_is_wider_than_the_screen(
    open_tab: Callable[..., Any], show: Callable[..., Any], viewport: Any, scheme: str
) -> None:
    page = show(open_tab(viewport=viewport, color_scheme=scheme, reduced_motion="reduce"))
    assert_fits_everybody(page, viewport)


def test_an_injected_inline_script_does_not_run(tab: Any) -> None:
    page = tab.open()
    blocked = page.evaluate(
        """() => new Promise((resolve) => {
          addEventListener("securitypolicyviolation", (event) => resolve(event.effectiveDirective));
          const script = document.createElement("script");
          script.textContent = "window.injected = 1";
          document.body.append(script);
        })"""
    )
    assert blocked == "script-src-elem"
    assert page.evaluate("window.injected") is None
    assert all("Content Security Policy" in complaint for complaint in tab.complaints)
    tab.complaints.clear()


def test_the_page_cannot_reach_another_host(tab: Any) -> None:
    page = tab.open()
    reached = page.evaluate("fetch('https://example.org/').then(() => true, () => false)")
    assert reached is False
    assert all("Content Security Policy" in complaint for complaint in tab.complaints)
    tab.complaints.clear()


def test_a_hostile_model_card_stays_text(tab: Any) -> None:
    def answer(route: Any) -> None:
        body = route.fetch().json()
        body["models"][0]["card"] = (
            f"# {HOSTILE}\n\n{HOSTILE}\n\n| a | b |\n| --- | --- |\n| {HOSTILE} | 1 |\n\n"
            "- [here](javascript:alert(1)) and `code`\n- **bold**\n\n<b>kept</b>\n"
        )
        route.fulfill(body=json.dumps(body), content_type="application/json")

    tab.page.route("**/v1/models", answer)
    page = show_status(tab)
    assert page.locator("#card h2").inner_text() == HOSTILE
    assert page.locator("#card script, #card img, #card a, #card b").count() == 0
    assert page.locator("#card strong").inner_text() == "bold"
    assert page.locator("#card > p").all_inner_texts() == [HOSTILE, "<b>kept</b>"]
    assert page.evaluate("window.injected") is None


def test_the_status_view_shows_the_model_its_card_and_the_counts(tab: Any, client: Any) -> None:
    tab.classify(ACCEPTED)
    page = tab.page
    page.get_by_role("link", name="Model and status").click()
    page.locator("#card h2").wait_for()
    figures = page.locator("#figures").inner_text()
    model = client.get("/v1/models").json()["models"][0]
    assert f"{model['name']} {model['version']}" in figures
    assert model["digest"][:16] in figures
    for label in ("Papers", "Requests", "Latency", "Running for", "Journal"):
        assert label in figures
    headings = page.locator("#card h2, #card h3").all_inner_texts()
    assert headings == [
        line.lstrip("#").strip() for line in model["card"].splitlines() if line.startswith("#")
    ]
    assert page.locator("#card table").count() >= 2
    assert page.locator("#status-title").evaluate("node => node === document.activeElement")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_theme_follows_the_system_until_it_is_chosen(
    open_tab: Callable[..., Any], scheme: str
) -> None:
    page = open_tab(color_scheme=scheme).open()
    other = {"light": "dark", "dark": "light"}[scheme]
    background = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(background)
    assert page.locator("html").get_attribute("data-theme") == scheme
    toggle = page.get_by_role("button", name="Dark theme")
    toggle.click()
    assert page.locator("html").get_attribute("data-theme") == other
    assert toggle.get_attribute("aria-pressed") == str(other == "dark").lower()
    after = page.evaluate(background)
    assert before != after
    page.reload()
    assert page.evaluate(background) == after


def test_a_browser_that_blocks_storage_can_use_the_page(tab: Any) -> None:
    denied = "get() { throw new DOMException('denied', 'SecurityError'); }"
    tab.page.add_init_script(f"Object.defineProperty(window, 'localStorage', {{ {denied} }})")
    page = tab.classify(ACCEPTED)
    page.get_by_role("button", name="Dark theme").click()
    assert page.locator("html").get_attribute("data-theme") == "dark"


@pytest.mark.slow
def test_everything_is_reached_with_the_keyboard(tab: Any) -> None:
    page = tab.open()
    name = "document.activeElement.id || document.activeElement.textContent.trim()"
    reached = []
    for _ in range(10):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(name).split("\n")[0])
    assert reached[:4] == ["Skip to the content", "classmark", "Classify", "Model and status"]
    assert reached[4:8] == ["theme", "text", "authors", "use-authors"]
    assert reached[8].startswith("Classify")
    assert reached[9] == "file"


def test_the_answer_is_announced(tab: Any) -> None:
    page = tab.classify(ACCEPTED)
    announced = page.get_by_role("status").inner_text()
    assert announced.startswith("Quantum Physics, quant-ph.")
    assert "probable" in announced


@pytest.mark.slow
def test_on_a_phone_the_answer_comes_into_view(open_tab: Callable[..., Any]) -> None:
    page = open_tab(viewport=PHONE, reduced_motion="reduce").classify(ACCEPTED)
    top = page.locator(".verdict").evaluate("node => node.getBoundingClientRect().top")
    assert 0 <= top < PHONE["height"] / 2


@pytest.mark.slow
def test_on_a_phone_the_answer_to_an_example_comes_into_view(open_tab: Callable[..., Any]) -> None:
    page = open_tab(viewport=PHONE, reduced_motion="reduce").open()
    page.locator("#examples button").last.click()
    page.locator(".answer").wait_for()
    top = page.locator(".verdict").evaluate("node => node.getBoundingClientRect().top")
    assert 0 <= top < PHONE["height"] / 2


def test_a_page_of_another_site_can_neither_read_nor_send(browser: Any, server: Any) -> None:
    port = server.url.rpartition(":")[2]
    there = f"http://foreign.example:{port}"
    send = """async (address) => {
        const form = new FormData();
        form.append("file", new Blob(["A title\\nAn abstract."]), "paper.txt");
        await fetch(address, { method: "POST", mode: "no-cors", body: form }).catch(() => {});
    }"""
    submit = """(address) => {
        const attributes = { action: address, method: "post", enctype: "multipart/form-data" };
        const form = Object.assign(document.createElement("form"), attributes);
        document.documentElement.append(form);
        form.submit();
    }"""
    # A name of theirs that they let lead to our address, as DNS rebinding does.
    rules = ["--host-resolver-rules=MAP foreign.example 127.0.0.1", *CHROMIUM_OPTIONS]
    executable = next(filter(None, map(shutil.which, BROWSERS)))
    with browser.browser_type.launch(executable_path=executable, args=rules) as visitor:
        for attack in (send, submit):
            page = visitor.new_page()
            answer = page.goto(f"{there}/v1/categories")
            assert (answer.status, answer.json()["kind"]) == (421, "host_not_allowed")
            with page.expect_response(f"{server.url}/v1/files") as seen:
                page.evaluate(attack, f"{server.url}/v1/files")
            assert seen.value.status == 403
