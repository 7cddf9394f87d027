"""A file of papers on the page: chosen, dropped or pasted; filtered, unfolded, downloaded."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from page_tab import PHONE
from page_texts import ACCEPTED, CSV, CSV_WITH_BAD_RECORD
from typer.testing import CliRunner

from classmark import Classifier
from classmark.cli.app import app
from classmark.records import csv_text

pytestmark = pytest.mark.slow  # a browser, file after file

TITLE, ABSTRACT = ACCEPTED.split("\n\n")
BIBTEX = f"@article{{one,\n title = {{{TITLE}}},\n abstract = {{{ABSTRACT}}}\n}}\n"
HOSTILE = '<img src=x onerror="window.injected = 1">'


def test_a_file_gives_a_row_a_paper(tab: Any) -> None:
    page = tab.upload("papers.csv", CSV_WITH_BAD_RECORD)
    assert page.locator(".batch h2").inner_text() == "4 papers in papers.csv"
    said = page.locator(".batch .said").first.inner_text()
    assert said == "1 with a category, 2 without, 1 cannot be read."
    rows = page.locator(".batch tbody tr:not([hidden])").all_inner_texts()
    assert [row.split()[0] for row in rows] == ["p1", "p2", "p3", "p4"]
    assert "quant-ph" in rows[0]
    assert "not sure enough; most probable" in rows[1]
    assert "%" in rows[1]
    assert "not like a paper" in rows[2]
    assert "%" not in rows[2]
    assert "empty" in rows[3]


def test_a_row_unfolds_to_the_whole_answer(tab: Any) -> None:
    page = tab.upload("papers.csv", CSV)
    button = page.get_by_role("button", name="p1")
    button.click()
    assert button.get_attribute("aria-expanded") == "true"
    below = page.locator(f"#{button.get_attribute('aria-controls')}")
    assert below.locator(".ranked .code").first.inner_text() == "quant-ph"
    assert "entanglement" in below.locator(".evidence").inner_text()
    button.press("Enter")
    assert below.is_hidden()


@pytest.mark.parametrize(
    ("shown", "ids"),
    [("accepted", ["p1"]), ("abstained", ["p2", "p3"]), ("failed", ["p4"])],
)
def test_the_table_can_be_filtered(tab: Any, shown: str, ids: list[str]) -> None:
    page = tab.upload("papers.csv", CSV_WITH_BAD_RECORD)
    page.get_by_label("Show").select_option(shown)
    rows = page.locator(".batch tbody tr:not([hidden])").all_inner_texts()
    assert [row.split()[0] for row in rows] == ids


def test_the_table_is_downloaded_as_csv_with_the_columns_of_the_command(tab: Any) -> None:
    page = tab.upload("my.papers.csv", CSV.replace("p1", '"a ""quoted"", id"'))
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    assert download.value.suggested_filename == "my.papers-classified.csv"
    rows = list(csv.DictReader(io.StringIO(download.value.path().read_text("utf-8-sig"))))
    assert [row["id"] for row in rows] == ['a "quoted", id', "p2", "p3"]
    assert [row["primary"] for row in rows] == ["quant-ph", "", ""]
    assert rows[2]["reason"] == "out_of_scope"


def test_the_download_is_byte_for_byte_what_the_command_writes(tab: Any, tmp_path: Path) -> None:
    content = CSV.replace("Robust ", "=Robust  ").replace("p2", "\u00e9 2")
    page = tab.upload("papers.csv", content)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    (tmp_path / "papers.csv").write_text(content, encoding="utf-8")
    words = ["classify", tmp_path / "papers.csv", "--top", "10", "--output", tmp_path / "out.csv"]
    assert CliRunner().invoke(app, list(map(str, words))).exit_code == 0
    assert download.value.path().read_bytes() == (tmp_path / "out.csv").read_bytes()


def test_a_row_shows_title_name_short_list_and_cross_lists(tab: Any) -> None:
    page = tab.upload("papers.csv", CSV)
    answer = Classifier().classify(ACCEPTED, top=10)
    paper, category = page.locator(".batch tbody tr").first.locator("th, td").all()[:2]
    assert paper.inner_text().split("\n") == ["p1", TITLE]
    verdict, *further = category.inner_text().split("\n")
    assert verdict == f"quant-ph {answer.ranked[0].name}"
    wanted = [("Short list", answer.set or ()), ("Cross-lists", answer.cross_lists)]
    lines = [f"{label}: {', '.join(codes)}" for label, codes in wanted if codes]
    assert [line for line in further if line] == lines


OWN_CSV = CSV.replace("id,title,abstract", 'Nr.,Titel,"Inhalt, kurz"')
OWN_JSON = json.dumps([{"Nr.": "p1", "Titel": TITLE, "Inhalt, kurz": ABSTRACT}] * 3)


@pytest.mark.parametrize(("name", "content"), [("neu.csv", OWN_CSV), ("neu.json", OWN_JSON)])
def test_columns_that_are_not_understood_are_asked_for(tab: Any, name: str, content: str) -> None:
    page = tab.open()
    choose(page, name, content)
    page.get_by_role("heading", name="Which columns contain the papers?").wait_for()
    tab.expect_refusals()
    assert (
        page.evaluate("document.activeElement.textContent") == "Which columns contain the papers?"
    )
    assert page.locator(".columns .names li").all_inner_texts() == ["Nr.", "Titel", "Inhalt, kurz"]
    chosen = {label: page.get_by_label(label, exact=True) for label in ("Title", "Abstract")}
    assert [box.input_value() for box in chosen.values()] == ["Titel", "Inhalt, kurz"]
    assert page.get_by_label("Identifier").input_value() == "Nr."
    for box in chosen.values():
        box.select_option("")
    page.get_by_role("button", name="Classify with these columns").press("Enter")
    assert page.get_by_role("alert").inner_text().startswith("Choose the column of the title, of")
    chosen["Title"].select_option("Titel")
    chosen["Abstract"].select_option("Inhalt, kurz")
    page.get_by_role("button", name="Classify with these columns").press("Enter")
    page.locator(".batch").wait_for()
    assert "3 papers in" in page.locator(".batch h2").inner_text()
    row = page.locator(".batch tbody tr").first.inner_text()
    assert "p1" in row
    assert "quant-ph" in row


def test_the_question_for_columns_can_be_cancelled(tab: Any) -> None:
    page = tab.upload("papers.csv", CSV)
    choose(page, "neu.csv", OWN_CSV)
    page.get_by_role("button", name="Cancel").click()
    tab.expect_refusals()
    assert page.locator(".batch h2").inner_text() == "3 papers in papers.csv"


def test_advice_about_columns_is_in_the_words_of_the_page(tab: Any) -> None:
    lines = [{"title": TITLE, "abstract": ABSTRACT}, {"Titel": TITLE, "Nr": 7}]
    page = tab.upload("mixed.jsonl", "\n".join(map(json.dumps, lines)))
    failed = page.locator(".batch .failed td").inner_text()
    assert failed == "No title or abstract is recognised among Titel, Nr."
    choose(page, "neu.csv", f"{'x' * 300},{'y' * 300}\n1,2\n")  # too long to be offered
    page.get_by_role("alert").wait_for()
    tab.expect_refusals()
    assert "form field" not in page.get_by_role("alert").inner_text()


def test_of_many_columns_the_first_are_listed_and_all_can_be_chosen(tab: Any) -> None:
    page = tab.open()
    choose(page, "neu.csv", ",".join(f"c{i}" for i in range(30)) + "\n")
    page.locator(".columns").wait_for()
    tab.expect_refusals()
    assert page.locator(".columns .names li").all_inner_texts()[-2:] == ["c23", "and 6 more"]
    assert page.get_by_label("Abstract", exact=True).locator("option").count() == 31
    assert page.get_by_label("Abstract", exact=True).input_value() == ""


def test_names_of_columns_stay_text(tab: Any) -> None:
    page = tab.open()
    choose(page, "neu.csv", f"{HOSTILE},b\n1,2\n")
    page.locator(".columns").wait_for()
    tab.expect_refusals()
    assert page.locator(".columns .names li").first.inner_text() == HOSTILE
    assert page.evaluate("window.injected") is None


def choose(page: Any, name: str, content: str) -> None:
    file = {"name": name, "mimeType": "text/plain", "buffer": content.encode()}
    page.get_by_label("Choose a file").set_input_files([file])


def test_ids_that_a_spreadsheet_would_run_are_escaped_as_the_command_escapes_them(tab: Any) -> None:
    ids = ["=1+1", "+1", "-1", "@x", "\u00a0 =1", "\uff1d1", "\uff0b1", "\uff0d1", "\uff201", "a=1"]
    lines = [json.dumps({"id": id, "title": TITLE, "abstract": ABSTRACT}) for id in ids]
    page = tab.upload("my.jsonl", "\n".join(lines))
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    rows = list(csv.reader(io.StringIO(download.value.path().read_text("utf-8-sig"))))[1:]
    wanted = csv.reader(io.StringIO(csv_text([[id.strip()] for id in ids])))
    assert [row[0] for row in rows] == [row[0] for row in wanted]
    assert [row[0][0] == "'" for row in rows] == [True] * 9 + [False]


def test_the_table_is_downloaded_as_json_lines(tab: Any) -> None:
    page = tab.upload("papers.csv", CSV_WITH_BAD_RECORD)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download JSON lines").click()
    lines = download.value.path().read_text("utf-8").splitlines()
    answers = [json.loads(line) for line in lines]
    assert [answer["id"] for answer in answers] == ["p1", "p2", "p3", "p4"]
    assert answers[0]["primary"] == "quant-ph"
    assert answers[3]["error"]["message"]


def test_a_long_file_is_shown_in_steps(tab: Any) -> None:
    lines = [json.dumps({"id": f"n{i}", "title": TITLE, "abstract": ABSTRACT}) for i in range(250)]
    page = tab.upload("many.jsonl", "\n".join(lines))
    assert page.locator(".unfold").count() == 100
    page.get_by_role("button", name="Show more (150 left)").click()
    page.get_by_role("button", name="Show more (50 left)").click()
    assert page.locator(".unfold").count() == 250
    assert page.get_by_role("button", name="Show more").is_hidden()


def test_a_dropped_file_is_classified(tab: Any) -> None:
    page = tab.open()
    transfer = page.evaluate_handle(
        """text => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([text], "dropped.csv"));
          return transfer;
        }""",
        CSV,
    )
    page.dispatch_event("body", "dragover", {"dataTransfer": transfer})
    assert page.get_by_text("Drop the file to classify its papers").is_visible()
    page.dispatch_event("body", "drop", {"dataTransfer": transfer})
    page.locator(".batch").wait_for()
    assert page.locator(".batch h2").inner_text() == "3 papers in dropped.csv"
    assert page.get_by_text("Drop the file to classify its papers").is_hidden()


def test_pasted_bibtex_is_read_as_a_file(tab: Any) -> None:
    page = tab.open()
    page.get_by_label("Title and abstract").fill(BIBTEX)
    assert page.locator("#reading").inner_text() == "Read as BibTeX."
    page.keyboard.press("Control+Enter")
    page.locator(".batch").wait_for()
    assert "quant-ph" in page.locator(".batch tbody").inner_text()


@pytest.mark.parametrize(
    ("records", "name"),
    [
        (f"TY  - JOUR\nTI  - {TITLE}\nAB  - {ABSTRACT}\nER  - \n", "RIS"),
        (f"\nPMID- 1\nTI  - {TITLE}\nAB  - {ABSTRACT}\n", "PubMed records"),
        (f"FN Clarivate\nVR 1.0\nPT J\nTI {TITLE}\nAB {ABSTRACT}\nER\n", "Web of Science records"),
        (f"%0 Journal Article\n%T {TITLE}\n%X {ABSTRACT}\n", "EndNote records"),
    ],
)
def test_pasted_records_are_read_as_a_file(tab: Any, records: str, name: str) -> None:
    page = tab.open()
    page.get_by_label("Title and abstract").fill(records)
    assert page.locator("#reading").inner_text() == f"Read as {name}."
    page.keyboard.press("Control+Enter")
    page.locator(".batch").wait_for()
    assert "quant-ph" in page.locator(".batch tbody").inner_text()


def test_a_file_that_is_none_is_refused_in_words(tab: Any) -> None:
    page = tab.open()
    file = {"name": "picture.png", "mimeType": "image/png", "buffer": b"\x89PNG\r\n\x1a\n\x00\x01"}
    page.get_by_label("Choose a file").set_input_files([file])
    page.get_by_role("alert").wait_for()
    assert "The service cannot read" in page.get_by_role("alert").inner_text()
    tab.expect_refusals()


def test_markup_in_a_file_stays_text(tab: Any) -> None:
    record = {"id": HOSTILE, "title": TITLE + HOSTILE, "abstract": ABSTRACT}
    page = tab.upload("hostile.jsonl", json.dumps(record) + "\n")
    assert HOSTILE in page.locator(".batch tbody").inner_text()
    page.locator(".unfold").click()
    assert page.locator("img").count() == 0
    assert page.evaluate("window.injected") is None


def test_a_long_name_of_a_file_does_not_leave_a_phone(open_tab: Any) -> None:
    page = open_tab(viewport=PHONE).upload("n" * 240 + ".csv", "title\nGraphs\n")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


@pytest.mark.parametrize("name", ["papers.ris", "papers.XML", "papers.csv.xz", "papers"])
def test_a_download_is_called_as_the_file_without_its_endings(tab: Any, name: str) -> None:
    page = tab.upload(name, "TY  - JOUR\nTI  - Graphs\nER  - \n")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    assert download.value.suggested_filename == "papers-classified.csv"
