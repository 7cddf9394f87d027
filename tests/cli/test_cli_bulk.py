"""``classmark classify --workers``: real workers, the same output, and what a person sees."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from classmark.cli.app import app
from classmark.cli.progress import Pace, progress_bar
from classmark.dataset import SampleConfig, sample_csv

if os.name != "nt":
    from processes import start


@pytest.fixture(autouse=True)
def no_home(models_home: Path) -> Path:
    """Let the model in the package answer."""
    return models_home


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    """Return a dump of three papers with a bad record."""
    path = tmp_path / "dump.jsonl"
    records = [{"id": f"=x{i}", "title": "Graphs", "abstract": "We colour graphs."} for i in "123"]
    lines = [json.dumps(record) for record in records]
    path.write_text("\n".join([lines[0], "{", *lines[1:]]) + "\n")
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["classify", *map(str, arguments)])


@pytest.mark.slow  # reason: processes of their own that load the model
@pytest.mark.parametrize(
    ("layout", "told_bad", "options"),
    [("jsonl", False, []), ("csv", True, []), ("csv", True, ["--csv", "--raw-cells"])],
)
def test_workers_write_what_one_process_does(
    dump: Path, tmp_path: Path, layout: str, told_bad: bool, options: list[str]
) -> None:
    one, two = tmp_path / f"one.{layout}", tmp_path / f"two.{layout}"
    first = run(dump, *(options or [f"--{layout}"]), "--output", one, "--top", "2")
    second = run(dump, *options, "--workers", "2", "--output", two, "--top", "2")
    assert (b"\n'=x2," in one.read_bytes()) is (layout == "csv" and not options)
    assert one.read_bytes() == two.read_bytes()
    assert first.exit_code == second.exit_code == 1
    error, closing, count = (["", *second.stderr.splitlines()])[-3:]
    assert error.startswith(f"error: {dump}: line 2: not JSON") is told_bad
    assert first.stderr.splitlines() == [line for line in (error, count) if line]
    assert count == "1 of 4 records could not be read."
    assert closing.startswith("4 papers in ")
    assert closing.endswith(" papers/s, 2 workers")


@pytest.mark.slow  # reason: processes of their own that load the model
def test_parquet_needs_no_option_but_its_name(dump: Path, tmp_path: Path) -> None:
    result = run(dump, "--output", tmp_path / "out.parquet")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[0].startswith(f"error: {dump}: line 2: not JSON")
    assert result.stderr.splitlines()[1].endswith(" papers/s, 1 worker")
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["id"] for row in rows] == ["=x1", "2", "=x2", "=x3"]
    assert [row["error"] is None for row in rows] == [True, False, True, True]


@pytest.mark.slow  # reason: processes of their own that load the model
def test_strict_is_the_line_of_one_process(dump: Path, tmp_path: Path) -> None:
    one = run(dump, "--strict", "--csv", "--output", tmp_path / "one.csv")
    two = run(dump, "--strict", "--workers", "1", "--output", tmp_path / "two.csv")
    assert two.exit_code == one.exit_code == 1
    assert two.stderr.splitlines()[-1] == one.stderr.splitlines()[-1]
    assert not (tmp_path / "two.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "dump.jsonl --workers 2",
            "ray need --output FILE that ends in .parquet",
        ),
        (
            "dump.jsonl --workers 2 --output o.csv --json",
            "--json is not the format of --output o.c",
        ),
        ("dump.jsonl --workers 2 --output o.json", "JSON is one document, which is not written in"),
        ("dump.jsonl --workers 2 --output o", "o does not end in .parquet, .jsonl or .csv"),
        ("dump.jsonl --workers 2 --output o.txt", "o.txt: .txt cannot be written. Use .csv, .json"),
        ("dump.jsonl --output o.parquet --csv", "--csv is not the format of --output o.parquet"),
        ("dump.jsonl --workers 0 --output o.csv", "--workers must be at least 1, got 0"),
        ("dump.jsonl --workers 2 --output o.parquet --explain", "--explain does not work with P"),
        ("graphs --workers 2 --output o.csv", "are for files, not for the text 'graphs'"),
        ("- --output o.parquet", "are for files, not for standard input"),
        (f"{'graph' * 30} --output o.parquet", "…. Write it into a file first."),
    ],
)
def test_what_cannot_be_done_in_bulk_is_a_usage_error(
    dump: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, message: str
) -> None:
    monkeypatch.chdir(dump.parent)
    result = run(*arguments.split())
    assert result.exit_code == 2
    assert message in result.stderr
    assert list(dump.parent.iterdir()) == [dump]


@pytest.mark.slow  # reason: processes of their own that load the model
def test_a_chosen_layout_needs_no_ending(dump: Path, tmp_path: Path) -> None:
    run(dump, "--workers", "1", "--output", tmp_path / "lines", "--jsonl")
    assert json.loads((tmp_path / "lines").read_text().splitlines()[0])["id"] == "=x1"
    run(dump, "--workers", "1", "--output", tmp_path / "table", "--csv")
    assert (tmp_path / "table").read_text("utf-8").startswith("\ufeffid,title,primary,")
    run(dump, "--workers", "1", "--output", tmp_path / "table", "--csv", "--raw-cells")
    assert (tmp_path / "table").read_text("utf-8").startswith("id,title,primary,")


@pytest.mark.slow  # reason: processes of their own that load the model
@pytest.mark.skipif(os.name == "nt", reason="there is no terminal to open, no SIGINT to send")
def test_control_c_keeps_what_is_done_and_the_same_command_goes_on(tmp_path: Path) -> None:
    sample_csv(tmp_path / "papers.csv", SampleConfig(papers=2000))
    words = ("classify", *["papers.csv"] * 300, "--workers", "2", "--output", "out.parquet")
    with start(*words, cwd=tmp_path) as (child, terminal):
        terminal.read_until(" left")
        child.send_signal(signal.SIGINT)
        terminal.read_rest()
        assert child.wait() == 130
    kept = "kept in out.parquet.parts: run the same command to resume."
    assert [line for line in terminal.lines if line.endswith(kept)]
    assert terminal.lines[-1] == "interrupted: nothing is left half-written."
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.parquet.parts", "papers.csv"]
    with start(*words, cwd=tmp_path) as (_, terminal):
        terminal.read_until("resuming: ")
        terminal.read_until("% of the input.")


def test_the_time_left_follows_from_the_share_that_is_done() -> None:
    pace = Pace(now_s=100.0)
    assert pace.words("papers") == "0 papers"
    pace.advance(1_500, 0.25, now_s=110.0)
    assert pace.words("papers") == "1,500 papers  150 papers/s  0:00:30 left"
    pace.advance(1_500, 0.5, now_s=3_700.0)
    assert pace.words("papers") == "3,000 papers  1 papers/s  1:00:00 left"


def test_what_an_earlier_run_had_done_makes_no_pace() -> None:
    pace = Pace(now_s=0.0, n_before=1_000, share=0.5)
    pace.advance(100, 0.6, now_s=10.0)
    assert pace.words("papers") == "1,100 papers  10 papers/s  0:00:40 left"


def test_no_bar_is_drawn_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("classifying") as progress:
        progress.step("classifying", done=10, share=0.5)
        progress.advance(10, share=1.0)
        progress.note("all of it")
    assert capsys.readouterr() == ("", "")
