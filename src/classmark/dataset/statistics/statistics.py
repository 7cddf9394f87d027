"""What is in a dataset, in numbers, and how it differs from another dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import log2
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl

from classmark.dataset.config import LabelSpace
from classmark.dataset.folder import categories_separator, load_manifest, read_frame
from classmark.dataset.statistics.tally import TextTally, tally_texts
from classmark.errors import InvalidDataset
from classmark.records import SILENT, DatasetManifest, Progress

HISTOGRAM_STEP_WORDS = 20
HISTOGRAM_END_WORDS = 400
UNKNOWN_YEAR = "unknown"

_SHOWN_PAIRS = 10
_SHOWN_IDS = 5
_QUANTILES = {"p5": 0.05, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95}


@dataclass(frozen=True, kw_only=True)
class Language:
    """A light heuristic, no detector: it knows English function words and the Latin script.

    Attributes:
        judged: papers with ``MIN_JUDGED_WORDS`` or more words in title and abstract.
        not_english: of them, those in which fewer than ``MIN_ENGLISH_SHARE`` of the words are
            English function words (the, of, and ...).
        not_latin: papers with more than ``MAX_FOREIGN_SHARE`` of their letters in a script that is
            neither Latin nor Greek (which formulas use).
        examples: the first ids of either kind.
    """

    judged: int
    not_english: int
    not_latin: int
    examples: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Words:
    """Words of titles and abstracts, in lower case.

    Attributes:
        running: all.
        distinct: different ones.
        once: those that occur once.
    """

    running: int
    distinct: int
    once: int


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """Papers that occur twice, before and after the build.

    Attributes:
        dropped_ids: dropped by the build since their id was there already.
        dropped_texts: dropped by the build since their abstract was.
        same_title: papers left whose title another one has.
        near: papers left whose abstract begins or ends with the same eight words as another, and
            has at least ``NEAR_DUPLICATE_SHARE`` of the words of both in common (Jaccard).
        examples: pairs of ids.
    """

    dropped_ids: int
    dropped_texts: int
    same_title: int
    near: int
    examples: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class DatasetStatistics:
    """One dataset in numbers; all counts are papers unless they say otherwise.

    Attributes:
        name: of the folder.
        digest: of the manifest.
        generated: whether papers are invented.
        read: records read by the build.
        kept: in the splits.
        dropped: by reason.
        splits: by name.
        categories: by label, largest first.
        years: by year of the first version, "unknown" last.
        abstract_words: mean, p5, p25, median, p75, p95, max of words in an abstract.
        title_words: the same of titles.
        abstract_histogram: by lower end of a bin of 20 words; the last bin is open.
        listed: by number of categories that a paper is listed in.
        pairs: (label, other category, papers) of the most frequent cross-lists.
        language: what the heuristic found.
        words: of the vocabulary.
        duplicates: before and after the build.
    """

    name: str
    digest: str
    generated: bool
    read: int
    kept: int
    dropped: dict[str, int]
    splits: dict[str, int]
    categories: dict[str, int]
    years: dict[str, int]
    abstract_words: dict[str, float]
    title_words: dict[str, float]
    abstract_histogram: dict[int, int]
    listed: dict[int, int]
    pairs: tuple[tuple[str, str, int], ...]
    language: Language
    words: Words
    duplicates: Duplicates

    @property
    def cross_listed(self) -> int:
        """Papers that are listed in two categories or more."""
        return sum(count for number, count in self.listed.items() if number > 1)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON object."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Statistics, with what a comparison needs beside them.

    Attributes:
        statistics: the numbers.
        vocabulary: ``word`` and ``count``.
        ids: of all papers.
    """

    statistics: DatasetStatistics
    vocabulary: pl.DataFrame
    ids: pl.Series


