"""Telling the page that its answer is wrong: the picker, the form, and what is sent."""

from __future__ import annotations

import json
from typing import Any

import pytest
from page_texts import ACCEPTED, CSV, UNSURE

pytestmark = pytest.mark.slow  # a browser


def open_form(tab: Any) -> Any:
    page = tab.classify(ACCEPTED)
    page.get_by_role("button", name="This is wrong").click()
    return page


def picker(page: Any) -> Any:
    return page.get_by_role("combobox", name="Which category is right?")


def options(page: Any) -> list[str]:
    return [text.split()[0] for text in page.get_by_role("option").all_inner_texts()]


def test_a_correction_is_sent_with_the_id_of_the_prediction_and_without_the_paper(
    tab: Any, client: Any
) -> None:
    with tab.page.expect_response("**/v1/classify") as answered:
        page = open_form(tab)
    prediction_id = answered.value.json()["prediction_id"]
    picker(page).press_sequentially("atomic ph")
    page.get_by_role("option", name="physics.atom-ph").wait_for()
    page.keyboard.press("Enter")
    assert picker(page).input_value() == "physics.atom-ph"
    page.get_by_label("Anything to add?").fill("it is about atoms")
    assert page.get_by_text("Only the id of the prediction, the category and what you add").count()
    with page.expect_response("**/v1/feedback") as response:
        page.get_by_role("button", name="Send the correction").click()
    assert response.value.status == 202
    assert json.loads(response.value.request.post_data) == {
        "prediction_id": prediction_id,
        "category": "physics.atom-ph",
        "comment": "it is about atoms",
    }
    thanks = page.locator(".thanks")
    thanks.wait_for()
    assert thanks.inner_text() == "Thank you. Noted that Atomic Physics (physics.atom-ph) is right."
    assert thanks.evaluate("node => node === document.activeElement")
    assert page.get_by_role("button", name="This is wrong").count() == 0


def test_control_and_enter_in_the_form_of_a_correction_send_it(tab: Any) -> None:
    page = open_form(tab)
    picker(page).fill("physics.atom-ph")
    page.get_by_label("Anything to add?").fill("it is about atoms")
    with page.expect_request("**/v1/*") as sent:
        page.keyboard.press("Control+Enter")
    assert sent.value.url.endswith("/v1/feedback")
    page.locator(".thanks").wait_for()
    assert sum(address.endswith("/v1/feedback") for address in tab.requested) == 1


def test_a_category_is_confirmed_with_one_click(tab: Any) -> None:
    with tab.page.expect_response("**/v1/classify") as answered:
        page = tab.classify(ACCEPTED)
    answer = answered.value.json()
    with page.expect_response("**/v1/feedback") as response:
        page.get_by_role("button", name="This is right").click()
    assert response.value.status == 202
    assert json.loads(response.value.request.post_data) == {
        "prediction_id": answer["prediction_id"],
        "category": answer["primary"],
    }
    thanks = page.locator(".thanks")
    thanks.wait_for()
    assert thanks.inner_text().endswith(f"({answer['primary']}) is right.")
    assert page.get_by_role("button", name="This is").count() == 0


def test_an_answer_without_a_category_cannot_be_confirmed(tab: Any) -> None:
    page = tab.classify(UNSURE)
    page.get_by_role("button", name="This is wrong").wait_for()
    assert page.get_by_role("button", name="This is right").count() == 0


def test_a_correction_is_in_the_journal(tab: Any, client: Any) -> None:
    with tab.page.expect_response("**/v1/classify") as answered:
        page = open_form(tab)
    picker(page).fill("cs.LG")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Send the correction").click()
    page.locator(".thanks").wait_for()
    address = f"/v1/predictions/{answered.value.json()['prediction_id']}"
    while not (record := client.get(address).json()).get("feedback"):
        page.wait_for_timeout(50)  # it is written within the stated window
    assert [entry["category"] for entry in record["feedback"]] == ["cs.LG"]


def test_the_ranked_categories_are_offered_first(tab: Any) -> None:
    page = open_form(tab)
    ranked = page.locator(".ranked .code").all_inner_texts()
    picker(page).click()
    assert options(page)[: len(ranked)] == ranked


def test_the_picker_finds_codes_and_names(tab: Any) -> None:
    page = open_form(tab)
    picker(page).press_sequentially("math.c")
    assert set(options(page)) >= {"math.CA", "math.CO", "math.CT", "math.CV"}
    assert options(page)[0].startswith("math.C")
    picker(page).fill("machine learning")
    assert set(options(page)) == {"cs.LG", "stat.ML"}
    picker(page).fill("no such thing")
    assert page.get_by_role("option").all_inner_texts() == ["No category matches"]


def test_the_picker_is_used_with_the_arrows(tab: Any) -> None:
    page = open_form(tab)
    field = picker(page)
    assert field.evaluate("node => node === document.activeElement")
    assert field.get_attribute("aria-expanded") == "false"
    page.keyboard.press("ArrowDown")
    page.locator('[role="option"][aria-selected="true"]').wait_for()
    assert field.get_attribute("aria-expanded") == "true"
    page.keyboard.press("ArrowDown")
    chosen = page.locator('[role="option"][aria-selected="true"]')
    assert field.get_attribute("aria-activedescendant") == chosen.get_attribute("id")
    second = options(page)[1]
    page.keyboard.press("Enter")
    assert field.input_value() == second
    assert page.get_by_role("listbox").is_hidden()


def test_escape_closes_the_list_then_the_form(tab: Any) -> None:
    page = open_form(tab)
    picker(page).press_sequentially("quant")
    page.get_by_role("listbox").wait_for()
    page.keyboard.press("Escape")
    assert page.get_by_role("listbox").is_hidden()
    assert picker(page).is_visible()
    page.keyboard.press("Escape")
    assert page.locator(".wrong").count() == 0
    button = page.get_by_role("button", name="This is wrong")
    assert button.evaluate("node => node === document.activeElement")
    assert button.get_attribute("aria-expanded") == "false"


def test_without_a_category_nothing_is_sent(tab: Any) -> None:
    page = open_form(tab)
    picker(page).press_sequentially("nonsense")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Send the correction").click()
    assert page.locator(".wrong .fault").inner_text() == "Choose a category from the list first."
    assert not [address for address in tab.requested if address.endswith("/v1/feedback")]


def test_a_correction_that_is_refused_says_why_and_keeps_the_form(tab: Any) -> None:
    page = open_form(tab)
    page.route("**/v1/feedback", lambda r: r.fulfill(status=503, body='{"kind": "journal_off"}'))
    picker(page).fill("cs.LG")
    page.get_by_role("button", name="Send the correction").click()
    page.locator(".notice").wait_for()
    assert "This service has no journal." in page.locator(".notice").inner_text()
    assert picker(page).input_value() == "cs.LG"
    tab.expect_refusals()


def test_a_paper_of_a_file_can_be_corrected_too(tab: Any) -> None:
    page = tab.upload("papers.csv", CSV)
    page.get_by_role("button", name="p2").click()
    page.get_by_role("button", name="This is wrong").click()
    picker(page).fill("cs.SI")
    page.keyboard.press("Enter")
    with page.expect_response("**/v1/feedback") as response:
        page.get_by_role("button", name="Send the correction").click()
    assert response.value.status == 202
    page.locator(".thanks").wait_for()
