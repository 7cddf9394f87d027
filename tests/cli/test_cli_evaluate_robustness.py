from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from classmark.cli.app import app
from classmark.dataset import SampleConfig, sample_dataset
from classmark.evaluation import read_gates
from classmark.records import RobustnessGates, RobustnessReport

pytestmark = pytest.mark.slow  # reason: fits models

FEW = ("--kinds", "typos,title-only,non-papers,later-years", "--bootstrap", "20")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "dataset"
    config = SampleConfig(papers=600, categories=24)
    sample_dataset(folder, config, periods=("2017-12-31",), command="a test")
    return folder


def run(dataset: Path, *arguments: str | Path) -> tuple[int, str, str]:
    words = ["evaluate", "robustness", "--model", "fast", "--dataset", dataset, *arguments]
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def gates(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the gates that the command writes for these papers."""
    file = tmp_path_factory.mktemp("gates") / "gates.json"
    code, _, err = run(dataset, *FEW, "--write-gates", file, "--margin", "0.02")
    assert code == 0
    assert f"gates written to {file}" in err
    value: dict[str, Any] = json.loads(file.read_text())
    return value


def test_robustness_prints_a_table_of_kinds_and_levels(dataset: Path) -> None:
    code, out, _ = run(dataset, *FEW)
    assert code == 0
    assert out.startswith("invented sample papers")
    for words in (
        "model    fast 2.0",
        "typos: share of words",
        "  20 %",
        "English prose",
        "until-",
    ):
        assert words in out


def test_robustness_json_prints_the_report_and_nothing_else(dataset: Path) -> None:
    code, out, _ = run(dataset, *FEW, "--json", "--papers", "30", "--seed", "3")
    report = RobustnessReport.from_dict(json.loads(out))
    assert code == 0
    assert report.n == 30
    assert report.command == (
        f"classmark evaluate robustness --model fast --dataset {dataset} --split test --papers 30 "
        "--kinds typos,title-only,non-papers,later-years --bootstrap 20 --seed 3"
    )


def test_robustness_measures_the_same_again_and_every_kind_unless_told_otherwise(
    dataset: Path,
) -> None:
    options = ("--json", "--papers", "25", "--bootstrap", "0")
    first, second = (json.loads(run(dataset, *options)[1]) for _ in range(2))
    assert first["kinds"] == second["kinds"]
    assert len(first["kinds"]) == 18
    assert first["command"].endswith("--papers 25 --bootstrap 0 --seed 7")


def test_another_seed_chooses_and_perturbs_anew(dataset: Path) -> None:
    options = ("--json", "--kinds", "typos", "--bootstrap", "0", "--papers", "25")
    reports = [json.loads(run(dataset, *options, "--seed", seed)[1]) for seed in ("1", "2")]
    assert reports[0]["clean"]["metrics"] != reports[1]["clean"]["metrics"]


def test_output_and_html_are_written_whole(dataset: Path, tmp_path: Path) -> None:
    output, page = tmp_path / "r" / "report.json", tmp_path / "p" / "page.html"
    code, _, err = run(dataset, *FEW, "--output", output, "--html", page)
    assert code == 0
    assert f"report written to {output}" in err
    assert f"page written to {page}" in err
    assert RobustnessReport.from_dict(json.loads(output.read_text())).generated
    assert page.read_text("utf-8").startswith("<!doctype html>")


def test_no_text_of_a_paper_is_in_report_or_page(dataset: Path, tmp_path: Path) -> None:
    output, page = tmp_path / "report.json", tmp_path / "page.html"
    run(dataset, *FEW, "--output", output, "--html", page)
    written = output.read_text("utf-8") + page.read_text("utf-8")
    papers = pl.read_parquet(dataset / "test.parquet")
    assert not [title for title in papers["title"] if title in written]
    assert not [text for text in papers["summary"] if text[:40] in written]


def test_gates_that_hold_are_said_to_hold(
    dataset: Path, gates: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "gates.json"
    file.write_text(json.dumps(gates))
    code, _, err = run(dataset, *FEW, "--gates", file)
    assert code == 0
    assert f"gates of {file} hold" in err
    file.write_text(json.dumps(gates), encoding="utf-8-sig")
    assert read_gates(file) == RobustnessGates.from_dict(gates)
    assert RobustnessGates.from_dict(gates).margin == 0.02


def test_failed_gates_are_exit_code_1_and_each_is_named_with_value_and_minimum(
    dataset: Path, gates: dict[str, Any], tmp_path: Path
) -> None:
    file, output = tmp_path / "gates.json", tmp_path / "report.json"
    changed = json.loads(json.dumps(gates))
    changed["minimum"]["typos"]["20 %"]["top_1"] = 1.0
    changed["minimum"]["non-papers"]["English prose"]["abstained"] = 1.0
    file.write_text(json.dumps(changed))
    code, out, err = run(dataset, *FEW, "--gates", file, "--output", output)
    report = json.loads(output.read_text())
    value = report["kinds"][0]["levels"][3]["metrics"]["top_1"]["value"]
    assert code == 1
    assert f"gate failed: typos, 20 %: top_1 is {value:.4f}, below 1.0000\n" in err
    assert "gate failed: non-papers, English prose: abstained is 0." in err
    assert f"error: 2 of 39 gates of {file} failed" in err
    assert "typos: share of words" in out


def test_gates_of_other_papers_are_noted(
    dataset: Path, gates: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "gates.json"
    file.write_text(json.dumps({**gates, "papers": 5000}))
    err = run(dataset, *FEW, "--gates", file)[2]
    assert f"were measured on other papers: papers {gates['papers']} not 5,000\n" in err


def test_kinds_that_a_gate_file_lacks_or_that_were_not_measured_are_errors(
    dataset: Path, gates: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "gates.json"
    file.write_text(json.dumps(gates))
    code, _, err = run(dataset, "--kinds", "case", "--gates", file, "--bootstrap", "0")
    assert code == 1
    assert "has no minimum for case, lower and 2 more (kinds: case)" in err
    code, _, err = run(dataset, "--kinds", "typos", "--gates", file, "--bootstrap", "0")
    assert code == 1
    assert "which was not measured. Leave out --kinds" in err


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "No such file"),
        ("{", "Expecting property name"),
        ("[]", "its format version is None"),
        ('{"format_version": 1}', "not of format 1"),
    ],
)
def test_a_damaged_gate_file_is_one_line_before_any_work(
    tmp_path: Path, content: str | None, fault: str
) -> None:
    file = tmp_path / "gates.json"
    if content is not None:
        file.write_text(content)
    code, out, err = run(tmp_path / "no-dataset", "--gates", file)
    assert (code, out) == (1, "")
    assert err.startswith(f"error: gate file {file} cannot be used: ")
    assert fault in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--kinds", "typos,smell"), "unknown kind 'smell'. Choose from: typos, ocr,"),
        (("--kinds", ""), "unknown kind ''"),
        (("--margin", "0.1"), "--margin belongs to --write-gates FILE"),
        (("--gates", "a.json", "--write-gates", "b.json"), "run the command for each"),
        (("--papers", "0"), "0 is not in the range x>=1"),
    ],
)
def test_wrong_usage_is_exit_code_2(tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    code, out, err = run(tmp_path, *options)
    assert (code, out) == (2, "")
    assert message in err.replace("\n", " ").replace("│", "")


def test_a_dataset_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    code, out, err = run(tmp_path / "nowhere")
    assert (code, out) == (1, "")
    assert "is not a dataset folder" in err


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    code, _, err = run(tmp_path / "no-dataset", "--write-gates", tmp_path)
    assert code == 1
    assert str(tmp_path) in err
    assert "no dataset folder" not in err


def test_options_of_robustness_stand_after_it(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["evaluate", "--json", "robustness", "--model", "fast"])
    assert result.exit_code == 2
    assert "classmark evaluate robustness" in result.stderr
