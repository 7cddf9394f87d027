"""Drift, age, labels and a budget -> an order for a new model, or why not. Starts nothing."""

from classmark.retrain.decide import RetrainEvidence, decide, expected_gain, spent_hours
from classmark.retrain.orders import ORDERS, Orders
from classmark.retrain.policy import LOST_WITH_AGE, RetrainPolicy, lost_with_age

__all__ = [
    "LOST_WITH_AGE",
    "ORDERS",
    "Orders",
    "RetrainEvidence",
    "RetrainPolicy",
    "decide",
    "expected_gain",
    "lost_with_age",
    "spent_hours",
]
