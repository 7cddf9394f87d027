"""Papers to sparse counts of features, and which features are frequent enough to be fitted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from classmark.errors import TrainingFailed
from classmark.runtime.featuriser import feature_keys, fold_all
from classmark.runtime.linear import MAX_COUNT, count_weights

CHUNK_PAPERS = 5_000
_N_SHARDS = 16
_SHARD_BITS = np.uint64(60)

Progress = Callable[[int], None]


@dataclass(frozen=True, eq=False)
class Occurrences:
    """Distinct features of n papers: key uint64 [m], count uint8 [m], starts int64 [n + 1]."""

    keys: NDArray[np.uint64]
    counts: NDArray[np.uint8]
    starts: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SparsePapers:
    """n papers over the features of a vocabulary.

    Attributes:
        columns: int32 [m], feature of each entry.
        values: float32 [m], 1 + log(count), over the root of the paper's summed squares.
        starts: int64 [n + 1].
    """

    columns: NDArray[np.int32]
    values: NDArray[np.float32]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1


def read_occurrences(
    titles: Sequence[str], abstracts: Sequence[str], on_progress: Progress
) -> Occurrences:
    """Return the features of papers and how often each stands in them."""
    parts = []
    for first in range(0, len(titles), CHUNK_PAPERS):
        chunk = slice(first, first + CHUNK_PAPERS)
        pairs = list(zip(titles[chunk], abstracts[chunk], strict=True))
        parts.append(_count_in_chunk(pairs))
        on_progress(len(pairs))
    lengths = np.concatenate([np.zeros(1, np.int64), *(np.diff(p.starts) for p in parts)])
    return Occurrences(
        np.concatenate([p.keys for p in parts]),
        np.concatenate([p.counts for p in parts]),
        np.cumsum(lengths),
    )


def choose_frequent(
    occurrences: Occurrences, min_papers: int
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the keys that occur in ``min_papers`` papers, sorted, and in how many they do.

    Raises:
        TrainingFailed: there are none.
    """
    keys, papers = [], []
    for shard in _shards(occurrences.keys):
        distinct, count = np.unique(shard, return_counts=True)
        keys.append(distinct[count >= min_papers])
        papers.append(count[count >= min_papers])
    vocabulary = np.concatenate(keys)
    if len(vocabulary) < 2:
        raise TrainingFailed(
            f"no two terms occur in {min_papers} training papers. Train on more papers, or lower "
            "model.min_papers."
        )
    return vocabulary, np.concatenate(papers)


def to_sparse(occurrences: Occurrences, vocabulary: NDArray[np.uint64]) -> SparsePapers:
    """Return papers over a sorted vocabulary; unknown features are left out."""
    place = np.empty(len(occurrences.keys), dtype=np.int32)
    for first in range(0, len(place), 1 << 22):
        chunk = slice(first, first + (1 << 22))
        at = np.minimum(np.searchsorted(vocabulary, occurrences.keys[chunk]), len(vocabulary) - 1)
        place[chunk] = np.where(vocabulary[at] == occurrences.keys[chunk], at, -1)
    known = place >= 0
    starts = np.concatenate(([0], np.cumsum(known, dtype=np.int64)))[occurrences.starts]
    weights = count_weights().astype(np.float32)
    values = weights[np.minimum(occurrences.counts[known], MAX_COUNT) - 1]
    return SparsePapers(place[known], _unit_length(values, starts), starts)


def _unit_length(values: NDArray[np.float32], starts: NDArray[np.int64]) -> NDArray[np.float32]:
    squares = np.concatenate(([0.0], np.cumsum(values.astype(np.float64) ** 2)))
    norms = np.sqrt(np.maximum(squares[starts[1:]] - squares[starts[:-1]], 1e-12))
    lengths: NDArray[np.float32] = np.repeat(norms, np.diff(starts)).astype(np.float32)
    return values / lengths


def _count_in_chunk(papers: list[tuple[str, str]]) -> Occurrences:
    keys = feature_keys(fold_all(papers))
    order = np.lexsort((keys.key, keys.text))
    key, text = keys.key[order], keys.text[order]
    new = np.ones(len(key), dtype=np.bool_)
    new[1:] = (key[1:] != key[:-1]) | (text[1:] != text[:-1])
    first = np.flatnonzero(new)
    counts = np.minimum(np.diff(np.append(first, len(key))), MAX_COUNT).astype(np.uint8)
    starts = np.searchsorted(text[first], np.arange(len(papers) + 1))
    return Occurrences(key[first], counts, starts.astype(np.int64))


def _shards(keys: NDArray[np.uint64]) -> Iterator[NDArray[np.uint64]]:
    shard = (keys >> _SHARD_BITS).astype(np.uint8)
    for i in range(_N_SHARDS):
        yield keys[shard == i]
