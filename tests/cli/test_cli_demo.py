"""``classmark demo``: the whole path, and nothing deleted that it did not make."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from classmark import Classifier
from classmark.cli.app import app
from classmark.registry import Registry

LEAST = "2000"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["demo", *map(str, arguments)])


@pytest.mark.slow  # reason: two datasets are built, two models fitted
def test_it_runs_every_command_that_it_prints_and_may_be_run_again(tmp_path: Path) -> None:
    output = tmp_path / "demo"
    for _ in range(2):
        result = run("--short", "--output", output, "--papers", LEAST)
        assert result.exit_code == 0, result.stderr
    commands = [line.split()[2:4] for line in result.stdout.splitlines() if line.startswith("$ ")]
    assert commands == [
        ["dataset", "sample"],
        ["dataset", "build"],
        ["train", "model=linear"],
        ["export", str(next((output / "runs").iterdir()))],
        ["evaluate", "--model"],
        ["classify", "--model"],
        ["serve", "--model"],
        ["dataset", "sample"],
        ["monitor", "run"],
        ["dataset", "sample"],
        ["monitor", "run"],
    ]
    _, ordinary, drifting = result.stdout.split("$ classmark monitor run ")
    assert "nothing is beyond chance" in ordinary
    assert "nothing is beyond chance" not in drifting
    assert re.search(r"^(report|retrain|page): ", drifting, re.MULTILINE)
    assert "carried by" in drifting
    assert "Drift of demo@1.0" in (output / "drift.html").read_text(encoding="utf-8")
    assert result.stdout.endswith(f"The demo is complete. Everything it made is in {output}.\n")
    assert json.loads((output / "report.json").read_text(encoding="utf-8"))["generated"] is True
    assert Classifier(output / "models" / "demo-1.0").model.name == "demo"


@pytest.mark.slow  # reason: two models are fitted and served
@pytest.mark.timeout(1200)
def test_the_story_ends_with_a_new_model_and_a_page(tmp_path: Path) -> None:
    output = tmp_path / "demo"
    result = run("--output", output, "--papers", "3000")
    assert result.exit_code == 0, result.stderr
    printed = [line for line in result.stdout.splitlines() if line.startswith("$ ")]
    verbs = [tuple(line.split()[2:4]) for line in printed if not line.startswith("$ cat")]
    assert verbs == [
        ("dataset", "sample"),
        ("pipeline", "run"),
        ("registry", "promote"),
        ("keys", "create"),
        ("serve", "--registry"),
        ("dataset", "sample"),
        ("monitor", "run"),
        ("dataset", "sample"),
        ("monitor", "run"),
        ("retrain", "run"),
        ("retrain", "status"),
    ]
    _, ordinary, drifting = result.stdout.split("$ classmark monitor run ")
    assert "nothing is beyond chance" in ordinary
    assert re.search(r"^(retrain|page): ", drifting, re.MULTILINE)
    assert "a new model is wanted" in drifting
    assert re.search(r"^order \S+: promoted  all rules hold$", drifting, re.MULTILINE)
    registry = Registry.open(output / "registry")
    assert registry.pointer().bundles[registry.find("champion")].spec == "demo@1.1"
    page = (output / "story.html").read_text(encoding="utf-8")
    assert "Invented sample papers" in page
    assert page.count("<svg") == 2
    assert f"The story as a page: {output.resolve() / 'story.html'}" in result.stdout
    assert "Start it again with: classmark serve --registry" in result.stdout


def test_a_folder_of_others_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    result = run("--output", tmp_path, "--papers", LEAST)
    assert result.exit_code == 1
    assert "was not made by the demo. Choose another --output." in " ".join(result.stderr.split())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("mine")
    result = run("--output", tmp_path / "demo", "--papers", LEAST)
    assert result.exit_code == 1
    assert "Traceback" not in result.stderr
    assert (tmp_path / "demo").read_text() == "mine"


@pytest.mark.parametrize("papers", ["1999", "0", "-5"])
def test_too_few_papers_are_refused_before_anything_is_made(tmp_path: Path, papers: str) -> None:
    result = run("--output", tmp_path / "demo", "--papers", papers)
    assert result.exit_code == 2
    assert f"--papers {papers} is too few to learn from" in " ".join(result.stderr.split())
    assert not (tmp_path / "demo").exists()
