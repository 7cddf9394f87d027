"""Rows that two bits a number can hold, so that a model is fitted as it will be shipped."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

STEP_PER_DEVIATION = np.float32(0.9957)
"""Step of the four-level quantiser with the least squared error for a normal distribution.

Source: Max 1960, "Quantizing for Minimum Distortion", IRE Transactions on Information Theory 6.
"""


def round_rows(embedding: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the rows with every number at -1.5, -0.5, 0.5 or 1.5 steps of its row: float32 [f, d].

    A row's step is its root mean square times ``STEP_PER_DEVIATION``; a row of zeros stays.
    """
    squares = np.einsum("ij,ij->i", embedding, embedding) / np.float32(embedding.shape[1])
    step = (np.sqrt(squares) * STEP_PER_DEVIATION)[:, None]
    size = np.where(np.abs(embedding) >= step, np.float32(1.5), np.float32(0.5)) * step
    return np.asarray(np.where(embedding < 0, -size, size), dtype=np.float32)
