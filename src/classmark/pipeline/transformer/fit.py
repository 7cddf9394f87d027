"""The fit of a transformer: read, fit, score, write; it can be resumed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from classmark.dataset import DatasetSplit, read_split
from classmark.errors import (
    Interrupted,
    InvalidConfig,
    InvalidDataset,
    TrainingFailed,
    WorkerFailed,
)
from classmark.kernels import RawScores
from classmark.pipeline.authors import FittedAuthors, fit_authors
from classmark.pipeline.config import TrainConfig
from classmark.pipeline.profiled import operations_folder
from classmark.pipeline.run_folder import (
    remove_what_killed_runs_left,
    reserve_run_folder,
    start_record,
    unfinished_folder,
    write_config,
    write_record,
    write_tables,
)
from classmark.pipeline.scoring import Source, check_labels, draw_papers, make_table
from classmark.pipeline.tracked import keep_results, tracked
from classmark.pipeline.unfinished import (
    Unfinished,
    begin_unfinished,
    check_same_dataset,
    check_same_labels,
    hold_run,
    read_transformer_record,
    read_unfinished,
)
from classmark.records import (
    SILENT,
    AuthorFacts,
    DatasetManifest,
    EncoderFacts,
    Progress,
    RunRecord,
    RunStart,
    ScoreTable,
    TransformerPart,
)
from classmark.storage import atomic_file, local_copy, named_place, write_json
from classmark.tracking import Trackers
from classmark.tracking.tracker import flat
from classmark.training import TransformerConfig
from classmark.training.transformer.processes import Processes, joined
from classmark.wire import ModelRef

if TYPE_CHECKING:
    from classmark.training.transformer import Encoder, Fitted, TokenisedPapers

_SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, eq=False)
class _Split:
    """The papers of a split that are used, and their tokens."""

    split: DatasetSplit
    papers: TokenisedPapers


@dataclass(frozen=True, eq=False)
class _Work:
    """The configuration of a fit, the processes that make it, and what was read for it."""

    config: TrainConfig
    options: TransformerConfig
    manifest: DatasetManifest
    encoder: Encoder
    splits: dict[str, _Split]
    progress: Progress
    processes: Processes


def train(config: TrainConfig, manifest: DatasetManifest, command: str, progress: Progress) -> Path:
    """Return the run folder of a fit, new or resumed.

    A tracker that fails is one warning, and the fit continues. Of several processes the first
    writes the run and shows progress.

    Raises:
        InvalidConfig: an option does not fit the encoder or the machine, processes were started
            with different options, or there is no such run to resume.
        InvalidDataset: the training papers cannot be read, or have one label only.
        LabelMismatch: the run to resume, or to start from, has other labels.
        EncoderNotFound: the encoder is nowhere.
        TrainingFailed: the loss is not a number, or memory ended; says what is kept.
        CheckpointCorrupt: no checkpoint of the run to resume can be read.
        Interrupted: the user ended it; says how to resume it.
        OutputBusy: another process fits the run to resume.
        StorageFailed: nothing can be written where runs go.
        WorkerFailed: another process of the fit has gone; says how to resume it.
    """
    options = config.options(TransformerConfig)
    beside = partial(train, config, manifest, command, SILENT)
    with joined(options, beside) as processes:
        _check_same_work(config, manifest, processes)
        if processes.is_first:
            return _lead(config, manifest, command, progress, processes)
        return _take_part(config, manifest, processes)


def _lead(
    config: TrainConfig,
    manifest: DatasetManifest,
    command: str,
    progress: Progress,
    processes: Processes,
) -> Path:
    """Return the run folder, which this process writes."""
    options = config.options(TransformerConfig)
    with ExitStack() as stack:
        if config.resume is not None:
            stack.enter_context(hold_run(config.resume))
            remove_what_killed_runs_left(config.resume.parent)
        run = _run_to_resume(config, manifest)
        _check_start(options, manifest, config.dataset)
        work = _read_work(config, manifest, progress, processes)
        if run is None:
            folder = stack.enter_context(reserve_run_folder(config.runs_dir, config.kind))
            stack.enter_context(hold_run(unfinished_folder(folder)))
            run = begin_unfinished(folder, start_record(config, manifest, command, folder))
            write_config(run.folder, config)
        stack.enter_context(_kept_or_gone(run))
        with processes.lost_ones():
            processes.share(run.finished_folder)
        start = start_record(config, manifest, command, run.finished_folder)
        _fit_and_write(work, run, start)
    # Not locked any more, because an open file keeps a folder from being renamed on some systems.
    # A process that takes it first sees that it is finished.
    return run.finish()


def _take_part(config: TrainConfig, manifest: DatasetManifest, processes: Processes) -> Path:
    """Return the run folder, which the first process writes."""
    work = _read_work(config, manifest, SILENT, processes)
    with processes.lost_ones(), TemporaryDirectory(prefix="classmark-fit-") as folder:
        finished = processes.share(Path(folder))
        _score(work, _fit(work, Path(folder), Trackers()))
    return finished


def _check_same_work(config: TrainConfig, manifest: DatasetManifest, processes: Processes) -> None:
    """Check that this process was started for the fit of the first one.

    Raises:
        InvalidConfig: it has other options.
        InvalidDataset: it has other papers.
    """
    digest, composed = processes.share((manifest.digest, config.composed))
    if digest != manifest.digest:
        raise InvalidDataset(
            f"process {processes.rank} has the dataset {config.dataset} with digest "
            f"{manifest.digest[:12]}, the first one has {digest[:12]}. Copy that dataset here."
        )
    mine, first = dict(flat(config.composed)), dict(flat(composed))
    for key in sorted(mine.keys() | first.keys()):
        if key.startswith(("model.", "seed")) and mine.get(key) != first.get(key):
            raise InvalidConfig(
                f"{key} is {mine.get(key)!r} in process {processes.rank}, {first.get(key)!r} in "
                "the first one. Start all of them with the same command."
            )


def _fit_and_write(work: _Work, run: Unfinished, start: RunStart) -> None:
    name = run.finished_folder.name
    with tracked(work.config, run.folder, name, start, work.progress) as trackers:
        fitted = _fit(work, run.folder, trackers)
        tables = _score(work, fitted)
        authors = fit_authors(
            Source(work.config.dataset, work.manifest, work.progress),
            max_entries=work.options.max_author_entries,
            seed=work.config.seed,
        )
        work.progress.step("writing the run")
        if authors:
            authors.write(run.folder)
        _write(run, work, fitted, tables, _finished(work, fitted, start, authors))
        keep_results(trackers, run.folder, tables)


def _run_to_resume(config: TrainConfig, manifest: DatasetManifest) -> Unfinished | None:
    if config.resume is None:
        return None
    run = read_unfinished(config.resume)
    check_same_dataset(run.start, manifest, config.dataset, f"the run {run.folder}")
    return run


def _check_start(options: TransformerConfig, manifest: DatasetManifest, dataset: Path) -> None:
    if options.start is not None:
        record = read_transformer_record(local_copy(named_place(options.start)))
        check_same_labels(record.labels, manifest.labels, dataset, f"the run {options.start}")


def _read_work(
    config: TrainConfig, manifest: DatasetManifest, progress: Progress, processes: Processes
) -> _Work:
    options = config.options(TransformerConfig)
    progress.step(f"loading the encoder {options.encoder}")
    from classmark.kernels.tokens import PairTokenizer
    from classmark.training.transformer import load_encoder, tokenise

    encoder = load_encoder(options.encoder, options.encoder_dropout)
    tokenizer = PairTokenizer(encoder.tokenizer_json, options.max_length)
    splits = {}
    for name in _SPLITS:
        most = options.max_samples if name == "train" else options.max_held_out
        split = draw_papers(read_split(config.dataset, name, manifest), most, config.seed)
        if name == "train":
            check_labels(split, config.dataset)
        progress.step(f"reading {len(split):,} papers of the {name} split")
        pairs = list(zip(split.titles, split.abstracts, strict=True))
        splits[name] = _Split(split, tokenise(tokenizer, pairs, progress))
    return _Work(config, options, manifest, encoder, splits, progress, processes)


def _fit(work: _Work, folder: Path, trackers: Trackers) -> Fitted:
    from classmark.training.transformer import (
        Targets,
        TransformerFit,
        Valid,
        fit_transformer,
        paper_weights,
        read_start,
    )

    options, train, valid = work.options, work.splits["train"], work.splits["valid"]
    n_labels, labels = len(work.manifest.labels), train.split.labels
    targets = Targets(
        labels=labels,
        listed_indptr=train.split.listed_indptr,
        listed_indices=train.split.listed_indices,
        n_labels=n_labels,
        smoothing=options.label_smoothing,
        cross_list_share=options.cross_list_share,
        weights=paper_weights(labels, n_labels, options.class_weights),
    )
    # The first process gives its weights to the others.
    has_start = work.processes.is_first and options.start is not None
    start = local_copy(named_place(str(options.start))) if has_start else None
    fit = TransformerFit(
        config=options,
        seed=work.config.seed,
        folder=folder,
        encoder=work.encoder,
        papers=train.papers,
        targets=targets,
        valid=Valid(valid.papers, valid.split.labels),
        start=None if start is None else (read_start(start), start),
        progress=work.progress,
        trackers=trackers,
        processes=work.processes,
        profile=operations_folder(work.config, folder),
    )
    what = f"{len(labels):,} papers, epochs: {options.epochs}"
    work.progress.step(f"fitting {options.encoder}: {what}")
    return fit_transformer(fit)


def _score(work: _Work, fitted: Fitted) -> dict[str, ScoreTable]:
    from classmark.training.transformer import memory_errors, score_papers

    tables = {}
    for name in _SPLITS[1:]:
        held = work.splits[name]
        if not len(held.split):
            continue
        work.progress.step(f"scoring {len(held.split):,} papers of the {name} split")
        with memory_errors(work.options), work.processes.lost_ones():
            scores = score_papers(
                *(fitted.model, held.papers, work.options.batch_size),
                *(work.progress, work.processes),
            )
        raw, ref = RawScores(scores, held.papers.known_share), ModelRef("model", "0", "")
        labels = work.manifest.labels
        tables[f"model-{name}"] = make_table(raw, held.split, name, work.manifest, labels, ref)
    return tables


def _write(
    run: Unfinished,
    work: _Work,
    fitted: Fitted,
    tables: dict[str, ScoreTable],
    record: RunRecord,
) -> None:
    """Write what the finished run has and the unfinished one lacks; the record comes last."""
    from classmark.training.transformer import write_weights

    encoder = work.encoder
    write_weights(fitted.model, run.folder / "weights" / "model.safetensors")
    write_json(run.folder / "encoder" / "config.json", encoder.network.config.to_dict())
    with atomic_file(run.folder / "encoder" / "tokenizer.json") as file:
        file.write(encoder.tokenizer_json)
    write_json(run.folder / "encoder" / "tokenizer_config.json", encoder.tokenizer_config)
    write_tables(run.folder, tables)
    write_record(run.folder, record)


def _finished(
    work: _Work, fitted: Fitted, start: RunStart, authors: FittedAuthors | None
) -> RunRecord:
    options, encoder, state = work.options, work.encoder, fitted.state
    return start.finished(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        fit_seconds=round(state.seconds, 1),
        part=TransformerPart(
            encoder=EncoderFacts(
                name=encoder.name,
                source=encoder.source,
                hidden_size=int(encoder.network.config.hidden_size),
                layers=fitted.model.n_layers,
            ),
            pooling=options.pooling,
            max_length=options.max_length,
            papers={name: len(part.split) for name, part in work.splits.items()},
            steps=state.step,
            best_epoch=state.best_epoch,
            stopped=state.stopped,
            authors=authors.facts if authors else AuthorFacts(),
        ),
    )


@contextmanager
def _kept_or_gone(run: Unfinished) -> Iterator[None]:
    """Keep the folder of a run that ends early if it has a checkpoint, and say how to resume it."""
    try:
        yield
    except BaseException as error:
        if not run.has_checkpoint:
            run.discard()
            if isinstance(error, Interrupted):
                raise KeyboardInterrupt from error
            raise
        advised = _with_advice(error, run.folder)
        if advised is None:
            raise
        raise advised from error


def _with_advice(error: BaseException, folder: Path) -> Exception | None:
    """Return an error that says what to do with the run that is kept; None if there is nothing."""
    if isinstance(error, KeyboardInterrupt | Interrupted):
        again = shlex.join(["classmark", "train", f"resume={folder}"])
        return Interrupted(f"interrupted: the run is kept. Resume it with: {again}")
    if isinstance(error, WorkerFailed):
        return WorkerFailed(
            f"{error} The run is kept: start all processes again with resume={folder}"
        )
    if isinstance(error, TrainingFailed):
        return type(error)(
            f"{error} The last good checkpoint is kept: model.start={folder} begins a new run "
            "with its weights."
        )
    return None
