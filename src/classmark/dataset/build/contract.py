"""The data contract: what every row must satisfy before it may enter a dataset."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandera.polars as pa
import polars as pl
from pandera.errors import SchemaErrors

from classmark import taxonomy
from classmark.bundle.check import MOST_LABEL_CHARS
from classmark.dataset.config import DatasetConfig
from classmark.dataset.build.ledger import Ledger
from classmark.errors import ContractViolation

_REMEDIES = {
    "no_id": "it has no id",
    "no_text": "it has neither title nor abstract",
    "no_category": "it has no category",
    "unknown_category": "its category is unknown (for labels of your own: --labels free)",
    "long_category": f"its label has more than {MOST_LABEL_CHARS} characters",
    "bad_date": "a date is not written as YYYY-MM-DD, or is no day of the calendar",
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


def paper_contract(config: DatasetConfig) -> pa.DataFrameSchema:
    """Return the schema; it is checked on the columns that ``_checked_columns`` makes."""
    known = [c.code for c in taxonomy.categories(active_only=False)]
    label_checks = [_check("no_category", lambda column: column != "")]
    if config.labels == "arxiv":
        in_taxonomy = _check("unknown_category", lambda c: c.is_in(known) | (c == ""))
        label_checks.append(in_taxonomy)
    else:
        label_checks.append(
            _check("long_category", lambda c: c.str.len_chars() <= MOST_LABEL_CHARS)
        )
    listed = pa.Check(_label_is_listed, name="label_not_listed")
    return pa.DataFrameSchema(
        {
            "id": pa.Column(pl.String, checks=[_check("no_id", lambda column: column != "")]),
            "text_chars": pa.Column(pl.UInt32, checks=[_check("no_text", lambda c: c > 0)]),
            "category_code": pa.Column(pl.String, checks=label_checks),
            "published_date": pa.Column(pl.String, checks=[_check("bad_date", _is_iso_date)]),
            "updated_date": pa.Column(pl.String, checks=[_check("bad_date", _is_iso_date)]),
            "categories": pa.Column(pl.List(pl.String)),
        },
        checks=[listed],
        strict=True,
    )


def _check(name: str, holds: Callable[[pl.Expr], pl.Expr]) -> pa.Check:
    return pa.Check(lambda data: data.lazyframe.select(holds(pl.col(data.key))), name=name)


def _is_iso_date(column: pl.Expr) -> pl.Expr:
    shape = column.str.contains(r"^\d{4}-\d\d-\d\d$")
    return (column == "") | (shape & column.str.to_date("%Y-%m-%d", strict=False).is_not_null())


def _label_is_listed(data: Any) -> Any:
    label = pl.col("category_code")
    return data.lazyframe.select(pl.col("categories").list.contains(label) | (label == ""))


def _checked_columns(frame: pl.DataFrame) -> pl.DataFrame:
    texts = ("category_code", "published_date", "updated_date")
    return frame.select(
        "id",
        "text_chars",
        *(pl.col(c).fill_null("") for c in texts),
        "categories",
    )


def _broken_checks(frame: pl.DataFrame, config: DatasetConfig) -> pl.DataFrame:
    """Return ``row`` (uint32) and ``check``: the first check that each bad row breaks."""
    try:
        paper_contract(config).validate(_checked_columns(frame), lazy=True)
    except SchemaErrors as error:
        rank = pl.col("check").replace_strict({c: i for i, c in enumerate(_REMEDIES)})
        failures: pl.DataFrame = error.failure_cases.select(
            pl.col("index").cast(pl.UInt32).alias("row"), "check"
        )
        return failures.sort("row", rank).unique("row", keep="first", maintain_order=True)
    return pl.DataFrame(schema={"row": pl.UInt32, "check": pl.String})


def _raise_first(frame: pl.DataFrame, broken: pl.DataFrame) -> None:
    row, check = broken.row(0)
    paper = frame.row(row, named=True)
    label = paper["category_code"]
    if check == "unknown_category":
        taxonomy.canonical(label)  # raises, and names the nearest categories
    raise ContractViolation(
        f"paper {paper['id']!r} (category {label!r}, published {paper['published_date']!r}) breaks "
        f"the contract: {_REMEDIES[check]}. Mend it, or leave --strict out to skip and count it."
    )
