"""What a bundle carries to be watched: features of validation papers, without their texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classmark.bundle import Bundle
from classmark.bundle.manifest import REFERENCE_PREFIX
from classmark.kernels.authors import column_type
from classmark.kernels.checks import MOST_SCALE, BundleReader
from classmark.runtime.features import (
    DIMS,
    FLAGS,
    NUMBERS,
    STEPS_PER_SD,
    TOP,
    FeatureTable,
    Floats32,
    WatchedPapers,
    components_of,
    kept_shares,
    shares_of,
)
from classmark.runtime.policy import Decider

MOST_REFERENCE = 5_000
"""Papers of a reference, some 340 KB with 150 labels."""


@dataclass(frozen=True, eq=False)
class Axes:
    """The directions in which scores are compared.

    Attributes:
        centre: float32 [k], mean scores of the reference, each paper's about its own mean.
        directions: float32 [k, 32], principal components over their standard deviations; columns
            of zeros beyond the rank.
    """

    centre: Floats32
    directions: Floats32

    @classmethod
    def of(cls, scores: Floats32) -> Axes:
        """Return the principal axes of raw scores: float32 [n, k]."""
        centred = _about_mean(scores)
        centre = centred.mean(axis=0)
        spread = (centred - centre).astype(np.float64)
        values, vectors = np.linalg.eigh(spread.T @ spread / max(1, len(spread)))
        k = scores.shape[1]
        best = np.argsort(-values)[: min(DIMS, k)]
        kept = values[best] > max(values.max(initial=0.0), 1.0) * 1e-9
        directions = np.zeros((k, DIMS), dtype=np.float32)
        scale = np.sqrt(values[best][kept])
        found = vectors[:, best][:, kept] / scale
        # The sign of an eigenvector is a matter of chance; the library's must not decide it.
        signs = np.sign(found[np.abs(found).argmax(axis=0), np.arange(found.shape[1])])
        directions[:, : found.shape[1]] = found * signs
        return cls(centre.astype(np.float32), directions)

    def project(self, scores: Floats32) -> NDArray[np.int8]:
        """Return the components of raw scores as they are kept: int8 [n, 32]."""
        components = (_about_mean(scores) - self.centre) @ self.directions
        return np.clip(np.rint(components * STEPS_PER_SD), -127, 127).astype(np.int8)


@dataclass(frozen=True, eq=False)
class Reference:
    """What a bundle carries to be watched: features of m validation papers, and their truth.

    Attributes:
        table: the features.
        axes: directions of the components.
        truth: intp [m], column of the right label, -1 where it is not a column.
        years: int16 [m], of the first version, 0 if unknown.
    """

    table: FeatureTable
    axes: Axes
    truth: NDArray[np.intp]
    years: NDArray[np.int16]

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Return whether the first category of each paper's text is the right one: bool [m]."""
        return np.asarray(self.table.top_labels[:, 0] == self.truth)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return what a bundle keeps, by name."""
        table, k = self.table, len(self.table.labels)
        kept: dict[str, NDArray[np.generic]] = {
            "top": table.top_labels.astype(column_type(k)),
            "shares": kept_shares(table.top_probs),
            "numbers": table.numbers.astype(np.float16),
            "flags": table.flags.astype(np.uint8),
            "projection": np.rint(table.projection * STEPS_PER_SD).astype(np.int8),
            "truth": self.truth.astype(np.int16),
            "years": self.years,
            "centre": self.axes.centre,
            "directions": self.axes.directions,
        }
        return {f"{REFERENCE_PREFIX}{name}": array for name, array in kept.items()}

    @classmethod
    def of_bundle(cls, bundle: Bundle) -> Reference | None:
        """Return the reference of a bundle, None if it has none.

        Raises:
            BundleIncompatible: an array is missing, or holds what no reference can.
        """
        if not any(name.startswith(REFERENCE_PREFIX) for name in bundle.arrays):
            return None
        labels, reader = bundle.manifest.labels, BundleReader(bundle)
        k = len(labels)
        top = reader.array(f"{REFERENCE_PREFIX}top", column_type(k), (None, min(TOP, k)))
        m = len(top)
        shapes: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
            "shares": (np.uint8, top.shape),
            "numbers": (np.float16, (m, len(NUMBERS))),
            "flags": (np.uint8, (m, len(FLAGS))),
            "projection": (np.int8, (m, DIMS)),
            "truth": (np.int16, (m,)),
            "years": (np.int16, (m,)),
            "centre": (np.float32, (k,)),
            "directions": (np.float32, (k, DIMS)),
        }
        read: dict[str, NDArray[Any]] = {
            name: reader.array(REFERENCE_PREFIX + name, dtype, shape)
            for name, (dtype, shape) in shapes.items()
        }
        table_numbers = read["numbers"].astype(np.float32)
        for name, array, low, high in (
            ("top", top, 0, k - 1),
            ("truth", read["truth"], -1, k - 1),
            ("flags", read["flags"], 0, 1),
            ("numbers", table_numbers, -MOST_SCALE, MOST_SCALE),
            ("centre", read["centre"], -MOST_SCALE, MOST_SCALE),
            ("directions", read["directions"], -MOST_SCALE, MOST_SCALE),
        ):
            reader.array_within(REFERENCE_PREFIX + name, array, low, high)
        table = FeatureTable(
            labels=labels,
            top_labels=top.astype(np.intp),
            top_probs=shares_of(read["shares"]),
            numbers=table_numbers,
            flags=read["flags"].astype(np.bool_),
            projection=components_of(read["projection"]),
        )
        axes = Axes(read["centre"], read["directions"])
        return cls(table, axes, read["truth"].astype(np.intp), read["years"])


def make_reference(
    papers: WatchedPapers, decider: Decider, truth: NDArray[np.intp], years: NDArray[np.int16]
) -> Reference:
    """Return the reference of a bundle.

    Args:
        papers: m validation papers that stand for what the model will be asked; at most 5,000.
        decider: the policy of the bundle.
        truth: intp [m], column of each paper's label, -1 if it is not a column.
        years: int16 [m].
    """
    axes = Axes.of(papers.scores.astype(np.float16).astype(np.float32))
    return Reference(papers.features(decider, axes.project), axes, truth, years)


def _about_mean(scores: Floats32) -> Floats32:
    centred: Floats32 = scores - scores.mean(axis=1, keepdims=True)
    return centred
