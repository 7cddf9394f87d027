"""A candidate is measured beside the champion, and judged by rules: may it be promoted?"""

from classmark.pipeline.gate.files import DEFAULT_RULES, SAMPLE_RULES, read_rules_file
from classmark.pipeline.gate.gate import GateSubject, gate_candidate
from classmark.pipeline.gate.goldens import read_goldens, record_goldens

__all__ = [
    "DEFAULT_RULES",
    "SAMPLE_RULES",
    "GateSubject",
    "gate_candidate",
    "read_goldens",
    "read_rules_file",
    "record_goldens",
]
