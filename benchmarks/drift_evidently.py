"""Evidently's tests of texts, of embeddings and of columns, which drift_alarms.py runs beside ours.

Each runs with the threshold that Evidently takes for so many papers ("default"), and, where it has
a test with a rate of false alarms, at the same alphas as ours. The functions are those that its
metrics call; the metrics would also draw, by t-SNE for 48 seconds a window of embeddings.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.legacy.utils.data_drift_utils import (
    calculate_text_drift_score,
    roc_auc_random_classifier_percentile,
)
from evidently.metrics import DriftedColumnsCount
from evidently.metrics.embeddings import (
    DistanceDriftMethod,
    MMDDriftMethod,
    ModelDriftMethod,
    RatioDriftMethod,
)
from sklearn.model_selection import train_test_split

from classmark.monitor.evidently import CATEGORICAL, INPUT, PREDICTION, columns_of
from drift_rivals import ALPHAS, MOST_KERNEL, Papers, Test

VERSION = version("evidently")
TEXT_THRESHOLD = 0.55
DEFAULT = "default"


@cache
def random_auc(n_reference: int, n_window: int, alpha: float) -> float:
    """Return the area that a guess exceeds with a chance of alpha, as Evidently finds it."""
    target = pd.Series([0] * n_reference + [1] * n_window)
    halves = train_test_split(target, target, test_size=0.5, random_state=42, shuffle=True)
    return float(roc_auc_random_classifier_percentile(halves[3], p_value=alpha))


def text_content(window: Papers, reference: Papers, _: int) -> dict[str, bool]:
    """Return the alarms of the classifier that tells texts of the window from the others."""
    texts = pd.Series(reference.texts), pd.Series(window.texts)
    area, alarms = calculate_text_drift_score(*texts, bootstrap=False, threshold=TEXT_THRESHOLD)
    sizes = len(reference.texts), len(window.texts)
    return {DEFAULT: bool(alarms), **{str(a): area > random_auc(*sizes, a) for a in ALPHAS}}


def embeddings(
    make: Callable[..., Any], *, has_level: bool = True, most: int | None = None
) -> Test:
    """Return a test of embeddings.

    Args:
        make: of the method, by ``bootstrap`` and ``quantile_probability``.
        has_level: whether it takes them.
        most: papers of the reference; all if None.
    """
    methods = {DEFAULT: make()}
    if has_level:
        methods |= {
            str(alpha): make(bootstrap=True, quantile_probability=1 - alpha) for alpha in ALPHAS
        }

    def alarms(window: Papers, reference: Papers, seed: int) -> dict[str, bool]:
        x, y = window.features.projection, reference.features.projection
        if most is not None:
            y = y[np.random.default_rng(seed).permutation(len(y))[:most]]
        # New tables for each: the classifier adds its target to them.
        return {
            name: bool(method(pd.DataFrame(x), pd.DataFrame(y))[1])
            for name, method in methods.items()
        }

    return alarms


def columns(window: Papers, reference: Papers, _: int) -> dict[str, bool]:
    """Return the verdicts on the columns of ``monitor run --evidently``, with its thresholds."""
    names = [*INPUT, *PREDICTION]
    definition = DataDefinition(
        numerical_columns=[name for name in names if name not in CATEGORICAL],
        categorical_columns=list(CATEGORICAL),
    )
    tables = [
        Dataset.from_pandas(pd.DataFrame(columns_of(papers.features)), data_definition=definition)
        for papers in (window, reference)
    ]
    found = Report([DriftedColumnsCount(columns=names)]).run(*tables).dict()["metrics"][0]["value"]
    return {DEFAULT: found["share"] >= 0.5, "any column": found["count"] > 0}


EVIDENTLY: dict[str, Test] = {
    "text content": text_content,
    "embeddings: classifier": embeddings(ModelDriftMethod),
    "embeddings: distance": embeddings(DistanceDriftMethod),
    "embeddings: share of components": embeddings(RatioDriftMethod, has_level=False),
    "embeddings: kernel": embeddings(MMDDriftMethod, most=MOST_KERNEL),
    "columns": columns,
}
