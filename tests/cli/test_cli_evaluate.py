from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import classmark.pipeline
from classmark.cli.app import app
from classmark.records import EvaluationReport, PaperFacts, Progress, ScoreTable
from classmark.wire import ModelRef

LABELS = ("cs.LG", "hep-th", "math.CO")
NO_DRAWS = ("--bootstrap", "0")


@pytest.fixture
def table() -> ScoreTable:
    """Four papers, three of them right."""
    primary = np.array([0, 1, 2, 0], dtype=np.int16)
    return ScoreTable(
        labels=LABELS,
        ids=("a", "b", "c", "d"),
        scores=np.eye(3, dtype=np.float32)[[0, 1, 2, 1]],
        primary=primary,
        listed=primary[:, None] == np.arange(3),
        listed_count=np.ones(4, dtype=np.int16),
        years=np.full(4, 2019, dtype=np.int16),
        periods=("2018-19",) * 4,
        known_share=np.ones(4, dtype=np.float32),
        model=ModelRef("fast", "1.0", "d" * 64),
        split="test",
    )


@pytest.fixture
def stored(table: ScoreTable, tmp_path: Path) -> Path:
    file = tmp_path / "scores.npz"
    file.write_bytes(table.to_bytes())
    return file


@pytest.fixture
def asked(table: ScoreTable, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Path, str]]:
    """Let the pipeline answer with the table; collects what it was asked to score."""
    calls: list[tuple[str, Path, str]] = []

    def score_dataset(
        model: str, dataset: Path, split: str, progress: Progress, *, authors: bool
    ) -> ScoreTable:
        calls.append((model, dataset, split))
        progress.advance(4)
        return table

    monkeypatch.setattr(classmark.pipeline, "score_dataset", score_dataset, raising=False)
    return calls


def test_what_evaluates_needs_no_library_that_fits() -> None:
    code = (
        "import sys\n"
        "for name in ('scipy', 'hydra', 'sklearn', 'torch'): sys.modules[name] = None\n"
        "from classmark.pipeline import score_dataset"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def run(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def test_evaluate_scores_prints_an_aligned_table(stored: Path) -> None:
    code, out, _ = run("--scores", stored, *NO_DRAWS)
    assert code == 0
    assert "top-1 accuracy" in out
    assert " 0.750" in out
    assert "2018-19" in out


def test_evaluate_json_prints_the_report_and_nothing_else(stored: Path) -> None:
    code, out, _ = run("--scores", stored, "--json", "--bootstrap", "20", "--seed", "3")
    report = EvaluationReport.from_dict(json.loads(out))
    assert code == 0
    assert report.metrics["top_1"].value == 0.75
    assert report.metrics["top_1"].low is not None
    assert report.command == f"classmark evaluate --scores {stored} --bootstrap 20 --seed 3"


def test_evaluate_draws_a_thousand_resamples_unless_told_otherwise(stored: Path) -> None:
    _, out, _ = run("--scores", stored, "--json")
    assert json.loads(out)["config"]["draws"] == 1000


def test_evaluate_output_writes_the_report_and_still_prints_the_table(
    stored: Path, tmp_path: Path
) -> None:
    output = tmp_path / "reports" / "test.json"
    code, out, err = run("--scores", stored, "--output", output, *NO_DRAWS)
    assert code == 0
    assert "top-1 accuracy" in out
    assert "report written to" in err
    assert EvaluationReport.from_dict(json.loads(output.read_text())).n == 4


def test_evaluate_of_invented_papers_says_so_first(table: ScoreTable, tmp_path: Path) -> None:
    file = tmp_path / "scores.npz"
    file.write_bytes(replace(table, generated=True).to_bytes())
    _, out, _ = run("--scores", file, *NO_DRAWS)
    assert out.startswith("invented sample papers: these numbers say nothing about real ones\n")


def test_a_label_cannot_steer_the_terminal(table: ScoreTable, tmp_path: Path) -> None:
    many = table.select(np.repeat(np.arange(4), 30))
    file = tmp_path / "scores.npz"
    file.write_bytes(replace(many, labels=("\x1b[2J", "b", "c")).to_bytes())
    _, out, _ = run("--scores", file, *NO_DRAWS)
    assert "\x1b" not in out


def test_evaluate_model_scores_the_test_split_of_a_dataset(
    asked: list[tuple[str, Path, str]], tmp_path: Path
) -> None:
    code, out, _ = run("--model", "fast", "--dataset", tmp_path, "--json", *NO_DRAWS)
    assert code == 0
    assert asked == [("fast", tmp_path, "test")]
    command = f"classmark evaluate --model fast --dataset {tmp_path} --split test"
    assert json.loads(out)["command"] == f"{command} --bootstrap 0 --seed 7"


def test_evaluate_write_scores_keeps_a_table_that_gives_the_same_report(
    asked: list[tuple[str, Path, str]], tmp_path: Path
) -> None:
    kept = tmp_path / "kept" / "scores.npz"
    options = ("--model", "fast", "--dataset", tmp_path, "--split", "valid")
    code, first, _ = run(*options, "--write-scores", kept, "--bootstrap", "20")
    _, again, _ = run("--scores", kept, "--bootstrap", "20")
    assert code == 0
    assert asked[0][2] == "valid"
    assert first == again


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        ((), "got neither"),
        (("--model", "fast"), "got --model"),
        (("--dataset", "d"), "got --dataset"),
        (("--scores", "s", "--model", "fast", "--dataset", "d"), "--scores, --model, --dataset"),
        (("--scores", "s", "--split", "test"), "--scores, --split"),
        (("--scores", "s", "--write-scores", "t"), "--scores, --write-scores"),
    ],
)
def test_evaluate_wants_exactly_one_of_its_two_forms(options: tuple[str, ...], seen: str) -> None:
    code, out, err = run(*options)
    assert (code, out) == (2, "")
    assert "either --scores FILE alone, or --model M with --dataset DIR" in err
    assert seen in err


