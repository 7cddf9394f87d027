"""Labels: today's codes for arXiv categories, or the users' own, and what to do with small ones."""

from __future__ import annotations

import polars as pl

from classmark import taxonomy
from classmark.dataset.config import DatasetConfig
from classmark.dataset.build.ledger import Ledger
from classmark.errors import UnknownCategory


def canonical_labels(frame: pl.DataFrame, config: DatasetConfig, ledger: Ledger) -> pl.DataFrame:
    """Return the papers with canonical labels, and ``categories`` that begins with the label.

    Unknown labels stay as they are, the contract finds them. Unknown cross-lists are left out and
    noted. Free labels only lose superfluous white space.
    """
    if config.labels == "free":
        return _tidy_free_labels(frame)
    today = _todays_codes(frame)
    _note_unknown_cross_lists(frame, today, ledger)
    label = pl.col("category_code").replace(today)
    listed = pl.element().replace_strict(today, default=None, return_dtype=pl.String)
    frame = frame.with_columns(label, pl.col("categories").list.eval(listed))
    return frame.with_columns(categories=_label_first())


def drop_retired(frame: pl.DataFrame, config: DatasetConfig, ledger: Ledger) -> pl.DataFrame:
    """Drop papers of retired, undivided archives: no present category holds just those."""
    if config.labels == "free":
        return frame
    retired = [c.code for c in taxonomy.categories(active_only=False) if not c.active]
    return ledger.drop(frame, pl.col("category_code").is_in(retired), "retired_category")


def settle_small(frame: pl.DataFrame, config: DatasetConfig, ledger: Ledger) -> pl.DataFrame:
    """Drop, merge or keep the papers of categories with fewer than ``min_papers`` papers.

    A merged paper moves to the first of its own cross-lists that is not small: it is listed
    there, so that its new label is true, if second choice.
    """
    sizes = frame.group_by("category_code").len().sort("category_code")
    small = sizes.filter(pl.col("len") < config.min_papers)
    ledger.notes["small_categories"] = dict(small.iter_rows())
    if config.small == "keep" or small.is_empty():
        return frame
    is_small = pl.col("category_code").is_in(small["category_code"].implode())
    if config.small == "merge":
        large = sizes.filter(pl.col("len") >= config.min_papers)["category_code"]
        moved = _move_to_cross_list(frame, is_small, large)
        ledger.notes["merged_papers"] = (
            frame.filter(is_small).height - moved.filter(is_small).height
        )
        frame = moved
    return ledger.drop(frame, is_small, "small_category")


def _tidy_free_labels(frame: pl.DataFrame) -> pl.DataFrame:
    """Collapse white space; keep the listed labels of a paper only if its own is among them."""
    frame = frame.with_columns(
        _tidy(pl.col("category_code")), pl.col("categories").list.eval(_tidy(pl.element()))
    )
    is_whole = pl.col("categories").list.contains(pl.col("category_code")).fill_null(value=False)
    listed = pl.when(is_whole).then("categories").otherwise(pl.lit([], pl.List(pl.String)))
    return frame.with_columns(categories=listed).with_columns(categories=_label_first())


def _tidy(label: pl.Expr) -> pl.Expr:
    return label.str.replace_all(r"[\s\p{C}]+", " ").str.strip_chars()


def _todays_codes(frame: pl.DataFrame) -> dict[str, str]:
    seen = pl.concat([frame["category_code"], frame["categories"].explode()]).drop_nulls().unique()
    codes = {}
    for code in seen:
        try:
            codes[code] = taxonomy.canonical(code)
        except UnknownCategory:
            continue
    return codes


def _note_unknown_cross_lists(frame: pl.DataFrame, today: dict[str, str], ledger: Ledger) -> None:
    listed = frame["categories"].explode().drop_nulls().value_counts().sort("categories")
    unknown = listed.filter(~pl.col("categories").is_in(list(today)))
    if unknown.height:
        ledger.notes["unknown_cross_lists"] = dict(unknown.iter_rows())


def _label_first() -> pl.Expr:
    label = pl.concat_list(pl.col("category_code").fill_null(""))
    joined = label.list.concat(pl.col("categories").list.drop_nulls())
    return joined.list.filter(pl.element() != "").list.unique(maintain_order=True)


def _move_to_cross_list(frame: pl.DataFrame, is_small: pl.Expr, large: pl.Series) -> pl.DataFrame:
    first_large = (
        pl.col("categories").list.eval(pl.element().filter(pl.element().is_in(large.implode())))
    ).list.first()
    label = (
        pl.when(is_small).then(pl.coalesce(first_large, "category_code")).otherwise("category_code")
    )
    return frame.with_columns(category_code=label).with_columns(categories=_label_first())
