"""The scripts of benchmarks/ import each other by name; so do these tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))


@pytest.fixture(scope="session")
def invented(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 2,500 invented papers of 2007 to 2024, in three periods."""
    folder = tmp_path_factory.mktemp("invented") / "dataset"
    command = [sys.executable, "-m", "classmark", "dataset", "sample", "--papers", "2500"]
    command += ["--periods", "2017-12-31,2019-12-31", "--output", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    return folder
