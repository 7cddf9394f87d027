"""Bundle + papers -> Answer: featuriser, kernel, policy; numpy only."""

from classmark.runtime.classifier import Classifier, check_paper, in_batches
from classmark.runtime.policy import Decider, Decisions
from classmark.runtime.scorer import RawScores, Scorer

__all__ = [
    "Classifier",
    "Decider",
    "Decisions",
    "RawScores",
    "Scorer",
    "check_paper",
    "in_batches",
]
