"""The columns of a dataset: as papers come in, and as they are written."""

from __future__ import annotations

import polars as pl

from classmark.dataset.config import LabelSpace

SPLITS = ("train", "valid", "test")

INTAKE_SCHEMA: dict[str, pl.DataType] = {
    "id": pl.String(),
    "title": pl.String(),
    "summary": pl.String(),
    "category_code": pl.String(),
    "categories": pl.List(pl.String()),
    "published_date": pl.String(),
    "updated_date": pl.String(),
    "authors": pl.String(),
    "fingerprint": pl.String(),
    "place": pl.UInt32(),
}
"""``categories`` may be empty, dates may be null; ``fingerprint`` is that of the abstract.

``place`` is the line, row or item in the source."""

TEXT_COLUMNS = ("summary", "authors")
"""Columns that nothing is decided on: they wait on disk while the others are in memory."""

KAGGLE_COLUMNS = (
    "id",
    "title",
    "category",
    "category_code",
    "published_date",
    "updated_date",
    "authors",
    "first_author",
    "summary",
    "summary_word_count",
)
INVENTED_ID_PREFIX = "invented-"
"""Begins the id of every paper of the sample generator, so that it is known in other files too."""

WRITTEN_COLUMNS = (*KAGGLE_COLUMNS, "categories", "period")

# A free label may hold blanks, so blanks cannot part free labels; a tab can, since white space
# inside a label is collapsed.
_SEPARATORS: dict[LabelSpace, str] = {"arxiv": " ", "free": "\t"}


def categories_separator(labels: LabelSpace) -> str:
    """Return the character between the categories of one paper in the written column."""
    return _SEPARATORS[labels]


def word_count(column: str) -> pl.Expr:
    """Return the number of blank-separated words, int32."""
    return pl.col(column).str.count_matches(r"\S+").cast(pl.Int32)
