"""Invented features: papers of fields, each around a point of its own."""

from __future__ import annotations

import numpy as np

from classmark.runtime.features import DIMS, FLAGS, NUMBERS, TOP, FeatureTable

N_FIELDS = 12
LABELS = tuple(f"field{i}" for i in range(N_FIELDS + 1))
HIDDEN = N_FIELDS
"""A field that the model knows, and the reference has no papers of."""


def features(rng: np.random.Generator, n: int, hidden: float = 0.0) -> FeatureTable:
    """Return n papers of the first fields; a share of them is of the hidden one instead."""
    field = rng.integers(0, N_FIELDS, n)
    field[: round(hidden * n)] = HIDDEN
    centres = np.random.default_rng(99).normal(size=(len(LABELS), DIMS))
    projection = centres[field] + rng.normal(size=(n, DIMS))
    others = np.argsort(rng.random((n, len(LABELS))), axis=1)
    top = np.array(
        [[f, *[o for o in row if o != f]][:TOP] for f, row in zip(field, others, strict=True)]
    )
    first = rng.uniform(0.5, 0.95, n)
    shares = np.concatenate([first[:, None], np.repeat((1 - first)[:, None] / 20, TOP - 1, 1)], 1)
    return FeatureTable(
        labels=LABELS,
        top_labels=top.astype(np.intp),
        top_probs=shares.astype(np.float32),
        numbers=rng.normal(size=(n, len(NUMBERS))).astype(np.float32),
        flags=rng.random((n, len(FLAGS))) < 0.7,
        projection=projection.astype(np.float32),
    )
