"""Every number of README and MODELS is read from a committed report."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_quoted_numbers_are_those_of_the_committed_reports() -> None:
    run = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "quote.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