@pytest.mark.parametrize("content", [None, b"", b"not scores", b"PK\x03\x04 cut off"])
def test_evaluate_of_a_missing_or_damaged_table_is_one_line(
    tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "scores.npz"
    if content is not None:
        file.write_bytes(content)
    code, out, err = run("--scores", file)
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert "scores.npz" in err
    assert len(err.splitlines()) == 1


def test_a_failed_evaluation_leaves_an_older_report_alone(
    table: ScoreTable, tmp_path: Path
) -> None:
    file, output = tmp_path / "scores.npz", tmp_path / "report.json"
    file.write_bytes(replace(table, primary=np.full(4, -1, dtype=np.int16)).to_bytes())
    output.write_text("old")
    code, _, err = run("--scores", file, "--output", output)
    assert code == 1
    assert "none of the 4 papers has a primary" in err
    assert output.read_text() == "old"


def test_evaluate_html_writes_a_page_and_still_prints_the_table(
    stored: Path, tmp_path: Path
) -> None:
    page = tmp_path / "pages" / "report.html"
    code, out, err = run("--scores", stored, "--html", page, "--bootstrap", "20")
    assert code == 0
    assert "top-1 accuracy" in out
    assert f"page written to {page}" in err
    html = page.read_text("utf-8")
    assert html.startswith("<!doctype html>")
    assert f"classmark evaluate --scores {stored} --bootstrap 20 --seed 7" in html


def test_evaluate_html_shows_titles_and_texts_of_a_dataset(
    asked: list[tuple[str, Path, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_facts(dataset: Path, split: str) -> PaperFacts:
        assert (dataset, split) == (tmp_path, "valid")
        return PaperFacts(
            titles=("A", "B", "C", "The wrong one"),
            text_chars=np.array([9, 8, 7, 6], dtype=np.int32),
            formula_share=np.zeros(4, dtype=np.float32),
        )

    monkeypatch.setattr(classmark.pipeline, "read_facts", read_facts, raising=False)
    page = tmp_path / "report.html"
    options = ("--model", "fast", "--dataset", tmp_path, "--split", "valid", "--html", page)
    code, _, _ = run(*options, *NO_DRAWS)
    assert code == 0
    assert "The wrong one" in page.read_text("utf-8")
    assert "Length of text" in page.read_text("utf-8")


def test_a_page_that_cannot_be_written_is_refused_before_the_work(
    asked: list[tuple[str, Path, str]], tmp_path: Path
) -> None:
    code, _, err = run("--model", "fast", "--dataset", tmp_path, "--html", tmp_path)
    assert code == 1
    assert str(tmp_path) in err
    assert asked == []


def test_a_failed_evaluation_leaves_an_older_page_alone(table: ScoreTable, tmp_path: Path) -> None:
    file, page = tmp_path / "scores.npz", tmp_path / "report.html"
    file.write_bytes(replace(table, primary=np.full(4, -1, dtype=np.int16)).to_bytes())
    page.write_text("old")
    assert run("--scores", file, "--html", page)[0] == 1
    assert page.read_text() == "old"
