"""One fit of a transformer, from its beginning or from its last good checkpoint."""

from __future__ import annotations

import copy
import logging
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

from classmark.errors import CheckpointCorrupt, Interrupted, InvalidConfig, OutOfMemory
from classmark.records import Progress
from classmark.tracking.csvfile import drop_later_steps
from classmark.training.transformer.callback import (
    BEST,
    CHECKPOINTS,
    FitCallback,
    FitLog,
    FitState,
    ProfileSteps,
    state_of,
)
from classmark.training.transformer.checkpoint import (
    SafeCheckpointIO,
    best_weights,
    list_checkpoints,
    read_checkpoints,
    read_weights,
    set_weights,
    step_of,
)
from classmark.training.transformer.config import TransformerConfig
from classmark.training.transformer.data import Order, StepLoader, TransformerFit, make_batch
from classmark.training.transformer.model import check_length
from classmark.training.transformer.module import TransformerModule, seed_everything
from classmark.training.transformer.network import EncoderClassifier
from classmark.training.transformer.processes import Processes, processors
from classmark.training.transformer.strategies import trainer_options

LOG = "log.csv"
_PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
_LOGGERS = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")
# What Lightning remarks on and is meant here: frozen layers run in the mode for inference, the
# loader has no processes of its own, and a fit on the CPU beside an idle GPU was asked for.
_REMARKS = (
    r"Found \d+ module\(s\) in eval mode",
    r".*does not have many workers",
    r"GPU available but not used",
    r".*isinstance\(treespec, LeafSpec\)",  # Lightning's own call of torch
    r".*`broadcast_buffers` is deprecated",  # what replaces it is newer than the oldest torch
)
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "alloc_cpu")


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted model with the weights of its best epoch, and how the fit went."""

    model: EncoderClassifier
    state: FitState = field(default_factory=FitState)


def fit_transformer(fit: TransformerFit) -> Fitted:
    """Return a model fitted to papers; resumes at the newest good checkpoint of the folder.

    The same seed, packages, machine and options give the same losses, interrupted or not.

    Raises:
        InvalidConfig: the encoder cannot read that many tokens, or has no layers.
        TrainingFailed: a loss or gradient is not finite.
        OutOfMemory: says which batch may fit.
        CheckpointCorrupt: there are checkpoints, and none can be read.
        Interrupted: the user asked for it; a checkpoint was written if a step was going on.
        StorageFailed: log or checkpoints cannot be written.
    """
    config = fit.config
    with ExitStack() as stack:
        stack.enter_context(_torch_settings(config, fit.processes))
        stack.enter_context(_quiet_lightning())
        stack.enter_context(memory_errors(config))
        stack.enter_context(fit.processes.lost_ones())
        model = _new_model(fit)
        fitted = copy.deepcopy(model) if config.strategy == "fsdp" else model
        module, loader, steps_an_epoch = _prepare(fit, model)
        checkpoint, before = _begin(fit, model)
        drop_later_steps(fit.folder, before.step, before.validated)
        log = stack.enter_context(FitLog(fit.folder / LOG, before.step, before.validated))
        callback = FitCallback(fit, log, steps_an_epoch)
        stack.enter_context(_deferred_interrupts(callback))
        if checkpoint:
            callback.load_state_dict(asdict(before))
            _measure_if_broken_off(module, callback, fit.progress)
        if not callback.is_done:
            trainer = _trainer(fit, callback)
            trainer.fit(module, loader, ckpt_path=checkpoint)
        callback.check_interrupted()
        fitted.cpu()
        if fit.processes.is_first:
            set_weights(fitted, *_best(fit.folder, callback.state))
        fit.processes.copy_weights(fitted)
    return Fitted(fitted.eval(), callback.state)


def _new_model(fit: TransformerFit) -> EncoderClassifier:
    check_length(fit.encoder.network, fit.config.max_length)
    seed_everything(fit.seed)
    try:
        model = EncoderClassifier(
            fit.encoder.network, fit.targets.n_labels, fit.config.pooling, fit.config.dropout
        )
    except ValueError as error:
        raise InvalidConfig(f"model.encoder: {error}") from error
    if fit.start is not None:
        set_weights(model, *fit.start)
    return model


def _prepare(
    fit: TransformerFit, model: EncoderClassifier
) -> tuple[TransformerModule, StepLoader, int]:
    config = fit.config
    order = Order(
        lengths=fit.papers.lengths,
        batch_size=config.batch_size,
        accumulation=config.accumulation,
        bucketed=config.bucketed,
        seed=fit.seed,
    )

    loader = StepLoader(
        order,
        config.epochs,
        partial(make_batch, fit.papers, fit.targets),
        workers=config.workers,
        processes=fit.processes,
    )
    module = TransformerModule(
        model,
        config,
        n_steps=len(loader),
        n_epochs=config.epochs,
        seed=fit.seed,
        processes=fit.processes,
    )
    return module, loader, order.steps_an_epoch


def _begin(fit: TransformerFit, model: EncoderClassifier) -> tuple[str | None, FitState]:
    """Return the checkpoint that a fit goes on from, and how far it is.

    The first process chooses; all have its weights then.
    """
    found = None
    if fit.processes.is_first:
        found = _newest_checkpoint(fit.folder / CHECKPOINTS, fit.progress)
    before = state_of(found[1]) if found else FitState()
    if found:
        TransformerModule(model, fit.config, n_steps=1, n_epochs=1).load_state_dict(
            found[1]["state_dict"]
        )
    fit.processes.copy_weights(model)
    return fit.processes.share((str(found[0].resolve()) if found else None, before))


def _newest_checkpoint(folder: Path, progress: Progress) -> tuple[Path, dict[str, Any]] | None:
    for path, content in read_checkpoints(folder):
        if isinstance(content, CheckpointCorrupt):
            progress.step(f"{path.name} is damaged, trying the checkpoint before it")
            continue
        progress.step(f"going on after step {step_of(path)}")
        return path, content
    if list_checkpoints(folder):
        raise CheckpointCorrupt(
            f"no checkpoint in {folder} can be read, all are damaged. Begin the run again."
        )
    return None


def _measure_if_broken_off(
    module: TransformerModule, callback: FitCallback, progress: Progress
) -> None:
    """Measure an epoch that a checkpoint was written between the end and the measure of."""
    if callback.needs_validation:
        callback.validate(module)
    if callback.is_done:
        progress.step("every step was made before the interruption")


def _trainer(fit: TransformerFit, callback: FitCallback) -> Trainer:
    config = fit.config
    callbacks: list[Any] = [callback]
    options = trainer_options(config, fit.processes)
    if fit.profile is not None:
        callbacks.append(ProfileSteps(fit.profile))
    precision: Any = _PRECISIONS[config.precision]
    return Trainer(
        accelerator=config.device,
        precision=precision,
        # The loader runs through all epochs, so that a resumed fit only needs its position.
        max_epochs=1,
        deterministic=config.deterministic,
        callbacks=callbacks,
        **{**options, "plugins": [SafeCheckpointIO(), *options["plugins"]]},
        default_root_dir=fit.folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def _best(folder: Path, state: FitState) -> tuple[dict[str, torch.Tensor], Path]:
    path = best_weights(folder / BEST, state.best_epoch)
    return read_weights(path), path


@contextmanager
def memory_errors(config: TransformerConfig) -> Iterator[None]:
    """Turn what torch raises when memory ends into one line that says which batch to try.

    Raises:
        OutOfMemory: instead of it.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error).lower()
        if not isinstance(error, MemoryError) and not any(sign in text for sign in _NO_MEMORY):
            raise
        raise OutOfMemory(
            f"out of memory with model.batch_size={config.batch_size} and model.max_length="
            f"{config.max_length}. Try {_smaller(config)}."
        ) from error


