"""Evidently's report of a look: the same papers, nothing loaded, nothing sent.

`make test-evidently` runs this in an environment of its own; elsewhere only what needs no Evidently
runs.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
from msgspec import structs
from playwright.sync_api import sync_playwright
from typer.testing import CliRunner

from classmark.cli.app import app
from classmark.monitor import evidently
from watched_journals import START_MS, Watched, keep_events, with_texts

HAS_EVIDENTLY = find_spec("evidently") is not None
slow = pytest.mark.slow  # reason: Evidently takes ten seconds to import, and as long for a report
needs_evidently = pytest.mark.skipif(not HAS_EVIDENTLY, reason="needs the extra monitor")
SECRET = "zorkmid"
LATER_MS = START_MS + 5_000_000
SCORE = re.compile(r"Value Drift for column ([^\"]+?)\".*?Drift score is (\d+\.\d+)\.", re.DOTALL)
SHARE = re.compile(r"Actual value (\d\.\d+) (?:&lt;|<|>=|&gt;=|\\u003c) 0\.500")
WATCHED_PROCESS = """
import sys

OUTSIDE = {"socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.gethostbyname"}

def hear(event, arguments):
    if event in OUTSIDE:
        sys.stderr.write(f"OUTSIDE {event} {arguments[1:]}\\n")

sys.addaudithook(hear)
from classmark.__main__ import main
main()
"""
"""`classmark`, with a line on stderr for all that it asks of the network."""


@dataclass(frozen=True)
class Made:
    """A page, and what the command said of it."""

    page: Path
    stderr: str
    home: Path

    @property
    def html(self) -> str:
        """Return the page."""
        return self.page.read_text(encoding="utf-8")

    @property
    def scores(self) -> dict[str, str]:
        """Return the drift score of each column in the test suite."""
        return dict(SCORE.findall(self.html))

    @property
    def drifted_shares(self) -> list[float]:
        """Return the share of columns that have drifted, of each comparison."""
        return [float(share) for share in SHARE.findall(self.html)]


def run(watched: Watched, journal: Path, folder: Path, *words: str) -> Made:
    """Run the command in a process whose home is a folder of its own."""
    home = folder / "home"
    home.mkdir(parents=True)
    command = [sys.executable, "-c", WATCHED_PROCESS, "monitor", "run", "--newest", "150"]
    command += ["--model", str(watched.folder), "--journal", str(journal), "--fail-on", "never"]
    command += ["--history", str(folder / "history.sqlite"), "--evidently", str(folder / "o.html")]
    unset = {"DO_NOT_TRACK", "XDG_CONFIG_HOME"}
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    ran = subprocess.run(
        [*command, *words],
        env={**environment, "HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return Made(folder / "o.html", ran.stderr, home)


@pytest.fixture(scope="module")
def kept(watched_model: Watched, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a journal of usual papers, and then of those of one field, all with their texts."""
    usual, other = watched_model.usual[:200], watched_model.other[:150]
    first = with_texts(watched_model.events(usual), usual)
    later = with_texts(watched_model.events(other, start_ms=LATER_MS), other)
    later = [structs.replace(event, text=f"{event.text} {SECRET}") for event in later]
    return keep_events(tmp_path_factory.mktemp("kept") / "journal.sqlite", [*first, *later])


