"""Calibrates an index of papers: how far their categories count as evidence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classmark.dataset import iter_authors, iter_texts, load_manifest, read_split
from classmark.errors import TrainingFailed
from classmark.export import fit_curve
from classmark.kernels import RawScores
from classmark.kernels.calibration import log_softmax
from classmark.neighbours import (
    EvidenceWeights,
    Index,
    NeighbourJoin,
    SideWeights,
    set_evidence,
)
from classmark.neighbours.evidence import ASK_BELOW, Found
from classmark.pipeline.scoring import CHUNK_PAPERS, Source, make_table
from classmark.records import Paper, Progress, ScoreTable
from classmark.runtime import Classifier
from classmark.training.neighbours import fit_sides

_LEAST_PAPERS = 200
_LEAST_GAIN_ERRORS = 2
"""Neighbours are asked if their gain on papers that no weight has seen is more than so many
standard errors."""
_UNFITTED = SideWeights((1.0, 0.0, 0.0, 0.0))


@dataclass(frozen=True, kw_only=True)
class Gain:
    """What neighbours add where they are asked, on half of the papers; the rest fitted the weights.

    Attributes:
        papers: of that half that are asked.
        top_1_before: share of them whose category comes first without neighbours, 0..1.
        top_1_after: the same with them.
        nats: mean gain of log p(true category).
        helps: whether that is enough for them to be asked.
    """

    papers: int = 0
    top_1_before: float = 0.0
    top_1_after: float = 0.0
    nats: float = 0.0
    helps: bool = False


@dataclass(frozen=True, kw_only=True)
class IndexCalibration:
    """What the calibration of an index found.

    Attributes:
        text: for papers whose authors are unknown, or not to be used.
        authors: for papers of known authors.
    """

    text: Gain
    authors: Gain


def calibrate_index(
    path: Path, classifier: Classifier, dataset: Path, split: str, progress: Progress
) -> IndexCalibration:
    """Fit how far the papers of an index are trusted, and keep that in the index.

    Args:
        path: the index. A paper's own row never counts.
        classifier: the model of the index, without an index.
        dataset: with papers that the model was not fitted on.
        split: of these papers.
        progress: is shown the steps.

    Raises:
        TrainingFailed: neighbours do not help, or there are too few papers to tell; the index stays
            as it was.
        IndexCorrupt, IndexIncompatible: it cannot be read, or is of another model.
        InvalidDataset: the dataset or the split cannot be read.
    """
    index = Index.open(path, model=classifier.model)
    source = Source(dataset, load_manifest(dataset), progress)
    join = NeighbourJoin(index, classifier.labels, EvidenceWeights(ASK_BELOW, _UNFITTED, _UNFITTED))
    progress.step("looking for neighbours")
    table, text_scores, with_authors, found = _scored(source, split, classifier, join)
    temperature = classifier.policy.temperature
    alone = replace(table, scores=text_scores)
    text, text_gain = _fit(join, alone, found, np.ones_like(with_authors), temperature)
    if text is None:
        raise TrainingFailed(
            f"the papers of the index {path} do not help with those of split {split} of {dataset} "
            f"({text_gain.papers:,} were asked about). Index more papers, or calibrate with more."
        )
    authors, authors_gain = _fit(join, table, found, with_authors, temperature)
    set_evidence(path, EvidenceWeights(ASK_BELOW, text, authors), classifier.model)
    return IndexCalibration(text=text_gain, authors=authors_gain)


def _scored(
    source: Source, split: str, classifier: Classifier, join: NeighbourJoin
) -> tuple[ScoreTable, NDArray[np.float32], NDArray[np.bool_], Found]:
    """Return the scores of a split with authors, those of the text, and what neighbours say."""
    facts = read_split(source.dataset, split, source.manifest, texts=False)
    papers = _papers(source, split, facts.ids, facts.years)
    raws, said = [classifier.score([])], [join.find(classifier.vectors([]), [])]
    while chunk := list(islice(papers, CHUNK_PAPERS)):
        raws.append(classifier.score(chunk))
        said.append(join.find(classifier.vectors(chunk), chunk))
        source.progress.advance(len(chunk))
    raw = RawScores.joined(raws)
    labels = tuple(classifier.labels)
    table = make_table(raw, facts, split, source.manifest, labels, classifier.model)
    found = Found.joined(said)
    return table, raw.of_text, raw.with_authors, found


def _papers(
    source: Source, split: str, ids: tuple[str, ...], years: NDArray[Any]
) -> Iterator[Paper]:
    texts = iter_texts(source.dataset, split, source.manifest)
    authors = iter_authors(source.dataset, split, source.manifest)
    for id, (title, abstract), names, year in zip(ids, texts, authors, years.tolist(), strict=True):
        date = f"{year:04}" if year else None
        yield Paper(id=id, title=title, abstract=abstract, authors=names, published_date=date)


def _fit(
    join: NeighbourJoin,
    table: ScoreTable,
    found: Found,
    wanted: NDArray[np.bool_],
    temperature: float,
) -> tuple[SideWeights | None, Gain]:
    """Return the weights for some papers, None if neighbours do not help them, and the gain."""
    log_p = log_softmax(table.scores, temperature)
    asked = join.asked(RawScores(table.scores, table.known_share), log_p)
    usable = wanted & found.known & (table.primary >= 0)
    rows = asked[usable[asked]]
    if len(rows) < _LEAST_PAPERS:
        return None, Gain(papers=len(rows) // 2)
    parts = join.parts(log_p[rows], found.rows(rows))
    table = table.select(rows)
    odd = np.arange(1, len(rows), 2)
    half = _fit_side(parts, table, np.arange(0, len(rows), 2))
    gain = _gain(log_softmax(half.score(parts[odd]), 1.0), parts[odd, 0], table.primary[odd])
    return (_fit_side(parts, table, np.arange(len(rows))) if gain.helps else None), gain


def _fit_side(parts: NDArray[np.float64], table: ScoreTable, rows: NDArray[Any]) -> SideWeights:
    parts, table = parts[rows], table.select(rows)
    _, period, counts = np.unique(table.periods, return_inverse=True, return_counts=True)
    side = SideWeights(fit_sides(parts, table.primary, 1.0 / counts[period]))
    return replace(side, curve=fit_curve(replace(table, scores=side.score(parts))))


def _gain(after: NDArray[Any], before: NDArray[Any], labels: NDArray[Any]) -> Gain:
    own = np.arange(len(labels)), labels
    gains = after[own] - before[own]
    return Gain(
        papers=len(labels),
        top_1_before=round(float((before.argmax(axis=1) == labels).mean()), 4),
        top_1_after=round(float((after.argmax(axis=1) == labels).mean()), 4),
        nats=round(float(gains.mean()), 4),
        helps=bool(gains.mean() > _LEAST_GAIN_ERRORS * gains.std() / np.sqrt(len(labels))),
    )
