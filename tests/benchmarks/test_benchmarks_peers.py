"""Peers on the same papers: how papers are drawn, and the script as a process."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from peer_kinds import Stopwatch, with_authors
from peer_models import PEERS
from peer_papers import Row, draw_capped, draw_stratified, find_dataset
from peers import COMPARISONS

RunBenchmark = Callable[..., dict[str, Any]]


def papers(sizes: dict[str, int]) -> pl.DataFrame:
    rows = [(f"{code}-{i}", code) for code, n in sizes.items() for i in range(n)]
    return pl.DataFrame(rows, schema=["id", "category_code"], orient="row")


def test_a_stratified_draw_keeps_the_shares_and_leaves_no_category_out() -> None:
    drawn = draw_stratified(papers({"a": 900, "b": 98, "c": 2}), 100, ("category_code",))
    counts = dict(drawn["category_code"].value_counts().rows())
    assert counts == {"a": 90, "b": 9, "c": 1}


def test_a_draw_does_not_depend_on_the_order_of_the_papers() -> None:
    frame = papers({"a": 50, "b": 50})
    one = draw_stratified(frame, 20, ("category_code",))
    other = draw_stratified(frame.reverse(), 20, ("category_code",))
    assert set(one["id"]) == set(other["id"])


def test_a_draw_of_more_than_there_are_is_all_of_them() -> None:
    assert len(draw_stratified(papers({"a": 3}), 10, ("category_code",))) == 3


def test_a_capped_draw_takes_no_more_than_the_cap_and_the_share() -> None:
    drawn = draw_capped(papers({"a": 100, "b": 10, "c": 1}), 20, 0.3)
    assert dict(drawn["category_code"].value_counts().rows()) == {"a": 20, "b": 3}


def test_a_paused_stopwatch_counts_nothing_but_what_is_added() -> None:
    watch = Stopwatch()
    watch.pause()
    watch.add(2.0, 3.0)
    assert (watch.cpu_s, watch.wall_s) == (2.0, 3.0)
    watch.run()
    watch.run()
    watch.pause()
    assert watch.cpu_s >= 2.0


def test_without_papers_the_script_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="give --data FOLDER"):
        find_dataset(None, None, tmp_path)


def test_authors_are_words_of_their_own_for_peers_that_read_them() -> None:
    row = Row("Graphs", "We colour.", ("Noether, Emmy", "E. Noether", "ATLAS Collaboration"))
    expected = "Graphs\nWe colour. au_emmy_noether au_noether_e au_e_noether au_atlas_collaboration"
    assert with_authors([row, Row("", "x")]) == [expected, "\nx "]


def test_every_peer_that_is_compared_exists_and_is_compared() -> None:
    assert {name for names in COMPARISONS.values() for name in names} == set(PEERS)


@pytest.mark.slow  # two fits, six processes
@pytest.mark.timeout(1200)  # half a minute, but on a busy machine far longer
def test_peers_are_measured_and_a_missing_package_is_reported(
    few_invented: Path, tmp_path: Path, run_benchmark: RunBenchmark
) -> None:
    plot = tmp_path / "peers.svg"
    words = ("--dataset", few_invented, "--work", tmp_path, "--plot", plot, "--tiny")
    result = run_benchmark("peers.py", *words)
    ours = result["comparisons"]["all"]["peers"]["classmark"]
    assert result["generated"] is True
    assert ours["metrics"]["top_1"]["value"] > 0.3
    assert set(ours["periods"]) == {"until-2017", "2018-2019", "from-2020"}
    assert ours["fit"]["size_mb"] > 0
    assert ours["serve"]["papers_per_cpu_s"] > 0
    assert len(result["comparisons"]["five"]["categories"]) == 5
    assert plot.read_text().startswith("<?xml")
    for comparison, name, module in (
        ("all", "tfidf-logistic-authors", "sklearn"),
        ("all", "minilm", "torch"),
        ("five", "tfidf-xgboost", "xgboost"),
    ):
        peer = result["comparisons"][comparison]["peers"][name]
        if find_spec(module) is None:
            assert module in peer["not_available"]
            assert "pip install" in peer["not_available"]
