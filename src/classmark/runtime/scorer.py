"""What every kernel offers: raw scores of papers, and the terms behind one score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class RawScores:
    """What a kernel says of n papers, before any policy.

    Attributes:
        scores: float32 [n, k], uncalibrated logits in label order.
        known_share: float32 [n], share of the text's terms that the model knows, 0..1.
    """

    scores: NDArray[np.float32]
    known_share: NDArray[np.float32]


class Scorer(Protocol):
    """A kernel: thread-safe, without state that a call changes."""

    @property
    def explanation_method(self) -> str:
        """How ``contributions`` come about: ``exact_linear`` or ``occlusion``."""
        ...

    def score(self, papers: Sequence[tuple[str, str]]) -> RawScores:
        """Score raw (title, abstract) pairs; the kernel normalises them itself."""
        ...

    def contributions(
        self, title: str, abstract: str, top: int, other: int
    ) -> list[tuple[str, float]]:
        """Return what each term adds to ``score[top] - score[other]``, in raw logits.

        The weights sum to that difference; a bias is listed under ``(bias)``, what the terms do not
        explain under ``(residual)``.
        """
        ...
