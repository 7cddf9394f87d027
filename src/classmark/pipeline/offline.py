"""The offline path in order: compose, fit, score, calibrate, evaluate, export."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from classmark.dataset import iter_texts, load_manifest, read_split
from classmark.kernels import RawScores
from classmark.kernels.linear import LinearScorer
from classmark.pipeline.config import TrainConfig
from classmark.pipeline.fitting import (
    Listener,
    OnNote,
    OnProgress,
    OnStep,
    check_periods,
    fit_and_prune,
    scratch_for,
)
from classmark.pipeline.run_folder import (
    check_runs_dir,
    reserve_run_folder,
    start_record,
    write_run,
)
from classmark.pipeline.tables import make_table
from classmark.pipeline.tracked import describe_run, keep_results, tracked
from classmark.records import DatasetManifest, Features, LinearPart, RunStart, ScoreTable
from classmark.tracking import warn_on_stderr
from classmark.training import LinearWeights, read_occurrences, to_sparse
from classmark.wire import ModelRef


def train_linear(
    config: TrainConfig,
    *,
    command: str,
    on_step: OnStep,
    on_progress: OnProgress,
    on_note: OnNote = lambda _: None,
    on_warning: OnStep = warn_on_stderr,
) -> Path:
    """Fit the fast tier, score the other splits, and return the run folder.

    A tracker that fails is one warning; the fit goes on.

    Raises:
        InvalidDataset: the dataset is missing, changed, or has one label only.
        InvalidConfig: a period is weighted that the dataset does not have.
        TrainingFailed: nothing to fit, or the loss is no number.
        StorageFailed: there is no writing where runs go.
    """
    check_runs_dir(config.runs_dir)
    manifest = load_manifest(config.dataset)
    check_periods(config, manifest)
    with reserve_run_folder(config.runs_dir, "linear") as folder:
        start = start_record(config, manifest, command, folder)
        run = describe_run(folder.name, config.composed, start)
        with tracked(config.tracker, folder, run, on_step, on_warning) as trackers:
            listener = Listener(on_step, on_progress, on_note, trackers)
            _train(config, folder, start, manifest, listener)
    return folder


def _train(
    config: TrainConfig,
    folder: Path,
    start: RunStart,
    manifest: DatasetManifest,
    listener: Listener,
) -> None:
    started = time.monotonic()
    parent, weights = fit_and_prune(config, manifest, listener)
    listener.on_step("scoring the valid and test splits")
    tables = {
        f"{stage}-{name}": table
        for name in ("valid", "test")
        for stage, table in _score_stages(
            config, name, manifest, {"parent": parent, "model": weights}
        )
    }
    record = start.finished(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        fit_seconds=round(time.monotonic() - started, 1),
        part=LinearPart(
            features=Features(parent=len(parent.keys), kept=len(weights.keys)),
            kernel=LinearScorer.best_kernel(),
        ),
    )
    write_run(folder, config, record, weights, tables, listener.log)
    keep_results(listener.trackers, folder, tables)


def _score_stages(
    config: TrainConfig, name: str, manifest: DatasetManifest, stages: Mapping[str, LinearWeights]
) -> Iterator[tuple[str, ScoreTable]]:
    split = read_split(config.dataset, name, manifest, texts=False)
    if not len(split):
        return
    folder = scratch_for(len(split), config.runs_dir)
    texts = iter_texts(config.dataset, name, manifest)
    occurrences = read_occurrences(texts, lambda _: None, folder)
    for stage, weights in stages.items():
        scores = weights.score(to_sparse(occurrences, weights.keys, folder))
        known = np.zeros(len(split), dtype=np.float32)
        ref = ModelRef(stage, "0", "")
        raw = RawScores(scores, known)
        yield stage, make_table(raw, split, name, manifest, manifest.labels, ref)
