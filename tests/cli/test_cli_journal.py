"""``classmark journal``: where it is, what is in it, out of it, and gone from it."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from classmark.cli.app import app
from classmark.journal import JournalConfig, default_journal_path
from classmark.journal.writer import FileWriter
from classmark.records import FeedbackEvent, PredictionEvent, new_prediction_id, utc_text
from classmark.wire import ModelRef

FAST, MINE = ModelRef("fast", "1.0", "d" * 64), ModelRef("mine", "2.0", "e" * 64)
OLD = "2020-01-01T00:00:00.000Z"


def event(number: int, **changes: Any) -> PredictionEvent:
    values: dict[str, Any] = {
        "prediction_id": new_prediction_id(at_ms=number),
        "at_utc": utc_text(),
        "model": FAST,
        "paper_id": f"2401.{number:05d}",
        "text_fingerprint": "0123456789abcdef",
        "primary": "cs.LG",
        "reason": "accepted",
        "ranked": (("cs.LG", 0.75), ("stat.ML", 0.125)),
        "set": ("cs.LG", "stat.ML"),
        "cross_lists": (),
        "known_share": 0.5,
        "n_chars": 900,
        "n_words": 140,
        "latex_share": 0.25,
        "latency_ms": 1.5,
        "text": f"A title\nand abstract {number}",
    }
    return PredictionEvent(**{**values, **changes})


@pytest.fixture
def events(models_home: Path) -> list[PredictionEvent]:
    """Write three predictions and feedback into the default journal, and return the former."""
    assert models_home.parent.name == "home"
    written = [event(1, at_utc=OLD), event(2, used_authors=True), event(3, model=MINE)]
    said = FeedbackEvent(
        prediction_id=written[1].prediction_id,
        category="math.CO",
        at_utc=utc_text(),
        comment='it says "graph", not\nlearning',
    )
    writer = FileWriter(JournalConfig(keep_text=True))
    writer.write([*written, said])
    writer.close()
    return written


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["journal", *arguments])


def exported(*arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run("export", *arguments).stdout.splitlines()]


def test_path_prints_the_live_file(models_home: Path, events: list[PredictionEvent]) -> None:
    assert run("path").stdout == f"{default_journal_path()}\n"
    assert json.loads(run("path", "--json").stdout)["files"] == [str(default_journal_path())]


def test_status_counts(events: list[PredictionEvent]) -> None:
    lines = dict(line.split("  ", 1) for line in run("status").stdout.splitlines())
    lines = {name: value.strip() for name, value in lines.items()}
    assert lines["predictions"] == "3, 3 with their text"
    assert lines["feedback"] == "1"
    assert lines["model fast@1.0"] == "2"
    assert json.loads(run("status", "--json").stdout)["predictions"] == 3


def test_status_of_no_journal_is_empty(models_home: Path) -> None:
    result = run("status")
    assert result.exit_code == 0
    assert "predictions  0" in result.stdout
    assert not default_journal_path().exists()


def test_export_writes_json_lines_with_all_feedback(events: list[PredictionEvent]) -> None:
    lines = exported()
    assert [PredictionEvent.from_dict(line) for line in lines] == events
    assert [line["used_authors"] for line in lines] == [False, True, False]
    assert [len(line["feedback"]) for line in lines] == [0, 1, 0]
    assert run("export").stderr == "exported 3 predictions to standard output.\n"


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        (["--since", "2021-01-01"], [1, 2]),
        (["--since", "1h"], [1, 2]),
        (["--until", "2021-01-01T00:00"], [0]),
        (["--model", "mine"], [2]),
        (["--model", "fast@1.0", "--since", "30d"], [1]),
        (["--model", "fast@9"], []),
    ],
)
def test_export_filters(
    events: list[PredictionEvent], options: list[str], numbers: list[int]
) -> None:
    found = [line["prediction_id"] for line in exported(*options)]
    assert found == [events[number].prediction_id for number in numbers]


def test_export_writes_csv_that_can_be_read_back(
    events: list[PredictionEvent], tmp_path: Path
) -> None:
    output = tmp_path / "predictions.csv"
    assert run("export", "--output", str(output)).exit_code == 0
    rows = list(csv.DictReader(io.StringIO(output.read_text("utf-8-sig"), newline="")))
    assert [row["prediction_id"] for row in rows] == [e.prediction_id for e in events]
    assert [row["used_authors"] for row in rows] == ["false", "true", "false"]
    assert rows[1]["feedback_category"] == "math.CO"
    assert rows[1]["feedback_comment"] == 'it says "graph", not\nlearning'
    assert json.loads(rows[0]["set"]) == ["cs.LG", "stat.ML"]
    assert (rows[0]["probability"], rows[0]["model_name"]) == ("0.75", "fast")
    shown = run("export", "--format", "csv", "--output", "-").stdout
    assert output.read_text("utf-8") == f"\ufeff{shown}"
    assert run("export", "--output", str(output), "--raw-cells").exit_code == 0
    assert output.read_text("utf-8") == shown


def test_exported_csv_runs_in_no_spreadsheet(models_home: Path) -> None:
    assert models_home.parent.name == "home"
    prediction = event(1, paper_id="=1+1", author_category="@x", latency_ms=-1.5)
    comment = "-2+3 is what it should be"
    said = FeedbackEvent(
        prediction_id=prediction.prediction_id, at_utc=utc_text(), category="cs.LG", comment=comment
    )
    writer = FileWriter(JournalConfig())
    writer.write([prediction, said])
    writer.close()
    columns = ("paper_id", "author_category", "feedback_comment", "latency_ms")
    for options, wanted in (
        ((), ["'=1+1", "'@x", f"'{comment}", "-1.5"]),
        (("--raw-cells",), ["=1+1", "@x", comment, "-1.5"]),
    ):
        text = run("export", "--format", "csv", *options).stdout
        (row,) = csv.DictReader(io.StringIO(text, newline=""))
        assert [row[name] for name in columns] == wanted


def test_export_writes_parquet_with_types(events: list[PredictionEvent], tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    output = tmp_path / "predictions.parquet"
    assert run("export", "--output", str(output)).exit_code == 0
    rows = parquet.read_table(output).to_pylist()
    assert [row["prediction_id"] for row in rows] == [e.prediction_id for e in events]
    assert rows[0]["ranked"][0] == {"code": "cs.LG", "probability": 0.75}
    assert (rows[0]["set"], rows[0]["n_chars"]) == (["cs.LG", "stat.ML"], 900)
    assert [row["used_authors"] for row in rows] == [False, True, False]
    assert rows[1]["feedback_category"] == "math.CO"


def test_export_to_parquet_without_pyarrow_names_the_extra(
    events: list[PredictionEvent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = run("export", "--output", str(tmp_path / "p.parquet"))
    assert result.exit_code == 1
    assert "pip install 'classmark[data]'" in result.stderr
    assert not (tmp_path / "p.parquet").exists()


def test_wrong_options_are_named(events: list[PredictionEvent]) -> None:
    for arguments, message in (
        (["export", "--format", "xml"], "unknown format 'xml'. Choose one of jsonl, csv, parquet."),
        (["export", "--format", "parquet"], "Parquet needs a file. Name one with --output."),
        (
            ["export", "--output", "o.xlsx"],
            "o.xlsx: .xlsx cannot be written. Use .jsonl, ",
        ),
        (
            ["export", "--output", "o.json"],
            "o.json: .json cannot be written. Use .jsonl, ",
        ),
        (
            ["export", "--output", "o.csv", "--format", "jsonl"],
            "--format jsonl is not the format of --output o.csv, which ends in .csv.",
        ),
        (
            ["export", "--since", "soon"],
            "--since is 'soon', which is not a time. Give an age such as",
        ),
        (
            ["export", "--since", "2026-11-02", "--until", "2026-11-01"],
            "--since 2026-11-02T00:00:00.000Z is not before --until 2026-11-01T00:00:00.000Z, so "
            "nothing can be between them. Give the earlier time as --since,",
        ),
        (["export", "--raw-cells"], "--raw-cells is for CSV only. Use --format csv"),
        (["forget"], "nothing to forget. Give --id, --paper-id or --older-than."),
        (["forget", "--id", "x"], "'x' is not a prediction id."),
        (["forget", "--older-than", "90"], "--older-than is '90', which is not a time."),
    ):
        result = run(*arguments)
        assert result.exit_code == 2
        assert message in result.stderr


def test_without_a_journal_there_is_nothing_to_export_or_forget(models_home: Path) -> None:
    for arguments in (["export"], ["forget", "--paper-id", "x"]):
        result = run(*arguments)
        assert result.exit_code == 1
        assert f"there is no journal at {default_journal_path()}" in result.stderr


def test_a_damaged_journal_is_one_line(models_home: Path) -> None:
    default_journal_path().parent.mkdir(parents=True)
    default_journal_path().write_bytes(b"no database" * 1000)
    result = run("status")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "it is damaged or not an SQLite file" in result.stderr


def test_forget_says_first_what_it_would_do_and_then_does_it(events: list[PredictionEvent]) -> None:
    wanted = ["forget", "--older-than", "90d", "--paper-id", "2401.00002"]
    assert run(*wanted, "--dry-run").stdout == (
        "would forget 2 predictions and 1 feedback in 1 files.\n"
    )
    assert len(exported()) == 3
    assert run(*wanted).stdout == "forgot 2 predictions and 1 feedback in 1 files.\n"
    assert [line["prediction_id"] for line in exported()] == [events[2].prediction_id]
    text = default_journal_path().read_bytes()
    assert b"abstract 3" in text
    assert b"abstract 1" not in text
    assert b"abstract 2" not in text


def test_forget_by_id_as_json(events: list[PredictionEvent]) -> None:
    done = json.loads(run("forget", "--id", events[0].prediction_id, "--json").stdout)
    assert (done["predictions"], done["dry_run"]) == (1, False)
    assert done["files_changed"] == [str(default_journal_path())]
