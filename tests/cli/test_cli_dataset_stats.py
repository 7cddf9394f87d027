from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from classmark.cli.app import app
from classmark.cli.dataset import needs as dataset_needs
from classmark.dataset import SampleConfig, sample_dataset


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("datasets")
    sample_dataset(folder / "old", SampleConfig(papers=200))
    sample_dataset(folder / "new", SampleConfig(papers=200, drift=1.0, seed=5))
    return folder


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["dataset", "stats", *map(str, arguments)])


def test_stats_prints_the_key_figures(folder: Path) -> None:
    result = run(folder / "new")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert result.exit_code == 0
    assert ["papers", "200"] in lines
    assert result.stdout.endswith("generated: the papers are invented\n")


def test_json_has_every_number_and_the_comparison(folder: Path) -> None:
    assert "against" not in json.loads(run(folder / "new", "--json").stdout)
    value = json.loads(run(folder / "new", "--against", folder / "old", "--json").stdout)
    assert value["kept"] == 200
    assert 0 < value["against"]["category_divergence"] < 1
    changes = [abs(shift["change"]) for shift in value["against"]["shifts"]]
    assert changes == sorted(changes, reverse=True)


@pytest.mark.slow
def test_files_are_written_beside_what_is_printed(folder: Path, tmp_path: Path) -> None:
    files = ("--html", tmp_path / "s.html", "--markdown", tmp_path / "s.md")
    result = run(folder / "new", "--against", folder / "old", *files)
    assert "divergence of categories, bits" in result.stdout
    assert (tmp_path / "s.html").read_text("utf-8").startswith("<!doctype html>")
    assert (tmp_path / "s.md").read_text("utf-8").startswith("## Dataset new against old")


def test_a_place_that_cannot_be_written_is_refused_first(folder: Path, tmp_path: Path) -> None:
    result = run(folder / "nothing", "--html", tmp_path)
    assert result.exit_code == 1
    assert "it is a folder. Choose another output" in result.stderr


def test_what_is_no_dataset_is_one_line(tmp_path: Path) -> None:
    result = run(tmp_path)
    assert result.exit_code == 1
    assert result.stderr == (
        f"error: {tmp_path} is not a dataset folder: it has no manifest.json. "
        "Write one with `classmark dataset build` or `classmark dataset sample`.\n"
    )


def test_a_missing_package_is_named_before_anything_is_read(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_needs, "find_spec", lambda name: None if "jinja" in name else name)
    result = run(folder / "nothing", "--html", tmp_path / "s.html")
    assert result.exit_code == 1
    assert "counting what is in a dataset needs packages" in result.stderr
    assert "classmark[data]" in result.stderr
