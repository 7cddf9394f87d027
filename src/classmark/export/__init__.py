"""-> BUNDLE: fitted weights to integers, a policy from validation scores, the model card."""

from classmark.export.card import render_card
from classmark.export.policy import SET_COVERAGE, fit_curve, fit_policy
from classmark.export.pruning import Pruning
from classmark.export.quantise import quantise

__all__ = ["SET_COVERAGE", "Pruning", "fit_curve", "fit_policy", "quantise", "render_card"]
