"""Papers as they come from keyboards, scanners and web pages: kinds, levels, and texts of none."""

from classmark.evaluation.robustness.kinds import KINDS, LATEX, Kind, perturb
from classmark.evaluation.robustness.other_texts import (
    NON_PAPERS_FILE,
    OTHER_KINDS,
    OtherKind,
    OtherTexts,
    read_non_papers,
    read_other_texts,
)

__all__ = [
    "KINDS",
    "LATEX",
    "NON_PAPERS_FILE",
    "OTHER_KINDS",
    "Kind",
    "OtherKind",
    "OtherTexts",
    "perturb",
    "read_non_papers",
    "read_other_texts",
]
