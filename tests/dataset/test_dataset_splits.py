from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classmark.dataset.build.ledger import Ledger
from classmark.dataset.build.splits import (
    assign_periods,
    assign_splits,
    draw_numbers,
    read_id_list,
    split_stratified,
)
from classmark.dataset.config import DatasetConfig
from classmark.errors import InvalidConfig, InvalidDataset, UnreadableSource

shares = st.floats(0.0, 0.49)
categories = st.dictionaries(
    st.sampled_from(["cs.LG", "cs.CL", "math.CO", "hep-th"]), st.integers(1, 60), min_size=1
)


def papers(counts: dict[str, int], prefix: str = "p") -> pl.DataFrame:
    codes = [code for code, count in counts.items() for _ in range(count)]
    ids = [f"{prefix}{number}" for number in range(len(codes))]
    frame = pl.DataFrame({"id": ids, "category_code": codes})
    return frame.with_columns(period=pl.lit(""), published_date=pl.lit("2016-07-01"))


@settings(max_examples=40)
@given(categories, shares, shares)
def test_stratified_shares_are_within_one_paper_and_train_keeps_one(
    counts: dict[str, int], test_share: float, valid_share: float
) -> None:
    config = DatasetConfig(test_share=test_share, valid_share=valid_share)
    split = split_stratified(papers(counts), config)
    assert split["id"].to_list() == papers(counts)["id"].to_list()
    for code, count in counts.items():
        sizes = dict(
            split.filter(pl.col("category_code") == code)["split"].value_counts().iter_rows()
        )
        assert sum(sizes.values()) == count
        assert sizes["train"] >= 1
        assert abs(sizes.get("test", 0) - count * test_share) <= 1
        assert abs(sizes.get("valid", 0) - count * valid_share) <= 1


@settings(max_examples=40)
@given(categories, categories)
def test_added_papers_move_at_most_one_paper_each_at_both_borders(
    counts: dict[str, int], added: dict[str, int]
) -> None:
    config = DatasetConfig()
    old = papers(counts)
    before = split_stratified(old, config)
    after = split_stratified(pl.concat([old, papers(added, prefix="new")]), config)
    both = before.join(after, on="id", suffix="_after")
    moved = both.filter(pl.col("split") != pl.col("split_after"))
    assert moved.height <= 2 * sum(added.values())
    held_out = {"test", "valid"}
    assert not any({a, b} == held_out for a, b in moved.select("split", "split_after").iter_rows())


def test_the_order_of_the_papers_does_not_change_the_split() -> None:
    frame = papers({"cs.LG": 40, "cs.CL": 20})
    forwards = split_stratified(frame, DatasetConfig()).sort("id")
    backwards = split_stratified(frame.reverse(), DatasetConfig()).sort("id")
    assert forwards.equals(backwards)


def test_another_seed_holds_out_other_papers() -> None:
    frame = papers({"cs.LG": 100})
    test = [
        set(split_stratified(frame, DatasetConfig(seed=s)).filter(split="test")["id"])
        for s in (7, 8)
    ]
    assert len(test[0]) == len(test[1]) == 10
    assert test[0] != test[1]


def test_every_period_of_a_category_is_held_out_from() -> None:
    frame = papers({"cs.LG": 40}).with_columns(
        published_date=pl.when(pl.int_range(pl.len()) < 20)
        .then(pl.lit("2017-12-31"))
        .otherwise(pl.lit("2018-01-01"))
    )
    split = split_stratified(assign_periods(frame, ("2017-12-31",)), DatasetConfig())
    tested = dict(split.filter(split="test")["period"].value_counts().iter_rows())
    assert tested == {"until-2017": 2, "from-2018": 2}


def test_draws_are_pinned_because_datasets_depend_on_them() -> None:
    draws = draw_numbers(pl.Series(["1607.00001", "é"]), seed=7)
    assert draws.to_list() == [16515694829736200654, 16947329222218164863]


