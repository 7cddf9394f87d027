"""The network: an encoder, one pooled vector a paper, dropout, a linear head."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from classmark.errors import InvalidConfig
from classmark.evaluation import (
    calibrated_probabilities,
    expected_calibration_error,
    macro_f1,
    negative_log_likelihood,
    top_k_accuracy,
)
from classmark.records import Progress
from classmark.records.run import Pooling
from classmark.training.transformer.data import TokenisedPapers

HEAD_SPREAD = 0.02
"""Standard deviation of a new head's weights, as encoders of BERT's kind are begun."""


def pool(hidden: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """Return one vector a paper: float [n, h].

    Args:
        hidden: float [n, t, h], the encoder's vectors.
        mask: int [n, t], 1 for a token and 0 for padding.
        pooling: mean over the tokens, the first token, or the largest of each dimension.
    """
    if pooling == "cls":
        return hidden[:, 0]
    is_token = mask.unsqueeze(-1).to(torch.bool)
    if pooling == "max":
        return hidden.masked_fill(~is_token, torch.finfo(hidden.dtype).min).amax(dim=1)
    return (hidden * is_token).sum(dim=1) / is_token.sum(dim=1).clamp(min=1)


class EncoderClassifier(nn.Module):
    """Logits of papers; ``encoder.*``, ``head.weight`` and ``head.bias`` are its weights."""

    def __init__(self, encoder: Any, n_labels: int, pooling: Pooling, dropout: float) -> None:
        """Put a new head on an encoder.

        Args:
            encoder: a Transformers model without a head.
            n_labels: k, the rows of the head.
            pooling: how the token vectors become one.
            dropout: share of the pooled vector that is dropped while it is fitted.
        """
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(int(encoder.config.hidden_size), n_labels)
        nn.init.normal_(self.head.weight, std=HEAD_SPREAD)
        nn.init.zeros_(self.head.bias)
        self.pooling = pooling
        self.layers = _find_layers(encoder)
        takes = inspect.signature(encoder.forward).parameters
        n_types = int(getattr(encoder.config, "type_vocab_size", 0) or 0)
        self.reads_types = "token_type_ids" in takes and n_types > 1

    def forward(self, ids: Tensor, mask: Tensor, types: Tensor) -> Tensor:
        """Return logits: float [n, k].

        Args:
            ids: int64 [n, t].
            mask: int64 [n, t].
            types: int64 [n, t]; not looked at if the encoder knows no segments.
        """
        more = {"token_type_ids": types} if self.reads_types else {}
        hidden = self.encoder(input_ids=ids, attention_mask=mask, **more).last_hidden_state
        logits: Tensor = self.head(self.dropout(pool(hidden, mask, self.pooling)))
        return logits

    @property
    def n_layers(self) -> int:
        """Return how many layers the encoder has, embeddings not counted."""
        return len(self.layers)

    def depth_of(self, name: str) -> int:
        """Return the depth of a parameter of the encoder by its name.

        0 for embeddings, i for the i-th layer; what stands beside the layers (a final norm) is as
        deep as the last of them.
        """
        for depth, prefix in enumerate(self.layers, 1):
            if name.startswith(prefix + "."):
                return depth
        return 0 if "embed" in name else self.n_layers

    def train_top(self, n: int) -> None:
        """Fit the head and the top n layers; the rest is frozen, and runs without dropout.

        Args:
            n: 0 for the head alone, ``n_layers + 1`` for everything, embeddings too.
        """
        self.train()
        for name, parameter in self.encoder.named_parameters():
            parameter.requires_grad_(self.depth_of(name) > self.n_layers - n)
        self.encoder.train(n > self.n_layers)
        for depth, prefix in enumerate(self.layers, 1):
            self.encoder.get_submodule(prefix).train(depth > self.n_layers - n)


def longest_text(encoder: Any) -> int | None:
    """Return how many tokens an encoder reads at most; None if it does not say."""
    most = getattr(encoder.config, "max_position_embeddings", None)
    if most is None:
        return None
    # Encoders of RoBERTa's kind count positions from behind the padding's id.
    embeddings = getattr(encoder, "embeddings", None)
    offset = getattr(getattr(embeddings, "position_embeddings", None), "padding_idx", None)
    return int(most) - (0 if offset is None else int(offset) + 1)


def check_length(encoder: Any, max_length: int) -> None:
    """Go on if an encoder can read papers of that many tokens.

    Raises:
        InvalidConfig: it cannot.
    """
    most = longest_text(encoder)
    if most is not None and max_length > most:
        raise InvalidConfig(
            f"model.max_length is {max_length}, the encoder reads {most} tokens at most. "
            f"Give model.max_length={most} or less."
        )


def _find_layers(encoder: Any) -> list[str]:
    """Return the names of the encoder's layers, from the bottom."""
    wanted = int(encoder.config.num_hidden_layers)
    for name, module in encoder.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == wanted:
            return [f"{name}.{i}" for i in range(wanted)]
    raise InvalidConfig(
        f"the encoder {type(encoder).__name__} has no list of {wanted} layers. Choose another "
        "model.encoder."
    )


def score_papers(
    model: EncoderClassifier,
    papers: TokenisedPapers,
    batch_size: int,
    progress: Progress,
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
            progress.advance(len(rows))
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
