"""Tests that drift_alarms.py runs on the same windows: ours, and a kernel two-sample test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classmark.monitor.window import compare
from classmark.runtime.features import FeatureTable

ALPHAS = (0.05, 0.01)
MOST_KERNEL = 1_000  # papers of a reference; the kernel is of all pairs


@dataclass(frozen=True)
class Papers:
    """A window, or its reference.

    Attributes:
        features: of n papers.
        texts: [n], title and abstract.
    """

    features: FeatureTable
    texts: NDArray[np.object_]


Test = Callable[[Papers, Papers, int], dict[str, bool]]
"""Window, reference and seed -> whether it alarms, by what is chosen: an alpha, or a threshold."""
Rivals = dict[str, list[dict[str, Any]]]


def _at_alphas(p_value: float) -> dict[str, bool]:
    return {str(alpha): p_value <= alpha for alpha in ALPHAS}


def exact_test(window: Papers, reference: Papers, seed: int) -> dict[str, bool]:
    """Return the alarms of ``classmark.monitor``."""
    return _at_alphas(compare(window.features, reference.features, seed=seed).p_value)


def kernel_test(window: Papers, reference: Papers, seed: int) -> dict[str, bool]:
    """Return the alarms of the maximum mean discrepancy, with a kernel of the median distance."""
    rng = np.random.default_rng(seed)
    x, y = (papers.features.projection.astype(np.float32) for papers in (window, reference))
    y = y[rng.permutation(len(y))[:MOST_KERNEL]]
    z, n = np.concatenate([x, y]), len(x)
    squares = (z * z).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares - 2 * z @ z.T, 0)
    kernel = np.exp(-distances / np.median(distances))
    np.fill_diagonal(kernel, 0)
    signs = np.full((200, len(z)), -1 / (len(z) - n), dtype=np.float32)
    signs[0, :n] = 1 / n
    for row in signs[1:]:
        row[rng.permutation(len(z))[:n]] = 1 / n
    seen = ((signs @ kernel) * signs).sum(axis=1)
    return _at_alphas(float(np.mean(seen >= seen[0])))


OURS: dict[str, Test] = {"classmark": exact_test, "kernel two-sample test": kernel_test}
