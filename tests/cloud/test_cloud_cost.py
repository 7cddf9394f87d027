"""What a month costs: the estimate adds up, follows the load, and says what it rests on."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from classmark.cli.cloud.command import app
from classmark.cloud.cost import POLICIES, Estimate, Line, Load, Price, estimate, read_prices
from classmark.errors import UsageError

ROOT = Path(__file__).parents[2]


def line(found: Estimate, name: str) -> Line:
    [one] = [one for one in found.lines if one.name == name]
    return one


def test_the_cpu_time_is_that_of_the_committed_report() -> None:
    measured = read_prices().measured
    report: dict[str, Any] = json.loads((ROOT / measured.report).read_text("utf-8"))
    cores, headline = report["provenance"]["cores"], report["headline"]

    assert measured.request_cpu_s == round(cores / headline["single_requests_per_s"], 5)
    assert measured.paper_cpu_s == round(cores / headline["batch_papers_per_s"], 5)


def test_as_many_policies_are_billed_as_there_are() -> None:
    folder = ROOT / "deploy" / "gcp" / "monitoring" / "policies"
    assert len(list(folder.glob("*.json"))) == POLICIES


def test_every_price_is_used_has_a_unit_and_a_date() -> None:
    prices = read_prices()

    assert {one.name for one in estimate(Load(requests_per_day=1)).lines} == set(prices.prices)
    assert all(price.unit for price in prices.prices.values())
    assert date.fromisoformat(prices.date)


def test_the_sums_are_those_of_the_lines() -> None:
    found = estimate(Load(requests_per_day=100_000))

    assert found.low == pytest.approx(sum(one.low for one in found.lines))
    assert found.high == pytest.approx(sum(one.high for one in found.lines))
    assert all(0 <= one.low <= one.high for one in found.lines)
    assert all(one.units[0] <= one.units[1] for one in found.lines)
    assert "check before relying" in found.caution
    assert found.date in found.caution


def test_what_is_free_each_month_is_not_billed() -> None:
    small = estimate(Load(requests_per_day=1000))
    large = estimate(Load(requests_per_day=1_000_000))

    assert line(small, "run-requests").is_free
    assert line(small, "run-cpu").is_free
    assert not line(large, "run-requests").is_free
    assert line(large, "run-requests").low == pytest.approx(28 * 0.40)
    assert not line(small, "storage").is_free


def test_more_load_never_costs_less() -> None:
    loads = [Load(requests_per_day=10.0**power) for power in range(9)]
    costs = [estimate(load) for load in loads]

    assert [one.low for one in costs] == sorted(one.low for one in costs)
    assert [one.high for one in costs] == sorted(one.high for one in costs)
    assert all(one.low <= one.high for one in costs)


def test_requests_alone_are_billed_a_tenth_of_a_second_until_they_overlap() -> None:
    few = line(estimate(Load(requests_per_day=1000)), "run-cpu")
    many = line(estimate(Load(requests_per_day=50_000_000)), "run-cpu")

    assert few.units[1] == pytest.approx(30_000 * 0.1)
    assert many.units[0] <= many.units[1] < 50_000_000 * 30 * 0.1


def test_papers_instances_and_models_cost_what_they_are() -> None:
    load = Load(requests_per_day=1_000_000)
    base = estimate(load)

    papers = estimate(replace(load, papers_per_request=200))
    assert line(papers, "run-cpu").units[0] > 50 * line(base, "run-cpu").units[0]
    asleep = estimate(replace(load, min_instances=0))
    assert line(asleep, "idle-cpu").high == 0
    assert line(asleep, "samples").units == line(base, "samples").units
    yearly = estimate(replace(load, retrain_per_year=0))
    assert line(yearly, "retraining").high == 0
    bucket = estimate(replace(load, has_database=False))
    assert {one.name for one in base.lines} - {one.name for one in bucket.lines} == {
        "sql-cpu",
        "sql-memory",
        "sql-storage",
    }


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"requests_per_day": -1.0}, "requests_per_day is -1"),
        ({"requests_per_day": float("inf")}, "requests_per_day is inf"),
        ({"papers_per_request": 0.5}, r"0\.5 papers a request: give at least 1"),
        ({"min_instances": -1}, "min_instances is -1"),
    ],
)
def test_a_load_that_cannot_be_is_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Load(**{"requests_per_day": 1.0, **wrong})


def test_a_price_whose_range_is_upside_down_is_refused() -> None:
    with pytest.raises(UsageError, match="prices 2 to 1 of hour are not a range"):
        Price(unit="hour", low=2, high=1, free=0)


def test_the_command_prints_lines_with_their_assumptions_and_a_range() -> None:
    said = CliRunner().invoke(app, ["cost", "--requests-per-day", "1000"])

    assert said.exit_code == 0, said.output
    *lines, total = said.stdout.splitlines()
    assert len(lines) == len(read_prices().prices)
    assert total.startswith("a month")
    assert "check before relying on them" in total
    assert any(one.split()[:2] == ["run-requests", "free"] for one in lines)


def test_the_command_prints_json() -> None:
    words = ["cost", "--requests-per-day", "5", "--no-database", "--json"]
    found = json.loads(CliRunner().invoke(app, words).stdout)

    assert found["currency"] == "USD"
    assert found["low"] <= found["high"]
    assert {"name", "low", "high", "unit", "units", "assumption", "is_free"} == set(
        found["lines"][0]
    )
