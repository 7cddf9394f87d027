"""``classmark dataset extend``: files and journals on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from classmark.cli.dataset import command as cli
from classmark.dataset import DatasetConfig, build_dataset, load_manifest
from classmark.errors import InvalidJournal, UsageError
from classmark.journal import JournalConfig
from classmark.journal.writer import FileWriter
from classmark.records import FeedbackEvent, PredictionEvent, new_prediction_id, utc_text
from classmark.wire import ModelRef
from dataset_records import WriteSource, record, records, write_source

__all__ = ["write_source"]


def run(*arguments: str | Path) -> Result:
    """Run ``classmark dataset extend`` and let its errors through, as the top level does."""
    words = ["extend", *map(str, arguments)]
    return CliRunner().invoke(cli.app, words, catch_exceptions=False)


@pytest.fixture
def parent(write_source: WriteSource, tmp_path: Path) -> Path:
    source = write_source(records({"cs.LG": 30, "math.CO": 20}), "before.jsonl")
    build_dataset([source], tmp_path / "before", DatasetConfig(min_papers=2))
    return tmp_path / "before"


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Return a journal with one paper on which two keys agree."""
    event = PredictionEvent(
        prediction_id=new_prediction_id(),
        at_utc=utc_text(),
        model=ModelRef("fast", "1.0", "d" * 64),
        text_fingerprint="0123456789abcdef",
        primary="cs.LG",
        reason="accepted",
        ranked=(("cs.LG", 0.75),),
        **{"set": (), "cross_lists": (), "known_share": 0.5, "n_chars": 90, "n_words": 14},
        latex_share=0.0,
        latency_ms=1.5,
        text="Knots\nWe tie every knot of seven crossings.",
    )
    said = [
        FeedbackEvent(
            prediction_id=event.prediction_id, category="math.CO", at_utc=utc_text(), client=key
        )
        for key in ("a1", "b2")
    ]
    writer = FileWriter(JournalConfig(path=tmp_path / "journal.sqlite", keep_text=True))
    writer.write([event, *said])
    writer.close()
    return tmp_path / "journal.sqlite"


def test_harvested_papers_and_feedback_join_and_the_last_line_is_the_folder(
    parent: Path, journal: Path, write_source: WriteSource, tmp_path: Path
) -> None:
    rows = [record(500 + n, published_date=f"2020-01-{n + 1:02d}") for n in range(10)]
    source, after = write_source(rows, "new.jsonl"), tmp_path / "after"
    done = run(parent, source, "--output", after, "--journal", journal)
    lines = done.stdout.splitlines()
    assert lines[-1] == str(after)
    assert "new by feedback" in done.stdout
    assert "30 -> 40" in done.stdout
    manifest = load_manifest(after)
    assert (
        manifest.counts["train"]["math.CO"] == load_manifest(parent).counts["train"]["math.CO"] + 1
    )
    again = run(
        *(parent, source, "--output", after, "--journal", journal),
        *("--trust", "a1=0", "--overwrite", "--json"),
    )
    facts: dict[str, Any] = json.loads(again.stdout)
    assert facts["dropped"] == {"feedback_few_agree": 1}
    assert facts["extension"]["policy"]["trust"] == {"a1": 0.0}
    assert facts["lineage"] == [load_manifest(parent).digest]


def test_dropped_rows_are_a_share_of_the_new_ones(
    parent: Path, write_source: WriteSource, tmp_path: Path
) -> None:
    rows = [record(500 + n, "no.such" if n > 7 else "cs.LG") for n in range(10)]
    done = run(parent, write_source(rows, "new.jsonl"), "--output", tmp_path / "after")
    [warning] = done.stderr.splitlines()
    assert "warning: 2 of 10 rows were dropped (unknown_category), e.g. new.jsonl:9" in warning


def test_what_cannot_be_understood_is_named(parent: Path, tmp_path: Path) -> None:
    output = ("--output", tmp_path / "after")
    with pytest.raises(UsageError, match="'a1=much' is not KEY=N"):
        run(parent, *output, "--trust", "a1=much")
    with pytest.raises(InvalidJournal, match="there is no journal at"):
        run(parent, *output, "--journal", tmp_path / "none.sqlite")
    assert not (tmp_path / "after").exists()
