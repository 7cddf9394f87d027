"""The page of a model with labels of one's own: its words, its ranking and its picker."""

from __future__ import annotations

import json
from typing import Any

import pytest
from page_tab import PHONE

from own_labels import BRANES, RENAMED, own_label

pytestmark = pytest.mark.slow  # a browser

STRINGS, LONG = RENAMED["hep-th"], RENAMED["gr-qc"]
TEXT = f"{BRANES['title']}\n\n{BRANES['abstract']}"


@pytest.fixture
def server(own_server: Any) -> Any:
    """Return the server of the model of own labels, in place of the shared one."""
    return own_server


def picker(page: Any) -> Any:
    page.get_by_role("button", name="This is wrong").click()
    return page.get_by_role("combobox", name="Which category is right?")


def test_the_page_speaks_of_the_models_labels_and_not_of_arxiv(tab: Any) -> None:
    page = tab.open()
    page.locator("#labels").wait_for()
    assert "ranks the labels of the model own 1.0" in page.locator(".lead").first.inner_text()
    shown = page.locator("#labels").inner_text()
    assert shown.startswith("It chooses among ")
    assert "more" in shown
    assert page.locator("#examples").inner_text().split("\n")[0] == "Not a paper"
    assert page.locator("#examples button").count() == 1


def test_each_label_stands_once(tab: Any) -> None:
    page = tab.classify(TEXT)
    assert page.locator(".verdict h2").inner_text() == STRINGS
    assert page.locator(".verdict .code").is_hidden()
    first = page.locator(".ranked li").first
    assert first.inner_text().split("\n")[0] == STRINGS
    assert page.locator(".ranked .code").count() == 0


def test_a_label_is_found_and_sent_whole(tab: Any) -> None:
    page = tab.classify(TEXT)
    field = picker(page)
    field.press_sequentially("learning, gen")
    page.get_by_role("option").filter(has_text=RENAMED["cs.LG"]).wait_for()
    page.keyboard.press("Enter")
    assert field.input_value() == RENAMED["cs.LG"]
    with page.expect_response("**/v1/feedback") as response:
        page.get_by_role("button", name="Send the correction").click()
    assert response.value.status == 202
    assert json.loads(response.value.request.post_data)["category"] == RENAMED["cs.LG"]
    assert page.locator(".thanks").inner_text() == (
        f"Thank you. Noted that {RENAMED['cs.LG']} is right."
    )


@pytest.mark.parametrize("label", ["ops", "Ops"])
def test_labels_that_differ_in_case_alone_are_told_apart(tab: Any, label: str) -> None:
    page = tab.classify(TEXT)
    picker(page).fill(label)
    page.keyboard.press("Escape")
    with page.expect_response("**/v1/feedback") as response:
        page.get_by_role("button", name="Send the correction").click()
    assert json.loads(response.value.request.post_data)["category"] == label
    assert response.value.status == 202


def test_a_table_of_papers_names_each_label_once(tab: Any) -> None:
    page = tab.upload("papers.csv", f"title,abstract\n{BRANES['title']},{BRANES['abstract']}\n")
    cell = page.locator(".batch tbody td").first
    assert cell.inner_text() == STRINGS


def test_no_text_of_a_long_label_leaves_a_phone(open_tab: Any) -> None:
    tab = open_tab(viewport=PHONE)
    page = tab.open()
    answer = {"code": LONG, "name": LONG, "probability": 0.9}
    change = {"primary": LONG, "probability": 0.9, "set": [LONG], "ranked": [answer, answer]}

    def reply(route: Any) -> None:
        seen = route.fetch().json()
        route.fulfill(json={**seen, **change, "explanation": None, "cross_lists": [LONG]})

    page.route("**/v1/classify", reply)
    page.get_by_label("Title and abstract").fill(TEXT)
    page.keyboard.press("Control+Enter")
    page.locator(".answer").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_a_text_unlike_what_the_model_knows_is_said_in_its_words(tab: Any) -> None:
    page = tab.open()
    page.get_by_role("button", name="Lemon cake").click()
    page.locator(".answer").wait_for()
    said = page.locator(".verdict").inner_text()
    assert "does not read like what the model knows" in said
    assert "scientific abstracts" not in said


def test_the_card_keeps_a_bar_in_its_cell(open_tab: Any) -> None:
    tab = open_tab()

    def reply(route: Any) -> None:
        seen = route.fetch().json()
        seen["models"][0]["card"] = "| label | papers |\n| --- | --- |\n| a \\| b | 3 |\n"
        route.fulfill(json=seen)

    tab.page.route("**/v1/models", reply)
    page = tab.open("#status")
    cells = page.locator("#card tbody td")
    cells.first.wait_for()
    assert cells.all_inner_texts() == ["a | b", "3"]
    assert own_label("cs.AI") not in page.locator("#card").inner_text()
