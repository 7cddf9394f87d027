"""Features of invented papers whose chance to be right is known."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from classmark.runtime.features import FLAGS, NUMBERS, FeatureTable

CATEGORIES = 12


@dataclass(frozen=True, eq=False, kw_only=True)
class Invented(FeatureTable):
    """Features of n papers, and what is true of them."""

    truth: NDArray[np.int16]

    def rows(self, rows: NDArray[np.intp]) -> Invented:
        return Invented(**vars(self.select(rows)), truth=self.truth[rows])

    def with_energy(self, energy: NDArray[np.float32]) -> Invented:
        numbers = self.numbers.copy()
        numbers[:, NUMBERS.index("energy")] = energy
        return replace(self, numbers=numbers)

    @property
    def accuracy(self) -> float:
        return float((self.top_labels[:, 0] == self.truth).mean())


def invent(
    n: int, seed: int, *, shares: NDArray[np.float64] | None = None, too_sure: float = 0.1
) -> Invented:
    """Papers of some categories; of the later ones the model is too sure by up to ``too_sure``."""
    rng = np.random.default_rng(seed)
    category = rng.choice(CATEGORIES, n, p=shares)
    confidence = rng.uniform(0.3, 0.95, n)
    chance = confidence - too_sure * (category / (CATEGORIES - 1) - 0.5)
    is_right = rng.random(n) < chance
    top = np.where(is_right, category, (category + 1) % CATEGORIES)
    rest = 1.0 - confidence
    projection = rng.normal(size=(n, 4))
    projection[:, 0] += category / 4.0
    numbers = {
        "entropy": -confidence * np.log(confidence) - rest * np.log(rest),
        "energy": rng.normal(size=n),
        "known_share": rng.uniform(0.9, 1.0, n),
        "log_words": rng.normal(5.0, 0.3, n),
        "latex_share": rng.uniform(0.0, 0.1, n),
    }
    flags = np.zeros((n, len(FLAGS)), dtype=np.bool_)
    flags[:, FLAGS.index("used_authors")] = rng.random(n) < 0.5
    columns = [numbers.get(name, np.zeros(n)) for name in NUMBERS]
    return Invented(
        labels=tuple(map(str, range(CATEGORIES))),
        top_labels=np.stack([top, (top + 1) % CATEGORIES, (top + 2) % CATEGORIES], 1),
        top_probs=np.stack([confidence, 0.6 * rest, 0.4 * rest], 1).astype(np.float32),
        numbers=np.stack(columns, axis=1).astype(np.float32),
        flags=flags,
        projection=projection.astype(np.float32),
        truth=category.astype(np.int16),
    )


def late_shares() -> NDArray[np.float64]:
    """Return shares that favour the categories of which the model is too sure."""
    weights = np.arange(1, CATEGORIES + 1, dtype=np.float64) ** 2
    return weights / weights.sum()
