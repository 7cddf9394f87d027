"""What every kind of model shares: score tables of a split, and a look at its labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classmark.dataset import DatasetSplit
from classmark.errors import InvalidDataset
from classmark.kernels import RawScores
from classmark.records import DatasetManifest, ScoreTable
from classmark.wire import ModelRef


def check_labels(split: DatasetSplit, dataset: Path) -> None:
    """Go on if a training split has two labels or more.

    Raises:
        InvalidDataset: it has not.
    """
    if len(np.unique(split.labels)) < 2:
        raise InvalidDataset(
            f"the training split of {dataset} has {len(np.unique(split.labels))} label(s); a model "
            "needs at least 2. Build it from more papers, or lower --min-papers."
        )


def take_papers(split: DatasetSplit, rows: NDArray[np.int64]) -> DatasetSplit:
    """Return some papers of a split: int64 indices, in that order."""
    counts = np.diff(split.listed_indptr)[rows]
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    within = np.arange(starts[-1]) - np.repeat(starts[:-1], counts)
    return DatasetSplit(
        ids=tuple(split.ids[i] for i in rows),
        titles=[split.titles[i] for i in rows],
        abstracts=[split.abstracts[i] for i in rows],
        labels=split.labels[rows],
        listed_indptr=starts,
        listed_indices=split.listed_indices[np.repeat(split.listed_indptr[rows], counts) + within],
        listed_count=split.listed_count[rows],
        years=split.years[rows],
        periods=tuple(split.periods[i] for i in rows),
    )


def draw_papers(split: DatasetSplit, most: int | None, seed: int) -> DatasetSplit:
    """Return at most so many papers of a split, drawn by a seed, in their order."""
    if most is None or most >= len(split):
        return split
    rows = np.random.default_rng(seed).permutation(len(split))[:most]
    return take_papers(split, np.sort(rows).astype(np.int64))


def make_table(
    raw: RawScores,
    split: DatasetSplit,
    name: str,
    manifest: DatasetManifest,
    labels: tuple[str, ...],
    model: ModelRef,
) -> ScoreTable:
    """Return the scores of a split with its truth, in the columns of a model."""
    column = {label: i for i, label in enumerate(labels)}
    to_model = np.array([column.get(label, -1) for label in manifest.labels], dtype=np.int16)
    listed = np.zeros((len(split), len(labels)), dtype=np.bool_)
    rows = np.repeat(np.arange(len(split)), np.diff(split.listed_indptr))
    columns = to_model[split.listed_indices]
    listed[rows[columns >= 0], columns[columns >= 0]] = True
    return ScoreTable(
        labels=labels,
        ids=split.ids,
        scores=raw.scores,
        primary=to_model[split.labels],
        listed=listed,
        listed_count=split.listed_count,
        years=split.years,
        periods=split.periods,
        known_share=raw.known_share,
        model=model,
        dataset_digest=manifest.digest,
        split=name,
        generated=manifest.generated,
    )
