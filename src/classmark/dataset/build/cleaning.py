"""Rows that must not become examples: withdrawals, empty abstracts, duplicates."""

from __future__ import annotations

import polars as pl

from classmark.dataset.config import DatasetConfig
from classmark.dataset.build.contract import keep_contract
from classmark.dataset.build.labels import canonical_labels, drop_retired, settle_small
from classmark.dataset.build.ledger import Ledger


def clean(frame: pl.DataFrame, config: DatasetConfig, ledger: Ledger) -> pl.DataFrame:
    """Return the papers of the dataset, by date and id; every dropped row is counted.

    Retired categories go before duplicates do, or the twin with a usable label would go with the
    one without.
    """
    frame = canonical_labels(frame, config, ledger)
    frame = keep_contract(frame, config, ledger)
    frame = drop_empty(drop_withdrawn(frame, ledger), ledger)
    frame = drop_undated(frame, config, ledger)
    frame = drop_retired(frame, config, ledger)
    frame = drop_duplicates(frame, ledger)
    return settle_small(frame, config, ledger)


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
