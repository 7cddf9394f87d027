"""What happens after each step of a fit: log, checkpoints, validation, every reason to stop."""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from lightning.pytorch import Callback, Trainer
from torch.profiler import ProfilerActivity, profile, schedule

from classmark.errors import Interrupted
from classmark.records import Silent
from classmark.storage import write_text
from classmark.tracking.csvfile import kept_rows
from classmark.training.pace import FitPace
from classmark.training.transformer.checkpoint import (
    best_weights,
    checkpoint_path,
    drop_old_checkpoints,
    drop_old_weights,
    write_weights,
)
from classmark.training.transformer.data import TransformerFit
from classmark.training.transformer.model import measure, score_papers
from classmark.training.transformer.module import StepFacts, TransformerModule

CHECKPOINTS, BEST = "checkpoints", "best"
_STATE_KEY = "watch"
_LOWER_IS_BETTER = ("loss",)


@dataclass(kw_only=True)
class FitState:
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


def state_of(checkpoint: Mapping[str, Any]) -> FitState:
    """Return the state of the fit that a checkpoint holds."""
    return FitState(**checkpoint["callbacks"][_STATE_KEY])


class FitCallback(Callback):
    """Lightning calls it after every step."""

    def __init__(self, fit: TransformerFit, log: FitLog, steps_an_epoch: int) -> None:
        """Look after a fit whose unfinished run is in its folder."""
        self.state = FitState()
        self.interrupted = False
        self._fit, self._config, self._folder = fit, fit.config, fit.folder
        self._log, self.progress = log, fit.progress
        self._processes = fit.processes
        self._steps_an_epoch = steps_an_epoch
        self._n_steps = steps_an_epoch * fit.config.epochs
        self._resumed_at_s = self._saved_at_s = time.monotonic()
        self._seconds_before = 0.0
        self._steps_before = 0

    @property
    def state_key(self) -> str:
        """Return the name under which a checkpoint holds the state."""
        return _STATE_KEY

    def state_dict(self) -> dict[str, Any]:
        """Return the state, for a checkpoint."""
        return asdict(self.state)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a state."""
        self.state = FitState(**state_dict)
        self._seconds_before, self._steps_before = self.state.seconds, self.state.step

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:  # noqa: ARG002
        """Start the clocks."""
        self._resumed_at_s = self._saved_at_s = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep what the step gave; measure, save and stop where it is time to."""
        del outputs, batch
        module: TransformerModule = pl_module
        facts = module.facts
        if facts is None:  # pragma: no cover - a step always leaves its facts
            return
        state = self.state
        state.step = batch_idx + 1
        state.seconds = self._seconds_before + time.monotonic() - self._resumed_at_s
        self._keep(facts)
        ends_epoch = state.step % self._steps_an_epoch == 0
        is_late, self.interrupted, is_time_to_save = self._processes.any_of(
            self._is_late(), self.interrupted, self._is_time_to_save()
        )
        if is_late:
            state.stopped = "time limit"
        if ends_epoch or state.stopped or self.interrupted or is_time_to_save:
            self._save(trainer)
        self.check_interrupted()
        if ends_epoch or state.stopped:
            self.validate(module)
            self._save(trainer)
        trainer.should_stop = bool(state.stopped)

    def validate(self, module: TransformerModule) -> None:
        """Measure the model on the valid split; its weights are kept if it is the best so far."""
        state, model = self.state, module.model
        epoch = -(-state.step // self._steps_an_epoch)
        values: dict[str, float] = {}
        valid = self._fit.valid
        if len(valid.papers):
            self.progress.step(f"measuring epoch {epoch} on the valid split")
            counted = _EndsAtInterrupt(self)
            scores = score_papers(
                model, valid.papers, self._config.batch_size, counted, self._processes
            )
            module.thaw()
            values = measure(scores, valid.labels)
            self._log.write("valid", epoch, state.step, values)
            named = {f"valid/{name}": value for name, value in values.items()}
            self._fit.trackers.metrics(named, step=state.step, epoch=epoch)
        state.validated = epoch
        self._judge(values, epoch, model)
        self.progress.step(self._summary(values, epoch))

    @property
    def needs_validation(self) -> bool:
        """Return whether a checkpoint was written between the end of an epoch and its measure."""
        state = self.state
        ended = -(-state.step // self._steps_an_epoch)
        at_end = state.step % self._steps_an_epoch == 0 or bool(state.stopped)
        return at_end and ended > state.validated

    @property
    def is_done(self) -> bool:
        """Return whether there is no step left to make."""
        return self.state.step >= self._n_steps or bool(self.state.stopped)

    def _judge(self, values: Mapping[str, float], epoch: int, model: Any) -> None:
        state, monitor = self.state, self._config.monitor
        value = values.get(monitor)
        sign = -1 if monitor in _LOWER_IS_BETTER else 1
        if value is None or state.best is None or sign * value > sign * state.best:
            place = best_weights(self._folder / BEST, epoch)
            write_weights(model, place, written=self._processes.is_first)
            state.best, state.best_epoch, state.epochs_since = value, epoch, 0
            return
        state.epochs_since += 1
        if self._config.patience and state.epochs_since >= self._config.patience:
            state.stopped = state.stopped or "no better"

    def _summary(self, values: Mapping[str, float], epoch: int) -> str:
        shown = ", ".join(f"{name} {value:.3f}" for name, value in values.items())
        of = f"epoch {epoch} of {self._config.epochs}"
        best = "the best so far" if self.state.epochs_since == 0 else "not better"
        stopped = f"; stopping: {self.state.stopped}" if self.state.stopped else ""
        return f"{of}: {shown or 'no valid papers'} ({best}){stopped}"

    def _keep(self, facts: StepFacts) -> None:
        state = self.state
        epoch = (state.step - 1) // self._steps_an_epoch + 1
        values = {
            "loss": facts.loss,
            "lr": facts.rate,
            "head_lr": facts.head_rate,
            "gradient_norm": facts.gradient_norm,
            "layers": facts.layers,
        }
        self._log.write("train", epoch, state.step, values)
        seconds = max(1e-9, state.seconds - self._seconds_before)
        a_second = (state.step - self._steps_before) / seconds
        speed = a_second * facts.papers
        named = {f"train/{name}": value for name, value in values.items()}
        named["train/papers_per_second"] = speed
        self._fit.trackers.metrics(named, step=state.step, epoch=epoch)
        self.progress.advance(facts.papers)
        pace = FitPace(
            share=state.step / self._n_steps,
            epoch=epoch,
            epochs=self._config.epochs,
            loss=facts.loss,
            papers_per_second=speed,
            seconds_left=(self._n_steps - state.step) / a_second,
        )
        self.progress.note(str(pace))

    def _is_late(self) -> bool:
        limit, state = self._config.time_limit_minutes, self.state
        return limit is not None and state.seconds >= 60 * limit and state.step < self._n_steps

    def _is_time_to_save(self) -> bool:
        return time.monotonic() - self._saved_at_s >= 60 * self._config.checkpoint_minutes

    def _save(self, trainer: Trainer) -> None:
        folder = self._folder / CHECKPOINTS
        self._log.flush()
        trainer.save_checkpoint(checkpoint_path(folder, self.state.step), weights_only=False)
        drop_old_checkpoints(folder)
        drop_old_weights(self._folder / BEST)
        self._saved_at_s = time.monotonic()

    def check_interrupted(self) -> None:
        """Check whether the user pressed Ctrl-C.

        Raises:
            Interrupted: the user did.
        """
        if self.interrupted:
            raise Interrupted("interrupted.")


class _EndsAtInterrupt(Silent):
    """Counts papers that are scored; Ctrl-C ends the scoring between two batches."""

    def __init__(self, callback: FitCallback) -> None:
        self._callback = callback

    def advance(self, n: int, *, share: float | None = None) -> None:
        self._callback.check_interrupted()
        self._callback.progress.advance(n, share=share)


LOG_COLUMNS = (
    *("stage", "epoch", "step", "loss", "lr", "head_lr", "gradient_norm", "layers"),
    *("top_1", "top_5", "macro_f1", "ece"),
)


class FitLog:
    """Appends to a log; what a broken-off run wrote after its checkpoint is taken out first."""

    def __init__(self, path: Path, step: int = 0, measured: int = 0) -> None:
        """Open a log.

        Args:
            path: of the file; it may be there.
            step: lines of later steps are dropped.
            measured: ``valid`` lines of later epochs are dropped.
        """
        write_text(path, kept_rows(path, LOG_COLUMNS, step, measured))
        self._file = path.open("a", encoding="utf-8", newline="")
        self._writer = csv.DictWriter(self._file, LOG_COLUMNS, lineterminator="\n")

    def write(self, stage: str, epoch: int, step: int, values: Mapping[str, float]) -> None:
        """Add a line; numbers as they are read back the same."""
        numbers: dict[str, Any] = {name: repr(value) for name, value in values.items()}
        self._writer.writerow({"stage": stage, "epoch": epoch, "step": step, **numbers})

    def flush(self) -> None:
        """Write the lines that wait."""
        self._file.flush()

    def __enter__(self) -> FitLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._file.close()


_WARM_STEPS, _MEASURED_STEPS = 1, 3
_ROWS = 40


class ProfileSteps(Callback):
    """Writes ``operations.txt``, a table, and ``trace.json``, for a trace viewer."""

    def __init__(self, folder: Path) -> None:
        """Take the folder to write to."""
        self._folder = folder
        self._profile: Any = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin to measure."""
        del pl_module
        on_gpu = trainer.strategy.root_device.type == "cuda"
        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
        steps = schedule(wait=0, warmup=_WARM_STEPS, active=_MEASURED_STEPS, repeat=1)
        self._profile = profile(
            activities=activities, schedule=steps, on_trace_ready=self._write, acc_events=True
        )
        self._profile.__enter__()

    def on_train_batch_end(self, *_: Any) -> None:
        """Count a step."""
        self._profile.step()

    def on_train_end(self, *_: Any) -> None:
        """End the measuring."""
        self._profile.__exit__(None, None, None)

    def on_exception(self, *_: Any) -> None:
        """End the measuring too."""
        self._profile.__exit__(None, None, None)

    def _write(self, measured: Any) -> None:
        averages = measured.key_averages()
        table = averages.table(sort_by="self_cpu_time_total", row_limit=_ROWS)
        write_text(self._folder / "operations.txt", table + "\n")
        measured.export_chrome_trace(str(self._folder / "trace.json"))
