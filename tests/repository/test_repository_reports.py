"""Every committed report says how it was measured."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))
report = importlib.import_module("report")

REPORTS = {
    path.name: json.loads(path.read_text("utf-8"))
    for path in sorted((ROOT / "benchmarks" / "reports").glob("*.json"))
}


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_says_how_it_was_measured(name: str) -> None:
    facts: dict[str, Any] = REPORTS[name]["provenance"]
    assert set(facts) == set(report.FIELDS)
    assert facts["recorded"] == report.BY_THE_RUN
    assert not [field for field in report.FIELDS if facts[field] is None]
    assert not REPORTS[name].get("tiny"), "measured with --tiny: its numbers mean nothing"
