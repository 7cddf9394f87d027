"""-> BUNDLE: fitted weights to integers, a policy from validation scores, the model card."""

from classmark.export.card import render_card
from classmark.export.policy import fit_curve, fit_policy
from classmark.export.quantise import quantise

__all__ = ["fit_curve", "fit_policy", "quantise", "render_card"]
