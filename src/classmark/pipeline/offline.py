"""The fit of the fast tier in order: read, fit, prune, score, write."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classmark.dataset import DatasetSplit, load_manifest, read_split
from classmark.errors import InvalidConfig
from classmark.pipeline.config import TrainConfig, linear_options
from classmark.pipeline.run_folder import describe_environment, path_from_run, write_run
from classmark.pipeline.tables import check_labels, make_table
from classmark.records import DatasetManifest, ModelRef, ScoreTable
from classmark.runtime import RawScores
from classmark.runtime.linear import LinearScorer
from classmark.storage import check_folder_place
from classmark.training import (
    LinearWeights,
    SparsePapers,
    choose_frequent,
    fit_linear,
    rank_by_importance,
    read_occurrences,
    to_sparse,
)
from classmark.training.vocabulary import Occurrences

OnProgress = Callable[[int], None]
OnStep = Callable[[str], None]


def train_linear(
    config: TrainConfig, *, command: str, on_step: OnStep, on_progress: OnProgress
) -> Path:
    """Fit the fast tier, score the other splits, and return the run folder.

    Raises:
        InvalidDataset: the dataset is missing, changed, or has one label only.
        InvalidConfig: a period is weighted that the dataset does not have.
        TrainingFailed: nothing to fit, or the loss is no number.
        StorageFailed: there is no writing where runs go.
    """
    started = time.monotonic()
    check_folder_place(config.runs_dir / "run", overwrite=True)
    manifest = load_manifest(config.dataset)
    _check_periods(config, manifest)
    split = read_split(config.dataset, "train", manifest)
    check_labels(split, config.dataset)
    log: list[dict[str, Any]] = []
    on_step(f"reading {len(split):,} training papers")
    occurrences = read_occurrences(split.titles, split.abstracts, on_progress)
    listener = _Listener(on_step, on_progress, log)
    parent, weights = _fit_and_prune(occurrences, split, manifest, config, listener)
    on_step("scoring the valid and test splits")
    tables = {
        f"{stage}-{name}": table
        for name in ("valid", "test")
        for stage, table in _score_stages(
            config.dataset, name, manifest, {"parent": parent, "model": weights}
        )
    }
    provenance = {
        "kind": "linear",
        "command": command,
        "seed": config.seed,
        "dataset": path_from_run(config.dataset, config.runs_dir / "run"),
        "dataset_digest": manifest.digest,
        "labels": list(manifest.labels),
        "label_space": manifest.label_space,
        "generated": manifest.generated,
        "features": {"parent": len(parent.keys), "kept": len(weights.keys)},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "fit_seconds": round(time.monotonic() - started, 1),
        "kernel": LinearScorer.best_kernel(),
        **describe_environment(),
    }
    return write_run(config, provenance, weights, tables, log)


@dataclass(frozen=True)
class _Listener:
    """Who hears of the steps, papers and epochs of a fit."""

    on_step: OnStep
    on_progress: OnProgress
    log: list[dict[str, Any]]


def _check_periods(config: TrainConfig, manifest: DatasetManifest) -> None:
    unknown = [
        name for name in linear_options(config).period_weights if name not in manifest.periods
    ]
    if unknown:
        raise InvalidConfig(
            f"model.period_weights.{unknown[0]}: {config.dataset} has no such period, it has "
            f"{', '.join(manifest.periods) or 'none'}. Name one of these, or build the dataset "
            "with --periods."
        )


def _fit_and_prune(
    occurrences: Occurrences,
    split: DatasetSplit,
    manifest: DatasetManifest,
    config: TrainConfig,
    listener: _Listener,
) -> tuple[LinearWeights, LinearWeights]:
    model = linear_options(config)
    weights = np.array([model.period_weights.get(p, 1.0) for p in split.periods], np.float32)

    def fit(
        stage: str, keys: NDArray[np.uint64], start: LinearWeights | None = None
    ) -> tuple[LinearWeights, SparsePapers]:
        papers = to_sparse(occurrences, keys)
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
            on_epoch=lambda epoch, loss: listener.log.append(
                {"stage": stage, "epoch": epoch, "loss": loss}
            ),
            on_batch=listener.on_progress,
        )
        return fitted, papers

    keys, _ = choose_frequent(occurrences, model.min_papers)
    parent, papers = fit("parent", keys)
    kept = np.sort(rank_by_importance(parent, papers)[: model.max_features])
    return parent, fit("model", keys[kept], parent.select(kept))[0]


def _score_stages(
    dataset: Path, name: str, manifest: DatasetManifest, stages: Mapping[str, LinearWeights]
) -> Iterator[tuple[str, ScoreTable]]:
    split = read_split(dataset, name, manifest)
    if not len(split):
        return
    occurrences = read_occurrences(split.titles, split.abstracts, lambda _: None)
    for stage, weights in stages.items():
        scores = weights.score(to_sparse(occurrences, weights.keys))
        known = np.zeros(len(split), dtype=np.float32)
        ref = ModelRef(stage, "0", "")
        raw = RawScores(scores, known)
        yield stage, make_table(raw, split, name, manifest, manifest.labels, ref)
