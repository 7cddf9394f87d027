"""Array types of this room, and which rows of a table have a known truth."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from classmark.errors import EmptyEvaluation, InvalidConfig
from classmark.records.scores import UNKNOWN

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]
Bools = NDArray[np.bool_]


def known_rows(primary: Ints) -> NDArray[np.intp]:
    """Return the indices of the papers whose true label is a column.

    Args:
        primary: int [n], column of the true label, -1 if it is unknown or not a column.

    Raises:
        EmptyEvaluation: there are no papers, or none has a known label.
    """
    rows = np.flatnonzero(primary != UNKNOWN)
    if rows.size == 0:
        raise EmptyEvaluation(
            f"none of the {primary.size} papers has a primary category that the model knows. "
            "Evaluate on labelled papers that share their labels with the model."
        )
    return rows


def require_papers(n: int) -> None:
    """Refuse an empty table.

    Raises:
        EmptyEvaluation: ``n`` is 0.
    """
    if n == 0:
        raise EmptyEvaluation("there are no papers to evaluate. Choose a split that has some.")


def require_share(name: str, value: float) -> None:
    """Refuse a share that is not strictly between 0 and 1.

    Raises:
        InvalidConfig: it is not, or it is not a number.
    """
    if not 0.0 < value < 1.0:
        raise InvalidConfig(f"{name} must be between 0 and 1 (both excluded), got {value}.")
