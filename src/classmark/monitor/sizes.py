"""How large a shift is, in papers: the same shift has the same size at any number of papers.

The size is a share of papers: how many of a hundred would have to come from another field for the
scores to move as far. A field's distance is that of a category's papers from all papers, in the
components of the scores, typical over the categories of the reference. So 10 % of papers of a field
that the reference lacks move the mean of the components by about a tenth of it.

The squared distance of two means is estimated without bias (Gretton et al. 2012, lemma 6, with a
linear kernel), which is what makes it the same at any number of papers: the noise of the means is
taken off.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from classmark.errors import InvalidWindow
from classmark.records.drift import Size
from classmark.runtime.features import FeatureTable

_LEAST_OF_CATEGORY = 10
_NORMAL = NormalDist()
Floats = NDArray[np.float64]


def size_of(
    window: FeatureTable,
    reference: FeatureTable,
    *,
    fields: FeatureTable | None = None,
    confidence: float = 0.95,
) -> Size:
    """Return how far the papers of a window are from those of a reference.

    Args:
        window: n papers, 2 or more.
        reference: m papers, 2 or more.
        fields: papers of several categories, which say how far apart fields are; None: the
            reference.
        confidence: of the interval, 0..1.

    Raises:
        InvalidWindow: there are no two categories of ten papers, or all of them are alike.
    """
    x, y = (table.projection.astype(np.float64) for table in (window, reference))
    apart = reference if fields is None else fields
    field = _distance_of_fields(apart.projection.astype(np.float64), apart.top_labels[:, 0])
    squared, sd = _squared_distance(x, y)
    width = _NORMAL.inv_cdf(0.5 + confidence / 2) * sd

    def share(value: float) -> float:
        return float(min(1.0, np.sqrt(max(0.0, value)) / field))

    return Size(
        share=share(squared),
        low=share(squared - width),
        high=share(squared + width),
        confidence=confidence,
    )


def _squared_distance(x: Floats, y: Floats) -> tuple[float, float]:
    """Return the squared distance of two means, without bias, and its standard deviation.

    Args:
        x: float64 [n, d].
        y: float64 [m, d].
    """
    difference = x.mean(axis=0) - y.mean(axis=0)
    covariance = _covariance(x) / len(x) + _covariance(y) / len(y)
    squared = float(difference @ difference - np.trace(covariance))
    # Of a quadratic form of a normal vector, with its own noise taken off the linear part.
    linear = max(0.0, float(difference @ covariance @ difference) - float((covariance**2).sum()))
    variance = 4 * linear + 2 * float((covariance**2).sum())
    return squared, float(np.sqrt(variance))


def _covariance(x: Floats) -> Floats:
    centred = x - x.mean(axis=0)
    covariance: Floats = centred.T @ centred / max(1, len(x) - 1)
    return covariance


def _distance_of_fields(y: Floats, categories: NDArray[np.intp]) -> float:
    """Return the root mean squared distance of a category's mean from that of all papers."""
    found = []
    for category in np.unique(categories):
        own = y[categories == category]
        if len(own) >= _LEAST_OF_CATEGORY and len(own) < len(y):
            rest = y[categories != category]
            # Of a category that the others lack: its distance from them.
            found.append(_squared_distance(own, rest)[0])
    typical = float(np.mean(found)) if len(found) > 1 else 0.0
    if typical <= 0:
        raise InvalidWindow(
            "the reference has no two categories that differ, so the size of a shift cannot be "
            "measured. Use a model that was fitted on several categories."
        )
    return float(np.sqrt(typical))
