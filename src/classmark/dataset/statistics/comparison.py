"""Two datasets side by side: what has moved, by how much, and one number for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import log2
from typing import Any

import polars as pl

from classmark.dataset.statistics.statistics import DatasetStatistics, Measured

_SHOWN_WORDS = 15


@dataclass(frozen=True, kw_only=True)
class Shift:
    """One category in both datasets; shares are of all papers, 0..1.

    Attributes:
        code: the label.
        before: share in the dataset that is compared with.
        after: share in this one.
    """

    code: str
    before: float
    after: float

    @property
    def change(self) -> float:
        """Return after - before, -1..1."""
        return self.after - self.before


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How a dataset (after) differs from another (before).

    Divergences are Jensen-Shannon in bits, 0 (the same) to 1 (nothing in common):
    ``JSD(P, Q) = 1/2 sum p log2(p / m) + 1/2 sum q log2(q / m)`` with ``m = (p + q) / 2``.

    Attributes:
        before: the statistics of the other dataset.
        shifts: of all categories in either, the largest change first.
        category_divergence: of the shares of categories.
        year_divergence: of the shares of years.
        word_divergence: of the shares of words.
        new_words: share of the running words that the other vocabulary does not have, 0..1.
        words: (word, share before, share after, part of the divergence), the largest part first.
        in_both: papers whose id is in both.
    """

    before: DatasetStatistics
    shifts: tuple[Shift, ...]
    category_divergence: float
    year_divergence: float
    word_divergence: float
    new_words: float
    words: tuple[tuple[str, float, float, float], ...]
    in_both: int

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON object."""
        shifts = [{**asdict(shift), "change": shift.change} for shift in self.shifts]
        return {**asdict(self), "shifts": shifts}


def compare(after: Measured, before: Measured) -> Comparison:
    """Return how ``after`` differs from ``before``."""
    new, old = after.statistics, before.statistics
    words = _word_table(after, before)
    return Comparison(
        before=old,
        shifts=_shifts(new.categories, old.categories),
        category_divergence=divergence(new.categories, old.categories),
        year_divergence=divergence(new.years, old.years),
        word_divergence=float(words["part"].sum()),
        new_words=float(words.filter(pl.col("before") == 0)["after"].sum()),
        words=tuple(words.head(_SHOWN_WORDS).iter_rows()),
        in_both=int(after.ids.is_in(before.ids.implode()).sum()),
    )


def divergence(one: Mapping[str, int], other: Mapping[str, int]) -> float:
    """Return the Jensen-Shannon divergence of two tables of counts in bits, 0..1."""
    ps, qs = _shares(one), _shares(other)
    total = 0.0
    for key in {*ps, *qs}:
        p, q = ps.get(key, 0.0), qs.get(key, 0.0)
        total += sum(x / 2 * log2(2 * x / (p + q)) for x in (p, q) if x)
    return min(1.0, max(0.0, total))


def _shares(counts: Mapping[str, int]) -> dict[str, float]:
    total = sum(counts.values())
    return {key: count / total for key, count in counts.items()}


def _shifts(after: Mapping[str, int], before: Mapping[str, int]) -> tuple[Shift, ...]:
    new, old = _shares(after), _shares(before)
    shifts = [
        Shift(code=code, before=old.get(code, 0.0), after=new.get(code, 0.0))
        for code in {*new, *old}
    ]
    return tuple(sorted(shifts, key=lambda shift: (-abs(shift.change), shift.code)))


def _word_table(after: Measured, before: Measured) -> pl.DataFrame:
    """Return word, before, after (shares) and part (bits), the largest part first."""
    tables = [
        table.vocabulary.select("word", (pl.col("count") / pl.col("count").sum()).alias(name))
        for table, name in ((before, "before"), (after, "after"))
    ]
    joined = tables[0].join(tables[1], on="word", how="full", coalesce=True).fill_null(0.0)
    both = pl.col("before") + pl.col("after")
    part = pl.lit(0.0)
    for name in ("before", "after"):
        x = pl.col(name)
        part = part + pl.when(x > 0).then(x / 2 * (2 * x / both).log(2)).otherwise(0.0)
    return joined.with_columns(part.alias("part")).sort(["part", "word"], descending=[True, False])
