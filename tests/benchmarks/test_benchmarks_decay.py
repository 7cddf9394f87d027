"""How a fit ages: the formulas on small numbers, the script as a process on invented papers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from decay import draw_test, list_in_use, schedule
from decay_curves import (
    Bucket,
    measure_loss,
    measure_recovery,
    mix_weights,
    recovery,
    weighted_share,
)
from decay_fits import plan_fit

RunBenchmark = Callable[..., dict[str, Any]]


def bucket(year: int, hits: dict[int, list[float]]) -> Bucket:
    n = len(next(iter(hits.values())))
    values = {("recent", until): np.repeat(h, 50) for until, h in hits.items()}
    return Bucket(str(year), year, np.zeros(50 * n, dtype=np.int16), values)


def test_recovery_is_the_share_of_what_was_lost() -> None:
    found = recovery(np.array([0.5, 0.5, 0.5]), np.array([0.5, 0.55, 0.7]), np.array([0.6] * 3))
    assert found == pytest.approx([0.0, 0.5, 2.0])


def test_recovery_is_undefined_where_nothing_was_lost() -> None:
    assert np.isnan(
        recovery(np.array([0.6, 0.7]), np.array([0.6, 0.7]), np.array([0.6, 0.6]))
    ).all()


def test_measured_recovery_holds_its_interval_and_the_three_accuracies() -> None:
    one = bucket(2012, {2009: [1, 0, 0, 0], 2011: [1, 1, 0, 0], 2012: [1, 1, 1, 0]})
    found = measure_recovery([one], [(("recent", 2009), ("recent", 2011), ("recent", 2012))])
    assert found is not None
    assert (found["stale"], found["retrained"], found["ceiling"]) == (0.25, 0.5, 0.75)
    share = found["recovery"]
    assert share["low"] < share["value"] == 0.5 < share["high"]


def test_recovery_is_not_reported_where_the_loss_may_be_chance() -> None:
    one = bucket(2012, {2009: [1, 0], 2011: [1, 0], 2012: [0, 1]})
    assert measure_recovery([one], [(("recent", 2009), ("recent", 2011), ("recent", 2012))]) is None


def test_loss_by_age_compares_on_the_same_papers_and_counts_the_buckets() -> None:
    buckets = [
        bucket(2010, {2009: [1, 0], 2010: [1, 1]}),
        bucket(2011, {2009: [0, 0], 2010: [1, 0], 2011: [1, 0]}),
    ]
    found = measure_loss(buckets, "recent")
    assert [(p["age"], p["buckets"], p["lost"]["value"]) for p in found] == [
        (1, 2, 0.25),
        (2, 1, 0.5),
    ]


def test_mix_weights_give_a_bucket_the_mix_of_the_reference() -> None:
    primary = np.array([0, 0, 0, 1], dtype=np.int16)
    weights, covered = mix_weights(primary, np.array([0.25, 0.5, 0.25]))
    assert covered == 0.75
    assert weights.sum() == pytest.approx(4)
    assert weights[3] == pytest.approx(2 * weights[:3].sum())
    hits = np.array([1.0, 1.0, 1.0, 0.0])
    assert weighted_share(hits, weights, np.ones((1, 4)))[0] == pytest.approx(1 / 3)


def test_mix_weights_of_a_bucket_outside_the_reference_are_zero() -> None:
    weights, covered = mix_weights(np.array([1, 1], dtype=np.int16), np.array([1.0, 0.0]))
    assert covered == 0
    assert not weights.any()
    assert np.isnan(weighted_share(np.ones(2), weights, np.ones((1, 2)))[0])


@pytest.mark.parametrize(
    ("every", "year", "used"),
    [(1, 2010, 2009), (1, 2014, 2013), (3, 2012, 2009), (3, 2013, 2012), (3, 2024, 2019)],
)
def test_a_schedule_uses_the_newest_fit_that_was_due(every: int, year: int, used: int) -> None:
    assert schedule([*range(2009, 2020), 2024], every, year) == used


def papers(years: dict[int, int]) -> pl.DataFrame:
    rows = [
        {"id": f"{y}.{i}", "category_code": "cs.LG", "published_date": f"{y}-01-01", "year": y}
        for y, n in years.items()
        for i in range(n)
    ]
    return pl.DataFrame(rows)


def test_test_papers_are_at_most_so_many_and_at_most_a_share_of_their_year() -> None:
    drawn = draw_test(papers({2009: 50, 2010: 100, 2011: 10, 2025: 1000}), 20)
    assert {name: len(frame) for name, frame in drawn.items()} == {
        "2010": 20,
        "2011": 3,
        "2025": 20,
    }


def test_a_recent_fit_takes_the_newest_papers_known_and_no_test_paper() -> None:
    everything = papers({2008: 100, 2009: 100, 2010: 100})
    test = everything.filter(pl.col("year") == 2010)
    task = plan_fit(everything.join(test, on="id", how="anti"), test, 2010, 50, ())
    assert {name: len(frame) for name, frame in task.splits.items()} == {
        "train": 50,
        "valid": 5,
        "test": 100,
    }
    assert set(task.splits["train"]["published_date"]) == {"2009-01-01"}
    other = plan_fit(everything, test, 2009, 50, ("model.epochs=2",))
    assert other.key != task.key


def test_what_is_in_use_goes_from_never_to_the_same_year() -> None:
    buckets = [bucket(2010, {2009: [1], 2010: [1]}), bucket(2011, {2009: [1], 2010: [1]})]
    cells = [
        {"series": "recent", "until": until, "test": test}
        for until, test in ((2009, "2010"), (2010, "2010"), (2009, "2011"), (2010, "2011"))
    ]
    used = list_in_use(cells, buckets, "recent")
    assert [cell["until"] for cell in used["never"]] == [2009, 2009]
    assert [cell["until"] for cell in used["every year"]] == [2009, 2010]
    assert [cell["until"] for cell in used["same year"]] == [2010]


@pytest.mark.slow  # two fits in processes of their own
def test_decay_writes_its_curves_and_a_second_run_fits_nothing(
    invented: Path, tmp_path: Path, run_benchmark: RunBenchmark
) -> None:
    plot = tmp_path / "decay.svg"
    words = ("--dataset", invented, "--work", tmp_path, "--plot", plot, "--tiny")
    first = run_benchmark("decay.py", *words)
    assert first["stderr"].count("fitting recent until") == 2
    assert first["generated"] is True
    assert {cell["until"] for cell in first["cells"]} == {2009, 2014}
    assert all(cell["age"] >= 0 for cell in first["cells"])
    assert [f["papers"] for f in first["fits"]] == [300, 300]
    assert {c["test"] for c in first["in_use"]["recent"]["never"]} == set(first["tests"])
    assert plot.read_text().startswith("<?xml")
    again = run_benchmark("decay.py", *words)
    assert "fitting" not in again["stderr"]
    assert again["cells"] == first["cells"]
