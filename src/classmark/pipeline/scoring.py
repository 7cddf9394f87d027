"""Splits of a dataset to score tables."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice, repeat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classmark.dataset import DatasetSplit, iter_authors, iter_texts, load_manifest, read_split
from classmark.errors import InvalidDataset, LabelMismatch
from classmark.evaluation.robustness import LATEX
from classmark.kernels import RawScores, Scorer
from classmark.kernels.calibration import CalibrationCurve
from classmark.records import DatasetManifest, Paper, PaperFacts, Policy, Progress, ScoreTable
from classmark.runtime import Classifier
from classmark.wire import ModelRef

CHUNK_PAPERS = 500


def score_dataset(
    model: str, dataset: Path, split: str, progress: Progress, *, authors: bool = True
) -> ScoreTable:
    """Score a split of a dataset with an installed model.

    Args:
        model: as for ``Classifier``.
        dataset: its folder.
        split: its name.
        progress: of the papers.
        authors: use those that the dataset names, if the model has a table of authors.

    Raises:
        LabelMismatch: the model has none of the dataset's labels.
    """
    classifier = Classifier(model)
    manifest = load_manifest(dataset)
    if not set(classifier.labels) & set(manifest.labels):
        raise LabelMismatch(
            f"model {classifier.model.name} has none of the {len(manifest.labels)} labels of "
            f"{dataset} (first: {manifest.labels[0]!r}). Use a model that was fitted on them."
        )
    source = Source(dataset, manifest, progress)
    labels = tuple(classifier.labels)
    table = score_split(classifier, source, split, labels, classifier.model, authors=authors)
    return with_policy(table, classifier.policy)


@dataclass(frozen=True)
class Source:
    """A dataset whose splits are scored, and where that is shown."""

    dataset: Path
    manifest: DatasetManifest
    progress: Progress


def score_split(
    scorer: Scorer | Classifier,
    source: Source,
    name: str,
    labels: tuple[str, ...],
    model: ModelRef,
    *,
    authors: bool = False,
) -> ScoreTable:
    """Return the scores of a split, as a scorer gives them, or a classifier's, before any policy.

    Args:
        scorer: reads raw papers.
        source: the dataset.
        name: of the split.
        labels: k codes, the columns of the scores.
        model: who scores.
        authors: let a classifier use those that the dataset names.
    """
    split = read_split(source.dataset, name, source.manifest, texts=False)
    texts = iter_texts(source.dataset, name, source.manifest)
    names = iter_authors(source.dataset, name, source.manifest) if authors else repeat(())
    papers = map(as_paper, texts, names, split.years.tolist())
    parts = []
    while chunk := list(islice(papers, CHUNK_PAPERS)):
        if isinstance(scorer, Classifier):
            parts.append(scorer.score(chunk))
        else:
            parts.append(scorer.score([(paper.title, paper.abstract) for paper in chunk]))
        source.progress.advance(len(chunk))
    none = RawScores(np.zeros((0, len(labels)), np.float32), np.zeros(0, np.float32))
    raw = RawScores.joined(parts or [none])
    table = make_table(raw, split, name, source.manifest, labels, model)
    return replace(table, used_authors=raw.used_authors)


def as_paper(text: tuple[str, str], authors: tuple[str, ...], year: int) -> Paper:
    """Return a paper of a dataset: (title, abstract), authors, and year or 0."""
    title, abstract = text
    published = f"{year:04}" if year else None
    return Paper(title=title, abstract=abstract, authors=authors, published_date=published)


def with_policy(table: ScoreTable, policy: Policy) -> ScoreTable:
    """Return a table with what the policy says of its scores."""
    return ScoreTable(
        **{
            **table.__dict__,
            "temperature": policy.temperature,
            "set_threshold": policy.set_threshold,
            "author_set_threshold": policy.author_set_threshold,
            "set_coverage": policy.set_coverage,
            "thresholds": policy.thresholds,
        }
    )


def with_curve(table: ScoreTable, curve: CalibrationCurve | None) -> ScoreTable:
    """Return a table as the bundle's kernel gives it, which applies the curve itself."""
    if curve is None or not len(table):
        return table
    return replace(table, scores=curve.apply(table.scores))


def check_labels(split: DatasetSplit, dataset: Path) -> None:
    """Check that a training split has two labels or more.

    Raises:
        InvalidDataset: it has one or none.
    """
    if len(np.unique(split.labels)) < 2:
        raise InvalidDataset(
            f"the training split of {dataset} has {len(np.unique(split.labels))} label(s); a model "
            "needs at least 2. Build it from more papers, or lower --min-papers."
        )


def take_papers(split: DatasetSplit, rows: NDArray[np.int64]) -> DatasetSplit:
    """Return some papers of a split: int64 indices, in that order."""
    counts = np.diff(split.listed_indptr)[rows]
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    within = np.arange(starts[-1]) - np.repeat(starts[:-1], counts)
    return DatasetSplit(
        ids=tuple(split.ids[i] for i in rows),
        titles=[split.titles[i] for i in rows],
        abstracts=[split.abstracts[i] for i in rows],
        labels=split.labels[rows],
        listed_indptr=starts,
        listed_indices=split.listed_indices[np.repeat(split.listed_indptr[rows], counts) + within],
        listed_count=split.listed_count[rows],
        years=split.years[rows],
        periods=tuple(split.periods[i] for i in rows),
    )


def draw_papers(split: DatasetSplit, most: int | None, seed: int) -> DatasetSplit:
    """Return at most so many papers of a split, drawn by a seed, in their order."""
    if most is None or most >= len(split):
        return split
    rows = np.random.default_rng(seed).permutation(len(split))[:most]
    return take_papers(split, np.sort(rows).astype(np.int64))


def make_table(
    raw: RawScores,
    split: DatasetSplit,
    name: str,
    manifest: DatasetManifest,
    labels: tuple[str, ...],
    model: ModelRef,
) -> ScoreTable:
    """Return the scores of a split with its truth, in the columns of a model."""
    column = {label: i for i, label in enumerate(labels)}
    to_model = np.array([column.get(label, -1) for label in manifest.labels], dtype=np.int16)
    listed = np.zeros((len(split), len(labels)), dtype=np.bool_)
    rows = np.repeat(np.arange(len(split)), np.diff(split.listed_indptr))
    columns = to_model[split.listed_indices]
    listed[rows[columns >= 0], columns[columns >= 0]] = True
    return ScoreTable(
        labels=labels,
        ids=split.ids,
        scores=raw.scores,
        primary=to_model[split.labels],
        listed=listed,
        listed_count=split.listed_count,
        years=split.years,
        periods=split.periods,
        known_share=raw.known_share,
        model=model,
        dataset_digest=manifest.digest,
        split=name,
        generated=manifest.generated,
    )


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
