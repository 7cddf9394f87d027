"""Every committed report says how it was measured; what nobody recorded is null, not invented."""

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
# Measured before reports had a provenance. A name leaves this list when it is measured again.
OLD = {"cascade.json", "deep.json"}


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_says_how_it_was_measured(name: str) -> None:
    facts: dict[str, Any] = REPORTS[name]["provenance"]
    assert set(facts) == set(report.FIELDS)
    assert facts["recorded"] == (report.FROM_THE_COMMIT if name in OLD else report.BY_THE_RUN)
    known = ("command", "date", "commit") if name in OLD else report.FIELDS
    assert not [field for field in known if facts[field] is None]
    assert not REPORTS[name].get("tiny"), "measured with --tiny: its numbers mean nothing"


def test_the_list_of_old_reports_names_only_reports() -> None:
    assert set(REPORTS) >= OLD
