"""Score tables made up for tests of metrics and pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from classmark.records import ScoreTable
from classmark.wire import ModelRef

LABELS = ("cs.AI", "cs.LG", "math.CO", "hep-th")


def build_table(scores: Any, primary: Any, **changes: Any) -> ScoreTable:
    """A table over LABELS; each paper is listed in its primary category only, by default."""
    scores = np.asarray(scores, dtype=np.float32).reshape(-1, len(LABELS))
    truth = np.asarray(primary, dtype=np.int16)
    n = len(truth)
    values: dict[str, Any] = {
        "labels": LABELS,
        "ids": tuple(f"p{i}" for i in range(n)),
        "scores": scores,
        "primary": truth,
        "listed": truth[:, None] == np.arange(len(LABELS)),
        "listed_count": np.ones(n, dtype=np.int16),
        "years": np.zeros(n, dtype=np.int16),
        "periods": ("",) * n,
        "known_share": np.ones(n, dtype=np.float32),
        "model": ModelRef("fast", "1.0", "d" * 64),
    }
    return ScoreTable(**{**values, **changes})


@pytest.fixture
def make_table() -> Callable[..., ScoreTable]:
    return build_table


@pytest.fixture
def random_table() -> ScoreTable:
    """200 papers of a model that is right about half of the time, over two periods."""
    rng = np.random.default_rng(5)
    primary = rng.integers(0, 4, 200).astype(np.int16)
    scores = rng.normal(size=(200, 4)) + 1.2 * (primary[:, None] == np.arange(4))
    years = np.where(np.arange(200) < 120, 2015, 2019).astype(np.int16)
    return build_table(
        scores,
        primary,
        years=years,
        periods=tuple("until-2017" if year < 2018 else "2018-2019" for year in years),
        set_threshold=0.15,
        thresholds=(0.5, 0.5, 0.4, 0.4),
    )