def _smaller(config: TransformerConfig) -> str:
    if config.batch_size == 1:
        return f"model.max_length={max(8, config.max_length // 2)}, or a smaller model.encoder"
    half = config.batch_size // 2
    accumulation = -(-config.papers_a_step // half)
    return (
        f"model.batch_size={half} model.accumulation={accumulation}, which takes as many papers "
        "a step"
    )


@contextmanager
def _torch_settings(config: TransformerConfig, processes: Processes) -> Iterator[None]:
    """Set threads and determinism, and put back what was there, random states too."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    with torch.random.fork_rng():
        try:
            if config.threads is not None:
                torch.set_num_threads(config.threads)
            elif processes.count > 1:
                torch.set_num_threads(max(1, processors() // processes.local_count))
            yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(deterministic)
            if workspace is None:
                os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning's tips, and its remarks on what is meant, off the user's terminal."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for remark in _REMARKS:
            warnings.filterwarnings("ignore", message=remark)
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextmanager
def _deferred_interrupts(callback: FitCallback) -> Iterator[None]:
    """Let the first Ctrl-C end the fit after its step, with a checkpoint; the second at once.

    Lightning's own handler would end the process. A process that ignores SIGINT still does.
    """

    def defer(_signum: int, _frame: Any) -> None:
        if callback.interrupted:
            raise Interrupted("interrupted.")
        callback.interrupted = True

    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    signal.signal(signal.SIGINT, defer)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
