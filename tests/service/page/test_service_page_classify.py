"""One paper on the page: pasted, classified, explained, linked."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from page_tab import DESKTOP, PHONE
from page_texts import ACCEPTED, COLD_ATOMS, ECONOMICS, NO_PAPER, UNSURE

pytestmark = pytest.mark.slow  # a browser, paper after paper

ARXIV_PAGE = """[Submitted on 1 Jan 2024]
Title:Robust entanglement of oscillators
Authors:A. Nobody, B. Noone
View PDF
Abstract:We entangle two oscillators
that share a cavity.
Comments: 12 pages
Subjects: Quantum Physics (quant-ph)"""


def answer_of(client: httpx.Client, text: str) -> Any:
    title, _, abstract = text.partition("\n\n")
    body = {"title": title, "abstract": abstract, "top": 10, "explain": True}
    return client.post("/v1/classify", json=body).json()


def test_the_page_shows_the_answer_of_the_service(tab: Any, client: httpx.Client) -> None:
    page = tab.classify(ACCEPTED)
    answer = answer_of(client, ACCEPTED)
    top = answer["ranked"][0]
    assert page.locator(".verdict .code").inner_text() == answer["primary"] == "quant-ph"
    assert page.locator(".verdict h2").inner_text() == top["name"] == "Quantum Physics"
    rows = page.locator(".ranked li")
    codes = [ranked["code"] for ranked in answer["ranked"]]
    assert rows.locator(".code").all_inner_texts() == codes[: rows.count()]
    assert rows.count() >= 5
    assert rows.first.locator(".share").inner_text() == f"{top['probability']:.0%}".replace(
        "%", "\u202f%"
    )


def test_the_bars_are_as_long_as_the_probabilities(tab: Any, client: httpx.Client) -> None:
    page = tab.classify(UNSURE)
    shares = page.locator(".ranked .bar").evaluate_all(
        "bars => bars.map((bar) => bar.firstElementChild.offsetWidth / bar.offsetWidth)"
    )
    wanted = [ranked["probability"] for ranked in answer_of(client, UNSURE)["ranked"]]
    assert shares == pytest.approx(wanted[: len(shares)], abs=0.01)


def test_the_prediction_set_is_bracketed_and_said(tab: Any, client: httpx.Client) -> None:
    page = tab.classify(UNSURE)
    members = answer_of(client, UNSURE)["set"]
    assert page.locator(".set .code").all_inner_texts() == members
    said = page.locator(".set p").inner_text()
    assert said.startswith(f"Short list of {len(members)}: 90\u202f% of the lists made like this")


def test_each_category_says_how_often_it_was_right(tab: Any, client: httpx.Client) -> None:
    page = tab.classify(ACCEPTED)
    reliability = answer_of(client, ACCEPTED)["ranked"][0]["reliability"]
    precision, papers = round(100 * reliability["precision"]), reliability["papers"]
    worth = page.locator(".ranked li").first.locator("small").inner_text()
    assert worth == f"right {precision}\u202f% of {papers:,} times"
    assert "test papers for which the category came first" in page.locator(".answer").inner_text()


def test_a_category_that_was_never_right_is_rarely_right(tab: Any, client: httpx.Client) -> None:
    page = tab.classify(ECONOMICS)
    ranked = {r["code"]: r["reliability"] for r in answer_of(client, ECONOMICS)["ranked"]}
    said = dict(
        zip(
            page.locator(".ranked .code").all_inner_texts(),
            page.locator(".ranked small").all_inner_texts(),
            strict=True,
        )
    )
    assert ranked["econ.GN"] == {"precision": 0.0, "papers": 2}
    assert said["econ.GN"] == "rarely right: 0 of 2 times"
    assert ranked["econ.EM"] == {"precision": None, "papers": 0}
    assert said["econ.EM"] == "rarely right: never came first"


def test_too_short_a_text_has_no_short_list_and_the_page_says_why(tab: Any) -> None:
    page = tab.classify("Spectral gaps of random regular graphs")
    assert page.locator(".set").count() == 0
    assert "No short list: the text has too few words" in page.locator(".answer").inner_text()


def test_words_for_and_against_are_marked(tab: Any, client: httpx.Client) -> None:
    page = tab.classify(UNSURE)
    explanation = answer_of(client, UNSURE)["explanation"]
    signs = {e["term"]: e["weight"] > 0 for e in explanation if " " not in e["term"]}
    for kind, positive in (("for", True), ("against", False)):
        marks = page.locator(f".marked mark.{kind}").all_inner_texts()
        assert marks
        assert any(signs.get(mark.lower()) is positive for mark in marks)
    assert "".join(page.locator(".marked").inner_text().split()) == "".join(UNSURE.split())


def test_the_terms_multiply_to_the_odds_that_are_said(tab: Any, client: httpx.Client) -> None:
    page = tab.classify(UNSURE)
    page.get_by_text("Terms and their weights").click()
    product = 1.0
    for shown in page.locator(".evidence .share").all_inner_texts():
        factor = float(shown[1:].strip().replace(",", ""))
        product = product * factor if shown.startswith("×") else product / factor
    first, second, *_ = answer_of(client, UNSURE)["ranked"]
    assert product == pytest.approx(first["probability"] / second["probability"], rel=0.05)


def test_entries_that_are_no_words_are_said_in_words(tab: Any) -> None:
    page = tab.classify(ACCEPTED)
    page.get_by_text("Terms and their weights").click()
    evidence = page.locator(".evidence").inner_text()
    assert "all other words together" in evidence
    assert "how common each of the two is" in evidence
    assert "(" not in evidence


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_long_mark_fits_a_line_of_the_label(
    open_tab: Callable[..., Any], viewport: dict[str, int]
) -> None:
    page = open_tab(viewport=viewport).classify(COLD_ATOMS)
    assert page.locator(".verdict .code").inner_text() == "cond-mat.quant-gas"
    lines = page.locator(".label span").evaluate_all(
        "spans => spans.map((s) => s.offsetHeight / parseFloat(getComputedStyle(s).lineHeight))"
    )
    assert lines == pytest.approx([1, 1, 1], abs=0.1)


@pytest.mark.parametrize(
    ("text", "heading"),
    [(UNSURE, "No category: not sure enough"), (NO_PAPER, "does not read like a paper")],
)
def test_abstention_is_said_in_words(tab: Any, text: str, heading: str) -> None:
    page = tab.classify(text)
    assert heading in page.locator(".verdict h2").inner_text()
    assert page.locator(".verdict .code").inner_text() == "abstains"
    assert page.get_by_role("status").inner_text().startswith("No category")


def test_a_text_out_of_scope_has_no_prediction_set(tab: Any) -> None:
    page = tab.classify(NO_PAPER)
    assert page.locator(".set").count() == 0
    assert page.locator(".ranked li").count() == 5
    assert "it would mean nothing" in page.locator(".answer").inner_text()


@pytest.mark.parametrize(
    ("pasted", "title", "abstract"),
    [
        ("A title\nAn abstract\nof two lines.", "A title", "An abstract\nof two lines."),
        ("Only an abstract.", "", "Only an abstract."),
        ("Title: A title\n\nAbstract. We prove it.", "A title", "We prove it."),
        (
            ARXIV_PAGE,
            "Robust entanglement of oscillators",
            "We entangle two oscillators\nthat share a cavity.",
        ),
    ],
)
def test_title_and_abstract_are_found_in_what_is_pasted(
    tab: Any, pasted: str, title: str, abstract: str
) -> None:
    page = tab.open()
    page.get_by_label("Title and abstract").fill(pasted)
    with page.expect_request("**/v1/classify") as sent:
        page.get_by_role("button", name="Classify").click()
    body = json.loads(sent.value.post_data)
    assert (body["title"], body["abstract"]) == (title, abstract)
    reading = page.locator("#reading").inner_text()
    assert f"“{title}”" in reading if title else "without a title" in reading
    page.locator(".answer").wait_for()


def test_every_example_is_answered_and_some_abstain(tab: Any) -> None:
    page = tab.open()
    examples = page.locator("#examples button")
    codes = []
    for i in range(examples.count()):
        with page.expect_response("**/v1/classify") as response:
            examples.nth(i).click()
        codes.append(response.value.json()["primary"])
    assert len(codes) >= 4
    assert None in codes
    assert len({code.split(".")[0] for code in codes if code}) >= 3


def test_the_answer_can_be_downloaded(tab: Any, client: httpx.Client) -> None:
    page = tab.classify(ACCEPTED)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the answer").click()
    saved = json.loads(download.value.path().read_text("utf-8"))
    assert download.value.suggested_filename == "answer.json"
    assert saved["ranked"] == answer_of(client, ACCEPTED)["ranked"]


def test_a_link_holds_the_paper_and_opens_with_its_answer(
    tab: Any, open_tab: Callable[..., Any]
) -> None:
    page = tab.classify(ACCEPTED)
    page.get_by_role("button", name="Link to this paper").click()
    link = page.get_by_label("Link", exact=True).input_value()
    assert link == page.url
    other = open_tab()
    opened = other.open(link.removeprefix(tab.url + "/"))
    opened.locator(".answer").wait_for()
    assert opened.get_by_label("Title and abstract").input_value() == ACCEPTED
    assert opened.locator(".verdict .code").inner_text() == "quant-ph"


def test_the_paper_in_a_link_is_never_in_an_address_that_is_sent(tab: Any, server: Any) -> None:
    page = tab.classify(ACCEPTED)
    page.get_by_role("button", name="Link to this paper").click()
    link = page.get_by_label("Link", exact=True).input_value()
    packed = link.partition("#p=")[2]
    assert re.fullmatch(r"[A-Za-z0-9_-]{50,}", packed)
    page.goto("about:blank")
    with page.expect_response(f"{tab.url}/") as response:
        page.goto(link)
    page.locator(".answer").wait_for()
    assert response.value.request.headers.get("referer") is None
    assert packed not in server.stderr()
    assert "entanglement" not in server.stderr()


def test_another_paper_leaves_the_link_behind_and_back_returns_to_it(tab: Any) -> None:
    page = tab.classify(ACCEPTED)
    page.get_by_role("button", name="Link to this paper").click()
    page.locator(".panel").wait_for()
    link = page.url
    page.get_by_label("Title and abstract").fill(NO_PAPER)
    page.keyboard.press("Control+Enter")
    page.locator(".answer.abstains").wait_for()
    assert page.url == f"{tab.url}/"
    page.go_back()
    page.locator(".answer:not(.abstains)").wait_for()
    assert page.url == link
    assert page.get_by_label("Title and abstract").input_value() == ACCEPTED


def test_a_damaged_link_says_so(tab: Any) -> None:
    page = tab.open("#p=AAAA")
    assert "This link is damaged or incomplete." in page.get_by_role("alert").inner_text()


def test_a_link_that_unpacks_without_end_is_refused(tab: Any) -> None:
    page = tab.open()
    packed = page.evaluate(
        """async () => {
          const zeros = new Blob([new Uint8Array(64 << 20)]).stream();
          const packed = zeros.pipeThrough(new CompressionStream("deflate-raw"));
          const bytes = new Uint8Array(await new Response(packed).arrayBuffer());
          return btoa(Array.from(bytes, (b) => String.fromCharCode(b)).join(""))
            .replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
        }"""
    )
    page.evaluate("packed => { location.hash = `p=${packed}`; }", packed)
    page.get_by_role("alert").wait_for()
    assert "This link is damaged" in page.get_by_role("alert").inner_text()
