"""Papers to sparse counts of features, and which features are frequent enough to be fitted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classmark.errors import TrainingFailed
from classmark.kernels.featuriser import feature_keys, fold_all
from classmark.kernels.linear import MAX_COUNT, count_weights
from classmark.records import Progress
from classmark.training.arrays import LongArray, release_pages

CHUNK_PAPERS = 5_000
_LEAST_SHARD_BITS = 4
_SHARD_KEYS = 1 << 25
_SLICE_KEYS = 1 << 22
_SENTENCE_END = re.compile(r"(?<=[.?!])\s+")
_SENTENCES = 2


@dataclass(frozen=True, eq=False)
class Occurrences:
    """Distinct features of n papers: key uint64 [m], count uint8 [m], starts int64 [n + 1]."""

    keys: NDArray[np.uint64]
    counts: NDArray[np.uint8]
    starts: NDArray[np.int64]

    def slices(self) -> Iterator[NDArray[np.uint64]]:
        """Yield the keys, some at a time; those that were seen do not stay in memory."""
        for first in range(0, len(self.keys), _SLICE_KEYS):
            yield self.keys[first : first + _SLICE_KEYS]
            release_pages(self.keys)


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

    def release(self) -> None:
        """Let go of what was read of mapped arrays."""
        release_pages(self.columns, self.values)


def choose_papers(n: int, share: float, seed: int) -> NDArray[np.int64]:
    """Return which of n papers a part is taken of, ascending."""
    random = np.random.default_rng(seed)
    return np.sort(random.permutation(n)[: round(share * n)]).astype(np.int64)


def parts_of(
    papers: Iterable[tuple[str, str]], chosen: NDArray[np.int64], seed: int
) -> Iterator[tuple[str, str]]:
    """Yield a part of each chosen paper: its title, or two neighbouring sentences of its abstract.

    Args:
        papers: title and abstract of all papers, read as a stream.
        chosen: int64, ascending: which of them.
        seed: of which part.
    """
    random = np.random.default_rng(seed)
    wanted = iter(chosen.tolist())
    row = next(wanted, None)
    for i, (title, abstract) in enumerate(papers):
        if i == row:
            yield _part(title, abstract, random)
            row = next(wanted, None)


def _part(title: str, abstract: str, random: np.random.Generator) -> tuple[str, str]:
    sentences = _SENTENCE_END.split(abstract.strip())
    draw = int(random.integers(0, 2 * max(1, len(sentences) - 1)))
    if draw % 2 == 0 or not abstract.strip():
        return title, ""
    first = draw // 2
    return "", " ".join(sentences[first : first + _SENTENCES])


def read_occurrences(
    papers: Iterable[tuple[str, str]], progress: Progress, folder: Path | None = None
) -> Occurrences:
    """Return the features of papers and how often each occurs in them.

    Args:
        papers: title and abstract of each, read as a stream.
        progress: of the papers read.
        folder: where the long arrays live on disk; None: in memory.
    """
    stream, starts = iter(papers), [np.zeros(1, np.int64)]
    with LongArray(np.uint64, folder) as keys, LongArray(np.uint8, folder) as counts:
        while pairs := list(islice(stream, CHUNK_PAPERS)):
            part = _count_in_chunk(pairs)
            keys.append(part.keys)
            counts.append(part.counts)
            starts.append(part.starts[1:] + starts[-1][-1])
            progress.advance(len(pairs))
        return Occurrences(keys.whole(), counts.whole(), np.concatenate(starts))


def choose_frequent(
    occurrences: Occurrences, min_papers: int
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the keys that occur in ``min_papers`` papers, sorted, and in how many they do.

    Raises:
        TrainingFailed: there are none.
    """
    keys, papers = [], []
    for shard in _shards(occurrences):
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


