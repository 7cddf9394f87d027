"""Looks after a fit: log, checkpoints, validation, and every reason to stop."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, Trainer
from numpy.typing import NDArray

from classmark.errors import Interrupted
from classmark.training.transformer.checkpoint import checkpoint_path, drop_old_checkpoints
from classmark.training.transformer.config import TransformerConfig
from classmark.training.transformer.data import TokenisedPapers
from classmark.training.transformer.listeners import FitStanding, Listeners
from classmark.training.transformer.log import FitLog
from classmark.training.transformer.module import DeepModule, StepFacts
from classmark.training.transformer.scoring import measure, score_papers
from classmark.training.transformer.weights import best_weights, drop_old_weights, write_weights

CHECKPOINTS, BEST = "checkpoints", "best"
_STATE_KEY = "watch"
_LOWER_IS_BETTER = ("loss",)


@dataclass(kw_only=True)
class Standing:
    """How far a fit is; a checkpoint holds it.

    Attributes:
        step: updates made.
        seconds: time of fitting, without the pauses.
        validated: epochs that were measured on the valid split.
        best: the monitored number of the best epoch, None before the first.
        best_epoch: its number, from 1; 0 before the first.
        epochs_since: epochs measured since then.
        stopped: why the fit ended before its last epoch, "" if it did not.
    """

    step: int = 0
    seconds: float = 0.0
    validated: int = 0
    best: float | None = None
    best_epoch: int = 0
    epochs_since: int = 0
    stopped: str = ""


def standing_of(checkpoint: Mapping[str, Any]) -> Standing:
    """Return the standing that a checkpoint holds."""
    return Standing(**checkpoint["callbacks"][_STATE_KEY])


@dataclass(frozen=True, eq=False)
class Valid:
    """The papers an epoch is measured on; there may be none.

    Attributes:
        papers: n papers as tokens.
        labels: int16 [n], true columns.
    """

    papers: TokenisedPapers
    labels: NDArray[np.int16]


class Watch(Callback):
    """Lightning calls it after every step."""

    def __init__(
        self,
        folder: Path,
        config: TransformerConfig,
        valid: Valid,
        log: FitLog,
        listeners: Listeners,
        *,
        steps_an_epoch: int,
    ) -> None:
        """Watch a fit whose unfinished run is in a folder."""
        self.standing = Standing()
        self.interrupted = False
        self._folder, self._config, self._valid = folder, config, valid
        self._log, self._listeners = log, listeners
        self._steps_an_epoch = steps_an_epoch
        self._n_steps = steps_an_epoch * config.epochs
        self._resumed_at_s = self._saved_at_s = time.monotonic()
        self._seconds_before = 0.0
        self._steps_before = 0

    @property
    def state_key(self) -> str:
        """Return under which name a checkpoint holds the standing."""
        return _STATE_KEY

    def state_dict(self) -> dict[str, Any]:
        """Return the standing, for a checkpoint."""
        return asdict(self.standing)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a standing."""
        self.standing = Standing(**state_dict)
        self._seconds_before, self._steps_before = self.standing.seconds, self.standing.step

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:  # noqa: ARG002
        """Start the clocks."""
        self._resumed_at_s = self._saved_at_s = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep what the step gave; measure, save and stop where it is time to."""
        del outputs, batch
        module: DeepModule = pl_module
        facts = module.facts
        if facts is None:  # pragma: no cover - a step always leaves its facts
            return
        standing = self.standing
        standing.step = batch_idx + 1
        standing.seconds = self._seconds_before + time.monotonic() - self._resumed_at_s
        self._tell(facts)
        ends_epoch = standing.step % self._steps_an_epoch == 0
        limit = self._config.time_limit_minutes
        if limit is not None and standing.seconds >= 60 * limit and standing.step < self._n_steps:
            standing.stopped = "time limit"
        if ends_epoch or standing.stopped or self.interrupted or self._is_time_to_save():
            self._save(trainer)
        self.check_interrupted()
        if ends_epoch or standing.stopped:
            self.validate(module)
            self._save(trainer)
        trainer.should_stop = bool(standing.stopped)

    def validate(self, module: DeepModule) -> None:
        """Measure the model on the valid split; its weights are kept if it is the best so far."""
        standing, model = self.standing, module.model
        epoch = -(-standing.step // self._steps_an_epoch)
        values: dict[str, float] = {}
        if len(self._valid.papers):
            self._listeners.on_step(f"measuring epoch {epoch} on the valid split")
            scores = score_papers(
                model, self._valid.papers, self._config.batch_size, self._on_scored
            )
            module.thaw()
            values = measure(scores, self._valid.labels)
            self._log.write("valid", epoch, standing.step, values)
            named = {f"valid/{name}": value for name, value in values.items()}
            self._listeners.on_metrics(named, standing.step, epoch)
        standing.validated = epoch
        self._judge(values, epoch, model)
        self._listeners.on_step(self._summary(values, epoch))

    @property
    def needs_validation(self) -> bool:
        """Return whether a checkpoint was written between the end of an epoch and its measure."""
        standing = self.standing
        ended = -(-standing.step // self._steps_an_epoch)
        at_end = standing.step % self._steps_an_epoch == 0 or bool(standing.stopped)
        return at_end and ended > standing.validated

    @property
    def is_done(self) -> bool:
        """Return whether there is no step left to make."""
        return self.standing.step >= self._n_steps or bool(self.standing.stopped)

    def _judge(self, values: Mapping[str, float], epoch: int, model: Any) -> None:
        standing, monitor = self.standing, self._config.monitor
        value = values.get(monitor)
        sign = -1 if monitor in _LOWER_IS_BETTER else 1
        if value is None or standing.best is None or sign * value > sign * standing.best:
            write_weights(model, best_weights(self._folder / BEST, epoch))
            standing.best, standing.best_epoch, standing.epochs_since = value, epoch, 0
            return
        standing.epochs_since += 1
        if self._config.patience and standing.epochs_since >= self._config.patience:
            standing.stopped = standing.stopped or "no better"

    def _summary(self, values: Mapping[str, float], epoch: int) -> str:
        shown = ", ".join(f"{name} {value:.3f}" for name, value in values.items())
        of = f"epoch {epoch} of {self._config.epochs}"
        best = "the best so far" if self.standing.epochs_since == 0 else "not better"
        stopped = f"; stopping: {self.standing.stopped}" if self.standing.stopped else ""
        return f"{of}: {shown or 'no valid papers'} ({best}){stopped}"

    def _tell(self, facts: StepFacts) -> None:
        standing = self.standing
        epoch = (standing.step - 1) // self._steps_an_epoch + 1
        values = {
            "loss": facts.loss,
            "lr": facts.rate,
            "head_lr": facts.head_rate,
            "gradient_norm": facts.gradient_norm,
            "layers": facts.layers,
        }
        self._log.write("train", epoch, standing.step, values)
        seconds = max(1e-9, standing.seconds - self._seconds_before)
        a_second = (standing.step - self._steps_before) / seconds
        speed = a_second * facts.papers
        named = {f"train/{name}": value for name, value in values.items()}
        self._listeners.on_metrics(
            {**named, "train/papers_per_second": speed}, standing.step, epoch
        )
        self._listeners.on_progress(facts.papers)
        now = FitStanding(
            share=standing.step / self._n_steps,
            epoch=epoch,
            epochs=self._config.epochs,
            loss=facts.loss,
            papers_per_second=speed,
            seconds_left=(self._n_steps - standing.step) / a_second,
        )
        self._listeners.on_note(str(now))

    def _is_time_to_save(self) -> bool:
        return time.monotonic() - self._saved_at_s >= 60 * self._config.checkpoint_minutes

    def _save(self, trainer: Trainer) -> None:
        folder = self._folder / CHECKPOINTS
        self._log.flush()
        trainer.save_checkpoint(checkpoint_path(folder, self.standing.step), weights_only=False)
        drop_old_checkpoints(folder)
        drop_old_weights(self._folder / BEST)
        self._saved_at_s = time.monotonic()

    def _on_scored(self, papers: int) -> None:
        self.check_interrupted()
        self._listeners.on_progress(papers)

    def check_interrupted(self) -> None:
        """Go on unless the user wants the fit to end.

        Raises:
            Interrupted: he does.
        """
        if self.interrupted:
            raise Interrupted("interrupted.")
