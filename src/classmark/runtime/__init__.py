"""Bundle + papers -> Answer: featuriser, kernel, policy; numpy only."""

from classmark.runtime.classifier import DEFAULT_TOP, Classifier, in_batches
from classmark.runtime.intake import check_paper
from classmark.runtime.policy import REASONS, Decider, Decisions, selected_columns

__all__ = [
    "DEFAULT_TOP",
    "REASONS",
    "Classifier",
    "Decider",
    "Decisions",
    "check_paper",
    "in_batches",
    "selected_columns",
]
