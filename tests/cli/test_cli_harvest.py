"""``classmark harvest`` as a user sees it: lines, exit codes, and what a killed one leaves."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from classmark.cli.app import app
from oai_server import Archive, Entry, harvestable

FIVE = [Entry(n, f"2024-11-{10 + n}", f"Sieves, part {n}") for n in range(1, 6)]


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.chdir(tmp_path)
    with harvestable() as archive:
        archive.entries = list(FIVE)
        monkeypatch.setenv("CLASSMARK_OAI_ENDPOINT", archive.address)
        yield archive


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["harvest", "--output", "new", "--pause", "0", *arguments])


def test_stdout_is_the_file_of_papers_and_stderr_says_what_came(archive: Archive) -> None:
    result = run("--from", "2024-11-12")
    assert (result.exit_code, result.stdout) == (0, f"{Path('new', 'papers.jsonl')}\n")
    assert result.stderr == (
        "4 records: 4 new, 0 updated, 0 unchanged, 0 deleted, 0 unreadable; 4 papers in all, "
        "complete until 2024-11-15.\n"
    )
    classified = CliRunner().invoke(app, ["classify", "new/papers.jsonl"])
    assert classified.exit_code == 0
    assert len(classified.stdout.splitlines()) == 4


def test_json_has_counts_that_add_up(archive: Archive) -> None:
    archive.entries.append(Entry(6, "2024-11-16"))
    facts = json.loads(run("--json").stdout)
    assert facts == {
        "papers_file": str(Path("new", "papers.jsonl")),
        "since": None,
        "complete_until": "2024-11-16",
        "requests": 3,
        "pages": 3,
        "restarts": 0,
        "records": 6,
        "new": 5,
        "updated": 0,
        "unchanged": 0,
        "deleted": 1,
        "unreadable": 0,
        "papers": 5,
        "papers_deleted": 1,
    }


def test_an_archive_that_fails_is_one_line_and_exit_code_1(archive: Archive) -> None:
    archive.faults = ["", "html"]
    result = run()
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: http://127.0.0.1:")
    assert result.stderr.endswith("2 records are kept: run the same command to resume.\n")
    assert result.stderr.count("\n") == 1


def test_options_that_contradict_each_other_are_exit_code_2(archive: Archive) -> None:
    assert run("--from", "2024-11-12", "--until", "2024-11-11").exit_code == 2
    assert run("--metadata", "arXiv").exit_code == 0
    assert run("--metadata", "oai_dc").exit_code == 2


def start(archive: Archive) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "classmark", "harvest", "--output", "new"]
    return subprocess.Popen(
        [*command, "--endpoint", archive.address, "--pause", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.slow
def test_a_harvest_that_is_killed_again_and_again_is_as_complete(archive: Archive) -> None:
    """Slow: about a dozen processes, each of which is killed at another moment."""
    archive.entries = [Entry(n, f"2024-11-{n % 28 + 1:02d}", f"Part {n}") for n in range(1, 61)]
    chance = random.Random(17)
    processes: list[subprocess.Popen[bytes]] = []

    def kill() -> None:
        processes[-1].send_signal(signal.SIGKILL)

    def before(_: int) -> None:
        if len(processes) < 12 and chance.random() < 0.2:
            kill()

    def after(_: int) -> None:
        if len(processes) < 12 and chance.random() < 0.2:
            threading.Timer(chance.random() * 0.02, kill).start()

    archive.before, archive.after = before, after
    codes = []
    while not codes or codes[-1] != 0:
        archive.faults = ["", "", "expired"] if len(processes) == 6 else []
        processes.append(start(archive))
        out, err = processes[-1].communicate(timeout=120)
        codes.append(processes[-1].returncode)
        assert codes[-1] in (0, -signal.SIGKILL), err
        assert codes[-1] == 0 or not out
    assert codes.count(-signal.SIGKILL) >= 5
    lines = [json.loads(line) for line in Path("new", "papers.jsonl").read_text().splitlines()]
    assert [line["title"] for line in lines] == [entry.title for entry in archive.entries]
    assert sorted(path.name for path in Path("new").iterdir()) == [
        "harvest.sqlite",
        "lock",
        "papers.jsonl",
    ]


@pytest.mark.slow
def test_ctrl_c_says_that_the_pages_are_kept(archive: Archive) -> None:
    """Slow: a process of its own."""
    reached = threading.Event()
    archive.faults = ["", "stall"]
    archive.before = lambda number: reached.set() if number == 2 else None
    process = start(archive)
    assert reached.wait(120)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert b"kept: run the same command to resume" in err


@pytest.mark.slow
def test_every_command_of_the_page_prints_what_it_shows() -> None:
    """Slow: several processes."""
    root = Path(__file__).parents[2]
    page = root / "docs" / "how-to" / "harvest-new-papers.md"
    command = [sys.executable, str(root / "docs" / "tutorial_run.py"), str(page)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
