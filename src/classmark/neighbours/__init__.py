"""An index of papers by what a fast model makes of them, and the most similar ones to a paper.

Needs numpy alone; a kept index is a folder of arrays that are memory-mapped (decision 0062).
"""

from classmark.neighbours.change import (
    Change,
    Entry,
    add_papers,
    build_index,
    remove_papers,
    set_evidence,
)
from classmark.neighbours.evidence import EvidenceWeights, NeighbourJoin, SideWeights
from classmark.neighbours.index import Index, Neighbours

__all__ = [
    "Change",
    "Entry",
    "EvidenceWeights",
    "Index",
    "NeighbourJoin",
    "Neighbours",
    "SideWeights",
    "add_papers",
    "build_index",
    "remove_papers",
    "set_evidence",
]
