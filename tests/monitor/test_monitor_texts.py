"""The page of a look, and the words and papers behind it, where the journal keeps texts."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from msgspec import structs
from typer.testing import CliRunner

from classmark.cli.app import app
from classmark.errors import InvalidWindow
from classmark.monitor.history import History
from classmark.monitor.look import LookOptions, look
from classmark.monitor.texts import texts_behind
from watched_journals import START_MS, Keep, Watched, with_texts

_LATER_MS = START_MS + 5_000_000


@pytest.fixture
def journal(watched_model: Watched, keep: Keep) -> Path:
    """A journal of usual papers, and then of those of one field with a word of their own."""
    usual, other = watched_model.usual[:200], watched_model.other[:150]
    first = with_texts(watched_model.events(usual), usual)
    later = with_texts(watched_model.events(other, start_ms=_LATER_MS, client="k1"), other)
    later = [structs.replace(event, text=f"{event.text} zorkmid") for event in later]
    return keep([*first, *later])


def _options(watched: Watched, journal: Path) -> LookOptions:
    return LookOptions(model=str(watched.folder), journal=journal, newest=150)


def test_the_words_that_rose_and_the_papers_of_the_field_are_named(
    watched_model: Watched, journal: Path
) -> None:
    options = _options(watched_model, journal)
    found = texts_behind(look(options), options)
    assert (found.n_window, found.n_before) == (150, 200)
    assert found.words[0].word == "zorkmid"
    assert (found.words[0].window, found.words[0].before) == (1.0, 0.0)
    rises = [word.window - word.before for word in found.words]
    assert rises == sorted(rises, reverse=True)
    assert len(found.words) <= 20
    assert len(found.papers) == 10
    titles = {paper.title for paper in watched_model.other[:150]}
    assert {paper.title for paper in found.papers} <= titles
    assert found.papers[0].distance == max(paper.distance for paper in found.papers) > 0


def test_papers_like_the_older_ones_have_no_word_that_rose(
    watched_model: Watched, keep: Keep
) -> None:
    papers = watched_model.usual[:400]
    journal = keep(with_texts(watched_model.events(papers), papers))
    options = LookOptions(model=str(watched_model.folder), journal=journal, newest=200)
    found = texts_behind(look(options), options)
    assert (found.n_window, found.n_before) == (200, 200)
    assert len(found.words) <= 2


def test_a_journal_without_texts_says_how_to_keep_them(watched_model: Watched, keep: Keep) -> None:
    options = _options(watched_model, keep(watched_model.events(watched_model.usual[:150])))
    with pytest.raises(InvalidWindow, match=r"text of 0 papers.*50.*--journal-text"):
        texts_behind(look(options), options)


def test_a_page_that_lacks_texts_does_not_keep_the_report_from_its_file(
    watched_model: Watched, keep: Keep, tmp_path: Path
) -> None:
    journal, report = keep(watched_model.events(watched_model.usual[:150])), tmp_path / "drift.json"
    asked = ["monitor", "run", "--model", str(watched_model.folder), "--journal", str(journal)]
    asked += ["--history", str(tmp_path / "history.sqlite"), "--output", str(report)]
    page = tmp_path / "page.html"
    ran = CliRunner().invoke(app, [*asked, "--html", str(page), "--with-texts"])
    assert (ran.exit_code, page.exists()) == (1, False)
    assert "--journal-text" in ran.stderr
    assert json.loads(report.read_bytes())["counts"]["compared"] == 150


def test_a_page_holds_no_text_unless_it_is_asked_for(
    watched_model: Watched, journal: Path, tmp_path: Path
) -> None:
    history, page = tmp_path / "history.sqlite", tmp_path / "page.html"
    asked = ["monitor", "run", "--model", str(watched_model.folder), "--journal", str(journal)]
    asked += ["--newest", "150", "--history", str(history), "--html", str(page)]
    title = watched_model.other[0].title
    ran = CliRunner().invoke(app, asked)
    assert ran.exit_code == 3
    without = page.read_text(encoding="utf-8")
    assert "zorkmid" not in without
    assert "Papers behind it" not in without
    assert title not in without
    assert "p-values over time" not in without
    ran = CliRunner().invoke(app, [*asked, "--with-texts"])
    assert ran.exit_code == 3
    with_texts = page.read_text(encoding="utf-8")
    assert "This page contains titles and words of papers" in with_texts
    assert re.search(r">zorkmid</th><td class=n>100.0%</td><td class=n>0.0%<", with_texts)
    assert page.stat().st_mode & 0o007 == 0
    assert "p-values over time" in with_texts
    assert len(History(history).reports()) == 2


def test_the_newest_report_is_a_page_again_and_holds_no_text(
    watched_model: Watched, journal: Path, tmp_path: Path
) -> None:
    history, page = tmp_path / "history.sqlite", tmp_path / "page.html"
    look(_options(watched_model, journal), History(history))
    ran = CliRunner().invoke(
        app, ["monitor", "report", "--history", str(history), "--html", str(page)]
    )
    assert ran.exit_code == 0
    assert "page written to" in ran.stderr
    assert "The policy calls somebody." in page.read_text(encoding="utf-8")
    assert "zorkmid" not in page.read_text(encoding="utf-8")


def test_texts_without_a_page_are_refused_before_the_look(tmp_path: Path) -> None:
    ran = CliRunner().invoke(app, ["monitor", "run", "--with-texts"])
    assert ran.exit_code == 2
    assert "--html" in ran.stderr
