"""What is said of clusters that nobody started follows from what was measured."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("psutil")

from ray_scale import Assumed, derive
from report import read_report


def test_the_derived_part_of_the_report_follows_from_its_measurement() -> None:
    measured: dict[str, Any] = read_report("ray-scale")
    derived = measured["derived"]
    assert derive(measured, Assumed(**derived["assumed"])) == derived
    assert measured["same_bytes"] is True


def test_the_slowest_part_is_the_bottleneck() -> None:
    measured: dict[str, Any] = read_report("ray-scale")
    runs = {
        (run["tier"], run["nodes"]): run
        for run in derive(measured, Assumed(driver_gbit_s=1e-6))["runs"]
        if run["papers"] == 2_700_000
    }
    assert {run["bottleneck"] for run in runs.values()} == {"network of the driver"}
    usual = derive(measured, Assumed())["runs"]
    few, many = [run for run in usual if run["tier"] == "deep" and run["nodes"] < 100][:2]
    assert few["hours"] > many["hours"]
