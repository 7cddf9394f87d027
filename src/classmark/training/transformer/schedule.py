"""How fast each part of the network learns, and when."""

from __future__ import annotations

import math
from typing import Any

from classmark.training.transformer.config import TransformerConfig
from classmark.training.transformer.model import EncoderClassifier


def parameter_groups(model: EncoderClassifier, config: TransformerConfig) -> list[dict[str, Any]]:
    """Return AdamW's groups: each depth of the encoder with its rate, then the head.

    Biases and norms (one dimension) stand in groups of their own, without weight decay.
    """
    groups: dict[tuple[int, bool], list[Any]] = {}
    for name, parameter in model.encoder.named_parameters():
        groups.setdefault((model.depth_of(name), parameter.ndim > 1), []).append(parameter)
    of_encoder = [
        {
            "params": parameters,
            "lr": config.rate * config.layer_decay ** (model.n_layers - depth),
            "weight_decay": config.weight_decay if decays else 0.0,
        }
        for (depth, decays), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]
    head = [
        {
            "params": [model.head.weight],
            "lr": config.head_rate,
            "weight_decay": config.weight_decay,
        },
        {"params": [model.head.bias], "lr": config.head_rate, "weight_decay": 0.0},
    ]
    return of_encoder + head


def rate_share(step: int, n_steps: int, config: TransformerConfig) -> float:
    """Return the share of its highest rate that each group has in a step, 0..1.

    Args:
        step: from 0.
        n_steps: steps of the whole fit.
        config: ``warmup`` and ``decay``.
    """
    n_warm = math.ceil(config.warmup * n_steps)
    if step < n_warm:
        return (step + 1) / (n_warm + 1)
    done = min(1.0, (step - n_warm) / max(1, n_steps - n_warm))
    if config.decay == "linear":
        return 1 - done
    if config.decay == "cosine":
        return (1 + math.cos(math.pi * done)) / 2
    return 1.0


def trained_layers(epochs_done: float, n_layers: int, config: TransformerConfig) -> int:
    """Return how many of the top layers are fitted now; ``n_layers + 1`` is the whole encoder.

    Args:
        epochs_done: passes over the training papers so far.
        n_layers: layers of the encoder, embeddings not counted.
        config: ``trained_layers`` and ``unfreeze_epochs``.
    """
    most = n_layers + 1
    if config.trained_layers is not None:
        most = min(most, config.trained_layers)
    if config.unfreeze_epochs == 0:
        return most
    return min(most, int(epochs_done / config.unfreeze_epochs + 1e-9))
