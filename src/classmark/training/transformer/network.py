"""The network and its loss: one definition, for `classmark train` and for a job on a GPU.

Needs torch alone, so that the file can travel to a machine without classmark (``deploy/gpu``).
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

HEAD_SPREAD = 0.02
"""Standard deviation of a new head's weights, as encoders of BERT's kind are begun."""


def pool(hidden: Tensor, mask: Tensor, pooling: str) -> Tensor:
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

    def __init__(
        self,
        encoder: Any,
        n_labels: int,
        pooling: str,
        dropout: float,
        *,
        head_spread: float | None = HEAD_SPREAD,
    ) -> None:
        """Put a new head on an encoder.

        Args:
            encoder: a Transformers model without a head.
            n_labels: k, the rows of the head.
            pooling: how the token vectors become one.
            dropout: share of the pooled vector that is dropped while it is fitted.
            head_spread: standard deviation of the head's weights; None: as torch begins them.

        Raises:
            ValueError: the encoder has no list of layers.
        """
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(int(encoder.config.hidden_size), n_labels)
        if head_spread is not None:
            nn.init.normal_(self.head.weight, std=head_spread)
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

        0 for embeddings, i for the i-th layer; other parts (a final norm) are as deep as
        the last of them.
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


def soft_targets(
    labels: Tensor, listed: Tensor, n_labels: int, *, listed_share: float, smoothing: float
) -> Tensor:
    """Return what papers aim at: float32 [n, k], rows sum to 1.

    Args:
        labels: int64 [n], column of the label.
        listed: int64 [n, most], columns that share ``listed_share``, filled up with -1; a paper
            that lists none keeps the share for its label.
        n_labels: k.
        listed_share: share that is spread over the listed columns, 0..1.
        smoothing: share of the whole that is spread over all labels, 0..1.
    """
    known = listed >= 0
    n_listed = known.sum(1, keepdim=True)
    rest = torch.where(n_listed > 0, 1 - listed_share, 1.0).float()
    each = (listed_share / n_listed.clamp(min=1).double()).float() * known
    targets = torch.zeros(len(labels), n_labels + 1, device=labels.device)
    targets.scatter_add_(1, labels[:, None], rest)
    targets.scatter_add_(1, torch.where(known, listed, n_labels), each)
    return targets[:, :n_labels] * (1 - smoothing) + smoothing / n_labels


def cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the summed weighted cross-entropy of papers against soft targets, in nats.

    Args:
        logits: float [n, k].
        targets: float32 [n, k], rows sum to 1.
        weights: float32 [n].
    """
    losses = -(targets * logits.float().log_softmax(dim=1)).sum(dim=1)
    return (losses * weights).sum()


def _find_layers(encoder: Any) -> list[str]:
    """Return the names of the encoder's layers, from the bottom."""
    wanted = int(encoder.config.num_hidden_layers)
    for name, module in encoder.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == wanted:
            return [f"{name}.{i}" for i in range(wanted)]
    raise ValueError(
        f"the encoder {type(encoder).__name__} has no list of {wanted} layers. Choose another "
        "model.encoder."
    )
