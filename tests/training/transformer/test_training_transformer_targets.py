"""Targets sum to one, whatever is spread where; weights are one in the mean."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from classmark.training.transformer.data import Targets, paper_weights

pytestmark = pytest.mark.slow  # reason: imports torch

LABELS = np.array([0, 1, 2], np.int16)


def targets(smoothing: float = 0.0, cross_list_share: float = 0.0) -> np.ndarray:
    made = Targets(
        labels=LABELS,
        listed_indptr=np.array([0, 2, 3, 3]),
        listed_indices=np.array([0, 3, 1], np.int16),
        n_labels=4,
        smoothing=smoothing,
        cross_list_share=cross_list_share,
        weights=np.ones(3, np.float32),
    )
    return made.of(np.array([0, 1, 2]))


def test_without_smoothing_and_cross_lists_the_target_is_the_label() -> None:
    assert targets().tolist() == np.eye(4)[:3].tolist()


def test_label_smoothing_spreads_a_share_over_all_labels() -> None:
    assert targets(smoothing=0.2)[1] == pytest.approx([0.05, 0.85, 0.05, 0.05])


def test_cross_lists_get_a_share_and_a_paper_without_any_keeps_its_label() -> None:
    soft = targets(cross_list_share=0.4)
    assert soft[0] == pytest.approx([0.8, 0, 0, 0.2])
    assert soft[1] == pytest.approx([0, 1, 0, 0])
    assert soft[2] == pytest.approx([0, 0, 1, 0])


def test_both_together_still_sum_to_one() -> None:
    soft = targets(smoothing=0.1, cross_list_share=0.5)
    assert soft.sum(axis=1) == pytest.approx(1)
    assert soft.dtype == np.float32
    assert soft[0, 3] == pytest.approx(0.9 * 0.25 + 0.025)


def test_class_weights_lift_rare_labels() -> None:
    labels = np.array([0] * 16 + [1], np.int16)
    none, sqrt, balanced = (paper_weights(labels, 3, k) for k in ("none", "sqrt", "balanced"))  # type: ignore[arg-type]
    assert none.tolist() == [1.0] * 17
    assert sqrt[-1] / sqrt[0] == pytest.approx(4)
    assert balanced[-1] / balanced[0] == pytest.approx(16)
    for weights in (none, sqrt, balanced):
        assert weights.mean() == pytest.approx(1)
