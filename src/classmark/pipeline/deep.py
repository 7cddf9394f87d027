"""The offline path of the deep tier: read, fit, score, write; it can be gone on with."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from classmark.dataset import DatasetSplit, load_manifest, read_split
from classmark.errors import Interrupted, InvalidConfig, MissingExtra, TrainingFailed
from classmark.kernels import RawScores
from classmark.pipeline.config import TrainConfig
from classmark.pipeline.run_folder import (
    check_runs_dir,
    reserve_run_folder,
    start_record,
    write_config,
    write_tables,
)
from classmark.pipeline.tables import check_labels, draw_papers, make_table
from classmark.pipeline.tracked import describe_run, keep_results, tracked
from classmark.pipeline.unfinished import (
    Unfinished,
    begin_unfinished,
    check_same_dataset,
    check_same_labels,
    hold_run,
    read_deep_record,
    read_unfinished,
    unfinished_folder,
    write_record,
)
from classmark.records import (
    DatasetManifest,
    EncoderFacts,
    RunRecord,
    RunStart,
    ScoreTable,
    TransformerPart,
)
from classmark.storage import atomic_file, expand_home, write_json
from classmark.tracking import warn_on_stderr
from classmark.tracking.csvfile import drop_later_steps
from classmark.training import TransformerConfig
from classmark.training.transformer.listeners import Listeners
from classmark.wire import ModelRef

if TYPE_CHECKING:
    from classmark.training.transformer import Encoder, Fitted, TokenisedPapers

_PACKAGES = ("torch", "lightning", "transformers", "safetensors", "tokenizers")
_SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, eq=False)
class _Split:
    """The papers of a split that are used, and their tokens."""

    split: DatasetSplit
    papers: TokenisedPapers


@dataclass(frozen=True, eq=False)
class _Work:
    """What a fit was told, and what was read for it."""

    config: TrainConfig
    options: TransformerConfig
    manifest: DatasetManifest
    encoder: Encoder
    splits: dict[str, _Split]
    listeners: Listeners


def train_deep(
    config: TrainConfig,
    *,
    command: str,
    listeners: Listeners,
    on_warning: Callable[[str], None] = warn_on_stderr,
) -> Path:
    """Fit the deep tier, score the other splits, and return the run folder.

    A tracker that fails is one warning; the fit goes on.

    Raises:
        MissingExtra: torch or what goes with it is not installed.
        InvalidConfig: an option does not fit the encoder, or there is no such run to go on with.
        InvalidDataset: the dataset is missing, changed, or has one label only.
        LabelMismatch: the run to go on with, or to start from, has other labels.
        EncoderNotFound: the encoder is nowhere.
        TrainingFailed: the loss is no number, or memory ended; says what is kept.
        CheckpointCorrupt: no checkpoint of the run to go on with can be read.
        Interrupted: the user ended it; says how to go on.
        OutputBusy: another process fits the run to go on with.
        StorageFailed: there is no writing where runs go.
    """
    require_deep()
    options = deep_options(config)
    check_runs_dir(config.runs_dir)
    manifest = load_manifest(config.dataset)
    with ExitStack() as stack:
        if config.resume is not None:
            stack.enter_context(hold_run(config.resume))
        run = _run_to_continue(config, manifest)
        _check_start(options, manifest, config.dataset)
        work = _read(config, options, manifest, listeners)
        if run is None:
            folder = stack.enter_context(reserve_run_folder(config.runs_dir, config.kind))
            stack.enter_context(hold_run(unfinished_folder(folder)))
            run = begin_unfinished(
                folder, start_record(config, manifest, command, folder, _PACKAGES)
            )
            write_config(run.folder, config)
        stack.enter_context(_kept_or_gone(run))
        start = start_record(config, manifest, command, run.finished_folder, _PACKAGES)
        _fit_and_write(work, run, start, on_warning)
    # Held no more, because an open file keeps a folder from being renamed on some systems. Whoever
    # takes it first sees that it is finished.
    return run.finish()


def _fit_and_write(
    work: _Work, run: Unfinished, start: RunStart, on_warning: Callable[[str], None]
) -> None:
    config, listeners = work.config, work.listeners
    info = describe_run(run.finished_folder.name, config.composed, start)
    with tracked(config.tracker, run.folder, info, listeners.on_step, on_warning) as trackers:
        heard = replace(
            listeners,
            on_metrics=lambda values, step, epoch: trackers.metrics(values, step=step, epoch=epoch),
            on_resume=lambda step, measured: drop_later_steps(run.folder, step, measured),
        )
        work = replace(work, listeners=heard)
        fitted = _fit(work, run)
        tables = _score(work, fitted)
        listeners.on_step("writing the run")
        _write(run, work, fitted, tables, start)
        keep_results(trackers, run.folder, tables)


def deep_options(config: TrainConfig) -> TransformerConfig:
    """Return the options of the deep tier.

    Raises:
        InvalidConfig: the configuration is of another kind.
    """
    if not isinstance(config.model, TransformerConfig):
        raise InvalidConfig(f"model.kind is {config.kind!r}, this is done with 'transformer' only.")
    return config.model


def require_deep() -> None:
    """Refuse at once where the packages of the extra are missing.

    Raises:
        MissingExtra: names the command that installs them.
    """
    if any(find_spec(name) is None for name in _PACKAGES):
        raise MissingExtra("model=transformer", "deep")


def _run_to_continue(config: TrainConfig, manifest: DatasetManifest) -> Unfinished | None:
    if config.resume is None:
        return None
    run = read_unfinished(config.resume)
    check_same_dataset(run.start, manifest, config.dataset, f"the run {run.folder}")
    return run


def _check_start(options: TransformerConfig, manifest: DatasetManifest, dataset: Path) -> None:
    if options.start is not None:
        record = read_deep_record(expand_home(options.start))
        check_same_labels(record.labels, manifest.labels, dataset, f"the run {options.start}")


def _read(
    config: TrainConfig,
    options: TransformerConfig,
    manifest: DatasetManifest,
    listeners: Listeners,
) -> _Work:
    listeners.on_step(f"loading the encoder {options.encoder}")
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
        listeners.on_step(f"reading {len(split):,} papers of the {name} split")
        pairs = list(zip(split.titles, split.abstracts, strict=True))
        splits[name] = _Split(split, tokenise(tokenizer, pairs, listeners.on_progress))
    return _Work(config, options, manifest, encoder, splits, listeners)


def _fit(work: _Work, run: Unfinished) -> Fitted:
    from classmark.training.transformer import (
        DeepFit,
        Targets,
        Valid,
        fit_deep,
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
    start = None if options.start is None else expand_home(options.start)
    fit = DeepFit(
        config=options,
        seed=work.config.seed,
        folder=run.folder,
        encoder=work.encoder,
        papers=train.papers,
        targets=targets,
        valid=Valid(valid.papers, valid.split.labels),
        start=None if start is None else (read_start(start), start),
    )
    what = f"{len(labels):,} papers, epochs: {options.epochs}"
    work.listeners.on_step(f"fitting {options.encoder}: {what}")
    return fit_deep(fit, work.listeners)


def _score(work: _Work, fitted: Fitted) -> dict[str, ScoreTable]:
    from classmark.training.transformer import memory_errors, score_papers

    tables = {}
    for name in _SPLITS[1:]:
        held = work.splits[name]
        if not len(held.split):
            continue
        work.listeners.on_step(f"scoring {len(held.split):,} papers of the {name} split")
        with memory_errors(work.options):
            scores = score_papers(
                fitted.model, held.papers, work.options.batch_size, work.listeners.on_progress
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
    start: RunStart,
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
    write_record(run.folder, _finished(work, fitted, start))


def _finished(work: _Work, fitted: Fitted, start: RunStart) -> RunRecord:
    options, encoder, standing = work.options, work.encoder, fitted.standing
    return start.finished(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        fit_seconds=round(standing.seconds, 1),
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
            steps=standing.step,
            best_epoch=standing.best_epoch,
            stopped=standing.stopped,
        ),
    )


@contextmanager
def _kept_or_gone(run: Unfinished) -> Iterator[None]:
    """Keep the folder of a run that breaks off if it has a checkpoint, and say how to go on."""
    try:
        yield
    except (KeyboardInterrupt, Interrupted) as error:
        if not run.has_checkpoint:
            run.discard()
            raise KeyboardInterrupt from error
        again = shlex.join(["classmark", "train", f"resume={run.folder}"])
        raise Interrupted(f"interrupted: the run is kept. Go on with: {again}") from error
    except TrainingFailed as error:
        if not run.has_checkpoint:
            run.discard()
            raise
        raise type(error)(
            f"{error} The last good checkpoint is kept: model.start={run.folder} begins a new run "
            "with its weights."
        ) from error
    except BaseException:
        if not run.has_checkpoint:
            run.discard()
        raise
