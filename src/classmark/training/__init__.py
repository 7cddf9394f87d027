"""Fits a model: vocabulary and weights of a linear one, the encoder of a transformer."""

from classmark.training.config import CascadeConfig, LinearConfig, TrainerConfig
from classmark.training.linear import (
    LinearFit,
    LinearWeights,
    fit_linear,
    rank_by_importance,
    round_rows,
)
from classmark.training.transformer.config import TransformerConfig
from classmark.training.vocabulary import (
    SparsePapers,
    choose_frequent,
    choose_papers,
    parts_of,
    read_occurrences,
    to_sparse,
)

__all__ = [
    "CascadeConfig",
    "LinearConfig",
    "LinearFit",
    "LinearWeights",
    "SparsePapers",
    "TrainerConfig",
    "TransformerConfig",
    "choose_frequent",
    "choose_papers",
    "fit_linear",
    "parts_of",
    "rank_by_importance",
    "read_occurrences",
    "round_rows",
    "to_sparse",
]
