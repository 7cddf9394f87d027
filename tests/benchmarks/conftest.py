"""The scripts of benchmarks/ import each other by name; so do these tests."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from classmark.dataset import SampleConfig, sample_dataset

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

PERIODS = ("2017-12-31", "2019-12-31")
RunBenchmark = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def invented(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 2,500 invented papers of 2007 to 2024, in three periods."""
    folder = tmp_path_factory.mktemp("invented") / "dataset"
    sample_dataset(folder, SampleConfig(papers=2500), periods=PERIODS)
    return folder


@pytest.fixture(scope="session")
def few_invented(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 600 papers without noise, for what embeds each with a real encoder."""
    folder = tmp_path_factory.mktemp("few-invented") / "dataset"
    sample_dataset(folder, SampleConfig(papers=600, categories=24, noise=0.0), periods=PERIODS)
    return folder


@pytest.fixture
def run_benchmark(tmp_path: Path) -> RunBenchmark:
    """Runs a benchmark in a process of its own; returns its report, and what it said."""

    def run(name: str, *options: str | Path) -> dict[str, Any]:
        output = tmp_path / "report.json"
        words = [sys.executable, BENCHMARKS / name, *options, "--output", output]
        done = subprocess.run(
            [str(word) for word in words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return {**json.loads(output.read_text()), "stderr": done.stderr}

    return run
