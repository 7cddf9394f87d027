"""The benchmark of the whole way runs on few papers, goes on where it was, and cleans up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCALE = Path(__file__).parents[2] / "benchmarks" / "scale.py"
STAGES = ["sample", "yardstick", "build", "stats", "train", "export"]
STAGES += ["classify", "one-process", "killed", "resumed"]


def run(*options: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCALE), *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def measured(work: Path, *options: str | Path) -> tuple[dict[str, Any], str]:
    small = ["--papers", "3000", "--check-papers", "200", "--train", "experiment=debug"]
    output, plot = work.with_suffix(".json"), work.with_suffix(".svg")
    result = run("--work", work, *small, "--output", output, "--plot", plot, *options)
    assert result.returncode == 0, result.stdout + result.stderr
    assert plot.read_text().startswith("<?xml")
    return json.loads(output.read_text()), result.stderr


@pytest.mark.slow  # every stage is a command of its own
def test_every_stage_is_measured_and_not_repeated(tmp_path: Path) -> None:
    result, _ = measured(tmp_path / "work", "--keep")
    assert [*result["stages"]] == STAGES
    for stage in result["stages"].values():
        assert str(tmp_path) not in stage["command"]
        assert 0 < stage["peak_own_gib"] <= stage["peak_rss_gib"] < result["headline"]["limit_gib"]
        assert stage["largest_hwm_gib"] > 0
        assert stage["cpu_s"] > 0
    assert result["stages"]["yardstick"]["times_yardstick"] == 1
    assert result["headline"]["same_answers"]
    assert sum(result["splits"].values()) == 3000
    again, seen = measured(tmp_path / "work")
    assert seen.count("done before") == len(result["stages"])
    assert again["stages"] == result["stages"]
    assert not (tmp_path / "work").exists()


def test_a_folder_with_files_of_others_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("mine")
    result = run("--work", tmp_path)
    assert result.returncode == 1
    assert "holds files of others" in result.stderr
    assert (tmp_path / "letters.txt").exists()
