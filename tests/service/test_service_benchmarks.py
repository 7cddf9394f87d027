"""The benchmarks run and write what is quoted; how fast they find the service is not tested."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(*command: str, **environment: str) -> None:
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("with_wrk", [True, False])
def test_the_curve_is_written_and_drawn(tmp_path: Path, with_wrk: bool) -> None:
    if with_wrk and shutil.which("wrk") is None:
        reason = "there is no wrk. Run: make system-deps"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    path = os.environ["PATH"] if with_wrk else str(tmp_path)
    output, plot = tmp_path / "service.json", tmp_path / "service.svg"
    seconds = "1" if with_wrk else "0.3"  # wrk knows whole seconds only
    options = ["--seconds", seconds, "--levels", "2", "--output", str(output), "--plot", str(plot)]
    run(sys.executable, str(BENCHMARKS / "service.py"), *options, PATH=path)
    result = json.loads(output.read_text())
    assert set(result["aims"]) <= set(result["headline"])
    assert result["headline"]["refused_or_broken"] == 0
    assert [len(result[name]) for name in ("single", "echo", "batch")] == [1, 1, 1]
    assert result["journal"]["dropped"] == 0
    assert "on the same machine" in result["load_generator"]
    assert plot.read_text().startswith("<?xml")


@pytest.mark.slow
def test_faults_are_measured_and_nothing_fails_through_the_client(tmp_path: Path) -> None:
    output = tmp_path / "faults.json"
    options = ["--seconds", "0.3", "--kill-seconds", "3", "--hostile", "400"]
    run(sys.executable, str(BENCHMARKS / "faults.py"), *options, "--output", str(output))
    result = json.loads(output.read_text())
    assert set(result["aims"]) <= set(result["headline"])
    assert result["headline"]["kills"] > 0
    assert result["headline"]["kills_failed_through_the_client"] == 0
    for part in result["hostile"].values():
        assert sum(sum(seen.values()) for seen in part["answers"].values()) == 200
        assert part["honest"]["answered"] > 0
        assert part["workers_lost"] == 0


@pytest.mark.slow
def test_locust_writes_its_summary(tmp_path: Path, server: Any) -> None:
    options = ["--headless", "--host", server.url, "--users", "4", "--spawn-rate", "4"]
    options += ["--requests", "60", "--only-summary", "--summary", str(tmp_path / "locust.json")]
    run(sys.executable, "-m", "locust", "-f", str(BENCHMARKS / "locustfile.py"), *options)
    summary = json.loads((tmp_path / "locust.json").read_text())
    assert summary["errors"] == []
    assert summary["total"]["requests"] >= 60
    assert "POST /v1/classify" in summary["requests"]
