"""Rows that must not become examples: withdrawals, empty abstracts, duplicates."""

from __future__ import annotations

import polars as pl

from classmark.dataset.config import DatasetConfig
from classmark.dataset.contract import keep_contract
from classmark.dataset.labels import canonical_labels, drop_retired, settle_small
from classmark.dataset.ledger import Ledger
from classmark.dataset.schema import word_count

# A withdrawal notice is short. A longer text that mentions one still holds an abstract, or is
# about withdrawal (of bids, of a plate from a bath, of papers).
_MAX_NOTICE_WORDS = 100
_MAX_PLAIN_NOTICE_WORDS = 30
_PAPER = r"(?:paper|article|manuscript|preprint|e-?print|submission|work|note|version)"
_NOTICE = (
    r"(?i)(?:^|[.!?:;]\s*)(?:"
    rf"(?:(?:this|the|our|my)\s+(?:\w+\s+){{0,2}})?{_PAPER}\s+(?:\w+\s+)?"
    r"(?:has|have|is|was|are|were)\s+(?:now\s+|been\s+|being\s+|temporarily\s+)*"
    r"(?:withdrawn|withdrown|retracted|removed\s+by)"
    r"|(?:temporarily\s+)?withdrawn\b"
    r")"
)
_PLAIN_NOTICE = (
    r"(?i)\b(?:withdrawn|retracted|removed)\s+(?:by|at\s+the\s+request\s+of)\s+"
    r"(?:(?:the|its)\s+)?(?:\w+\s+)?(?:author|arxiv)"
)
_OWN_PAPER = rf"(?i)(?:^|\b(?:this|the|my|our)\s+(?:\w+\s+)?){_PAPER}\b"
_WITHDRAW = r"(?i)\b(?:withdr(?:aw|own)(?:n|ed)?|withdrwan)\b"
_NO_ABSTRACT = (
    r"(?i)^(?:(?:no|without)\s+abstract|abstract\s+(?:is\s+)?not\s+available|n/?a)"
    r"(?:\s+(?:is\s+)?(?:available|given|provided))?\W*$"
)


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
    """Drop withdrawal notices: short texts that say that the paper itself was withdrawn."""
    words, text = word_count("summary"), pl.col("summary")
    notice = (words <= _MAX_NOTICE_WORDS) & text.str.contains(_NOTICE)
    own = text.str.contains(_OWN_PAPER) & text.str.contains(_WITHDRAW)
    plain = (words <= _MAX_PLAIN_NOTICE_WORDS) & (text.str.contains(_PLAIN_NOTICE) | own)
    return ledger.drop(frame, notice | plain, "withdrawn")


def drop_empty(frame: pl.DataFrame, ledger: Ledger) -> pl.DataFrame:
    """Drop papers whose abstract holds no word, or only says that there is none."""
    text = pl.col("summary")
    wordless = ~text.str.contains(r"\p{L}") | (pl.col("fingerprint") == "")
    empty = wordless | text.str.contains(_NO_ABSTRACT)
    return ledger.drop(frame, empty, "empty_abstract")


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
