"""Fits a transformer: an encoder with a pooled head, on Lightning and Transformers.

Only ``TransformerConfig`` is free of torch; the rest is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from classmark.training.transformer.config import TransformerConfig

if TYPE_CHECKING:
    from classmark.training.transformer.checkpoint import read_start, write_weights
    from classmark.training.transformer.data import (
        Targets,
        TokenisedPapers,
        TransformerFit,
        Valid,
        paper_weights,
        tokenise,
    )
    from classmark.training.transformer.encoder import Encoder, find_encoder, load_encoder
    from classmark.training.transformer.fit import (
        Fitted,
        fit_transformer,
        memory_errors,
    )
    from classmark.training.transformer.model import score_papers
    from classmark.training.transformer.network import EncoderClassifier

_HOMES = {
    "TransformerFit": "data",
    "Encoder": "encoder",
    "EncoderClassifier": "network",
    "Fitted": "fit",
    "Targets": "data",
    "TokenisedPapers": "data",
    "Valid": "data",
    "find_encoder": "encoder",
    "fit_transformer": "fit",
    "load_encoder": "encoder",
    "memory_errors": "fit",
    "paper_weights": "data",
    "read_start": "checkpoint",
    "score_papers": "model",
    "tokenise": "data",
    "write_weights": "checkpoint",
}

__all__ = [
    "Encoder",
    "EncoderClassifier",
    "Fitted",
    "Targets",
    "TokenisedPapers",
    "TransformerConfig",
    "TransformerFit",
    "Valid",
    "find_encoder",
    "fit_transformer",
    "load_encoder",
    "memory_errors",
    "paper_weights",
    "read_start",
    "score_papers",
    "tokenise",
    "write_weights",
]


def __getattr__(name: str) -> Any:
    """Load a name when it is first used: torch takes seconds and may not be installed."""
    if name not in _HOMES:
        raise AttributeError(f"module 'classmark.training.transformer' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"classmark.training.transformer.{_HOMES[name]}"), name)
