"""The journal of a service, copied into a bucket while it runs and at its end."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner
from waiting import until

from bucket_fixtures import bucket, needs_bucket
from bucket_server import BucketServer
from classmark.cli.app import app
from classmark.errors import InvalidConfig, StorageFailed
from classmark.journal import Journal, JournalConfig, read_predictions
from classmark.journal.place import place_of
from classmark.journal.shipping import Shipper
from classmark.service import make_settings
from classmark.service.answering.journal import check_journal
from classmark.storage import folder_place

__all__ = ["bucket"]
pytestmark = needs_bucket
PATIENCE_S = 100.0
COPIES = "gs://papers/journal"
PAPER = {"title": "Graph colouring", "abstract": "We colour sparse graphs with few colours."}


def record(path: Path, n: int) -> None:
    """Add predictions to a journal, closing it afterwards."""
    from classmark.records import PredictionEvent, new_prediction_id, utc_text
    from classmark.wire import ModelRef

    journal = Journal(JournalConfig(path=path))
    for _ in range(n):
        assert journal.record(
            PredictionEvent(
                prediction_id=new_prediction_id(),
                at_utc=utc_text(),
                model=ModelRef("fast", "1.0", "d" * 64),
                text_fingerprint="0123456789abcdef",
                primary="cs.LG",
                reason="accepted",
                ranked=(("cs.LG", 0.75),),
                set=(),
                cross_lists=(),
                known_share=0.5,
                n_chars=9,
                n_words=2,
                latex_share=0.0,
                latency_ms=1.0,
            )
        )
    assert journal.flush(PATIENCE_S)
    journal.close(PATIENCE_S)


def count(place: str) -> int:
    """Return how many predictions a place has."""
    return sum(1 for _ in read_predictions(place_of(place)))


def test_a_copy_is_a_whole_journal_and_only_what_changed_is_copied(
    bucket: BucketServer, tmp_path: Path
) -> None:
    journal = tmp_path / "journal.sqlite"
    record(journal, 3)
    shipper = Shipper(journal, folder_place(f"{COPIES}/one"))

    assert (shipper.ship(), shipper.ship()) == (1, 0)
    record(journal, 2)
    assert shipper.ship() == 1

    assert bucket.names() == ["journal/one/journal.sqlite"]
    copy = tmp_path / "copy.sqlite"
    copy.write_bytes(bucket.content("journal/one/journal.sqlite"))
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM predictions").fetchone() == (5,)


def test_the_copies_of_several_machines_are_read_as_one_journal(
    bucket: BucketServer, tmp_path: Path
) -> None:
    for name, n in (("one", 3), ("two", 4)):
        record(tmp_path / name / "journal.sqlite", n)
        Shipper(tmp_path / name / "journal.sqlite", folder_place(f"{COPIES}/{name}")).ship()

    assert count(COPIES) == 7
    n_requests = len(bucket.requests)
    assert count(COPIES) == 7
    assert not [a for m, a in bucket.requests[n_requests:] if "alt=media" in a], "fetched again"


def test_a_copy_that_fails_is_made_the_next_time(bucket: BucketServer, tmp_path: Path) -> None:
    record(tmp_path / "journal.sqlite", 3)
    shipper = Shipper(tmp_path / "journal.sqlite", folder_place(f"{COPIES}/one"))
    bucket.fail("POST", "journal", 403)

    with pytest.raises(StorageFailed, match=r"storage\.objectUser"):
        shipper.ship()
    assert bucket.names() == []

    assert shipper.ship() == 1


@pytest.mark.slow  # reason: a service of its own
def test_a_service_that_is_killed_leaves_its_copies_and_one_that_stops_copies_all(
    bucket: BucketServer, start: Callable[..., Any]
) -> None:
    options = ("--workers", "1", "--journal-copies", COPIES)
    with start(*options, CLASSMARK_SERVE_JOURNAL_COPIES_S="0.2", **bucket.variables) as server:
        assert httpx.post(f"{server.url}/v1/classify", json=PAPER).status_code == 200
        until(lambda: bool(bucket.names()) and count(COPIES) == 1)
        os.killpg(server.process.pid, signal.SIGKILL)
        server.process.wait()
    assert count(COPIES) == 1

    with start(*options, CLASSMARK_SERVE_JOURNAL_COPIES_S="3600", **bucket.variables) as server:
        assert httpx.post(f"{server.url}/v1/classify", json=PAPER).status_code == 200
        assert server.stop() == 0
    # The second service has the journal of the first on its disk: that answer is counted once.
    assert count(COPIES) == 2
    assert len({name.split("/")[1] for name in bucket.names()}) == 2


@pytest.mark.slow  # reason: a process of its own
def test_the_process_that_copies_ends_with_its_input(bucket: BucketServer, tmp_path: Path) -> None:
    record(tmp_path / "journal.sqlite", 2)
    words = ("ship", f"{COPIES}/one", "--journal", str(tmp_path / "journal.sqlite"))
    command = (sys.executable, "-m", "classmark", "journal", *words, "--every-s", "3600")
    with subprocess.Popen([*command, "--until-eof"], stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(PATIENCE_S) == 0
    assert count(COPIES) == 2


def test_the_command_copies_once(bucket: BucketServer, tmp_path: Path) -> None:
    record(tmp_path / "journal.sqlite", 1)
    words = ["journal", "ship", f"{COPIES}/one", "--journal", str(tmp_path / "journal.sqlite")]

    done = CliRunner().invoke(app, words)

    assert (done.exit_code, done.stdout) == (0, f"copied 1 files to {COPIES}/one\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["ship", "copies"], "copies is not in a bucket"),
        (["ship", COPIES, "--journal", "none.sqlite"], "there is no journal at none.sqlite"),
        (["ship", COPIES, "--journal", "postgresql://u@h/d"], "is a database"),
        (["forget", "--journal", COPIES, "--paper-id", "x"], "holds copies|is not there"),
        (["status", "--journal", COPIES], "is not there"),
    ],
)
def test_what_cannot_be_copied_or_read_is_one_line(
    bucket: BucketServer, words: list[str], says: str
) -> None:
    done = CliRunner().invoke(app, ["journal", *words])

    assert done.exit_code in (1, 2)
    assert len(done.stderr.splitlines()) == 1
    assert re.search(says, done.stderr), done.stderr


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"journal": COPIES}, "--journal-copies"),
        ({"journal_copies": "/tmp/copies"}, "a folder of a bucket"),
        ({"journal": "postgresql://u@h/d", "journal_copies": COPIES}, "is the database"),
    ],
)
def test_a_place_that_cannot_take_a_journal_is_refused_at_the_start(
    bucket: BucketServer, given: dict[str, str], says: str
) -> None:
    with pytest.raises(InvalidConfig, match=says):
        check_journal(make_settings(**given))
