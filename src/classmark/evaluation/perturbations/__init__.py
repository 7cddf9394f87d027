"""Papers as they come from keyboards, scanners and web pages: kinds, levels, and texts of none."""

from classmark.evaluation.perturbations.kinds import KINDS, LATEX, Kind, perturb
from classmark.evaluation.perturbations.strangers import (
    NON_PAPERS_FILE,
    STRANGERS,
    StrangerKind,
    read_strangers,
)

__all__ = [
    "KINDS",
    "LATEX",
    "NON_PAPERS_FILE",
    "STRANGERS",
    "Kind",
    "StrangerKind",
    "perturb",
    "read_strangers",
]
