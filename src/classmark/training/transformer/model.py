"""What an encoder can read, and the scores of papers while and after a model is fitted."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from classmark.errors import InvalidConfig
from classmark.evaluation import (
    calibrated_probabilities,
    expected_calibration_error,
    macro_f1,
    negative_log_likelihood,
    top_k_accuracy,
)
from classmark.records import Progress
from classmark.training.transformer.data import TokenisedPapers
from classmark.training.transformer.network import EncoderClassifier
from classmark.training.transformer.processes import ALONE, Processes


def longest_text(encoder: Any) -> int | None:
    """Return the maximum number of tokens that an encoder reads; None if it does not say."""
    most = getattr(encoder.config, "max_position_embeddings", None)
    if most is None:
        return None
    # Encoders of RoBERTa's kind count positions from behind the padding's id.
    embeddings = getattr(encoder, "embeddings", None)
    offset = getattr(getattr(embeddings, "position_embeddings", None), "padding_idx", None)
    return int(most) - (0 if offset is None else int(offset) + 1)


def check_length(encoder: Any, max_length: int) -> None:
    """Check that an encoder can read papers of that many tokens.

    Raises:
        InvalidConfig: it cannot.
    """
    most = longest_text(encoder)
    if most is not None and max_length > most:
        raise InvalidConfig(
            f"model.max_length is {max_length}, the encoder reads at most {most} tokens. "
            f"Give model.max_length={most} or less."
        )


def score_papers(
    model: EncoderClassifier,
    papers: TokenisedPapers,
    batch_size: int,
    progress: Progress,
    processes: Processes = ALONE,
) -> NDArray[np.float32]:
    """Return the logits of papers in float32, in their order: [n, k].

    Papers of similar length are scored together, so that little is padding. Processes share the
    batches, and each gets all scores. The model is left in the mode for inference.
    """
    model.eval()
    device = next(model.parameters()).device
    scores = np.zeros((len(papers), model.head.out_features), dtype=np.float32)
    order = np.argsort(papers.lengths, kind="stable")
    with torch.no_grad():
        for first in range(0, len(order), batch_size * processes.count):
            turn = order[first : first + batch_size * processes.count]
            mine = turn[processes.rank * batch_size :][:batch_size]
            # Who has none repeats others: a model that is divided needs all processes each time.
            rows = mine if len(mine) else turn[:batch_size]
            batch = {name: part.to(device) for name, part in papers.pad(rows).items()}
            given = model(**batch).float().cpu().numpy()
            if len(mine):
                scores[mine] = given
            progress.advance(len(turn))
    return processes.total(scores)


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
