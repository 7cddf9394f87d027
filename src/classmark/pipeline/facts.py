"""What a score table does not hold of its papers, for the slices of an evaluation page."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from classmark.dataset import load_manifest, read_split
from classmark.evaluation.robustness import LATEX
from classmark.records import PaperFacts


def formula_share(text: str) -> float:
    r"""Return the share of characters in formulas (``$...$``) and commands (``\name``), 0..1."""
    if "$" not in text and "\\" not in text:
        return 0.0
    return sum(len(found) for found in LATEX.findall(text)) / len(text)


def read_facts(dataset: Path, split: str) -> PaperFacts:
    """Return title, length and formula share of each paper of a split, in the order it is scored.

    Raises:
        InvalidDataset: the dataset or the split is missing, or cannot be read.
    """
    papers = read_split(dataset, split, load_manifest(dataset, verify=False))
    texts = [f"{t}\n{a}" for t, a in zip(papers.titles, papers.abstracts, strict=True)]
    return PaperFacts(
        titles=tuple(papers.titles),
        text_chars=np.array([len(text) - 1 for text in texts], dtype=np.int32),
        formula_share=np.array([formula_share(text) for text in texts], dtype=np.float32),
    )
