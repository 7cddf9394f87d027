"""Scores of papers while and after a model is fitted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from classmark.evaluation import (
    calibrated_probabilities,
    expected_calibration_error,
    macro_f1,
    negative_log_likelihood,
    top_k_accuracy,
)
from classmark.training.transformer.data import TokenisedPapers
from classmark.training.transformer.model import EncoderClassifier


def score_papers(
    model: EncoderClassifier,
    papers: TokenisedPapers,
    batch_size: int,
    on_progress: Callable[[int], None],
) -> NDArray[np.float32]:
    """Return the logits of papers in float32, in their order: [n, k].

    Papers of similar length are scored together, so that little is padding. The model is left
    in the mode for inference.
    """
    model.eval()
    device = next(model.parameters()).device
    scores = np.zeros((len(papers), model.head.out_features), dtype=np.float32)
    order = np.argsort(papers.lengths, kind="stable")
    with torch.no_grad():
        for first in range(0, len(order), batch_size):
            rows = order[first : first + batch_size]
            batch = {name: part.to(device) for name, part in papers.pad(rows).items()}
            scores[rows] = model(**batch).float().cpu().numpy()
            on_progress(len(rows))
    return scores


def measure(scores: NDArray[np.float32], labels: NDArray[Any]) -> dict[str, float]:
    """Return loss (nats), top_1, top_5, macro_f1 and ece of logits against the true columns."""
    probabilities = calibrated_probabilities(scores, 1.0)
    right = scores.argmax(axis=1) == labels
    return {
        "loss": negative_log_likelihood(probabilities, labels),
        "top_1": top_k_accuracy(scores, labels),
        "top_5": top_k_accuracy(scores, labels, 5),
        "macro_f1": macro_f1(scores, labels),
        "ece": expected_calibration_error(probabilities.max(axis=1), right),
    }
