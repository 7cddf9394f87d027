"""Fits the deep tier: an encoder with a pooled head, on Lightning and Transformers.

Only ``TransformerConfig`` is free of torch; the rest is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from classmark.training.transformer.config import TransformerConfig
from classmark.training.transformer.listeners import Listeners

if TYPE_CHECKING:
    from classmark.training.transformer.data import TokenisedPapers, tokenise
    from classmark.training.transformer.encoder import Encoder, find_encoder, load_encoder
    from classmark.training.transformer.fit import DeepFit, Fitted, fit_deep, memory_errors
    from classmark.training.transformer.model import EncoderClassifier
    from classmark.training.transformer.scoring import score_papers
    from classmark.training.transformer.targets import Targets, paper_weights
    from classmark.training.transformer.watch import Valid
    from classmark.training.transformer.weights import read_start, write_weights

_HOMES = {
    "DeepFit": "fit",
    "Encoder": "encoder",
    "EncoderClassifier": "model",
    "Fitted": "fit",
    "Targets": "targets",
    "TokenisedPapers": "data",
    "Valid": "watch",
    "find_encoder": "encoder",
    "fit_deep": "fit",
    "load_encoder": "encoder",
    "memory_errors": "fit",
    "paper_weights": "targets",
    "read_start": "weights",
    "score_papers": "scoring",
    "tokenise": "data",
    "write_weights": "weights",
}

__all__ = [
    "DeepFit",
    "Encoder",
    "EncoderClassifier",
    "Fitted",
    "Listeners",
    "Targets",
    "TokenisedPapers",
    "TransformerConfig",
    "Valid",
    "find_encoder",
    "fit_deep",
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
