"""Which paper is for training, which for validation, which for testing."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import polars as pl

from classmark.dataset.build.ledger import Ledger
from classmark.dataset.config import DatasetConfig, name_periods
from classmark.errors import InvalidConfig, InvalidDataset, UnreadableSource
from classmark.papers import canonical_id

_MAX_NAMED_IDS = 5


def assign_periods(
    frame: pl.DataFrame, ends: Sequence[str], names: Sequence[str] | None = None
) -> pl.DataFrame:
    """Return the papers with ``period``, the name of the period of their date, "" if no periods."""
    names = name_periods(tuple(ends)) if names is None else names
    period = pl.lit(names[-1] if names else "")
    for name, end in reversed(list(zip(names, ends, strict=False))):
        period = pl.when(pl.col("published_date") <= end).then(pl.lit(name)).otherwise(period)
    return frame.with_columns(period=period)


def assign_splits(frame: pl.DataFrame, config: DatasetConfig, ledger: Ledger) -> pl.DataFrame:
    """Return the papers with ``split``: train, valid or test. Needs ``period``.

    Raises:
        InvalidDataset: a split that should have papers has none.
    """
    if config.split == "time":
        frame = split_by_date(frame, config)
    elif config.split == "ids":
        frame = split_by_ids(frame, config, ledger)
    else:
        frame = split_stratified(frame, config)
    _check_splits(frame, config)
    return frame


def split_stratified(frame: pl.DataFrame, config: DatasetConfig) -> pl.DataFrame:
    """Hold out the same share of every stratum (category and period), at least one paper stays.

    Papers are ordered by a draw that depends on seed and id alone. Test papers come from the low
    end, validation papers from the high end: one more paper moves at most one paper at each
    border, and never one from test to valid.
    """
    strata = ["category_code", "period"]
    rank = pl.col("draw").rank("ordinal").over(strata).cast(pl.Int64)
    size = pl.len().over(strata).cast(pl.Int64)
    test, valid = _rounded(size, config.test_share), _rounded(size, config.valid_share)
    # At most one paper too many is held out: it leaves the split that was rounded up the more.
    is_full = test + valid >= size
    gain_test = test - size * config.test_share
    gain_valid = valid - size * config.valid_share
    from_test = is_full & (gain_test >= gain_valid)
    test, valid = test - from_test.cast(pl.Int64), valid - (is_full & ~from_test).cast(pl.Int64)
    split = (
        pl.when(rank <= test)
        .then(pl.lit("test"))
        .when(rank > size - valid)
        .then(pl.lit("valid"))
        .otherwise(pl.lit("train"))
    )
    drawn = frame.with_columns(draw=draw_numbers(frame["id"], config.seed))
    return drawn.with_columns(split=split).drop("draw")


def split_by_date(frame: pl.DataFrame, config: DatasetConfig) -> pl.DataFrame:
    """Cut the timeline: train until one day, valid until another, test after it."""
    day = pl.col("published_date")
    return frame.with_columns(
        split=pl.when(day <= config.train_until)
        .then(pl.lit("train"))
        .when(day <= config.valid_until)
        .then(pl.lit("valid"))
        .otherwise(pl.lit("test"))
    )


def split_newest(frame: pl.DataFrame, shares: tuple[float, float], seed: int) -> pl.DataFrame:
    """Hold out the end of the timeline: the last papers for test, those before them for valid.

    Args:
        frame: the papers.
        shares: for test, for valid.
        seed: orders the papers of one day, as those of a stratum.
    """
    test, valid = (int(frame.height * share + 0.5) for share in shares)
    drawn = frame.with_columns(draw=draw_numbers(frame["id"], seed))
    ordered = (
        drawn.sort("published_date", "draw", "id").drop("draw").with_row_index("place_in_time")
    )
    left = frame.height - pl.col("place_in_time").cast(pl.Int64)
    split = (
        pl.when(left <= test)
        .then(pl.lit("test"))
        .when(left <= test + valid)
        .then(pl.lit("valid"))
        .otherwise(pl.lit("train"))
    )
    return ordered.with_columns(split=split).drop("place_in_time")


def split_by_ids(frame: pl.DataFrame, config: DatasetConfig, ledger: Ledger) -> pl.DataFrame:
    """Hold out the listed papers; listed ids that are not in the dataset are noted.

    Raises:
        InvalidConfig: an id is in both lists.
        UnreadableSource: a list cannot be read.
    """
    test, valid = read_id_list(config.test_ids), read_id_list(config.valid_ids)
    if both := sorted(test & valid):
        raise InvalidConfig(
            f"{len(both)} ids are in both lists (first: {both[0]!r}). Take them out of one."
        )
    unknown = sorted((test | valid) - set(frame["id"]))
    ledger.notes["listed_ids_not_found"] = {
        "count": len(unknown),
        "first": unknown[:_MAX_NAMED_IDS],
    }
    return frame.with_columns(
        split=pl.when(pl.col("id").is_in(sorted(test)))
        .then(pl.lit("test"))
        .when(pl.col("id").is_in(sorted(valid)))
        .then(pl.lit("valid"))
        .otherwise(pl.lit("train"))
    )


def read_id_list(path: Path | None) -> set[str]:
    """Return the canonical ids of a file: one a line; blank lines and ``#`` comments are skipped.

    Raises:
        UnreadableSource: the file is missing, not UTF-8, or names no id.
    """
    if path is None:
        return set()
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableSource(
            f"cannot read the id list {path}: {error}. Give a text file with one id per line."
        ) from error
    ids = {canonical_id(line) for line in lines if line.strip() and not line.startswith("#")}
    if not ids:
        raise UnreadableSource(f"the id list {path} names no id. Write one id per line.")
    return ids


def draw_numbers(ids: pl.Series, seed: int) -> pl.Series:
    """Return a uint64 for every id that depends on the seed and that id alone."""
    key = seed.to_bytes(8, "big")
    draws = (
        int.from_bytes(blake2b(identifier.encode(), digest_size=8, key=key).digest(), "big")
        for identifier in ids
    )
    return pl.Series("draw", list(draws), dtype=pl.UInt64)


def _rounded(size: pl.Expr, share: float) -> pl.Expr:
    return (size * share + 0.5).floor().cast(pl.Int64)


def _check_splits(frame: pl.DataFrame, config: DatasetConfig) -> None:
    by_ids = ("train", "valid", "test") if config.valid_ids else ("train", "test")
    wanted = {"time": ("train", "valid", "test"), "ids": by_ids}.get(config.split, ("train",))
    present = set(frame["split"].unique())
    for split in wanted:
        if split not in present:
            day = pl.col("published_date")
            span = frame.select(pl.format("{} to {}", day.min(), day.max())).item()
            if config.split == "ids":
                listed = _listed_papers(split, frame, config)
                raise InvalidDataset(f"split=ids leaves no paper for {split}: {listed}")
            raise InvalidDataset(
                f"split={config.split} leaves no paper for {split}: the {frame.height} papers are "
                f"of {span}. Choose other dates."
            )


def _listed_papers(split: str, frame: pl.DataFrame, config: DatasetConfig) -> str:
    """Return why lists of ids leave a split without papers, and what to do."""
    if split == "train":
        return f"all {frame.height} papers are listed. Take some out of the lists."
    file = config.test_ids if split == "test" else config.valid_ids
    first = min(read_id_list(file), default="")
    return (
        f"none of the ids in {file} (such as {first!r}) is among the {frame.height} "
        f"papers (such as {frame['id'].min()!r}). Correct the ids, or name their column with "
        "--columns id=NAME."
    )
