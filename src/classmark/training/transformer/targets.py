"""What a fit aims at: soft targets over labels, and the weight of a paper."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from classmark.training.transformer.config import ClassWeights

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False, kw_only=True)
class Targets:
    """The truth of n papers over k labels.

    Attributes:
        labels: int16 [n], column of the label.
        listed_indptr: int64 [n + 1], as in a dataset split.
        listed_indices: int16 [listed], columns of the listed categories, primary first.
        n_labels: k.
        smoothing: share that is spread over all labels, 0..1.
        cross_list_share: share of the rest that is spread over the listed categories, 0..1.
        weights: float32 [n], of each paper in the loss, 1 in the mean.
    """

    labels: NDArray[np.int16]
    listed_indptr: NDArray[np.int64]
    listed_indices: NDArray[np.int16]
    n_labels: int
    smoothing: float
    cross_list_share: float
    weights: Floats

    def of(self, rows: NDArray[np.int64]) -> Floats:
        """Return the targets of some papers: float32 [len(rows), k], rows sum to 1."""
        aims = np.zeros((len(rows), self.n_labels), dtype=np.float32)
        aims[np.arange(len(rows)), self.labels[rows]] = 1 - self.cross_list_share
        for place, row in enumerate(rows):
            listed = self.listed_indices[self.listed_indptr[row] : self.listed_indptr[row + 1]]
            if len(listed) == 0:
                listed = self.labels[row : row + 1]
            aims[place, listed] += self.cross_list_share / len(listed)
        return np.asarray(aims * (1 - self.smoothing) + self.smoothing / self.n_labels, np.float32)


def paper_weights(labels: NDArray[np.int16], n_labels: int, kind: ClassWeights) -> Floats:
    """Return the weight of each paper by how frequent its label is: float32 [n], mean 1."""
    power = {"none": 0.0, "sqrt": 0.5, "balanced": 1.0}[kind]
    counts = np.bincount(labels, minlength=n_labels).astype(np.float64)
    weights = counts[labels] ** -power
    return np.asarray(weights / weights.mean(), dtype=np.float32)
