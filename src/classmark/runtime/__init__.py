"""Bundle + papers -> Answer: featuriser, kernel, policy; numpy only."""

from classmark.runtime.answers import Answers
from classmark.runtime.classifier import DEFAULT_TOP, Classifier
from classmark.runtime.decisions import REASONS, Decisions
from classmark.runtime.intake import check_paper, in_batches
from classmark.runtime.policy import Decider

__all__ = [
    "DEFAULT_TOP",
    "REASONS",
    "Answers",
    "Classifier",
    "Decider",
    "Decisions",
    "check_paper",
    "in_batches",
]