@pytest.fixture(scope="module")
def with_text(watched_model: Watched, kept: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Return the page of papers of one field, with their texts."""
    return run(watched_model, kept, tmp_path_factory.mktemp("with"), "--with-texts")


@pytest.fixture(scope="module")
def without_text(
    watched_model: Watched, kept: Path, tmp_path_factory: pytest.TempPathFactory
) -> Made:
    """Return the page of the same papers without texts."""
    return run(watched_model, kept, tmp_path_factory.mktemp("without"))


@slow
@needs_evidently
def test_a_page_compares_papers_predictions_and_texts(with_text: Made) -> None:
    columns = {*evidently.INPUT, *evidently.PREDICTION, *evidently.TEXT}
    assert set(with_text.scores) == columns
    assert len(with_text.drifted_shares) == 3
    assert SECRET in with_text.html
    assert f"report written to {with_text.page}" in with_text.stderr
    assert "does not compare texts" not in with_text.stderr


@slow
@needs_evidently
def test_a_page_with_texts_is_for_its_owner_alone(with_text: Made) -> None:
    assert with_text.page.stat().st_mode & 0o077 == 0


@slow
@needs_evidently
def test_a_page_without_texts_holds_none_and_says_so(without_text: Made) -> None:
    assert set(without_text.scores) == {*evidently.INPUT, *evidently.PREDICTION}
    assert SECRET not in without_text.html
    assert "does not compare texts: add --with-texts" in without_text.stderr


@slow
@needs_evidently
def test_texts_change_nothing_in_the_comparison_of_papers(
    with_text: Made, without_text: Made
) -> None:
    assert {n: with_text.scores[n] for n in without_text.scores} == without_text.scores


@slow
@needs_evidently
def test_evidently_sees_another_field_and_no_drift_in_usual_papers(
    watched_model: Watched, without_text: Made, tmp_path: Path
) -> None:
    papers = watched_model.usual[:150]
    journal = keep_events(tmp_path / "journal.sqlite", watched_model.events(papers))
    usual = run(watched_model, journal, tmp_path / "usual", "--with-texts")
    assert "text of 0 papers of the window and of 0 older ones, 50 of each" in usual.stderr
    assert max(usual.drifted_shares) < 0.5
    assert without_text.drifted_shares[1] >= 0.5


@slow
@needs_evidently
def test_nothing_is_sent_and_nobody_is_given_an_id(with_text: Made, without_text: Made) -> None:
    for made in (with_text, without_text):
        assert "OUTSIDE" not in made.stderr
        assert not [path for path in made.home.rglob("*") if "evidently" in path.name]


@slow
@needs_evidently
def test_the_page_loads_nothing(with_text: Made) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        if os.environ.get("CI") == "true":
            pytest.fail("Chromium is missing: make system-deps installs it")
        pytest.skip("needs Chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page()
        asked: list[str] = []
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(with_text.page.as_uri())
        tab.get_by_text("Share of Drifted Columns").first.wait_for()
        tab.get_by_text("sentences", exact=True).first.wait_for()
        browser.close()
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []


@slow
@needs_evidently
def test_too_few_papers_are_refused(watched_model: Watched, kept: Path, tmp_path: Path) -> None:
    words = ["monitor", "run", "--model", str(watched_model.folder), "--journal", str(kept)]
    words += ["--newest", "20", "--history", str(tmp_path / "history.sqlite")]
    ran = CliRunner().invoke(app, [*words, "--evidently", str(tmp_path / "page.html")])
    assert ran.exit_code == 1
    assert "20 papers are too few for Evidently's report; 50 are needed" in ran.stderr
    assert not (tmp_path / "page.html").exists()


@pytest.mark.skipif(HAS_EVIDENTLY, reason="Evidently is installed here")
def test_without_the_extra_nothing_is_looked_at(tmp_path: Path) -> None:
    history, page = tmp_path / "history.sqlite", tmp_path / "page.html"
    words = ["monitor", "run", "--history", str(history), "--evidently", str(page)]
    ran = CliRunner().invoke(app, words)
    assert ran.exit_code == 1
    assert "pip install 'classmark[monitor]'" in ran.stderr
    assert not history.exists()


def test_a_page_that_is_not_html_is_refused(tmp_path: Path) -> None:
    ran = CliRunner().invoke(app, ["monitor", "run", "--evidently", str(tmp_path / "page.json")])
    assert ran.exit_code == 2
    assert "--evidently" in ran.stderr