def measure(directory: Path, progress: Progress = SILENT) -> Measured:
    """Count what is in a dataset folder; its files are verified first.

    Raises:
        InvalidDataset: no dataset folder, or a changed or unreadable one.
    """
    manifest = load_manifest(directory)
    files = [directory / file.file for file in manifest.splits.values()]
    frame = pl.concat([read_frame(path, texts=False) for path in files], rechunk=True)
    if frame.is_empty():
        raise InvalidDataset(f"{directory} holds no paper. Build the dataset again.")
    tally = tally_texts(files, frame["id"], progress)
    statistics = DatasetStatistics(
        name=directory.resolve().name,
        digest=manifest.digest,
        generated=manifest.generated,
        read=manifest.read,
        kept=manifest.kept,
        dropped=manifest.dropped,
        splits={name: file.papers for name, file in manifest.splits.items()},
        categories=_counted(frame["category_code"]),
        years=_years(frame["published_date"]),
        abstract_words=_lengths(tally.papers["abstract_words"]),
        title_words=_lengths(tally.papers["title_words"]),
        abstract_histogram=_histogram(tally.papers["abstract_words"]),
        **_cross_lists(frame, manifest),
        language=_language(tally, frame["id"]),
        words=_words(tally.vocabulary),
        duplicates=_duplicates(tally, frame["id"], manifest),
    )
    return Measured(statistics=statistics, vocabulary=tally.vocabulary, ids=frame["id"])


def _counted(column: pl.Series) -> dict[str, int]:
    counts = Counter(column.to_list())
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _years(dates: pl.Series) -> dict[str, int]:
    counts = Counter(dates.str.slice(0, 4).to_list())
    unknown = counts.pop("", 0)
    years = dict(sorted(counts.items()))
    return {**years, UNKNOWN_YEAR: unknown} if unknown else years


def _lengths(words: pl.Series) -> dict[str, float]:
    quantiles = {name: float(words.quantile(q) or 0) for name, q in _QUANTILES.items()}
    mean = round(float(cast("float", words.mean())), 1)
    return {"mean": mean, **quantiles, "max": float(cast("int", words.max()))}


def _histogram(words: pl.Series) -> dict[int, int]:
    step = HISTOGRAM_STEP_WORDS
    counts = Counter((words.clip(0, HISTOGRAM_END_WORDS) // step * step).to_list())
    return {lower: counts[lower] for lower in range(0, HISTOGRAM_END_WORDS + 1, step)}


def _cross_lists(frame: pl.DataFrame, manifest: DatasetManifest) -> dict[str, Any]:
    separator = categories_separator(cast("LabelSpace", manifest.label_space))
    listed = frame.select("category_code", pl.col("categories").str.split(separator).alias("other"))
    numbers = Counter(listed["other"].list.len().to_list())
    pairs = (
        listed.explode("other")
        .filter((pl.col("other") != pl.col("category_code")) & (pl.col("other") != ""))
        .group_by("category_code", "other")
        .len()
        .sort(["len", "category_code", "other"], descending=[True, False, False])
        .head(_SHOWN_PAIRS)
    )
    return {"listed": dict(sorted(numbers.items())), "pairs": tuple(pairs.iter_rows())}


def _language(tally: TextTally, ids: pl.Series) -> Language:
    papers = tally.papers
    found = ids.filter(papers["not_english"] | papers["not_latin"])
    sums = papers.select("judged", "not_english", "not_latin").sum().row(0, named=True)
    return Language(**sums, examples=tuple(found.head(_SHOWN_IDS)))


def _words(vocabulary: pl.DataFrame) -> Words:
    counts = vocabulary["count"]
    return Words(running=int(counts.sum()), distinct=counts.len(), once=int((counts == 1).sum()))


def _duplicates(tally: TextTally, ids: pl.Series, manifest: DatasetManifest) -> Duplicates:
    names = ("one", "other")
    pairs = pl.DataFrame({name: ids[tally.near[:, i]] for i, name in enumerate(names)})
    return Duplicates(
        dropped_ids=manifest.dropped.get("duplicate_id", 0),
        dropped_texts=manifest.dropped.get("duplicate_text", 0),
        same_title=tally.same_title,
        near=len(np.unique(tally.near)),
        examples=tuple(pairs.unique().sort(names).head(_SHOWN_IDS).iter_rows()),
    )


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
