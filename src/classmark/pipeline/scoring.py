"""Splits of a dataset to score tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from classmark.dataset import iter_texts, load_manifest, read_split
from classmark.errors import LabelMismatch
from classmark.kernels import RawScores, Scorer
from classmark.kernels.curve import CalibrationCurve
from classmark.pipeline.tables import make_table
from classmark.records import DatasetManifest, Paper, Policy, ScoreTable
from classmark.runtime import Classifier
from classmark.wire import ModelRef

CHUNK_PAPERS = 500

OnProgress = Callable[[int], None]


def score_dataset(model: str, dataset: Path, split: str, on_progress: OnProgress) -> ScoreTable:
    """Score a split of a dataset with an installed model.

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
    source = Source(dataset, manifest, on_progress)
    labels = tuple(classifier.labels)
    table = score_split(classifier, source, split, labels, classifier.model)
    return with_policy(table, classifier.policy)


@dataclass(frozen=True)
class Source:
    """A dataset whose splits are scored, and who counts the papers."""

    dataset: Path
    manifest: DatasetManifest
    on_progress: OnProgress


def score_split(
    scorer: Scorer | Classifier,
    source: Source,
    name: str,
    labels: tuple[str, ...],
    model: ModelRef,
) -> ScoreTable:
    """Return the scores of a split, as a scorer gives them, or a classifier's, before any policy.

    Args:
        scorer: reads raw papers.
        source: the dataset.
        name: of the split.
        labels: k codes, the columns of the scores.
        model: who scores.
    """
    split = read_split(source.dataset, name, source.manifest, texts=False)
    texts = iter_texts(source.dataset, name, source.manifest)
    parts = []
    while pairs := list(islice(texts, CHUNK_PAPERS)):
        if isinstance(scorer, Classifier):
            parts.append(scorer.score([Paper(title=t, abstract=a) for t, a in pairs]))
        else:
            parts.append(scorer.score(pairs))
        source.on_progress(len(pairs))
    raw = RawScores(
        np.concatenate([np.zeros((0, len(labels)), np.float32), *(p.scores for p in parts)]),
        np.concatenate([np.zeros(0, np.float32), *(p.known_share for p in parts)]),
    )
    return make_table(raw, split, name, source.manifest, labels, model)


def with_policy(table: ScoreTable, policy: Policy) -> ScoreTable:
    """Return a table with what the policy says of its scores."""
    return ScoreTable(
        **{
            **table.__dict__,
            "temperature": policy.temperature,
            "set_threshold": policy.set_threshold,
            "set_coverage": policy.set_coverage,
            "thresholds": policy.thresholds,
        }
    )


def with_curve(table: ScoreTable, curve: CalibrationCurve | None) -> ScoreTable:
    """Return a table as the bundle's kernel gives it, which applies the curve itself."""
    if curve is None or not len(table):
        return table
    return replace(table, scores=curve.apply(table.scores))