def to_sparse(
    occurrences: Occurrences, vocabulary: NDArray[np.uint64], folder: Path | None = None
) -> SparsePapers:
    """Return papers over a sorted vocabulary; unknown features are left out.

    Args:
        occurrences: of n papers.
        vocabulary: uint64 [f], sorted.
        folder: where the long arrays live on disk; None: in memory.
    """
    starts, squares = [np.zeros(1, np.int64)], 0.0
    with LongArray(np.int32, folder) as columns, LongArray(np.float32, folder) as values:
        for first in range(0, len(occurrences.starts) - 1, CHUNK_PAPERS):
            bounds = occurrences.starts[first : first + CHUNK_PAPERS + 1]
            chunk = slice(bounds[0], bounds[-1])
            place = _places(occurrences.keys[chunk], vocabulary)
            known = place >= 0
            ends = np.concatenate(([0], np.cumsum(known, dtype=np.int64)))[bounds - bounds[0]]
            numbers, squares = _unit_length(occurrences.counts[chunk][known], ends, squares)
            columns.append(place[known])
            values.append(numbers)
            starts.append(ends[1:] + starts[-1][-1])
            release_pages(occurrences.keys, occurrences.counts)
        return SparsePapers(columns.whole(), values.whole(), np.concatenate(starts))


def _places(keys: NDArray[np.uint64], vocabulary: NDArray[np.uint64]) -> NDArray[np.int32]:
    """Return the index of each key in the vocabulary, -1 if it is not in it."""
    at = np.minimum(np.searchsorted(vocabulary, keys), len(vocabulary) - 1)
    return np.where(vocabulary[at] == keys, at, -1).astype(np.int32)


def _unit_length(
    counts: NDArray[np.uint8], starts: NDArray[np.int64], squares: float
) -> tuple[NDArray[np.float32], float]:
    """Return the values of some papers, and the sum of squares of all papers up to here.

    The sum runs on from chunk to chunk, so that the chunks do not show in the last bits.
    """
    values = count_weights().astype(np.float32)[np.minimum(counts, MAX_COUNT) - 1]
    sums = np.cumsum(np.concatenate(([squares], values.astype(np.float64) ** 2)))
    norms = np.sqrt(np.maximum(sums[starts[1:]] - sums[starts[:-1]], 1e-12))
    lengths: NDArray[np.float32] = np.repeat(norms, np.diff(starts)).astype(np.float32)
    return values / lengths, float(sums[-1])


def _count_in_chunk(papers: list[tuple[str, str]]) -> Occurrences:
    key, _, text = feature_keys(fold_all(papers))
    if (text[1:] < text[:-1]).any():  # numpy's come word by word, then pair by pair
        order = np.argsort(text, kind="stable")
        key, text = key[order], text[order]
    bounds = np.searchsorted(text, np.arange(len(papers) + 1)).tolist()
    # Each paper's keys by themselves: one sort of all by (text, key) takes ten times the time.
    for first_key, end in pairwise(bounds):
        key[first_key:end].sort()
    new = np.ones(len(key), dtype=np.bool_)
    new[1:] = (key[1:] != key[:-1]) | (text[1:] != text[:-1])
    first = np.flatnonzero(new)
    counts = np.minimum(np.diff(np.append(first, len(key))), MAX_COUNT).astype(np.uint8)
    starts = np.searchsorted(text[first], np.arange(len(papers) + 1))
    return Occurrences(key[first], counts, starts.astype(np.int64))


def _shards(occurrences: Occurrences) -> Iterator[NDArray[np.uint64]]:
    """Yield the keys by their first bits: so many bits that a shard can be sorted in memory."""
    needed = (len(occurrences.keys) // _SHARD_KEYS).bit_length()
    bits = max(_LEAST_SHARD_BITS, needed)
    shift = np.uint64(64 - bits)
    for i in range(1 << bits):
        parts = [keys[keys >> shift == i] for keys in occurrences.slices()]
        yield np.concatenate([np.zeros(0, np.uint64), *parts])
