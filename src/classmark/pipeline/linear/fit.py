"""The fit of a linear model: parent, pruning, refinement, scores of the other splits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classmark.dataset import iter_texts, read_split
from classmark.errors import InvalidConfig
from classmark.evaluation import macro_f1, top_k_accuracy
from classmark.kernels import RawScores
from classmark.kernels.linear import LinearScorer
from classmark.pipeline.authors import fit_authors
from classmark.pipeline.config import TrainConfig
from classmark.pipeline.linear.export import read_weights, write_weights
from classmark.pipeline.run_folder import (
    reserve_run_folder,
    start_record,
    write_config,
    write_record,
    write_tables,
)
from classmark.pipeline.scoring import Source, check_labels, make_table
from classmark.pipeline.tracked import keep_results, tracked
from classmark.records import (
    SILENT,
    AuthorFacts,
    DatasetManifest,
    Features,
    LinearPart,
    Progress,
    RunRecord,
    RunStart,
    ScoreTable,
)
from classmark.storage import atomic_folder, local_copy, named_place
from classmark.tracking import Trackers
from classmark.training import (
    LinearConfig,
    LinearFit,
    LinearWeights,
    SparsePapers,
    choose_frequent,
    choose_papers,
    fit_linear,
    parts_of,
    rank_by_importance,
    read_occurrences,
    to_sparse,
)
from classmark.wire import ModelRef

MAPPED_FROM_PAPERS = 100_000
"""With this many papers or more the features are on disk; fewer take less than 2 GiB."""


@dataclass(frozen=True)
class _Work:
    """What a fit was given, and the losses that ``log.csv`` will hold."""

    config: TrainConfig
    options: LinearConfig
    manifest: DatasetManifest
    progress: Progress
    trackers: Trackers
    log: list[tuple[str, int, float]] = field(default_factory=list)


def train(config: TrainConfig, manifest: DatasetManifest, command: str, progress: Progress) -> Path:
    """Return the run folder of a fit; a tracker that fails is one warning, and the fit continues.

    Raises:
        InvalidDataset: the training papers cannot be read, or have one label only.
        InvalidConfig: a period is weighted that the dataset does not have.
        TrainingFailed: nothing to fit, or the loss is not a number.
        StorageFailed: nothing can be written where runs go.
    """
    options = config.options(LinearConfig)
    _check_periods(options, config.dataset, manifest)
    with reserve_run_folder(config.runs_dir, config.kind) as folder:
        start = start_record(config, manifest, command, folder)
        with tracked(config, folder, folder.name, start, progress) as trackers:
            work = _Work(config, options, manifest, progress, trackers)
            tables = _fit_and_write(work, folder, start)
            keep_results(trackers, folder, tables)
    return folder


def _fit_and_write(work: _Work, folder: Path, start: RunStart) -> dict[str, ScoreTable]:
    started = time.monotonic()
    parent, weights = _fit_and_prune(work)
    authors = fit_authors(
        Source(work.config.dataset, work.manifest, work.progress),
        max_entries=work.options.max_author_entries,
        seed=work.config.seed,
    )
    work.progress.step("scoring the valid and test splits")
    stages = {"parent": parent, "model": weights}
    tables = {
        f"{stage}-{name}": table
        for name in ("valid", "test")
        for stage, table in _score_stages(work, name, stages)
    }
    record = start.finished(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        fit_seconds=round(time.monotonic() - started, 1),
        part=LinearPart(
            features=Features(parent=len(parent.keys), kept=len(weights.keys)),
            kernel=LinearScorer.best_kernel(),
            authors=authors.facts if authors else AuthorFacts(),
        ),
    )
    with atomic_folder(folder) as temporary:
        _write(work, temporary, record, weights, tables)
        if authors:
            authors.write(temporary)
    return tables


def _fit_and_prune(work: _Work) -> tuple[LinearWeights, LinearWeights]:
    """Return the parent, fitted on all frequent features, and the model with those it keeps."""
    config, options, manifest = work.config, work.options, work.manifest
    split = read_split(config.dataset, "train", manifest, texts=False)
    check_labels(split, config.dataset)
    parts = choose_papers(len(split), options.parts_share, config.seed)
    folder = _scratch_for(len(split), config.runs_dir)
    where = " (features on disk)" if folder else ""
    of_parts = f", and parts of {len(parts):,}" if len(parts) else ""
    work.progress.step(f"reading {len(split):,} training papers{of_parts}{where}")
    texts = iter_texts(config.dataset, "train", manifest)
    further = parts_of(iter_texts(config.dataset, "train", manifest), parts, config.seed)
    occurrences = read_occurrences(chain(texts, further), work.progress, folder)
    rows = np.concatenate([np.arange(len(split)), parts])
    weights = _weights_of(split.periods, rows, options)

    def fit(
        stage: str,
        keys: NDArray[np.uint64],
        start: LinearWeights | None = None,
        *,
        is_warm: bool = False,
    ) -> tuple[LinearWeights, SparsePapers]:
        task = LinearFit(
            papers=to_sparse(occurrences, keys, folder),
            keys=keys,
            labels=split.labels[rows],
            weights=weights,
            config=options,
            n_labels=len(manifest.labels),
            seed=config.seed,
            start=start,
            is_warm=is_warm,
            stage=stage,
            progress=work.progress,
            trackers=work.trackers,
            each_epoch=None if start and not is_warm else _measures(work, keys),
        )
        work.progress.step(f"fitting the {stage}: {len(keys):,} features, epochs: {task.epochs}")
        fitted, losses = fit_linear(task)
        work.log.extend((stage, epoch, loss) for epoch, loss in enumerate(losses, 1))
        return fitted, task.papers

    keys, _ = choose_frequent(occurrences, options.min_papers)
    warm = _warm_start(work, keys)
    parent, papers = fit("parent", keys, warm, is_warm=warm is not None)
    kept = np.sort(rank_by_importance(parent, papers)[: options.max_features])
    del papers  # what it has on disk goes with it
    return parent, fit("model", keys[kept], parent.select(kept))[0]


def _weights_of(
    periods: Sequence[str], rows: NDArray[np.intp], options: LinearConfig
) -> NDArray[np.float32]:
    """Return the weight of each paper in the loss, and after them of each part: float32 [n].

    Args:
        periods: of the papers.
        rows: number of the paper of each of them: all papers, then those with parts.
        options: the weights.
    """
    weights = np.array([options.period_weights.get(p, 1.0) for p in periods], np.float32)[rows]
    weights[len(periods) :] *= np.float32(options.parts_weight)
    return weights


def _warm_start(work: _Work, keys: NDArray[np.uint64]) -> LinearWeights | None:
    """Return the weights of the run to start from, for these features and labels; None without.

    Raises:
        InvalidConfig: the folder is not such a run.
        RunCorrupt: a file of it is damaged.
    """
    if work.options.start is None:
        return None
    folder = local_copy(named_place(work.options.start))
    record = RunRecord.read(folder) if (folder / RunRecord.FILE).is_file() else None
    if record is None or record.kind != "linear":
        raise InvalidConfig(
            f"model.start: {folder} is not a finished run of model=linear. Give the folder that "
            "such a `classmark train` printed last, or leave it out."
        )
    columns = {label: column for column, label in enumerate(record.labels)}
    known = np.array([columns.get(label, -1) for label in work.manifest.labels])
    work.progress.step(f"starting from {folder.name}: {(known >= 0).sum():,} known labels")
    weights = read_weights(folder, len(record.labels))
    return weights.carried_over(keys, known, work.config.seed)


def _measures(work: _Work, keys: NDArray[np.uint64]) -> Callable[[int, LinearWeights], None] | None:
    """Return what measures each epoch on the valid split, if something watches the fit."""
    config = work.config
    valid = read_split(config.dataset, "valid", work.manifest, texts=False)
    if not config.watchers or not len(valid):
        return None
    texts = iter_texts(config.dataset, "valid", work.manifest)
    papers = to_sparse(read_occurrences(texts, SILENT), keys)

    def measure(epoch: int, weights: LinearWeights) -> None:
        scores = weights.score(papers)
        values = {
            "valid/top_1": top_k_accuracy(scores, valid.labels),
            "valid/top_5": top_k_accuracy(scores, valid.labels, 5),
            "valid/macro_f1": macro_f1(scores, valid.labels),
        }
        work.trackers.metrics(values, step=epoch, epoch=epoch)

    return measure


def _score_stages(
    work: _Work, name: str, stages: Mapping[str, LinearWeights]
) -> Iterator[tuple[str, ScoreTable]]:
    config, manifest = work.config, work.manifest
    split = read_split(config.dataset, name, manifest, texts=False)
    if not len(split):
        return
    folder = _scratch_for(len(split), config.runs_dir)
    occurrences = read_occurrences(iter_texts(config.dataset, name, manifest), SILENT, folder)
    for stage, weights in stages.items():
        scores = weights.score(to_sparse(occurrences, weights.keys, folder))
        raw = RawScores(scores, np.zeros(len(split), dtype=np.float32))
        ref = ModelRef(stage, "0", "")
        yield stage, make_table(raw, split, name, manifest, manifest.labels, ref)


def _write(
    work: _Work,
    folder: Path,
    record: RunRecord,
    weights: LinearWeights,
    tables: Mapping[str, ScoreTable],
) -> None:
    """Write what every run of a linear model has."""
    write_config(folder, work.config)
    write_record(folder, record)
    lines = [f"{stage},{epoch},{loss:.6f}\n" for stage, epoch, loss in work.log]
    text = "stage,epoch,loss\n" + "".join(lines)
    (folder / "log.csv").write_text(text, encoding="utf-8", newline="\n")
    write_weights(folder, weights)
    write_tables(folder, tables)


def _scratch_for(n_papers: int, runs_dir: Path) -> Path | None:
    """Return where the features of so many papers go: beside the runs, or None for in memory."""
    if n_papers < MAPPED_FROM_PAPERS:
        return None
    place = runs_dir.resolve()
    return next(folder for folder in (place, *place.parents) if folder.is_dir())


def _check_periods(options: LinearConfig, dataset: Path, manifest: DatasetManifest) -> None:
    unknown = [name for name in options.period_weights if name not in manifest.periods]
    if unknown:
        raise InvalidConfig(
            f"model.period_weights.{unknown[0]}: {dataset} has no such period, it has "
            f"{', '.join(manifest.periods) or 'none'}. Name one of these, or build the dataset "
            "with --periods."
        )
