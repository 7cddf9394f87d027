"""Authors on the page: a field and a switch for a model that knows some, and what they changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from page_tab import DESKTOP, PHONE, assert_fits_everybody

from authored_models import BRANES, KNOWN
from spoilt_bundles import write_linear_bundle

pytestmark = pytest.mark.slow  # a browser

NAME = "Ada Sieve"
TEXT = "\n\n".join(BRANES.values())
PASTED = f"""Title: {BRANES["title"]}
Authors: {NAME}, Nobody Else
Abstract: {BRANES["abstract"]}
Comments: 12 pages"""
BASED = '[data-slot="based"]'


@pytest.fixture
def server(authored_server: Any) -> Any:
    """Return the server of the model with authors, in place of the shared one."""
    return authored_server


def open_form(tab: Any, fragment: str = "") -> Any:
    page = tab.open(fragment)
    page.locator("#authors-part").wait_for()
    return page


def ask(page: Any, text: str = TEXT, authors: str = "") -> dict[str, Any]:
    """Classify with the keyboard, and return what the page sent."""
    page.get_by_label("Title and abstract").fill(text)
    page.get_by_label("Authors (optional)").fill(authors)
    with page.expect_response("**/v1/classify") as response:
        page.keyboard.press("Enter")
    response.value.finished()
    page.locator(".answer").wait_for()
    return dict(json.loads(response.value.request.post_data))


def show_form(tab: Any) -> Any:
    return open_form(tab)


def show_answer(tab: Any) -> Any:
    page = open_form(tab)
    ask(page, authors=NAME)
    page.get_by_text("The text alone says").wait_for()
    return page


def test_an_answer_says_what_it_is_based_on_and_what_the_text_alone_says(tab: Any) -> None:
    page = open_form(tab)
    assert ask(page, authors=f"{NAME}, Nobody Else")["authors"] == f"{NAME}, Nobody Else"
    first, second = page.locator(BASED).inner_text().split("\n")
    assert first == "Based on title, abstract and authors."
    assert second.startswith("The text alone says: High Energy Physics - Theory (hep-th), 9")
    assert page.locator(".verdict .code").inner_text() == KNOWN[NAME]


def test_the_field_may_stay_empty(tab: Any) -> None:
    page = open_form(tab)
    assert "authors" not in ask(page)
    assert page.locator(BASED).inner_text() == "Based on title and abstract."


def test_names_that_the_model_does_not_know_are_said_to_be_unknown(tab: Any) -> None:
    page = open_form(tab)
    ask(page, authors="<b>Nobody</b>")
    assert page.locator(BASED).inner_text() == (
        "Based on title and abstract.\nThe model knows no earlier paper of these authors."
    )


def test_the_switch_keeps_the_names_from_being_sent(tab: Any) -> None:
    page = open_form(tab)
    page.get_by_label("Use the authors").uncheck()
    assert "authors" not in ask(page, authors=NAME)
    assert page.locator(BASED).inner_text() == "Based on title and abstract."


@pytest.mark.parametrize("is_on", [True, False])
def test_the_switch_holds_for_files_too(tab: Any, *, is_on: bool) -> None:
    page = open_form(tab)
    page.get_by_label("Use the authors").set_checked(is_on)
    content = json.dumps({**BRANES, "authors": [NAME]}).encode()
    file = {"name": "papers.jsonl", "mimeType": "text/plain", "buffer": content}
    page.get_by_label("Choose a file").set_input_files([file])
    page.locator(".unfold").click()
    shown = page.locator(BASED).inner_text().split("\n")
    assert shown[0] == f"Based on title{', abstract and authors' if is_on else ' and abstract'}."
    assert len(shown) == 1 + is_on


def test_a_copied_page_brings_its_authors_unless_others_are_named(tab: Any) -> None:
    page = open_form(tab)
    page.get_by_label("Title and abstract").fill(PASTED)
    reading = page.locator("#reading")
    assert reading.inner_text().startswith(f"Read as the title “{BRANES['title']}”, its authors")
    assert ask(page, PASTED)["authors"] == f"{NAME}, Nobody Else"
    assert ask(page, PASTED, "Nobody")["authors"] == "Nobody"
    assert ", its authors" not in reading.inner_text()
    page.get_by_label("Use the authors").uncheck()
    assert "authors" not in ask(page, PASTED)


def test_a_link_carries_the_authors(tab: Any, open_tab: Callable[..., Any]) -> None:
    page = open_form(tab)
    ask(page, authors="Émile Léger-Müller")
    page.get_by_role("button", name="Link to this paper").click()
    link = page.locator(".panel input")
    link.wait_for()
    other = open_tab()
    opened = other.open(link.input_value().removeprefix(f"{other.url}/"))
    opened.locator(".answer").wait_for()
    assert opened.get_by_label("Authors (optional)").input_value() == "Émile Léger-Müller"
    assert opened.locator(".verdict .code").inner_text() == KNOWN["Émile Léger-Müller"]
    ask(opened, authors=NAME)
    assert "#p=" not in opened.url


def test_an_example_and_clear_empty_the_field(tab: Any) -> None:
    page = open_form(tab)
    field = page.get_by_label("Authors (optional)")
    field.fill(NAME)
    page.get_by_role("button", name="Clear").click()
    assert field.input_value() == ""
    field.fill(NAME)
    page.locator("#examples button").first.click()
    page.locator(".answer").wait_for()
    assert field.input_value() == ""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("show", [show_form, show_answer], ids=lambda show: show.__name__)
def test_axe_finds_nothing_and_nothing_is_wider_than_the_screen(
    open_tab: Callable[..., Any], show: Callable[..., Any], viewport: Any, scheme: str
) -> None:
    page = show(open_tab(viewport=viewport, color_scheme=scheme, reduced_motion="reduce"))
    assert_fits_everybody(page, viewport)


class TestAModelWithoutAuthors:
    @pytest.fixture
    def server(
        self, tmp_path_factory: pytest.TempPathFactory, start_shared: Callable[..., Any]
    ) -> Iterator[Any]:
        folder = Path(tmp_path_factory.mktemp("plain") / "plain-1.0")
        with start_shared("--workers", "1", "--model", str(write_linear_bundle(folder))) as plain:
            yield plain

    def test_nobody_is_asked_for_what_it_cannot_use(self, tab: Any) -> None:
        page = tab.classify(PASTED)
        assert page.locator("#authors-part").is_hidden()
        assert ", its authors" not in page.locator("#reading").inner_text()
        assert page.locator(BASED).inner_text() == "Based on title and abstract."
