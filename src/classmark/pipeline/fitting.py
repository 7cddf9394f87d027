"""The fit of a run: read the training papers, fit the parent, prune it, refine what is left."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classmark.dataset import iter_texts, read_split
from classmark.errors import InvalidConfig
from classmark.pipeline.config import TrainConfig, linear_options
from classmark.pipeline.tables import check_labels
from classmark.records import DatasetManifest
from classmark.tracking import Trackers
from classmark.training import (
    LinearWeights,
    SparsePapers,
    choose_frequent,
    fit_linear,
    rank_by_importance,
    read_occurrences,
    to_sparse,
)
from classmark.training.transformer.listeners import FitStanding

MAPPED_FROM_PAPERS = 100_000
"""From so many papers on the features are on disk; with fewer they take less than 2 GiB."""

OnProgress = Callable[[int], None]
OnStep = Callable[[str], None]
OnNote = Callable[[str], None]


@dataclass(frozen=True)
class Listener:
    """Who hears of the steps, papers and epochs of a fit; the log is what ``log.csv`` holds."""

    on_step: OnStep
    on_progress: OnProgress
    on_note: OnNote
    trackers: Trackers
    log: list[dict[str, Any]] = field(default_factory=list)

    def on_epoch(self, stage: str, epoch: int, loss: float) -> None:
        """Hear the mean loss of an epoch, in nats."""
        self.log.append({"stage": stage, "epoch": epoch, "loss": loss})
        self.trackers.metrics({f"{stage}/loss": loss}, step=epoch, epoch=epoch)

    def batches_of(self, n_papers: int, epochs: int) -> Callable[[int, float], None]:
        """Return who hears of each batch of a stage: its papers and their mean loss, in nats."""
        started, seen = time.monotonic(), 0

        def on_batch(papers: int, loss: float) -> None:
            nonlocal seen
            seen += papers
            self.on_progress(papers)
            speed = seen / max(1e-9, time.monotonic() - started)
            standing = FitStanding(
                share=seen / (n_papers * epochs),
                epoch=1 + (seen - 1) // n_papers,
                epochs=epochs,
                loss=loss,
                papers_per_second=speed,
                seconds_left=(n_papers * epochs - seen) / speed,
            )
            self.on_note(str(standing))

        return on_batch


def fit_and_prune(
    config: TrainConfig, manifest: DatasetManifest, listener: Listener
) -> tuple[LinearWeights, LinearWeights]:
    """Return the parent, fitted on all frequent features, and the model with those it keeps.

    Raises:
        InvalidDataset: the training papers cannot be read, or have one label only.
        TrainingFailed: nothing to fit, or the loss is no number.
        StorageFailed: there is no room for the features beside the runs.
    """
    split = read_split(config.dataset, "train", manifest, texts=False)
    check_labels(split, config.dataset)
    folder = scratch_for(len(split), config.runs_dir)
    where = " (features on disk)" if folder else ""
    listener.on_step(f"reading {len(split):,} training papers{where}")
    texts = iter_texts(config.dataset, "train", manifest)
    occurrences = read_occurrences(texts, listener.on_progress, folder)
    model = linear_options(config)
    weights = np.array([model.period_weights.get(p, 1.0) for p in split.periods], np.float32)

    def fit(
        stage: str, keys: NDArray[np.uint64], start: LinearWeights | None = None
    ) -> tuple[LinearWeights, SparsePapers]:
        papers = to_sparse(occurrences, keys, folder)
        epochs = model.epochs if start is None else model.refine_epochs
        listener.on_step(f"fitting the {stage}: {len(keys):,} features, epochs: {epochs}")
        fitted = fit_linear(
            papers,
            keys,
            split.labels,
            weights,
            model,
            n_labels=len(manifest.labels),
            seed=config.seed,
            start=start,
            on_epoch=lambda epoch, loss: listener.on_epoch(stage, epoch, loss),
            on_batch=listener.batches_of(len(papers), epochs),
        )
        return fitted, papers

    keys, _ = choose_frequent(occurrences, model.min_papers)
    parent, papers = fit("parent", keys)
    kept = np.sort(rank_by_importance(parent, papers)[: model.max_features])
    del papers  # what it has on disk goes with it
    return parent, fit("model", keys[kept], parent.select(kept))[0]


def scratch_for(n_papers: int, runs_dir: Path) -> Path | None:
    """Return where the features of so many papers go: beside the runs, or None for in memory."""
    if n_papers < MAPPED_FROM_PAPERS:
        return None
    place = runs_dir.resolve()
    return next(folder for folder in (place, *place.parents) if folder.is_dir())


def check_periods(config: TrainConfig, manifest: DatasetManifest) -> None:
    """Refuse weights of periods that a dataset does not have.

    Raises:
        InvalidConfig: names the period.
    """
    weights = linear_options(config).period_weights
    unknown = [name for name in weights if name not in manifest.periods]
    if unknown:
        raise InvalidConfig(
            f"model.period_weights.{unknown[0]}: {config.dataset} has no such period, it has "
            f"{', '.join(manifest.periods) or 'none'}. Name one of these, or build the dataset "
            "with --periods."
        )
