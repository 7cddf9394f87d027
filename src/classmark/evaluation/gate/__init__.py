"""Whether a candidate may be promoted: rules, what was measured, and the lines that follow."""

from classmark.evaluation.gate.checks import check_rules
from classmark.evaluation.gate.measured import (
    Cost,
    Finding,
    LabelFacts,
    Leaks,
    Measured,
    Parity,
    Replay,
)
from classmark.evaluation.gate.rules import GateRules, read_rules

__all__ = [
    "Cost",
    "Finding",
    "GateRules",
    "LabelFacts",
    "Leaks",
    "Measured",
    "Parity",
    "Replay",
    "check_rules",
    "read_rules",
]
