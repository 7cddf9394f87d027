"""Rows that become examples: canonical labels, the data contract, and what is dropped and why."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from classmark import taxonomy
from classmark.bundle.check import MOST_LABEL_CHARS
from classmark.dataset.build.ledger import Ledger
from classmark.dataset.config import DatasetConfig
from classmark.errors import ContractViolation, UnknownCategory


def clean(frame: pl.DataFrame, config: DatasetConfig, ledger: Ledger) -> pl.DataFrame:
    """Return the papers of the dataset, by date and id; every dropped row is counted.

    Retired categories go before duplicates do, or the twin with a usable label would go with the
    one without.
    """
    frame = drop_duplicates(drop_unusable(frame, config, ledger), ledger)
    return settle_small(frame, config, ledger)


def drop_unusable(frame: pl.DataFrame, config: DatasetConfig, ledger: Ledger) -> pl.DataFrame:
    """Return the papers with canonical labels that could be examples, each by itself."""
    frame = canonical_labels(frame, config, ledger)
    frame = keep_contract(frame, config, ledger)
    frame = drop_empty(drop_withdrawn(frame, ledger), ledger)
    frame = drop_undated(frame, config, ledger)
    return drop_retired(frame, config, ledger)


def drop_withdrawn(frame: pl.DataFrame, ledger: Ledger) -> pl.DataFrame:
    """Drop withdrawal notices, as ``judge_texts`` found them."""
    return ledger.drop(frame, pl.col("is_withdrawn"), "withdrawn")


def drop_empty(frame: pl.DataFrame, ledger: Ledger) -> pl.DataFrame:
    """Drop papers whose abstract says nothing, as ``judge_texts`` found them."""
    return ledger.drop(frame, pl.col("is_empty"), "empty_abstract")


def drop_undated(frame: pl.DataFrame, config: DatasetConfig, ledger: Ledger) -> pl.DataFrame:
    """Drop papers without a date where the split or the periods need one."""
    if not config.needs_dates:
        return frame
    return ledger.drop(frame, pl.col("published_date").fill_null("") == "", "no_date")


def drop_duplicates(frame: pl.DataFrame, ledger: Ledger) -> pl.DataFrame:
    """Return the papers by date and id, of each id and each abstract only the earliest.

    The abstract decides, not the title: the same abstract in two splits is a leak.
    """
    order = ["published_date", "id", "fingerprint", "title", "category_code"]
    frame = frame.sort(order, nulls_last=True, maintain_order=True)
    first_ids = frame.unique("id", keep="first", maintain_order=True)
    frame = ledger.settle(frame, first_ids, "duplicate_id")
    first_texts = frame.unique("fingerprint", keep="first", maintain_order=True)
    return ledger.settle(frame, first_texts, "duplicate_text")


def drop_known(
    frame: pl.DataFrame, known: pl.DataFrame, ledger: Ledger, prefix: str = "known"
) -> pl.DataFrame:
    """Drop papers whose id or abstract is among others, which have ``id`` and ``fingerprint``."""
    same_id = pl.col("id").is_in(known["id"].implode())
    frame = ledger.drop(frame, same_id, f"{prefix}_id")
    same_text = pl.col("fingerprint").is_in(known["fingerprint"].implode())
    return ledger.drop(frame, same_text & (pl.col("fingerprint") != ""), f"{prefix}_text")


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


def settle_small(
    frame: pl.DataFrame, config: DatasetConfig, ledger: Ledger, settled: Sequence[str] = ()
) -> pl.DataFrame:
    """Drop, merge or keep the papers of categories with fewer than ``min_papers`` papers.

    Categories that are ``settled`` are not small, however few papers they have.

    A merged paper moves to the first of its own cross-lists that is not small: it is listed
    there, so that its new label is true, if second choice.
    """
    sizes = frame.group_by("category_code").len().sort("category_code")
    is_large = (pl.col("len") >= config.min_papers) | pl.col("category_code").is_in(settled)
    small = sizes.filter(~is_large)
    ledger.notes["small_categories"] = dict(small.iter_rows())
    if config.small == "keep" or small.is_empty():
        return frame
    is_small = pl.col("category_code").is_in(small["category_code"].implode())
    if config.small == "merge":
        large = pl.Series([*sizes.filter(is_large)["category_code"], *settled], dtype=pl.String)
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


_FAULTS = {
    "no_id": "it has no id",
    "no_text": "it has neither title nor abstract",
    "no_category": "it has no category",
    "unknown_category": "its category is unknown (for labels of your own: --labels free)",
    "long_category": f"its label has more than {MOST_LABEL_CHARS} characters",
    "bad_date": "a date is not written as YYYY-MM-DD, or does not exist",
    "label_not_listed": "its label is not among its categories",
}
"""What is wrong by name of the check, in the order in which a row is counted."""


def keep_contract(frame: pl.DataFrame, config: DatasetConfig, ledger: Ledger) -> pl.DataFrame:
    """Return the rows that keep the contract; the others are counted by the check they break.

    A row that breaks several checks counts under the first of them.

    Raises:
        ContractViolation: a row breaks the contract, and the build is strict.
    """
    broken = _broken_checks(frame, config)
    if broken.is_empty():
        return frame
    if config.strict:
        _raise_first(frame, broken)
    _note_unknown_labels(frame, broken, ledger)
    for reason in broken["check"].value_counts(sort=True)["check"]:
        rows = broken.filter(pl.col("check") == reason)
        ledger.count(frame, _without(frame, rows), reason)
    return _without(frame, broken)


def _without(frame: pl.DataFrame, broken: pl.DataFrame) -> pl.DataFrame:
    placed = frame.with_row_index("position")
    return placed.join(broken, left_on="position", right_on="row", how="anti").drop("position")


def _note_unknown_labels(frame: pl.DataFrame, broken: pl.DataFrame, ledger: Ledger) -> None:
    rows = broken.filter(pl.col("check") == "unknown_category")["row"]
    labels = frame["category_code"].gather(rows).value_counts().sort("category_code")
    if labels.height:
        ledger.notes["unknown_categories"] = dict(labels.iter_rows())


def _contract(config: DatasetConfig) -> dict[str, pl.Expr]:
    """Return what must hold of each row, by the name of the check, in the order that counts."""
    known = [c.code for c in taxonomy.categories(active_only=False)]
    label = pl.col("category_code")
    is_valid = (
        {"unknown_category": label.is_in(known)}
        if config.labels == "arxiv"
        else {"long_category": label.str.len_chars() <= MOST_LABEL_CHARS}
    )
    return {
        "no_id": pl.col("id") != "",
        "no_text": pl.col("text_chars") > 0,
        "no_category": label != "",
        **is_valid,
        "bad_date": _is_iso_date("published_date") & _is_iso_date("updated_date"),
        "label_not_listed": pl.col("categories").list.contains(label),
    }


def _is_iso_date(name: str) -> pl.Expr:
    column = pl.col(name).fill_null("")
    shape = column.str.contains(r"^\d{4}-\d\d-\d\d$")
    return (column == "") | (shape & column.str.to_date("%Y-%m-%d", strict=False).is_not_null())


def _broken_checks(frame: pl.DataFrame, config: DatasetConfig) -> pl.DataFrame:
    """Return ``row`` (uint32) and ``check``: the first check that each bad row breaks."""
    checks = _contract(config).items()
    first = pl.coalesce(
        pl.when(~holds.fill_null(value=False)).then(pl.lit(name)) for name, holds in checks
    )
    checked = frame.with_columns(pl.col("category_code").fill_null(""))
    return checked.select(check=first).with_row_index("row").drop_nulls()


def _raise_first(frame: pl.DataFrame, broken: pl.DataFrame) -> None:
    row, check = broken.row(0)
    paper = frame.row(row, named=True)
    label = paper["category_code"]
    if check == "unknown_category":
        taxonomy.canonical(label)  # raises, and names the nearest categories
    raise ContractViolation(
        f"paper {paper['id']!r} (category {label!r}, published {paper['published_date']!r}) breaks "
        f"the contract: {_FAULTS[check]}. Correct it, or leave out --strict to skip and count it."
    )
