"""The account of a build: which rows were dropped, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import polars as pl

from classmark.errors import ContractViolation

LARGE_SHARE = 0.05
"""What drops more of the rows than this for one reason is reported with an example."""

_EXAMPLE_COLUMNS = ("row", "place", "id", "title", "category_code", "published_date")
_NAME_LABEL = "Name the column of the label: --columns category_code=NAME."
_ADVICE = {
    "unknown_category": ("category_code", "For labels of your own give --labels free."),
    "no_category": ("title", _NAME_LABEL),
    "long_category": ("category_code", _NAME_LABEL),
    "retired_category": (
        "category_code",
        "No present category holds just these papers. File them under one, or go without them.",
    ),
    "small_category": ("category_code", "Lower --min-papers, or give --small merge or keep."),
    "bad_date": ("published_date", "Write dates as YYYY-MM-DD."),
    "no_date": (
        "title",
        "Name the column of the date (--columns published_date=NAME), or leave out --periods and "
        "--split time.",
    ),
    "empty_abstract": ("title", "Name the column of the abstract: --columns abstract=NAME."),
    "duplicate_id": ("id", "Name the column of the id (--columns id=NAME) if it is another one."),
    "duplicate_text": ("title", "Of papers with the same abstract only the earliest is kept."),
    "known_id": ("id", "The dataset has these papers, and keeps them as they are."),
    "known_text": ("title", "The dataset has these abstracts, and keeps the papers as they are."),
    "feedback_without_text": ("title", "Run the service with --journal-text to keep texts."),
    "feedback_few_agree": ("title", "Ask for more feedback, lower --agree, or give --trust."),
    "feedback_disputed": ("title", "The clients name different categories: lower --agreement."),
    "feedback_client_share": (
        "title",
        "One client may not label more of the new papers: raise --client-share.",
    ),
    "feedback_category_share": (
        "title",
        "One client may not label more of a category: raise --category-share.",
    ),
    "withdrawn": ("title", "Withdrawal notices are not papers; there is nothing to do."),
}
"""The column to show of a dropped row and what to do about it, by reason."""

ADVICE_TO_EXTEND = {
    "unknown_category": "The dataset has arXiv's categories: correct these, or build another "
    "dataset with --labels free.",
    "small_category": "Add more papers of these categories, which are new to the dataset.",
    "no_date": "Name the column of the date: --columns published_date=NAME.",
}
"""What to do instead where a dataset is extended, a command without the options of a build."""

_SHOWN_CHARS = 60


class Ledger:
    """Counts every dropped row under one reason, so that the sums can be checked.

    Attributes:
        read: rows read, good or bad.
        dropped: rows dropped, by reason.
        notes: what else the manifest should tell of the build, as JSON values.
        examples: the first row that was dropped for a reason, if that drops many.
    """

    def __init__(self, read: int, dropped: Mapping[str, int] | None = None) -> None:
        self.read = read
        self.dropped: Counter[str] = Counter(dropped or {})
        self.notes: dict[str, Any] = {}
        self.examples: dict[str, dict[str, Any]] = {}

    def drop(self, frame: pl.DataFrame, condition: pl.Expr, reason: str) -> pl.DataFrame:
        """Return the rows where the condition is not true; the others are counted."""
        return self.settle(frame, frame.filter(~condition.fill_null(value=False)), reason)

    def settle(self, before: pl.DataFrame, after: pl.DataFrame, reason: str) -> pl.DataFrame:
        """Return ``after``; the rows that it lacks are counted."""
        if after.height < before.height:
            self.count(before, after, reason)
        return after

    def count(self, before: pl.DataFrame, after: pl.DataFrame, reason: str) -> None:
        """Count the rows that ``after`` lacks; remember the first one if they are many."""
        self.dropped[reason] += before.height - after.height
        if self.is_large(reason) and reason not in self.examples and "row" in before.columns:
            lost = before.select(set(_EXAMPLE_COLUMNS) & set(before.columns))
            [self.examples[reason]] = (
                lost.join(after, on="row", how="anti").sort("row").head(1).to_dicts()
            )

    def is_large(self, reason: str) -> bool:
        """Return whether a reason dropped so many rows that the user should know."""
        return self.dropped[reason] > LARGE_SHARE * self.read

    def large_drops(
        self,
        where: Callable[[int, int], str],
        first_bad: Mapping[str, str],
        advice: Mapping[str, str] = MappingProxyType({}),
    ) -> list[dict[str, Any]]:
        """Return what drops many rows, as JSON values: how many, an example, and what to do.

        Args:
            where: returns where a row is in its source.
            first_bad: the first record of each kind that cannot be read, in words.
            advice: what to do, by reason, where it is not what a build advises.
        """
        advised = {reason: words for reason, (_, words) in _ADVICE.items()} | dict(advice)
        return [
            {
                "reason": reason,
                "rows": count,
                "share": round(count / self.read, 4),
                "example": first_bad.get(reason) or self._example(reason, where),
                "advice": advised.get(reason, "Correct these records in their file."),
            }
            for reason, count in self.dropped.most_common()
            if self.is_large(reason)
        ]

    def _example(self, reason: str, where: Callable[[int, int], str]) -> str:
        row = self.examples.get(reason)
        if row is None:
            return "there is none."
        column = _ADVICE.get(reason, ("title", ""))[0]
        value = str(row.get(column) or "")
        cut = value if len(value) <= _SHOWN_CHARS else f"{value[:_SHOWN_CHARS]}…"
        return f"{where(row['row'], row['place'])}, with the {column} {cut!r}."

    def check(self, kept: int) -> None:
        """Check that every row read was either kept or dropped for a reason.

        Raises:
            ContractViolation: the sums differ.
        """
        lost = sum(self.dropped.values())
        if self.read != kept + lost:
            raise ContractViolation(
                f"{self.read} rows were read, but {kept} kept and {lost} dropped. "
                "This is a fault in classmark: please report it with the command you ran."
            )

    def account(self, kept: int) -> str:
        """Return the account in one sentence, the most frequent reason first."""
        reasons = [f"{reason} {count}" for reason, count in self.dropped.most_common()]
        dropped = f"; dropped: {', '.join(reasons)}" if reasons else ""
        return f"{self.read} rows were read, {kept} kept{dropped}."
