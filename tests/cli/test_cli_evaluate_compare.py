from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import classmark.pipeline
from classmark.cli.app import app
from classmark.records import Progress, ScoreTable
from classmark.wire import ModelRef

NO_DRAWS = ("--bootstrap", "0")


def table_of(answers: list[int], name: str = "fast") -> ScoreTable:
    """Four papers of a model that answers with these columns; 0, 1, 2, 0 is right."""
    primary = np.array([0, 1, 2, 0], dtype=np.int16)
    return ScoreTable(
        labels=("cs.LG", "hep-th", "math.CO"),
        ids=("a", "b", "c", "d"),
        scores=np.eye(3, dtype=np.float32)[answers],
        primary=primary,
        listed=primary[:, None] == np.arange(3),
        listed_count=np.ones(4, dtype=np.int16),
        years=np.full(4, 2019, dtype=np.int16),
        periods=("2018-19",) * 4,
        known_share=np.ones(4, dtype=np.float32),
        model=ModelRef(name, "1.0", "d" * 64),
        split="test",
    )


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Path, Path]:
    files = tmp_path / "a.npz", tmp_path / "b.npz"
    files[0].write_bytes(table_of([0, 1, 1, 1]).to_bytes())
    files[1].write_bytes(table_of([0, 1, 2, 1], "new").to_bytes())
    return files


def run(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def test_compare_prints_the_difference_of_two_score_tables(stored: tuple[Path, Path]) -> None:
    code, out, _ = run("compare", *stored, *NO_DRAWS)
    assert code == 0
    assert "A        fast 1.0" in out
    assert "B        new 1.0" in out
    assert "+0.250" in out


def test_compare_json_names_the_command_and_nothing_else_is_printed(
    stored: tuple[Path, Path],
) -> None:
    code, out, _ = run("compare", *stored, "--json", "--common", "--bootstrap", "5", "--seed", "3")
    value = json.loads(out)
    assert code == 0
    assert value["metrics"]["top_1"]["difference"] == 0.25
    words = f"classmark evaluate compare {stored[0]} {stored[1]} --common --bootstrap 5 --seed 3"
    assert value["command"] == words


def test_compare_writes_json_and_page_as_files(stored: tuple[Path, Path], tmp_path: Path) -> None:
    output, page = tmp_path / "c.json", tmp_path / "c.html"
    code, out, err = run("compare", *stored, "--output", output, "--html", page, *NO_DRAWS)
    assert code == 0
    assert "top-1 accuracy" in out
    assert "report written to" in err
    assert json.loads(output.read_text("utf-8"))["agreement"]["only_b"] == 1
    assert page.read_text("utf-8").startswith("<!doctype html>")


def test_compare_scores_a_dataset_with_both_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, Path, str]] = []

    def score_dataset(
        model: str, dataset: Path, split: str, progress: Progress, *, authors: bool
    ) -> ScoreTable:
        asked.append((model, dataset, split))
        return table_of([0, 1, 2, 0], model)

    monkeypatch.setattr(classmark.pipeline, "score_dataset", score_dataset, raising=False)
    code, out, _ = run("compare", "old", "new", "--dataset", tmp_path, "--json", *NO_DRAWS)
    assert code == 0
    assert asked == [("old", tmp_path, "test"), ("new", tmp_path, "test")]
    command = json.loads(out)["command"]
    assert command.startswith(
        f"classmark evaluate compare old new --dataset {tmp_path} --split test"
    )


def test_compare_of_other_papers_is_one_line_that_names_common(
    stored: tuple[Path, Path],
) -> None:
    stored[1].write_bytes(replace(table_of([0, 1, 2, 0]), ids=("a", "b", "c", "e")).to_bytes())
    code, out, err = run("compare", *stored)
    assert (code, out) == (1, "")
    assert "2 of them in one only (first: 'd')" in err
    assert len(err.splitlines()) == 1
    code, out, _ = run("compare", *stored, "--common", *NO_DRAWS)
    assert code == 0
    assert "not compared: 1 of A, 1 of B" in out


def test_a_model_without_a_dataset_is_refused(stored: tuple[Path, Path]) -> None:
    code, out, err = run("compare", stored[0], "fast")
    assert (code, out) == (2, "")
    assert "fast is a model, not a score table. Give --dataset DIR" in " ".join(err.split())


def test_a_split_without_a_dataset_is_refused(stored: tuple[Path, Path]) -> None:
    code, _, err = run("compare", *stored, "--split", "valid")
    assert code == 2
    assert "give --dataset DIR with it" in err


@pytest.mark.parametrize("options", [("--bootstrap", "0"), ("--json",), ("--write-scores", "s")])
def test_options_before_compare_are_refused(
    stored: tuple[Path, Path], options: tuple[str, ...]
) -> None:
    code, _, err = run(*options, "compare", *stored)
    assert code == 2
    assert f"{options[0]} comes before compare" in err


def test_a_page_that_cannot_be_written_is_refused_before_tables_are_read(tmp_path: Path) -> None:
    code, _, err = run("compare", "no.npz", "no.npz", "--html", tmp_path)
    assert code == 1
    assert str(tmp_path) in err


def test_a_label_cannot_steer_the_terminal(stored: tuple[Path, Path]) -> None:
    for file in stored:
        evil = replace(table_of([0, 1, 2, 0]), model=ModelRef("\x1b[31mred", "1", ""))
        file.write_bytes(evil.to_bytes())
    assert "\x1b" not in run("compare", *stored, *NO_DRAWS)[1]
