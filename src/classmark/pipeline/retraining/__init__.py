"""Orders for new models are carried out: from new papers to a bundle that has taken over."""

from classmark.pipeline.retraining.policy import (
    ReplacePolicy,
    Retraining,
    RetrainRules,
    Shadowed,
    located,
    read_retrain_rules,
)
from classmark.pipeline.retraining.work import carry_out, current_dataset, held

__all__ = [
    "ReplacePolicy",
    "RetrainRules",
    "Retraining",
    "Shadowed",
    "carry_out",
    "current_dataset",
    "held",
    "located",
    "read_retrain_rules",
]
