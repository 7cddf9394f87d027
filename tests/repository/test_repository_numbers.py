"""Every number of README and MODELS is read from a committed report."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from classmark import Classifier
from classmark.evaluation import ROBUSTNESS_KINDS, check_gates, make_gates
from classmark.records import RobustnessGates, RobustnessReport

ROOT = Path(__file__).parents[2]


def test_the_quoted_numbers_are_those_of_the_committed_reports() -> None:
    run = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "quote.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr


def test_the_gates_of_the_shipped_model_are_those_of_its_committed_robustness_report() -> None:
    model = Classifier("fast").model
    name = f"{model.name}-{model.version}"
    benchmarks = ROOT / "benchmarks"
    report = RobustnessReport.from_dict(
        json.loads((benchmarks / "reports" / f"robustness-{name}.json").read_text("utf-8"))
    )
    gates = RobustnessGates.from_dict(
        json.loads((benchmarks / "gates" / f"{name}.json").read_text("utf-8"))
    )
    assert report.model == model
    assert tuple(report.config["kinds"]) == ROBUSTNESS_KINDS
    assert gates == make_gates(report, gates.margin)
    assert check_gates(report, gates) == ()
