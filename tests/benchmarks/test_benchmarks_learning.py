"""What authors and a growing index add: the parts on small numbers, the scripts on made-up ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from classmark.dataset import SampleConfig, sample_dataset
from classmark.pipeline import ExportOptions, compose_config, export_run, train
from learning import describe, listed_of, periods

WHAT = ("text", "index", "authors", "authors and index")
RunBenchmark = Callable[..., dict[str, Any]]


def test_a_year_is_divided_by_the_days_on_which_its_parts_begin() -> None:
    dates = ["2012-01-31", "2012-02-01", "2012-06-30", "2012-12-31"]
    frame = pl.DataFrame({"published_date": dates})
    parts = [(day, part["published_date"].to_list()) for day, part in periods(frame, 2012, 4)]
    assert parts == [
        ("2012-01-01", dates[:2]),
        ("2012-04-01", dates[2:3]),
        ("2012-10-01", dates[3:]),
    ]
    assert [len(part) for _, part in periods(frame, 2012, 1)] == [4]


def test_the_primary_category_comes_first_and_once() -> None:
    frame = pl.DataFrame({"category_code": ["a", "b", "c"], "categories": ["b a", "b", None]})
    assert listed_of(frame) == [("a", "b"), ("b",), ("c",)]


def test_what_comes_back_is_the_share_of_what_retraining_gives() -> None:
    def hits(*share: float) -> np.ndarray[Any, Any]:
        return np.repeat(np.array(share), 100)

    ways = {
        "fixed": hits(1, 0, 0, 0),
        "grown": hits(1, 1, 0, 0),
        "retrained": hits(1, 1, 1, 0),
    }
    found = describe({f"{way}: {what}": h for way, h in ways.items() for what in WHAT})
    assert found["papers"] == 400
    assert found["top_1"]["grown: authors"]["value"] == 0.5
    share = found["recovered"]["authors and index"]
    assert share["low"] < share["value"] == 0.5 < share["high"]
    same = {name: hits(1, 0) for name in found["top_1"]}
    assert describe(same)["recovered"] == {}


@pytest.mark.slow  # a fit, and three tables of authors
def test_authors_are_measured_by_how_much_is_known_of_them(
    tmp_path: Path, run_benchmark: RunBenchmark
) -> None:
    dataset = tmp_path / "dataset"
    sample_dataset(dataset, SampleConfig(papers=6000), periods=("2017-12-31",))
    options = [f"dataset.path={dataset}", f"runs_dir={tmp_path / 'runs'}", "tracker=csv"]
    run = train(compose_config(options), command="test")
    bundle = tmp_path / "mine-1.0"
    export_run(run, bundle, ExportOptions(name="mine", version="1.0"))
    words = ("--dataset", dataset, "--run", run, "--model", bundle, "--entries", "300", "3000")
    found = run_benchmark("authors.py", *words, "--plot", tmp_path / "authors.svg")
    assert found["with_authors"]["all"]["top_1"] > found["text"]["all"]["top_1"]
    unknown, *known = found["by_known_authors"]
    assert unknown["gain"]["difference"] == 0
    assert max(group["gain"]["difference"] for group in known) > 0
    assert sum(group["papers"] for group in found["by_earlier_papers"]) <= found["papers"]
    sizes = [one["entries"] for one in found["sizes"]]
    assert sizes == sorted(sizes)
    top_1 = found["sizes"][-1]["metrics"]["all"]["top_1"]
    assert top_1 == pytest.approx(found["with_authors"]["all"]["top_1"], abs=0.01)
    assert found["text"]["all"]["set_size"] < 10
    assert (tmp_path / "authors.svg").read_text().startswith("<?xml")


@pytest.mark.slow  # two fits in processes of their own
def test_learning_compares_what_grows_with_what_is_fitted_again(
    invented: Path, tmp_path: Path, run_benchmark: RunBenchmark
) -> None:
    found = run_benchmark("learning.py", "--dataset", invented, "--work", tmp_path, "--tiny")
    assert found["fixed_until"] == 2009
    top_1 = found["tests"]["2012"]["top_1"]
    assert {name.split(":")[0] for name in top_1} == {"fixed", "grown", "retrained"}
    assert all(0 <= one["low"] <= one["value"] <= one["high"] <= 1 for one in top_1.values())


@pytest.mark.slow  # builds an index
def test_evidence_is_measured_with_and_without_authors_and_an_index(
    tmp_path: Path, run_benchmark: RunBenchmark
) -> None:
    dataset = tmp_path / "dataset"
    sample_dataset(dataset, SampleConfig(papers=6000), periods=("2017-12-31",))
    found = run_benchmark("evidence.py", "--dataset", dataset, "--work", tmp_path, "--tiny")
    names = ["text", "text, neighbours", "text and authors", "text and authors, neighbours"]
    assert [way["evidence"] for way in found["ways"]] == names
    text, with_index, *_ = found["ways"]
    assert text["periods"]["all"]["papers"] == found["papers"]
    assert with_index["gain"]["top_1"]["difference"] == pytest.approx(
        with_index["periods"]["all"]["top_1"] - text["periods"]["all"]["top_1"], abs=1e-3
    )
    assert with_index["cpu_us"] > text["cpu_us"]
    shares = [point["share"] for point in found["asked"]]
    assert shares == sorted(shares)
    assert shares[-1] > 0.9
    assert found["indexes"]["2"]["papers"] > 0