def test_split_by_date_includes_the_last_day() -> None:
    frame = papers({"cs.LG": 4}).with_columns(
        published_date=pl.Series(["2017-12-31", "2018-01-01", "2018-06-30", "2018-07-01"])
    )
    config = DatasetConfig(split="time", train_until="2017-12-31", valid_until="2018-06-30")
    split = assign_splits(frame, config, Ledger(4))
    assert split["split"].to_list() == ["train", "valid", "valid", "test"]


def test_split_by_date_names_the_span_when_a_split_stays_empty() -> None:
    config = DatasetConfig(split="time", train_until="2001-01-01", valid_until="2002-01-01")
    with pytest.raises(InvalidDataset, match=r"no paper for train.*2016-07-01 to 2016-07-01"):
        assign_splits(papers({"cs.LG": 4}), config, Ledger(4))


def test_split_by_ids_notes_listed_ids_that_are_not_there(tmp_path: Path) -> None:
    tests, valids = tmp_path / "test.txt", tmp_path / "valid.txt"
    tests.write_text("# held out\np1\n\nghost\n")
    valids.write_text("p2\n")
    ledger = Ledger(4)
    config = DatasetConfig(split="ids", test_ids=tests, valid_ids=valids)
    split = assign_splits(papers({"cs.LG": 4}), config, ledger)
    assert split["split"].to_list() == ["train", "test", "valid", "train"]
    assert ledger.notes["listed_ids_not_found"] == {"count": 1, "first": ["ghost"]}


@pytest.mark.parametrize(
    ("test_ids", "valid_ids", "message"),
    [
        ("ghost", "p2", r"for test: none of the ids in .*test\.txt \(such as 'ghost'\) .*'p0'"),
        ("p1", "ghost", r"for valid: none of the ids in .*valid\.txt \(such as 'ghost'\)"),
        ("p0\np1", "p2", "for train: all 3 papers are listed"),
    ],
)
def test_lists_that_leave_a_split_without_papers_are_named(
    tmp_path: Path, test_ids: str, valid_ids: str, message: str
) -> None:
    tests, valids = tmp_path / "test.txt", tmp_path / "valid.txt"
    tests.write_text(test_ids)
    valids.write_text(valid_ids)
    config = DatasetConfig(split="ids", test_ids=tests, valid_ids=valids)
    with pytest.raises(InvalidDataset, match=message):
        assign_splits(papers({"cs.LG": 3}), config, Ledger(3))


def test_split_by_ids_refuses_an_id_in_both_lists(tmp_path: Path) -> None:
    ids = tmp_path / "ids.txt"
    ids.write_text("p1\n")
    config = DatasetConfig(split="ids", test_ids=ids, valid_ids=ids)
    with pytest.raises(InvalidConfig, match=r"1 ids are in both lists \(first: 'p1'\)"):
        assign_splits(papers({"cs.LG": 4}), config, Ledger(4))


def test_id_list_is_read_in_any_spelling_of_arxiv_ids(tmp_path: Path) -> None:
    ids = tmp_path / "ids.txt"
    ids.write_text("arXiv:1607.01234v2\ncs/9308101v1\n")
    assert read_id_list(ids) == {"1607.01234", "cs-9308101"}


def test_the_first_id_of_a_list_with_a_byte_order_mark_counts(tmp_path: Path) -> None:
    ids = tmp_path / "ids.txt"
    ids.write_text("1607.01234\n", encoding="utf-8-sig")
    assert read_id_list(ids) == {"1607.01234"}


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot read the id list"), (b"\xff\xfe", "cannot read"), (b"# none\n", "names no id")],
)
def test_id_list_that_cannot_be_used_is_named(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    ids = tmp_path / "ids.txt"
    if content is not None:
        ids.write_bytes(content)
    with pytest.raises(UnreadableSource, match=message):
        read_id_list(ids)


@pytest.mark.parametrize(
    ("test_share", "valid_share", "held_out"), [(0.6, 0.3, "test"), (0.3, 0.6, "valid")]
)
def test_of_two_papers_the_larger_share_gets_one_and_train_the_other(
    test_share: float, valid_share: float, held_out: str
) -> None:
    config = DatasetConfig(test_share=test_share, valid_share=valid_share)
    split = split_stratified(papers({"cs.LG": 2}), config)
    assert sorted(split["split"]) == sorted([held_out, "train"])
