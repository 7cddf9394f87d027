"""The account of a build: which rows were dropped, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import polars as pl

from classmark.errors import ContractViolation


class Ledger:
    """Counts every dropped row under one reason, so that the sums can be checked.

    Attributes:
        read: rows read, good or bad.
        dropped: rows dropped, by reason.
        notes: what else the manifest should tell of the build, as JSON values.
    """

    def __init__(self, read: int, dropped: Mapping[str, int] | None = None) -> None:
        self.read = read
        self.dropped: Counter[str] = Counter(dropped or {})
        self.notes: dict[str, Any] = {}

    def drop(self, frame: pl.DataFrame, condition: pl.Expr, reason: str) -> pl.DataFrame:
        """Return the rows where the condition is not true; the others are counted."""
        return self.settle(frame, frame.filter(~condition.fill_null(value=False)), reason)

    def settle(self, before: pl.DataFrame, after: pl.DataFrame, reason: str) -> pl.DataFrame:
        """Return ``after``; the rows that it lacks are counted."""
        if after.height < before.height:
            self.dropped[reason] += before.height - after.height
        return after

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
