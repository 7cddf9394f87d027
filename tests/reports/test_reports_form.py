"""The project's report: the rules refuse a report that breaks one, and accept the committed one."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[2]))
from reports.document import (
    END,
    START,
    checklist,
    page_of,
    problems_of,
    read_answers,
    read_checklist,
    with_checklist,
)
from reports.form import QUESTIONS
from reports.items import ITEMS, Finding, Item, state_of

ROOT = Path(__file__).parents[2]
PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)
# Images that show what is not built yet are not asked for while its item is open.
OPEN = {question.needs for question in QUESTIONS if question.needs}
FINDINGS = [
    Finding(item.number, "not yet", "a thing")
    if item.number in OPEN
    else Finding(item.number, "done")
    for item in ITEMS
]


def answer_of(question: Any) -> str:
    """Return an answer that keeps every rule."""
    if question.may_not_apply and question.words is None:
        return "Not applicable: there is nobody here to be listed."
    text = " ".join(["word"] * (max(question.words[0], 1) if question.words else 3))
    return text + ("\n\n![A figure](figures/a.png)" if question.images else "")


@pytest.fixture
def broken(tmp_path: Path) -> Callable[..., list[str]]:
    """Return a function that breaks a sound report, and returns the problems that are found."""
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "a.png").write_bytes(PNG)
    parts = [f"### {q.heading}\n\n{answer_of(q)}\n" for q in QUESTIONS]
    sound = with_checklist(f"# Report\n\n{START}\n{END}\n\n" + "\n".join(parts), FINDINGS)

    def breaking(change: Callable[[str], str] = lambda text: text) -> list[str]:
        report = tmp_path / "README.md"
        changed = change(sound)
        report.write_text(changed, encoding="utf-8")
        return problems_of(report, FINDINGS)

    return breaking


def replaced(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new)

    return change


def answered(number: int, answer: str) -> Callable[[str], str]:
    """Return the change that gives a question another answer."""
    heading = QUESTIONS[number - 1].heading

    def change(text: str) -> str:
        pattern = rf"(### {re.escape(heading)}\n).*?(?=\n### |\Z)"
        changed, found = re.subn(pattern, lambda m: f"{m[1]}\n{answer}\n", text, flags=re.DOTALL)
        assert found == 1
        return changed

    return change


def test_a_sound_report_has_no_problem(broken: Any) -> None:
    assert broken() == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (answered(4, "word " * 99), "question 4 has 99 words. Write 100 to 200."),
        (answered(4, "word " * 201), "question 4 has 201 words. Write 100 to 200."),
        (answered(7, ""), "question 7 has 0 words. Write 50 to 100."),
        (answered(14, "word " * 200), "question 14 shows 0 images. Show 1 to 3 from figures/."),
        (answered(19, ""), "question 19 has no text."),
        (answered(1, "word"), None),
        (answered(1, "Not applicable: so."), "question 1 does not apply, but gives no reason."),
        (answered(5, "Not applicable: nobody asked us about it."), "question 5 always applies."),
        (answered(4, "word " * 120 + "TODO"), "holds the placeholder 'TODO'"),
        (answered(4, "word " * 120 + "--- question 4 fill here ---"), "holds the placeholder"),
        (answered(4, "word " * 120 + "<answer here>"), "holds the placeholder"),
        (replaced("### 8. ", "### 8. And "), "question '8. What is the coverage"),
        (replaced("### 8. ", "### 8. And "), "is not a question of the form"),
        (lambda text: text + "\n### 32. What else?\n\nNothing.\n", "'32. What else?' is not"),
        (lambda text: text + f"\n### {QUESTIONS[0].heading}\n\nOurs.\n", "is there 2 times"),
        (replaced("(figures/a.png)", "(figures/b.png)"), "image 'figures/b.png' does not exist."),
        (replaced("(figures/a.png)", "(figures/a.svg)"), "'figures/a.svg' is not one of .png"),
        (replaced("(figures/a.png)", "(../a.png)"), "image '../a.png' is not under figures/."),
        (replaced("(figures/a.png)", "(figures/../../a.png)"), "is not under figures/."),
        (replaced("![A figure]", "![]"), "has no description."),
        (replaced("(figures/a.png)", "(figures/b.png)"), "figures/a.png is not shown."),
        (replaced(END, ""), "the checklist is missing."),
        (replaced("| 1 | The work", "| 1 | All work"), "item 1 of the checklist is 'done'"),
        (
            replaced("| not yet | a thing |", "| done | a thing |"),
            "item 30 of the checklist is 'not",
        ),
        (
            replaced(
                "<!-- end of checklist -->",
                "| 54 | More | x | done | y |\n<!-- end of checklist -->",
            ),
            "not in the form",
        ),
    ],
)
def test_a_report_that_breaks_a_rule_is_refused(broken: Any, change: Any, problem: str) -> None:
    found = broken(change)
    assert any(problem in line for line in found) if problem else found == []


def test_questions_in_another_order_are_refused(broken: Any) -> None:
    first, second = (f"### {q.heading}\n\n{answer_of(q)}\n" for q in QUESTIONS[:2])
    problems = broken(lambda text: text.replace(first, "").replace(second, f"{second}\n{first}"))
    assert problems == ["the questions are not in the order of their numbers. Sort them."]


def test_a_file_that_only_bears_the_name_of_an_image_is_refused(
    broken: Any, tmp_path: Path
) -> None:
    (tmp_path / "figures" / "a.png").write_text("<svg/>")
    assert "image 'figures/a.png' is not a .png file. Draw it again." in broken()


def test_the_image_of_a_thing_is_required_once_its_item_is_done(
    broken: Any, tmp_path: Path
) -> None:
    change = answered(19, "Nothing is there yet.")
    assert broken(change) == []
    done = [Finding(30, "done") if f.number == 30 else f for f in FINDINGS]
    problems = problems_of(tmp_path / "README.md", done)
    assert "question 19 shows 0 images. Show 1 to 2 from figures/." in problems


def test_images_links_and_comments_do_not_count_as_words() -> None:
    text = "### 1. A?\n\nOne [two](a/b%20c.md) - three.\n\n![four](x.png) <!-- five -->\n"
    (answer,) = read_answers(text)
    assert answer.words == 3
    assert [image.path for image in answer.images] == ["x.png"]


def test_a_state_that_cannot_be_found_out_here_stays_as_it_is_written() -> None:
    text = (
        "x\n<!-- checklist: written by report.py status --write -->\n<!-- end of checklist -->\ny\n"
    )
    unknown = [Finding(f.number, "unknown", "no git") if f.number == 1 else f for f in FINDINGS]
    written = with_checklist(text, FINDINGS)
    assert with_checklist(written, unknown) == written
    assert (read_checklist(written) or {})[1] in checklist(unknown, read_checklist(written) or {})


def test_the_form_has_31_questions_and_53_items_with_numbers_in_order() -> None:
    assert [question.number for question in QUESTIONS] == [*range(1, 32)]
    assert [item.number for item in ITEMS] == [*range(1, 54)]
    assert not [item.number for item in ITEMS if callable(item.check) and not item.shown_by]


def test_a_check_that_fails_is_not_yet_and_says_what_is_missing() -> None:
    assert state_of(Item(1, "w1", "x", lambda: "a thing")) == Finding(1, "not yet", "a thing")
    assert state_of(Item(1, "w1", "x", lambda: "", "y")) == Finding(1, "done")
    assert state_of(Item(1, "w1", "x", "no account")) == Finding(1, "not applicable", "no account")


def test_the_page_holds_its_images_and_loads_nothing(broken: Any, tmp_path: Path) -> None:
    broken(lambda text: text + "\n[Beside](docs/x.md), [elsewhere](https://example.org/).\n")
    page = page_of(tmp_path / "README.md")
    assert 'src="data:image/png;base64,iVBORw0KGgo' in page
    assert not re.findall(r'(?:src|href)="(?!data:|#|https?://)[^"]*"', page)
    assert 'Beside, <a href="https://example.org/">elsewhere</a>' in page
    assert not re.findall(r"<(?:link|script|iframe)\b|@import|url\(", page)
    assert page.count('<span class="done">done</span>') == len(ITEMS) - len(OPEN)


def test_the_number_of_tests_is_what_the_report_says() -> None:
    text = (ROOT / "reports" / "README.md").read_text("utf-8")
    claim = re.search(r"More than ([\d,]+) test functions.*? more than (\d+) files", text)
    assert claim is not None
    files = [path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    functions = sum(len(re.findall(r"^(?:async )?def test_", t, re.MULTILINE)) for t in files)
    assert functions > int(claim[1].replace(",", ""))
    assert len(files) > int(claim[2])


def report(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "reports" / "report.py", *words]
    return subprocess.run([str(w) for w in command], capture_output=True, text=True, check=False)


def test_a_report_that_does_not_exist_is_named(tmp_path: Path) -> None:
    for verb in ("check", "html"):
        done = report(verb, tmp_path / "nowhere.md")
        assert done.returncode == 1
        assert "nowhere.md cannot be read (No such file or directory)." in done.stderr


@pytest.mark.slow  # runs the check of every item
def test_the_committed_report_keeps_every_rule() -> None:
    done = report("check")
    assert done.returncode == 0, done.stderr
    assert "every rule holds" in done.stdout
