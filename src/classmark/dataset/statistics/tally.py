"""What is counted in the texts of a dataset, part by part: lengths, words, near-duplicates.

Near-duplicates take a second look at the papers whose abstract begins or ends like another one. In
memory are their words as hashes of 32 bits: two different words pass for one in about one pair
of a million.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from numpy.typing import NDArray

from classmark.dataset.folder import word_count
from classmark.records import Progress
from classmark.runtime.features import FUNCTION_WORDS

MIN_ENGLISH_SHARE = 0.10
MAX_FOREIGN_SHARE = 0.20
MIN_JUDGED_WORDS = 20
NEAR_DUPLICATE_SHARE = 0.8

_SLICE_PAPERS = 20_000
_EDGE_WORDS = 8
_WORD = r"\p{L}[\p{L}'-]*"

Rows = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class TextTally:
    """What was counted in n papers.

    Attributes:
        papers: n rows: ``title_words``, ``abstract_words`` (int32), ``judged``, ``not_english``,
            ``not_latin`` (bool).
        vocabulary: ``word`` and ``count``, the most frequent first.
        same_title: papers whose title another one has.
        near: int64 [pairs, 2], rows of near-duplicates.
    """

    papers: pl.DataFrame
    vocabulary: pl.DataFrame
    same_title: int
    near: Rows


def tally_texts(files: Sequence[Path], ids: pl.Series, progress: Progress) -> TextTally:
    """Count what is in the texts of split files.

    Args:
        files: Parquet, read twice.
        ids: of their papers, in order; they say which near-duplicates are compared.
        progress: of the papers counted.
    """
    counts: list[pl.DataFrame] = []
    papers, titles, edges = [], [], []
    progress.step("counting words")
    for texts in _slices(files):
        papers.append(_facts(texts))
        titles.append(texts.select(_words("title").list.join(" ")).to_series())
        edges.append(_edges(texts))
        words = texts.select(_words("text").alias("word")).explode("word").drop_nulls()
        counts.append(words.group_by("word").len("count"))
        if len(counts) > 8:  # keep memory at the size of the vocabulary
            counts = [_summed(counts)]
        progress.advance(texts.height)
    title = pl.concat(titles)
    progress.step("looking for near-duplicates")
    return TextTally(
        papers=pl.concat(papers),
        vocabulary=_summed(counts),
        same_title=int(title.filter(title != "").is_duplicated().sum()),
        near=_near_pairs(pl.concat(edges).with_columns(ids.alias("id")), lambda: _slices(files)),
    )


def _slices(files: Sequence[Path]) -> Iterator[pl.DataFrame]:
    """Yield ``title``, ``summary``, and ``text``, both in lower case."""
    text = pl.concat_str("title", "summary", separator="\n").str.to_lowercase()
    for path in files:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_SLICE_PAPERS, columns=["title", "summary"]):
                frame: Any = pl.from_arrow(batch)
                yield frame.with_columns(text=text)


def _words(column: str) -> pl.Expr:
    return pl.col(column).str.to_lowercase().str.extract_all(_WORD)


def _summed(counts: list[pl.DataFrame]) -> pl.DataFrame:
    total = pl.concat(counts).group_by("word").agg(pl.col("count").sum())
    return total.sort(["count", "word"], descending=[True, False])


def _facts(texts: pl.DataFrame) -> pl.DataFrame:
    word = pl.col("word")
    known = word.list.eval(pl.element().is_in(list(FUNCTION_WORDS))).list.mean()
    letters = pl.col("text").str.count_matches(r"\p{L}")
    own = pl.col("text").str.count_matches(r"[\p{Latin}\p{Greek}]")
    is_judged = word.list.len() >= MIN_JUDGED_WORDS
    return texts.with_columns(word=_words("text")).select(
        word_count("title").alias("title_words"),
        word_count("summary").alias("abstract_words"),
        is_judged.alias("judged"),
        (is_judged & (known < MIN_ENGLISH_SHARE)).alias("not_english"),
        (letters.cast(pl.Int64) - own > MAX_FOREIGN_SHARE * letters).alias("not_latin"),
    )


def _edges(texts: pl.DataFrame) -> pl.DataFrame:
    """Return ``head`` and ``tail``: hashes of the first and last words, null in short abstracts."""
    words = pl.col("word")
    is_long = words.list.len() >= MIN_JUDGED_WORDS
    parts = {"head": words.list.head(_EDGE_WORDS), "tail": words.list.tail(_EDGE_WORDS)}
    hashed = {name: part.list.join(" ").hash() for name, part in parts.items()}
    return texts.select(word=_words("summary")).select(
        **{name: pl.when(is_long).then(part) for name, part in hashed.items()}
    )


def _near_pairs(edges: pl.DataFrame, slices: Callable[[], Iterator[pl.DataFrame]]) -> Rows:
    """Return pairs of rows; each abstract is compared with the next that shares an edge with it."""
    pairs = [_neighbours(edges, edge) for edge in ("head", "tail")]
    rows = np.unique(np.concatenate(pairs))
    word_sets = _word_sets(rows, slices())
    near = [np.zeros((0, 2), np.int64)]
    for both in pairs:
        for first in range(0, len(both), _SLICE_PAPERS):
            some = both[first : first + _SLICE_PAPERS]
            one, other = (
                word_sets[np.searchsorted(rows, column)].alias(name)
                for column, name in zip(some.T, ("one", "other"), strict=True)
            )
            shared = pl.col("one").list.set_intersection("other").list.len().cast(pl.Int64)
            union = pl.col("one").list.len() + pl.col("other").list.len() - shared
            likeness = pl.DataFrame([one, other]).select(shared / union).to_series().to_numpy()
            near.append(some[likeness >= NEAR_DUPLICATE_SHARE])
    return np.concatenate(near)


def _neighbours(edges: pl.DataFrame, edge: str) -> Rows:
    """Return pairs of rows with the same edge: each with the next by id."""
    keyed = edges.select(edge, "id").with_row_index("row").drop_nulls(edge)
    shared = keyed.filter(pl.col(edge).is_duplicated()).sort(edge, "id")
    row, key = shared["row"].to_numpy().astype(np.int64), shared[edge].to_numpy()
    same = key[1:] == key[:-1]
    return np.stack([row[:-1][same], row[1:][same]], axis=1)


def _word_sets(rows: Rows, slices: Iterator[pl.DataFrame]) -> pl.Series:
    """Return the distinct words of the abstracts of some rows, as hashes: list of uint32."""
    sets = [pl.Series("words", [], dtype=pl.List(pl.UInt32))]
    first = 0
    if not len(rows):
        return sets[0]
    for texts in slices:
        low, high = np.searchsorted(rows, [first, first + texts.height])
        chosen = texts[rows[low:high] - first]
        hashed = (pl.element().hash() % 2**32).cast(pl.UInt32)
        words = chosen.select(_words("summary").list.eval(hashed).list.unique().alias("words"))
        sets.append(words.to_series())
        first += texts.height
    return pl.concat(sets, rechunk=True)
