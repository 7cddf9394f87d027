"""Papers as they come from keyboards, scanners and web pages: kinds, levels, and texts of none."""

from classmark.evaluation.robustness.kinds import KINDS, LATEX, Kind, perturb
from classmark.evaluation.robustness.strangers import (
    NON_PAPERS_FILE,
    STRANGERS,
    OtherTexts,
    StrangerKind,
    read_non_papers,
    read_strangers,
)

__all__ = [
    "KINDS",
    "LATEX",
    "NON_PAPERS_FILE",
    "STRANGERS",
    "Kind",
    "OtherTexts",
    "StrangerKind",
    "perturb",
    "read_non_papers",
    "read_strangers",
]
